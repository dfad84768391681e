"""A Maildir that Dovecot wrote is taken over in place, and given back: UIDVALIDITY, UIDs, flags, keywords, dates, sizes,
envelopes, subscriptions, POP3's UIDLs; in both layouts, and with clients that hold state across the switches."""

import base64
import imaplib
import os
import re
import threading
import time

from dovecot import Dovecot
from lib import Failed, Gatepost, check, message, private, run, same, wait

LAYOUTS = {"maildir++": "", "tree": ":LAYOUT=fs"}
FLAGS = (r"\Seen", r"\Answered \Flagged", r"\Deleted", r"\Draft \Seen", "$Forwarded", "$Junk $Phishing", "$NotJunk $MDNSent Work", "")


def utf7(name):
    """RFC 3501 §5.1.3."""
    def shifted(run):
        return "&" + base64.b64encode(run[0].encode("utf-16-be")).decode().rstrip("=").replace("/", ",") + "-"
    return re.sub(r"[^ -~]+", shifted, name.replace("&", "&-"))


def from_utf7(name):
    def plain(code):
        return base64.b64decode(code[1].replace(",", "/") + "===").decode("utf-16-be") if code[1] else "&"
    return re.sub(r"&([^-]*)-", plain, name)


def quoted(name):
    return '"' + utf7(name) + '"'


def ok(answer, what=""):
    if answer[0] != "OK":
        raise Failed(f"{what}: {answer}")
    return answer[1]


def lines_of(data):
    """imaplib's answer as one bytes object per response, literals put in as quoted strings."""
    out, open_line = [], None
    for item in data:
        if isinstance(item, tuple):
            head = re.sub(rb"\{\d+\}$", b"", item[0])
            open_line = (open_line or b"") + head + b'"' + item[1].replace(b'"', b'\\"') + b'"'
        elif item is not None:
            out.append((open_line or b"") + item)
            open_line = None
    return out


def folder_of(imap, name):
    """What a client sees of one folder: UIDVALIDITY, UIDNEXT, and UID → everything about a message."""
    ok(imap.select(quoted(name), readonly=True), name)
    validity, following = (int(imap.response(word)[1][0]) for word in ("UIDVALIDITY", "UIDNEXT"))
    found = {}
    for line in lines_of(ok(imap.uid("FETCH", "1:*", "(FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)"))):
        uid = int(re.search(rb"UID (\d+)", line)[1])
        flags = {f for f in re.search(rb"FLAGS \(([^)]*)\)", line)[1].decode().split() if f != r"\Recent"}
        date = re.search(rb'INTERNALDATE "([^"]+)"', line)[1].decode()
        # Seconds since 1970: the same moment may be told in another zone.
        moment = time.mktime(imaplib.Internaldate2tuple(f'INTERNALDATE "{date}"'.encode()))
        size = int(re.search(rb"RFC822.SIZE (\d+)", line)[1])
        found[uid] = flags, moment, size, re.search(rb"ENVELOPE (\(.*\))", line, re.S)[1]
    return validity, following, found


def folders_of(imap):
    names = set()
    for line in lines_of(ok(imap.list())):
        if not re.search(rb"\\(NoSelect|NonExistent)", line, re.I):
            names.add(from_utf7(line.decode().rsplit(' "/" ', 1)[1].strip('"')))
    return names


def subscribed_of(imap):
    return {from_utf7(line.decode().rsplit(' "/" ', 1)[1].strip('"')) for line in lines_of(ok(imap.lsub()))}


def all_of(server):
    """Everything that clients see of a server, without UIDNEXT; and that."""
    imap = server.imap()
    folders = folders_of(imap)
    seen = {name: folder_of(imap, name) for name in folders}
    subscribed = subscribed_of(imap)
    imap.logout()
    pop3 = server.pop3()
    # Sizes as well: some clients compare both.
    uidls, sizes = pop3.uidl()[1], pop3.list()[1]
    pop3.quit()
    return {"folders": {n: (v, m) for n, (v, _, m) in seen.items()}, "subscribed": subscribed, "pop3": (uidls, sizes)}, {n: u for n, (_, u, _) in seen.items()}


def alike(a, b):
    """The same message. Of mail without a date of its own Dovecot caches when it began to write the file, others see when it ended."""
    return (a[0], *a[2:]) == (b[0], *b[2:]) and abs(a[1] - b[1]) <= 2


def same_all(got, want, what):
    """Tells which part differs."""
    same(set(got["folders"]), set(want["folders"]), f"folders {what}")
    for name, (validity, messages) in want["folders"].items():
        same(got["folders"][name][0], validity, f"UIDVALIDITY of {name} {what}")
        same(sorted(got["folders"][name][1]), sorted(messages), f"UIDs of {name} {what}")
        for uid, facts in messages.items():
            check(alike(got["folders"][name][1][uid], facts), f"message {uid} of {name} {what}: {got['folders'][name][1][uid]}, want {facts}")
    same(got["subscribed"], want["subscribed"], f"subscriptions {what}")
    same(got["pop3"], want["pop3"], f"POP3 {what}")


def fill(dovecot, layout):
    """By Dovecot's own servers: gaps, flags, keywords, dates, nested folders with odd names, new mail."""
    g = dovecot.gatepost
    names = ["Sent", "Lists/rust", "Lists/日本", "Entwürfe/Größe & Maß", "A&B"] + [f"Many/f{n:02}" for n in range(40)]
    names += ["v1.0", "a.b/c.d"] if layout == "tree" else []
    with dovecot:
        imap = dovecot.imap()
        for name in names:
            ok(imap.create(quoted(name)), name)
        for name in ("INBOX", *names[:5], *names[-2:]):
            ok(imap.subscribe(quoted(name)))
            for n in range(8):
                raw = message(g.user(), subject=f"{'Grüße' if n % 2 else 'x'} {n}", body=f"{'y' * n}\r\n", headers=("Cc: a b <c@d.test>",))
                ok(imap.append(quoted(name), f"({FLAGS[n]})", imaplib.Time2Internaldate(1_500_000_000 + 86_400 * n), raw), name)
            imap.select(quoted(name))
            imap.store("2,5", "+FLAGS", r"(\Deleted)")
            imap.expunge()
        ok(imap.select("INBOX"))
        for n in range(14):
            ok(imap.store("1", "+FLAGS", f"(kw{n})"))
        imap.logout()
        for n in range(3):
            dovecot.lmtp(g.user(), message(g.user(), subject=f"lmtp {n}"))
        pop3 = dovecot.pop3()
        pop3.dele(2)
        pop3.quit()


def changes(g):
    """By gatepost: flags, keywords, append, expunge, move, create, rename, delivery."""
    imap = g.imap()
    ok(imap.select("INBOX"))
    uids = [int(u) for u in ok(imap.uid("SEARCH", "ALL"))[0].split()]
    ok(imap.uid("STORE", str(uids[0]), "-FLAGS", "(kw3)"))
    ok(imap.uid("STORE", str(uids[1]), "+FLAGS", r"(\Answered $Forwarded $Label1)"))
    ok(imap.uid("MOVE", str(uids[2]), "Sent"))
    ok(imap.uid("STORE", str(uids[3]), "FLAGS", r"(\Deleted)"))
    ok(imap.uid("EXPUNGE", str(uids[3])))
    ok(imap.append("INBOX", r"(\Flagged New $Junk)", imaplib.Time2Internaldate(1_400_000_000), message(g.user(), subject="by gatepost")))
    ok(imap.uid("COPY", str(uids[4]), quoted("Entwürfe/Größe & Maß")))
    ok(imap.create(quoted("Neu/hier/ü")))
    ok(imap.append(quoted("Neu/hier/ü"), None, None, message(g.user(), subject="there")))
    ok(imap.rename(quoted("Lists"), quoted("Listen")))
    ok(imap.subscribe(quoted("Listen/rust")))
    ok(imap.unsubscribe(quoted("Sent")))
    ok(imap.delete(quoted("Many/f07")))
    imap.logout()
    with g.smtp() as client:
        client.sendmail("carol@elsewhere.test", [g.user()], message(g.user(), subject="delivered"))
    # Numbered, so that both servers show it under the same UID.
    wait(lambda: b"delivered" in b"".join(f.read_bytes() for f in (g.maildir() / "new").iterdir()), "a delivery")
    imap = g.imap()
    imap.select("INBOX")
    imap.logout()


def there_and_back(folder, layout):
    g = Gatepost(folder)
    dovecot = Dovecot(folder, g, layout=LAYOUTS[layout])
    fill(dovecot, layout)
    with dovecot:
        before, next_before = all_of(dovecot)
    with g:
        here, next_here = all_of(g)
        same_all(here, before, "taken over")
        same(next_here, next_before, "UIDNEXT taken over")
        changes(g)
        here, next_here = all_of(g)
    with dovecot:
        back, next_back = all_of(dovecot)
        same_all(back, here, "given back")
        check(all(next_back[n] >= u for n, u in next_here.items()), (next_back, next_here))
        # And once more: what Dovecot does meanwhile is taken over too.
        imap = dovecot.imap()
        ok(imap.append("INBOX", r"(\Seen Later)", None, message(g.user(), subject="late")))
        imap.select(quoted("Listen/rust"))
        ok(imap.store("1", "+FLAGS", r"(\Flagged Other)"))
        imap.logout()
        dovecot.lmtp(g.user(), message(g.user(), subject="last"))
        again, next_again = all_of(dovecot)
    with g:
        here, next_here = all_of(g)
        same_all(here, again, "taken over again")
        same(next_here, next_again, "UIDNEXT taken over again")


def test_there_and_back_maildirplusplus(folder):
    there_and_back(folder, "maildir++")


def test_there_and_back_tree(folder):
    there_and_back(folder, "tree")


def test_more_than_26_keywords(folder):
    g = Gatepost(folder)
    dovecot = Dovecot(folder, g)
    with g:
        imap = g.imap()
        for n in range(3):
            ok(imap.append("INBOX", None, None, message(g.user(), subject=f"{n}")))
        ok(imap.select("INBOX"))
        for n in range(40):
            ok(imap.store("1" if n % 2 else "1,2", "+FLAGS", f"(kw{n:02})"))
        imap.logout()
        here, _ = all_of(g)
    messages = here["folders"]["INBOX"][1]
    same([len(m[0]) for m in messages.values()], [40, 20, 0], "keywords by gatepost")
    with dovecot:
        seen = all_of(dovecot)[0]["folders"]["INBOX"][1]
        for uid, m in messages.items():
            same(seen[uid][0], {k for k in m[0] if k < "kw26"}, f"keywords of message {uid} at Dovecot")
        imap = dovecot.imap()
        ok(imap.select("INBOX"))
        ok(imap.store("3", "+FLAGS", "(kw05)"))
        ok(imap.store("1", "-FLAGS", "(kw05)"))
        ok(imap.store("2", "+FLAGS", r"(\Seen)"))
        imap.logout()
    with g:
        back = all_of(g)[0]["folders"]["INBOX"][1]
        same(back[1][0], messages[1][0] - {"kw05"}, "keywords of message 1 back again")
        same(back[2][0], messages[2][0] | {r"\Seen"}, "keywords of message 2 back again")
        same(back[3][0], {"kw05"}, "keywords of message 3 back again")


def mbsync(server, folder):
    """A run of mbsync, which holds its state across servers; what it changed: messages new, with other flags, gone; here and there."""
    g = server if isinstance(server, Gatepost) else server.gatepost
    if server is g:
        way = f'Tunnel "openssl s_client -quiet -verify_quiet -CAfile {g.ca} -verify_return_error -connect {g.address}:{g.ports["imaps"]}"'
    else:
        way = f"Host 127.0.0.1\nPort {server.imap_port}"
    rc = private(folder / "mbsyncrc", f"""
IMAPAccount there
{way}
User {g.user()}
Pass {g.PASSWORD}
SSLType None
AuthMechs LOGIN

IMAPStore far
Account there

MaildirStore near
Path {folder}/near/
Inbox {folder}/near/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Near
Remove None
Expunge Both
SyncState *
CopyArrivalDate yes
""")
    (folder / "near").mkdir(exist_ok=True)
    before = near_of(folder), far_of(server)
    run("mbsync", "-c", rc, "-q", "all")
    after = near_of(folder), far_of(server)
    return [tuple(len(c) for c in changes_of(b, a)) for b, a in zip(before, after)]


def changes_of(before, after):
    """What is new, what is otherwise, what is gone."""
    return after.keys() - before.keys(), {k for k in after.keys() & before.keys() if after[k] != before[k]}, before.keys() - after.keys()


def near_of(folder):
    """Flags of mbsync's files here; a file may have another name and be the same."""
    files = [f for sub in ("cur", "new") for f in (folder / "near").glob(f"**/{sub}/*")]
    return {f.stat().st_ino: set(f.name.partition(":2,")[2]) for f in files}


def far_of(server):
    return {(name, uid): facts[0] for name, (_, m) in all_of(server)[0]["folders"].items() for uid, facts in m.items()}


NOTHING = [(0, 0, 0), (0, 0, 0)]


def mbsync_holds(folder, layout):
    g = Gatepost(folder)
    dovecot = Dovecot(folder, g, layout=LAYOUTS[layout])
    fill(dovecot, layout)
    with dovecot:
        check(mbsync(dovecot, folder)[0][0] > 40, "all is fetched")
        same(mbsync(dovecot, folder), NOTHING, "nothing to do at Dovecot")
    with g:
        same(mbsync(g, folder), NOTHING, "changes (here, there) after the takeover")
        imap = g.imap()
        ok(imap.select("INBOX"))
        ok(imap.store("1", "+FLAGS", r"(\Flagged)"))
        ok(imap.store("2", "FLAGS", r"(\Answered \Draft \Flagged)"))
        ok(imap.append("INBOX", None, None, message(g.user(), subject="one more")))
        imap.logout()
        first = sorted((folder / "near" / "Sent" / "cur").iterdir())[0]
        first.rename(first.with_name(first.name.split(":2,")[0] + ":2,DFS"))
        same(mbsync(g, folder), [(1, 2, 0), (0, 1, 0)], "changes (here, there) to be carried over")
    with dovecot:
        same(mbsync(dovecot, folder), NOTHING, "changes (here, there) after handing back")
        imap = dovecot.imap()
        ok(imap.select("INBOX"))
        ok(imap.store("1", "+FLAGS", r"(\Deleted)"))
        imap.expunge()
        imap.logout()
        same(mbsync(dovecot, folder), [(0, 0, 1), (0, 0, 0)], "changes (here, there) to be carried over")
    with g:
        same(mbsync(g, folder), NOTHING, "changes (here, there) after the second takeover")


def test_mbsync_holds_its_state_maildirplusplus(folder):
    mbsync_holds(folder, "maildir++")


def test_mbsync_holds_its_state_tree(folder):
    mbsync_holds(folder, "tree")


def fetchmail(server, folder, uidls):
    """New messages that a run with --keep fetches."""
    out = folder / "fetched"
    out.mkdir(exist_ok=True)
    before = len(list(out.iterdir()))
    if isinstance(server, Gatepost):
        g, where = server, f"port {server.ports['pop3s']}"
        tls = f"ssl sslcertfile {g.ca} sslcertck sslcommonname localhost"
    else:
        g, where, tls = server.gatepost, f"port {server.pop3_port}", "sslproto ''"
    rc = private(folder / "fetchmailrc", f"""
set no bouncemail
set idfile {uidls}
poll 127.0.0.1 protocol pop3 uidl {where} auth password
  user "{g.user()}" password "{g.PASSWORD}" {tls} keep
  mda "cat > {out}/$$"
""")
    status, said = run("fetchmail", "-f", rc, "--pidfile", folder / "fetchmail.pid", "-N", "-v", ok=False,
                       env={**os.environ, "FETCHMAILHOME": str(folder)})
    check(status in (0, 1), said.decode(errors="replace")[-3000:])  # 1: no new mail
    return len(list(out.iterdir())) - before


def mpop(server, folder, uidls):
    target = folder / "popped"
    for sub in ("cur", "new", "tmp"):
        (target / sub).mkdir(parents=True, exist_ok=True)
    before = len(list((target / "new").iterdir()))
    if isinstance(server, Gatepost):
        g, way = server, f"port {server.ports['pop3s']}\ntls on\ntls_starttls off\ntls_trust_file {server.ca}"
    else:
        g, way = server.gatepost, f"port {server.pop3_port}\ntls off"
    rc = private(folder / "mpoprc", f"""
account default
host 127.0.0.1
{way}
auth user
user {g.user()}
password {g.PASSWORD}
keep on
uidls_file {uidls}
delivery maildir {target}
""")
    run("mpop", "-C", rc)
    return len(list((target / "new").iterdir())) - before


def pop3_fetches_once(folder, uidl, layout="maildir++"):
    g = Gatepost(folder, keys={"pop3.uidl-format": f'"{uidl}"'})
    dovecot = Dovecot(folder, g, uidl=uidl, layout=LAYOUTS[layout])
    clients = [(fetchmail, folder / "uidls.fetchmail"), (mpop, folder / "uidls.mpop")]

    def fetched(server):
        return [client(server, folder, uidls) for client, uidls in clients]

    with dovecot:
        for n in range(5):
            dovecot.lmtp(g.user(), message(g.user(), subject=f"{n}"))
        same(fetched(dovecot), [5, 5], "fetched from Dovecot")
    # What dsync or a migration notes: other names, another order, the file's name.
    for ext, n in (("PSomething-else O3", 1), ("P O2", 2)):
        listed = (g.maildir() / "dovecot-uidlist").read_text().splitlines()
        uid, rest = listed[n].split(" ", 1)
        listed[n] = f"{uid} {ext} {rest}"
        (g.maildir() / "dovecot-uidlist").write_text("\n".join(listed) + "\n")
    for cache in g.maildir().glob("dovecot.index*"):
        cache.unlink()
    with dovecot:
        other = 1 if uidl == "%f" else 2
        same(fetched(dovecot), [other, other], "fetched from Dovecot by their noted names")
        want = all_of(dovecot)[0]["pop3"]
    with g:
        same(all_of(g)[0]["pop3"], want, "POP3")
        same(fetched(g), [0, 0], "fetched again from gatepost")
        with g.smtp() as client:
            for n in range(120):  # more than was leased: the list is written anew
                client.sendmail("carol@elsewhere.test", [g.user()], message(g.user(), subject=f"more {n}"))
        same(fetched(g), [120, 120], "what came since")
    with dovecot:
        same(fetched(dovecot), [0, 0], "fetched again from Dovecot")
        dovecot.lmtp(g.user(), message(g.user(), subject="last"))
        same(fetched(dovecot), [1, 1], "what came since")
    with g:
        same(fetched(g), [0, 0], "fetched again from gatepost")


def test_pop3_fetches_nothing_twice(folder):
    pop3_fetches_once(folder, "%08Xu%08Xv")


def test_pop3_fetches_nothing_twice_by_file_name(folder):
    pop3_fetches_once(folder, "%f", "tree")


def test_pop3_names_of_other_formats(folder):
    for n, uidl in enumerate(("%v.%u", "%g", "%08Xv%08Xu", "UID%u-%v", "%Xu.%010v")):
        g = Gatepost(folder / str(n), keys={"pop3.uidl-format": f'"{uidl}"'})
        dovecot = Dovecot(folder / str(n), g, uidl=uidl)
        with dovecot:
            for k in range(20):
                dovecot.lmtp(g.user(), message(g.user(), subject=f"{k}"))
            imap = dovecot.imap()
            ok(imap.append("INBOX", None, imaplib.Time2Internaldate(1_000_000_000), message(g.user(), subject="dated")))
            imap.logout()
            want = all_of(dovecot)[0]["pop3"]
        with g:
            same(all_of(g)[0]["pop3"], want, uidl)


class Worker(threading.Thread):
    """A client of one server that appends, flags, moves and expunges messages of its own, while others do the same."""

    def __init__(self, server, name, rounds):
        super().__init__()
        self.server, self.name, self.rounds = server, name, rounds
        # Subject → folder and flags in the end; None: gone.
        self.want, self.uids, self.trouble = {}, {}, None

    def run(self):
        try:
            self.work()
        except Exception as error:
            self.trouble = error

    def work(self):
        imap = self.server.imap()
        ok(imap.select("INBOX"))
        mine = None
        for n in range(self.rounds):
            subject = f"{self.name}-{n:03}"
            ok(imap.append("INBOX", "(mine)", None, message("alice@alpha.test", subject=subject)))
            ok(imap.noop())
            self.want[subject] = ("INBOX", {"mine"})
            uid = int(ok(imap.uid("SEARCH", "SUBJECT", subject))[0].split()[0])
            self.uids.setdefault(uid, set()).add(subject)
            if n % 4 == 0:
                ok(imap.uid("STORE", str(uid), "+FLAGS", r"(\Seen Work)"))
                self.want[subject] = ("INBOX", {"mine", r"\Seen", "Work"})
            elif n % 4 == 1:
                ok(imap.uid("STORE", str(uid), "+FLAGS", r"(\Answered)"))
                ok(imap.uid("MOVE", str(uid), "Sent"))
                self.want[subject] = ("Sent", {"mine", r"\Answered"})
            elif n % 4 == 2 and mine is not None:
                ok(imap.uid("STORE", str(mine[0]), "FLAGS", r"(\Deleted)"))
                ok(imap.uid("EXPUNGE", str(mine[0])))
                self.want[mine[1]] = None
                mine = None
            else:
                mine = uid, subject
        imap.logout()


def both_at_once(folder, layout):
    g = Gatepost(folder)
    dovecot = Dovecot(folder, g, layout=LAYOUTS[layout])
    with dovecot:
        imap = dovecot.imap()
        ok(imap.create("Sent"))
        ok(imap.create("Lists/rust"))
        imap.logout()
        before = all_of(dovecot)[0]["folders"]
        with g:
            workers = [Worker(server, f"{kind}{n}", 60) for n in range(2) for kind, server in (("d", dovecot), ("g", g))]
            for w in workers:
                w.start()
            delivered = set()
            for n in range(40):
                delivered.add(f"lmtp-{n}")
                dovecot.lmtp(g.user(), message(g.user(), subject=f"lmtp-{n}"))
                delivered.add(f"smtp-{n}")
                with g.smtp() as client:
                    client.sendmail("carol@elsewhere.test", [g.user()], message(g.user(), subject=f"smtp-{n}"))
            for w in workers:
                w.join()
                if w.trouble:
                    raise Failed(f"{w.name}: {w.trouble!r}")
            here, there = all_of(g)[0], all_of(dovecot)[0]
            for name in ("INBOX", "Sent"):
                same(here["folders"][name][0], before[name][0], f"UIDVALIDITY of {name}")
            same_all(here, there, "at both")
        want = {s: w for worker in workers for s, w in worker.want.items() if w} | {s: ("INBOX", set()) for s in delivered}
        got, numbers = {}, {}
        for name, (_, messages) in there["folders"].items():
            for uid, (flags, _, _, envelope) in messages.items():
                subject = re.match(rb'\("[^"]*" "([^"]*)"', envelope)[1].decode()
                check(subject not in got, f"{subject} is there twice")
                got[subject] = name, flags
                if name == "INBOX":
                    numbers.setdefault(uid, set()).add(subject)
        for w in workers:
            for uid, subjects in w.uids.items():
                numbers.setdefault(uid, set()).update(subjects)
        same(sorted(got), sorted(want), "messages")
        for subject, facts in want.items():
            same(got[subject], facts, subject)
        twice = {uid: subjects for uid, subjects in numbers.items() if len(subjects) > 1}
        check(not twice, f"UIDs that meant several messages: {twice}")


def test_both_at_once_maildirplusplus(folder):
    both_at_once(folder, "maildir++")


def test_both_at_once_tree(folder):
    both_at_once(folder, "tree")


def damage(text):
    """Name → (the UID list damaged in this way, whether UIDVALIDITY can be kept, UIDs that can)."""
    lines = text.splitlines(keepends=True)
    head, records = lines[0], lines[1:]
    uids = [int(r.split()[0]) for r in records]
    validity = re.search(r"V(\d+)", head)[1]
    v1 = f"1 {validity} {re.search(r'N([0-9]+)', head)[1]}\n" + "".join(f"{r.split()[0]} {r.split(':', 1)[1]}" for r in records)
    twice = records[1].split(" ", 1)[0] + " " + records[2].split(" ", 1)[1]
    return {
        "whole": (text, True, uids),
        "empty": ("", False, []),
        "missing": (None, False, []),
        "zeros": ("\0" * len(text), False, []),
        "garbage": ("\x01\xff\n\xfe" * 99, False, []),
        "half a header": (head[:8], False, []),
        "header alone": (head, True, []),
        "truncated": (text[:-4], True, uids[:-1]),
        "garbage between": (head + records[0] + "\0\0\0\x7f:\n" + "".join(records[1:]), True, uids),
        "unsorted": (head + "".join(reversed(records)), True, uids),
        "one UID twice": (head + records[0] + records[1] + twice + "".join(records[3:]), True, [u for u in uids if u not in (uids[1], uids[2])]),
        "one line twice": (head + records[0] + "".join(records), True, uids),
        "huge UID": (head + "".join(records[:-1]) + "4294967295 " + records[-1].split(" ", 1)[1], True, uids[:-1]),
        "CRLF": (text.replace("\n", "\r\n"), True, uids),
        "version 1": (v1, True, uids),
        "fields of others": (head.rstrip("\n") + " Xnew\n" + "".join(r.replace(" :", " Zodd Gguid :") for r in records), True, uids),
    }


def test_damaged_uid_lists(folder):
    g = Gatepost(folder)
    dovecot = Dovecot(folder, g)
    kinds = list(damage("3 V1 N9\n1 :a\n2 :b\n3 :c\n4 :d\n"))
    with dovecot:
        imap = dovecot.imap()
        for kind in kinds:
            ok(imap.create(quoted(kind)))
            for n in range(6):
                ok(imap.append(quoted(kind), None, None, message(g.user(), subject=f"{n}")))
            ok(imap.select(quoted(kind)))
            imap.store("2", "+FLAGS", r"(\Deleted)")
            imap.expunge()
        imap.logout()
        before = all_of(dovecot)[0]["folders"]
    cases = {}
    for kind in kinds:
        path = g.maildir(folder=kind) / "dovecot-uidlist"
        there = "".join(line for line in path.read_text().splitlines(keepends=True) if line[0] == "3" and " V" in line or int(line.split()[0]) in before[kind][1])
        cases[kind] = damage(there)[kind]
        text = cases[kind][0]
        path.unlink() if text is None else path.write_bytes(text.encode("latin-1"))
    with g:
        here = all_of(g)[0]["folders"]
    said = g.said()
    for kind, (text, keeps, uids) in cases.items():
        (old, was), (new, now) = before[kind], here[kind]
        check(new == old if keeps else new > old, f"UIDVALIDITY of {kind}: {old}, now {new}")
        kept = {u for u in now if u in was and alike(now[u], was[u])} if keeps else set()
        check(kept >= set(uids), f"UIDs of {kind}: {sorted(now)}, were {sorted(was)}")
        check(len(now) == len(was) and (not keeps or all(u > max(was) for u in set(now) - kept)), f"UIDs of {kind}: {sorted(now)}, were {sorted(was)}")
        name = "uidlist-lost" if not keeps and text is not None else "uidlist-damaged"
        logged = sum(name in line and f".{kind}/" in line for line in said.splitlines())
        quiet = kind in ("whole", "missing", "header alone", "version 1", "fields of others")
        same(logged, 0 if quiet else 1, f"log lines on {kind}")
    after = len(said)
    with g:
        same(all_of(g)[0]["folders"], here, "after a restart")
    check("uidlist" not in g.said()[after:], "nothing is damaged any more")
    listed = (g.maildir(folder="fields of others") / "dovecot-uidlist").read_text()
    check(" Xnew\n" in listed and listed.count("Zodd Gguid") == 5, listed)
    # Its own index knows the old one.
    dovecot.but.append("UIDVALIDITY changed")
    with dovecot:
        there = all_of(dovecot)[0]["folders"]
    for kind in kinds:
        same(there[kind][0], here[kind][0], f"UIDVALIDITY of {kind} given back")
        same(sorted(there[kind][1]), sorted(here[kind][1]), f"UIDs of {kind} given back")
