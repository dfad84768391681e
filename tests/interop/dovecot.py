"""A real Dovecot 2.3 on the Maildirs of a gatepost that is not running, or on those of one that is."""

import imaplib
import os
import poplib
import re
import signal
import subprocess

from lib import check, port, run, wait

NOBODY = 65534


def owned(path, state):
    """Root's tests: the daemon's user owns the mail and what is above it."""
    if os.geteuid() == 0:
        for p in (state, *[p for p in (path, *path.parents) if state in p.parents]):
            os.chown(p, NOBODY, NOBODY)


class Dovecot:
    """IMAP, POP3 and LMTP for the same users, and doveadm. `layout`: what stands behind the path in mail_location."""

    def __init__(self, folder, gatepost, layout="", uidl="%08Xu%08Xv", name="dovecot", more=""):
        self.gatepost = gatepost
        self.folder = folder / name
        self.folder.mkdir()
        self.folder.chmod(0o777)
        self.config, self.log = self.folder / "dovecot.conf", self.folder / "log"
        self.imap_port, self.pop3_port, self.lmtp_port = port(), port(), port()
        home = gatepost.state / "mail" / gatepost.domain
        home.mkdir(parents=True, exist_ok=True)
        owned(home, gatepost.state)
        self.config.write_text(f"""
protocols = imap pop3 lmtp
listen = 127.0.0.1
base_dir = {self.folder}/run
state_dir = {self.folder}/state
log_path = {self.log}
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
first_valid_uid = 1
mail_location = maildir:{home}/%n/Maildir{layout}
mail_fsync = never
pop3_uidl_format = {uidl}
passdb {{
  driver = static
  args = password={gatepost.PASSWORD}
}}
userdb {{
  driver = static
  args = uid={NOBODY} gid={NOBODY} home={home}/%n allow_all_users=yes
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
service imap-login {{
  inet_listener imap {{
    port = {self.imap_port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {self.pop3_port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {self.lmtp_port}
  }}
}}
{more}
""")
        self.log.touch()
        self.log.chmod(0o666)
        self.process = None
        # What it may complain of.
        self.but = ["Killed with signal 15"]

    def __call__(self, *words, user="alice", stdin=b""):
        """doveadm for a user, with no daemon running."""
        return run("doveadm", "-c", self.config, words[0], *(["-u", f"{user}@{self.gatepost.domain}"]), *words[1:], stdin=stdin).decode()

    def __enter__(self):
        self.process = subprocess.Popen(["dovecot", "-F", "-c", str(self.config)], start_new_session=True)
        wait(lambda: self._answers(), lambda: f"Dovecot answers: {self.log.read_text()[-2000:]}")
        return self

    def _answers(self):
        try:
            imaplib.IMAP4("127.0.0.1", self.imap_port, timeout=5).logout()
            return True
        except OSError:
            return False

    def __exit__(self, kind, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        if kind is None:
            self.complains()

    def complains(self):
        """Nothing in its log may be an error or a warning."""
        bad = [line for line in self.log.read_text().splitlines() if re.search(r"Error|Warning|Panic|Fatal|uidlist", line) and not any(b in line for b in self.but)]
        check(not bad, "Dovecot's log:\n" + "\n".join(bad[:20]))

    def imap(self, user="alice"):
        client = imaplib.IMAP4("127.0.0.1", self.imap_port, timeout=60)
        client.login(f"{user}@{self.gatepost.domain}", self.gatepost.PASSWORD)
        return client

    def pop3(self, user="alice"):
        client = poplib.POP3("127.0.0.1", self.pop3_port, timeout=60)
        client.user(f"{user}@{self.gatepost.domain}")
        client.pass_(self.gatepost.PASSWORD)
        return client

    def lmtp(self, to, raw):
        import smtplib
        with smtplib.LMTP("127.0.0.1", self.lmtp_port, timeout=60) as client:
            client.sendmail("carol@elsewhere.test", [to], raw)
