//! DKIM signatures (RFC 6376, RFC 8463) on mail of our domains.
//!
//! Every key in `state/keys` named `DOMAIN.SELECTOR.rsa.pem` or `DOMAIN.SELECTOR.ed25519.pem` signs the mail whose
//! author (From) is of that domain; two kinds of key give two signatures. Keys are read at start and on reload,
//! before the sandbox closes, and stay in memory.

use super::head::SIGNED;
use crate::{config::Problem, disk};
use async_rustls::rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use mail_auth::{
    common::{
        crypto::{Algorithm, DkimKey, Ed25519Key, RsaKey, Sha256, SigningKey},
        headers::{HeaderWriter, Writable},
    },
    dkim::{Canonicalization, DkimSigner},
};
use std::{collections::HashMap, path::Path, sync::Arc};

/// The keys of all domains.
#[derive(Default, Clone)]
pub struct Keys(HashMap<String, Vec<Key>>);

#[derive(Clone)]
struct Key {
    selector: String,
    key: Shared,
}

/// A key that signers can share.
#[derive(Clone)]
struct Shared(Arc<DkimKey>);

impl SigningKey for Shared {
    type Hasher = Sha256;

    fn sign(&self, input: impl Writable) -> mail_auth::Result<Vec<u8>> {
        self.0.sign(input)
    }
    fn algorithm(&self) -> Algorithm {
        self.0.algorithm()
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Keys {
    /// Reads the folder; blocking. A file that is no key is a warning: mail then goes unsigned by it. No folder: no keys.
    pub fn load(dir: &Path) -> (Self, Vec<Problem>) {
        let (mut keys, mut problems) = (Self::default(), Vec::new());
        let mut names: Vec<String> = match disk::list(dir) {
            Ok(items) => items.into_iter().filter_map(|(name, _)| name.into_string().ok()).collect(),
            Err(e) if e.is_not_found() => return (keys, problems),
            Err(e) => {
                problems.push(Problem { file: dir.to_owned(), line: 0, text: e.to_string(), warning: true });
                return (keys, problems);
            }
        };
        names.sort();
        for name in names {
            let Some((stem, kind)) = name.strip_suffix(".pem").and_then(|s| s.rsplit_once('.')) else { continue };
            let (Some((domain, selector)), "rsa" | "ed25519") = (stem.rsplit_once('.'), kind) else { continue };
            let path = dir.join(&name);
            let key = disk::read(&path).map_err(|e| e.to_string()).and_then(|pem| parse(&pem, kind));
            match key {
                Ok(key) => keys.0.entry(domain.to_ascii_lowercase()).or_default().push(Key { selector: selector.to_owned(), key }),
                Err(why) => problems.push(Problem { file: path, line: 0, text: format!("not a usable {kind} key: {why}"), warning: true }),
            }
        }
        (keys, problems)
    }

    /// `(domain, selector)` of every key, for the log.
    pub fn names(&self) -> Vec<(&str, &str)> {
        let mut names: Vec<_> = self.0.iter().flat_map(|(d, keys)| keys.iter().map(|k| (d.as_str(), k.selector.as_str()))).collect();
        names.sort_unstable();
        names
    }

    pub(super) fn has(&self, domain: &str) -> bool {
        self.0.contains_key(domain)
    }

    /// DKIM-Signature fields for a message that is `added` header fields and then `message`; `present` are the fields
    /// of [`SIGNED`] that it has. Long CPU: for the job. A key that fails is left out and named in the second list.
    pub(super) fn sign(&self, domain: &str, present: &[&str], added: &[u8], message: &[u8]) -> (String, Vec<String>) {
        let (mut fields, mut failed) = (String::new(), Vec::new());
        // From once more than it occurs: a second From cannot be added. Not so the others, which lists may add.
        let list: Vec<&str> = SIGNED.into_iter().filter(|s| present.contains(s)).chain(["from"]).collect();
        for k in self.0.get(domain).into_iter().flatten() {
            let signer = DkimSigner::from_key(k.key.clone())
                .domain(domain)
                .selector(&k.selector)
                .headers(list.iter().copied())
                .header_canonicalization(Canonicalization::Relaxed)
                .body_canonicalization(Canonicalization::Relaxed);
            match signer.sign_chained([added, message]) {
                Ok(signature) => fields.push_str(&signature.to_header()),
                Err(e) => failed.push(format!("{}: {e}", k.selector)),
            }
        }
        (fields, failed)
    }
}

fn parse(pem: &[u8], kind: &str) -> Result<Shared, String> {
    let der = PrivateKeyDer::from_pem_slice(pem).map_err(|e| e.to_string())?;
    let key = match (kind, der) {
        ("rsa", der) => RsaKey::<Sha256>::from_key_der(der).map(DkimKey::from),
        // openssl writes version 1, without the public key that would be checked.
        (_, PrivateKeyDer::Pkcs8(der)) => Ed25519Key::from_pkcs8_maybe_unchecked_der(der.secret_pkcs8_der()).map(DkimKey::from),
        _ => return Err("PKCS#8 is wanted (BEGIN PRIVATE KEY)".to_owned()),
    };
    key.map(|k| Shared(Arc::new(k))).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use hickory_resolver::config::{ResolverConfig, ResolverOpts};
    use mail_auth::{
        AuthenticatedMessage, DkimResult, MX, MessageAuthenticator, Parameters, RecordSet, ResolverCache, Txt,
        common::{parse::TxtRecordParser, verify::DomainKey},
    };
    use std::{borrow::Borrow, cell::RefCell, hash::Hash, net::IpAddr, time::Instant};

    const RSA: &[u8] = include_bytes!("../../tests/keys/dkim-test-only.rsa.pem");
    const ED25519: &[u8] = include_bytes!("../../tests/keys/dkim-test-only.ed25519.pem");

    /// DNS as a table.
    struct Records<V>(RefCell<HashMap<Box<str>, V>>);

    impl<V: Clone> ResolverCache<Box<str>, V> for Records<V> {
        fn get<Q>(&self, name: &Q) -> Option<V>
        where
            Box<str>: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
        {
            self.0.borrow().get(name).cloned()
        }
        fn remove<Q>(&self, _: &Q) -> Option<V>
        where
            Box<str>: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
        {
            None
        }
        fn insert(&self, _: Box<str>, _: V, _: Instant) {}
    }

    struct NoAddresses;
    impl ResolverCache<IpAddr, RecordSet<Box<str>>> for NoAddresses {
        fn get<Q>(&self, _: &Q) -> Option<RecordSet<Box<str>>>
        where
            IpAddr: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
        {
            None
        }
        fn remove<Q>(&self, _: &Q) -> Option<RecordSet<Box<str>>>
        where
            IpAddr: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
        {
            None
        }
        fn insert(&self, _: IpAddr, _: RecordSet<Box<str>>, _: Instant) {}
    }

    fn keys() -> Keys {
        let key = |selector: &str, pem, kind| Key { selector: selector.into(), key: parse(pem, kind).expect("a key") };
        Keys(HashMap::from([("example.org".to_owned(), vec![key("a", RSA, "rsa"), key("b", ED25519, "ed25519")])]))
    }

    fn record(key: &Shared) -> Txt {
        let (kind, public) = match &*key.0 {
            DkimKey::Rsa(k) => ("rsa", k.public_key()),
            DkimKey::Ed25519(k) => ("ed25519", k.public_key()),
        };
        let text = format!("v=DKIM1; k={kind}; p={}", BASE64_STANDARD.encode(public));
        Txt::DomainKey(Arc::new(DomainKey::parse(text.as_bytes()).expect("a record")))
    }

    /// What a receiver finds, one result per signature.
    fn verify(keys: &Keys, message: &[u8]) -> Vec<bool> {
        let records = |k: &Key| (format!("{}._domainkey.example.org.", k.selector).into_boxed_str(), record(&k.key));
        let txt = Records(RefCell::new(keys.0["example.org"].iter().map(records).collect()));
        let verifier = MessageAuthenticator::new(ResolverConfig::default(), ResolverOpts::default()).expect("a verifier");
        let parsed = AuthenticatedMessage::parse(message).expect("a message");
        let mx = Records::<RecordSet<MX>>(RefCell::default());
        let v4 = Records::<RecordSet<std::net::Ipv4Addr>>(RefCell::default());
        let v6 = Records::<RecordSet<std::net::Ipv6Addr>>(RefCell::default());
        let parameters =
            Parameters::new(&parsed).with_txt_cache(&txt).with_mx_cache(&mx).with_ipv4_cache(&v4).with_ipv6_cache(&v6).with_ptr_cache(&NoAddresses);
        smol::block_on(verifier.verify_dkim(parameters)).iter().map(|o| *o.result() == DkimResult::Pass).collect()
    }

    #[test]
    fn receivers_verify_both_signatures_and_see_changes() {
        const ADDED: &str = "Date: Tue, 24 Nov 2026 11:35:46 +0000\r\nMessage-ID: <1@example.org>\r\n";
        const MESSAGE: &str = "From: Alice <alice@example.org>\r\nTo: Bob\r\n <bob@example.net>\r\nSubject:  x  y\r\n\r\nhello \r\n\r\n";
        let (signatures, failed) = keys().sign("example.org", &["from", "to", "subject", "date", "message-id"], ADDED.as_bytes(), MESSAGE.as_bytes());
        assert!(failed.is_empty(), "{failed:?}");
        let signed = format!("{signatures}Received: by us\r\n{ADDED}{MESSAGE}");
        let changed = |from: &str, to: &str| {
            let other = signed.replacen(from, to, 1);
            assert_ne!(other, signed);
            verify(&keys(), other.as_bytes())
        };
        assert_eq!(verify(&keys(), signed.as_bytes()), [true, true], "{signed}");
        // On the way hops are added, lines folded anew and spaces lost.
        assert_eq!(changed("Received: by us", "Received: by them\r\nReceived: by us\r\nX-Other: y"), [true, true]);
        assert_eq!(changed("Subject:  x  y", "Subject: x\r\n y"), [true, true]);
        assert_eq!(changed("hello \r\n\r\n", "hello\r\n"), [true, true]);
        // Lists may add what was not there.
        assert_eq!(changed("To: Bob", "Reply-To: list@example.net\r\nTo: Bob"), [true, true]);
        assert_eq!(changed("hello", "hullo"), [false, false]);
        assert_eq!(changed("x  y", "z"), [false, false]);
        assert_eq!(changed("2026", "2027"), [false, false]);
        assert_eq!(changed("From: Alice", "From: eve@example.org\r\nFrom: Alice"), [false, false], "oversigned");
        assert!(!signatures.contains(" l="), "{signatures}");
    }

    #[test]
    fn keys_are_found_by_their_names() {
        let dir = std::env::temp_dir().join(format!("gatepost-keys-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        assert!(Keys::load(&dir).0.names().is_empty());
        std::fs::create_dir_all(&dir).expect("made");
        for (name, text) in [
            ("example.org.gp2026a.rsa.pem", RSA),
            ("example.org.gp2026b.ed25519.pem", ED25519),
            ("Sub.Example.org.x.rsa.pem", RSA),
            ("example.org.bad.rsa.pem", b"no key".as_slice()),
            ("example.org.wrong.ed25519.pem", RSA),
            ("account.acme.pem", RSA),
            ("README", b"x"),
        ] {
            std::fs::write(dir.join(name), text).expect("written");
        }
        let (keys, problems) = Keys::load(&dir);
        assert_eq!(keys.names(), [("example.org", "gp2026a"), ("example.org", "gp2026b"), ("sub.example.org", "x")]);
        assert!(problems.len() == 2 && problems.iter().all(|p| p.warning), "{problems:?}");
        assert!(!format!("{keys:?}").contains("PRIVATE"));
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
