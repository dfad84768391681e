//! Builds every room from a [`Config`] and hands them to each other; start, reload, drain.
//!
//! Order matters at the start (`ARCHITECTURE.md`): configuration and secrets, sockets, privileges, and only then
//! the first smol call, because Landlock and no_new_privs bind only threads that start later.

mod notices;

use crate::{
    accounts::Accounts,
    config::{self, Config, Live, Problem},
    control, disk,
    dns::{self, Dns},
    imapd,
    journal::Line,
    mta::{Mta, Quotas, sign},
    net::{Drain, listen, tls::Acceptor},
    os::{
        self,
        sockets::{Activated, Taken},
    },
    pop3d, smtpd,
    spool::Spool,
    store::Store,
};
use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

pub type Executor = Rc<smol::LocalExecutor<'static>>;

/// How long a drain waits for messages in flight and running attempts before it ends the process anyway;
/// below systemd's TimeoutStopSec of 90 s.
const DRAIN: Duration = Duration::from_secs(30);

/// Folders that are closed within this time are written down in one go.
const BURST: Duration = Duration::from_secs(1);

/// What must be read before privileges go: files that only root may read.
pub struct Secrets {
    accounts: Arc<Accounts>,
    tls: Option<Acceptor>,
}

impl Secrets {
    /// `Err`: all that is wrong, one problem a line.
    pub fn load(config: &Config) -> Result<Self, String> {
        let (accounts, warnings) = Accounts::load(config).map_err(|p| lines(&p))?;
        warn(&warnings);
        let tls = if config.tls.cert.is_some() { Some(Acceptor::load(&config.tls)?) } else { None };
        Ok(Self { accounts: Arc::new(accounts), tls })
    }
}

/// The services, shared by all sessions; lives as long as the daemon.
pub struct Rooms {
    pub config: Arc<Live<Config>>,
    pub accounts: Arc<Accounts>,
    pub store: Arc<Store>,
    pub mta: Rc<Mta>,
    pub tls: Option<Acceptor>,
    pub drain: Drain,
    limits: listen::Limits,
    /// One reload at a time: SIGHUP and control.sock may ask together.
    reloading: smol::lock::Mutex<()>,
}

impl Rooms {
    /// Secrets and rooms in one step, for tests and the demo. Touches the disk.
    pub fn build(config: Config) -> Result<Self, String> {
        let secrets = Secrets::load(&config)?;
        Self::open(config, secrets)
    }

    /// Opens store and spool (as the user that will own their files).
    pub fn open(config: Config, secrets: Secrets) -> Result<Self, String> {
        // Several hosts that serve one tree are one `hostname` to the world; in file names each is itself.
        let store = Store::open(&config.state.join("mail"), disk::hostname(), imapd::summary::make).map_err(|e| e.to_string())?;
        let spool = Arc::new(Spool::open(&config.state.join("spool")).map_err(|e| e.to_string())?);
        let dns = Dns::new(&config.dns)?;
        let config = Arc::new(Live::new(config));
        store.set_tree(config.get().folders_as_tree);
        store.set_quotas(Quotas::new(secrets.accounts.clone(), config.clone()));
        let mta = Mta::new(config.clone(), secrets.accounts.clone(), store.clone(), spool, dns);
        let (keys, problems) = sign::Keys::load(&config.get().state.join("keys"));
        warn(&problems);
        mta.keys.set(keys);
        let (drain, limits, reloading) = (Drain::new(), listen::Limits::default(), smol::lock::Mutex::new(()));
        Ok(Self { config, accounts: secrets.accounts, store, mta, tls: secrets.tls, drain, limits, reloading })
    }

    pub fn smtp(&self, kind: smtpd::Kind) -> Rc<smtpd::Service> {
        let tls = match kind {
            smtpd::Kind::Mx => self.tls.as_ref().map(Acceptor::without_tickets),
            smtpd::Kind::Submission => self.tls.clone(),
        };
        Rc::new(smtpd::Service { mta: self.mta.clone(), tls, kind })
    }

    pub fn imap(&self) -> Rc<imapd::Service> {
        Rc::new(imapd::Service { config: self.config.clone(), accounts: self.accounts.clone(), store: self.store.clone(), tls: self.tls.clone() })
    }

    pub fn pop3(&self) -> Rc<pop3d::Service> {
        Rc::new(pop3d::Service { config: self.config.clone(), accounts: self.accounts.clone(), store: self.store.clone(), tls: self.tls.clone() })
    }

    /// Accepts on every listener and runs the queue. Each task ends when the daemon drains and its sessions are done.
    pub fn start(&self, ex: &Executor, listeners: Listeners) -> Vec<smol::Task<()>> {
        let mut tasks: Vec<_> = listeners.0.into_iter().map(|(port, listener)| ex.spawn(self.accept(ex.clone(), port, listener))).collect();
        tasks.push(ex.spawn(self.mta.clone().run_queue(ex.clone(), self.drain.clone())));
        tasks.push(ex.spawn(tidy(self.store.clone(), self.drain.clone())));
        tasks.push(ex.spawn(self.watch()));
        tasks
    }

    /// Notices what other programs do in selected folders, until the daemon drains.
    pub fn watch(&self) -> impl Future<Output = ()> + 'static + use<> {
        let (store, drain) = (self.store.clone(), self.drain.clone());
        async move { smol::future::or(notices::look(store), drain.wait()).await }
    }

    fn accept(&self, ex: Executor, port: Port, listener: TcpListener) -> impl Future<Output = ()> + 'static + use<> {
        let implicit = matches!(port, Port::Submissions | Port::Imaps | Port::Pop3s);
        let tls = if implicit { self.tls.clone() } else { None };
        let (config, limits, drain) = (self.config.clone(), self.limits.clone(), self.drain.clone());
        let (mx, submission) = (self.smtp(smtpd::Kind::Mx), self.smtp(smtpd::Kind::Submission));
        let (imap, pop3) = (self.imap(), self.pop3());
        async move {
            let name = port.name();
            match port {
                Port::Smtp => listen::serve(ex, listener, name, tls, config, limits, smtpd::BUSY, drain, move |w| smtpd::serve(mx.clone(), w)).await,
                Port::Submission | Port::Submissions => {
                    listen::serve(ex, listener, name, tls, config, limits, smtpd::BUSY, drain, move |w| smtpd::serve(submission.clone(), w)).await;
                }
                Port::Imap | Port::Imaps => {
                    listen::serve(ex, listener, name, tls, config, limits, imapd::BUSY, drain, move |w| imapd::serve(imap.clone(), w)).await
                }
                Port::Pop3 | Port::Pop3s => {
                    listen::serve(ex, listener, name, tls, config, limits, pop3d::BUSY, drain, move |w| pop3d::serve(pop3.clone(), w)).await
                }
            }
        }
    }

    /// SIGHUP: configuration, users, aliases, certificate and DKIM keys. All or nothing: when anything is wrong the
    /// old stays and `Err` says what.
    pub async fn reload(&self) -> Result<(), String> {
        let _turn = self.reloading.lock().await;
        let file = self.config.get().file.clone();
        let (accounts, tls) = (self.accounts.clone(), self.tls.clone());
        let old = self.config.get();
        let config = smol::unblock(move || {
            let (config, warnings) = config::load(&file).map_err(|p| lines(&p))?;
            // Tried before anything changes: users must not be new while the certificate is refused.
            if tls.is_some() {
                Acceptor::load(&config.tls)?;
            }
            let more = accounts.reload(&config).map_err(|p| lines(&p))?;
            if let Some(tls) = &tls {
                tls.reload(&config.tls)?;
            }
            warn(&warnings);
            warn(&more);
            Ok::<_, String>(config)
        })
        .await?;
        for key in needs_restart(&old, &config) {
            Line::warn("daemon", "reload").with("key", key).with("note", "takes effect at the next restart").send();
        }
        let mut kept = Config {
            listen: old.listen.clone(),
            state: old.state.clone(),
            run: old.run.clone(),
            user: old.user.clone(),
            dns: old.dns.clone(),
            ..config
        };
        fit(&mut kept, os::files());
        self.store.set_tree(kept.folders_as_tree);
        self.config.set(kept);
        let keys = self.config.get().state.join("keys");
        let (keys, problems) = smol::unblock(move || sign::Keys::load(&keys)).await;
        warn(&problems);
        self.mta.keys.set(keys);
        Ok(())
    }
}

/// Keys that are fixed once the sockets are bound and the sandbox is shut.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut keys = config::needs_restart(old, new);
    // Another certificate can be read at any time; listeners without TLS cannot learn it.
    if old.tls.cert.is_some() != new.tls.cert.is_some() {
        keys.push("tls.cert");
    }
    keys
}

/// What listens where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    Smtp,
    Submission,
    Submissions,
    Imap,
    Imaps,
    Pop3,
    Pop3s,
}

impl Port {
    pub fn name(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Submission => "submission",
            Self::Submissions => "submissions",
            Self::Imap => "imap",
            Self::Imaps => "imaps",
            Self::Pop3 => "pop3",
            Self::Pop3s => "pop3s",
        }
    }
}

pub struct Listeners(pub Vec<(Port, TcpListener)>);

impl Listeners {
    /// Binds every address of `[listen]`, or takes the socket that systemd passed for it.
    pub fn bind(config: &Config) -> Result<Self, String> {
        let l = &config.listen;
        let wanted = [
            (Port::Smtp, &l.smtp),
            (Port::Submission, &l.submission),
            (Port::Submissions, &l.submissions),
            (Port::Imap, &l.imap),
            (Port::Imaps, &l.imaps),
            (Port::Pop3, &l.pop3),
            (Port::Pop3s, &l.pop3s),
        ];
        let mut passed = Activated::from_env().map_err(|e| format!("sockets from systemd: {e}"))?;
        let mut bound = Vec::new();
        let ipv6 = os::sockets::has_ipv6();
        for (port, addresses) in wanted {
            for address in addresses {
                let listener = match passed.take(*address) {
                    Taken::Listener(l) => l,
                    Taken::Covered => continue,
                    Taken::Nothing if !ipv6 && is_spare(*address, addresses) => {
                        Line::info("daemon", "skipped").with("listen", address).with("note", "this host has no IPv6").send();
                        continue;
                    }
                    Taken::Nothing => listen::bind(*address).map_err(|e| format!("listen.{}: {e}", port.name()))?,
                };
                bound.push((port, listener));
            }
        }
        for address in passed.unused() {
            Line::warn("daemon", "activation").with("address", address).with("note", "passed by systemd, but not in [listen]: closed").send();
        }
        Ok(Self(bound))
    }
}

/// `[::]` beside `0.0.0.0`, as in the defaults: on a host without IPv6 the other one is all there is to serve.
fn is_spare(address: SocketAddr, all: &[SocketAddr]) -> bool {
    let ipv4 = SocketAddr::from(([0, 0, 0, 0], address.port()));
    address.is_ipv6() && address.ip().is_unspecified() && all.contains(&ipv4)
}

/// Descriptors that no connection shall take: the store, the queue's own connections, sockets and logs.
const RESERVED: u64 = 256;
/// A socket, a file it reads, and the log of its folder.
const PER_CONNECTION: u64 = 3;

/// No more connections than there are descriptors for: refusing some is better than failing all for want of a file.
fn fit(config: &mut Config, files: u64) {
    let most = usize::try_from(files.saturating_sub(RESERVED.min(files / 2)) / PER_CONNECTION).unwrap_or(usize::MAX).max(1);
    if config.limits.connections > most {
        let note = format!("only {files} files may be open, which is enough for {most} connections: raise LimitNOFILE= or ulimit -n");
        Line::warn("daemon", "limits").with("connections", config.limits.connections).with("note", note).send();
        config.limits.connections = most;
    }
}

fn log_confined(report: &os::Report) {
    let landlock = report.landlock.as_ref().map_or_else(|why| format!("off: {why}"), |how| (*how).to_owned());
    let seccomp = report.seccomp.as_ref().map_or_else(|why| format!("off: {why}"), |()| "on".to_owned());
    let whole = report.landlock.is_ok() && report.seccomp.is_ok() && report.uid != 0;
    let line = if whole { Line::info("daemon", "confined") } else { Line::warn("daemon", "confined") };
    line.with("uid", report.uid).with("files", report.files).with("landlock", landlock).with("seccomp", seccomp).send();
}

/// `gatepost serve`: returns when the daemon was asked to stop.
pub fn run(mut config: Config) -> Result<(), String> {
    let secrets = Secrets::load(&config)?;
    let listeners = Listeners::bind(&config)?;
    // Everybody may reach submit.sock; what is below state is its user's alone.
    os::own_directories(config.user.as_deref(), &[(&config.state, 0o750), (&config.run, 0o755)])?;
    // Its file is out of reach from here on.
    let _ = disk::boot_id();
    let report = os::confine(&confinement(&config))?;
    log_confined(&report);
    fit(&mut config, report.files);
    let ex: Executor = Rc::new(smol::LocalExecutor::new());
    smol::block_on(ex.run(dns::EXECUTOR.run(live(ex.clone(), config, secrets, listeners))))
}

fn confinement(config: &Config) -> os::Confinement {
    let folder = |p: &Path| p.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
    let mut read = vec![folder(&config.file), folder(&config.users), folder(&config.aliases)];
    for file in [&config.tls.cert, &config.tls.key].into_iter().flatten() {
        read.push(folder(file));
        // certbot's live/ holds links into archive/
        if let Ok(real) = std::fs::canonicalize(file) {
            read.push(folder(&real));
        }
    }
    read.extend(config.routes.iter().filter_map(|r| r.password_file.as_deref()).map(folder));
    let files = RESERVED + PER_CONNECTION * config.limits.connections as u64;
    os::Confinement { user: config.user.clone(), read, write: vec![config.state.clone(), config.run.clone()], files, threads: 0 }
}

async fn live(ex: Executor, config: Config, secrets: Secrets, listeners: Listeners) -> Result<(), String> {
    let mut signals = os::signals::Signals::new().map_err(|e| format!("signals: {e}"))?;
    let ports: Vec<String> = listeners.0.iter().filter_map(|(p, l)| Some(format!("{}={}", p.name(), l.local_addr().ok()?))).collect();
    let run = config.run.clone();
    let rooms = Rc::new(Rooms::open(config, secrets).map_err(|e| whose(&e))?);
    let mut tasks = rooms.start(&ex, listeners);
    // After the spool was opened: its lock says that these sockets have no other owner.
    match control::Sockets::bind(&run, None) {
        Ok(sockets) => {
            let (for_reload, for_stat) = (rooms.clone(), rooms.clone());
            let reload: control::Reload = Box::new(move || {
                let rooms = for_reload.clone();
                Box::pin(async move { reload(&rooms).await.map(|()| "reloaded".to_owned()) })
            });
            let stat = Box::new(move || format!("connections {}\n", for_stat.limits.active()));
            let control = Rc::new(control::Control { mta: rooms.mta.clone(), reload, stat });
            tasks.push(ex.spawn(control.serve(sockets, ex.clone(), rooms.drain.clone())));
        }
        Err(e) => Line::warn("daemon", "control").with("error", e).with("note", "`gatepost queue` and sendmail will not reach this daemon").send(),
    }
    Line::info("daemon", "ready").with("version", env!("CARGO_PKG_VERSION")).with("listen", ports.join(" ")).send();
    os::notify::ready();
    os::notify::status("serving");
    if let Some(every) = os::notify::watchdog_interval() {
        // From the one executor: when it hangs, so does all else, and systemd shall know.
        let watchdog = async move {
            loop {
                os::notify::watchdog();
                smol::Timer::after(every).await;
            }
        };
        ex.spawn(watchdog).detach();
    }
    loop {
        match signals.next().await {
            os::signals::Signal::Hup => {
                let _ = reload(&rooms).await;
            }
            os::signals::Signal::Usr1 => Line::info("daemon", "state").with("connections", rooms.limits.active()).send(),
            os::signals::Signal::Term => break,
        }
    }
    Line::info("daemon", "stopping").send();
    os::notify::stopping();
    rooms.drain.start();
    let done = async {
        for task in tasks {
            task.await;
        }
        rooms.limits.empty().await;
        true
    };
    let late = async {
        smol::future::or(
            async {
                smol::Timer::after(DRAIN).await;
            },
            async {
                // A second signal means now.
                while !matches!(signals.next().await, os::signals::Signal::Term) {}
            },
        )
        .await;
        false
    };
    let clean = smol::future::or(done, late).await;
    if clean {
        let store = rooms.store.clone();
        smol::unblock(move || store.tidy(true)).await;
    }
    Line::info("daemon", "stopped").with("clean", clean).send();
    Ok(())
}

/// Has the store write down what sessions left, until the daemon drains.
async fn tidy(store: Arc<Store>, drain: Drain) {
    let mut next = None;
    let mut untidy = store.untidy();
    loop {
        let sleep = async {
            match next {
                Some(time) => drop(smol::Timer::after(time).await),
                None => std::future::pending().await,
            }
        };
        let work = async {
            smol::future::or(untidy, sleep).await;
            smol::Timer::after(BURST).await;
            false
        };
        let drains = smol::future::or(work, async {
            drain.wait().await;
            true
        });
        if drains.await {
            return;
        }
        // From before the work: what comes meanwhile is heard of.
        untidy = store.untidy();
        let store = store.clone();
        next = smol::unblock(move || store.tidy(false)).await;
    }
}

async fn reload(rooms: &Rooms) -> Result<(), String> {
    os::notify::reloading();
    let result = rooms.reload().await;
    match &result {
        Ok(()) => {
            Line::info("daemon", "reloaded").send();
            os::notify::status("serving");
        }
        Err(e) => {
            for line in e.lines() {
                Line::error("daemon", "reload").with("error", line).send();
            }
            if e.to_lowercase().contains("permission denied") {
                let note = "the daemon has no more rights than its user, and folders that the configuration did not name at the start need a restart";
                Line::error("daemon", "reload").with("note", note).send();
            }
            Line::error("daemon", "reload").with("note", "the old configuration stays in force").send();
            os::notify::status("serving with the old configuration: the last reload failed, the log says why");
        }
    }
    os::notify::ready();
    result
}

/// What stands in the way; warnings are for when nothing does.
fn lines(problems: &[Problem]) -> String {
    problems.iter().filter(|p| !p.warning).map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

pub(crate) fn warn(problems: &[Problem]) {
    for p in problems {
        let line = Line::warn("config", "problem").with("file", p.file.display());
        line.with_some("line", (p.line > 0).then_some(p.line)).with("text", &p.text).send();
    }
}

/// The usual reason why a folder of ours cannot be opened: root made it by hand.
fn whose(error: &str) -> String {
    if error.contains("Permission denied") {
        let user = os::user_name(os::uid()).unwrap_or_else(|| os::uid().to_string());
        return format!("{error}: the daemon runs as {user}, to whom all below state must belong (chown -R)");
    }
    error.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ipv6_half_of_everywhere_is_spare() {
        const CASES: &[(&str, &[&str], bool)] = &[
            ("[::]:25", &["0.0.0.0:25", "[::]:25"], true),
            ("[::]:25", &["[::]:25"], false),
            ("[::]:25", &["0.0.0.0:26", "[::]:25"], false),
            ("[2001:db8::1]:25", &["0.0.0.0:25", "[2001:db8::1]:25"], false),
            ("0.0.0.0:25", &["0.0.0.0:25", "[::]:25"], false),
        ];
        for (address, all, want) in CASES {
            let all: Vec<SocketAddr> = all.iter().map(|a| a.parse().unwrap()).collect();
            assert_eq!(is_spare(address.parse().unwrap(), &all), *want, "{address} of {all:?}");
        }
    }

    #[test]
    fn connections_fit_the_descriptors() {
        const CASES: &[(u64, usize, usize)] = &[(65536, 1000, 1000), (3256, 1000, 1000), (1024, 1000, 256), (64, 1000, 10), (0, 1000, 1), (64, 5, 5)];
        let (mut config, _) = config::parse(
            Path::new("/nonexistent/gatepost.conf"),
            "hostname = \"a.example\"\ndomains = [\"a.example\"]\n[tls]\ncert = \"c\"\nkey = \"k\"\n",
        )
        .unwrap();
        for (files, wanted, want) in CASES {
            config.limits.connections = *wanted;
            fit(&mut config, *files);
            assert_eq!(config.limits.connections, *want, "{files}");
        }
    }
}
