//! The `aliases` file, in the classic syntax: `name: target, target`, lines that begin with white space go on.
//!
//! Names: `info@example.org`, `info` (in every domain of ours), `@example.org` (all that nobody else has).
//! Targets: a full address, ours or not, or a local part. Never a program or a file: gatepost runs nothing.

use crate::{config::Problem, message::Address};
use std::{collections::HashMap, path::Path};

/// Where an alias leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// As it was written.
    Address(Address),
    /// A local part: in the domain that was asked for, or else where it exists.
    Name(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alias {
    pub(crate) targets: Vec<Target>,
    pub(crate) line: usize,
}

/// By name in lower case: `info@example.org`, `info`, `@example.org`.
pub(crate) type Aliases = HashMap<String, Alias>;

/// Every alias that can be read, and every problem.
pub(crate) fn parse(text: &str, file: &Path, domains: &[String]) -> (Aliases, Vec<Problem>) {
    let mut aliases = Aliases::new();
    let mut problems = Vec::new();
    for (line, text) in logical(text) {
        let mut problem = |text: String| problems.push(Problem { file: file.to_owned(), line, text, warning: false });
        match entry(&text, domains) {
            Err(text) => problem(text),
            Ok((name, targets)) => match aliases.get(&name) {
                Some(Alias { line, .. }) => problem(format!("{name}: stands in line {line} already: put all targets there")),
                None => drop(aliases.insert(name, Alias { targets, line })),
            },
        }
    }
    (aliases, problems)
}

/// Joins continued lines; drops comments and empty lines. With the number of the first line.
fn logical(text: &str) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words = line.trim();
        if words.is_empty() || words.starts_with('#') {
            continue;
        }
        match out.last_mut() {
            Some((_, before)) if line.starts_with([' ', '\t']) => {
                before.push(' ');
                before.push_str(words);
            }
            _ => out.push((index + 1, words.to_owned())),
        }
    }
    out
}

fn entry(text: &str, domains: &[String]) -> Result<(String, Vec<Target>), String> {
    let colon = outside_quotes(text, ':').next().ok_or("must be name: target, target")?;
    let (name, rest) = text.split_at(colon);
    let name = name_of(name.trim(), domains)?;
    let rest = rest.get(1..).unwrap_or_default();
    let mut targets = Vec::new();
    let mut start = 0;
    for end in outside_quotes(rest, ',').chain([rest.len()]) {
        let word = rest.get(start..end).unwrap_or_default().trim();
        start = end + 1;
        if !word.is_empty() {
            let target = target(word).map_err(|e| format!("{name}: {e}"))?;
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
    }
    if targets.is_empty() {
        return Err(format!("{name}: leads nowhere: write {name}: alice@example.org"));
    }
    Ok((name, targets))
}

/// Offsets of `sign` outside of quoted strings.
fn outside_quotes(text: &str, sign: char) -> impl Iterator<Item = usize> {
    let mut quoted = false;
    let mut escaped = false;
    text.char_indices().filter_map(move |(at, c)| {
        let here = c == sign && !quoted;
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && c == '\\' && !escaped;
        here.then_some(at)
    })
}

fn name_of(name: &str, domains: &[String]) -> Result<String, String> {
    let ours = |domain: &str| -> Result<(), String> {
        if domains.iter().any(|d| d == domain) { Ok(()) } else { Err(format!("{name}: {domain} is not one of domains: mail to it never comes here")) }
    };
    if let Some(domain) = name.strip_prefix('@') {
        let address = Address::parse(&format!("x@{domain}")).ok_or_else(|| format!("{name}: is not a domain"))?;
        ours(&address.domain)?;
        return Ok(format!("@{}", address.domain));
    }
    if name.contains('@') && !name.ends_with('"') {
        let address = Address::parse(name).ok_or_else(|| format!("{name}: is not an address"))?;
        ours(&address.domain)?;
        return Ok(format!("{}@{}", address.local.to_lowercase(), address.domain));
    }
    local(name).map(|l| l.to_lowercase()).ok_or_else(|| format!("{name}: is not a name: write info, info@example.org or @example.org"))
}

fn target(word: &str) -> Result<Target, String> {
    let plain = word.trim_matches('"').trim_start();
    if plain.starts_with('|') {
        return Err(format!("{word} would run a program, and gatepost runs none: let the program fetch the mail by IMAP"));
    }
    if plain.starts_with('/') {
        return Err(format!("{word} is a file, and mail goes to mailboxes only: write an address"));
    }
    if plain.to_ascii_lowercase().starts_with(":include:") || plain.starts_with(':') {
        return Err(format!("{word} is not supported: write the addresses here, on lines that begin with a space"));
    }
    if word.contains('#') && word.contains(char::is_whitespace) {
        return Err(format!("{word}: a comment stands on a line of its own"));
    }
    if word.contains('@') && !(word.starts_with('"') && word.ends_with('"')) {
        return Address::parse(word).map(Target::Address).ok_or_else(|| format!("{word} is not an address"));
    }
    let inner = word.strip_prefix('"').and_then(|w| w.strip_suffix('"')).filter(|w| w.contains('@'));
    if let Some(address) = inner.and_then(Address::parse) {
        return Ok(Target::Address(address));
    }
    local(word).map(Target::Name).ok_or_else(|| format!("{word} is not a name or an address"))
}

/// A local part alone, quoted or not.
fn local(word: &str) -> Option<String> {
    Address::parse(&format!("{word}@example.org")).map(|a| a.local).filter(|l| !l.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> String {
        let (aliases, problems) = parse(text, Path::new("aliases"), &["example.org".into()]);
        let mut names: Vec<_> = aliases.into_iter().collect();
        names.sort_by_key(|(_, a)| a.line);
        let shown = names.iter().map(|(name, a)| {
            let targets = a.targets.iter().map(|t| match t {
                Target::Address(a) => a.to_string(),
                Target::Name(n) => format!("~{n}"),
            });
            format!("{}: {name}: {}", a.line, targets.collect::<Vec<_>>().join(" "))
        });
        shown.chain(problems.iter().map(ToString::to_string)).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn lines() {
        const CASES: &[(&str, &str)] = &[
            ("info: alice", "1: info: ~alice"),
            ("Info@Example.ORG: Alice, bob@example.net,", "1: info@example.org: ~Alice bob@example.net"),
            ("# comment\ninfo: alice,\r\n\tbob,\n  # within\n carol\n\nsales: info", "2: info: ~alice ~bob ~carol|7: sales: ~info"),
            ("@example.org: alice", "1: @example.org: ~alice"),
            ("info: \"alice@example.net\"", "1: info: alice@example.net"),
            ("info: alice, alice", "1: info: ~alice"),
            ("alice+lists: bob", "1: alice+lists: ~bob"),
            ("info", "aliases:1: must be name: target, target"),
            ("info:", "aliases:1: info: leads nowhere: write info: alice@example.org"),
            ("  info: alice", "1: info: ~alice"),
            ("info: alice\nINFO: bob", "1: info: ~alice|aliases:2: info: stands in line 1 already: put all targets there"),
            ("info@example.com: alice", "aliases:1: info@example.com: example.com is not one of domains: mail to it never comes here"),
            ("@example.com: alice", "aliases:1: @example.com: example.com is not one of domains: mail to it never comes here"),
            ("p: |/usr/bin/x", "aliases:1: p: |/usr/bin/x would run a program, and gatepost runs none: let the program fetch the mail by IMAP"),
            (
                "p: \"| /usr/bin/x a, b\"",
                "aliases:1: p: \"| /usr/bin/x a, b\" would run a program, and gatepost runs none: let the program fetch the mail by IMAP",
            ),
            ("p: /dev/null", "aliases:1: p: /dev/null is a file, and mail goes to mailboxes only: write an address"),
            ("p: :include:/x", "aliases:1: p: :include:/x is not supported: write the addresses here, on lines that begin with a space"),
            ("p: alice # mine", "aliases:1: p: alice # mine: a comment stands on a line of its own"),
            ("p: a@@b@", "aliases:1: p: a@@b@ is not an address"),
        ];
        for (text, want) in CASES {
            assert_eq!(read(text), *want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(alice|@|example\\.org|:|,|\"|\\\\|#|\\||/| |\\t|\\r?\\n|\\PC){0,40}") {
            read(&text);
        }
    }
}
