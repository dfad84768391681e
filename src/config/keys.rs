//! The ONE table of keys: path, default, field, text. Loader, `check --defaults` and gatepost.conf(5) come out of it.
//!
//! A key once released keeps its meaning. A new one is a line here and a field in `Config`.

use super::{Config, Route, value::Slot};

/// A key of a `T`: the configuration or one `[[route]]`.
pub(super) struct Key<T: 'static> {
    /// `section.name`, or the name alone at the top.
    pub(super) path: &'static str,
    /// As it would stand in the file; empty: none, `text` says what happens then.
    pub(super) default: &'static str,
    /// SIGHUP is enough for a change to take effect.
    pub(super) reload: bool,
    pub(super) slot: fn(&mut T) -> Slot<'_>,
    pub(super) text: &'static str,
}

/// A section's name and what it is about, in the order of the manual.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("", "These stand at the top of the file, above the first section."),
    (
        "listen",
        "Where to listen: \"address:port\" or a list of them, [] to switch a service off. Standard ports on all addresses are the default. \
         All but smtp need a certificate, for no password is taken in the clear.",
    ),
    ("tls", "The certificate shown to clients and to other servers, in PEM. Both files are read again on reload."),
    ("dns", "How names are looked up. A validating resolver of your own on 127.0.0.1 is best."),
    ("limits", "Everything is bounded."),
    ("queue", "Outbound mail that could not be handed over at once."),
    (
        "quota",
        "How much each account may keep. These hold for everybody; a user's own line in users goes before, see USERS below. All folders count, \
         Trash too, and a copy counts once more. Who has no limit is not counted.",
    ),
    ("smtp", "Conversation with other mail servers."),
    ("pop3", "Reading mail by POP3."),
];

pub(super) const ROUTE_TEXT: &str = "Each [[route]] sends some of the outbound mail another way than to the domain's MX. \
     The first route whose to and from both match is taken; when none matches, mail goes by MX.";

const RELOAD: bool = true;
const RESTART: bool = false;

pub(super) const KEYS: &[Key<Config>] = &[
    Key {
        path: "hostname",
        default: "",
        reload: RELOAD,
        slot: |c| Slot::Host(&mut c.hostname),
        text: "This server's full name as other servers see it: its own A or AAAA record, and what the PTR record of its address names. \
               Default: the system's host name, when that has a dot.",
    },
    Key {
        path: "domains",
        default: "",
        reload: RELOAD,
        slot: |c| Slot::Domains(&mut c.domains),
        text: "Domains whose mail is delivered here. There must be at least one.",
    },
    Key {
        path: "postmaster",
        default: "",
        reload: RELOAD,
        slot: |c| Slot::Address(&mut c.postmaster),
        text: "Who gets mail to postmaster at any of the domains when aliases does not say. Default: the first user.",
    },
    Key {
        path: "users",
        default: "\"users\"",
        reload: RELOAD,
        slot: |c| Slot::Path(&mut c.users),
        text: "The file of users and password hashes, see USERS below.",
    },
    Key {
        path: "aliases",
        default: "\"aliases\"",
        reload: RELOAD,
        slot: |c| Slot::Path(&mut c.aliases),
        text: "The file of aliases, see ALIASES below. It need not exist.",
    },
    Key {
        path: "subaddress",
        default: "\"+\"",
        reload: RELOAD,
        slot: |c| Slot::Separators(&mut c.subaddress),
        text: "Characters that may separate a detail from the local part: with \"+\", alice+lists@ reaches alice@. \"\" for none.",
    },
    Key {
        path: "state",
        default: "\"/var/lib/gatepost\"",
        reload: RESTART,
        slot: |c| Slot::Path(&mut c.state),
        text: "The folder of mail, queue and keys.",
    },
    Key {
        path: "run",
        default: "\"/run/gatepost\"",
        reload: RESTART,
        slot: |c| Slot::Path(&mut c.run),
        text: "The folder of the sockets for local submission and control.",
    },
    Key {
        path: "folders-as-tree",
        default: "false",
        reload: RELOAD,
        slot: |c| Slot::Flag(&mut c.folders_as_tree),
        text: "How the folders of a home lie that has none yet: side by side, Maildir/.Lists.rust (Maildir++, false), or in a tree, \
               Maildir/Lists/rust, as Dovecot has them with LAYOUT=fs (true). A home with folders keeps its layout, whichever it is.",
    },
    Key {
        path: "user",
        default: "\"gatepost\"",
        reload: RESTART,
        slot: |c| Slot::Word(&mut c.user),
        text: "The system user to become once the ports are bound. Without meaning unless started as root.",
    },
    Key {
        path: "log",
        default: "\"info\"",
        reload: RESTART,
        slot: |c| Slot::Log(&mut c.log),
        text: "How much to log: off, error, warn, info or debug, which shows the dialogues without secrets and content.",
    },
    Key {
        path: "listen.smtp",
        default: "[\"0.0.0.0:25\", \"[::]:25\"]",
        reload: RESTART,
        slot: |c| Slot::Sockets(&mut c.listen.smtp, None),
        text: "SMTP from other servers, with STARTTLS.",
    },
    Key {
        path: "listen.submission",
        default: "[\"0.0.0.0:587\", \"[::]:587\"]",
        reload: RESTART,
        slot: |c| Slot::Sockets(&mut c.listen.submission, None),
        text: "Submission by users, with STARTTLS.",
    },
    Key {
        path: "listen.submissions",
        default: "[\"0.0.0.0:465\", \"[::]:465\"]",
        reload: RESTART,
        slot: |c| Slot::Sockets(&mut c.listen.submissions, None),
        text: "Submission by users, TLS from the first byte.",
    },
    Key {
        path: "listen.imap",
        default: "[\"0.0.0.0:143\", \"[::]:143\"]",
        reload: RESTART,
        slot: |c| Slot::Sockets(&mut c.listen.imap, None),
        text: "IMAP, with STARTTLS.",
    },
    Key {
        path: "listen.imaps",
        default: "[\"0.0.0.0:993\", \"[::]:993\"]",
        reload: RESTART,
        slot: |c| Slot::Sockets(&mut c.listen.imaps, None),
        text: "IMAP, TLS from the first byte.",
    },
    Key {
        path: "listen.pop3",
        default: "[\"0.0.0.0:110\", \"[::]:110\"]",
        reload: RESTART,
        slot: |c| Slot::Sockets(&mut c.listen.pop3, None),
        text: "POP3, with STLS.",
    },
    Key {
        path: "listen.pop3s",
        default: "[\"0.0.0.0:995\", \"[::]:995\"]",
        reload: RESTART,
        slot: |c| Slot::Sockets(&mut c.listen.pop3s, None),
        text: "POP3, TLS from the first byte.",
    },
    Key {
        path: "tls.cert",
        default: "",
        reload: RELOAD,
        slot: |c| Slot::MaybePath(&mut c.tls.cert),
        text: "The certificate and its chain (certbot's fullchain.pem). Without one, listen only for smtp.",
    },
    Key {
        path: "tls.key",
        default: "",
        reload: RELOAD,
        slot: |c| Slot::MaybePath(&mut c.tls.key),
        text: "The private key that belongs to cert. The daemon's user must be able to read it, and certbot's keys are root's alone: \
               the package brings a deploy hook that hands on copies of both files.",
    },
    Key {
        path: "tls.plaintext",
        default: "[]",
        reload: RELOAD,
        slot: |c| Slot::Networks(&mut c.tls.plaintext),
        text: "Networks whose clients may log in without TLS, such as \"127.0.0.1/32\" for a webmail program on this host. By default \
               nobody may: a password never crosses a wire in the clear.",
    },
    Key {
        path: "dns.servers",
        default: "[]",
        reload: RESTART,
        slot: |c| Slot::Sockets(&mut c.dns.servers, Some(53)),
        text: "Name servers to ask; port 53 unless said otherwise. Empty: those of /etc/resolv.conf.",
    },
    Key {
        path: "dns.timeout",
        default: "\"5s\"",
        reload: RESTART,
        slot: |c| Slot::Time(&mut c.dns.timeout),
        text: "How long to wait for an answer.",
    },
    Key {
        path: "limits.message-size",
        default: "\"50M\"",
        reload: RELOAD,
        slot: |c| Slot::Size(&mut c.limits.message_size),
        text: "The largest message, in either direction and for IMAP APPEND. Attachments grow by a third on the way.",
    },
    Key {
        path: "limits.recipients",
        default: "100",
        reload: RELOAD,
        slot: |c| Slot::Count(&mut c.limits.recipients, 1..=100_000),
        text: "Recipients of one message. RFC 5321 asks for at least 100.",
    },
    Key {
        path: "limits.connections",
        default: "1000",
        reload: RELOAD,
        slot: |c| Slot::Count(&mut c.limits.connections, 1..=1_000_000),
        text: "Connections in all, over all services.",
    },
    Key {
        path: "limits.connections-per-address",
        default: "50",
        reload: RELOAD,
        slot: |c| Slot::Count(&mut c.limits.connections_per_address, 1..=1_000_000),
        text: "Connections of one IPv4 address or one IPv6 /64. Mail programs open several for each account, and a household shares one address.",
    },
    Key {
        path: "limits.login-failures",
        default: "10",
        reload: RELOAD,
        slot: |c| Slot::Count32(&mut c.limits.login_failures, 0..=1_000_000),
        text: "Wrong passwords that one address (IPv6: one /64) may try within half an hour; each is answered slower than the one before. An \
               account takes ten times as many, from all addresses that never logged in to it. A login that worked a moment ago from the same \
               address goes on working meanwhile. 0 lifts the limit and the slowness.",
    },
    Key {
        path: "limits.exempt",
        default: "[]",
        reload: RELOAD,
        slot: |c| Slot::Networks(&mut c.limits.exempt),
        text: "Networks that connections-per-address and login-failures do not apply to. Put the host of your webmail here: all its users come \
               from one address.",
    },
    Key {
        path: "limits.threads",
        default: "16",
        reload: RESTART,
        slot: |c| Slot::Count(&mut c.limits.threads, 1..=500),
        text: "Threads for disk work and password hashes. They start when needed.",
    },
    Key {
        path: "queue.retry",
        default: "\"5m\"",
        reload: RELOAD,
        slot: |c| Slot::Time(&mut c.queue.retry),
        text: "The wait after the first failed attempt; it doubles each time.",
    },
    Key {
        path: "queue.retry-max",
        default: "\"2h\"",
        reload: RELOAD,
        slot: |c| Slot::Time(&mut c.queue.retry_max),
        text: "The longest wait between two attempts.",
    },
    Key {
        path: "queue.lifetime",
        default: "\"5d\"",
        reload: RELOAD,
        slot: |c| Slot::Time(&mut c.queue.lifetime),
        text: "After this a message goes back to its sender.",
    },
    Key {
        path: "queue.warn-after",
        default: "\"4h\"",
        reload: RELOAD,
        slot: |c| Slot::Time(&mut c.queue.warn_after),
        text: "After this the sender is told, once, that the message is late. \"0\": never.",
    },
    Key {
        path: "queue.connections",
        default: "20",
        reload: RELOAD,
        slot: |c| Slot::Count(&mut c.queue.connections, 1..=10_000),
        text: "Outbound connections at the same time.",
    },
    Key {
        path: "queue.connections-per-host",
        default: "2",
        reload: RELOAD,
        slot: |c| Slot::Count(&mut c.queue.connections_per_host, 1..=1000),
        text: "The same for one host. Large providers dislike more than a few.",
    },
    Key {
        path: "quota.storage",
        default: "\"0\"",
        reload: RELOAD,
        slot: |c| Slot::Limit(&mut c.quota.storage),
        text: "What an account may keep, as the sum of its files. \"0\": no limit.",
    },
    Key {
        path: "quota.messages",
        default: "0",
        reload: RELOAD,
        slot: |c| Slot::Count32(&mut c.quota.messages, 0..=u32::MAX),
        text: "How many messages an account may keep. 0: no limit.",
    },
    Key {
        path: "quota.grace",
        default: "\"3d\"",
        reload: RELOAD,
        slot: |c| Slot::Time(&mut c.quota.grace),
        text: "For so long the senders of mail to a full account hear that they may try again later (452), so that nothing is lost while its \
               user makes room; after that the mail goes back to them at once (552). It begins with the first message that did not fit, and \
               anew when one fits again or the user removes something. \"0\": mail goes back at once.",
    },
    Key {
        path: "quota.warn",
        default: "[80, 95]",
        reload: RELOAD,
        slot: |c| Slot::Percents(&mut c.quota.warn),
        text: "A message in INBOX warns the user when the account has become as full as this, in percent, once until it was emptier again. []: \
               no warnings.",
    },
    Key {
        path: "smtp.mx-port",
        default: "25",
        reload: RELOAD,
        slot: |c| Slot::Port(&mut c.smtp.mx_port),
        text: "The port of MX hosts. Other than 25 only for tests.",
    },
    Key {
        path: "smtp.timeout",
        default: "\"5m\"",
        reload: RELOAD,
        slot: |c| Slot::Time(&mut c.smtp.timeout),
        text: "How long a client or server may be silent within one command or one stretch of data (RFC 5321 section 4.5.3.2).",
    },
    Key {
        path: "smtp.submission-received-client",
        default: "false",
        reload: RELOAD,
        slot: |c| Slot::Flag(&mut c.smtp.submission_received_client),
        text: "Name the address of the submitting user's device in Received. Off, because recipients need not know where you are.",
    },
    Key {
        path: "smtp.submission-any-from",
        default: "false",
        reload: RELOAD,
        slot: |c| Slot::Flag(&mut c.smtp.submission_any_from),
        text: "Let users write other addresses than their own into the From field, as resending (mutt's bounce) and list programs do. The \
               envelope sender must be theirs in any case.",
    },
    Key {
        path: "pop3.uidl-format",
        default: "\"%08Xu%08Xv\"",
        reload: RELOAD,
        slot: |c| Slot::Uidl(&mut c.uidl_format),
        text: "How UIDL names a message, in the words of Dovecot's pop3_uidl_format: %u UID, %v UIDVALIDITY, %f base of the file name, %g GUID, \
               numbers also as %Xu and %08Xu. The default is Dovecot's. Set it to what the server before this one used, \"%v-%u\" \
               or \"UID%u-%v\" for Courier, before the first POP3 client comes: every message that gets another name is fetched again. \
               Names that another server noted for single messages stay what they are.",
    },
];

pub(super) const ROUTE_KEYS: &[Key<Route>] = &[
    Key {
        path: "to",
        default: "[]",
        reload: RELOAD,
        slot: |r| Slot::Patterns(&mut r.to),
        text: "Domains of recipients: \"example.org\", \".example.org\" for it and its subdomains, \"*\" for any. Empty: any.",
    },
    Key {
        path: "from",
        default: "[]",
        reload: RELOAD,
        slot: |r| Slot::Patterns(&mut r.from),
        text: "Domains or addresses of senders. Empty: any. Bounces have no sender and match only when this is empty.",
    },
    Key {
        path: "via",
        default: "",
        reload: RELOAD,
        slot: |r| Slot::HostPort(&mut r.via),
        text: "The host that takes the mail, \"smtp.relay.example:587\". Without it mail goes by MX after all: an exception before a wider route.",
    },
    Key {
        path: "tls",
        default: "\"may\"",
        reload: RELOAD,
        slot: |r| Slot::Tls(&mut r.tls),
        text: "\"may\": STARTTLS when offered. \"require\": STARTTLS with a valid certificate, or the mail waits. \"implicit\": TLS from the \
               first byte, as on port 465, with a valid certificate. \"never\": plain text.",
    },
    Key { path: "user", default: "", reload: RELOAD, slot: |r| Slot::Word(&mut r.user), text: "The name to log in with at via." },
    Key {
        path: "password-file",
        default: "",
        reload: RELOAD,
        slot: |r| Slot::MaybePath(&mut r.password_file),
        text: "The file whose first line is the password; nobody but root and the gatepost user should be able to read it.",
    },
];

/// The table's entry for `path`.
pub(super) fn find<T>(keys: &'static [Key<T>], path: &str) -> Option<&'static Key<T>> {
    keys.iter().find(|k| k.path == path)
}
