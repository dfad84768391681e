//! Standard output and error of the verbs. A reader that left, or a full disk, is no panic: what is lost is noted,
//! and the exit status says so.

use std::{
    fmt,
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

static LOST: AtomicBool = AtomicBool::new(false);

pub(super) fn say(text: fmt::Arguments<'_>) {
    note(io::stdout().lock().write_fmt(text));
}

/// Nobody is left to be told when this fails.
pub(super) fn complain(text: fmt::Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
}

/// Did anything of the output get lost? Says why, once, unless it was the reader that left.
pub(super) fn lost() -> bool {
    note(io::stdout().lock().flush());
    LOST.load(Ordering::Relaxed)
}

fn note(written: io::Result<()>) {
    let Err(e) = written else { return };
    if !LOST.swap(true, Ordering::Relaxed) && e.kind() != io::ErrorKind::BrokenPipe {
        complain(format_args!("gatepost: standard output: {e}\n"));
    }
}
