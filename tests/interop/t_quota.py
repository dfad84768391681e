"""Quota beside a real Dovecot: both keep `maildirsize`, each believes what the other wrote."""

import os
import threading

from dovecot import NOBODY, Dovecot
from lib import Gatepost, check, message, run, same

PLUGIN = """
mail_plugins = quota
plugin {
  quota = maildir:User quota
  quota_rule = *:storage=1M:messages=100
}
"""


class Doveadm:
    """doveadm for alice with the maildir quota, as the user who owns the mail, and no Dovecot running."""

    def __init__(self, folder, g):
        self.dovecot = Dovecot(folder, g, more=PLUGIN)
        self.env = {**os.environ, "USER": g.user(), "HOME": str(g.maildir().parent)}

    def __call__(self, *words, ok=True, stdin=b""):
        me = ("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups") if os.geteuid() == 0 else ()
        return run(*me, "doveadm", "-c", self.dovecot.config, *words, ok=ok, stdin=stdin, env=self.env)

    def save(self, mailbox, data, ok=True):
        return self("save", "-m", mailbox, ok=ok, stdin=data)


def used(dovecot):
    """(bytes in KiB, messages), as Dovecot has it; limits are checked by the way."""
    rows = [line.split("\t") for line in dovecot("-f", "tab", "quota", "get").decode().splitlines()[1:]]
    found = {row[1]: (int(row[2]), row[3]) for row in rows}
    same((found["STORAGE"][1], found["MESSAGE"][1]), ("1024", "100"), "limits")
    return found["STORAGE"][0], found["MESSAGE"][0]


def books(g):
    return (g.maildir() / "maildirsize").read_text()


def sums(g):
    lines = [line.split() for line in books(g).splitlines()[1:]]
    return sum(int(s) for s, _ in lines), sum(int(c) for _, c in lines)


def there(g):
    sizes = [f.stat().st_size for f in g.maildir().rglob("*") if f.parent.name in ("new", "cur") and f.is_file()]
    return sum(sizes), len(sizes)


def send(g, size, user="alice"):
    client = g.smtp()
    try:
        client.sendmail("carol@beta.test", [g.user(user)], message("carol@beta.test", body=b"x" * 70 + b"\r\n", subject="q") + (b"y" * 70 + b"\r\n") * (size // 72))
    finally:
        client.close()


def test_dovecot_reads_ours_and_we_read_its(folder):
    g = Gatepost(folder, keys={"quota.storage": '"1M"', "quota.messages": "100"})
    dovecot = Doveadm(folder, g)
    for n in range(3):
        dovecot.save("INBOX", message("alice@alpha.test", subject=f"d {n}"))
    dovecot("mailbox", "create", "Sent")
    dovecot.save("Sent", message("alice@alpha.test", subject="sent"))
    same(books(g).splitlines()[0], "1048576S,100C", "Dovecot's header")
    before = there(g)
    same(sums(g), before, "Dovecot's sums")
    with g:
        send(g, 300_000)
        send(g, 1000)
        same(sums(g), there(g), "ours on top of Dovecot's")
        imap = g.imap()
        imap.select("INBOX")
        imap.copy("1", "Sent")
        imap.append("Sent", "", None, message("alice@alpha.test", subject="appended"))
        imap.store("2", "+FLAGS", r"(\Deleted)")
        imap.expunge()
        same(sums(g), there(g), "COPY, APPEND and EXPUNGE")
        same(imap.append("Sent", "", None, b"z" * 900_000)[0], "NO", "APPEND over the quota")
        imap.logout()
        show = run(*g.command("user", "quota", "alice")).decode()
        check(f", {there(g)[1]} messages of 100 (" in show, show)
    bytes_, count = there(g)
    same(used(dovecot), (-(-bytes_ // 1024), count), "what Dovecot reads")
    inode = (g.maildir() / "maildirsize").stat().st_ino
    dovecot.save("INBOX", message("alice@alpha.test", subject="again"))
    same(sums(g), there(g), "Dovecot's on top of ours")
    same((g.maildir() / "maildirsize").stat().st_ino, inode, "it saw no need to count")
    dovecot("quota", "recalc")
    same(sums(g), there(g), "counted by Dovecot")
    status, text = dovecot.save("INBOX", b"S: x\r\n\r\n" + b"z" * 900_000, ok=False)
    check(status != 0 and b"uota" in text, f"Dovecot takes more than there is room for: {text}")
    with g:
        send(g, 1000)
        same(sums(g), there(g), "ours on top of a count")


def test_both_write_at_once(folder):
    """Appended lines do not mix; what a count of either misses, the next puts right."""
    g = Gatepost(folder, keys={"quota.storage": '"1M"', "quota.messages": "100"})
    dovecot = Doveadm(folder, g)
    dovecot.save("INBOX", message("alice@alpha.test", subject="first"))
    failed = []

    def ours():
        try:
            for _ in range(20):
                send(g, 100)
        except Exception as e:  # the thread's trouble is the scenario's
            failed.append(e)

    def its():
        try:
            for n in range(10):
                dovecot.save("INBOX", message("alice@alpha.test", subject=f"d {n}"))
        except Exception as e:
            failed.append(e)

    with g:
        threads = [threading.Thread(target=t) for t in (ours, its)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        same(failed, [], "deliveries")
        same(sums(g), there(g), "after both")
        same(there(g)[1], 31, "messages")
    same(used(dovecot)[1], 31, "Dovecot's")


def test_warnings_and_the_users_file(folder):
    """The limit is set and seen by `gatepost user`; two warnings, and then 452."""
    g = Gatepost(folder)
    with g:
        send(g, 100)
        check(not (g.maildir() / "maildirsize").exists(), "no limit, no books")
        run(*g.command("user", "quota", "alice", "500K,1000"))
        check(":quota=500K,1000\n" in (g.folder / "users").read_text(), "the users file")
        g.hup()
        g.heard("daemon", "reloaded")
        send(g, 350_000)
        same(len(g.files()), 2, "no warning yet")
        send(g, 72_000)
        same(len(g.files()), 4, "a warning at 80 %")
        send(g, 1000)
        same(len(g.files()), 5, "one only")
        send(g, 62_000)
        same(len(g.files()), 7, "and at 95 %")
        warned = [f.read_text() for f in g.files() if "Auto-Submitted: auto-generated" in f.read_text(errors="replace")]
        same(len(warned), 2, "warnings")
        check(all(w.startswith("Return-Path: <>\n") or w.startswith("Return-Path: <>\r\n") for w in warned), warned[0])
        client = g.smtp()
        client.mail("carol@beta.test", ["SIZE=60000"])
        code, text = client.rcpt(g.user())
        same((code, text[:5]), (452, b"4.2.2"), "full")
        same(client.rcpt(g.user("bob"))[0], 250, "the other user")
        client.close()
        listed = run(*g.command("user", "list")).decode().splitlines()
        check(listed[0].startswith(g.user()) and " of 500K, 7 messages of 1000 (" in listed[0], listed)
        same(listed[1], g.user("bob"), "without a limit")
        g.stop()
        g.start()
        check("full    " in (g.maildir() / "gatepost-quota").read_text(), "remembered")
        run(*g.command("user", "quota", "alice", "default"))
        check("quota" not in (g.folder / "users").read_text(), "the users file")
    (g.maildir() / "new" / "1.odd.name").write_bytes(b"x" * 1000)
    shown = run(*g.command("user", "quota", "alice", "--recount")).decode()
    check(f", {there(g)[1]} messages" in shown and "of" not in shown.split("messages")[1], shown)
    check(not (g.maildir() / "maildirsize").exists(), "to be made anew")
