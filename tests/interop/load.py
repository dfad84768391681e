"""Many clients at once, and a ledger of what they were promised: for the scenarios that kill, cut or double the server.

A message says which it is: its id is its subject, and every line of its body. The ledger knows of each what was
acknowledged and what was only asked for when the connection ended; `verify` reads everything back and compares.
"""

import ctypes
import os
import random
import re
import socket
import threading
import time

from lib import Failed, check

PASSWORD = "sesame"
KEYWORDS = [f"kw{n}" for n in range(int(os.environ.get("KW", "34")))]
# Where COPY goes; counted by themselves.
COPIES = "Copies"
CLONE_NEWNET = 0x40000000


def render(name, lines):
    body = "".join(f"{name} line {n} of {lines}\r\n" for n in range(lines))
    return f"From: <carol@elsewhere.test>\r\nTo: <x@alpha.test>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n" \
           f"Message-ID: <{name}@load.test>\r\nSubject: {name}\r\nX-Lines: {lines}\r\n\r\n{body}".encode()


def name_of(raw, what):
    """The id of a whole message; fails on one that is not."""
    # Who submits must write as himself.
    raw = raw.replace(b"From: <alice@alpha.test>", b"From: <carol@elsewhere.test>")
    subject = re.search(rb"^Subject: (\S+)\r?$", raw, re.M)
    lines = re.search(rb"^X-Lines: (\d+)\r?$", raw, re.M)
    if not subject or not lines or not raw.endswith(render(subject[1].decode(), int(lines[1]))):
        raise Failed(f"{what}: a message that is not whole ({len(raw)} bytes): {raw[:300]!r} … {raw[-200:]!r}")
    return subject[1].decode()


class Gone(Exception):
    """The server went away, or said something that ends this connection."""


class No(Exception):
    """The server refused; the text is its line."""


class Connection:
    """In plain text, a line at a time."""

    def __init__(self, address, port):
        try:
            self.socket = socket.create_connection((address, port), 20)
            self.file = self.socket.makefile("rb")
        except OSError as e:
            raise Gone(str(e)) from e

    def line(self):
        try:
            line = self.file.readline()
        except OSError as e:
            raise Gone(str(e)) from e
        if not line.endswith(b"\n"):
            raise Gone("the connection ended")
        return line


class Imap(Connection):
    """One connection in plain text. A command's answer: (the tagged text, untagged responses with their literals)."""

    def __init__(self, address, port, user=None):
        super().__init__(address, port)
        self.tag = 0
        self._line()
        if user:
            self.run(f"LOGIN {user} {PASSWORD}")

    def _line(self):
        out = b""
        while True:
            line = self.line()
            out += line
            literal = re.search(rb"\{(\d+)\}\r\n$", line)
            if not literal:
                return out
            part = self.file.read(int(literal[1]))
            if len(part) < int(literal[1]):
                raise Gone("the connection ended")
            out += part

    def run(self, command, literal=None):
        self.tag += 1
        tag = f"a{self.tag}".encode()
        if isinstance(command, str):
            command = command.encode()
        try:
            self.socket.sendall(tag + b" " + command + b"\r\n" + (literal + b"\r\n" if literal is not None else b""))
        except OSError as e:
            raise Gone(str(e)) from e
        said = []
        while True:
            line = self._line()
            if line.startswith(tag + b" "):
                text = line[len(tag) + 1:].decode(errors="replace").rstrip()
                if text.startswith("OK"):
                    return text, said
                if text.startswith("NO"):
                    raise No(text)
                raise Failed(f"{command[:200]!r}: {text}")
            if line.startswith(b"* BYE"):
                raise Gone(line.decode(errors="replace"))
            said.append(line)

    def select(self, folder, verb="SELECT"):
        """(UIDVALIDITY, UIDNEXT, HIGHESTMODSEQ)."""
        _, said = self.run(f'{verb} "{folder}" (CONDSTORE)')
        text = b"".join(said)
        number = lambda word: int(re.search(rb"\[" + word + rb" (\d+)\]", text)[1])  # noqa: E731
        return number(b"UIDVALIDITY"), number(b"UIDNEXT"), number(b"HIGHESTMODSEQ")

    def fetch(self, what, items):
        """UID → (flags, literal)."""
        _, said = self.run(f"UID FETCH {what} (UID FLAGS {items})")
        out = {}
        for line in said:
            uid, flags = re.search(rb"[( ]UID (\d+)", line), re.search(rb"FLAGS \(([^)]*)\)", line)
            if re.match(rb"\* \d+ FETCH", line) and uid and flags:
                literal = re.search(rb"\{(\d+)\}\r\n", line)
                body = line[literal.end():literal.end() + int(literal[1])] if literal else None
                if body is not None or int(uid[1]) not in out:
                    out[int(uid[1])] = ({f for f in flags[1].decode().split() if f != r"\Recent"}, body)
        return out

    def close(self):
        try:
            self.socket.close()
        except OSError:
            pass


class Smtp(Connection):
    """One connection in plain text."""

    def __init__(self, address, port, user=None):
        super().__init__(address, port)
        self.answer()
        self.say("EHLO client.test", 250)
        if user:
            import base64
            self.say("AUTH PLAIN " + base64.b64encode(f"\0{user}\0{PASSWORD}".encode()).decode(), 235)

    def answer(self):
        while True:
            line = self.line()
            if line[3:4] != b"-":
                return int(line[:3]), line.decode(errors="replace").rstrip()

    def say(self, command, want, body=None):
        try:
            self.socket.sendall((command.encode() + b"\r\n") if body is None else body)
        except OSError as e:
            raise Gone(str(e)) from e
        code, text = self.answer()
        if code == 421:
            raise Gone(text)
        if code // 100 == 4:
            raise No(text)
        if code != want:
            raise Failed(f"{command}: {text}")

    def send(self, sender, recipients, message):
        """Returns when the server has answered for the message; No when it would not take it."""
        self.say(f"MAIL FROM:<{sender}>", 250)
        for r in recipients:
            self.say(f"RCPT TO:<{r}>", 250)
        self.say("DATA", 354)
        self.say("the message", 250, message + b".\r\n")

    def close(self):
        self.socket.close()


class Item:
    """One message of one account (its copies under `Copies` are another)."""

    def __init__(self):
        self.sure = False       # acknowledged, or seen after a restart
        self.deleting = False   # somebody asked for its removal
        self.deleted = False    # and was told that it is done
        self.moving = False     # somebody asked for a move and got no answer
        self.twice = False      # a move that was cut left it twice
        self.flags = {}         # flag → what it may be, in the order in which it was asked: {True}, {True, False}
        self.born = 0


class Ledger:
    """`lossy`: a power cut may also take back flags and removals."""

    def __init__(self, lossy=False):
        self.lossy, self.lock = lossy, threading.Lock()
        self.round = 0
        self.items = {}         # (account, is copy, id) → Item
        self.uids = {}          # (account, folder) → {uid: id}
        self.validity, self.modseq = {}, {}
        self.folders = {}       # (account, folder) → must be there (True), must not (False), in doubt (None)
        self.queued = {}        # id of a submission → acknowledged
        self.acknowledged = 0
        self.refused = []
        self.serial = 0

    def new_id(self, who):
        with self.lock:
            self.serial += 1
            return f"{who}-{self.serial}"

    def item(self, account, folder, name):
        key = (account, folder == COPIES, name)
        item = self.items.get(key)
        if item is None:
            item = self.items[key] = Item()
            item.born = self.round
            self.unread(account, item)
        return item

    @staticmethod
    def unread(account, item):
        if account == "bob":
            item.flags[r"\Seen"] = {False, True}  # RETR does it

    def saw(self, account, folder, validity, uid, name):
        """A UID and what it stands for, from wherever."""
        with self.lock:
            self._saw(account, folder, validity, uid, name)

    def _saw(self, account, folder, validity, uid, name):
        key = (account, folder)
        before = self.validity.setdefault(key, validity)
        if before != validity:
            raise Failed(f"{account} {folder}: UIDVALIDITY was {before} and is {validity}")
        was = self.uids.setdefault(key, {}).setdefault(uid, name)
        if was != name:
            raise Failed(f"{account} {folder}: UID {uid} was {was} and is {name}")

    def select(self, client, account, folder, verb="SELECT"):
        """Opens a folder; what was known before that must not be undone."""
        key = account, folder
        with self.lock:
            highest, modseq = max(self.uids.get(key, {0: 0})), self.modseq.get(key, 0)
        answer = client.select(folder, verb)
        with self.lock:
            before = self.validity.setdefault(key, answer[0])
            if before != answer[0]:
                raise Failed(f"{account} {folder}: UIDVALIDITY was {before} and is {answer[0]}")
            if answer[1] <= highest:
                raise Failed(f"{account} {folder}: UIDNEXT {answer[1]}, and UID {highest} was given")
            if answer[2] < modseq:
                raise Failed(f"{account} {folder}: HIGHESTMODSEQ was {modseq} and is {answer[2]}")
            self.modseq[key] = max(self.modseq.get(key, 0), answer[2])
        return answer


class Worker(threading.Thread):
    """One client. Ends when it is told to or when the server goes; what broke the rules is in `error`."""

    def __init__(self, load, seed, name):
        super().__init__(daemon=True)
        self.load, self.ledger, self.rng, self.id = load, load.ledger, random.Random(f"{seed}{name}"), name
        self.error, self.done = None, 0

    def run(self):
        try:
            if self.load.namespace is not None and ctypes.CDLL(None, use_errno=True).setns(self.load.namespace, CLONE_NEWNET) != 0:
                raise Failed(f"setns: {os.strerror(ctypes.get_errno())}")
            while not self.load.stop.is_set():
                try:
                    self.work()
                except No as no:
                    self.refused(no)
                except Gone:
                    if not self.load.patient:
                        return
                    time.sleep(0.02)
        except Exception as e:  # told by the scenario's own thread
            self.error = e

    def going(self):
        self.done += 1
        return not self.load.stop.is_set() and not (self.load.limit and self.done > self.load.limit)

    def lines(self):
        # Now and then one that is written in several pieces, or spilled to a file first.
        return self.rng.choice([1, 1, 3, 10, 60]) if self.rng.random() > 0.03 else self.rng.choice([300, 12_000])

    def refused(self, no):
        """Allowed only where the scenario says so."""
        with self.ledger.lock:
            self.ledger.refused.append(str(no))
        if not self.load.may_refuse:
            raise Failed(f"{self.id}: {no}")


class Deliver(Worker):
    """Mail from outside, to one or both."""

    def work(self):
        l, client = self.ledger, Smtp(self.load.address, self.load.ports["smtp"])
        while self.going():
            name, to = l.new_id(self.id), self.rng.choice([["alice"], ["bob"], ["alice", "bob"]])
            with l.lock:
                for user in to:
                    l.item(user, "INBOX", name)
            try:
                client.send("carol@elsewhere.test", [self.load.user(u) for u in to], render(name, self.lines()))
            except No as no:
                self.refused(no)
                client.say("RSET", 250)
                continue
            with l.lock:
                l.acknowledged += 1
                for user in to:
                    l.item(user, "INBOX", name).sure = True
        client.close()


class Submit(Worker):
    """Mail to a remote host that is down: what was taken waits in the spool."""

    def work(self):
        l, client = self.ledger, Smtp(self.load.address, self.load.ports["submission"], self.load.user("alice"))
        while self.going():
            name = l.new_id(self.id)
            local = self.rng.random() < 0.3
            with l.lock:
                l.queued[name] = False
                if local:
                    l.item("bob", "INBOX", name)
            message = render(name, self.lines()).replace(b"From: <carol@elsewhere.test>", b"From: <alice@alpha.test>")
            try:
                client.send(self.load.user("alice"), ["dave@remote.test"] + ([self.load.user("bob")] if local else []), message)
            except No as no:
                self.refused(no)
                client.say("RSET", 250)
                continue
            with l.lock:
                l.acknowledged += 1
                l.queued[name] = True
                if local:
                    l.item("bob", "INBOX", name).sure = True
        client.close()


class Session(Worker):
    """An IMAP client of `account` with its own idea of one folder."""

    def __init__(self, load, seed, name, account):
        super().__init__(load, seed, name)
        self.account = account

    def connect(self):
        return Imap(self.load.address, self.load.ports["imap"], self.load.user(self.account))

    def flag(self, client, folder, uid, name):
        l, add = self.ledger, self.rng.random() < 0.7
        flags = self.rng.sample([r"\Flagged", r"\Answered", r"\Seen", *KEYWORDS], self.rng.choice([1, 1, 2]))
        with l.lock:
            states = l.item(self.account, folder, name).flags
            for f in flags:
                states[f] = states.get(f, {False}) | {add}
        try:
            client.run(f"UID STORE {uid} {'+' if add else '-'}FLAGS.SILENT ({' '.join(flags)})")
        except No as no:
            return self.refused(no)
        # A STORE of what somebody else removed says OK too; such an item is being deleted, and its flags do not count.
        with l.lock:
            if not l.lossy:
                for f in flags:
                    states[f] = {add}

    def remove(self, client, folder, uid, name):
        l = self.ledger
        with l.lock:
            item = l.item(self.account, folder, name)
            item.deleting = True
        try:
            client.run(f"UID STORE {uid} +FLAGS.SILENT (\\Deleted)")
            client.run(f"UID EXPUNGE {uid}")
        except No as no:
            return self.refused(no)
        with l.lock:
            item.deleted = True

    def transfer(self, client, verb, folder, uid, name, to):
        l = self.ledger
        with l.lock:
            item = l.item(self.account, folder, name)
            copy = l.item(self.account, to, name) if verb == "COPY" else None
            states = {f: set(s) for f, s in item.flags.items()}
            if copy:
                copy.flags = {f: s | copy.flags.get(f, set()) for f, s in states.items()}
            else:
                item.moving = True
        try:
            text, said = client.run(f'UID {verb} {uid} "{to}"')
        except No as no:
            with l.lock:
                item.moving = False
            return self.refused(no)
        pair = re.search(r"\[COPYUID (\d+) (\d+) (\d+)\]", text + "".join(s.decode(errors="replace") for s in said if b"COPYUID" in s))
        with l.lock:
            item.moving = False
            if pair:
                l.acknowledged += 1
                if copy:
                    copy.sure = True
                l._saw(self.account, to, int(pair[1]), int(pair[3]), name)

    def append(self, client, folder):
        l, name = self.ledger, self.ledger.new_id(self.id)
        flags = self.rng.sample([r"\Seen", r"\Draft", *KEYWORDS], self.rng.choice([0, 1, 2]))
        with l.lock:
            item = l.item(self.account, folder, name)
            item.flags = {f: {True} for f in flags}
        message = render(name, self.lines())
        try:
            text, _ = client.run(f'APPEND "{folder}" ({" ".join(flags)}) {{{len(message)}+}}', message)
        except No as no:
            return self.refused(no)
        found = re.search(r"\[APPENDUID (\d+) (\d+)\]", text)
        with l.lock:
            l.acknowledged += 1
            item.sure = True
            l._saw(self.account, folder, int(found[1]), int(found[2]), name)
        return int(found[2]), name


class Writer(Session):
    """APPENDs to a folder of its own, flags, copies, moves and removes there."""

    def work(self):
        l, folder, client = self.ledger, self.id, self.connect()
        for name in (folder, f"{folder}/old", COPIES):
            try:
                client.run(f'CREATE "{name}"')
            except No as no:
                if "ALREADYEXISTS" not in str(no):
                    self.refused(no)
        self.toil(client, folder, l)

    def toil(self, client, folder, l):
        l.select(client, self.account, folder)
        mine = []
        while self.going():
            step = self.rng.random()
            if step < 0.35 or not mine:
                done = self.append(client, folder)
                if done:
                    mine.append(done)
                continue
            at = self.rng.randrange(len(mine))
            uid, name = mine[at]
            if step < 0.65:
                self.flag(client, folder, uid, name)
            elif step < 0.75:
                self.transfer(client, "COPY", folder, uid, name, COPIES)
                mine.pop(at)
            elif step < 0.87:
                self.transfer(client, "MOVE", folder, uid, name, f"{folder}/old")
                mine.pop(at)
            else:
                self.remove(client, folder, uid, name)
                mine.pop(at)
        client.close()


class Reader(Session):
    """Works through INBOX as deliveries come. Of several readers each has the messages whose number is its own."""

    def __init__(self, load, seed, name, account, turn=(0, 1)):
        super().__init__(load, seed, name, account)
        self.turn = turn

    def work(self):
        l, client = self.ledger, self.connect()
        # A first COPY or MOVE must find it.
        try:
            client.run('CREATE "Filed"')
        except No as no:
            if "ALREADYEXISTS" not in str(no):
                self.refused(no)
        answer = l.select(client, self.account, "INBOX")
        highest, mine = 0, []
        while self.going():
            new = client.fetch(f"{highest + 1}:*", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]")
            for uid, (_, body) in sorted(new.items()):
                if uid > highest and body:
                    name = body.split(b"Subject: ")[1].split(b"\r")[0].decode()
                    l.saw(self.account, "INBOX", answer[0], uid, name)
                    if name[0] in "ds" and int(name.rsplit("-", 1)[1]) % self.turn[1] == self.turn[0]:
                        mine.append((uid, name))
            highest = max([highest, *new])
            if not mine:
                time.sleep(0.01)
                continue
            uid, name = mine[self.rng.randrange(len(mine))]
            step = self.rng.random()
            if step < 0.6:
                self.flag(client, "INBOX", uid, name)
                continue
            mine.remove((uid, name))
            if step < 0.85:
                self.transfer(client, "MOVE", "INBOX", uid, name, "Filed")
            else:
                self.remove(client, "INBOX", uid, name)
        client.close()


class Gardener(Session):
    """Makes, renames, subscribes and removes folders, with a message in them."""

    def ask(self, client, command, *after):
        """`after`: folder → whether it is there when this is done."""
        l = self.ledger
        with l.lock:
            for folder, _ in after:
                l.folders[self.account, folder] = None
        try:
            client.run(command)
        except No as no:
            self.refused(no)
            return False
        with l.lock:
            for folder, there in after:
                l.folders[self.account, folder] = there
        return True

    def work(self):
        client = self.connect()
        while self.going():
            folder = self.ledger.new_id(self.id)
            if not self.ask(client, f'CREATE "{folder}"', (folder, True)):
                continue
            done = self.append(client, folder)
            if not done:
                continue
            where = folder
            if self.rng.random() < 0.6:
                where = f"R{folder}"
                with self.ledger.lock:
                    # Renamed with it; a UIDVALIDITY goes along.
                    for known in (self.ledger.uids, self.ledger.validity, self.ledger.modseq):
                        if (self.account, folder) in known:
                            known[self.account, where] = known[self.account, folder]
                if not self.ask(client, f'RENAME "{folder}" "{where}"', (folder, False), (where, True)):
                    continue
            if self.rng.random() < 0.6:
                with self.ledger.lock:
                    item = self.ledger.item(self.account, where, done[1])
                    item.deleting = True
                if self.ask(client, f'DELETE "{where}"', (where, False)):
                    item.deleted = True
        client.close()


class Pop(Worker):
    """Fetches and removes the first few of bob's INBOX, again and again."""

    def ask(self, line, multi=False):
        try:
            self.socket.sendall(line.encode() + b"\r\n")
            return self.answer(multi)
        except OSError as e:
            raise Gone(str(e)) from e

    def answer(self, multi=False):
        try:
            first = self.file.readline()
            if not first.endswith(b"\n"):
                raise Gone("the connection ended")
            if not first.startswith(b"+OK"):
                raise No(first.decode(errors="replace").rstrip())
            out = b""
            while multi:
                line = self.file.readline()
                if not line.endswith(b"\n"):
                    raise Gone("the connection ended")
                if line == b".\r\n":
                    break
                out += line[1:] if line.startswith(b".") else line
            return out
        except OSError as e:
            raise Gone(str(e)) from e

    def work(self):
        try:
            self.socket = socket.create_connection((self.load.address, self.load.ports["pop3"]), 20)
            self.file = self.socket.makefile("rb")
        except OSError as e:
            raise Gone(str(e)) from e
        l = self.ledger
        if not self.going():
            return
        try:
            self.answer()
            self.ask(f"USER {self.load.user('bob')}")
            self.ask(f"PASS {PASSWORD}")
            numbers = [int(line.split()[0]) for line in self.ask("LIST", True).splitlines()][:3]
            items = []
            for n in numbers:
                try:
                    name = name_of(self.ask(f"RETR {n}", True), "RETR")
                except No:
                    continue  # another client was faster
                self.ask(f"DELE {n}")
                with l.lock:
                    item = l.item("bob", "INBOX", name)
                    item.deleting = True
                    items.append(item)
            self.ask("QUIT")
            with l.lock:
                for item in items:
                    item.deleted = True
        except No as no:
            self.refused(no)
        finally:
            self.socket.close()
        time.sleep(0.02)


class Load:
    """Clients of one server. `namespace`: an open file of the network namespace where it listens."""

    def __init__(self, ledger, g, namespace=None, patient=False, may_refuse=False, limit=None):
        self.ledger, self.address, self.ports, self.domain = ledger, g.address, g.ports, g.domain
        self.namespace, self.patient, self.may_refuse, self.limit = namespace, patient, may_refuse, limit
        self.stop, self.workers = threading.Event(), []

    def user(self, name):
        return f"{name}@{self.domain}"

    def start(self, seed, kinds):
        """kinds: (class, name, more arguments)."""
        self.workers = [kind(self, seed, name, *more) for kind, name, *more in kinds]
        for w in self.workers:
            w.start()

    def join(self, timeout=60):
        self.stop.set()
        for w in self.workers:
            w.join(timeout)
            check(not w.is_alive(), f"client {w.id} hangs")
        for w in self.workers:
            if w.error:
                raise w.error


# What the scenarios run, each on one server.
EVERYBODY = (
    (Deliver, "d1"), (Deliver, "d2"), (Submit, "s1"), (Writer, "w1", "alice"), (Writer, "w2", "alice"), (Reader, "r1", "alice", (0, 1)),
    (Gardener, "g1", "alice"), (Pop, "p1"),
)


def folders_of(client):
    _, said = client.run('LIST "" "*"')
    return [m[1].decode() for m in (re.match(rb'\* LIST \([^)]*\) "/" "?([^"\r\n]*)"?\r\n', line) for line in said
                                    if b"\\NonExistent" not in line and b"\\Noselect" not in line) if m]


def look(ledger, load, account):
    """Everything an account has: (folder, uid) → (id, flags). Whole messages, UIDs that keep their meaning."""
    found = {}
    client = Imap(load.address, load.ports["imap"], load.user(account))
    folders = folders_of(client)
    for folder in folders:
        answer = ledger.select(client, account, folder, "EXAMINE")
        for uid, (flags, body) in client.fetch("1:*", "BODY.PEEK[]").items():
            check(body is not None, f"{account} {folder} UID {uid} has no bytes")
            name = name_of(body, f"{account} {folder} UID {uid}")
            ledger.saw(account, folder, answer[0], uid, name)
            found[folder, uid] = (name, flags)
    client.close()
    return folders, found


def verify(ledger, load, what, accounts=("alice", "bob"), prune=True):
    """Compares what is there with what was promised; then what is there is what is promised. How many messages there are."""
    count = 0
    for account in accounts:
        folders, found = look(ledger, load, account)
        count += len(found)
        _compare(ledger, account, folders, found, what)
        if prune:
            _prune(ledger, load, account, found)
    return count


def _compare(ledger, account, folders, found, what):
    for (who, folder), there in ledger.folders.items():
        if who == account and there is not None:
            check((folder in folders) == there, f"{what}: {account}'s folder {folder} {'is gone' if there else 'is back'}")
    ledger.folders = {k: v for k, v in ledger.folders.items() if k[0] != account}
    where = {}
    for (folder, uid), (name, flags) in found.items():
        where.setdefault((account, folder == COPIES, name), []).append((folder, uid, flags))
    for key in where:
        check(key in ledger.items, f"{what}: nobody sent {key}")
    for key, item in list(ledger.items.items()):
        if key[0] != account:
            continue
        here = where.get(key, [])
        say = f"{what}: {key} at {[(f, u) for f, u, _ in here]}"
        if item.sure and not item.deleting:
            check(here, f"{say}: acknowledged, and gone")
        if item.deleted and not ledger.lossy:
            check(not here, f"{say}: removed, and back")
        most = 2 if item.twice or item.moving or (ledger.lossy and item.deleting) else 1
        check(len(here) <= most, f"{say}: more often than it was sent")
        if not here:
            del ledger.items[key]
            continue
        if not item.deleting:
            for folder, uid, flags in here:
                _flags(ledger, item, flags, f"{say}, UID {uid}")
        item.sure, item.twice, item.moving, item.deleting, item.deleted = True, len(here) > 1, False, False, False
        item.flags = {f: {True} for f in here[0][2] if f != r"\Deleted"} if len(here) == 1 else \
            {f: {True, False} for f in [*KEYWORDS, r"\Seen", r"\Answered", r"\Flagged", r"\Draft"]}
        ledger.unread(account, item)


def _flags(ledger, item, flags, say):
    for flag in flags - {r"\Deleted"}:
        check(True in item.flags.get(flag, {False}), f"{say} has {flag}, which nobody gave it: {item.flags}")
    if not ledger.lossy:
        for flag, may in item.flags.items():
            check(False in may or flag in flags, f"{say} lost {flag}, there are {flags}")


def _prune(ledger, load, account, found, rounds=2):
    """Takes away what has been verified often enough, so that the next rounds stay short."""
    client = Imap(load.address, load.ports["imap"], load.user(account))
    by_folder = {}
    for (folder, uid), (name, _) in found.items():
        if ledger.items[account, folder == COPIES, name].born + rounds <= ledger.round:
            by_folder.setdefault(folder, []).append((uid, name))
    for folder, old in by_folder.items():
        client.select(folder)
        with ledger.lock:
            for _, name in old:
                ledger.item(account, folder, name).deleting = True
        uids = ",".join(str(u) for u, _ in old)
        client.run(f"UID STORE {uids} +FLAGS.SILENT (\\Deleted)")
        client.run(f"UID EXPUNGE {uids}")
        with ledger.lock:
            for _, name in old:
                # A twin in another folder may be left.
                ledger.item(account, folder, name).deleted = not ledger.item(account, folder, name).twice
    for folder in folders_of(client):
        if re.fullmatch(r"R?g\d-\d+", folder) and not any(f == folder for f, _ in found):
            client.run(f'DELETE "{folder}"')
    client.close()


def verify_spool(ledger, state, what):
    """Every submission that was taken waits in the spool, whole."""
    spool = state / "spool"
    waiting = set()
    for envelope in spool.glob("*.env"):
        message = envelope.with_suffix(".msg")
        check(message.exists(), f"{what}: {envelope.name} without its message")
        name = name_of(message.read_bytes(), f"{what}: {message.name}")
        check(name in ledger.queued, f"{what}: nobody sent {name}")
        check("dave@remote.test" in envelope.read_text(), f"{what}: {envelope.read_text()}")
        waiting.add(name)
    check(not (spool / "corrupt").exists(), f"{what}: something in the spool is not whole")
    lost = {n for n, sure in ledger.queued.items() if sure} - waiting
    check(not lost, f"{what}: submissions that were taken are gone: {sorted(lost)}")
    return waiting


def empty_spool(ledger, state):
    """With the server down."""
    for f in (state / "spool").glob("*.*"):
        if f.suffix in (".env", ".msg"):
            f.unlink()
    ledger.queued.clear()
