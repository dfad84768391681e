"""Mail programs as people run them: msmtp, mpop, fetchmail, mbsync, mutt."""

import os
import pty
import select
import time

from lib import Failed, Gatepost, body_of, check, hard_bodies, message, private, run, same, sha, wait


def fill(g, bodies, to="alice"):
    with g.smtp() as client:
        for name, body in bodies.items():
            client.sendmail("carol@elsewhere.test", [g.user(to)], message(g.user(to), subject=name, body=body))
    g.arrived(len(bodies), to)


def small():
    return {n: b for n, b in hard_bodies().items() if n != "25MB" and b.endswith(b"\r\n")}


def test_msmtp(folder):
    with Gatepost(folder) as g:
        for n, (service, starttls) in enumerate((("submission", "on"), ("submissions", "off")), 1):
            rc = private(folder / "msmtprc", f"""
account default
host {g.address}
port {g.ports[service]}
tls on
tls_starttls {starttls}
tls_trust_file {g.ca}
auth on
user {g.user()}
password {g.PASSWORD}
from {g.user()}
""")
            body = small()["8bit"]
            run("msmtp", "-C", rc, g.user("bob"), stdin=message(g.user("bob"), g.user(), body=body))
            same(sha(body_of(g.arrived(n, "bob")[-1].read_bytes())), sha(body), "body")
        rc.write_text(rc.read_text().replace(g.PASSWORD, "wrong"))
        status, said = run("msmtp", "-C", rc, g.user("bob"), stdin=message(g.user("bob")), ok=False)
        check(status != 0 and b"535" in said, said)


def test_mpop(folder):
    with Gatepost(folder) as g:
        fill(g, small())
        target = folder / "mpop"
        for sub in ("cur", "new", "tmp"):
            (target / sub).mkdir(parents=True)
        for n, (service, starttls) in enumerate((("pop3", "on"), ("pop3s", "off"))):
            rc = private(folder / "mpoprc", f"""
account default
host {g.address}
port {g.ports[service]}
tls on
tls_starttls {starttls}
tls_trust_file {g.ca}
auth user
user {g.user()}
password {g.PASSWORD}
keep {"on" if n == 0 else "off"}
uidls_file {folder}/uidls{n}
delivery maildir {target}
""")
            run("mpop", "-C", rc)
        got = [f.read_bytes() for f in (target / "new").iterdir()]
        same(sorted(sha(body_of(raw)) for raw in got), sorted(2 * [sha(b) for b in small().values()]), "bodies")
        same(len(g.files()), 0, "messages left")


def test_fetchmail(folder):
    with Gatepost(folder) as g:
        for protocol, service, tls in (("pop3", "pop3s", "ssl"), ("imap", "imaps", "ssl"), ("pop3", "pop3", "sslproto 'TLS1.2+'"),
                                       ("imap", "imap", "sslproto 'TLS1.2+'")):
            fill(g, small())
            out = folder / f"out.{service}"
            out.mkdir()
            rc = private(folder / "fetchmailrc", f"""
set no bouncemail
poll {g.address} protocol {protocol} port {g.ports[service]} auth password
  user "{g.user()}" password "{g.PASSWORD}" {tls} sslcertfile {g.ca} sslcertck sslcommonname localhost
  mda "cat > {out}/$$" fetchall
""")
            status, said = run("fetchmail", "-f", rc, "--pidfile", folder / "fetchmail.pid", "-N", "-v", ok=False,
                               env={**os.environ, "FETCHMAILHOME": str(folder)})
            check(status == 0, said.decode(errors="replace")[-3000:])
            got = sorted(sha(body_of(f.read_bytes())) for f in out.iterdir())
            same(got, sorted(sha(b) for b in small().values()), f"bodies by {service}")
            same(len(g.files()), 0, "messages left")


def mbsync(g, folder, *more):
    rc = private(folder / "mbsyncrc", f"""
IMAPAccount gatepost
Host {g.host}
Tunnel "openssl s_client -quiet -verify_quiet -CAfile {g.ca} -verify_return_error -connect {g.address}:{g.ports['imaps']}"
User {g.user()}
Pass {g.PASSWORD}
SSLType None
AuthMechs LOGIN

IMAPStore far
Account gatepost

MaildirStore near
Path {folder}/near/
Inbox {folder}/near/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
CopyArrivalDate yes
""")
    (folder / "near").mkdir(exist_ok=True)
    return run("mbsync", "-c", rc, *more, "all")


def test_mbsync_both_ways(folder):
    with Gatepost(folder) as g:
        fill(g, small())
        near = folder / "near" / "INBOX"
        mbsync(g, folder)

        def local():
            return sorted(f for sub in ("new", "cur") for f in (near / sub).iterdir())

        same(sorted(sha(body_of(f.read_bytes())) for f in local()), sorted(sha(b) for b in small().values()), "pulled bodies")
        # Here: one read, one deleted, one written. There: one flagged, one deleted.
        first, second = local()[:2]
        first.rename(near / "cur" / (first.name.split(":")[0] + ":2,S"))
        gone = sha(body_of(second.read_bytes()))
        second.unlink()
        (near / "new" / "1700000000.1.here").write_bytes(message("me@here.test", subject="written here").replace(b"\r\n", b"\n"))
        imap = g.imap()
        imap.select()
        imap.store(str(len(small())), "+FLAGS", r"\Flagged")
        imap.logout()
        mbsync(g, folder)
        same(len(g.files()), len(small()), "messages there")
        texts = [f.read_bytes() for f in g.files()]
        check(any(b"written here" in t for t in texts), "the new one went up")
        check(gone not in [sha(body_of(t)) for t in texts], "the deleted one is gone there too")
        check(any(f.name.endswith(":2,S") for f in g.files()), "\\Seen went up")
        check(any("F" in f.name.split(":2,")[-1] for f in local()), "\\Flagged came down")
        # A folder made here appears there, and one made there here.
        for sub in ("cur", "new", "tmp"):
            (folder / "near" / "Projects" / sub).mkdir(parents=True)
        (folder / "near" / "Projects" / "new" / "1700000001.1.here").write_bytes(message("me@here.test", subject="project"))
        imap = g.imap()
        imap.create("Lists")
        imap.append("Lists", None, None, message(g.user(), subject="list"))
        imap.logout()
        mbsync(g, folder)
        same(len(g.files(folder="Projects")), 1, "messages in Projects there")
        same(len(list((folder / "near" / "Lists" / "cur").iterdir()) + list((folder / "near" / "Lists" / "new").iterdir())), 1, "Lists here")
        # Nothing left to do: a further run changes nothing.
        before = sorted(f.name for f in local()), sorted(f.name for f in g.files())
        mbsync(g, folder)
        same((sorted(f.name for f in local()), sorted(f.name for f in g.files())), before, "a run with nothing to do")


def terminal(command, env, patience=60):
    """Runs a full-screen program on a terminal of its own; what it drew."""
    child, master = pty.fork()
    if child == 0:
        os.execvpe(command[0], command, env)
    drawn = b""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if not select.select([master], [], [], 0.2)[0]:
            done, _ = os.waitpid(child, os.WNOHANG)
            if done:
                return drawn
            continue
        try:
            chunk = os.read(master, 65536)
        except OSError:
            chunk = b""
        if not chunk:
            os.waitpid(child, 0)
            return drawn
        drawn += chunk
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise Failed(f"{command[0]} did not end within {patience} s; it drew\n{drawn[-3000:]!r}")


def muttrc(g, folder, more=""):
    return private(folder / "muttrc", f"""
set ssl_ca_certificates_file={g.ca}
set ssl_verify_host=no
set certificate_file={folder}/certs
set from={g.user()}
set realname=Alice
set smtp_url="smtps://{g.user().replace('@', '%40')}:{g.PASSWORD}@{g.address}:{g.ports['submissions']}/"
set imap_user={g.user()}
set imap_pass={g.PASSWORD}
set folder="imaps://{g.address}:{g.ports['imaps']}/"
set spoolfile="+INBOX"
set record="+Sent"
set postponed="+Drafts"
set header_cache=""
set confirmappend=no
set confirmcreate=no
set delete=yes
set move=no
set mail_check=60
set timeout=5
{more}
""")


def test_mutt_sends_and_files_a_copy(folder):
    with Gatepost(folder) as g:
        attachment = folder / "attachment.bin"
        attachment.write_bytes(bytes(range(256)) * 40)
        env = {**os.environ, "TERM": "xterm", "HOME": str(folder)}
        run("mutt", "-F", muttrc(g, folder), "-s", "from mutt", "-a", attachment, "--", g.user("bob"), stdin="Grüße\n", env=env)
        check(b"from mutt" in g.arrived(1, "bob")[0].read_bytes(), "subject")
        check(b"from mutt" in g.arrived(1, folder="Sent")[0].read_bytes(), "the copy in Sent")


def test_mutt_reads_over_imap(folder):
    with Gatepost(folder) as g:
        fill(g, {"one": b"first\r\n", "two": b"second\r\n", "three": b"third\r\n"})
        saved = folder / "saved"
        push = f"<tag-pattern>~A<enter><tag-prefix><copy-message>{saved}<enter><first-entry><delete-message><sync-mailbox><quit>"
        rc = muttrc(g, folder, f'set mbox_type=mbox\npush "{push}"\n')
        terminal(["mutt", "-F", str(rc)], {**os.environ, "TERM": "xterm", "HOME": str(folder), "LINES": "40", "COLUMNS": "120"})
        text = saved.read_text()
        check(all(word in text for word in ("first", "second", "third")), text)
        wait(lambda: len(g.files()) == 2, lambda: f"two messages left, there are {len(g.files())}")
