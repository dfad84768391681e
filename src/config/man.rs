//! gatepost.conf(5) out of the table of keys.

use super::{
    Route,
    keys::{KEYS, Key, ROUTE_KEYS, ROUTE_TEXT, SECTIONS},
};
use std::path::Path;

const HEAD: &str = "\
.\\\" Made by `gatepost check --man` out of src/config/keys.rs: change it there.
.TH GATEPOST.CONF 5 2026-11-24 \"gatepost 0.1.0\" \"File formats\"
.SH NAME
gatepost.conf, users, aliases \\- configuration of the gatepost mail server
.SH SYNOPSIS
.I /etc/gatepost/gatepost.conf
.br
.I /etc/gatepost/users
.br
.I /etc/gatepost/aliases
.SH DESCRIPTION
gatepost reads these three text files when it starts and again on SIGHUP
.RB ( \"systemctl reload gatepost\" ).
It never writes them. When a file is wrong, a start fails and a reload keeps the old configuration;
.B gatepost check
finds every fault beforehand and names its file and line.
.B gatepost check \\-\\-defaults
prints the effective configuration.
.PP
The syntax is TOML:
.I key = value
lines, sections in [brackets], comments after #.
A string stands in quotes, a list in [brackets]; where a list is wanted, one string will do.
.IP size 12
A number with K, M, G or T (powers of 1024), or B: \"50M\".
.IP duration
Numbers with s, m, h, d or w: \"30m\", \"1h30m\".
.IP path
Relative paths start at the folder of gatepost.conf.
.PP
A small configuration:
.PP
.nf
.RS
hostname = \"mail.example.org\"
domains = [\"example.org\"]
postmaster = \"alice@example.org\"

[tls]
cert = \"tls/fullchain.pem\"
key = \"tls/privkey.pem\"
.RE
.fi
";

const INCLUDE: &str = "\
.TP
.BR include \" (path or list of paths)\"
More files of the same syntax, in the main file only. The last part of a path may hold one *: \"conf.d/*.conf\" names all such
files in order of name, also when there are none. A key may be set once only, over all files; routes come in the order of the files.
";

const TAIL: &str = "\
.SH USERS
A line for each user; empty lines and lines that begin with # are skipped.
.PP
.nf
.RS
alice@example.org:{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$...:quota=2G,10000
bob@example.org:$6$...
carol@example.org:!
.RE
.fi
.PP
The first field is the address; with a single domain the local part will do. It is the name to log in with and, in
lower case, the name of the folder
.IR mail/DOMAIN/LOCALPART .
The second is the password's hash as Dovecot writes it, after its scheme in braces: ARGON2ID, ARGON2I, SHA512-CRYPT,
SHA256-CRYPT, BLF-CRYPT, CRYPT ($y$, $6$, $5$, $2y$), SCRAM-SHA-256 (ITERATIONS,SALT,STOREDKEY,SERVERKEY), or PLAIN,
which
.B gatepost check
warns of. A hash that begins with $ needs no scheme. With ! in its place the user gets mail and cannot log in.
.PP
Further fields are
.BR quota= SIZE , MESSAGES ,
what the user may keep, where SIZE or the comma and MESSAGES may be left out for what
.B [quota]
says, and 0 lifts that limit; and, for files taken over from Dovecot, empty ones for uid, gid, home and shell,
userdb_quota_rule=*:storage=SIZE:messages=MESSAGES (a size without unit is in kilobytes there), or, of Dovecot 2.4,
userdb_quota_storage_size=SIZE and userdb_quota_message_count=MESSAGES. Rules for single folders are ignored, with a warning.
.PP
.B gatepost user
adds, changes and removes lines and leaves all others as they are. Changes count after a reload.
.SH ALIASES
The classic syntax: a name, a colon, and where its mail goes, separated by commas. A line that begins with white space
continues the one before; lines that begin with # are skipped.
.PP
.nf
.RS
info: alice, bob
sales@example.org: alice,
    someone@example.com
alice: alice, archive
alice+bills@example.org: bob
@example.net: alice@example.org
.RE
.fi
.PP
A name without a domain holds in every domain of ours. As a target it means that user or alias in the domain of the
address it was reached by or, when there is none, in the first domain that has one.
An alias comes before a user of the same name; naming itself, as alice above, it keeps the copy.
An address with a detail (see
.BR subaddress )
is looked up whole, then without the detail.
.I @domain
gets what nobody else in the domain does.
.PP
Targets that exist nowhere, circles, programs (|command), files (/path) and :include: are refused.
.PP
Users may send as every address that leads to them: their own, its subaddresses, aliases, and any address of a domain
whose
.I @domain
leads to them.
.SH SEE ALSO
.BR gatepost (8)
";

/// The manual page in roff.
pub fn man() -> String {
    let mut config = super::load::defaults(Path::new("/etc/gatepost/gatepost.conf"));
    let mut out = String::from(HEAD);
    for (section, text) in SECTIONS {
        out.push_str(&if section.is_empty() { ".SH KEYS\n".to_owned() } else { format!(".SS [{section}]\n") });
        out.push_str(&format!("{}\n", roff(text)));
        for key in KEYS.iter().filter(|k| k.path.rsplit_once('.').map_or("", |(s, _)| s) == *section) {
            entry(&mut out, key, &mut config);
        }
        if section.is_empty() {
            out.push_str(INCLUDE);
        }
    }
    out.push_str(&format!(".SS [[route]]\n{}\n", roff(ROUTE_TEXT)));
    for key in ROUTE_KEYS {
        entry(&mut out, key, &mut Route::default());
    }
    out.push_str(TAIL);
    out
}

fn entry<T>(out: &mut String, key: &Key<T>, of: &mut T) {
    let name = key.path.rsplit_once('.').map_or(key.path, |(_, n)| n);
    out.push_str(&format!(".TP\n.BR {} \" ({})\"\n{}\n", roff(name), roff((key.slot)(of).form()), roff(key.text)));
    if !key.default.is_empty() {
        out.push_str(&format!("Default: {}.\n", roff(key.default)));
    }
    if !key.reload {
        out.push_str("A change needs a restart.\n");
    }
}

/// Text with what roff would take for its own escaped.
fn roff(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('\\', "\\e").replace('-', "\\-");
    if words.starts_with(['.', '\'']) { format!("\\&{words}") } else { words }
}

#[cfg(test)]
mod tests {
    /// `BLESS=1` writes the page anew.
    #[test]
    fn the_page_is_in_step_with_the_keys() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man/gatepost.conf.5");
        let page = super::man();
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &page).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == page, "packaging/man/gatepost.conf.5 is out of step with src/config/keys.rs: run the tests with BLESS=1");
        for line in page.lines() {
            assert!(!line.starts_with('\''), "{line}");
        }
    }
}
