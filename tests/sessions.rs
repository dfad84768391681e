//! Plays every `tests/sessions/**/*.session`; the format stands in `tests/sessions/README.md`.

mod player;

use libtest_mimic::{Arguments, Failed, Trial};
use std::path::{Path, PathBuf};

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    player::log::install();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sessions");
    let mut files = Vec::new();
    find(&root, &mut files);
    files.sort();
    assert!(!files.is_empty(), "no session under {}", root.display());
    let mut trials = vec![Trial::test("player", || player::check().map_err(Failed::from))];
    trials.extend(files.into_iter().map(|file| {
        let name = file.strip_prefix(&root).unwrap_or(&file).with_extension("").display().to_string();
        Trial::test(name, move || player::play(&file).map_err(Failed::from))
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn find(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("the folder of sessions can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|e| e == "session") {
            files.push(path);
        }
    }
}
