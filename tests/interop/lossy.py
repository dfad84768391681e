"""A file system that loses, at a power cut, what was not fsynced: FUSE without a library, everything in memory.

What it takes for granted, because POSIX says so or because ext4, XFS and btrfs (and servers of NFS and CephFS on them) do:
- fsync(file) makes the bytes of that file durable and says nothing of its names; fsync(directory) makes durable what
  happened to the names in that directory, and says nothing of the bytes behind them.
- One rename is one step: after a cut the file has its old name or its new one, never none, also between two directories
  (one transaction of the journal), and a rename that is durable brings along what happened to the same names before.
- Names whose directory was not fsynced may be there after a cut or not, in any order between different names.
- Bytes that were not fsynced may be there, not there, there up to the end of a page or of a write, or zeros under a size
  that is (delayed allocation, write-back without order). Bytes that were fsynced do not change.
- A directory's times are written with its names; a file's mode and owner are not what is tested.
- kill -9 alone loses nothing: a write that returned is seen by every reader, whether it is durable or not.

`Lossy` mounts it, can cut at the n-th change, and goes on with what is left by one of the `POLICIES`:
none      nothing that was not fsynced: the least that POSIX promises
names     all names, no bytes: ext4 with delayed allocation, XFS with zeros
journal   all changes of names up to some moment, bytes by chance: a journal that was committed a while ago
scatter   any of the changes, each by itself: soft updates, or a journal for each directory

The mount stays while the power is out, so that inode and device numbers are the same afterwards, as on a real disk.
"""

import ctypes
import errno
import json
import os
import random
import select
import stat
import struct
import subprocess
import sys
import time

POLICIES = ("none", "names", "journal", "scatter")

HEADER = struct.Struct("<IIQQIIIHH")
ENTRY = struct.Struct("<QQQQII")
ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
SETATTR = struct.Struct("<IIQQQQQQIIIIIIII")
# A directory seldom goes; what a cut takes away is made known. Files and attributes are asked for each time.
DIRECTORY_VALID = 3600


class Inode:
    """Names and bytes as programs see them, and as the disk has them."""

    def __init__(self, number, mode, uid, gid):
        self.number, self.mode, self.uid, self.gid = number, mode, uid, gid
        self.links = self.opened = 0
        self.mtime = self.ctime = self.disk_time = time.time_ns()
        if stat.S_ISDIR(mode):
            self.names, self.disk_names = {}, {}
        else:
            self.data, self.disk_data = bytearray(), b""
            self.lengths = []  # after each write since the last fsync


class Disk:
    """The tree, and the changes of names that are not durable yet: groups of (directory, name, inode or None), in order."""

    def __init__(self):
        self.inodes = {1: Inode(1, stat.S_IFDIR | 0o755, 0, 0)}
        self.next = 2
        self.pending = []
        self.changes = 0
        self.syncs = 0

    def make(self, mode, uid, gid):
        node = Inode(self.next, mode, uid, gid)
        self.next += 1
        self.inodes[node.number] = node
        return node

    def change(self, *parts):
        now = time.time_ns()
        for directory, name, node in parts:
            before = directory.names.pop(name, None)
            if before:
                self.inodes[before].links -= 1
                self.inodes[before].ctime = now
            if node:
                directory.names[name] = node.number
                node.links += 1
                node.ctime = now
            directory.mtime = directory.ctime = now
        self.pending.append((now, [(d.number, n, node and node.number) for d, n, node in parts]))

    def commit(self, wanted):
        """Makes these groups durable, and what happened to the same names before."""
        names, take = set(), []
        for i in range(len(self.pending) - 1, -1, -1):
            _, parts = self.pending[i]
            if i in wanted or any((d, n) in names for d, n, _ in parts):
                take.append(i)
                names.update((d, n) for d, n, _ in parts)
        for i in reversed(take):
            when, parts = self.pending[i]
            for directory, name, node in parts:
                directory = self.inodes[directory]
                directory.disk_time = when
                if node:
                    directory.disk_names[name] = node
                else:
                    directory.disk_names.pop(name, None)
        for i in take:
            del self.pending[i]

    def sync_names(self, node):
        self.syncs += 1
        self.commit({i for i, (_, parts) in enumerate(self.pending) if any(d == node.number for d, _, _ in parts)})

    def sync_data(self, node):
        self.syncs += 1
        node.disk_data, node.disk_time, node.lengths = bytes(node.data), node.mtime, []

    def sync_all(self):
        self.commit(set(range(len(self.pending))))
        for node in self.inodes.values():
            if not stat.S_ISDIR(node.mode):
                self.sync_data(node)

    def drop(self, policy, rng):
        """The power comes back."""
        n = len(self.pending)
        if policy == "names":
            kept = set(range(n))
        elif policy == "journal":
            kept = set(range(rng.randint(0, n)))
        elif policy == "scatter":
            kept = {i for i in range(n) if rng.random() < 0.5}
        else:
            kept = set()
        self.commit(kept)
        self.pending.clear()
        reached, walk = {1}, [1]
        while walk:
            node = self.inodes[walk.pop()]
            node.mtime = node.ctime = node.disk_time
            node.names = dict(node.disk_names)
            for number in node.names.values():
                if number not in reached:
                    reached.add(number)
                    if stat.S_ISDIR(self.inodes[number].mode):
                        walk.append(number)
        self.inodes = {n: i for n, i in self.inodes.items() if n in reached}
        for node in self.inodes.values():
            node.links = node.opened = 0
        for node in self.inodes.values():
            if stat.S_ISDIR(node.mode):
                for number in node.names.values():
                    self.inodes[number].links += 1
            else:
                self._drop_data(node, policy, rng)

    @staticmethod
    def _drop_data(node, policy, rng):
        old, new = node.disk_data, bytes(node.data)
        if old != new:
            if not new.startswith(old):
                # Cut or overwritten in place: one or the other, or cut and nothing of what came then.
                same = len(os.path.commonprefix([old, new]))
                choices = [old] if policy == "none" else [old, new, new[:same]]
            else:
                # A page goes to the disk whole, as it was when it went.
                ends = {n for n in node.lengths if len(old) <= n <= len(new)} | {n for n in range(0, len(new), 4096) if n >= len(old)}
                some = rng.choice(sorted(ends | {len(new)}))
                zeros = old + bytes(len(new) - len(old))
                holed = new[:some] + bytes(len(new) - some)
                choices = {"none": [old], "names": [old, zeros]}.get(policy, [old, zeros, holed, new[:some], new])
            new = rng.choice(choices)
            node.mtime = node.ctime = node.disk_time if new == old else max(node.mtime, node.disk_time)
        node.data, node.disk_data, node.lengths = bytearray(new), new, []


class Refused(Exception):
    def __init__(self, number):
        self.errno = number


class Server:
    """The kernel's requests, one after the other."""

    def __init__(self, device):
        self.device, self.disk = device, Disk()
        self.cut_at, self.is_cut = None, False
        self.ops = {
            1: self.lookup, 3: self.getattr, 4: self.setattr, 9: self.mkdir, 10: self.unlink, 11: self.rmdir, 12: self.rename, 45: self.rename2,
            13: self.link, 14: self.open, 15: self.read, 16: self.write, 17: self.statfs, 18: self.release, 20: self.fsync, 26: self.init,
            27: self.opendir, 28: self.readdir, 29: self.release, 30: self.fsyncdir, 35: self.create,
        }
        self.listings = {}

    def serve_one(self):
        try:
            request = os.read(self.device, 256 * 1024)
        except OSError as e:
            if e.errno in (errno.ENODEV, errno.ENOTCONN):
                return False
            if e.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                return True
            raise
        _, op, unique, node, uid, gid, _, _, _ = HEADER.unpack_from(request)
        if op in (2, 36, 42):  # FORGET, INTERRUPT, BATCH_FORGET: no answer
            return True
        body, status = b"", 0
        try:
            if op not in self.ops:
                raise Refused(errno.ENOSYS)
            if self.is_cut and op != 18 and op != 29:
                raise Refused(errno.EIO)
            body = self.ops[op](self._node(node, op), request[HEADER.size:], uid, gid)
        except Refused as e:
            body, status = b"", -e.errno
        try:
            os.write(self.device, struct.pack("<IiQ", 16 + len(body), status, unique) + body)
        except OSError as e:
            if e.errno != errno.ENOENT:  # who asked was killed
                raise
        return True

    def _node(self, number, op):
        if op in (26, 18, 29):
            return self.disk.inodes.get(number)
        node = self.disk.inodes.get(number)
        if node is None:
            raise Refused(errno.ESTALE)
        return node

    def changing(self):
        self.disk.changes += 1
        if self.cut_at is not None and self.disk.changes >= self.cut_at:
            self.cut()
            raise Refused(errno.EIO)

    def cut(self):
        self.is_cut, self.cut_at = True, None
        print(json.dumps({"cut": self.disk.changes}), flush=True)

    # The operations. Each gets the inode, the rest of the request, and who asks.

    def init(self, _node, request, *_):
        major, minor = struct.unpack_from("<II", request)
        flags = 1 << 5 | 1 << 18  # big writes, parallel lookups
        return struct.pack("<IIIIHHIIHHI7I", 7, min(minor, 31), 0, flags, 16, 12, 128 * 1024, 1, 32, 0, 0, *[0] * 7) if major == 7 else b""

    def attr(self, n):
        size = len(n.names) if stat.S_ISDIR(n.mode) else len(n.data)
        (ms, mn), (cs, cn) = divmod(n.mtime, 10**9), divmod(n.ctime, 10**9)
        links = 2 if stat.S_ISDIR(n.mode) else n.links
        return ATTR.pack(n.number, size, (size + 511) // 512, ms, ms, cs, mn, mn, cn, n.mode, links, n.uid, n.gid, 0, 4096, 0)

    def entry(self, n):
        return ENTRY.pack(n.number, 0, DIRECTORY_VALID if stat.S_ISDIR(n.mode) else 0, 0, 0, 0) + self.attr(n)

    def child(self, directory, name):
        number = directory.names.get(name)
        if number is None:
            raise Refused(errno.ENOENT)
        return self.disk.inodes[number]

    def lookup(self, d, request, *_):
        return self.entry(self.child(d, request.rstrip(b"\0")))

    def getattr(self, n, *_):
        return struct.pack("<QII", 0, 0, 0) + self.attr(n)

    def setattr(self, n, request, *_):
        valid, _, _, size, _, _, mtime, _, _, mnsec, _, mode, _, uid, gid, _ = SETATTR.unpack_from(request)
        self.changing()
        n.ctime = time.time_ns()
        if valid & 1:
            n.mode = stat.S_IFMT(n.mode) | mode & 0o7777
        if valid & 2:
            n.uid = uid
        if valid & 4:
            n.gid = gid
        if valid & 8:
            del n.data[size:]
            n.data.extend(bytes(size - len(n.data)))
            n.mtime = n.ctime
        if valid & 256:
            n.mtime = n.ctime
        elif valid & 32:
            n.mtime = mtime * 10**9 + mnsec
        return self.getattr(n)

    def add(self, d, name, mode, uid, gid):
        if name in d.names:
            raise Refused(errno.EEXIST)
        if len(name) > 255:
            raise Refused(errno.ENAMETOOLONG)
        self.changing()
        n = self.disk.make(mode, uid, gid)
        self.disk.change((d, name, n))
        return n

    def mkdir(self, d, request, uid, gid):
        mode, _ = struct.unpack_from("<II", request)
        return self.entry(self.add(d, request[8:].rstrip(b"\0"), stat.S_IFDIR | mode & 0o7777, uid, gid))

    def create(self, d, request, uid, gid):
        _, mode, _, _ = struct.unpack_from("<IIII", request)
        n = self.add(d, request[16:].rstrip(b"\0"), stat.S_IFREG | mode & 0o7777, uid, gid)
        return self.entry(n) + self.open(n)

    def unlink(self, d, request, *_):
        name = request.rstrip(b"\0")
        n = self.child(d, name)
        if stat.S_ISDIR(n.mode):
            raise Refused(errno.EISDIR)
        self.changing()
        self.disk.change((d, name, None))
        return b""

    def rmdir(self, d, request, *_):
        name = request.rstrip(b"\0")
        n = self.child(d, name)
        if not stat.S_ISDIR(n.mode):
            raise Refused(errno.ENOTDIR)
        if n.names:
            raise Refused(errno.ENOTEMPTY)
        self.changing()
        self.disk.change((d, name, None))
        return b""

    def rename(self, d, request, *_):
        return self._rename(d, struct.unpack_from("<Q", request)[0], 0, request[8:])

    def rename2(self, d, request, *_):
        to, flags, _ = struct.unpack_from("<QII", request)
        return self._rename(d, to, flags, request[16:])

    def _rename(self, d, to, flags, names):
        old, new = names.split(b"\0")[:2]
        to, n = self._node(to, 12), self.child(d, old)
        if flags & ~1:
            raise Refused(errno.EINVAL)
        if new in to.names:
            there = self.disk.inodes[to.names[new]]
            if flags & 1:
                raise Refused(errno.EEXIST)
            if there is n:
                return b""
            if stat.S_ISDIR(there.mode) and there.names:
                raise Refused(errno.ENOTEMPTY)
        self.changing()
        self.disk.change((d, old, None), (to, new, n))
        return b""

    def link(self, d, request, *_):
        n, name = self._node(struct.unpack_from("<Q", request)[0], 13), request[8:].rstrip(b"\0")
        if name in d.names:
            raise Refused(errno.EEXIST)
        if n.links == 0:
            raise Refused(errno.ENOENT)
        self.changing()
        self.disk.change((d, name, n))
        return self.entry(n)

    def open(self, n, *_):
        n.opened += 1
        return struct.pack("<QII", n.number, 1, 0)  # past the page cache

    def release(self, n, *_):
        if n:
            n.opened -= 1
            self.forget(n)
        return b""

    def forget(self, n):
        """A file without a name that nobody has open."""
        if n.links <= 0 and n.opened <= 0 and not stat.S_ISDIR(n.mode) and not any(n.number == x for _, p in self.disk.pending for _, _, x in p):
            if not any(n.number in d.disk_names.values() for d in self.disk.inodes.values() if stat.S_ISDIR(d.mode)):
                self.disk.inodes.pop(n.number, None)

    def read(self, n, request, *_):
        _, offset, size = struct.unpack_from("<QQI", request)
        return bytes(n.data[offset:offset + size])

    def write(self, n, request, *_):
        _, offset, size, _, _, flags = struct.unpack_from("<QQIIQI", request)
        self.changing()
        data = request[40:40 + size]
        if flags & os.O_APPEND:
            offset = len(n.data)
        if offset > len(n.data):
            n.data.extend(bytes(offset - len(n.data)))
        n.data[offset:offset + size] = data
        n.lengths.append(len(n.data))
        n.mtime = n.ctime = time.time_ns()
        return struct.pack("<II", size, 0)

    def fsync(self, n, *_):
        self.changing()
        self.disk.sync_data(n)
        return b""

    def fsyncdir(self, d, *_):
        self.changing()
        self.disk.sync_names(d)
        return b""

    def opendir(self, d, *_):
        fh = self.disk.next = self.disk.next + 1
        out, offset = [], 0
        for name, number in d.names.items():
            offset += 1
            kind = stat.S_IFMT(self.disk.inodes[number].mode) >> 12
            entry = struct.pack("<QQII", number, offset, len(name), kind) + name
            out.append(entry + bytes(-len(entry) % 8))
        self.listings[fh] = out
        if len(self.listings) > 64:
            del self.listings[min(self.listings)]
        return struct.pack("<QII", fh, 0, 0)

    def readdir(self, _d, request, *_):
        fh, offset, size = struct.unpack_from("<QQI", request)
        entries = self.listings.get(fh)
        if entries is None:
            raise Refused(errno.EBADF)
        out = b""
        for entry in entries[offset:]:
            if len(out) + len(entry) > size:
                break
            out += entry
        return out

    def statfs(self, *_):
        return struct.pack("<QQQQQIIII6I", 1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19, 4096, 255, 4096, 0, *[0] * 6)

    def invalidate(self, directory, name):
        body = struct.pack("<QII", directory, len(name), 0) + name + b"\0"
        try:
            os.write(self.device, struct.pack("<IiQ", 16 + len(body), 3, 0) + body)  # FUSE_NOTIFY_INVAL_ENTRY
        except OSError as e:
            if e.errno != errno.ENOENT:
                raise

    def command(self, c):
        if c["do"] == "arm":
            self.cut_at = self.disk.changes + c["changes"]
        elif c["do"] == "cut":
            self.cut()
        elif c["do"] == "sync":
            self.disk.sync_all()
        elif c["do"] == "drop":
            before = [(d.number, name) for d in list(self.disk.inodes.values()) if stat.S_ISDIR(d.mode) for name, n in d.names.items()
                      if stat.S_ISDIR(self.disk.inodes[n].mode)]
            self.disk.drop(c["policy"], random.Random(c["seed"]))
            for directory, name in before:
                node = self.disk.inodes.get(directory)
                if node is None or name not in node.names:
                    self.invalidate(directory, name)
            self.is_cut = False
        return {"changes": self.disk.changes, "syncs": self.disk.syncs, "pending": len(self.disk.pending)}


def main(mountpoint):
    device = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    if libc.mount(b"lossy", mountpoint.encode(), b"fuse", 0, options.encode()) != 0:
        sys.exit(f"cannot mount {mountpoint}: {os.strerror(ctypes.get_errno())}")
    server, commands = Server(device), b""
    print(json.dumps({"mounted": mountpoint}), flush=True)
    while True:
        ready, _, _ = select.select([device, 0], [], [])
        if device in ready:
            # Several in a row: who asked is on the same two processors.
            for _ in range(32):
                try:
                    more = server.serve_one()
                except BlockingIOError:
                    break
                if not more:
                    return
                if not select.select([device], [], [], 0)[0]:
                    break
        if 0 in ready:
            got = os.read(0, 65536)
            if not got:
                libc.umount2(mountpoint.encode(), 2)
                return
            commands += got
            while b"\n" in commands:
                line, commands = commands.split(b"\n", 1)
                print(json.dumps(server.command(json.loads(line))), flush=True)


class Lossy:
    """The mounted file system, with the hand on its switch."""

    def __init__(self, mountpoint):
        mountpoint.mkdir(parents=True, exist_ok=True)
        self.path = mountpoint

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, __file__, str(self.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.said, self.partial = [], b""
        said = self._read()
        if "mounted" not in said:
            raise OSError(f"no FUSE here (root, /dev/fuse): {said}")
        self.is_cut = False
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        subprocess.run(["umount", "-l", str(self.path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _read(self, timeout=None):
        while b"\n" not in self.partial:
            if timeout is not None and not select.select([self.process.stdout], [], [], timeout)[0]:
                return None
            got = os.read(self.process.stdout.fileno(), 65536)
            if not got:
                return {"ended": self.process.wait()}
            self.partial += got
        line, self.partial = self.partial.split(b"\n", 1)
        return json.loads(line)

    def _ask(self, **command):
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        while True:
            said = self._read()
            if "cut" in said:
                self.is_cut = True
                continue
            if "ended" in said:
                raise OSError(f"the file system ended: {said}")
            return said

    def arm(self, changes):
        """The power goes before that many changes from now are done."""
        self.is_cut = False
        return self._ask(do="arm", changes=changes)

    def cut(self):
        return self._ask(do="cut")

    def wait_for_cut(self, timeout):
        """True when the power is out."""
        until = time.monotonic() + timeout
        while not self.is_cut and time.monotonic() < until:
            said = self._read(max(0.0, until - time.monotonic()))
            self.is_cut = bool(said) and "cut" in said
        return self.is_cut

    def drop(self, policy, seed):
        """What survived, and the power is back. Nobody may have files open."""
        self.is_cut = False
        return self._ask(do="drop", policy=policy, seed=seed)

    def sync(self):
        return self._ask(do="sync")

    def state(self):
        return self._ask(do="state")


if __name__ == "__main__":
    main(sys.argv[1])
