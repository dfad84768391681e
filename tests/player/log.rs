//! Log lines of a server, kept by its executor thread for the report of a failed session.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, PoisonError},
};

#[derive(Clone, Default)]
pub(crate) struct Buffer(Arc<Mutex<Vec<String>>>);

thread_local! {
    static MINE: RefCell<Option<Buffer>> = const { RefCell::new(None) };
}

impl Buffer {
    pub(crate) fn last(&self, n: usize) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines[lines.len().saturating_sub(n)..].iter().map(|l| format!("  {l}\n")).collect()
    }
    /// From now on this thread's lines come here.
    pub(crate) fn adopt(&self) {
        MINE.with(|m| *m.borrow_mut() = Some(self.clone()));
    }
    pub(crate) fn push(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        MINE.with(|m| {
            if let Some(buffer) = &*m.borrow() {
                buffer.push(format!("{} {}", record.level(), record.args()));
            }
        });
    }
    fn flush(&self) {}
}

/// Logger and panic hook. A panic of a server is a line of its session's report; of a pool thread, one on stderr.
pub(crate) fn install() {
    std::panic::set_hook(Box::new(|panic| {
        let line = format!("PANIC {}", panic.to_string().replace('\n', " "));
        MINE.with(|m| match &*m.borrow() {
            Some(buffer) => buffer.push(line),
            None => eprintln!("{line}"),
        });
    }));
    let _ = log::set_logger(&Logger);
    log::set_max_level(log::LevelFilter::Info);
}
