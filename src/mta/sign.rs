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
