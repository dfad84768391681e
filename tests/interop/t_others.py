"""Other programs in a Maildir that gatepost serves: procmail, maildrop, safecat, dovecot-lda, mutt, tar, cp and hands; and Maildirs
that Courier left."""

import os
import pathlib
import re
import shutil

from dovecot import NOBODY, owned
from lib import Failed, Gatepost, check, message, run, same, wait
from t_clients import terminal
from t_dovecot import ok, quoted


def as_owner():
    """The words before a command that is to run as the owner of the mail."""
    return ("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups") if os.geteuid() == 0 else ()


def own(path):
    if os.geteuid() == 0:
        for p in (path, *path.rglob("*")):
            os.chown(p, NOBODY, NOBODY, follow_symlinks=False)


def subjects(imap):
    """UID → subject of the selected folder."""
    found = {}
    for item in ok(imap.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")):
        if isinstance(item, tuple):
            found[int(re.search(rb"UID (\d+)", item[0])[1])] = item[1].decode().split("Subject: ", 1)[1].strip()
    return found


def seen_by(imap, want, what):
    """Waits until the session, which only says NOOP, has these subjects."""
    def look():
        ok(imap.noop())
        return sorted(subjects(imap).values()) == sorted(want)
    wait(look, lambda: f"{what}: {sorted(subjects(imap).values())} instead of {sorted(want)}")


def test_deliveries_by_others(folder):
    with Gatepost(folder) as g:
        imap = g.imap()
        ok(imap.select("INBOX"))
        maildir = g.maildir()
        home = folder / "home"
        home.mkdir()
        (home / "procmailrc").write_text(f"MAILDIR={home}\nDEFAULT={maildir}/\n:0\n* ^Subject: lists\n{maildir}/.Lists/\n")
        (home / "mailfilter").write_text(f'to "{maildir}"\n')
        (home / "mailfilter").chmod(0o600)
        (home / "dovecot.conf").write_text(f"mail_location = maildir:{maildir}\nbase_dir = {home}/run\nlog_path = {home}/log\nssl = no\n")
        own(home)
        home.chmod(0o755)
        env = {**os.environ, "HOME": str(home), "USER": "nobody", "LOGNAME": "nobody"}

        def by(*command, subject):
            raw = b"From carol Tue Nov 24 10:00:00 2026\n" if command[0] == "procmail" else b""
            run(*as_owner(), *command, stdin=raw + message(g.user(), subject=subject).replace(b"\r\n", b"\n"), env=env)

        there = []
        for n in range(3):
            for command in (("procmail", "-m", home / "procmailrc"), ("maildrop", home / "mailfilter"), ("safecat", maildir / "tmp", maildir / "new"),
                            ("/usr/lib/dovecot/dovecot-lda", "-c", home / "dovecot.conf")):
                there.append(f"{pathlib.Path(command[0]).name} {n}")
                by(*command, subject=there[-1])
            with g.smtp() as client:
                there.append(f"gatepost {n}")
                client.sendmail("carol@elsewhere.test", [g.user()], message(g.user(), subject=there[-1]))
            seen_by(imap, there, "deliveries")
        rounds = [s.split()[1] for _, s in sorted(subjects(imap).items())]
        same(rounds, sorted(rounds), "UIDs in the order of what was seen")
        # Whole, and with the same line ends, whoever wrote it.
        for line in ok(imap.uid("FETCH", "1:*", "(RFC822.SIZE BODY.PEEK[])")):
            if isinstance(line, tuple):
                same(int(re.search(rb"RFC822.SIZE (\d+)", line[0])[1]), len(line[1]), "RFC822.SIZE")
                check(line[1].endswith(b"\r\n\r\nHello\r\n"), line[1][-40:])
        # A folder that procmail makes by delivering to it.
        by("procmail", "-m", home / "procmailrc", subject="lists 1")
        wait(lambda: any(b"Lists" in line for line in ok(imap.list())), "the folder that procmail made")
        ok(imap.select("Lists"))
        same(subjects(imap), {1: "lists 1"}, "in Lists")
        imap.logout()


def test_mutt_in_the_maildir(folder):
    with Gatepost(folder) as g:
        for n in range(4):
            with g.smtp() as client:
                client.sendmail("carol@elsewhere.test", [g.user()], message(g.user(), subject=f"m{n}"))
        imap = g.imap()
        ok(imap.select("INBOX"))
        seen_by(imap, [f"m{n}" for n in range(4)], "deliveries")
        rc = folder / "muttrc"
        push = (f"<tag-pattern>~s m0<enter><tag-prefix><flag-message><untag-pattern>~A<enter>"
                f"<tag-pattern>~s m1<enter><tag-prefix><copy-message>{g.maildir()}/.Archive<enter><untag-pattern>~A<enter>"
                f"<tag-pattern>~s m2<enter><tag-prefix><delete-message><untag-pattern>~A<enter><sync-mailbox><quit>")
        rc.write_text(f'set folder={g.maildir()}\nset spoolfile={g.maildir()}\nset mbox_type=Maildir\nset confirmappend=no\nset confirmcreate=no\n'
                      f'set delete=yes\nset move=no\nset mark_old=no\nset header_cache=""\npush "{push}"\n')
        home = folder / "mutthome"
        home.mkdir()
        own(home)
        words = [*map(str, as_owner()), "mutt", "-F", str(rc)]
        terminal(words, {**os.environ, "TERM": "xterm", "HOME": str(home), "LINES": "40", "COLUMNS": "120"})
        seen_by(imap, ["m0", "m1", "m3"], "after mutt")
        flags = {int(re.search(rb"UID (\d+)", line)[1]): line for line in ok(imap.uid("FETCH", "1:*", "(FLAGS)"))}
        first = next(uid for uid, s in subjects(imap).items() if s == "m0")
        check(rb"\Flagged" in flags[first], flags)
        ok(imap.select("Archive"))
        same(sorted(subjects(imap).values()), ["m1"], "in Archive")
        imap.logout()


def test_folders_made_and_removed_by_hand(folder):
    with Gatepost(folder) as g:
        imap, other = g.imap(), g.imap()
        by_hand = g.maildir() / ".By.Hand"
        for sub in ("cur", "new", "tmp"):
            (by_hand / sub).mkdir(parents=True)
        (by_hand / "cur" / "1700000000.1.here:2,S").write_bytes(message(g.user(), subject="by hand"))
        own(by_hand)
        ok(imap.select(quoted("By/Hand")))
        same(subjects(imap), {1: "by hand"}, "a folder made by hand")
        first = int(imap.response("UIDVALIDITY")[1][0])
        shutil.rmtree(by_hand)
        check(b"By" not in b"".join(ok(other.list())), "a folder removed by hand is not listed")
        # The session that has it open hears that it is gone, or sees it empty; nothing worse.
        try:
            imap.noop()
        except imap.abort:
            imap = g.imap()
        for sub in ("cur", "new", "tmp"):
            (by_hand / sub).mkdir(parents=True)
        (by_hand / "new" / "1700000001.1.here").write_bytes(message(g.user(), subject="another"))
        own(by_hand)
        ok(other.select(quoted("By/Hand")))
        check(int(other.response("UIDVALIDITY")[1][0]) > first, "a folder made again is another")
        same(subjects(other), {1: "another"}, "the folder made again")
        other.logout()


def test_restored_backups(folder):
    """cp -a and tar bring back old names, old times and an old UID list, while clients are connected."""
    with Gatepost(folder) as g:
        imap = g.imap()
        for n in range(6):
            ok(imap.append("INBOX", r"(\Seen)", None, message(g.user(), subject=f"b{n}")))
        ok(imap.select("INBOX"))
        maildir, backup, archive = g.maildir(), folder / "backup", folder / "backup.tar"
        run("cp", "-a", maildir, backup)
        run("tar", "-C", maildir, "-cf", archive, ".")
        ok(imap.uid("STORE", "1,2", "+FLAGS", r"(\Deleted)"))
        imap.expunge()
        ok(imap.uid("STORE", "3", "+FLAGS", r"(\Flagged)"))
        for n in range(6, 130):
            ok(imap.append("INBOX", None, None, message(g.user(), subject=f"b{n}")))
        before = subjects(imap)
        # All over the living tree, the UID list too.
        run("tar", "-C", maildir, "-xpf", archive)
        # b2 has another name now, so its old file is one more.
        seen_by(imap, [*before.values(), "b0", "b1", "b2"], "after tar")
        after = subjects(imap)
        for uid, subject in before.items():
            same(after.get(uid), subject, f"message {uid}")
        check(all(uid > 130 for uid in after if uid not in before), f"what came back got new UIDs: {sorted(after)[-5:]}")
        # And once more with cp, message by message, after they were deleted again.
        for uid in set(after) - set(before):
            ok(imap.uid("STORE", str(uid), "+FLAGS", r"(\Deleted)"))
        imap.expunge()
        run("cp", "-a", *sorted((backup / "cur").iterdir())[:2], maildir / "cur")
        seen_by(imap, [*before.values(), "b0", "b1"], "after cp")
        again = subjects(imap)
        check(all(uid > max(after) for uid in again if uid not in before), f"new UIDs again: {sorted(again)[-5:]}")
        imap.logout()


def test_files_that_cannot_be_read(folder):
    if os.geteuid() != 0:
        return  # only root can make files that the daemon's user cannot read and still remove
    with Gatepost(folder) as g:
        imap = g.imap()
        for n in range(3):
            ok(imap.append("INBOX", None, None, message(g.user(), subject=f"r{n}")))
        cur = g.maildir() / "cur"
        (cur / "1700000000.1.here:2,S").write_bytes(message(g.user(), subject="secret"))
        (cur / "1700000000.1.here:2,S").chmod(0o600)
        os.mkfifo(cur / "1700000000.2.here:2,")
        (cur / "1700000000.3.here:2,").symlink_to("/nonexistent")
        (cur / "a directory:2,").mkdir()
        ok(imap.select("INBOX"))
        uids = [int(u) for u in ok(imap.uid("SEARCH", "ALL"))[0].split()]
        same(len(uids), 4, "messages")
        status, said = imap.uid("FETCH", str(uids[3]), "(BODY.PEEK[])")
        check(status == "NO" or not any(isinstance(i, tuple) and b"secret" in i[1] for i in said), (status, said))
        ok(imap.noop(), "the session goes on")
        check(b"r1" in ok(imap.uid("FETCH", str(uids[1]), "(BODY.PEEK[])"))[0][1], "others are read")
        imap.logout()


def test_odd_names(folder):
    """Names of mutt's, of systems without colons, with blanks; without sizes, with wrong ones."""
    g = Gatepost(folder)
    g.maildir().mkdir(parents=True)
    owned(g.maildir(), g.state)
    names = ["1700000000.R9.here:2,", "1700000001.M1.here", "1700000002.3.here!2,S", "1700000003.4.here;2,FS", "1700000004.5.a b c:2,S",
             "1700000005.6.here,S=1,W=99:2,RS", "1700000006.7.here:2,S,extra=1", "1700000007.8.here:1,x", "no number at all", "1700000009.ü:2,ST"]
    for sub in ("cur", "new", "tmp"):
        (g.maildir() / sub).mkdir()
    for n, name in enumerate(names):
        (g.maildir() / "cur" / name).write_bytes(message(g.user(), subject=f"n{n}").replace(b"\r\n", b"\n"))
    own(g.maildir())
    with g:
        imap = g.imap()
        ok(imap.select("INBOX"))
        same(sorted(subjects(imap).values()), sorted(f"n{n}" for n in range(len(names))), "all of them")
        for item in ok(imap.uid("FETCH", "1:*", "(RFC822.SIZE BODY.PEEK[])")):
            if isinstance(item, tuple):
                check(item[1].endswith(b"\r\nHello\r\n"), item[1])
        first = {s: uid for uid, s in subjects(imap).items()}
        ok(imap.uid("STORE", "1:*", "+FLAGS", r"(\Flagged Work)"))
        imap.logout()
    left = {f.name for f in g.files()}
    for want in ("1700000000.R9.here:2,Fa", "1700000001.M1.here:2,Fa", "1700000002.3.here!2,S:2,Fa", "1700000003.4.here;2,FS:2,Fa",
                 "1700000004.5.a b c:2,FSa", "1700000006.7.here:2,FSa,extra=1", "1700000009.ü:2,FSTa"):
        check(want in left, f"{want} in {sorted(left)}")
    with g:
        imap = g.imap()
        ok(imap.select("INBOX"))
        same({s: uid for uid, s in subjects(imap).items()}, first, "UIDs after a restart")
        imap.logout()


def test_a_home_of_couriers(folder):
    """As Courier 5.0 writes it: names with blanks, keywords in files of their own, POP3 numbers of their own."""
    g = Gatepost(folder)
    maildir = g.maildir()
    for sub in ("cur", "new", "tmp", "courierimapkeywords", ".Lists.rust/cur", ".Lists.rust/new", ".Lists.rust/tmp"):
        (maildir / sub).mkdir(parents=True)
    names = {"1500000001.M1P1.host": ":2,", "1500000002.M1P1.ho st,S=12": ":2,S"}
    for n, (base, flags) in enumerate(names.items()):
        (maildir / "cur" / (base + flags)).write_bytes(message(g.user(), subject=f"c{n}"))
    (maildir / "new" / "1500000003.M1P1.host").write_bytes(message(g.user(), subject="c2"))
    (maildir / "courierimapuiddb").write_text("1 795536044 8\n4 1500000001.M1P1.host\n2 1500000002.M1P1.ho st,S=12\n")
    (maildir / "courierpop3dsizelist").write_text(
        "/3 4 1795536017\n1500000001.M1P1.host:2, 17 1:1795536017:0\n1500000002.M1P1.ho st,S=12:2,S 17 2:1795536017:0\n"
        "1500000003.M1P1.host 17 3:1795536017:0\n")
    (maildir / "courierimapkeywords" / "1500000001.M1P1.host").write_text("$Forwarded\nWork\n")
    (maildir / "courierimapkeywords" / "1500000002.M1P1.ho st,S=12").write_text("Play")
    (maildir / "courierimapsubscribed").write_text("INBOX.Lists.rust\nINBOX\n")
    (maildir / ".Lists.rust" / "maildirfolder").touch()
    owned(maildir, g.state)
    own(maildir)
    for _ in range(2):
        with g:
            pop3 = g.pop3()
            same(pop3.uidl()[1], [b"1 UID2-1795536017", b"2 UID1-1795536017", b"3 UID3-1795536017"], "UIDL")
            pop3.quit()
            imap = g.imap()
            ok(imap.select("INBOX"))
            same(int(imap.response("UIDVALIDITY")[1][0]), 795536044, "UIDVALIDITY")
            same(subjects(imap), {2: "c1", 4: "c0", 8: "c2"}, "UIDs")
            flags = {int(re.search(rb"UID (\d+)", line)[1]): set(re.search(rb"FLAGS \(([^)]*)\)", line)[1].decode().split()) - {r"\Recent"}
                     for line in ok(imap.uid("FETCH", "1:*", "(FLAGS)"))}
            same(flags, {2: {r"\Seen", "Play"}, 4: {"$Forwarded", "Work"}, 8: set()}, "flags")
            same(sorted(line.decode().rsplit(' "/" ')[1] for line in ok(imap.lsub())), ["INBOX", "Lists/rust"], "subscriptions")
            if len(ok(imap.list())) != 3:  # INBOX, Lists, Lists/rust
                raise Failed(f"folders of ours in a home of Courier's: {imap.list()}")
            imap.logout()
