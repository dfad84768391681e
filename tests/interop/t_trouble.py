"""What an administrator meets: kill -9, full disks, wrong rights, stalled peers, reload, stop."""

import os
import random
import smtplib
import socket
import time

from lib import BINARY, Failed, Gatepost, NameServer, certificate, check, message, port, run, same, wait
from t_two import Pair


def test_kill_9_with_a_queue(folder):
    """What waits for a remote survives; the remote gets it once, or twice when the kill hit the answer."""
    with Pair(folder) as p:
        p.beta.stop()
        subjects = [f"q{i}." for i in range(10)]
        for subject in subjects:
            with p.alpha.smtp("submission", p.alpha.user()) as client:
                client.sendmail(p.alpha.user(), [p.beta.user()], message(p.beta.user(), p.alpha.user(), subject=subject))
        same(len(p.alpha.queue()), 10, "queue")
        p.beta.start()
        rng = random.Random(3)
        for _ in range(6):
            p.alpha.kill()
            p.alpha.start()
            time.sleep(rng.uniform(0.0, 0.3))
        wait(lambda: not p.alpha.queue(), lambda: f"the queue empties: {p.alpha.queue()}", 60)
        raws = [f.read_bytes().decode() for f in p.beta.files()]
        for subject in subjects:
            n = sum(f"Subject: {subject}" in raw for raw in raws)
            check(1 <= n <= 3, f"{subject} arrived {n} times")


def test_full_disk(folder):
    """A tmpfs of 3 MB: 452, nothing half, and it goes on when there is room again."""
    if os.geteuid() != 0:
        raise Failed("needs root to mount a tmpfs")
    state = folder / "small"
    state.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=3m,mode=755", "tmpfs", state)
    try:
        with Gatepost(folder / "g", state=state / "state") as g:
            big = message(g.user(), body=(b"x" * 70 + b"\r\n") * 10000)
            codes = []
            for _ in range(8):
                with g.smtp() as client:
                    try:
                        client.sendmail("carol@elsewhere.test", [g.user()], big)
                        codes.append(250)
                    except smtplib.SMTPResponseException as error:
                        codes.append(error.smtp_code)
                    except smtplib.SMTPRecipientsRefused as error:
                        codes.append(next(iter(error.recipients.values()))[0])
            check(set(codes) <= {250, 452} and 452 in codes and 250 in codes, f"replies {codes}")
            same(len(g.files()), codes.count(250), "messages are those that got 250")
            for file in g.files():
                check(len(file.read_bytes()) >= len(big), f"a partial message: {file}")
            imap = g.imap()
            status, said = imap.append("INBOX", None, None, big)
            check(status == "NO" and b"OVERQUOTA" in said[0], f"APPEND on a full disk: {status} {said}")
            imap.select()
            same(imap.store("1", "+FLAGS", r"\Deleted")[0], "OK", "STORE on a full disk")
            same(imap.expunge()[0], "OK", "EXPUNGE on a full disk")
            imap.logout()
            with g.smtp() as client:
                client.sendmail("carol@elsewhere.test", [g.user()], big)
    finally:
        run("umount", "-l", state, ok=False)


def test_unreadable_maildir(folder):
    """The administrator's rsync left a home that the daemon may not write: 4xx, others work on."""
    with Gatepost(folder) as g:
        with g.smtp() as client:
            client.sendmail("carol@elsewhere.test", [g.user(), g.user("bob")], message(g.user()))
        maildir = g.maildir()
        if os.geteuid() == 0:
            os.chown(maildir / "new", 0, 0)
            os.chown(maildir / "tmp", 0, 0)
        for sub in ("new", "tmp"):
            (maildir / sub).chmod(0o555)
        with g.smtp() as client:
            try:
                client.sendmail("carol@elsewhere.test", [g.user()], message(g.user(), subject="refused"))
                raise Failed("a message that cannot be filed was taken")
            except smtplib.SMTPResponseException as error:
                check(400 <= error.smtp_code < 500, f"{error.smtp_code} {error.smtp_error}")
            except smtplib.SMTPRecipientsRefused as error:
                check(all(400 <= code < 500 for code, _ in error.recipients.values()), error.recipients)
            client.sendmail("carol@elsewhere.test", [g.user("bob")], message(g.user("bob"), subject="works"))
        g.arrived(2, "bob")
        said = g.heard(str(maildir))
        check("ermission" in said, f"the log says why: {said}")


def test_stalled_client_and_server(folder):
    """Silent peers end by the timeout; meanwhile others are served."""
    with Gatepost(folder, keys={"smtp.timeout": '"2s"'}) as g:
        silent = [socket.create_connection((g.address, g.ports["smtp"])) for _ in range(20)]
        half = g.smtp()
        half.mail("a@elsewhere.test")
        half.rcpt(g.user())
        same(half.docmd("DATA")[0], 354, "DATA")
        half.send(b"Subject: half\r\n\r\nnever ends")
        half = half.sock
        with g.smtp() as client:
            client.sendmail("carol@elsewhere.test", [g.user()], message(g.user()))
        for s in [*silent, half]:
            s.settimeout(20)
            said = b""
            while chunk := s.recv(4096):
                said += chunk
            check(b"421" in said, f"a silent client heard {said!r}")
            s.close()
        g.arrived(1)


def test_stalled_remote(folder):
    """A remote that accepts and says nothing: deferred, and other domains go out meanwhile."""

    mx = port(("127.0.0.2", "127.0.0.3", "127.0.0.4"))
    zones = {"alpha.test": ["@ MX 10 mail", "mail A 127.0.0.2"], "beta.test": ["@ MX 10 mail", "mail A 127.0.0.3"], "stall.test": ["@ MX 10 mail", "mail A 127.0.0.4"]}
    with NameServer(folder / "dns", zones) as dns, socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.4", mx))
        listener.listen()
        keys = {"smtp.timeout": '"3s"'}
        with Gatepost(folder / "a", "alpha.test", "127.0.0.2", dns.address, mx, keys=keys) as a, Gatepost(folder / "b", "beta.test", "127.0.0.3", dns.address, mx) as b:
            for to in ("x@stall.test", b.user()):
                with a.smtp("submission", a.user()) as client:
                    client.sendmail(a.user(), [to], message(to, a.user()))
            b.arrived(1)
            a.heard("deferred", "stall.test")
            same(len(a.queue()), 1, "queue")


def test_reload(folder):
    with Gatepost(folder) as g:
        with g.smtp() as client:
            same(client.rcpt("dave@alpha.test")[0] // 100, 5, "dave before")
        (folder / "users").write_text((folder / "users").read_text() + f"dave@alpha.test:{{PLAIN}}{g.PASSWORD}\n")
        before = len(g.said())
        g.hup()
        g.heard("daemon reloaded", after=before)

        def known():
            with g.smtp() as client:
                client.mail("carol@elsewhere.test")
                return client.rcpt("dave@alpha.test")[0] == 250

        wait(known, "dave is known after SIGHUP")
        good = g.file.read_text()
        # A wrong file is refused, with file and line, and the old configuration lives on.
        g.file.write_text(good + "no-such-key = 1\n")
        before = len(g.said())
        g.hup()
        said = g.heard("no-such-key", after=before)
        check(f"gatepost.conf:{len(good.splitlines()) + 1}" in said, f"file and line: {said}")
        check(known(), "the old configuration lives on")
        g.file.write_text(good)
        # The certificate too, without losing who is connected.
        imap = g.imap()
        imap.select()
        certificate(folder, [g.host])
        before = len(g.said())
        g.hup()
        g.heard("daemon reloaded", after=before)
        wait(lambda: _verifies(g), "the new certificate")
        same(imap.noop()[0], "OK", "a session across the reload")
        imap.logout()


def _verifies(g):
    try:
        g.imap().logout()
        return True
    except OSError:
        return False


def test_stop_drains(folder):
    """SIGTERM: idle clients hear BYE and 421, a message in flight is finished, exit status 0."""
    with Gatepost(folder) as g:
        imap = g.imap()
        imap.select()
        idle = g.smtp()
        busy = g.smtp()
        busy.mail("carol@elsewhere.test")
        busy.rcpt(g.user())
        busy.putcmd("DATA")
        same(busy.getreply()[0], 354, "DATA")
        busy.send(message(g.user())[:60])
        g.process.terminate()
        same(idle.getreply()[0], 421, "an idle SMTP client")
        check(b"BYE" in imap.readline(), "an idle IMAP client")
        busy.send(message(g.user())[60:] + b".\r\n")
        same(busy.getreply()[0], 250, "the message in flight")
        same(g.process.wait(40), 0, "exit status")
        g.process = None
        same(len(g.files()), 1, "messages")


def test_memory_stays_small(folder):
    """The promise: under 12 MB resident at rest, and 32 MB more for a thousand idle IMAP connections."""
    def resident(g):
        return next(int(line.split()[1]) for line in open(f"/proc/{g.process.pid}/status") if line.startswith("VmRSS:"))

    with Gatepost(folder) as g:
        small = resident(g)
        check(small < 12_000, f"{small} KiB at rest")
        clients = []
        for _ in range(200):
            client = g.imap()
            client.select()
            client.send(b"i IDLE\r\n")
            client.readline()
            clients.append(client)
        grown = resident(g) - small
        check(grown < 200 * 32, f"{grown} KiB more for 200 idle connections")
        for client in clients:
            client.sock.close()


def test_commands_of_an_administrator(folder):
    """check, user, queue against a running server; exit statuses 0, 1, 2."""
    with Pair(folder) as p:
        g = p.alpha
        run(*g.command("check"))
        good = g.file.read_text()
        g.file.write_text(good + 'colour = "red"\n')
        status, said = run(*g.command("check"), ok=False)
        check(status != 0 and b"colour" in said and b"gatepost.conf:" in said, said)
        g.file.write_text(good)
        p.beta.stop()
        with g.smtp("submission", g.user()) as client:
            client.sendmail(g.user(), [p.beta.user()], message(p.beta.user(), g.user()))
        qid = wait(lambda: g.queue() and g.queue()[0], "a queued message")
        g.heard("deferred")
        check(qid in run(*g.command("queue", "list")).decode(), "queue list")
        check(p.beta.user() in run(*g.command("queue", "show", qid)).decode(), "queue show")
        p.beta.start()
        run(*g.command("queue", "retry", qid))
        p.beta.arrived(1)
        wait(lambda: not g.queue(), "the queue empties")


def test_sendmail(folder):
    """/usr/sbin/sendmail by its name, as cron and PHP call it."""
    with Gatepost(folder) as g:
        link = folder / "sendmail"
        link.symlink_to(BINARY.resolve())
        env = {**os.environ, "GATEPOST_CONFIG": str(g.file)}
        run(link, "-i", g.user(), stdin="Subject: from cron\n\nLine\n.\nafter the dot\n", env=env)
        text = g.arrived(1)[0].read_text()
        check("from cron" in text and "after the dot" in text, text)
        run(link, "-t", "-oi", "-f", g.user("bob"), stdin=f"To: {g.user()}\nBcc: {g.user('bob')}\nSubject: dash t\n\nx\n", env=env)
        text = g.arrived(1, "bob")[0].read_text()
        check("dash t" in text and "Bcc:" not in text, text)
        g.arrived(2)
        mailq = folder / "mailq"
        mailq.symlink_to(link.resolve())
        run(mailq, env=env)


def test_demo(folder):
    """The newcomer's first command: a message goes the long way round, as an ordinary user."""
    run("cp", BINARY, folder / "gatepost")
    (folder / "gatepost").chmod(0o755)
    wrap = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups") if os.geteuid() == 0 else ()
    said = run(*wrap, folder / "gatepost", "demo", "--once", env={**os.environ, "HOME": "/nonexistent"}).decode()
    check("bob@example.net" in said or "bob" in said, said)
