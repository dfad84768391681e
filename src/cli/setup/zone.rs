//! DNS records as zone-file lines (RFC 1035 §5), ready to paste.

use super::keys::Record;
use std::{fmt::Write, net::IpAddr};

/// Lines for the host and each of its domains.
pub(super) fn lines(hostname: &str, addresses: &[IpAddr], domains: &[(String, Vec<Record>)]) -> String {
    let mut out = String::new();
    let mut line = |name: &str, kind: &str, value: &str| {
        let _ = writeln!(out, "{:<40} IN {kind:<4} {value}", format!("{name}."));
    };
    for address in addresses {
        line(hostname, if address.is_ipv4() { "A" } else { "AAAA" }, &address.to_string());
    }
    // Receivers look up the name in HELO as well (RFC 7208 §2.3). A domain of the same name has its own below.
    if domains.iter().all(|(domain, _)| domain != hostname) {
        line(hostname, "TXT", &text("v=spf1 a -all"));
    }
    for (domain, keys) in domains {
        line(domain, "MX", &format!("10 {hostname}."));
        line(domain, "TXT", &text("v=spf1 mx -all"));
        for key in keys {
            line(&format!("{}._domainkey.{domain}", key.selector), "TXT", &text(&key.text));
        }
        line(&format!("_dmarc.{domain}"), "TXT", &text(&format!("v=DMARC1; p=none; rua=mailto:postmaster@{domain}")));
        // RFC 6186, RFC 8314 §5.1: how mail programs find the servers.
        for (service, port) in [("_submissions", 465), ("_imaps", 993), ("_pop3s", 995)] {
            line(&format!("{service}._tcp.{domain}"), "SRV", &format!("0 1 {port} {hostname}."));
        }
    }
    out
}

/// Character strings of at most 255 bytes.
fn text(value: &str) -> String {
    let pieces: Vec<String> = value.as_bytes().chunks(255).map(|p| format!("\"{}\"", String::from_utf8_lossy(p))).collect();
    if pieces.len() > 1 { format!("( {} )", pieces.join(" ")) } else { pieces.concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone() {
        let key = Record { selector: "s".into(), text: "x".repeat(300) };
        let zone = lines("mail.example.org", &["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()], &[("example.org".into(), vec![key])]);
        let want = [
            "mail.example.org.                        IN A    192.0.2.1".to_owned(),
            "mail.example.org.                        IN AAAA 2001:db8::1".to_owned(),
            "mail.example.org.                        IN TXT  \"v=spf1 a -all\"".to_owned(),
            "example.org.                             IN MX   10 mail.example.org.".to_owned(),
            "example.org.                             IN TXT  \"v=spf1 mx -all\"".to_owned(),
            format!("s._domainkey.example.org.                IN TXT  ( \"{}\" \"{}\" )", "x".repeat(255), "x".repeat(45)),
            "_dmarc.example.org.                      IN TXT  \"v=DMARC1; p=none; rua=mailto:postmaster@example.org\"".to_owned(),
            "_submissions._tcp.example.org.           IN SRV  0 1 465 mail.example.org.".to_owned(),
            "_imaps._tcp.example.org.                 IN SRV  0 1 993 mail.example.org.".to_owned(),
            "_pop3s._tcp.example.org.                 IN SRV  0 1 995 mail.example.org.".to_owned(),
        ];
        assert_eq!(zone.lines().collect::<Vec<_>>(), want);
    }
}
