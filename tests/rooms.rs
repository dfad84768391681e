//! The house rules, checked by a program: who may import whom (the table of ARCHITECTURE.md), and what no room may do.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// A longer file is cut into files that each have one subject.
const LINES: usize = 800;

/// Words that stand only in some rooms: (word, rooms or files where it may, why).
const ONLY: &[(&str, &[&str], &str)] = &[
    ("unsafe", &["os"], "`os` is the only room with unsafe code"),
    (
        "std::fs",
        &["disk", "os", "cli", "config", "daemon", "net/tls.rs"],
        "files go through `disk`, so that every error names its path and tests can fail every step",
    ),
    ("println!", &["cli"], "only the command line prints; rooms log through `journal`"),
    ("eprintln!", &["cli"], "only the command line prints; rooms log through `journal`"),
    ("thread::sleep", &["cli", "store/dotlock.rs"], "the executor thread never sleeps: smol::Timer"),
    ("todo!", &[], "no stubs"),
    ("unimplemented!", &[], "no stubs"),
    ("dbg!", &[], "left over from debugging"),
    ("Box::leak", &[], "memory is bounded"),
];

/// Words that some rooms must not use: (word, rooms, files that may all the same, why).
const NEVER_IN: &[(&str, &[&str], &[&str], &str)] = &[
    // A Maildir name begins with the time so that it is unique; nothing is decided by it.
    (
        "SystemTime::now",
        &["proto", "message", "accounts", "config", "store", "spool"],
        &["store/scan.rs", "store/transfer.rs"],
        "time is an argument below the sessions",
    ),
    (
        "Instant::now",
        &["proto", "message", "accounts", "config", "store", "spool"],
        &["store/dotlock.rs", "store/notice.rs"],
        "time is an argument below the sessions",
    ),
    ("smol::", &["proto", "message", "config", "store", "spool", "disk"], &[], "synchronous room: whole jobs for the blocking pool"),
    ("async fn", &["proto", "message", "config", "store", "spool", "disk"], &[], "synchronous room: whole jobs for the blocking pool"),
    ("std::net::Tcp", &["proto", "message", "accounts", "config", "store", "spool", "disk"], &[], "no sockets here"),
];

struct Source {
    /// Relative to `src`.
    path: PathBuf,
    room: String,
    text: String,
    /// Without comments and the contents of strings, without the tests at the foot; line numbers kept.
    code: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    let mut dirs = vec![root().join("src")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("src can be read").flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).expect("a source file is UTF-8");
            let path = file.strip_prefix(root().join("src")).expect("under src").to_owned();
            let first = path.iter().next().expect("not empty").to_string_lossy().into_owned();
            let room = first.strip_suffix(".rs").unwrap_or(&first).to_owned();
            let code = if is_for_tests(&file) { String::new() } else { without_tests(&bare(&text)) };
            Source { path, room, text, code }
        })
        .collect()
}

/// A file that is there under `#[cfg(test)]` only, or that belongs to one.
fn is_for_tests(file: &Path) -> bool {
    let Some(stem) = file.file_stem().map(|s| s.to_string_lossy().into_owned()) else { return false };
    let dir = file.parent().expect("in a folder");
    let Some(owner) = [dir.join("mod.rs"), dir.with_extension("rs")].into_iter().find(|f| f.exists() && f != file) else { return false };
    let text = fs::read_to_string(&owner).expect("a source file is UTF-8");
    ["mod", "pub mod", "pub(crate) mod", "pub(super) mod"].iter().any(|m| text.contains(&format!("#[cfg(test)]\n{m} {stem};")))
        || is_for_tests(&owner)
}

/// Blanks out comments and what is inside of string and character literals.
fn bare(text: &str) -> String {
    let b = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    let skip = |out: &mut String, from: usize, to: usize| out.extend(b[from..to].iter().map(|c| if *c == b'\n' { '\n' } else { ' ' }));
    while i < b.len() {
        let rest = &b[i..];
        let end = match rest {
            [b'/', b'/', ..] => i + rest.iter().position(|c| *c == b'\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => text[i + 2..].find("*/").map_or(b.len(), |n| i + n + 4),
            [b'r', b'"', ..] | [b'r', b'#', ..] if raw_hashes(rest).is_some() => {
                let close = format!("\"{}", "#".repeat(raw_hashes(rest).unwrap_or(0)));
                let open = close.len() + 1;
                text[i + open..].find(&close).map_or(b.len(), |n| i + open + n + close.len())
            }
            [b'"', ..] => quoted(rest, b'"') + i,
            [b'\'', b'\\', ..] => quoted(rest, b'\'') + i,
            [b'\'', _, b'\'', ..] => i + 3,
            _ => {
                out.push(if b[i].is_ascii() { b[i] as char } else { '?' });
                i += 1;
                continue;
            }
        };
        skip(&mut out, i, end.min(b.len()));
        i = end.max(i + 1);
    }
    out
}

/// `r##"` has two; `None` when this is not the start of a raw string.
fn raw_hashes(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == b'#').count();
    (rest.get(1 + hashes) == Some(&b'"')).then_some(hashes)
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut i = 1;
    while i < rest.len() && rest[i] != quote {
        i += if rest[i] == b'\\' { 2 } else { 1 };
    }
    (i + 1).min(rest.len())
}

fn without_tests(code: &str) -> String {
    let at = code.find("#[cfg(test)]\nmod ").filter(|at| code[at + 13..].lines().next().is_some_and(|l| l.ends_with('{')));
    code[..at.unwrap_or(code.len())].to_owned()
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Where `word` stands as a word of its own.
fn find<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let ident = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().next_back().is_some_and(ident);
        let after = code[at + word.len()..].chars().next().is_some_and(ident);
        !before && (!after || word.ends_with(':') || !word.ends_with(ident))
    })
}

/// The rooms that `crate::…` names, with the place of each: `crate::a::b`, `crate::{a::b, c}`.
fn arrows(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in find(code, "crate::") {
        let rest = &code[at + "crate::".len()..];
        if !rest.starts_with('{') {
            found.push((at, ident(rest)));
            continue;
        }
        let mut depth = 0;
        let mut expect = false;
        for (i, c) in rest.char_indices() {
            match c {
                '{' => {
                    depth += 1;
                    expect = depth == 1;
                }
                '}' => depth -= 1,
                ',' => expect = depth == 1,
                c if c.is_whitespace() => {}
                _ if expect => {
                    found.push((at, ident(&rest[i..])));
                    expect = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

fn ident(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The table of ARCHITECTURE.md: room → rooms it may import.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let mut rows = BTreeMap::new();
    let lines = text.lines().skip_while(|l| !l.replace(' ', "").starts_with("|room|mayimport|")).skip(2);
    for line in lines.take_while(|l| l.trim_start().starts_with('|')) {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let plain = |c: &str| c.replace(['`', '/', ','], " ");
        let rooms = |c: &str| plain(c).split_whitespace().filter(|w| w.chars().all(|c| c.is_alphanumeric() || c == '_')).map(str::to_owned).collect();
        for room in plain(cells[0]).split_whitespace() {
            rows.insert(room.to_owned(), rooms(cells.get(1).copied().unwrap_or_default()));
        }
    }
    assert!(rows.len() > 5, "ARCHITECTURE.md has no table that begins `| room | may import |`");
    rows
}

fn fail_if_any(problems: &[String]) {
    let mut text = String::new();
    for p in problems {
        let _ = writeln!(text, "{p}");
    }
    assert!(problems.is_empty(), "\n{text}");
}

#[test]
fn arrows_are_those_of_the_table() {
    let table = table();
    let mut problems = Vec::new();
    for source in sources() {
        let Some(may) = table.get(&source.room) else {
            if source.room != "lib" {
                problems.push(format!("src/{}: room `{}` is not in ARCHITECTURE.md's table", source.path.display(), source.room));
            }
            continue;
        };
        for (at, to) in arrows(&source.code) {
            if to != source.room && !may.contains(&to) {
                let line = line_of(&source.code, at);
                problems.push(format!("src/{}:{line}: `{}` must not import `{to}` (ARCHITECTURE.md)", source.path.display(), source.room));
            }
        }
        // `super` out of a room would be an arrow that nobody sees.
        let depth = source.path.iter().count() - usize::from(source.path.file_name().is_some_and(|n| n == "mod.rs"));
        let out = format!("use {}", "super::".repeat(depth));
        for (n, line) in source.code.lines().enumerate().filter(|(_, l)| l.starts_with(&out) || l.starts_with(&format!("pub {out}"))) {
            problems.push(format!("src/{}:{}: `{line}` leaves the room: write `crate::`", source.path.display(), n + 1));
        }
    }
    fail_if_any(&problems);
}

#[test]
fn every_room_of_the_table_is_there() {
    let rooms: BTreeSet<String> = sources().into_iter().map(|s| s.room).collect();
    let missing: Vec<String> =
        table().into_keys().filter(|r| !rooms.contains(r)).map(|r| format!("ARCHITECTURE.md names a room `{r}` that src has not")).collect();
    fail_if_any(&missing);
}

#[test]
fn words_stay_in_their_rooms() {
    let mut problems = Vec::new();
    for source in sources() {
        let path = source.path.to_string_lossy();
        for (word, rooms, why) in ONLY {
            if !rooms.iter().any(|r| *r == source.room || *r == path) {
                problems.extend(find(&source.code, word).map(|at| format!("src/{path}:{}: `{word}`: {why}", line_of(&source.code, at))));
            }
        }
        for (word, rooms, files, why) in NEVER_IN {
            if rooms.contains(&source.room.as_str()) && !files.contains(&&*path) {
                problems.extend(find(&source.code, word).map(|at| format!("src/{path}:{}: `{word}`: {why}", line_of(&source.code, at))));
            }
        }
    }
    fail_if_any(&problems);
}

/// The log shows the lines of `journal::ROOMS` only, since a library's lines may hold what must not be logged.
#[test]
fn every_line_of_the_log_has_a_room_that_is_shown() {
    let mut problems = Vec::new();
    for source in sources() {
        for opening in ["Line::info(\"", "Line::warn(\"", "Line::error(\"", "Line::debug(\"", "ROOM: &str = \""] {
            for (at, _) in source.text.match_indices(opening) {
                let room: String = source.text[at..].chars().skip_while(|c| *c != '"').skip(1).take_while(|c| *c != '"').collect();
                if !gatepost::journal::ROOMS.contains(&room.as_str()) {
                    problems.push(format!(
                        "src/{}:{}: lines of `{room}` are never shown: journal::ROOMS",
                        source.path.display(),
                        line_of(&source.text, at)
                    ));
                }
            }
        }
    }
    fail_if_any(&problems);
}

#[test]
fn files_have_one_subject_and_nothing_left_over() {
    let mut problems = Vec::new();
    for source in sources() {
        let path = source.path.display();
        let lines = source.text.lines().count();
        if lines > LINES {
            problems.push(format!("src/{path}: {lines} lines; above {LINES} a file has more than one subject"));
        }
        for word in ["TODO", "FIXME", "XXX", "HACK"] {
            problems.extend(find(&source.text, word).map(|at| format!("src/{path}:{}: `{word}`: do it or leave it", line_of(&source.text, at))));
        }
        for (at, _) in source.code.match_indices("#[allow(").chain(source.code.match_indices("#![allow(")) {
            let line = line_of(&source.code, at);
            if !source.text.lines().skip(line.saturating_sub(2)).take(3).any(|l| l.contains("reason =") || l.contains("//")) {
                problems.push(format!("src/{path}:{line}: `#[allow(…)]` without a reason"));
            }
        }
    }
    fail_if_any(&problems);
}

#[test]
fn every_room_says_what_it_is() {
    let silent: Vec<String> = sources()
        .iter()
        .filter(|s| s.path.iter().count() == 1 || s.path.ends_with("mod.rs"))
        .filter(|s| s.path != Path::new("main.rs") && !s.text.starts_with("//!"))
        .map(|s| format!("src/{}: begins without `//!`: what the room is, which RFCs, what it must not know", s.path.display()))
        .collect();
    fail_if_any(&silent);
}

#[test]
fn the_reader_of_sources_sees_code_only() {
    let code = bare("use crate::{a::b, c, d::{e, f}}; // crate::x\nlet s = \"crate::y\"; let c = '\"'; crate::z::q(); r#\"crate::w\"#");
    let rooms: Vec<String> = arrows(&code).into_iter().map(|(_, r)| r).collect();
    assert_eq!(rooms, ["a", "c", "d", "z"]);
    assert_eq!(find("unsafe_code unsafe {", "unsafe").count(), 1);
    assert_eq!(find("eprintln!(1); println!(2)", "println!").count(), 1);
}
