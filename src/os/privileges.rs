//! From root to as little as possible.
//!
//! The order matters and each step says why. glibc makes set*uid reach all threads, but capabilities,
//! no_new_privs and landlock bind only the calling thread and its later children: call [`confine`] before
//! anything starts a thread.

use super::sandbox;
use nix::{
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        stat::{Mode, umask},
    },
    unistd::{Uid, User, chown, initgroups, setgroups, setresgid, setresuid, setuid},
};
use std::{
    ffi::CString,
    fmt,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// What shall remain possible.
#[derive(Debug, Clone, Default)]
pub struct Confinement {
    /// User to become, with its groups; `None`, or not started by root: stay.
    pub user: Option<String>,
    /// Files and folders that stay readable, besides those every program needs (/etc, resolver, time zones). A
    /// folder where files are replaced by rename; symbolic links count with their targets.
    pub read: Vec<PathBuf>,
    /// Folders that stay writable; they must exist.
    pub write: Vec<PathBuf>,
    /// File descriptors wanted; as many as the hard limit allows when not root. 0: what the hard limit allows.
    pub files: u64,
    /// Threads of the new user at most; 0: no limit of ours. Only when the user was changed, for it counts all
    /// of a user's processes.
    pub threads: u64,
}

/// What was done, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub uid: u32,
    pub files: u64,
    /// `full`, `partial`, or why not.
    pub landlock: Result<&'static str, String>,
    /// Or why not.
    pub seccomp: Result<(), String>,
}

/// Once, before the first thread, after everything that needs privileges (bound ports, read secrets). Landlock
/// and seccomp are best effort; all else that fails is an error, and the program must end.
pub fn confine(wanted: &Confinement) -> Result<Report, String> {
    let root = Uid::effective().is_root();
    let files = raise_files(wanted.files, root)?;
    match &wanted.user {
        Some(user) if root => become_user(user, wanted.threads)?,
        _ => {}
    }
    if !Uid::effective().is_root() {
        drop_capabilities()?;
    }
    // Before seccomp: without privileges the kernel takes a filter only from those who can gain none.
    prctl::set_no_new_privs().map_err(|e| failed("no_new_privs", e))?;
    // No core file and no debugger shows passwords and mail.
    prctl::set_dumpable(false).map_err(|e| failed("dumpable", e))?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|e| failed("RLIMIT_CORE", e))?;
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let landlock = sandbox::landlock(&wanted.read, &wanted.write);
    // Last: landlock's own calls pass a filter, but not every later addition would.
    let seccomp = sandbox::seccomp();
    Ok(Report { uid: Uid::effective().as_raw(), files, landlock, seccomp })
}

/// Makes the folders that the daemon writes to and, as root with a `user` to become, gives them to it.
pub fn own_directories(user: Option<&str>, folders: &[(&Path, u32)]) -> Result<(), String> {
    let owner = match user {
        Some(name) if Uid::effective().is_root() => Some(User::from_name(name).map_err(|e| failed(name, e))?.ok_or_else(|| no_user(name))?),
        _ => None,
    };
    for (folder, mode) in folders {
        let told = |e: &dyn fmt::Display| format!("cannot create {}: {e}; make it, or set another in the configuration", folder.display());
        if folder.is_dir() {
            continue;
        }
        let missing: Vec<&Path> = folder.ancestors().take_while(|p| !p.is_dir()).collect();
        std::fs::DirBuilder::new().recursive(true).mode(*mode).create(folder).map_err(|e| told(&e))?;
        // Whatever the umask was.
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(*mode)).map_err(|e| told(&e))?;
        if let Some(u) = &owner {
            chown(*folder, Some(u.uid), Some(u.gid)).map_err(|e| told(&e))?;
        }
        // Mail that is taken a moment later must not lie under a name that a power cut takes back.
        for parent in missing.iter().filter_map(|p| p.parent()) {
            std::fs::File::open(parent).and_then(|d| d.sync_all()).map_err(|e| told(&e))?;
        }
    }
    Ok(())
}

fn no_user(name: &str) -> String {
    format!("there is no system user {name}: create it, or set user in the configuration")
}

fn failed(what: &str, e: impl fmt::Display) -> String {
    format!("cannot drop privileges: {what}: {e}")
}

/// How many file descriptors this process may have.
pub fn files() -> u64 {
    #[allow(clippy::useless_conversion)] // rlim_t is narrower on 32-bit machines
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft.into())
}

/// Only root may raise the hard limit.
#[allow(clippy::useless_conversion)] // rlim_t is narrower on 32-bit machines
fn raise_files(wanted: u64, root: bool) -> Result<u64, String> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| failed("RLIMIT_NOFILE", e))?;
    let goal = if wanted == 0 { hard } else { wanted.try_into().unwrap_or(hard) };
    if root && goal > hard && setrlimit(Resource::RLIMIT_NOFILE, goal, goal).is_ok() {
        return Ok(goal.into());
    }
    let goal = goal.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, goal, hard).map_err(|e| failed("RLIMIT_NOFILE", e))?;
    Ok(goal.into())
}

fn become_user(name: &str, threads: u64) -> Result<(), String> {
    let user = User::from_name(name).map_err(|e| failed(name, e))?;
    let user = user.ok_or_else(|| no_user(name))?;
    let c_name = CString::new(name).map_err(|e| failed(name, e))?;
    // Groups first: afterwards nobody may set them.
    initgroups(&c_name, user.gid).or_else(|_| setgroups(&[user.gid])).map_err(|e| failed("groups", e))?;
    // Needs CAP_SETPCAP, so before setuid; containers that lack it have a small set already.
    let _ = caps::clear(None, caps::CapSet::Bounding);
    if threads > 0 {
        #[allow(clippy::useless_conversion)] // rlim_t is narrower on 32-bit machines
        let limit = threads.try_into().unwrap_or(nix::sys::resource::RLIM_INFINITY);
        setrlimit(Resource::RLIMIT_NPROC, limit, limit).map_err(|e| failed("RLIMIT_NPROC", e))?;
    }
    setresgid(user.gid, user.gid, user.gid).map_err(|e| failed("group", e))?;
    setresuid(user.uid, user.uid, user.uid).map_err(|e| failed("user", e))?;
    if !user.uid.is_root() && setuid(Uid::from_raw(0)).is_ok() {
        return Err(failed("user", "root could be had again"));
    }
    Ok(())
}

/// Also those that systemd gave for binding (AmbientCapabilities=).
fn drop_capabilities() -> Result<(), String> {
    use caps::CapSet as C;
    for set in [C::Ambient, C::Inheritable, C::Effective, C::Permitted] {
        caps::clear(None, set).map_err(|e| failed("capabilities", e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        os::unix::{fs::symlink, process::CommandExt},
        process::Command,
        thread,
    };

    const CHILD: &str = "GATEPOST_TEST_CONFINE";

    /// Runs in a process of its own, started by the tests below: what it did cannot be undone.
    #[test]
    fn child() {
        let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
        let wanted =
            Confinement { user: Some("nobody".into()), read: vec![dir.join("link")], write: vec![dir.join("state")], files: 64, threads: 4000 };
        let report = confine(&wanted).unwrap();
        let say = |what: &str, ok: bool| println!("\n{what}={ok}");
        // As the pool's threads, which start later.
        let seen = thread::spawn(move || {
            let state = dir.join("state");
            fs::create_dir_all(state.join("tmp")).unwrap();
            fs::write(state.join("tmp/a"), "x").unwrap();
            say("rename", fs::rename(state.join("tmp/a"), state.join("b")).is_ok());
            say("private", fs::metadata(state.join("b")).unwrap().permissions().mode() & 0o077 == 0);
            say("read-allowed", fs::read(dir.join("link/file")).is_ok());
            say("write-read-only", fs::write(dir.join("link/new"), "x").is_ok());
            say("read-other", fs::read(dir.join("other")).is_ok());
            say("read-etc", fs::read("/etc/hosts").is_ok() || fs::metadata("/etc/hosts").is_err());
            say("exec", Command::new("/bin/true").spawn().is_ok());
            say("root", setuid(Uid::from_raw(0)).is_ok() && !Uid::effective().is_root());
            say("listen", std::net::TcpListener::bind("127.0.0.1:0").is_ok());
        });
        seen.join().unwrap();
        println!("\nlandlock={}", report.landlock.is_ok());
        println!("\nseccomp={}", report.seccomp.is_ok());
        println!("\nuid={}", report.uid);
        println!("\nfiles={}", report.files);
        println!("\ncaps={}", caps::read(None, caps::CapSet::Permitted).unwrap().len());
    }

    fn run(name: &str, as_root: bool) {
        let dir = std::env::temp_dir().join(format!("gatepost-os-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for d in ["state", "target"] {
            fs::create_dir_all(dir.join(d)).unwrap();
        }
        for f in ["target/file", "other"] {
            fs::write(dir.join(f), "x").unwrap();
        }
        symlink("target", dir.join("link")).unwrap();
        for d in ["", "state"] {
            fs::set_permissions(dir.join(d), fs::Permissions::from_mode(0o777)).unwrap();
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "os::privileges::tests::child", "--nocapture", "--test-threads=1"]).env(CHILD, &dir);
        if !as_root && Uid::effective().is_root() {
            command.uid(65534).gid(65534);
        }
        let Ok(out) = command.output() else {
            assert!(!as_root, "cannot start ourselves");
            return; // a build folder that nobody may enter
        };
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{text}");
        let said = |what: &str| text.lines().find_map(|l| l.strip_prefix(what)?.strip_prefix('=')).unwrap_or_else(|| panic!("no {what}: {text}"));
        let (landlock, seccomp) = (said("landlock") == "true", said("seccomp") == "true");
        for (what, want) in [
            ("rename", true),
            ("private", true),
            ("read-allowed", true),
            ("read-etc", true),
            ("listen", true),
            ("root", false),
            ("read-other", !landlock),
            ("exec", !seccomp),
        ] {
            assert_eq!(said(what), want.to_string(), "{what}: {text}");
        }
        if landlock {
            assert_eq!(said("write-read-only"), "false", "{text}");
        }
        assert_ne!(said("uid"), "0", "{text}");
        assert_eq!((said("files"), said("caps")), ("64", "0"), "{text}");
        let _ = fs::remove_dir_all(&dir);
    }

    #[test]
    fn root_becomes_a_user_who_can_do_little() {
        if Uid::effective().is_root() {
            run("root", true);
        }
    }

    #[test]
    fn without_root_the_rest_still_holds() {
        run("user", false);
    }

    #[test]
    fn folders_have_their_mode_under_any_umask() {
        let dir = std::env::temp_dir().join(format!("gatepost-own-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let (state, run) = (dir.join("state"), dir.join("run"));
        own_directories(None, &[(&state, 0o750), (&run, 0o777)]).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&state), mode(&run)), (0o750, 0o777), "the usual umask takes 022 away");
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        own_directories(None, &[(&state, 0o750)]).unwrap();
        assert_eq!(mode(&state), 0o700, "what is there stays as somebody made it");
        fs::remove_dir_all(&dir).unwrap();
    }
}
