"""Other programs in a Maildir while clients have it open: what they do is told to a client that sits in IDLE, soon."""

import mailbox
import os
import re
import shutil
import socket
import sys
import time

from lib import Failed, Gatepost, check, message, run, same, wait

# Far above the second that it should take, far below the minute after which every folder is looked at anyway.
SOON = 10


class Client:
    """A line-wise IMAP client that can wait for what it was not asked."""

    def __init__(self, g, user="alice", folder=None):
        self.socket = g.tls().wrap_socket(socket.create_connection((g.address, g.ports["imaps"]), 60), server_hostname="localhost")
        self.buffer, self.tags, self.log = b"", 0, []
        self.line(SOON)
        self.run(f"LOGIN {g.user(user)} {g.PASSWORD}")
        if folder:
            self.run(f"SELECT {folder}")

    def line(self, patience):
        until = time.monotonic() + patience
        while b"\r\n" not in self.buffer:
            left = until - time.monotonic()
            if left <= 0:
                raise Failed(f"nothing within {patience} s; the last lines:\n" + "\n".join(self.log[-20:]))
            self.socket.settimeout(left)
            try:
                more = self.socket.recv(65536)
            except TimeoutError:
                continue
            if not more:
                raise Failed("the connection ended; the last lines:\n" + "\n".join(self.log[-20:]))
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        self.log = self.log[-50:] + [line[:200].decode(errors="replace")]
        return line.decode(errors="replace")

    def send(self, command):
        self.tags += 1
        self.socket.sendall(f"t{self.tags} {command}\r\n".encode())
        return f"t{self.tags} "

    def run(self, command, patience=60, ok=True):
        """The untagged lines, and the tagged one."""
        tag, said = self.send(command), []
        while not (said and said[-1].startswith(tag)):
            said.append(self.line(patience))
        if ok and not said[-1].startswith(tag + "OK"):
            raise Failed(f"{command}: {said[-1]}")
        return said

    def idle(self):
        self.send("IDLE")
        while not self.line(SOON).startswith("+"):
            pass

    def done(self):
        self.socket.sendall(b"DONE\r\n")
        while not self.line(SOON).startswith(f"t{self.tags} "):
            pass

    def hear(self, pattern, patience=SOON):
        """The next line that is like this."""
        while True:
            line = self.line(patience)
            if re.match(pattern, line):
                return line

    def close(self):
        self.socket.close()


def own(path):
    """What root puts into the Maildir of a daemon that is somebody else."""
    if os.getuid() == 0:
        os.chown(path, path.parent.stat().st_uid, path.parent.stat().st_gid)
    return path


def drop(maildir, name, data=b"Subject: dropped\n\nx\n"):
    """As procmail and maildrop deliver: written in tmp/, linked into new/."""
    tmp = maildir / "tmp" / name
    tmp.write_bytes(data)
    own(tmp)
    os.link(tmp, maildir / "new" / name)
    tmp.unlink()


def test_deliveries_flags_removals(folder):
    with Gatepost(folder) as g:
        idler, other = Client(g, folder="INBOX"), Client(g, folder="INBOX")
        idler.idle()
        maildir = g.maildir()
        drop(maildir, "1000.1.elsewhere")
        idler.hear(r"\* 1 EXISTS")
        # Python's own: flags are a rename, a removal an unlink.
        box = mailbox.Maildir(maildir, create=False)
        key = box.keys()[0]
        mail = box[key]
        mail.set_subdir("cur")
        mail.set_flags("FS")
        box[key] = mail
        own(next((maildir / "cur").iterdir()))
        check(r"\Seen" in idler.hear(r"\* 1 FETCH .*FLAGS.*Flagged"), "Seen")
        # By hand, as mutt does.
        for flags, word in [("RS", "Answered"), ("DRS", "Draft"), ("", r"FLAGS \(\\Recent\)|FLAGS \(\)")]:
            file, = (maildir / "cur").iterdir()
            file.rename(file.with_name(file.name.split(":")[0] + ":2," + flags))
            idler.hear(rf"\* 1 FETCH .*({word})")
        for n in range(2, 6):
            drop(maildir, f"1000.{n}.elsewhere")
            idler.hear(rf"\* {n} EXISTS")
        box.remove(box.keys()[0])
        idler.hear(r"\* \d EXPUNGE")
        # The one that does not idle is told when it asks.
        said = other.run("NOOP")
        check("* 4 EXISTS" in said or sum("EXPUNGE" in s for s in said) == 1, said)
        # A message that comes back from a backup is a new message; mail of the same name moves from folder to folder.
        idler.done()
        same(len(idler.run("UID SEARCH ALL")[0].split()) - 2, 4, "messages")
        check("UIDNEXT 6" in " ".join(idler.run("STATUS INBOX (UIDNEXT)")), "no UID was given twice")


def test_restored_backup(folder):
    """`cp -a` brings old dates along, those of the directories too."""
    with Gatepost(folder) as g:
        for n in range(3):
            g.smtp().sendmail("carol@elsewhere.test", g.user(), message(g.user(), subject=f"n{n}"))
        g.arrived(3)
        idler, other = Client(g, folder="INBOX"), Client(g, folder="INBOX")
        # What was told goes to cur/.
        wait(lambda: len(list((g.maildir() / "cur").iterdir())) == 3, "three in cur/", SOON)
        backup = folder / "backup"
        run("cp", "-a", g.maildir(), backup)
        os.utime(backup / "cur", (1_000_000_000, 1_000_000_000))
        other.run(r"STORE 1:2 +FLAGS (\Deleted)")
        other.run("EXPUNGE")
        idler.run("NOOP")
        idler.idle()
        run("cp", "-a", f"{backup}/cur/.", g.maildir() / "cur")
        # One stayed, and so did its file; two came back.
        idler.hear(r"\* 3 EXISTS")


def test_folders_by_hand(folder):
    with Gatepost(folder) as g:
        client = Client(g)
        names = lambda: {line.rsplit(" ", 1)[1] for line in client.run('LIST "" "*"')[:-1]}  # noqa: E731
        check("By" not in names(), "not yet")
        for name in ("By", "By.hand"):
            for sub in ("", "cur", "new", "tmp"):
                own_dir = g.maildir() / f".{name}" / sub
                own_dir.mkdir(exist_ok=True)
                own(own_dir)
        check({"By", "By/hand"} <= names(), names())
        for name, how in [("By/hand", "rm"), ("By", "mv")]:
            idler = Client(g, folder=name)
            drop(g.maildir(folder=name), "1000.1.elsewhere")
            client.run(f"STATUS {name} (MESSAGES)")
            idler.idle()
            path = g.maildir(folder=name)
            if how == "rm":
                shutil.rmtree(path)
            else:
                path.rename(path.with_name(".Elsewhere"))
            idler.hear(r"\* BYE")
            idler.close()
            check(name not in names(), names())
        check("Elsewhere" in names(), names())
        same(client.run("STATUS Elsewhere (MESSAGES)")[0], "* STATUS Elsewhere (MESSAGES 1)", "it is there under its new name")
        check(client.run("SELECT By", ok=False)[-1].split()[1] == "NO", "it is not there under the old")


WITHOUT_WATCHES = """
import ctypes, os, sys
pid, (r, w), (r2, w2) = os.getpid(), os.pipe(), os.pipe()
if os.fork() == 0:
    os.read(r, 1)
    for kind in ("uid", "gid"):
        with open(f"/proc/{pid}/{kind}_map", "w") as f:
            f.write("0 0 100000")
    os.write(w2, b"x")
    os._exit(0)
CLONE_NEWUSER = 0x10000000
if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
os.write(w, b"x")
os.read(r2, 1)
os.wait()
with open("/proc/sys/user/max_inotify_watches", "w") as f:
    f.write("0")
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_without_watches(folder):
    """Where the system has no watch left, folders are looked at by the clock, and the log says so once."""
    if os.getuid() != 0:
        raise Failed("needs root")
    g = Gatepost(folder)
    g.start(wrap=(sys.executable, "-c", WITHOUT_WATCHES))
    with_clients = [Client(g, folder="INBOX") for _ in range(3)]
    try:
        g.heard("store not-watched", "max_user_watches")
        for client in with_clients:
            client.idle()
        drop(g.maildir(), "1000.1.elsewhere")
        for client in with_clients:
            client.hear(r"\* 1 EXISTS", patience=30)
        same(g.said().count("not-watched"), 1, "log lines")
    finally:
        g.stop()
