//! The host side: the directory before the start, and what `!` does to it.

use super::{
    PATIENCE,
    fixtures::{Fixtures, Mail},
    pattern::{Captures, Pattern, show},
    server,
};
use std::{
    fmt::Write,
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

/// 2026-01-02 03:04:05 UTC
const EPOCH: u64 = 1_767_323_045;

/// Words, where "a quoted one" may have blanks.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        out.push(word.to_owned());
        rest = after.trim_start();
    }
    out
}

/// Configuration, users, aliases, certificate and mail. What only the server's thread knows it adds itself.
pub(crate) fn prepare(dir: &Path, fixtures: &Fixtures, mx_port: u16) -> Result<(), String> {
    let put = |name: &str, text: &str| fs::write(dir.join(name), text).map_err(|e| format!("{name}: {e}"));
    let (cert, key) = server::certificate();
    put("cert.pem", cert)?;
    put("key.pem", key)?;
    let mut users = String::new();
    for (name, password) in [("alice".to_owned(), "sesame".to_owned())].iter().chain(&fixtures.users) {
        let _ = writeln!(users, "{}:{{PLAIN}}{password}", address(name));
    }
    put("users", &users)?;
    put("aliases", &fixtures.aliases.iter().map(|a| format!("{a}\n")).collect::<String>())?;
    let path = |name: &str| format!("\"{}\"", dir.join(name).display());
    let mut keys: Vec<(String, String)> = [
        ("hostname", "\"mail.example.org\"".to_owned()),
        ("domains", "[\"example.org\"]".to_owned()),
        ("postmaster", "\"alice@example.org\"".to_owned()),
        ("state", path("state")),
        ("run", path("run")),
        ("users", path("users")),
        ("aliases", path("aliases")),
        ("tls.cert", path("cert.pem")),
        ("tls.key", path("key.pem")),
        ("smtp.mx-port", mx_port.to_string()),
        ("limits.login-failures", "0".to_owned()),
    ]
    .map(|(k, v)| (k.to_owned(), v))
    .to_vec();
    for (key, value) in &fixtures.keys {
        keys.retain(|(k, _)| k != key);
        keys.push((key.clone(), value.clone()));
    }
    let mut config: String = keys.iter().map(|(k, v)| format!("{k} = {v}\n")).collect();
    config.push_str("dns.servers = [\"DNS\"]\n");
    config.push_str(&fixtures.blocks.join("\n"));
    put("gatepost.conf.in", &config.replace("$mxport", &mx_port.to_string()))?;
    for sub in ["state", "run"] {
        make(&dir.join(sub))?;
    }
    for (n, mail) in fixtures.mails.iter().enumerate() {
        drop_mail(dir, mail, Some(EPOCH + n as u64))?;
    }
    Ok(())
}

fn make(dir: &Path) -> Result<(), String> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| format!("{}: {e}", dir.display()))
}

fn address(name: &str) -> String {
    if name.contains('@') { name.to_owned() } else { format!("{name}@example.org") }
}

fn maildir(dir: &Path, user: &str, folder: &str) -> PathBuf {
    let address = address(user);
    let (local, domain) = address.split_once('@').unwrap_or((&address, ""));
    let base = dir.join("state/mail").join(domain).join(local).join("Maildir");
    if folder.eq_ignore_ascii_case("INBOX") { base } else { base.join(format!(".{}", folder.replace('/', "."))) }
}

/// As a delivering program would: into tmp/, then into new/ or cur/. With a time, also its mtime.
fn drop_mail(dir: &Path, mail: &Mail, time: Option<u64>) -> Result<(), String> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let folder = maildir(dir, &mail.user, &mail.folder);
    for sub in ["tmp", "new", "cur"] {
        make(&folder.join(sub))?;
    }
    if !mail.folder.eq_ignore_ascii_case("INBOX") {
        fs::write(folder.join("maildirfolder"), "").map_err(|e| e.to_string())?;
    }
    let text = match &mail.text {
        Ok(text) => text.clone().into_bytes(),
        Err(name) => {
            let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
            fs::read(golden.join(name)).map_err(|e| format!("tests/golden/{name}: {e}"))?
        }
    };
    let bare = text.iter().enumerate().filter(|(i, b)| **b == b'\n' && (*i == 0 || text[i - 1] != b'\r')).count();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let stamp = time.unwrap_or(now);
    let mut name = format!("{stamp}.M{:06}P{}.host", NEXT.fetch_add(1, Ordering::Relaxed), std::process::id());
    if time.is_some() {
        let _ = write!(name, ",S={},W={}", text.len(), text.len() + bare);
    }
    let tmp = folder.join("tmp").join(&name);
    let file = fs::File::create(&tmp).map_err(|e| format!("{}: {e}", tmp.display()))?;
    std::io::Write::write_all(&mut &file, &text).map_err(|e| e.to_string())?;
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(stamp)).map_err(|e| e.to_string())?;
    let target = match &mail.flags {
        None => folder.join("new").join(&name),
        Some(flags) => folder.join("cur").join(format!("{name}:2,{flags}")),
    };
    fs::rename(&tmp, &target).map_err(|e| format!("{}: {e}", target.display()))
}

/// The files of new/ and cur/, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = ["new", "cur"]
        .iter()
        .filter_map(|sub| fs::read_dir(folder.join(sub)).ok())
        .flat_map(|entries| entries.flatten().map(|e| e.path()))
        .filter(|p| !p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')))
        .collect();
    all.sort_by_key(|p| p.file_name().map(std::ffi::OsStr::to_owned));
    all
}

/// Looks again and again until it is so, or PATIENCE ends.
fn wait<T>(mut look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let until = Instant::now() + PATIENCE;
    loop {
        match look() {
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            r => return r,
        }
    }
}

pub(crate) fn act(dir: &Path, word: &str, rest: &str, block: &[String], captures: &mut Captures) -> Result<(), String> {
    let args = words(rest);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match (word, args.as_slice()) {
        ("deliver", _) => drop_mail(dir, &Mail::read(rest, (!block.is_empty()).then(|| block.to_vec()))?, None),
        ("rm", [user, folder, n]) => {
            let file = nth(&maildir(dir, user, folder), n)?;
            fs::remove_file(&file).map_err(|e| format!("{}: {e}", file.display()))
        }
        ("flags", [user, folder, n, flags]) => {
            let folder = maildir(dir, user, folder);
            let file = nth(&folder, n)?;
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let base = name.split_once(":2,").map_or(name.as_str(), |(b, _)| b);
            let flags = if *flags == "-" { "" } else { flags };
            fs::rename(&file, folder.join("cur").join(format!("{base}:2,{flags}"))).map_err(|e| format!("{}: {e}", file.display()))
        }
        ("count", [user, folder, n]) => {
            let folder = maildir(dir, user, folder);
            wait(|| same(n, files(&folder).len(), "messages"))
        }
        ("mail", [user, folder]) => {
            let folder = maildir(dir, user, folder);
            let newest = wait(|| {
                let mut all = files(&folder);
                all.sort_by_key(|f| fs::metadata(f).and_then(|m| m.modified()).ok());
                all.pop().ok_or_else(|| format!("no message in {}", folder.display()))
            })?;
            let text = fs::read(&newest).map_err(|e| format!("{}: {e}", newest.display()))?;
            compare(&text, block, captures)
        }
        ("queue", [n]) => wait(|| same(n, queued(&dir.join("state/spool")), "queued messages")),
        ("sh", _) => {
            let state = dir.join("state");
            let done = std::process::Command::new("sh").arg("-c").arg(rest).current_dir(&state).output().map_err(|e| e.to_string())?;
            let said = [done.stdout, done.stderr].concat();
            if done.status.success() { Ok(()) } else { Err(format!("`{rest}` in {}: {}\n{}", state.display(), done.status, show(&said))) }
        }
        _ => Err(format!("`! {word} {rest}` is no host action; see tests/sessions/README.md")),
    }
}

fn same(want: &str, got: usize, what: &str) -> Result<(), String> {
    if want.parse() == Ok(got) { Ok(()) } else { Err(format!("expected {want} {what}, there are {got}")) }
}

fn nth(folder: &Path, n: &str) -> Result<PathBuf, String> {
    let all = files(folder);
    let i: usize = n.parse().map_err(|_| format!("`{n}` is no number"))?;
    i.checked_sub(1).and_then(|i| all.get(i)).cloned().ok_or_else(|| format!("no file {n} in {}: it holds {}", folder.display(), all.len()))
}

/// Committed entries.
fn queued(spool: &Path) -> usize {
    gatepost::spool::peek(spool).map_or(usize::MAX, |l| l.len())
}

/// A block of patterns against a file's lines; `…` alone is any number of lines.
fn compare(text: &[u8], block: &[String], captures: &mut Captures) -> Result<(), String> {
    let patterns: Vec<Pattern> = block.iter().map(|l| Pattern::read(l)).collect::<Result<_, _>>()?;
    let mut lines = text.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l)).peekable();
    let mut any = false;
    for want in &patterns {
        if want.is_anything() {
            any = true;
            continue;
        }
        loop {
            let Some(got) = lines.next() else { return Err(format!("never came  {want}\nin\n{}", String::from_utf8_lossy(text))) };
            if want.matches(got, captures) {
                any = false;
                break;
            }
            if !any {
                return Err(format!("expected  {want}\n     got  {}\nin\n{}", show(got), String::from_utf8_lossy(text)));
            }
        }
    }
    match lines.find(|l| !l.is_empty()) {
        Some(more) if !any => Err(format!("expected  the end of the message\n     got  {}", show(more))),
        _ => Ok(()),
    }
}
