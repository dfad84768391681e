//! Reads a script into fixtures and lines.

use super::{
    fixtures::{self, Fixtures},
    pattern::Pattern,
};

pub(crate) struct Script {
    pub(crate) fixtures: Fixtures,
    pub(crate) lines: Vec<Line>,
}

pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) conn: String,
    pub(crate) action: Action,
}

pub(crate) enum Action {
    Connect {
        service: String,
        tcp: bool,
    },
    Accept {
        address: String,
    },
    /// The line after `!`, then its block.
    Host(Vec<String>),
    Step(Step),
}

pub(crate) enum Step {
    Send(Pattern),
    Expect(Vec<Pattern>),
    /// As `Expect`, with `…` for any number of lines; on IMAP one response.
    ExpectBlock(Vec<Pattern>),
    Unordered {
        must: Vec<Pattern>,
        may: Vec<Pattern>,
        last: Pattern,
    },
    Tls,
    Close,
    Finish,
    Closed,
}

/// Lines of the file with their numbers; knows blocks.
struct Reader<'a> {
    lines: std::iter::Peekable<std::iter::Enumerate<std::str::Lines<'a>>>,
}

impl Reader<'_> {
    fn block(&mut self) -> Result<Vec<String>, String> {
        let mut block: Vec<&str> = Vec::new();
        for (_, line) in self.lines.by_ref() {
            if line.trim() == ">>" {
                let indent = |l: &str| l.len() - l.trim_start_matches(' ').len();
                let common = block.iter().filter(|l| !l.trim().is_empty()).map(|l| indent(l)).min().unwrap_or(0);
                return Ok(block.iter().map(|l| l.get(common..).unwrap_or("").to_owned()).collect());
            }
            block.push(line);
        }
        Err("a block has no `>>`".into())
    }
}

pub(crate) fn read(text: &str) -> Result<Script, String> {
    let mut reader = Reader { lines: text.lines().enumerate().peekable() };
    let mut script = Script { fixtures: Fixtures::default(), lines: Vec::new() };
    let mut conn = "1".to_owned();
    // Connections that gatepost opens: there the script plays the server.
    let mut remotes = std::collections::HashSet::new();
    // `S*` and `S?` lines waiting for their `S:`; a `C:` with `{#}` waiting for its block.
    let mut group: Option<(Vec<Pattern>, Vec<Pattern>)> = None;
    while let Some((i, raw)) = reader.lines.next() {
        let number = i + 1;
        let mut line = raw.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((name, rest)) = line.strip_prefix('[').and_then(|l| l.split_once(']')) {
            conn = name.to_owned();
            line = rest.trim_start();
            if line.is_empty() {
                continue;
            }
        }
        let at = |e: String| format!("{number}: {e}");
        let word = line.split_whitespace().next().unwrap_or_default();
        if fixtures::WORDS.contains(&word) {
            if !script.lines.is_empty() {
                return Err(at(format!("`{word}` is a fixture: before the first connection")));
            }
            let block = if line.trim_end().ends_with("<<") { Some(reader.block().map_err(at)?) } else { None };
            script.fixtures.add(word, line[word.len()..].trim(), block).map_err(at)?;
            continue;
        }
        let (ours, theirs) = if remotes.contains(&conn) { ('S', 'C') } else { ('C', 'S') };
        let action = dialogue(line, ours, theirs, &mut reader, &mut group).map_err(at)?;
        match action {
            Some(Action::Accept { .. }) => remotes.insert(conn.clone()),
            Some(Action::Connect { .. }) => remotes.remove(&conn),
            _ => false,
        };
        if let Some(action) = action {
            script.lines.push(Line { number, conn: conn.clone(), action });
        }
    }
    match group {
        Some(_) => Err("0: `S*` lines at the end without the `S:` that closes them".into()),
        None => Ok(script),
    }
}

type Group = Option<(Vec<Pattern>, Vec<Pattern>)>;

fn dialogue(line: &str, ours: char, theirs: char, reader: &mut Reader<'_>, group: &mut Group) -> Result<Option<Action>, String> {
    let text = |prefix: &str| Pattern::read(line[prefix.len()..].strip_prefix(' ').unwrap_or(&line[prefix.len()..]));
    let side = line.chars().next().filter(|c| *c == ours || *c == theirs);
    let kind = if side.is_some() { line[1..].chars().next() } else { None };
    if let (Some(side), Some(kind @ ('*' | '?'))) = (side, kind) {
        if side == ours {
            return Err(format!("`{side}{kind}` is what the script itself sends"));
        }
        let (must, may) = group.get_or_insert_default();
        if kind == '*' {
            must.push(text("S*")?)
        } else {
            may.push(text("S?")?)
        }
        return Ok(None);
    }
    if let Some((must, may)) = group.take() {
        return match (side, kind) {
            (Some(side), Some(':')) if side == theirs => Ok(Some(Action::Step(Step::Unordered { must, may, last: text("S:")? }))),
            _ => Err(format!("`{theirs}*` and `{theirs}?` lines are closed by a `{theirs}:` line")),
        };
    }
    let step = match (side, kind, line.trim_end()) {
        (_, _, "TLS") => Step::Tls,
        (_, _, "close") => Step::Close,
        (_, _, "finish") => Step::Finish,
        (_, _, "closed") => Step::Closed,
        (Some(side), Some('<'), "C<<" | "S<<") if side == ours => Step::Send(lines(&reader.block()?)?),
        (Some(_), Some('<'), "C<<" | "S<<") => Step::ExpectBlock(reader.block()?.iter().map(|l| Pattern::read(l)).collect::<Result<_, _>>()?),
        (Some(side), Some('-'), _) if side == ours => Step::Send(text("C-")?),
        (Some(side), Some(':'), _) if side == ours => Step::Send(command(&line[2..], reader)?),
        (Some(_), Some(':'), _) => Step::Expect(vec![text("S:")?]),
        (_, _, bare) => return other(bare, reader).map(Some),
    };
    Ok(Some(Action::Step(step)))
}

/// `C:`; its `{#}` becomes the size of the `C<<` block that comes later, before any other line the client sends.
fn command(rest: &str, reader: &mut Reader<'_>) -> Result<Pattern, String> {
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let mut line = rest.to_owned();
    if rest.contains("{#") {
        let mut ahead = Reader { lines: reader.lines.clone() };
        let found = ahead.lines.any(|(_, l)| {
            let l = l.trim_start();
            l.split_once("] ").filter(|_| l.starts_with('[')).map_or(l, |(_, after)| after).trim() == "C<<"
        });
        if !found {
            return Err("`{#}` needs a `C<<` block after it".into());
        }
        // The block's own line ends count; its last CRLF does not belong to the literal.
        let size = lines(&ahead.block()?)?.fill(&super::Captures::default())?.len();
        line = line.replace("{#", &format!("{{{size}"));
    }
    Pattern::read(&format!("{line}<CRLF>"))
}

fn lines(block: &[String]) -> Result<Pattern, String> {
    let mut all: Vec<Pattern> = block.iter().map(|l| Pattern::read(l)).collect::<Result<_, _>>()?;
    all.push(Pattern::read("")?);
    Ok(Pattern::join(&all))
}

fn other(line: &str, reader: &mut Reader<'_>) -> Result<Action, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["connect", service] => Ok(Action::Connect { service: (*service).to_owned(), tcp: false }),
        ["connect", service, "tcp"] => Ok(Action::Connect { service: (*service).to_owned(), tcp: true }),
        ["accept"] => Ok(Action::Accept { address: "127.0.0.1".to_owned() }),
        ["accept", address] => Ok(Action::Accept { address: (*address).to_owned() }),
        ["!", ..] => {
            let command = line[1..].trim();
            let mut all = vec![command.strip_suffix("<<").unwrap_or(command).trim().to_owned()];
            if command.ends_with("<<") {
                all.extend(reader.block()?);
            }
            Ok(Action::Host(all))
        }
        _ => Err(format!("`{line}` is neither a fixture nor a line of dialogue; see tests/sessions/README.md")),
    }
}
