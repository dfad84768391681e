"""Two hosts, one mail tree: network, host name, process ids and mounts of their own, so that both daemons are process 1.

Each has its own configuration, spool and sockets; `mail/` is one directory, as a file server would give it to both.
SHARED_SECONDS is how long everybody works (4; the long test takes more), SEED makes it another course.
"""

import ctypes
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import threading
import time

from lib import PATIENCE, Failed, Gatepost, check, run, same, wait
from load import CLONE_NEWNET, COPIES, Deliver, Gone, Imap, Ledger, Load, No, Pop, Reader, Session, Submit, Writer, look, verify, verify_spool
from t_qresync import Cache, Client, compare, whole

SECONDS = float(os.environ.get("SHARED_SECONDS", "4"))
SEED = os.environ.get("SEED", "1")
KEYS = {"tls.plaintext": '["127.0.0.0/8"]', "queue.retry": '"1h"', "queue.retry-max": '"1h"'}


def enter(namespace):
    """This thread: what it connects to from now on is there."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) != 0:
        raise Failed(f"setns: {os.strerror(ctypes.get_errno())}")


class Host(Gatepost):
    """A gatepost on a host of its own."""

    def __init__(self, folder, name, tree, ports=None):
        super().__init__(folder / name, keys=KEYS, ports=ports)
        self.name = name
        # What keeps the namespaces alive, and has the tree mounted where this host expects it.
        script = 'ip link set lo up && hostname "$0" && mkdir -p "$2" && chown nobody "$2" "$2/.." && mount --bind "$1" "$2" && echo up && exec sleep infinity'
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--uts", "--mount", "sh", "-c", script, name, str(tree), str(self.state / "mail")], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        said = self.holder.stdout.readline()
        if said != b"up\n":
            raise Failed(f"no namespaces of its own (as root): {said + self.holder.stdout.read()!r}")
        self.namespace = os.open(f"/proc/{self.holder.pid}/ns/net", os.O_RDONLY)

    def start(self, env=None, wrap=()):
        there = ("nsenter", f"--target={self.holder.pid}", "--net", "--uts", "--mount")
        return super().start(env, (*there, "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *wrap))

    def _signal(self, number):
        """To the daemon; what was started only waits for it."""
        parent = self.process.pid
        child = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        os.kill(int(child[0]) if child else parent, number)

    def kill(self):
        self._signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self):
        self._signal(signal.SIGTERM)
        self.process.wait(60)
        self.process = None

    def end(self):
        if self.process:
            self.kill()
        self.holder.kill()
        self.holder.wait()
        os.close(self.namespace)


class Pair:
    def __init__(self, folder):
        tree = folder / "tree"
        tree.mkdir()
        os.chmod(folder, 0o755)
        run("chown", "nobody", tree)
        self.a = Host(folder, "front1", tree)
        self.b = Host(folder, "front2", tree, ports=self.a.ports)
        self.tree = tree
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY)

    @property
    def hosts(self):
        return self.a, self.b

    def __enter__(self):
        self.a.start()
        self.b.start()
        return self

    def __exit__(self, kind, *_):
        try:
            enter(self.home)
        finally:
            os.close(self.home)
            for host in self.hosts:
                host.end()
        if kind is None:
            for host in self.hosts:
                host.no_panic()

    def loads(self, ledger, **options):
        return [Load(ledger, h, h.namespace, **options) for h in self.hosts]

    def at(self, host):
        enter(host.namespace)
        return host


class Shared(Writer):
    """A writer in a folder that others write to on the other host."""

    def __init__(self, load, seed, name, account, folder):
        super().__init__(load, seed, name, account)
        self.folder = folder

    def work(self):
        l, folder, client = self.ledger, self.folder, self.connect()
        for name in (folder, f"{folder}/old", COPIES):
            try:
                client.run(f'CREATE "{name}"')
            except No as no:
                check("ALREADYEXISTS" in str(no), f"CREATE of what both make at once: {no}")
        self.toil(client, folder, l)


class Roamer(Session):
    """A user whose next connection may be to the other host: what one acknowledged, the other shows at once."""

    def __init__(self, load, seed, name, account, other):
        super().__init__(load, seed, name, account)
        self.loads, self.mine = [load, other], []

    def work(self):
        l, where = self.ledger, self.rng.choice(self.loads)
        enter(where.namespace)
        client = Imap(where.address, where.ports["imap"], self.load.user(self.account))
        l.select(client, self.account, "INBOX")
        there = client.fetch("1:*", "MODSEQ")
        for uid, name in self.mine:
            check(uid in there, f"{self.id}: UID {uid} ({name}) is not there on the host where it was not appended")
            flags = l.item(self.account, "INBOX", name).flags
            for flag, may in flags.items():
                check(len(may) > 1 or (flag in there[uid][0]) == (True in may), f"{self.id}: UID {uid} has {there[uid][0]}, acknowledged was {flags}")
        for uid in set(there):
            gone = [n for u, n in self.removed if u == uid] if hasattr(self, "removed") else []
            check(not gone, f"{self.id}: UID {uid} was expunged on the other host, and is there")
        self.removed = getattr(self, "removed", [])
        for _ in range(self.rng.randint(1, 3)):
            if not self.going():
                break
            step = self.rng.random()
            if step < 0.4 or not self.mine:
                self.mine.append(self.append(client, "INBOX"))
            elif step < 0.8:
                self.flag(client, "INBOX", *self.rng.choice(self.mine))
            else:
                gone = self.mine.pop(self.rng.randrange(len(self.mine)))
                self.remove(client, "INBOX", *gone)
                self.removed.append(gone)
        l.select(client, self.account, "INBOX")
        client.close()


def kinds(host, other):
    """What works on one of the two. The folders are the same on both; of INBOX each reader has every second message."""
    n = 1 if host.name == "front1" else 2
    return [(Deliver, f"d{n}"), (Submit, f"s{n}"), (Shared, f"w{n}", "alice", "Common"), (Shared, f"v{n}", "bob", "Common"),
            (Reader, f"r{n}", "alice", (n - 1, 2)), (Pop, f"p{n}")]


def agree(pair, ledger, account):
    """Both hosts show the same: folders, UIDs, flags, mod-sequences."""
    shown = []
    for host in pair.hosts:
        pair.at(host)
        load = Load(ledger, host)
        folders, found = look(ledger, load, account)
        client = Imap(host.address, host.ports["imap"], host.user(account))
        status = {}
        for folder in folders:
            answer = client.select(folder, "EXAMINE")
            _, said = client.run("UID FETCH 1:* (UID FLAGS MODSEQ)")
            modseqs = {int(re.search(rb"UID (\d+)", s)[1]): int(re.search(rb"MODSEQ \((\d+)\)", s)[1]) for s in said if b"MODSEQ (" in s}
            status[folder] = (*answer, modseqs)
        client.close()
        shown.append((sorted(folders), found, status))
    same(shown[0][0], shown[1][0], f"{account}'s folders on both hosts")
    same(shown[0][1], shown[1][1], f"{account}'s messages on both hosts")
    same(shown[0][2], shown[1][2], f"{account}'s numbers on both hosts")


def caching(pair, cache, stop, errors):
    """A client with QRESYNC that reconnects to either host, while all the others work."""
    rng = random.Random(SEED)
    try:
        while not stop.is_set():
            client = Client(pair.at(rng.choice(pair.hosts)), cache)
            client.resume(rng, "Common")
            for _ in range(rng.randrange(4)):
                client.command("NOOP")
                client.learn()
            client.cut_off()
    except Exception as e:
        errors.append(e)


def test_two_hosts_at_work(folder):
    ledger, errors, cache = Ledger(), [], Cache()
    with Pair(folder) as pair:
        client = Imap(pair.at(pair.a).address, pair.a.ports["imap"], pair.a.user())
        client.run('CREATE "Common"')
        client.close()
        loads = pair.loads(ledger)
        for load, host, other in ((loads[0], pair.a, loads[1]), (loads[1], pair.b, loads[0])):
            load.start(SEED, kinds(host, other) + [(Roamer, f"m{host.name[-1]}", "alice", other)])
        stop = threading.Event()
        roaming = threading.Thread(target=caching, args=(pair, cache, stop, errors), daemon=True)
        roaming.start()
        time.sleep(SECONDS)
        for load in loads:
            load.stop.set()
        for load in loads:
            load.join()
        stop.set()
        roaming.join(60)
        if errors:
            raise errors[0]
        for account in ("alice", "bob"):
            agree(pair, ledger, account)
        pair.at(pair.b)
        count = verify(ledger, loads[1], "at the end", prune=False)
        both = [verify_half(ledger, host) for host in pair.hosts]
        same(sorted(n for n, sure in ledger.queued.items() if sure), sorted(n for b in both for n in b), "submissions in the two spools")
        client = Client(pair.at(pair.a), cache)
        client.resume(random.Random(0), "Common")
        client.command("NOOP")
        client.learn()
        client.cut_off()
        want = {}
        for host in pair.hosts:
            fresh = Client(pair.at(host))
            fresh.resume(random.Random(0), "Common")
            fresh.command("UID FETCH 1:* (FLAGS MODSEQ)")
            want = fresh.cache.flags
            same(cache.flags, want, f"what a cache knows that was filled from both hosts, beside {host.name}")
            fresh.close()
        print(f"{ledger.acknowledged} acknowledged, {count} messages … ", end="", flush=True)
        check(ledger.acknowledged > 30, f"only {ledger.acknowledged} operations were acknowledged: the test tests nothing")


def verify_half(ledger, host):
    """The spool is a host's own."""
    part = Ledger()
    part.queued = dict.fromkeys(ledger.queued, False)
    return verify_spool(part, host.state, host.name)
