//! Password schemes, in the words of Dovecot: `{SCHEME}hash`, or a bare crypt(3) string.
//!
//! A hash is checked for form and cost when `users` is read, so that a login never meets a broken one.

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{digest, hmac, pbkdf2, rand::SecureRandom};
use std::{fmt, num::NonZeroU32};

/// What stands in a user's line.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    /// PHC string, Argon2id or Argon2i.
    Argon2(String),
    /// `$5$` or `$6$`.
    ShaCrypt(String),
    /// `$y$`
    Yescrypt(String),
    /// `$2y$`, `$2b$`, `$2a$`
    Bcrypt(String),
    /// RFC 5803 and RFC 7677: iterations, salt, StoredKey, ServerKey.
    Scram {
        iterations: NonZeroU32,
        salt: Vec<u8>,
        stored_key: Vec<u8>,
        server_key: Vec<u8>,
    },
    Plain(String),
    /// `!` or `*`: mail is delivered, nobody logs in.
    Locked,
}

/// The hash is a secret too.
impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}REDACTED", self.name())
    }
}

/// A scheme that [`make`] can write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scheme {
    Argon2id,
    Sha512Crypt,
    Bcrypt,
    Yescrypt,
    ScramSha256,
}

/// Names for `gatepost user --scheme`.
pub(crate) const SCHEMES: &[(&str, Scheme)] = &[
    ("ARGON2ID", Scheme::Argon2id),
    ("SHA512-CRYPT", Scheme::Sha512Crypt),
    ("BLF-CRYPT", Scheme::Bcrypt),
    ("CRYPT", Scheme::Yescrypt),
    ("SCRAM-SHA-256", Scheme::ScramSha256),
];

/// What may stand in braces.
pub(crate) const SUPPORTED: &str = "ARGON2ID, ARGON2I, SHA512-CRYPT, SHA256-CRYPT, BLF-CRYPT, CRYPT, SCRAM-SHA-256, PLAIN";

/// Memory of one verification, KiB. More would let two logins exhaust a small host.
const MAX_MEMORY: u64 = 1 << 20;
/// Rounds of SHA-crypt: seconds on a small host.
const MAX_ROUNDS: u32 = 10_000_000;
const MAX_BCRYPT_COST: u32 = 16;
const MAX_SCRAM: u32 = 10_000_000;

impl Stored {
    /// From the second field of a line. The error says what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if matches!(text, "!" | "*" | "!!") {
            return Ok(Self::Locked);
        }
        let Some((scheme, hash)) = text.strip_prefix('{').and_then(|t| t.split_once('}')) else {
            return if text.starts_with('$') {
                crypt(text)
            } else {
                Err(format!("the password has no {{SCHEME}}: gatepost user passwd writes one ({SUPPORTED})"))
            };
        };
        let name = scheme.to_ascii_uppercase();
        match name.as_str() {
            "ARGON2ID" if hash.starts_with("$argon2id$") => argon(hash),
            "ARGON2I" if hash.starts_with("$argon2i$") => argon(hash),
            "SHA512-CRYPT" if hash.starts_with("$6$") => crypt(hash),
            "SHA256-CRYPT" if hash.starts_with("$5$") => crypt(hash),
            "BLF-CRYPT" if hash.starts_with("$2") => crypt(hash),
            "CRYPT" => crypt(hash),
            "SCRAM-SHA-256" => scram(hash),
            "PLAIN" | "CLEARTEXT" if hash.is_empty() => Err("the password is empty".into()),
            "PLAIN" | "CLEARTEXT" => Ok(Self::Plain(hash.to_owned())),
            "ARGON2ID" | "ARGON2I" | "SHA512-CRYPT" | "SHA256-CRYPT" | "BLF-CRYPT" => Err(format!("what follows {{{scheme}}} is no such hash")),
            _ => Err(format!("{{{scheme}}} is not supported: {SUPPORTED} are")),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Argon2(h) if h.starts_with("$argon2i$") => "ARGON2I",
            Self::Argon2(_) => "ARGON2ID",
            Self::ShaCrypt(h) if h.starts_with("$5$") => "SHA256-CRYPT",
            Self::ShaCrypt(_) => "SHA512-CRYPT",
            Self::Yescrypt(_) => "CRYPT",
            Self::Bcrypt(_) => "BLF-CRYPT",
            Self::Scram { .. } => "SCRAM-SHA-256",
            Self::Plain(_) => "PLAIN",
            Self::Locked => "locked",
        }
    }

    /// Constant time for a given stored value; up to seconds of CPU: never on the executor thread.
    pub(crate) fn verify(&self, password: &str) -> bool {
        // Non-ASCII passwords were hashed as typed by most tools, and prepared (RFC 4013) by SCRAM and by ours.
        let prepared = stringprep::saslprep(password).ok().filter(|p| p != password);
        let typed = self.verify_bytes(password.as_bytes());
        typed | prepared.is_some_and(|p| self.verify_bytes(p.as_bytes()))
    }

    fn verify_bytes(&self, password: &[u8]) -> bool {
        match self {
            Self::Argon2(hash) => Argon2::default().verify_password(password, hash.as_str()).is_ok(),
            Self::ShaCrypt(hash) => sha_crypt::PasswordVerifier::verify_password(&sha_crypt::ShaCrypt::default(), password, hash.as_str()).is_ok(),
            Self::Yescrypt(hash) => yescrypt::PasswordVerifier::verify_password(&yescrypt::Yescrypt::default(), password, hash.as_str()).is_ok(),
            // Longer passwords are cut at 72 bytes, as everywhere with bcrypt.
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Scram { iterations, salt, server_key, .. } => {
                let salted = salted(password, salt, *iterations);
                hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &salted), b"Server Key", server_key).is_ok()
            }
            Self::Plain(stored) => {
                // Compared by their MACs under a key nobody knows: the time says nothing about either.
                let Ok(key) = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new()) else { return false };
                hmac::verify(&key, password, hmac::sign(&key, stored.as_bytes()).as_ref()).is_ok()
            }
            Self::Locked => false,
        }
    }
}

fn crypt(hash: &str) -> Result<Stored, String> {
    let fields: Vec<&str> = hash.split('$').skip(1).collect();
    match fields.first().copied() {
        Some("6" | "5") => sha(hash, &fields),
        Some("2a" | "2b" | "2y") => {
            let parts: bcrypt::HashParts = hash.parse().map_err(|_| "the bcrypt hash is not whole: $2y$COST$ and 53 characters".to_owned())?;
            if parts.get_cost() > MAX_BCRYPT_COST || parts.get_cost() < 4 {
                return Err(format!("bcrypt cost {} is not from 4 to {MAX_BCRYPT_COST}", parts.get_cost()));
            }
            Ok(Stored::Bcrypt(hash.to_owned()))
        }
        Some("y") => yes(hash, &fields),
        Some("argon2id" | "argon2i") => argon(hash),
        Some("1") => Err("$1$ (MD5) can be guessed too fast and is not supported: set a new password with gatepost user passwd".into()),
        Some(other) if hash.starts_with('$') => Err(format!("crypt method ${other}$ is not supported: $y$, $6$, $5$ and $2y$ are")),
        _ => Err("is not a crypt(3) hash: it would begin with $y$, $6$, $5$ or $2y$".into()),
    }
}

fn sha(hash: &str, fields: &[&str]) -> Result<Stored, String> {
    let (rounds, salt, digest) = match *fields {
        [_, salt, digest] => (None, salt, digest),
        [_, rounds, salt, digest] => (Some(rounds), salt, digest),
        _ => return Err("the SHA-crypt hash is not whole: $6$SALT$HASH".into()),
    };
    if let Some(rounds) = rounds {
        let n = rounds.strip_prefix("rounds=").and_then(|r| r.parse::<u32>().ok()).filter(|n| (1000..=MAX_ROUNDS).contains(n));
        n.ok_or_else(|| format!("SHA-crypt rounds must be from 1000 to {MAX_ROUNDS}"))?;
    }
    let length = if hash.starts_with("$6$") { 86 } else { 43 };
    if digest.len() != length || salt.len() > 16 || !digest.bytes().all(crypt64) {
        return Err(format!("the SHA-crypt hash is not whole: at most 16 characters of salt, {length} of hash"));
    }
    Ok(Stored::ShaCrypt(hash.to_owned()))
}

fn yes(hash: &str, fields: &[&str]) -> Result<Stored, String> {
    let [_, params, salt, digest] = *fields else { return Err("the yescrypt hash is not whole: $y$PARAMETERS$SALT$HASH".into()) };
    // One character each: log2 N - 1 and r - 1 (crypt(5)); larger values need more, and more memory than we lend.
    let value = |at: usize| params.as_bytes().get(at).and_then(|c| crypt64_value(*c)).filter(|v| *v < 48);
    let memory = value(1).zip(value(2)).map(|(n, r)| (128u64 << (n + 1).min(40)) * (r + 1) / 1024);
    if memory.is_none_or(|m| m > MAX_MEMORY) || params.parse::<yescrypt::Params>().is_err() {
        return Err("the yescrypt parameters are unknown or need more than 1 GiB of memory".into());
    }
    if digest.len() != 43 || !digest.bytes().all(crypt64) || !salt.bytes().all(crypt64) || salt.is_empty() {
        return Err("the yescrypt hash is not whole: 43 characters of hash".into());
    }
    Ok(Stored::Yescrypt(hash.to_owned()))
}

fn crypt64(c: u8) -> bool {
    crypt64_value(c).is_some()
}

fn crypt64_value(c: u8) -> Option<u64> {
    const DIGITS: &[u8] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    DIGITS.iter().position(|d| *d == c).map(|p| p as u64)
}

fn argon(hash: &str) -> Result<Stored, String> {
    let bad = |_| "the Argon2 hash is not whole: $argon2id$v=19$m=…,t=…,p=…$SALT$HASH".to_owned();
    let parsed = argon2::password_hash::phc::PasswordHash::new(hash).map_err(|_| bad(()))?;
    let params = Params::try_from(&parsed).map_err(|_| bad(()))?;
    if parsed.hash.is_none() || parsed.salt.is_none() {
        return Err(bad(()));
    }
    if u64::from(params.m_cost()) > MAX_MEMORY || params.t_cost() > 1000 {
        return Err("this Argon2 hash needs more than 1 GiB of memory or 1000 passes for each login".into());
    }
    Ok(Stored::Argon2(hash.to_owned()))
}

fn scram(text: &str) -> Result<Stored, String> {
    let bad = || "after {SCRAM-SHA-256} stand ITERATIONS,SALT,STOREDKEY,SERVERKEY, the last three in base64".to_owned();
    let mut fields = text.split(',');
    let iterations = fields.next().and_then(|f| f.parse::<NonZeroU32>().ok()).ok_or_else(bad)?;
    let mut key = || fields.next().and_then(|f| STANDARD.decode(f).ok()).filter(|k| !k.is_empty()).ok_or_else(bad);
    let (salt, stored_key, server_key) = (key()?, key()?, key()?);
    if fields.next().is_some() || stored_key.len() != 32 || server_key.len() != 32 {
        return Err(bad());
    }
    if iterations.get() > MAX_SCRAM {
        return Err(format!("more than {MAX_SCRAM} iterations"));
    }
    Ok(Stored::Scram { iterations, salt, stored_key, server_key })
}

fn salted(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> [u8; 32] {
    let mut out = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, &mut out);
    out
}

/// `{SCHEME}hash` with a fresh salt. Slow like [`Stored::verify`]. The error is fit for a person.
pub(crate) fn make(scheme: Scheme, password: &str) -> Result<String, String> {
    let prepared =
        stringprep::saslprep(password).map_err(|_| "the password holds characters that cannot be typed everywhere (RFC 4013)".to_owned())?;
    let bytes = prepared.as_bytes();
    let mut salt = [0; 16];
    ring::rand::SystemRandom::new().fill(&mut salt).map_err(|_| "no random numbers".to_owned())?;
    let failed = |e: &dyn fmt::Display| format!("cannot hash the password: {e}");
    Ok(match scheme {
        Scheme::Argon2id => {
            // OWASP's smallest: 19 MiB, 2 passes. Two at a time leave room on a Raspberry Pi.
            let params = Params::new(19 * 1024, 2, 1, Some(32)).map_err(|e| failed(&e))?;
            let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_with_salt(bytes, &salt).map_err(|e| failed(&e))?;
            format!("{{ARGON2ID}}{hash}")
        }
        Scheme::Sha512Crypt => {
            use sha_crypt::PasswordHasher as _;
            // 12 bytes are the 16 characters that crypt(3) keeps.
            let salt = salt.get(..12).unwrap_or_default();
            let hash = sha_crypt::ShaCrypt::default().hash_password_with_salt(bytes, salt).map_err(|e| failed(&e))?;
            format!("{{SHA512-CRYPT}}{}", hash.as_str())
        }
        Scheme::Bcrypt => {
            if bytes.len() > 72 {
                return Err("bcrypt looks at 72 bytes only: take a shorter password or another scheme".into());
            }
            let hash = bcrypt::hash_with_salt(bytes, 10, salt).map_err(|e| failed(&e))?;
            format!("{{BLF-CRYPT}}{}", hash.format_for_version(bcrypt::Version::TwoY))
        }
        Scheme::Yescrypt => {
            use yescrypt::PasswordHasher as _;
            let hash = yescrypt::Yescrypt::default().hash_password_with_salt(bytes, &salt).map_err(|e| failed(&e))?;
            format!("{{CRYPT}}{}", hash.as_str())
        }
        Scheme::ScramSha256 => {
            let iterations = NonZeroU32::new(15_000).expect("not zero");
            let key = hmac::Key::new(hmac::HMAC_SHA256, &salted(bytes, &salt, iterations));
            let stored = digest::digest(&digest::SHA256, hmac::sign(&key, b"Client Key").as_ref());
            let server = hmac::sign(&key, b"Server Key");
            format!("{{SCRAM-SHA-256}}{iterations},{},{},{}", STANDARD.encode(salt), STANDARD.encode(stored), STANDARD.encode(server))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by crypt(3) and `doveadm pw`; all of `sesame`.
    const REAL: &[(&str, &str)] = &[
        ("{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$rxSnh/R/KhGdoFeAgR+A0g$UYK9NqVxVYcrl4pEulL1qsAc7A1D9VA9FPbE8Ki9PU4", "ARGON2ID"),
        ("{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$DJW1JHBO3zuImml+5YoRDg$/kYJsYHlaIWNF/BleQnGtRFuUTBetVYRykkhzZE4//U", "ARGON2I"),
        ("{SHA512-CRYPT}$6$rJSQNF1or0LpoMfV$1KqGZLUv6Vb1qLtMgRQOxpgwFbPUL2nOrUISrhJZr9p22eDlpbB.gaYLVmo.jlE7ANgKA0p5ycwWYqoHbVt6G1", "SHA512-CRYPT"),
        ("{SHA256-CRYPT}$5$qOevg1q09t30oQF6$6admcZrfdpen86IEi3r8KpQm9tvk5qR.dDCUjtN.y.9", "SHA256-CRYPT"),
        ("{BLF-CRYPT}$2y$05$Tpo6yf3ehPgsRe3/s/X.cu2YOVb0nHg.NWbDTdP7wTIzeDT9Lh6h6", "BLF-CRYPT"),
        ("{blf-crypt}$2y$05$Tpo6yf3ehPgsRe3/s/X.cu2YOVb0nHg.NWbDTdP7wTIzeDT9Lh6h6", "BLF-CRYPT"),
        ("{CRYPT}$2y$05$4Pb/CGoHwtLMQGwjj/XfcOc4zJwFCD8GSHUDuiSZNTCtVBKvNcPC2", "BLF-CRYPT"),
        ("$2b$05$abcdefghijklmnopqrstuuKcS.CYWVYVaLiiCKrrc0A5s3mGesJ9O", "BLF-CRYPT"),
        ("{CRYPT}$y$j9T$F5Jx5fExrKuPp53xLKQ..1$2XG8TbeFGEUHepjXSRRwTEN/pknneEfp/PquC6DSDN4", "CRYPT"),
        ("$y$j9T$F5Jx5fExrKuPp53xLKQ..1$2XG8TbeFGEUHepjXSRRwTEN/pknneEfp/PquC6DSDN4", "CRYPT"),
        ("$6$saltstring$zw6YcBRuwlGueZoWIkK6CRJbQmJbhVf1zPxCfDBsJpbBlxfJ610F8Vp0i93QFh0AmoYe0z/GrJISxBfRQSsGe1", "SHA512-CRYPT"),
        ("$6$rounds=10000$saltsalt$YWCT9GRLWj4AMT7mYes9xDgvd3f5YUZbCzHbsKtuqGxLUpAszsArDy2zWyjfO/w3EKdMflI9Z7ck97BCxjypw.", "SHA512-CRYPT"),
        ("{CRYPT}$5$rounds=1400$anotherlongsalt$.88jQHAt1ZAxBcyFzhur7uTIalNAMn1VYv7s2l/a6l1", "SHA256-CRYPT"),
        (
            "{SCRAM-SHA-256}4096,3z1rqBIazJXLQK3kOQMd+A==,YNSuhcj0aqFu7E0g39Jle5SNzO1bvQj9Qs1AcCJ5Q8s=,K6Ge4YuCT6mj8WQur3CmL8hhzOCmPoG9f6aEVgC6jNI=",
            "SCRAM-SHA-256",
        ),
        ("{PLAIN}sesame", "PLAIN"),
    ];

    #[test]
    fn verifies_what_others_hashed() {
        for (text, name) in REAL {
            let stored = Stored::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(stored.name(), *name, "{text}");
            assert!(stored.verify("sesame"), "{text}");
            assert!(!stored.verify("Sesame") && !stored.verify(""), "{text}");
            assert!(!format!("{stored:?}").contains("$") && !format!("{stored:?}").contains("sesame"));
        }
    }

    #[test]
    fn a_password_beyond_ascii_is_tried_as_typed_and_prepared() {
        // crypt(3) of the UTF-8 bytes; U+00FC typed as one character or as u and U+0308.
        let typed = Stored::parse("$6$saltstring$mZ2kqPm0Zn/B5PNupd1SAQ3j6ZusGkgxvor.fQY5620WwBO9fDAq175.O7ZZ0seU7LL5xXfmpHR5Ixsatdqrt/").unwrap();
        assert!(typed.verify("Gem\u{fc}se") && typed.verify("Gemu\u{308}se") && !typed.verify("Gemuse"));
        let ours = Stored::parse(&make(Scheme::ScramSha256, "Gemu\u{308}se").unwrap()).unwrap();
        assert!(ours.verify("Gem\u{fc}se") && ours.verify("Gemu\u{308}se"));
    }

    #[test]
    fn verifies_what_it_makes() {
        for (name, scheme) in SCHEMES {
            let text = make(*scheme, "sesame").unwrap();
            assert!(text.starts_with(&format!("{{{name}}}")), "{text}");
            let stored = Stored::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert!(stored.verify("sesame") && !stored.verify("sesame "), "{text}");
            assert_ne!(text, make(*scheme, "sesame").unwrap(), "a salt of its own each time");
        }
    }

    #[test]
    fn says_what_to_write_instead() {
        const CASES: &[(&str, &str)] = &[
            ("", "the password has no {SCHEME}"),
            ("sesame", "the password has no {SCHEME}"),
            ("{SSHA256}PqPyvu", "{SSHA256} is not supported: ARGON2ID, ARGON2I, SHA512-CRYPT"),
            ("{MD5-CRYPT}$1$abc$sKfFU11LnpAPFKwjSiE7b1", "{MD5-CRYPT} is not supported"),
            ("$1$abc$sKfFU11LnpAPFKwjSiE7b1", "$1$ (MD5) can be guessed too fast"),
            ("$7$abc", "crypt method $7$ is not supported"),
            ("{CRYPT}abJnggxhB/yWI", "is not a crypt(3) hash"),
            ("{PLAIN}", "the password is empty"),
            ("{ARGON2ID}$6$x$y", "what follows {ARGON2ID} is no such hash"),
            ("{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$rxSnh/R/KhGdoFeAgR+A0g", "the Argon2 hash is not whole"),
            (
                "{ARGON2ID}$argon2id$v=19$m=4294967295,t=3,p=1$rxSnh/R/KhGdoFeAgR+A0g$UYK9NqVxVYcrl4pEulL1qsAc7A1D9VA9FPbE8Ki9PU4",
                "this Argon2 hash needs",
            ),
            ("$6$saltstring$zw6YcBRuwlGueZoWIkK6CRJbQmJbhVf1zPx", "the SHA-crypt hash is not whole"),
            ("$6$saltstring$", "the SHA-crypt hash is not whole"),
            ("$6$rounds=999999999$saltsalt$YWCT", "SHA-crypt rounds must be"),
            ("$2y$05$short", "the bcrypt hash is not whole"),
            ("$2y$31$abcdefghijklmnopqrstuuKcS.CYWVYVaLiiCKrrc0A5s3mGesJ9O", "bcrypt cost 31"),
            ("$y$j9T$F5Jx5fExrKuPp53xLKQ..1$", "the yescrypt hash is not whole"),
            ("$y$jlT$F5Jx5fExrKuPp53xLKQ..1$2XG8TbeFGEUHepjXSRRwTEN/pknneEfp/PquC6DSDN4", "the yescrypt parameters"),
            ("{SCRAM-SHA-256}4096,3z1rqBIazJXLQK3kOQMd+A==", "after {SCRAM-SHA-256} stand"),
            ("{SCRAM-SHA-256}0,AA==,AA==,AA==", "after {SCRAM-SHA-256} stand"),
            ("{SCRAM", "the password has no {SCHEME}"),
        ];
        for (text, want) in CASES {
            let error = Stored::parse(text).unwrap_err();
            assert!(error.starts_with(want), "{text}: {error}");
        }
        assert_eq!(Stored::parse("!"), Ok(Stored::Locked));
        assert!(!Stored::Locked.verify("!"));
    }
}
