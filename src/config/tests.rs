//! Wrong configurations and the exact lines that say so.

use super::parse;
use std::{path::Path, path::PathBuf};

/// What makes a file whole when the case under test has put its keys first.
const REST: &str = "\n[tls]\ncert = \"c.pem\"\nkey = \"k.pem\"\n";

fn lines(file: &Path, text: &str) -> Vec<String> {
    let problems = match parse(file, text) {
        Ok((_, problems)) | Err(problems) => problems,
    };
    let folder = format!("{}/", file.parent().unwrap().display());
    problems.iter().map(|p| p.to_string().replace(&folder, "")).collect()
}

/// Top keys, other sections, what is said.
const CASES: &[(&str, &str)] = &[
    // Unknown keys and sections.
    ("hostnam = \"x\"", "gatepost.conf:3: hostnam: is not a key: did you mean hostname?"),
    ("cert = \"c.pem\"", "gatepost.conf:3: cert: is not a key here: write cert under [tls]"),
    ("frobnicate = 1", "gatepost.conf:3: frobnicate: is not a key: gatepost.conf(5) lists all keys"),
    ("[limits]\nmessage_size = \"1M\"", "gatepost.conf:4: limits.message_size: is not a key: did you mean limits.message-size?"),
    ("[limits]\nretry = \"1m\"", "gatepost.conf:4: limits.retry: is not a key here: write retry under [queue]"),
    (
        "[limits]\npostmaster = \"a@example.org\"",
        "gatepost.conf:4: limits.postmaster: is not a key of this section: write postmaster above the first [section]",
    ),
    ("[limit]\nrecipients = 1", "gatepost.conf:3: [limit]: is not a section: did you mean [limits]?"),
    (
        "[sieve]\nx = 1",
        "gatepost.conf:3: [sieve]: is not a section: there are [listen] [tls] [dns] [limits] [queue] [quota] [smtp] [pop3], and [[route]]",
    ),
    ("limits = 1", "gatepost.conf:3: limits: is a section: write [limits] and its keys below"),
    ("[user]\nx = 1", "gatepost.conf:3: user: must be a name in quotes, not a section"),
    // Types.
    ("postmaster = 1", "gatepost.conf:3: postmaster: must be an address, \"alice@example.org\", not the number 1"),
    ("postmaster = \"alice\"", "gatepost.conf:3: postmaster: \"alice\" is not an address: write \"alice@example.org\""),
    ("state = true", "gatepost.conf:3: state: must be a path in quotes, not true"),
    ("state = \"\"", "gatepost.conf:3: state: must not be an empty path"),
    ("user = [\"a\"]", "gatepost.conf:3: user: must be a name in quotes, not a list"),
    ("user = \"a\\nb\"", "gatepost.conf:3: user: holds a control character: remove it"),
    ("subaddress = \"+.\"", "gatepost.conf:3: subaddress: \".\" cannot separate: write one or more of + - _ = ~, or \"\" for none"),
    ("log = \"loud\"", "gatepost.conf:3: log: \"loud\" is not a level: write one of off, error, warn, info, debug"),
    ("[limits]\nmessage-size = 50", "gatepost.conf:4: limits.message-size: must be a size with its unit, \"50M\", not the number 50"),
    ("[limits]\nmessage-size = \"50\"", "gatepost.conf:4: limits.message-size: must be a size with its unit, \"50M\", not \"50\""),
    ("[limits]\nmessage-size = \"1K\"", "gatepost.conf:4: limits.message-size: must be at least \"64K\" (RFC 5321 section 4.5.3.1.7)"),
    ("[limits]\nrecipients = \"100\"", "gatepost.conf:4: limits.recipients: must be a number from 1 to 100000, without quotes, not \"100\""),
    ("[limits]\nthreads = 0", "gatepost.conf:4: limits.threads: must be a number from 1 to 500, without quotes, not the number 0"),
    ("[limits]\nthreads = 1.5", "gatepost.conf:4: limits.threads: must be a number from 1 to 500, without quotes, not the number 1.5"),
    (
        "[limits]\nexempt = [\n  \"10.0.0.0/8\",\n  \"10.0.0.0/33\",\n]",
        "gatepost.conf:6: limits.exempt: \"10.0.0.0/33\" is not a network: write \"192.0.2.0/24\" or \"2001:db8::/64\"",
    ),
    ("[queue]\nretry = 5", "gatepost.conf:4: queue.retry: must be a duration with its unit, \"30m\", not the number 5"),
    ("[queue]\nretry = 2026-01-01", "gatepost.conf:4: queue.retry: must be a duration with its unit, \"30m\", not a date"),
    (
        "[smtp]\nsubmission-received-client = \"yes\"",
        "gatepost.conf:4: smtp.submission-received-client: must be true or false, without quotes, not \"yes\"",
    ),
    ("[smtp]\nmx-port = 70000", "gatepost.conf:4: smtp.mx-port: must be a number from 1 to 65535, without quotes, not the number 70000"),
    ("[listen]\nsmtp = \"127.0.0.1\"", "gatepost.conf:4: listen.smtp: \"127.0.0.1\" lacks the port: write \"127.0.0.1:2525\""),
    (
        "[listen]\nsmtp = \"localhost:25\"",
        "gatepost.conf:4: listen.smtp: \"localhost:25\" is not an IP address with a port: write \"192.0.2.1:25\" or \"[2001:db8::1]:25\"",
    ),
    ("[listen]\nsmtp = 25", "gatepost.conf:4: listen.smtp: must be \"address:port\" or a list of them, not the number 25"),
    (
        "[dns]\nservers = \"dns.example\"",
        "gatepost.conf:4: dns.servers: \"dns.example\" is not an IP address with a port: write \"192.0.2.1:25\" or \"[2001:db8::1]:25\"",
    ),
    ("[quota]\nstorage = \"0\"\nmessages = 0\nwarn = []\ngrace = \"0\"", ""),
    ("[quota]\nstorage = 0", "gatepost.conf:4: quota.storage: must be a size with its unit, \"2G\", or \"0\" for none, not the number 0"),
    ("[quota]\nwarn = 80", "gatepost.conf:4: quota.warn: must be a list of percents, [80, 95], not the number 80"),
    ("[quota]\nwarn = [80, 100]", "gatepost.conf:4: quota.warn: must be a number from 1 to 99, without quotes, not the number 100"),
    // Combinations.
    (
        "[listen]\nimap = \"127.0.0.1:25\"\nsmtp = \"127.0.0.1:25\"",
        "gatepost.conf:4: listen.imap: 127.0.0.1:25 is taken by listen.smtp already: give each its own port",
    ),
    ("[queue]\nretry = \"3h\"", "gatepost.conf:4: queue.retry-max: must not be shorter than queue.retry"),
    ("[queue]\nlifetime = \"1h\"", "gatepost.conf:4: queue.warn-after: must be shorter than queue.lifetime, or \"0\" for never"),
    ("[queue]\nlifetime = \"1h\"\nwarn-after = \"0\"", ""),
    ("[smtp]\ntimeout = \"0\"", "gatepost.conf:4: smtp.timeout: must be longer than nothing"),
    // Routes.
    ("[route]\nto = \"*\"", "gatepost.conf:3: route: is a list of sections: write [[route]] with two brackets"),
    ("[[routes]]\nto = \"*\"", "gatepost.conf:3: routes: is not a key: did you mean [[route]]?"),
    (
        "[[route]]\nvia = \"relay.example\"",
        "gatepost.conf:4: route.via: \"relay.example\" must name a host and a port: write \"smtp.example.org:587\"",
    ),
    ("[[route]]\nfor = \"x\"", "gatepost.conf:4: route.for: is not a key: there are to, from, via, tls, user and password-file"),
    ("[[route]]\npassword = \"x\"", "gatepost.conf:4: route.password: secrets stand in a file of their own: write password-file = \"relay.secret\""),
    ("[[route]]\nto = \"@outlook.com\"", "gatepost.conf:4: route.to: \"@outlook.com\": write the domain without @"),
    ("[[route]]\ntls = \"yes\"", "gatepost.conf:4: route.tls: must be \"may\", \"require\", \"implicit\" or \"never\", not \"yes\""),
    (
        "[[route]]\nvia = \"r.example:587\"\nuser = \"a\"",
        "gatepost.conf:5: route.password-file: is missing beside user: set it to the file whose first line is the password",
    ),
    ("[[route]]\nvia = \"r.example:587\"\nuser = \"a\"\npassword-file = \"none\"", "gatepost.conf:6: route.password-file: none: is not there"),
    ("[[route]]\nvia = \"r.example:465\"", "gatepost.conf:4: route.tls: port 465 speaks TLS from the first byte: write tls = \"implicit\""),
    ("[[route]]\ntls = \"implicit\"", "gatepost.conf:4: route.tls: \"implicit\" needs via: no MX speaks TLS from the first byte"),
    (
        "[[route]]\nvia = \"r.example:25\"\n[[route]]\nto = \"x.example\"",
        "gatepost.conf:5: warning: route: is never reached, for the route in line 3 takes all mail: move that one to the end",
    ),
    // TOML itself.
    (
        "user = x",
        "gatepost.conf:3: not TOML: string values must be quoted, expected literal string (a value is \"text in quotes\", a number, true, false or a [\"list\"])",
    ),
    ("user = \"a\"\nuser = \"b\"", "gatepost.conf:4: duplicate key: remove one of them"),
    // Several at once, in order.
    (
        "frob = 1\nlog = 1",
        "gatepost.conf:3: frob: is not a key: gatepost.conf(5) lists all keys|gatepost.conf:4: log: must be a level, \"info\", not the number 1",
    ),
];

#[test]
fn each_fault_has_its_line() {
    for (text, want) in CASES {
        let (top, below) = if text.starts_with('[') { ("", *text) } else { (*text, "") };
        let whole = format!("hostname = \"mail.example.org\"\ndomains = \"example.org\"\n{top}{below}{REST}");
        assert_eq!(lines(Path::new("/etc/gatepost/gatepost.conf"), &whole).join("|"), *want, "{text}");
    }
}

#[test]
fn what_must_be_there() {
    const CASES: &[(&str, &str)] = &[
        (
            "hostname = \"mail.example.org\"\ndomains = []\n[tls]\ncert = \"c\"\nkey = \"k\"",
            "gatepost.conf:2: domains: name at least one domain whose mail is yours: domains = [\"example.org\"]",
        ),
        (
            "hostname = \"mail\"\ndomains = [\"example.org\", \"EXAMPLE.org.\"]\n[tls]\ncert = \"c\"\nkey = \"k\"",
            "gatepost.conf:1: hostname: must be a full name with a dot: write \"mail.example.org\"|gatepost.conf:2: domains: example.org stands twice: remove one of them",
        ),
        (
            "hostname = \"mail.example.org\"\ndomains = \"a@example.org\"",
            "gatepost.conf:2: domains: \"a@example.org\" is an address: write the domain alone",
        ),
        (
            "hostname = \"mail.example.org\"\ndomains = \"exa mple\"",
            "gatepost.conf:2: domains: \"exa mple\" is not a domain name: write \"example.org\"",
        ),
        (
            "hostname = \"mail.example.org\"\ndomains = \"example.org\"",
            "gatepost.conf: tls.cert: is missing, but submission, submissions, imap, imaps, pop3, pop3s need a certificate: set cert and key under [tls] \
             (gatepost setup makes a first one), or switch them off under [listen] with submission = []",
        ),
        (
            "hostname = \"mail.example.org\"\ndomains = \"example.org\"\n[listen]\nsubmission = []\nsubmissions = []\nimap = []\nimaps = []\npop3 = \"127.0.0.1:110\"\npop3s = []",
            "gatepost.conf:8: tls.cert: is missing, but pop3 need a certificate: set cert and key under [tls] \
             (gatepost setup makes a first one), or switch them off under [listen] with pop3 = []",
        ),
        (
            "hostname = \"mail.example.org\"\ndomains = \"example.org\"\n[listen]\nsubmission = []\nsubmissions = []\nimap = []\nimaps = []\npop3 = []\npop3s = []",
            "",
        ),
        (
            "hostname = \"mail.example.org\"\ndomains = \"example.org\"\n[tls]\ncert = \"c\"",
            "gatepost.conf:4: tls.key: is missing beside tls.cert: set key to the file of the private key",
        ),
    ];
    for (text, want) in CASES {
        assert_eq!(lines(Path::new("/etc/gatepost/gatepost.conf"), text).join("|"), *want, "{text}");
    }
    let missing = super::load(Path::new("/nonexistent/gatepost.conf")).unwrap_err();
    assert_eq!(missing[0].to_string(), "/nonexistent/gatepost.conf: is not there: gatepost setup writes one, gatepost -c FILE takes another");
}

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn folder(files: &[(&str, &str)]) -> Folder {
    let folder = Folder(std::env::temp_dir().join(format!("gatepost-config-{:x}", crate::disk::unique())));
    std::fs::create_dir_all(folder.0.join("conf.d")).unwrap();
    for (name, text) in files {
        std::fs::write(folder.0.join(name), text).unwrap();
    }
    folder
}

const MAIN: &str =
    "hostname = \"mail.example.org\"\ndomains = \"example.org\"\ninclude = [\"conf.d/*.conf\", \"tls.conf\"]\n[[route]]\nto = \"first.example\"\n";
const TLS: (&str, &str) = ("tls.conf", "[tls]\ncert = \"c\"\nkey = \"k\"\n");

#[test]
fn includes_are_merged_in_order() {
    let f = folder(&[
        ("gatepost.conf", MAIN),
        TLS,
        ("conf.d/20-b.conf", "[[route]]\nto = \"third.example\"\n"),
        ("conf.d/10-a.conf", "log = \"debug\"\n[limits]\nthreads = 3\n[[route]]\nto = \"second.example\"\n"),
        ("conf.d/10-a.conf~", "frob = 1"),
        ("conf.d/.hidden.conf", "frob = 1"),
    ]);
    let (config, problems) = super::load(&f.0.join("gatepost.conf")).unwrap();
    assert_eq!(problems, []);
    assert_eq!((config.log.as_str(), config.limits.threads), ("debug", 3));
    assert_eq!(config.tls.cert, Some(f.0.join("c")));
    let to: Vec<_> = config.routes.iter().flat_map(|r| r.to.clone()).collect();
    assert_eq!(to, ["first.example", "second.example", "third.example"]);
}

#[test]
fn faults_name_the_included_file() {
    const CASES: &[(&str, &str)] = &[
        ("# x\nfrob = 1", "conf.d/a.conf:2: frob: is not a key: gatepost.conf(5) lists all keys"),
        ("hostname = \"b.example\"", "conf.d/a.conf:1: hostname: is set already at gatepost.conf:1: remove one of them"),
        ("[tls]\ncert = \"c\"", "tls.conf:2: tls.cert: is set already at conf.d/a.conf:2: remove one of them"),
        ("include = \"x.conf\"", "conf.d/a.conf:1: include: stands only in the main file: move it there"),
        (
            "a = \"",
            "conf.d/a.conf:1: not TOML: invalid basic string, expected `\"` (a value is \"text in quotes\", a number, true, false or a [\"list\"])",
        ),
    ];
    for (text, want) in CASES {
        let f = folder(&[("gatepost.conf", MAIN), TLS, ("conf.d/a.conf", text)]);
        assert_eq!(lines(&f.0.join("gatepost.conf"), MAIN).join("|"), *want, "{text}");
    }
    const INCLUDES: &[(&str, &str)] = &[
        ("include = \"nowhere.conf\"", "gatepost.conf:3: include: nowhere.conf: is not there"),
        ("include = \"nowhere.d/*.conf\"", ""),
        ("include = \"*/x.conf\"", "gatepost.conf:3: include: \"*/x.conf\": may have one *, in its last part: write \"conf.d/*.conf\""),
        ("include = 1", "gatepost.conf:3: include: must be a path, \"conf.d/*.conf\", or a list of them, not the number 1"),
        ("include = \"latin1.conf\"", "gatepost.conf:3: include: latin1.conf: is not UTF-8 in line 2: save it as UTF-8"),
    ];
    for (text, want) in INCLUDES {
        let f = folder(&[]);
        std::fs::write(f.0.join("latin1.conf"), b"# ok\n# \xfc\n").unwrap();
        let whole = format!("hostname = \"mail.example.org\"\ndomains = \"example.org\"\n{text}{REST}");
        assert_eq!(lines(&f.0.join("gatepost.conf"), &whole).join("|"), *want, "{text}");
    }
}

#[test]
fn a_password_file_is_read_and_its_mode_looked_at() {
    use std::os::unix::fs::PermissionsExt;
    let f = folder(&[("relay.secret", "sesame\nnot this\n")]);
    let text = format!(
        "hostname = \"mail.example.org\"\ndomains = \"example.org\"\n[[route]]\nvia = \"r.example:587\"\nuser = \"a\"\npassword-file = \"relay.secret\"{REST}"
    );
    let file = f.0.join("gatepost.conf");
    for (mode, problems) in [
        (0o600, ""),
        (0o640, ""),
        (0o644, "gatepost.conf:6: warning: route.password-file: everybody on this host can read relay.secret: chmod o-rwx it"),
    ] {
        std::fs::set_permissions(f.0.join("relay.secret"), PermissionsExt::from_mode(mode)).unwrap();
        assert_eq!(lines(&file, &text).join("|"), problems);
        let (config, _) = parse(&file, &text).unwrap();
        assert_eq!(config.routes[0].password, Some(super::Secret("sesame".into())));
        assert!(!format!("{config:?}").contains("sesame"));
    }
    std::fs::write(f.0.join("relay.secret"), "\nsesame\n").unwrap();
    assert_eq!(lines(&file, &text).pop().unwrap(), "gatepost.conf:6: route.password-file: the first line of relay.secret must be the password");
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "(hostname|domains|\\[|\\]|\\[\\[route\\]\\]|\\[tls\\]|=|\"|,|to|via|x:25|\\.|\\{|\\}|\\d|\\n|\\PC){0,60}") {
        let _ = parse(Path::new("/nonexistent/gatepost.conf"), &text);
    }
}

#[test]
fn the_sample_loads() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/gatepost.conf");
    let (_, problems) = super::load(&file).unwrap();
    assert_eq!(problems, []);
    // And what it holds as comments, once they are none.
    let text = std::fs::read_to_string(&file).unwrap().replace("\n#[", "\n[").replace("\n#to", "\nto").replace("\n#via", "\nvia");
    let text = text.replace("\n#tls", "\ntls").replace("\n#user", "\nuser").replace("\n#pop3", "\npop3");
    let (config, problems) = parse(&file, &text.replace("\n#password-file = \"relay.secret\"", "\npassword-file = \"users\"")).unwrap();
    assert!(problems.iter().all(|p| p.warning));
    assert_eq!((config.routes.len(), config.listen.pop3.len()), (1, 0));
}
