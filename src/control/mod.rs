//! The daemon's UNIX sockets, both ends of both.
//!
//! `control.sock` (root and the daemon's own user): one line asks, e.g. `queue hold all`, `reload`, `stat`. The answer's
//! first line is `ok …` or `no …`; what follows, up to the end, is the answer's body.
//! `submit.sock` (everybody on this host): local submission as `sendmail` does it, see [`submit`].
//!
//! Who asks is known from SO_PEERCRED, not from what is said. Knows nothing of the command line that prints the answers.

use crate::{
    config::Config,
    disk,
    journal::Line,
    mta::{Mta, Verb, Which},
    net::Drain,
    spool::{Entry, QueueId, envelope},
};
use nix::{
    fcntl::AT_FDCWD,
    sys::{
        socket::{getsockopt, sockopt::PeerCredentials},
        stat::{FchmodatFlags, Mode, fchmodat},
    },
};
use smol::{
    Async, LocalExecutor,
    future::FutureExt as _,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
};
use std::{
    cell::Cell,
    io::{self, Read as _, Write as _},
    os::unix::{
        fs::chown,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    time::Duration,
};

pub mod submit;

/// Under `config.run`.
pub const CONTROL: &str = "control.sock";
pub const SUBMIT: &str = "submit.sock";

/// A local program that says nothing for so long is hung up on.
const IDLE: Duration = Duration::from_secs(60);
/// Connections at once; more wait in the kernel.
const MAX_CLIENTS: usize = 32;
/// How long the command line waits for an answer: to hold fifty thousand entries takes a slow disk some time.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// A request's line.
const MAX_LINE: usize = 1024;

/// Both, listening.
#[derive(Debug)]
pub struct Sockets {
    control: UnixListener,
    submit: UnixListener,
}

impl Sockets {
    /// Blocking; before privileges are dropped, after the spool was opened (its lock says that no other daemon is
    /// there, so sockets that are have no owner). `owner`: the user and group that the daemon becomes.
    pub fn bind(run: &Path, owner: Option<(u32, u32)>) -> disk::Result<Self> {
        disk::create_dir_all(run, 0o755)?;
        Ok(Self { control: bind(&run.join(CONTROL), 0o600, owner)?, submit: bind(&run.join(SUBMIT), 0o666, owner)? })
    }
}

fn bind(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> disk::Result<UnixListener> {
    match disk::remove_file(path) {
        Err(e) if !e.is_not_found() => return Err(e),
        _ => {}
    }
    let err = |op| move |e| disk::Error::new(op, path, e);
    let listener = UnixListener::bind(path).map_err(err("listen on"))?;
    let set = fchmodat(AT_FDCWD, path, Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink);
    set.map_err(|e| disk::Error::new("set the mode of", path, e.into()))?;
    if let Some((user, group)) = owner {
        chown(path, Some(user), Some(group)).map_err(err("set the owner of"))?;
    }
    Ok(listener)
}

/// A reload as the daemon does it: what to say, or what is wrong.
pub type Reload = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<String, String>>>>>;

/// What the sockets act on.
pub struct Control {
    pub mta: Rc<Mta>,
    pub reload: Reload,
    /// Lines of `key value` for `gatepost stat`.
    pub stat: Box<dyn Fn() -> String>,
}

impl Control {
    /// Serves both sockets until the drain starts.
    pub async fn serve(self: Rc<Self>, sockets: Sockets, ex: Rc<LocalExecutor<'static>>, drain: Drain) {
        let control = self.clone().listen(sockets.control, ex.clone(), |c, stream, uid| Box::pin(c.answer(stream, uid)));
        let submit = self.listen(sockets.submit, ex, |c, stream, uid| Box::pin(submit::serve(c.mta.clone(), stream, uid)));
        smol::future::zip(control, submit)
            .or(async {
                drain.wait().await;
                ((), ())
            })
            .await;
    }

    async fn listen(self: Rc<Self>, listener: UnixListener, ex: Rc<LocalExecutor<'static>>, serve: Serve) {
        let listener = match Async::new(listener) {
            Ok(l) => l,
            Err(e) => return Line::error("control", "listen-failed").with("reason", e).send(),
        };
        let clients = Rc::new(Clients::default());
        loop {
            clients.room().await;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let Ok(peer) = getsockopt(stream.get_ref(), PeerCredentials) else { continue };
                    let place = clients.enter();
                    let served = serve(self.clone(), stream, peer.uid());
                    ex.spawn(async move {
                        let _place = place;
                        let _ = std::panic::AssertUnwindSafe(served).catch_unwind().await;
                    })
                    .detach();
                }
                // Out of descriptors: others are about to give some back.
                Err(e) => {
                    Line::warn("control", "accept-failed").with("reason", e).send();
                    smol::Timer::after(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn answer(self: Rc<Self>, mut stream: Async<UnixStream>, uid: u32) {
        let asked = line(&mut stream).or(timeout()).await;
        let answer = match asked {
            Ok(_) if uid != 0 && uid != nix::unistd::geteuid().as_raw() => Err("only root and the daemon's user may ask".to_owned()),
            Ok(text) => {
                Line::info("control", "ask").with("uid", uid).with("line", &text).send();
                self.ask(&text).await
            }
            Err(e) => Err(e.to_string()),
        };
        let text = match answer {
            Ok(body) => format!("ok\n{body}"),
            Err(why) => format!("no {}\n", why.replace(['\r', '\n'], " ")),
        };
        let _ = stream.write_all(text.as_bytes()).or(timeout()).await;
    }

    async fn ask(&self, line: &str) -> Result<String, String> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["queue", "list"] => {
                let entries = self.mta.queue_list();
                Ok(smol::unblock(move || envelopes(&entries)).await)
            }
            ["queue", verb, which] => {
                let verb = match *verb {
                    "retry" => Verb::Retry,
                    "hold" => Verb::Hold,
                    "release" => Verb::Release,
                    "drop" => Verb::Drop,
                    _ => return Err(format!("unknown queue verb {verb}")),
                };
                let ids = self.mta.queue_do(verb, &Which::parse(which)).await?;
                Ok(ids.iter().map(|id| format!("{id}\n")).collect())
            }
            ["reload"] => (self.reload)().await.map(|text| text + "\n"),
            ["stat"] => Ok((self.stat)()),
            _ => Err(format!("unknown request {line:?}")),
        }
    }
}

type Serve = fn(Rc<Control>, Async<UnixStream>, u32) -> Pin<Box<dyn Future<Output = ()>>>;

/// How many are being served.
#[derive(Default)]
struct Clients {
    inside: Cell<usize>,
    left: event_listener::Event,
}

struct Place(Rc<Clients>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.inside.set(self.0.inside.get() - 1);
        self.0.left.notify(1);
    }
}

impl Clients {
    async fn room(&self) {
        loop {
            let left = self.left.listen();
            if self.inside.get() < MAX_CLIENTS {
                return;
            }
            left.await;
        }
    }
    fn enter(self: &Rc<Self>) -> Place {
        self.inside.set(self.inside.get() + 1);
        Place(self.clone())
    }
}

/// One line without its end.
async fn line(stream: &mut Async<UnixStream>) -> io::Result<String> {
    let mut out = Vec::new();
    let mut byte = [0];
    while out.len() < MAX_LINE {
        stream.read_exact(&mut byte).await?;
        if byte[0] == b'\n' {
            return String::from_utf8(out).map_err(|_| io::ErrorKind::InvalidData.into());
        }
        out.push(byte[0]);
    }
    Err(io::ErrorKind::InvalidData.into())
}

async fn timeout<T>() -> io::Result<T> {
    smol::Timer::after(IDLE).await;
    Err(io::ErrorKind::TimedOut.into())
}

/// Envelope files one after the other.
fn envelopes(entries: &[Entry]) -> String {
    entries.iter().map(envelope::write).collect()
}

/// Why there is no answer.
#[derive(Debug)]
pub enum AskError {
    /// The daemon is not there, or may not be asked by this user.
    Down(PathBuf, io::Error),
    /// It says no, and why.
    No(String),
}

impl std::fmt::Display for AskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Down(path, e) if e.kind() == io::ErrorKind::PermissionDenied => write!(f, "{}: {e}; ask as root", path.display()),
            Self::Down(path, e) => write!(f, "the daemon does not answer at {}: {e}", path.display()),
            Self::No(why) => f.write_str(why),
        }
    }
}

/// The command line's end of `control.sock`; blocking. The answer's body.
pub fn ask(config: &Config, request: &str) -> Result<String, AskError> {
    let path = config.run.join(CONTROL);
    let answer = talk(&path, format!("{request}\n").as_bytes(), PATIENCE).map_err(|e| AskError::Down(path, e))?;
    match answer.split_once('\n') {
        Some(("ok", body)) => Ok(body.to_owned()),
        Some((first, _)) => Err(AskError::No(first.strip_prefix("no ").unwrap_or(first).to_owned())),
        None => Err(AskError::No("the daemon hung up".to_owned())),
    }
}

/// The queue as the daemon sees it.
pub fn queue(config: &Config) -> Result<Vec<Entry>, AskError> {
    let body = ask(config, "queue list")?;
    let mut entries = Vec::new();
    for text in body.split_inclusive('\n').fold(Vec::new(), |mut texts: Vec<String>, l| {
        match texts.last_mut() {
            Some(t) if !l.starts_with("gatepost-envelope:") => t.push_str(l),
            _ => texts.push(l.to_owned()),
        }
        texts
    }) {
        entries.push(envelope::parse(text.as_bytes()).map_err(AskError::No)?);
    }
    Ok(entries)
}

/// The ids that a queue verb was done to.
pub fn queue_do(config: &Config, verb: &str, which: &str) -> Result<Vec<QueueId>, AskError> {
    Ok(ask(config, &format!("queue {verb} {which}"))?.lines().filter_map(QueueId::parse).collect())
}

/// Sends all, then reads all.
fn talk(path: &Path, request: &[u8], patience: Duration) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    // When it hangs up early it has said why; what it said is read before the error is seen.
    let sent = stream.write_all(request);
    let (mut answer, mut buffer) = (Vec::new(), [0; 8192]);
    let end = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => break Err(e),
        }
    };
    if answer.is_empty() {
        sent.and(end)?;
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    String::from_utf8(answer).map_err(|_| io::ErrorKind::InvalidData.into())
}
