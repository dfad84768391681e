"""Several IMAP sessions on one folder at once, each checking what it is told against what it knows."""

import random
import re
import socket
import threading

from lib import Failed, Gatepost, check, message, same

SESSIONS = 5
ROUNDS = 250
FLAGS = (r"\Seen", r"\Answered", r"\Flagged", r"\Deleted", "$Work", "Later")


class Session:
    """One connection with its own idea of the folder: the UID of each sequence number, None while it is not known."""

    def __init__(self, g, name):
        self.name, self.tags = name, 0
        self.socket = g.tls().wrap_socket(socket.create_connection((g.address, g.ports["imaps"]), 60), server_hostname="localhost")
        self.file = self.socket.makefile("rb")
        self.uids, self.flags, self.gone, self.log = [], {}, set(), []
        self.line()
        self.run(f"LOGIN {g.user()} {g.PASSWORD}")

    def fail(self, what):
        raise Failed(f"session {self.name}: {what}; the last lines:\n" + "\n".join(self.log[-40:]))

    def line(self):
        """One response, its literals in place."""
        out = b""
        while True:
            line = self.file.readline()
            if not line:
                self.fail("the connection ended")
            out += line
            literal = re.search(rb"\{(\d+)\}\r\n$", line)
            if not literal:
                self.log.append("S: " + out[:200].decode(errors="replace").rstrip())
                return out
            out += self.file.read(int(literal[1]))

    def send(self, text):
        self.log.append("C: " + text)
        self.socket.sendall(text.encode() + b"\r\n")

    def run(self, command, may_expunge=True, literal=None):
        """The tagged line and the untagged ones."""
        self.tags += 1
        tag = f"t{self.tags}"
        self.send(f"{tag} {command}")
        if literal is not None:
            self.socket.sendall(literal + b"\r\n")
        return self.collect(tag, may_expunge)

    def collect(self, tag, may_expunge):
        said = []
        while True:
            line = self.line()
            if line.startswith(tag.encode() + b" "):
                if b" BAD " in line:
                    self.fail("BAD")
                return line.decode(errors="replace"), said
            said.append(line)
            self.untagged(line, may_expunge)

    def untagged(self, line, may_expunge):
        m = re.match(rb"\* (\d+) (EXISTS|EXPUNGE|FETCH)(.*)", line, re.S)
        if not m:
            return
        n, what = int(m[1]), m[2]
        if what == b"EXISTS":
            if n < len(self.uids):
                self.fail(f"EXISTS {n} below {len(self.uids)}")
            self.uids += [None] * (n - len(self.uids))
        elif not 1 <= n <= len(self.uids):
            self.fail(f"{what.decode()} of {n}, there are {len(self.uids)}")
        elif what == b"EXPUNGE":
            if not may_expunge:
                self.fail("EXPUNGE while sequence numbers were in use")
            uid = self.uids.pop(n - 1)
            self.gone.add(uid)
            self.flags.pop(uid, None)
        else:
            self.fetched(n, m[3])

    def fetched(self, n, text):
        uid = re.search(rb"[( ]UID (\d+)", text)
        if uid:
            uid = int(uid[1])
            if self.uids[n - 1] not in (None, uid):
                self.fail(f"message {n} was UID {self.uids[n - 1]} and is {uid}")
            if uid in self.uids[:n - 1] or uid in self.uids[n:]:
                self.fail(f"UID {uid} twice")
            self.uids[n - 1] = uid
        flags = re.search(rb"FLAGS \(([^)]*)\)", text)
        if flags and self.uids[n - 1]:
            self.flags[self.uids[n - 1]] = {f for f in flags[1].decode().split() if f != r"\Recent"}

    def select(self, folder="INBOX"):
        self.uids, self.flags = [], {}
        self.run(f"SELECT {folder}")
        self.learn()

    def learn(self):
        self.run("UID FETCH 1:* FLAGS")
        known = [u for u in self.uids if u]
        if known != sorted(known):
            self.fail(f"UIDs do not ascend: {self.uids}")

    def some(self, rng):
        n = len(self.uids)
        a, b = rng.randint(1, n), rng.randint(1, n)
        return rng.choice([f"{a}", f"{a}:{b}", f"{a},{b}", f"{a}:*" if rng.random() < 0.2 else f"{a}"])


def append(s, rng):
    body = message("alice@alpha.test", subject=f"{s.name}-{s.tags}", body="x\r\n" * rng.randint(1, 50))
    s.run(f"APPEND INBOX (\\Seen) {{{len(body)}+}}", literal=body)


def store(s, rng):
    if s.uids:
        how, flag = rng.choice(["+", "-", ""]), rng.choice(FLAGS)
        s.run(f"STORE {s.some(rng)} {how}FLAGS ({flag})", may_expunge=False)


def silent(s, rng):
    """The client works out what the flags are now; if that is wrong, it must hear so."""
    if not s.uids:
        return
    n, how, flag = rng.randint(1, len(s.uids)), rng.choice(["+", "-", ""]), rng.choice(FLAGS)
    before = s.flags.get(s.uids[n - 1])
    if before is not None:
        s.flags[s.uids[n - 1]] = {"+": before | {flag}, "-": before - {flag}, "": {flag}}[how]
    s.run(f"STORE {n} {how}FLAGS.SILENT ({flag})", may_expunge=False)


def uid_store(s, rng):
    known = [u for u in s.uids if u]
    if known:
        s.run(f"UID STORE {rng.choice(known)} +FLAGS ({rng.choice(FLAGS)})")


def fetch(s, rng):
    if s.uids:
        s.run(f"FETCH {s.some(rng)} (UID FLAGS ENVELOPE)", may_expunge=False)


def search(s, rng):
    _, said = s.run(rng.choice(["SEARCH DELETED", "SEARCH 1:* UNSEEN", "SEARCH KEYWORD $Work"]), may_expunge=False)
    for line in said:
        for n in line.split()[2:] if line.startswith(b"* SEARCH") else []:
            if not 1 <= int(n) <= len(s.uids):
                s.fail(f"SEARCH found {n}")


def copy(s, rng):
    if s.uids and len(s.uids) < 150:
        s.run(f"COPY {rng.randint(1, len(s.uids))} {rng.choice(['INBOX', 'Archive'])}")


def move(s, rng):
    if s.uids:
        s.run(f"MOVE {rng.randint(1, len(s.uids))} {rng.choice(['INBOX', 'Archive'])}")


def expunge(s, _):
    s.run("EXPUNGE")


def idle(s, _):
    s.tags += 1
    tag = f"t{s.tags}"
    s.send(f"{tag} IDLE")
    while True:
        line = s.line()
        if line.startswith(b"+"):
            break
        s.untagged(line, True)
    s.send("DONE")
    s.collect(tag, True)


def again(s, _):
    s.select()


STEPS = [append] * 4 + [store] * 4 + [silent] * 4 + [uid_store] * 2 + [fetch] * 4 + [search] * 2 + [copy, move, expunge, expunge, idle] + [again]


def work(s, seed, errors):
    rng = random.Random(seed)
    try:
        s.select()
        for _ in range(ROUNDS):
            rng.choice(STEPS)(s, rng)
    except (Failed, OSError) as e:
        errors.append(e)


def test_sessions_agree(folder):
    with Gatepost(folder) as g:
        sessions = [Session(g, f"s{n}") for n in range(SESSIONS)]
        errors = []
        threads = [threading.Thread(target=work, args=(s, n, errors)) for n, s in enumerate(sessions)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if errors:
            raise errors[0]
        believed = []
        for s in sessions:
            s.run("NOOP")
            believed.append(dict(s.flags))
            s.learn()
        for s, flags in zip(sessions, believed):
            same(flags, {u: f for u, f in s.flags.items() if u in flags}, f"flags as {s.name} was told")
        for s in sessions[1:]:
            same(s.uids, sessions[0].uids, f"UIDs of {s.name}")
            same(s.flags, sessions[0].flags, f"flags of {s.name}")
        fresh = Session(g, "fresh")
        fresh.select()
        same(fresh.uids, sessions[0].uids, "UIDs of a new session")
        same(len(fresh.uids), len(g.files()), "files")
        tagged, said = fresh.run("STATUS INBOX (MESSAGES UNSEEN)")
        unseen = sum(r"\Seen" not in f for f in fresh.flags.values())
        check(any(f"MESSAGES {len(fresh.uids)} UNSEEN {unseen}".encode() in line for line in said), f"STATUS: {said} {tagged}")
