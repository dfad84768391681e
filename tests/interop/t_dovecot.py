"""A Maildir that Dovecot wrote is taken over in place, and given back: UIDs, UIDVALIDITY, flags, keywords, subscriptions."""

import os

from lib import Gatepost, check, message, run, same


class Dovecot:
    """doveadm on a Maildir, without any daemon, as the user who owns the mail."""

    def __init__(self, folder, maildir):
        self.folder, self.maildir = folder / "dovecot", maildir
        self.folder.mkdir()
        self.folder.chmod(0o777)
        self.config = self.folder / "dovecot.conf"
        self.config.write_text(f"""
mail_location = maildir:{maildir}
base_dir = {self.folder}/run
log_path = {self.folder}/log
ssl = no
namespace inbox {{
  inbox = yes
  separator = /
}}
""")
        (self.folder / "log").touch()
        (self.folder / "log").chmod(0o666)

    def __call__(self, *words, stdin=b""):
        me = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups") if os.geteuid() == 0 else ()
        env = {**os.environ, "USER": "nobody", "HOME": str(self.folder)}
        return run(*me, "doveadm", "-c", self.config, *words, stdin=stdin, env=env).decode()

    def listing(self, mailbox):
        """UID → (flags and keywords, subject)."""
        found = {}
        for block in self("-f", "flow", "fetch", "uid flags hdr.subject", "mailbox", mailbox, "all").splitlines():
            fields = dict(part.split("=", 1) for part in block.replace(" flags=", "\0flags=").replace(" hdr.subject=", "\0hdr.subject=").split("\0"))
            flags = {f for f in fields["flags"].split() if f != "\\Recent"}
            found[int(fields["uid"])] = flags, fields["hdr.subject"]
        return found

    def validity(self, mailbox):
        return int(self("-f", "flow", "mailbox", "status", "uidvalidity", mailbox).rsplit("uidvalidity=", 1)[1].split()[0])


def listing(imap, mailbox):
    imap.select(f'"{mailbox}"')
    validity = int(imap.response("UIDVALIDITY")[1][0])
    found = {}
    for item in imap.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]:
        if isinstance(item, tuple):
            head = item[0].decode()
            uid = int(head.split("UID ")[1].split()[0])
            flags = {f for f in head.split("FLAGS (")[1].split(")")[0].split() if f != "\\Recent"}
            found[uid] = flags, item[1].decode().split("Subject: ", 1)[1].strip()
    return validity, found


def test_there_and_back(folder):
    g = Gatepost(folder)
    maildir = g.maildir()
    maildir.parent.mkdir(parents=True)
    if os.geteuid() == 0:
        for path in (g.state, *[p for p in maildir.parents if g.state in p.parents]):
            os.chown(path, 65534, 65534)
    dovecot = Dovecot(folder, maildir)
    for mailbox in ("INBOX", "Lists/rust", "Entwürfe"):
        if mailbox != "INBOX":
            dovecot("mailbox", "create", "-s", mailbox)
        for n in range(5):
            dovecot("save", "-m", mailbox, stdin=message("alice@alpha.test", subject=f"{mailbox.isascii() and mailbox or 'Draft'} {n}"))
    dovecot("flags", "add", r"\Seen Work", "mailbox", "INBOX", "uid", "1,2")
    dovecot("flags", "add", r"\Flagged $Forwarded", "mailbox", "INBOX", "uid", "4")
    dovecot("expunge", "mailbox", "INBOX", "uid", "3")
    before = {m: (dovecot.validity(m), dovecot.listing(m)) for m in ("INBOX", "Lists/rust")}
    same(sorted(before["INBOX"][1]), [1, 2, 4, 5], "Dovecot's UIDs")

    with g:
        imap = g.imap()
        for mailbox, want in before.items():
            same(listing(imap, mailbox), want, f"{mailbox} taken over")
        subscribed = " ".join(line.decode() for line in imap.lsub()[1])
        check("Lists/rust" in subscribed, subscribed)
        check(any(b"Entw&APw-rfe" in line for line in imap.list()[1]), imap.list())
        imap.select()
        imap.uid("STORE", "5", "+FLAGS", r"(\Answered New)")
        imap.uid("STORE", "1", "-FLAGS", "(Work)")
        imap.uid("MOVE", "2", "Lists/rust")
        imap.append("INBOX", r"(\Seen)", None, message(g.user(), subject="by gatepost"))
        imap.create("Made/here")
        imap.append("Made/here", None, None, message(g.user(), subject="there"))
        here = {m: listing(imap, m) for m in ("INBOX", "Lists/rust", "Made/here")}
        imap.logout()
    for mailbox, (validity, want) in here.items():
        same(dovecot.validity(mailbox), validity, f"UIDVALIDITY of {mailbox} given back")
        same(dovecot.listing(mailbox), want, f"{mailbox} given back")

    # And once more: what Dovecot does meanwhile is taken over too.
    dovecot("save", "-m", "INBOX", stdin=message("alice@alpha.test", subject="late"))
    dovecot("flags", "add", r"\Deleted Later", "mailbox", "INBOX", "uid", "4")
    again = dovecot.validity("INBOX"), dovecot.listing("INBOX")
    with g:
        imap = g.imap()
        same(listing(imap, "INBOX"), again, "INBOX taken over again")
        imap.logout()
