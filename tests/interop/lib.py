"""What every scenario needs: a gatepost of the release binary in a directory of its own, mail to send, ways to look."""

import hashlib
import os
import pathlib
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("GATEPOST", ROOT / "target/release/gatepost"))
SERVICES = ("smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s")
PATIENCE = 30


class Failed(Exception):
    """A scenario did not go as it should; the text says what came instead."""


def check(true, what):
    if not true:
        raise Failed(what)


def same(got, want, what):
    if got != want:
        raise Failed(f"{what}: expected {want!r}, got {got!r}")


def wait(look, what, patience=PATIENCE):
    """Asks until the answer is true; its value."""
    until = time.monotonic() + patience
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > until:
            raise Failed(f"within {patience} s never: {what() if callable(what) else what}")
        time.sleep(0.02)


def private(path, text):
    """A file for one's own eyes, as programs want it that keep a password there."""
    path.write_text(text)
    path.chmod(0o600)
    return path


def sha(data):
    return hashlib.sha256(data).hexdigest()


def run(*command, ok=True, stdin=b"", env=None, cwd=None, timeout=90):
    """A program to its end; its output. With ok=False the exit status is the caller's matter: (status, output)."""
    if isinstance(stdin, str):
        stdin = stdin.encode()
    words = [str(c) for c in command]
    done = subprocess.run(words, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=cwd, timeout=timeout)
    if not ok:
        return done.returncode, done.stdout
    if done.returncode != 0:
        raise Failed(f"{' '.join(words)}: exit status {done.returncode}\n{done.stdout.decode(errors='replace')}")
    return done.stdout


_next_port = 20000 + os.getpid() % 20000


def port(addresses=("127.0.0.1",)):
    """A port that is free on all of them, also for UDP; each is handed out once."""
    global _next_port
    while True:
        _next_port = 20000 + (_next_port - 20000 + 1) % 12000
        try:
            for address in addresses:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    with socket.socket(socket.AF_INET, kind) as s:
                        s.bind((address, _next_port))
            return _next_port
        except OSError:
            continue


def certificate(folder, names):
    """A CA and a certificate signed by it, as PEM files; their paths (ca, cert, key)."""
    ca, ca_key, cert, key, csr = (folder / n for n in ("ca.pem", "ca.key", "cert.pem", "key.pem", "csr.pem"))
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("openssl", "req", "-x509", *new_key, "-keyout", ca_key, "-out", ca, "-days", "30", "-subj", "/CN=Interop CA",
        "-addext", "basicConstraints=critical,CA:TRUE")
    run("openssl", "req", *new_key, "-keyout", key, "-out", csr, "-subj", f"/CN={names[0]}")
    extensions = folder / "ext"
    alt = ",".join([f"DNS:{n}" for n in names] + ["IP:127.0.0.1", "IP:127.0.0.2", "IP:127.0.0.3"])
    extensions.write_text(f"subjectAltName={alt}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
    run("openssl", "x509", "-req", "-in", csr, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "30", "-extfile", extensions, "-out", cert)
    # A server that was started as root reads it again as somebody else at SIGHUP.
    key.chmod(0o644)
    return ca, cert, key


class Gatepost:
    """One running server. Users alice and bob, password `sesame`."""

    PASSWORD = "sesame"

    def __init__(self, folder, domain="alpha.test", address="127.0.0.1", dns=None, mx_port=None, users=("alice", "bob"), config="", keys=None,
                 state=None, ports=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        # The daemon becomes another user when it is started as root: the way to its files must be open.
        self.folder.chmod(0o755)
        self.domain, self.host, self.address = domain, f"mail.{domain}", address
        self.ports = ports or {s: port((address,)) for s in SERVICES}
        if mx_port:
            self.ports["smtp"] = mx_port
        self.state = pathlib.Path(state or self.folder / "state")
        self.file = self.folder / "gatepost.conf"
        self.log = self.folder / "log"
        self.ca, self.cert, self.key = certificate(self.folder, [self.host, "localhost"])
        (self.folder / "users").write_text("".join(f"{u}@{domain}:{{PLAIN}}{self.PASSWORD}\n" for u in users))
        (self.folder / "aliases").write_text("")
        self.keys = {
            "hostname": f'"{self.host}"', "domains": f'["{domain}"]', "state": f'"{self.state}"', "run": f'"{self.folder / "run"}"',
            "users": '"users"', "aliases": '"aliases"', "user": '"nobody"', "tls.cert": '"cert.pem"', "tls.key": '"key.pem"',
            "dns.servers": f'["{dns or "127.0.0.1:9"}"]', "dns.timeout": '"2s"', "smtp.mx-port": str(mx_port or 9),
            "queue.retry": '"1s"', "queue.retry-max": '"2s"', "limits.exempt": '["127.0.0.0/8"]',
            **{f"listen.{s}": f'["{address}:{p}"]' for s, p in self.ports.items()}, **(keys or {}),
        }
        self.extra = config
        self.write_config()
        self.process = None

    def write_config(self):
        self.file.write_text("".join(f"{k} = {v}\n" for k, v in self.keys.items()) + self.extra)

    def command(self, *verb):
        return [str(BINARY), "--config", str(self.file), *map(str, verb)]

    def start(self, env=None, wrap=()):
        """Returns when it says READY=1 to its NOTIFY_SOCKET."""
        notify = self.folder / "notify"
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s, open(self.log, "ab") as log:
            s.bind(str(notify))
            notify.chmod(0o777)
            s.settimeout(0.1)
            environment = {**os.environ, "NOTIFY_SOCKET": str(notify), **(env or {})}
            self.process = subprocess.Popen([*wrap, *self.command("serve")], stdout=log, stderr=log, env=environment)
            until = time.monotonic() + PATIENCE
            while True:
                try:
                    if b"READY=1" in s.recv(4096):
                        return self
                except TimeoutError:
                    pass
                if self.process.poll() is not None or time.monotonic() > until:
                    raise Failed(f"gatepost did not get ready (exit status {self.process.poll()}):\n{self.said()}")

    def stop(self):
        """SIGTERM; the exit status."""
        if self.process is None:
            return None
        self.process.terminate()
        try:
            status = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed("SIGTERM did not end it within 60 s") from None
        self.process = None
        return status

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def hup(self):
        self.process.send_signal(signal.SIGHUP)

    def said(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def heard(self, *words, after=0):
        """Waits for a log line with all these words."""
        def look():
            return next((line for line in self.said()[after:].splitlines() if all(w in line for w in words)), None)
        return wait(look, lambda: f"log line with {words}; the last lines:\n" + "\n".join(self.said().splitlines()[-15:]))

    def user(self, name="alice"):
        return f"{name}@{self.domain}"

    def maildir(self, name="alice", folder="INBOX"):
        base = self.state / "mail" / self.domain / name / "Maildir"
        return base if folder == "INBOX" else base / ("." + folder.replace("/", "."))

    def files(self, name="alice", folder="INBOX"):
        where = self.maildir(name, folder)
        return sorted((f for sub in ("new", "cur") for f in (where / sub).glob("[!.]*")), key=lambda f: f.name)

    def arrived(self, n, name="alice", folder="INBOX"):
        """Waits for n messages; their files."""
        wait(lambda: len(self.files(name, folder)) >= n, lambda: f"{n} messages for {name}, there are {len(self.files(name, folder))}")
        found = self.files(name, folder)
        same(len(found), n, f"messages for {name}")
        return found

    def tls(self):
        return ssl.create_default_context(cafile=str(self.ca))

    def smtp(self, service="smtp", user=None, timeout=60):
        """A smtplib client that has said EHLO; TLS and login with a user."""
        if service == "submissions":
            client = smtplib.SMTP_SSL(self.address, self.ports[service], context=self.tls(), timeout=timeout)
        else:
            client = smtplib.SMTP(self.address, self.ports[service], local_hostname="client.test", timeout=timeout)
            if user:
                client.starttls(context=self.tls())
        client.ehlo("client.test")
        if user:
            client.login(user, self.PASSWORD)
        return client

    def imap(self, user="alice", login=True):
        import imaplib
        client = imaplib.IMAP4_SSL(self.address, self.ports["imaps"], ssl_context=self.tls(), timeout=60)
        if login:
            client.login(self.user(user), self.PASSWORD)
        return client

    def pop3(self, user="alice"):
        import poplib
        client = poplib.POP3_SSL(self.address, self.ports["pop3s"], context=self.tls(), timeout=60)
        client.user(self.user(user))
        client.pass_(self.PASSWORD)
        return client

    def queue(self):
        """Queue ids in the spool."""
        spool = self.state / "spool"
        return sorted(f.stem for f in spool.glob("*.env")) if spool.is_dir() else []

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        try:
            if self.process is not None and self.process.poll() is None:
                self.stop()
            elif self.process is not None and kind is None:
                raise Failed(f"gatepost ended by itself with status {self.process.returncode}:\n{self.said()[-3000:]}")
        finally:
            if self.process is not None:
                self.process.kill()
                self.process.wait()
                self.process = None
        self.no_panic()

    def no_panic(self):
        said = self.said()
        if "panicked" in said:
            at = said.index("panicked")
            raise Failed(f"a panic in the log: {said[max(0, at - 300):at + 700]}")


class Folder:
    """A throwaway directory that the daemon's user can reach; kept when KEEP is set."""

    def __init__(self, base=None):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="gatepost-interop.", dir=base))
        self.path.chmod(0o755)

    def __enter__(self):
        return self.path

    def __exit__(self, kind, value, trace):
        if not os.environ.get("KEEP"):
            shutil.rmtree(self.path, ignore_errors=True)


def message(to, sender="carol@elsewhere.test", subject="interop", body="Hello\r\n", headers=()):
    """RFC 5322 bytes with CRLF line ends."""
    if isinstance(body, str):
        body = body.encode()
    lines = [f"From: <{sender}>", f"To: <{to}>", f"Subject: {subject}", "Date: Tue, 24 Nov 2026 10:00:00 +0000",
             f"Message-ID: <{hashlib.sha256(body + subject.encode() + to.encode()).hexdigest()[:20]}@interop.test>", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def body_of(raw):
    """What follows the header, with CRLF line ends."""
    crlf = raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return crlf.split(b"\r\n\r\n", 1)[1]


def hard_bodies():
    """Bodies that programs have broken before; name → bytes."""
    import base64
    import random
    rng = random.Random(1)
    long_line = "x" * 998
    big = base64.encodebytes(rng.randbytes(18 * 1024 * 1024)).replace(b"\n", b"\r\n")
    return {
        "8bit": "Größe: 5 €, naïve, 日本\r\n".encode(),
        "latin1": "Gr\xf6\xdfe\r\n".encode("latin-1"),
        "998": f"{long_line}\r\n.{long_line[1:]}\r\n".encode(),
        "dots": b".\r\n..\r\n...\r\n.a\r\n. \r\nend.\r\n.",
        "from": b"From here\r\n>From there\r\n\r\nFrom\r\n",
        "blanks": b"trailing blanks  \t\r\n\r\n\r\n \r\nend\r\n\r\n\r\n",
        "no-last-line-end": b"no line end at the end",
        "25MB": big,
    }


class NameServer:
    """A real nsd on a loopback port. zones: domain → lines of a zone file after SOA and NS."""

    def __init__(self, folder, zones):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port()
        self.address = f"127.0.0.1:{self.port}"
        config = [f"""server:
  ip-address: 127.0.0.1@{self.port}
  username: ""
  chroot: ""
  zonesdir: "{self.folder}"
  database: ""
  pidfile: "{self.folder}/nsd.pid"
  logfile: "{self.folder}/nsd.log"
  xfrdfile: "{self.folder}/xfrd.state"
  zonelistfile: "{self.folder}/zone.list"
  server-count: 1
remote-control:
  control-enable: no
"""]
        for zone, lines in zones.items():
            head = f"$ORIGIN {zone}.\n$TTL 60\n@ SOA ns.{zone}. root.{zone}. 1 3600 600 86400 60\n@ NS ns.{zone}.\nns A 127.0.0.1\n"
            (self.folder / f"{zone}.zone").write_text(head + "\n".join(lines) + "\n")
            config.append(f'zone:\n  name: "{zone}"\n  zonefile: "{zone}.zone"\n')
        (self.folder / "nsd.conf").write_text("".join(config))
        self.process = None

    def __enter__(self):
        log = open(self.folder / "nsd.out", "ab")
        self.process = subprocess.Popen(["nsd", "-d", "-c", str(self.folder / "nsd.conf")], stdout=log, stderr=log)
        wait(self._answers, lambda: f"nsd answers: {(self.folder / 'nsd.out').read_text()}")
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise Failed(f"nsd ended: {(self.folder / 'nsd.out').read_text()}")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.2)
            try:
                # A question for the root's SOA; any answer will do.
                s.sendto(b"\0\1\0\0\0\1\0\0\0\0\0\0\0\0\6\0\1", ("127.0.0.1", self.port))
                return bool(s.recv(512))
            except OSError:
                return False

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
