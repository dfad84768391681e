//! DKIM keys: made once per domain, never replaced; their public halves for DNS (RFC 6376 §3.6.1, RFC 8463 §4).
//!
//! Files `state/keys/DOMAIN.SELECTOR.rsa.pem` and `.ed25519.pem`, PKCS#8, mode 0600.

use crate::{
    cli::user::{Owner, write},
    disk,
};
use async_rustls::rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair},
};
use rsa::{
    PrivateKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey},
    rand_core::{TryCryptoRng, TryRng},
};
use std::path::Path;

/// What verifiers ask for at least, and what fits into DNS answers everywhere.
const RSA_BITS: usize = 2048;

/// One key's DNS record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    pub(super) selector: String,
    /// `v=DKIM1; k=…; p=…`
    pub(super) text: String,
}

/// The records of all keys that the folder has for this domain.
pub(super) fn records(folder: &Path, domain: &str) -> Result<Vec<Record>, String> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(format!("cannot read {}: {e}", folder.display())),
    };
    let mut out = Vec::new();
    for name in entries.flatten().filter_map(|e| e.file_name().into_string().ok()) {
        let Some((stem, kind)) = name.strip_suffix(".pem").and_then(|n| n.rsplit_once('.')) else { continue };
        let Some((of, selector)) = stem.rsplit_once('.') else { continue };
        if of != domain || !matches!(kind, "rsa" | "ed25519") {
            continue;
        }
        let path = folder.join(&name);
        let pem = disk::read(&path).map_err(|e| e.to_string())?;
        let public = public(kind, &pem).ok_or_else(|| format!("{} is not a {kind} key in PKCS#8", path.display()))?;
        out.push(Record { selector: selector.to_owned(), text: format!("v=DKIM1; k={kind}; p={public}") });
    }
    out.sort_by(|a, b| a.selector.cmp(&b.selector));
    Ok(out)
}

/// An RSA and an Ed25519 key: the one for those who know no other, the other because it is short and strong. Each has a
/// selector of its own, for a name in DNS holds one key. Takes a second or two.
pub(super) fn make(folder: &Path, domain: &str, selector: &str, owner: &Owner) -> Result<(), String> {
    let rsa = PrivateKey::new(&mut Random(SystemRandom::new()), RSA_BITS).map_err(|e| format!("cannot make an RSA key: {e}"))?;
    let der = rsa.to_pkcs8_der().map_err(|e| format!("cannot write an RSA key: {e}"))?;
    write(&folder.join(format!("{domain}.{selector}a.rsa.pem")), pem(der.as_bytes()).as_bytes(), owner)?;
    let ed = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| "cannot make an Ed25519 key".to_owned())?;
    write(&folder.join(format!("{domain}.{selector}b.ed25519.pem")), pem(ed.as_ref()).as_bytes(), owner)
}

/// The public half as `p=` wants it.
fn public(kind: &str, pem: &[u8]) -> Option<String> {
    let PrivateKeyDer::Pkcs8(der) = PrivateKeyDer::from_pem_slice(pem).ok()? else { return None };
    let der = der.secret_pkcs8_der();
    if kind == "rsa" {
        let key = PrivateKey::from_pkcs8_der(der).ok()?;
        return Some(STANDARD.encode(key.to_public_key().to_public_key_der().ok()?.as_bytes()));
    }
    let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
    Some(STANDARD.encode(key.public_key()))
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<String> = text.as_bytes().chunks(64).map(|l| String::from_utf8_lossy(l).into_owned()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

/// ring's random numbers in the form that rsa asks for.
struct Random(SystemRandom);

/// The system has no random numbers.
#[derive(Debug)]
struct NoRandom;

impl std::fmt::Display for NoRandom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no random numbers")
    }
}

impl std::error::Error for NoRandom {}

impl TryRng for Random {
    type Error = NoRandom;

    fn try_next_u32(&mut self) -> Result<u32, NoRandom> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }
    fn try_next_u64(&mut self) -> Result<u64, NoRandom> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }
    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), NoRandom> {
        self.0.fill(to).map_err(|_| NoRandom)
    }
}

impl TryCryptoRng for Random {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_read_and_published() {
        let folder = std::env::temp_dir().join(format!("gatepost-keys-{:x}", disk::unique()));
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(records(&folder.join("none"), "example.org"), Ok(vec![]));
        make(&folder, "example.org", "gp2026", &Owner { ids: None, mode: 0o600 }).unwrap();
        std::fs::write(folder.join("sub.example.org.x.rsa.pem"), "another domain's").unwrap();
        let made = records(&folder, "example.org").unwrap();
        let [rsa, ed] = &made[..] else { panic!("{made:?}") };
        assert_eq!((rsa.selector.as_str(), ed.selector.as_str()), ("gp2026a", "gp2026b"));
        // SubjectPublicKeyInfo of 2048 bits and exponent 65537; 32 bytes alone.
        assert!(rsa.text.starts_with("v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA") && rsa.text.ends_with("IDAQAB"), "{rsa:?}");
        assert_eq!(ed.text.len(), "v=DKIM1; k=ed25519; p=".len() + 44);
        // ring, which signs with them, takes both.
        let read = |name: &str| PrivateKeyDer::from_pem_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap();
        ring::signature::RsaKeyPair::from_pkcs8(read("example.org.gp2026a.rsa.pem").secret_der()).unwrap();
        Ed25519KeyPair::from_pkcs8(read("example.org.gp2026b.ed25519.pem").secret_der()).unwrap();
        let bad = std::fs::write(folder.join("example.org.z.rsa.pem"), "x");
        assert!(bad.is_ok() && records(&folder, "example.org").is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
