//! One value: TOML in, a field of the configuration out, and back.
//!
//! A [`Slot`] is a field together with what may stand in it. Its faults say what was expected and what to write.

use super::{
    RouteTls, UidlFormat,
    units::{parse_duration, parse_size, write_duration, write_size},
};
use crate::message::Address;
use std::{
    net::{IpAddr, SocketAddr},
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    time::Duration,
};
use toml::{Spanned, de::DeValue};

/// A field of `Config` (or of a `Route`) and its type.
pub(super) enum Slot<'a> {
    Host(&'a mut String),
    Domains(&'a mut Vec<String>),
    /// Recipient or sender patterns of a route.
    Patterns(&'a mut Vec<String>),
    Address(&'a mut Option<String>),
    Word(&'a mut Option<String>),
    Path(&'a mut PathBuf),
    MaybePath(&'a mut Option<PathBuf>),
    Files(&'a mut Vec<String>),
    Log(&'a mut String),
    Separators(&'a mut String),
    /// With the port that an address without one gets; `None`: the port must be there.
    Sockets(&'a mut Vec<SocketAddr>, Option<u16>),
    HostPort(&'a mut Option<(String, u16)>),
    Size(&'a mut u64),
    /// A size, or "0" for none.
    Limit(&'a mut u64),
    Time(&'a mut Duration),
    Count(&'a mut usize, RangeInclusive<u32>),
    Count32(&'a mut u32, RangeInclusive<u32>),
    Port(&'a mut u16),
    Flag(&'a mut bool),
    Percents(&'a mut Vec<u8>),
    Networks(&'a mut Vec<(IpAddr, u8)>),
    Tls(&'a mut RouteTls),
    Uidl(&'a mut UidlFormat),
}

/// What is wrong with a value and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: Range<usize>,
    pub(super) text: String,
}

const TLS_WORDS: &[(&str, RouteTls)] =
    &[("may", RouteTls::May), ("require", RouteTls::Require), ("implicit", RouteTls::Implicit), ("never", RouteTls::Never)];

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug"];

impl Slot<'_> {
    /// The type as gatepost.conf(5) names it.
    pub(super) fn form(&self) -> &'static str {
        match self {
            Self::Host(_) => "host name",
            Self::Domains(_) => "list of domains",
            Self::Patterns(_) => "list of domains or addresses",
            Self::Address(_) => "address",
            Self::Word(_) | Self::Log(_) | Self::Separators(_) | Self::Uidl(_) => "string",
            Self::Path(_) | Self::MaybePath(_) => "path",
            Self::Files(_) => "path or list of paths",
            Self::Sockets(_, None) => "address:port or list of them",
            Self::Sockets(_, Some(_)) => "list of addresses",
            Self::HostPort(_) => "host:port",
            Self::Size(_) | Self::Limit(_) => "size",
            Self::Time(_) => "duration",
            Self::Count(..) | Self::Count32(..) => "number",
            Self::Port(_) => "port",
            Self::Flag(_) => "true or false",
            Self::Percents(_) => "list of numbers",
            Self::Networks(_) => "list of networks",
            Self::Tls(_) => "may, require, implicit or never",
        }
    }

    /// Sets the field. Relative paths are taken from `folder`.
    pub(super) fn read(self, value: &Spanned<DeValue<'_>>, folder: &Path) -> Result<(), Fault> {
        match self {
            Self::Host(f) => *f = host(&string(value, "a host name, \"mail.example.org\"")?).map_err(at(value))?,
            Self::Domains(f) => *f = strings(value, "a list of domains, [\"example.org\"]", host)?,
            Self::Patterns(f) => *f = strings(value, "a list, [\"example.org\", \"*\"]", pattern)?,
            Self::Address(f) => *f = Some(address(&string(value, "an address, \"alice@example.org\"")?).map_err(at(value))?),
            Self::Word(f) => *f = Some(word(&string(value, "a name in quotes")?).map_err(at(value))?),
            Self::Path(f) => *f = folder.join(path(&string(value, "a path in quotes")?).map_err(at(value))?),
            Self::MaybePath(f) => *f = Some(folder.join(path(&string(value, "a path in quotes")?).map_err(at(value))?)),
            Self::Files(f) => *f = strings(value, "a path, \"conf.d/*.conf\", or a list of them", path)?,
            Self::Log(f) => *f = log_level(&string(value, "a level, \"info\"")?).map_err(at(value))?,
            Self::Separators(f) => *f = separators(&string(value, "one or more characters, \"+\"")?).map_err(at(value))?,
            Self::Sockets(f, port) => {
                let want = if port.is_some() { "an address, \"192.0.2.53\", or a list of them" } else { "\"address:port\" or a list of them" };
                *f = strings(value, want, |text| socket(text, port))?;
            }
            Self::HostPort(f) => *f = Some(host_port(&string(value, "\"host:port\"")?).map_err(at(value))?),
            Self::Size(f) => *f = parse(value, "a size with its unit, \"50M\"", parse_size)?,
            Self::Limit(f) => {
                *f = parse(value, "a size with its unit, \"2G\", or \"0\" for none", |text| if text == "0" { Some(0) } else { parse_size(text) })?;
            }
            Self::Time(f) => *f = parse(value, "a duration with its unit, \"30m\"", parse_duration)?,
            Self::Count(f, range) => *f = number(value, &range)? as usize,
            Self::Count32(f, range) => *f = number(value, &range)?,
            Self::Port(f) => *f = number(value, &(1..=65_535))? as u16,
            Self::Flag(f) => *f = value.get_ref().as_bool().ok_or_else(|| wrong(value, "true or false, without quotes"))?,
            Self::Percents(f) => *f = percents(value)?,
            Self::Uidl(f) => *f = UidlFormat::parse(&string(value, "a format, \"%08Xu%08Xv\"")?).map_err(at(value))?,
            Self::Networks(f) => *f = strings(value, "a list of networks, [\"192.0.2.0/24\"]", network)?,
            Self::Tls(f) => {
                let what = "\"may\", \"require\", \"implicit\" or \"never\"";
                *f = parse(value, what, |text| TLS_WORDS.iter().find(|(word, _)| *word == text).map(|(_, tls)| *tls))?;
            }
        }
        Ok(())
    }

    /// The field as TOML; `None` when it has no value.
    pub(super) fn write(&self) -> Option<String> {
        Some(match self {
            Self::Host(f) | Self::Log(f) | Self::Separators(f) => quote(f),
            Self::Uidl(f) => quote(f.text()),
            Self::Domains(f) | Self::Patterns(f) | Self::Files(f) => list(f.iter()),
            Self::Address(f) | Self::Word(f) => quote(f.as_ref()?),
            Self::Path(f) => quote(&f.to_string_lossy()),
            Self::MaybePath(f) => quote(&f.as_ref()?.to_string_lossy()),
            Self::Sockets(f, _) => list(f.iter()),
            Self::HostPort(f) => f
                .as_ref()
                .map(|(host, port)| if host.contains(':') { quote(&format!("[{host}]:{port}")) } else { quote(&format!("{host}:{port}")) })?,
            Self::Limit(f) if **f == 0 => quote("0"),
            Self::Size(f) | Self::Limit(f) => quote(&write_size(**f)),
            Self::Time(f) => quote(&write_duration(**f)),
            Self::Count(f, _) => f.to_string(),
            Self::Count32(f, _) => f.to_string(),
            Self::Port(f) => f.to_string(),
            Self::Flag(f) => f.to_string(),
            Self::Percents(f) => format!("[{}]", f.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            Self::Networks(f) => list(f.iter().map(|(address, bits)| format!("{address}/{bits}"))),
            Self::Tls(f) => quote(TLS_WORDS.iter().find(|(_, tls)| tls == *f).map_or("may", |(word, _)| word)),
        })
    }
}

/// A TOML basic string.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn list<T: ToString>(items: impl Iterator<Item = T>) -> String {
    format!("[{}]", items.map(|i| quote(&i.to_string())).collect::<Vec<_>>().join(", "))
}

fn at(value: &Spanned<DeValue<'_>>) -> impl FnOnce(String) -> Fault {
    let at = value.span();
    move |text| Fault { at, text }
}

fn wrong(value: &Spanned<DeValue<'_>>, want: &str) -> Fault {
    let found = match value.get_ref() {
        DeValue::String(s) => quote(s),
        DeValue::Integer(i) => format!("the number {}", i.as_str()),
        DeValue::Float(f) => format!("the number {}", f.as_str()),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a section".into(),
    };
    Fault { at: value.span(), text: format!("must be {want}, not {found}") }
}

fn string(value: &Spanned<DeValue<'_>>, want: &str) -> Result<String, Fault> {
    let text = value.get_ref().as_str().ok_or_else(|| wrong(value, want))?;
    if text.chars().any(char::is_control) {
        return Err(Fault { at: value.span(), text: "holds a control character: remove it".into() });
    }
    Ok(text.to_owned())
}

/// A string or a list of strings, each read by `item`.
fn strings<T>(value: &Spanned<DeValue<'_>>, want: &str, item: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Fault> {
    match value.get_ref() {
        DeValue::String(_) => Ok(vec![item(&string(value, want)?).map_err(at(value))?]),
        DeValue::Array(items) => items.iter().map(|v| string(v, want).and_then(|s| item(&s).map_err(at(v)))).collect(),
        _ => Err(wrong(value, want)),
    }
}

fn parse<T>(value: &Spanned<DeValue<'_>>, want: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, Fault> {
    value.get_ref().as_str().and_then(read).ok_or_else(|| wrong(value, want))
}

fn number(value: &Spanned<DeValue<'_>>, range: &RangeInclusive<u32>) -> Result<u32, Fault> {
    let want = format!("a number from {} to {}, without quotes", range.start(), range.end());
    let digits = value.get_ref().as_integer().filter(|i| i.radix() == 10).map(|i| i.as_str().replace('_', ""));
    digits.and_then(|d| d.parse().ok()).filter(|n| range.contains(n)).ok_or_else(|| wrong(value, &want))
}

/// Ascending, each once.
fn percents(value: &Spanned<DeValue<'_>>) -> Result<Vec<u8>, Fault> {
    let DeValue::Array(items) = value.get_ref() else { return Err(wrong(value, "a list of percents, [80, 95]")) };
    let mut all = items.iter().map(|v| number(v, &(1..=99)).map(|n| n as u8)).collect::<Result<Vec<u8>, Fault>>()?;
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Lower case A-labels without the final dot.
pub(super) fn host(text: &str) -> Result<String, String> {
    let bad = || format!("{} is not a domain name: write \"example.org\"", quote(text));
    if text.contains('@') {
        return Err(format!("{} is an address: write the domain alone", quote(text)));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let parsed = Address::parse(&format!("x@{name}")).filter(|a| !a.domain.starts_with('['));
    parsed.map(|a| a.domain).ok_or_else(bad)
}

fn pattern(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok("*".into());
    }
    if let Some(domain) = text.strip_prefix('.') {
        return host(domain).map(|d| format!(".{d}"));
    }
    match text.rsplit_once('@') {
        None => host(text),
        Some((local, domain)) if !local.is_empty() => host(domain).map(|d| format!("{}@{d}", local.to_lowercase())),
        Some(_) => Err(format!("{}: write the domain without @", quote(text))),
    }
}

fn address(text: &str) -> Result<String, String> {
    Address::parse(text).map(|a| a.to_string()).ok_or_else(|| format!("{} is not an address: write \"alice@example.org\"", quote(text)))
}

fn word(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("must not be empty".into()) } else { Ok(text.to_owned()) }
}

fn path(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("must not be an empty path".into()) } else { Ok(text.to_owned()) }
}

fn log_level(text: &str) -> Result<String, String> {
    if LEVELS.contains(&text) { Ok(text.to_owned()) } else { Err(format!("{} is not a level: write one of {}", quote(text), LEVELS.join(", "))) }
}

fn separators(text: &str) -> Result<String, String> {
    let odd = text.chars().find(|c| {
        c.is_alphanumeric() || c.is_whitespace() || matches!(c, '@' | '.' | '/' | '"' | '\\' | '<' | '>' | '(' | ')' | ',' | ';' | ':' | '[' | ']')
    });
    match odd {
        None => Ok(text.to_owned()),
        Some(c) => Err(format!("{} cannot separate: write one or more of + - _ = ~, or \"\" for none", quote(&c.to_string()))),
    }
}

fn socket(text: &str, port: Option<u16>) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    match (text.parse::<SocketAddr>(), bare.parse::<IpAddr>(), port) {
        (Ok(s), _, _) if s.port() != 0 => Ok(s),
        (_, Ok(ip), Some(port)) => Ok(SocketAddr::new(ip, port)),
        (_, Ok(ip), None) => Err(format!("{} lacks the port: write \"{}\"", quote(text), SocketAddr::new(ip, 2525))),
        _ => Err(format!("{} is not an IP address with a port: write \"192.0.2.1:25\" or \"[2001:db8::1]:25\"", quote(text))),
    }
}

fn host_port(text: &str) -> Result<(String, u16), String> {
    let bad = || format!("{} must name a host and a port: write \"smtp.example.org:587\"", quote(text));
    let (name, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let port = port.parse().ok().filter(|p| *p != 0).ok_or_else(bad)?;
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let name = match bare {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?.to_string(),
        None => host(name).map_err(|_| bad())?,
    };
    Ok((name, port))
}

fn network(text: &str) -> Result<(IpAddr, u8), String> {
    let bad = || format!("{} is not a network: write \"192.0.2.0/24\" or \"2001:db8::/64\"", quote(text));
    let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(most), |b| b.parse().ok()).filter(|b| *b <= most).ok_or_else(bad)?;
    Ok((address, bits))
}
