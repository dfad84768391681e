//! Text of a script: bytes by name, `…`, captures.

use std::{collections::HashMap, fmt};

#[derive(Clone, Default, Debug)]
pub(crate) struct Captures(HashMap<String, Vec<u8>>);

impl Captures {
    pub(crate) fn set(&mut self, name: &str, value: Vec<u8>) {
        self.0.insert(name.to_owned(), value);
    }
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    Bytes(Vec<u8>),
    Any,
    Capture(String),
}

/// One line of text as it stands in a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pattern {
    source: String,
    tokens: Vec<Token>,
}

impl Pattern {
    pub(crate) fn read(source: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut rest = source;
        while let Some(c) = rest.chars().next() {
            let (token, used) = match c {
                '…' => (Token::Any, c.len_utf8()),
                '$' => capture(rest).unwrap_or((Token::Bytes(b"$".to_vec()), 1)),
                '<' => named(rest)?.map_or((Token::Bytes(b"<".to_vec()), 1), |(bytes, used)| (Token::Bytes(bytes), used)),
                _ => (Token::Bytes(c.to_string().into_bytes()), c.len_utf8()),
            };
            match (tokens.last_mut(), token) {
                (Some(Token::Bytes(before)), Token::Bytes(more)) => before.extend(more),
                (_, token) => tokens.push(token),
            }
            rest = &rest[used..];
        }
        Ok(Self { source: source.to_owned(), tokens })
    }

    /// Lines as one text, with CRLF between them.
    pub(crate) fn join(lines: &[Self]) -> Self {
        let mut tokens = Vec::new();
        for (i, line) in lines.iter().enumerate() {
            if i > 0 {
                tokens.push(Token::Bytes(b"\r\n".to_vec()));
            }
            tokens.extend(line.tokens.iter().cloned());
        }
        Self { source: lines.iter().map(|l| l.source.as_str()).collect::<Vec<_>>().join("<CRLF>"), tokens }
    }

    pub(crate) fn is_anything(&self) -> bool {
        self.tokens == [Token::Any]
    }

    /// The bytes to send; captures replaced.
    pub(crate) fn fill(&self, captures: &Captures) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        for token in &self.tokens {
            match token {
                Token::Bytes(b) => out.extend(b),
                Token::Any => out.extend("…".as_bytes()),
                Token::Capture(name) => out.extend(captures.get(name).ok_or(format!("${name} was never captured"))?),
            }
        }
        Ok(out)
    }

    /// New captures are kept only when the whole line matches.
    pub(crate) fn matches(&self, line: &[u8], captures: &mut Captures) -> bool {
        let mut found = captures.clone();
        let matched = matches(&self.tokens, line, &mut found);
        if matched {
            *captures = found;
        }
        matched
    }

    /// What its captures already are, for a report.
    pub(crate) fn known(&self, captures: &Captures) -> String {
        let mut out = String::new();
        for token in &self.tokens {
            if let Token::Capture(name) = token
                && let Some(value) = captures.get(name)
            {
                out.push_str(&format!("\n   where  ${name} = {}", show(value)));
            }
        }
        out
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

fn matches(tokens: &[Token], line: &[u8], captures: &mut Captures) -> bool {
    let Some((first, rest)) = tokens.split_first() else { return line.is_empty() };
    match first {
        Token::Bytes(b) => line.strip_prefix(b.as_slice()).is_some_and(|after| matches(rest, after, captures)),
        Token::Any => (0..=line.len()).any(|n| matches(rest, &line[n..], captures)),
        Token::Capture(name) => {
            if let Some(value) = captures.get(name).map(<[u8]>::to_vec) {
                return line.strip_prefix(value.as_slice()).is_some_and(|after| matches(rest, after, captures));
            }
            let word = line.iter().take_while(|b| !b.is_ascii_whitespace()).count();
            (1..=word).any(|n| {
                let mut found = captures.clone();
                found.set(name, line[..n].to_vec());
                let matched = matches(rest, &line[n..], &mut found);
                if matched {
                    *captures = found;
                }
                matched
            })
        }
    }
}

/// `$name`, and how long that is.
fn capture(text: &str) -> Option<(Token, usize)> {
    let name = &text[1..];
    let len = name.bytes().take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_').count();
    let starts = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    starts.then(|| (Token::Capture(name[..len].to_owned()), len + 1))
}

/// `<CR>` and its like; `None` when the angle bracket is only itself.
fn named(text: &str) -> Result<Option<(Vec<u8>, usize)>, String> {
    let Some(end) = text[1..].find('>') else { return Ok(None) };
    let name = &text[1..=end];
    let used = end + 2;
    let bytes = match name {
        "CR" => b"\r".to_vec(),
        "LF" => b"\n".to_vec(),
        "CRLF" => b"\r\n".to_vec(),
        "NUL" => b"\0".to_vec(),
        "TAB" => b"\t".to_vec(),
        "SP" => b" ".to_vec(),
        "$" => b"$".to_vec(),
        "…" => "…".as_bytes().to_vec(),
        _ => {
            if let Some(plain) = name.strip_prefix("base64:") {
                use base64::Engine;
                base64::engine::general_purpose::STANDARD.encode(plain.replace("^@", "\0")).into_bytes()
            } else if let Some(hex) = name.strip_prefix('x').filter(|h| h.len() == 2) {
                let Ok(b) = u8::from_str_radix(hex, 16) else { return Ok(None) };
                vec![b]
            } else if let Some((what, n)) = name.rsplit_once('*').filter(|(w, n)| !w.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
                what.repeat(n.parse().map_err(|_| format!("`<{name}>`: how often?"))?).into_bytes()
            } else {
                return Ok(None);
            }
        }
    };
    Ok(Some((bytes, used)))
}

/// Bytes in the spelling of scripts, long ones shortened in the middle.
pub(crate) fn show(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\r' => out.push_str("<CR>"),
                '\n' => out.push_str("<LF>"),
                '\0' => out.push_str("<NUL>"),
                '\t' => out.push_str("<TAB>"),
                c if c.is_control() => out.push_str(&format!("<x{:02x}>", u32::from(c))),
                c => out.push(c),
            }
        }
        for b in chunk.invalid() {
            out.push_str(&format!("<x{b:02x}>"));
        }
    }
    let out = out.trim_end_matches("<CR><LF>").replace("<CR><LF>", "<CRLF>");
    if out.chars().count() <= 1200 {
        return out;
    }
    let chars: Vec<char> = out.chars().collect();
    let (head, tail): (String, String) = (chars[..800].iter().collect(), chars[chars.len() - 200..].iter().collect());
    format!("{head} [… {} characters …] {tail}", chars.len() - 1000)
}
