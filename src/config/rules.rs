//! What fits together: combinations of values that each are fine alone.

use super::{Config, Route, RouteTls, load::Loader};
use std::{collections::HashMap, net::SocketAddr, time::Duration};

/// The services that ask for passwords, and so for a certificate.
fn private(config: &Config) -> [(&'static str, &[SocketAddr]); 6] {
    let l = &config.listen;
    [
        ("listen.submission", &l.submission),
        ("listen.submissions", &l.submissions),
        ("listen.imap", &l.imap),
        ("listen.imaps", &l.imaps),
        ("listen.pop3", &l.pop3),
        ("listen.pop3s", &l.pop3s),
    ]
}

/// Adds to the loader's problems; fills in the host name.
pub(super) fn check(loader: &mut Loader) {
    names(loader);
    certificate(loader);
    sockets(loader);
    queue(loader);
    for number in 0..loader.config.routes.len() {
        route(loader, number);
    }
}

/// An error at a key, or at the file when the key was not set.
fn error(loader: &mut Loader, path: &str, key: &str, text: &str) {
    let place = loader.places.get(path).cloned();
    loader.problem(place.as_ref(), false, format!("{key}: {text}"));
}

fn names(loader: &mut Loader) {
    if loader.config.hostname.is_empty() {
        let system = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
        match super::value::host(&system) {
            Ok(name) if name.contains('.') => loader.config.hostname = name,
            _ => {
                let text = format!("is missing, and the system's own name {system:?} is not a full one: set hostname = \"mail.example.org\"");
                error(loader, "hostname", "hostname", &text);
            }
        }
    } else if !loader.config.hostname.contains('.') {
        error(loader, "hostname", "hostname", "must be a full name with a dot: write \"mail.example.org\"");
    }
    if loader.config.domains.is_empty() {
        error(loader, "domains", "domains", "name at least one domain whose mail is yours: domains = [\"example.org\"]");
    }
    let mut seen = Vec::new();
    for domain in loader.config.domains.clone() {
        if seen.contains(&domain) {
            error(loader, "domains", "domains", &format!("{domain} stands twice: remove one of them"));
        }
        seen.push(domain);
    }
}

fn certificate(loader: &mut Loader) {
    let tls = &loader.config.tls;
    match (&tls.cert, &tls.key) {
        (Some(_), Some(_)) => {}
        (Some(_), None) => error(loader, "tls.cert", "tls.key", "is missing beside tls.cert: set key to the file of the private key"),
        (None, Some(_)) => error(loader, "tls.key", "tls.cert", "is missing beside tls.key: set cert to the file of the certificate"),
        (None, None) => {
            let open: Vec<&str> = private(&loader.config).iter().filter(|(_, l)| !l.is_empty()).map(|(name, _)| *name).collect();
            if let Some(first) = open.first().copied() {
                let named = open.iter().map(|p| p.trim_start_matches("listen.")).collect::<Vec<_>>().join(", ");
                let text = format!(
                    "is missing, but {named} need a certificate: set cert and key under [tls] (gatepost setup makes a first one), \
                     or switch them off under [listen] with {} = []",
                    first.trim_start_matches("listen.")
                );
                error(loader, open.iter().find(|p| loader.places.contains_key(**p)).copied().unwrap_or(first), "tls.cert", &text);
            }
        }
    }
}

fn sockets(loader: &mut Loader) {
    let mut all = vec![("listen.smtp", loader.config.listen.smtp.clone())];
    all.extend(private(&loader.config).map(|(name, list)| (name, list.to_vec())));
    let mut taken: HashMap<SocketAddr, &str> = HashMap::new();
    for (name, list) in all {
        for address in list {
            if let Some(other) = taken.insert(address, name) {
                error(loader, name, name, &format!("{address} is taken by {other} already: give each its own port"));
            }
        }
    }
}

fn queue(loader: &mut Loader) {
    let q = loader.config.queue.clone();
    let zero = [
        ("queue.retry", q.retry),
        ("queue.lifetime", q.lifetime),
        ("smtp.timeout", loader.config.smtp.timeout),
        ("dns.timeout", loader.config.dns.timeout),
    ];
    for (path, value) in zero {
        if value == Duration::ZERO {
            error(loader, path, path, "must be longer than nothing");
        }
    }
    if q.retry > q.retry_max {
        let path = if loader.places.contains_key("queue.retry-max") { "queue.retry-max" } else { "queue.retry" };
        error(loader, path, "queue.retry-max", "must not be shorter than queue.retry");
    }
    if q.warn_after >= q.lifetime && q.warn_after != Duration::ZERO {
        let path = if loader.places.contains_key("queue.warn-after") { "queue.warn-after" } else { "queue.lifetime" };
        error(loader, path, "queue.warn-after", "must be shorter than queue.lifetime, or \"0\" for never");
    }
    if loader.config.limits.message_size < 64 << 10 {
        error(loader, "limits.message-size", "limits.message-size", "must be at least \"64K\" (RFC 5321 section 4.5.3.1.7)");
    }
}

fn route(loader: &mut Loader, number: usize) {
    let Some(route) = loader.config.routes.get(number).cloned() else { return };
    let here = format!("route.{number}");
    let at = |key: &str| format!("{here}.{key}");
    if route.user.is_some() && route.password_file.is_none() {
        error(loader, &at("user"), "route.password-file", "is missing beside user: set it to the file whose first line is the password");
    }
    if route.password_file.is_some() && route.user.is_none() {
        error(loader, &at("password-file"), "route.user", "is missing beside password-file: set the name to log in with");
    }
    if route.user.is_some() && route.via.is_none() {
        error(loader, &at("user"), "route.via", "is missing beside user: name the host to log in at, via = \"smtp.example.org:587\"");
    }
    if route.user.is_some() && route.tls == RouteTls::Never {
        error(loader, &at("tls"), "route.tls", "\"never\" would send the password in the clear: write \"require\" or \"implicit\"");
    }
    if route.via.is_none() && route.tls == RouteTls::Implicit {
        error(loader, &at("tls"), "route.tls", "\"implicit\" needs via: no MX speaks TLS from the first byte");
    }
    if matches!(&route.via, Some((_, 465))) && matches!(route.tls, RouteTls::May | RouteTls::Require) {
        error(loader, &at("via"), "route.tls", "port 465 speaks TLS from the first byte: write tls = \"implicit\"");
    }
    let earlier = loader.config.routes.iter().take(number).position(matches_all);
    if let Some(earlier) = earlier {
        let line = loader.places.get(&format!("route.{earlier}")).map_or(0, |p| p.line);
        let place = loader.places.get(&here).cloned();
        loader.problem(
            place.as_ref(),
            true,
            format!("route: is never reached, for the route in line {line} takes all mail: move that one to the end"),
        );
    }
}

/// Takes all mail, whatever comes after it.
fn matches_all(route: &Route) -> bool {
    (route.to.is_empty() || route.to.iter().any(|t| t == "*")) && route.from.is_empty()
}
