//! ESMTP parameters of MAIL and RCPT: SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), AUTH (RFC 4954 §5),
//! RET, ENVID, NOTIFY and ORCPT (RFC 3461 §4).

use super::Reply;

/// RFC 3461 §4.4 and §4.2.
const MAX_ENVID: usize = 100;
const MAX_ORCPT: usize = 500;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailParams {
    /// Octets; a number beyond 64 bits is the greatest one.
    pub size: Option<u64>,
    /// BODY=8BITMIME
    pub body_8bit: bool,
    pub smtputf8: bool,
    /// RET: `FULL` or `HDRS`, if given.
    pub ret_full: Option<bool>,
    /// As given: valid xtext.
    pub envid: Option<String>,
}

/// RFC 3461 §4.1. All false: the parameter was not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Notify {
    pub never: bool,
    pub success: bool,
    pub failure: bool,
    pub delay: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RcptParams {
    pub notify: Notify,
    /// As given: `rfc822;` and valid xtext, or another type.
    pub orcpt: Option<String>,
}

/// What follows the path of MAIL.
pub(super) fn mail(text: &str) -> Result<MailParams, Reply> {
    let mut out = MailParams::default();
    let (mut body, mut auth) = (false, false);
    for param in split(text)? {
        match (param.name.as_str(), param.value) {
            ("SIZE", Some(v)) if is_number(v) && out.size.is_none() => out.size = Some(v.parse().unwrap_or(u64::MAX)),
            ("BODY", Some(v)) if !body => {
                body = true;
                out.body_8bit = match v {
                    v if v.eq_ignore_ascii_case("8BITMIME") => true,
                    v if v.eq_ignore_ascii_case("7BIT") => false,
                    _ => return Err(unknown(&format!("BODY={v}"))),
                };
            }
            ("SMTPUTF8", None) if !out.smtputf8 => out.smtputf8 = true,
            ("RET", Some(v)) if out.ret_full.is_none() => {
                out.ret_full = match v {
                    v if v.eq_ignore_ascii_case("FULL") => Some(true),
                    v if v.eq_ignore_ascii_case("HDRS") => Some(false),
                    _ => return Err(malformed("RET")),
                };
            }
            ("ENVID", Some(v)) if out.envid.is_none() && v.len() <= MAX_ENVID && is_xtext(v) => out.envid = Some(v.to_owned()),
            // Who first submitted it, a claim that we neither believe nor pass on.
            ("AUTH", Some(v)) if !auth && (v == "<>" || is_xtext(v)) => auth = true,
            ("SIZE" | "BODY" | "SMTPUTF8" | "RET" | "ENVID" | "AUTH", _) => return Err(malformed(&param.name)),
            _ => return Err(unknown(&param.name)),
        }
    }
    Ok(out)
}

/// What follows the path of RCPT.
pub(super) fn rcpt(text: &str) -> Result<RcptParams, Reply> {
    let mut out = RcptParams::default();
    let mut seen = false;
    for param in split(text)? {
        match (param.name.as_str(), param.value) {
            ("NOTIFY", Some(v)) if !seen => {
                seen = true;
                out.notify = notify(v).ok_or_else(|| malformed("NOTIFY"))?;
            }
            ("ORCPT", Some(v)) if out.orcpt.is_none() && v.len() <= MAX_ORCPT && is_orcpt(v) => out.orcpt = Some(v.to_owned()),
            ("NOTIFY" | "ORCPT", _) => return Err(malformed(&param.name)),
            _ => return Err(unknown(&param.name)),
        }
    }
    Ok(out)
}

struct Param<'a> {
    /// Upper case.
    name: String,
    value: Option<&'a str>,
}

/// RFC 5321 §4.1.2: `SP keyword [= value]`, repeated. The caller saw to it that there is no control character.
fn split(text: &str) -> Result<Vec<Param<'_>>, Reply> {
    if !text.is_empty() && !text.starts_with(' ') {
        return Err(Reply::new(501, (5, 5, 4), "Space wanted after the path"));
    }
    text.split(' ')
        .filter(|word| !word.is_empty())
        .map(|word| {
            let (name, value) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
            let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if is_name && value != Some("") {
                Ok(Param { name: name.to_ascii_uppercase(), value })
            } else {
                Err(Reply::new(501, (5, 5, 4), "Malformed parameter"))
            }
        })
        .collect()
}

fn malformed(name: &str) -> Reply {
    Reply::new(501, (5, 5, 4), format!("Malformed or repeated parameter {name}"))
}

/// RFC 5321 §4.1.1.11
fn unknown(name: &str) -> Reply {
    Reply::new(555, (5, 5, 4), format!("Parameter not recognised: {name}"))
}

/// RFC 1870 §3: 1 to 20 digits.
fn is_number(v: &str) -> bool {
    (1..=20).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_digit())
}

fn notify(v: &str) -> Option<Notify> {
    let mut out = Notify::default();
    for word in v.split(',') {
        let flag = match () {
            () if word.eq_ignore_ascii_case("NEVER") => &mut out.never,
            () if word.eq_ignore_ascii_case("SUCCESS") => &mut out.success,
            () if word.eq_ignore_ascii_case("FAILURE") => &mut out.failure,
            () if word.eq_ignore_ascii_case("DELAY") => &mut out.delay,
            () => return None,
        };
        *flag = true;
    }
    // NEVER stands alone.
    (!out.never || v.len() == "NEVER".len()).then_some(out)
}

/// RFC 3461 §4: printable ASCII but `+` and `=`, or `+` and two upper case hexadecimal digits.
fn is_xtext(v: &str) -> bool {
    let mut bytes = v.bytes();
    let hex = |b: Option<u8>| matches!(b, Some(b'0'..=b'9' | b'A'..=b'F'));
    while let Some(b) = bytes.next() {
        match b {
            b'+' if hex(bytes.next()) && hex(bytes.next()) => {}
            b'+' | b'=' => return false,
            b'!'..=b'~' => {}
            _ => return false,
        }
    }
    !v.is_empty()
}

/// RFC 3461 §4.2: type `;` xtext. RFC 6533 §3: `utf-8;` may hold `\x{…}` or, as we announce SMTPUTF8, UTF-8 itself.
fn is_orcpt(v: &str) -> bool {
    let Some((kind, address)) = v.split_once(';') else { return false };
    let is_atom = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_utf8 = kind.eq_ignore_ascii_case("utf-8");
    let is_unitext = || !address.is_empty() && address.chars().all(|c| !matches!(c, '+' | '=') && !c.is_control() && !c.is_whitespace());
    is_atom && (is_xtext(address) || is_utf8 && is_unitext())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes<T: std::fmt::Debug>(r: Result<T, Reply>) -> u16 {
        r.map_or_else(|e| e.code, |_| 250)
    }

    #[test]
    fn mail_parameters() {
        let all = mail(" SIZE=1000 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=QQ+2B1 AUTH=<>");
        let want = MailParams { size: Some(1000), body_8bit: true, smtputf8: true, ret_full: Some(true), envid: Some("QQ+2B1".into()) };
        assert_eq!(all, Ok(want));
        assert_eq!(mail(" size=18446744073709551616").map(|p| p.size), Ok(Some(u64::MAX)));
        let long = format!(" ENVID={}", "x".repeat(101));
        let cases: &[(&str, u16)] = &[
            ("", 250),
            (" ", 250),
            ("  SIZE=1  ", 250),
            (" body=7bit ret=hdrs auth=a+40b", 250),
            ("SIZE=1", 501),
            (" SIZE", 501),
            (" SIZE=", 501),
            (" SIZE=-1", 501),
            (" SIZE=1 SIZE=1", 501),
            (" SIZE=111111111111111111111", 501),
            (" BODY=BINARYMIME", 555),
            (" BODY", 501),
            (" SMTPUTF8=1", 501),
            (" RET=ALL", 501),
            (" ENVID=a+2b", 501),
            (" ENVID=a+", 501),
            (" ENVID=a=b", 501),
            (" ENVID=é", 501),
            (&long, 501),
            (" AUTH=", 501),
            (" NOTIFY=NEVER", 555),
            (" X-FOO=1", 555),
            (" FOO", 555),
            (" -FOO", 501),
            (" =1", 501),
            (" F\u{e9}O=1", 501),
        ];
        for (text, want) in cases {
            assert_eq!(codes(mail(text)), *want, "{text:?}");
        }
    }

    #[test]
    fn rcpt_parameters() {
        let all = rcpt(" NOTIFY=success,DELAY,failure ORCPT=rfc822;Bob+2Bx@example.org");
        let notify = Notify { never: false, success: true, failure: true, delay: true };
        assert_eq!(all, Ok(RcptParams { notify, orcpt: Some("rfc822;Bob+2Bx@example.org".into()) }));
        let long = format!(" ORCPT=rfc822;{}", "x".repeat(500));
        let cases: &[(&str, u16)] = &[
            ("", 250),
            (" NOTIFY=NEVER", 250),
            (" ORCPT=utf-8;jürgen@example.org", 250),
            (" ORCPT=utf-8;j\\x{FC}rgen@example.org", 250),
            (" NOTIFY=NEVER,SUCCESS", 501),
            (" NOTIFY=NEVER,NEVER", 501),
            (" NOTIFY=", 501),
            (" NOTIFY=SUCCESS,", 501),
            (" NOTIFY=SOMETIMES", 501),
            (" NOTIFY=NEVER NOTIFY=NEVER", 501),
            (" ORCPT=bob@example.org", 501),
            (" ORCPT=;bob", 501),
            (" ORCPT=rfc822;", 501),
            (" ORCPT=rfc822;jürgen@example.org", 501),
            (" ORCPT=rfc822;a+zz", 501),
            (&long, 501),
            (" SIZE=1", 555),
        ];
        for (text, want) in cases {
            assert_eq!(codes(rcpt(text)), *want, "{text:?}");
        }
    }
}
