"""A client that keeps a cache by QRESYNC (RFC 7162) while others change the folder: it must never miss anything.

SEED and ROUNDS in the environment choose another course and a longer one.
"""

import os
import random
import re
import socket

from lib import Failed, Gatepost, check, message, same

FLAGS = [r"\Seen", r"\Answered", r"\Flagged", r"\Draft", "$Forwarded", "$Junk", "Work", "later"]
SIDE_FILES = ("gatepost-log", "gatepost-index", "gatepost-summaries")


def numbers(text):
    """A set of UIDs as the numbers in it."""
    for part in text.split(","):
        first, _, last = part.partition(":")
        yield from range(int(first), int(last or first) + 1)


def ranges(uids):
    """The other way round."""
    out = []
    for uid in sorted(uids):
        if out and out[-1][1] == uid - 1:
            out[-1][1] = uid
        else:
            out.append([uid, uid])
    return ",".join(str(a) if a == b else f"{a}:{b}" for a, b in out)


class Cache:
    """What outlives a connection."""

    holes = True  # it is not known which messages stood at which number

    def __init__(self):
        self.validity, self.highest, self.flags, self.modseq = None, 0, {}, {}


class Cut(Exception):
    """The connection was cut on purpose."""


class Client:
    """One connection, by the letter of RFC 7162: HIGHESTMODSEQ moves with tagged responses only (§6)."""

    def __init__(self, g, cache=None):
        self.cache = cache or Cache()
        raw = socket.create_connection((g.address, g.ports["imaps"]), timeout=60)
        self.socket = g.tls().wrap_socket(raw, server_hostname=g.host)
        self.lines = self.socket.makefile("rb")
        self.tag, self.selected, self.seqs, self.told, self.seen = 0, False, [], None, 0
        self.budget = None  # lines until the connection is cut
        self.mine = None  # the flag that a silent STORE adds
        self.lines.readline()
        self.command(f"LOGIN {g.user()} {g.PASSWORD}")
        check(any("ENABLED" in line and "QRESYNC" in line for line in self.command("ENABLE QRESYNC")), "ENABLED QRESYNC")

    def trace(self, text):
        if os.environ.get("TRACE"):
            print(f"{id(self) % 1000} {text[:300]}")

    def close(self):
        self.lines.close()
        self.socket.close()

    def line(self):
        if self.budget is not None:
            self.budget -= 1
            if self.budget < 0:
                self.close()
                raise Cut()
        line = self.lines.readline()
        if not line:
            raise EOFError("the server hung up")
        line = line.decode().rstrip("\r\n")
        self.trace(f"S: {line}")
        return line

    def send(self, text):
        self.tag += 1
        self.trace(f"C: {text}")
        self.socket.sendall(f"t{self.tag} {text}\r\n".encode())

    def command(self, text, ok=True):
        """Its untagged responses."""
        self.send(text)
        return self.until_tagged(text, ok)

    def until_tagged(self, text, ok=True):
        untagged = []
        while True:
            line = self.line()
            if line.startswith(f"t{self.tag} "):
                self.code(line)
                check(not ok or line.split(" ", 2)[1] == "OK", f"{text[:200]}: {line}")
                self.settle()
                return untagged
            untagged.append(line)
            self.take(line, text)

    def settle(self):
        if self.told is not None:
            self.cache.highest = self.told
        elif self.selected:
            self.cache.highest = max(self.cache.highest, self.seen)
        self.told, self.seen = None, 0

    def code(self, line):
        if found := re.search(r"\[HIGHESTMODSEQ (\d+)\]", line):
            self.told = int(found[1])

    def take(self, line, text):
        self.code(line)
        if line.startswith("* OK [UIDVALIDITY "):
            validity = int(re.search(r"UIDVALIDITY (\d+)", line)[1])
            if self.cache.validity not in (None, validity):
                raise Failed(f"UIDVALIDITY went from {self.cache.validity} to {validity}")
            self.cache.validity = validity
        elif found := re.fullmatch(r"\* (\d+) EXISTS", line):
            count = int(found[1])
            check(count >= len(self.seqs), f"{line}, but it counts {len(self.seqs)}")
            self.seqs += [None] * (count - len(self.seqs))
        elif found := re.fullmatch(r"\* VANISHED (\(EARLIER\) )?([\d:,]+)", line):
            for uid in numbers(found[2]):
                if found[1]:
                    check(uid not in self.seqs, f"EARLIER names {uid}, which is counted: {line[:200]}")
                elif uid in self.seqs:
                    self.seqs.remove(uid)
                else:
                    check(None in self.seqs, f"VANISHED names {uid}, which was never counted")
                    self.seqs.remove(None)
                self.cache.flags.pop(uid, None)
                self.cache.modseq.pop(uid, None)
            check(found[1] is None or text.startswith(("SELECT", "UID FETCH")), f"{text[:100]} brought {line[:100]}")
            check(found[1] or not text.startswith(("FETCH", "STORE", "SEARCH")), f"{text[:100]} brought {line[:100]}")
        elif found := re.fullmatch(r"\* (\d+) FETCH \((.*)\)", line):
            self.fetched(int(found[1]), found[2], line)
        elif re.match(r"\* \d+ EXPUNGE", line):
            raise Failed(f"EXPUNGE for a client that enabled QRESYNC: {line}")

    def fetched(self, seq, items, line):
        uid, modseq, flags = (re.search(p, items) for p in (r"\bUID (\d+)", r"MODSEQ \((\d+)\)", r"FLAGS \(([^)]*)\)"))
        check(uid and modseq, f"FETCH without UID or MODSEQ: {line}")
        uid, modseq = int(uid[1]), int(modseq[1])
        check(seq <= len(self.seqs), f"{line}, but it counts {len(self.seqs)}")
        check(self.seqs[seq - 1] in (None, uid), f"{line}, but number {seq} was UID {self.seqs[seq - 1]}")
        self.seqs[seq - 1] = uid
        self.seen = max(self.seen, modseq)
        self.cache.modseq[uid] = modseq
        if flags:
            self.cache.flags[uid] = frozenset(flags[1].lower().split()) - {r"\recent"}
        elif self.mine:
            self.cache.flags[uid] |= {self.mine}

    def mark(self, uids, flag, modifier):
        """Says nothing of flags but where others were at work: what became of the message is the client's to know."""
        self.mine = flag.lower()
        self.command(f"UID STORE {ranges(uids)} {modifier}+FLAGS.SILENT ({flag})")
        self.mine = None

    def resume(self, rng, folder="INBOX"):
        """Catches up, in one of the ways that §3.2.5 has."""
        cache, known = self.cache, sorted(self.cache.flags)
        since, rest = cache.highest, False
        self.selected, self.seqs = True, []
        if cache.validity is None:
            self.command(f"SELECT {folder}")
        else:
            arguments = f"{cache.validity} {since}"
            way = rng.randrange(4)
            if way == 1 and known:
                arguments += f" {ranges(known)}"
            elif way == 2 and known:
                some = rng.sample(known, rng.randrange(1, len(known) + 1))
                rest = len(some) < len(known)
                arguments += f" {ranges(some)}"
            elif way == 3 and known and not cache.holes:
                # All that it counted when it was cut off; numbers only mean something then.
                every = rng.randrange(1, 9)
                pairs = list(enumerate(known, 1))[::every]
                arguments += f" ({ranges(n for n, _ in pairs)} {ranges(u for _, u in pairs)})"
            self.command(f"SELECT {folder} (QRESYNC ({arguments}))")
        if rest:
            # The server told its number, and this client has heard of some messages only.
            self.command(f"UID FETCH 1:{max(known)} (FLAGS) (CHANGEDSINCE {since} VANISHED)")
        self.learn()

    def learn(self):
        """New messages: whatever it counts and cannot name."""
        while None in self.seqs:
            first = max(self.cache.flags, default=0) + 1
            self.command(f"UID FETCH {first}:* (FLAGS MODSEQ)")
            if None in self.seqs:
                # Holes below are told by a look at all.
                self.command("UID FETCH 1:* (FLAGS MODSEQ)")

    def cut_off(self):
        """The end of the connection, if that has not come yet."""
        self.cache.holes = None in self.seqs or sorted(self.cache.flags) != [u for u in self.seqs if u]
        if not self.socket._closed:
            self.close()


class Others:
    """A second client without any of this, and other programs in the directory."""

    def __init__(self, g, rng):
        self.g, self.rng, self.n = g, rng, 0
        self.imap = None

    def connect(self):
        self.imap = self.g.imap()
        self.imap.select()

    def close(self):
        try:
            self.imap.logout()
        except Exception:
            pass
        self.imap = None

    def act(self):
        rng = self.rng
        count = int(self.imap.select()[1][0])
        some = ",".join(str(n) for n in rng.sample(range(1, count + 1), min(count, rng.randrange(1, 6)))) if count else None
        what = rng.choice(["flags"] * 4 + ["expunge"] * 2 + ["append", "copy", "move", "rename", "rename", "remove", "deliver", "close"])
        if what == "append" or count < 5:
            for _ in range(rng.randrange(1, 9)):
                self.append()
        elif what == "flags":
            self.imap.store(some, rng.choice(["+FLAGS", "-FLAGS", "FLAGS", "+FLAGS.SILENT", "-FLAGS.SILENT"]), f"({' '.join(rng.sample(FLAGS, rng.randrange(1, 4)))})")
        elif what == "copy":
            self.imap.copy(some, "INBOX")
        elif what == "move":
            self.imap._simple_command("MOVE", some, "Archive")
        elif what in ("expunge", "close"):
            self.imap.store(some, "+FLAGS.SILENT", r"(\Deleted)")
            self.imap.expunge() if what == "expunge" else self.imap.close()
        else:
            self.in_the_directory(what)

    def append(self):
        self.n += 1
        flags = f"({' '.join(self.rng.sample(FLAGS, self.rng.randrange(3)))})"
        self.imap.append("INBOX", flags, None, message(self.g.user(), subject=f"number {self.n}"))

    def in_the_directory(self, what):
        inbox = self.g.maildir()
        files = [f for sub in ("cur", "new") for f in (inbox / sub).iterdir()]
        if what == "deliver":
            self.n += 1
            owner = inbox.stat()
            name = f"{1_700_000_000 + self.n}.M{self.n}P1.elsewhere"
            (inbox / "tmp" / name).write_bytes(message(self.g.user(), subject=f"dropped {self.n}").replace(b"\r\n", b"\n"))
            os.chown(inbox / "tmp" / name, owner.st_uid, owner.st_gid)
            (inbox / "tmp" / name).rename(inbox / "new" / name)
            return
        for file in self.rng.sample(files, min(len(files), 3)):
            if what == "remove":
                file.unlink(missing_ok=True)
                continue
            base, _, info = file.name.partition(":2,")
            letters = {c for c in info if c.islower()} | set(self.rng.sample("FRSD", self.rng.randrange(4)))
            try:
                file.rename(inbox / "cur" / f"{base}:2,{''.join(sorted(letters))}")
            except FileNotFoundError:
                pass


def whole(g):
    """The folder as a client sees it that reads it anew."""
    client = Client(g)
    client.resume(random.Random(0))
    client.command("UID FETCH 1:* (FLAGS MODSEQ)")
    client.command("LOGOUT")
    client.close()
    return client.cache


def act_and_listen(client, others, rng):
    """The caching client is there while others are at work, and may be cut off in the middle of anything."""
    client.resume(rng)
    cut = rng.random() < 0.6
    for _ in range(rng.randrange(1, 12)):
        others.act()
        if cut and rng.random() < 0.3:
            client.budget = rng.randrange(8)
        uids = [u for u in client.seqs if u]
        way = rng.randrange(6)
        if way == 0 and client.seqs:
            # Expunges wait (§3.2): the numbers of others may be far above them.
            client.command("FETCH 1:* (UID FLAGS MODSEQ)", ok=False)
        elif way == 1 and uids:
            client.mark(rng.sample(uids, min(len(uids), 3)), rng.choice(FLAGS), "")
        elif way == 2 and uids:
            client.mark(rng.sample(uids, min(len(uids), 4)), rng.choice(FLAGS), f"(UNCHANGEDSINCE {client.cache.highest}) ")
        elif way == 3:
            client.send("IDLE")
            client.line()
            others.act()
            client.socket.sendall(b"DONE\r\n")
            client.until_tagged("IDLE")
        elif way == 4 and uids and rng.random() < 0.5:
            client.mark([rng.choice(uids)], r"\Deleted", "")
            client.command("EXPUNGE")
        else:
            client.command("NOOP")
        client.learn()


def between(g, others, rng):
    """The daemon goes and comes, or stays; files that are nobody's truth get lost."""
    way = rng.randrange(5)
    if way < 2:
        return
    others.close()
    if way == 2:
        g.kill()
    else:
        same(g.stop(), 0, "exit status")
    inbox = g.maildir()
    if way == 4:
        for name in rng.sample(SIDE_FILES, rng.randrange(1, len(SIDE_FILES) + 1)):
            (inbox / name).unlink(missing_ok=True)
    for _ in range(rng.randrange(3)):
        others.in_the_directory(rng.choice(["rename", "remove", "deliver"]))
    g.start()
    others.connect()


def compare(cache, g, about):
    """Other programs' changes are taken in within a second or two; nothing else may be missing at all."""
    want = whole(g)
    missing = sorted(set(want.flags) - set(cache.flags))
    extra = sorted(set(cache.flags) - set(want.flags))
    other = {u: (sorted(cache.flags[u]), sorted(want.flags[u])) for u in cache.flags.keys() & want.flags.keys() if cache.flags[u] != want.flags[u]}
    check(not missing and not extra and not other, f"{about}: missing {missing}, too many {extra}, other flags (cache, folder) {other}")


def test_a_cache_by_qresync_never_misses_anything(folder):
    seed, rounds = int(os.environ.get("SEED", "1")), int(os.environ.get("ROUNDS", "40"))
    rng = random.Random(seed)
    cache = Cache()
    with Gatepost(folder) as g:
        others = Others(g, rng)
        others.connect()
        for _ in range(30):
            others.append()
        for n in range(rounds):
            try:
                client = Client(g, cache)
                try:
                    act_and_listen(client, others, rng)
                except Cut:
                    pass
                client.cut_off()
                for _ in range(rng.randrange(8)):
                    others.act()
                between(g, others, rng)
                for _ in range(rng.randrange(3)):
                    others.act()
                client = Client(g, cache)
                client.resume(rng)
                client.command("NOOP")
                client.learn()
                client.cut_off()
                compare(cache, g, f"round {n} of SEED={seed}")
            except (OSError, EOFError) as error:
                raise Failed(f"round {n} of SEED={seed}: {error!r}\n{g.said()[-2000:]}") from None
        others.close()
