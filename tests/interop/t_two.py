"""Two gatepost servers with two domains and a real nsd between them."""

import email
import smtplib


from lib import Failed, Gatepost, NameServer, body_of, check, hard_bodies, message, port, same, sha, wait


class Pair:
    """alpha.test on 127.0.0.2 and beta.test on 127.0.0.3, with MX records."""

    def __init__(self, folder, keys=None, zones=None):
        self.mx_port = port(("127.0.0.2", "127.0.0.3"))
        records = zones or {
            "alpha.test": ["@ MX 10 mail", "mail A 127.0.0.2"],
            "beta.test": ["@ MX 5 dead", "@ MX 10 mail", "mail A 127.0.0.3", "dead A 127.0.0.4"],
        }
        self.dns = NameServer(folder / "dns", records)
        self.alpha = Gatepost(folder / "alpha", "alpha.test", "127.0.0.2", self.dns.address, self.mx_port, keys=keys)
        self.beta = Gatepost(folder / "beta", "beta.test", "127.0.0.3", self.dns.address, self.mx_port, keys=keys)

    def __enter__(self):
        self.dns.__enter__()
        self.alpha.start()
        self.beta.start()
        return self

    def __exit__(self, kind, value, trace):
        try:
            self.alpha.__exit__(kind, value, trace)
        finally:
            try:
                self.beta.__exit__(kind, value, trace)
            finally:
                self.dns.__exit__()


def submit(g, to, body=b"Hello\r\n", user="alice", **options):
    with g.smtp("submission", g.user(user)) as client:
        return client.sendmail(g.user(user), [to], message(to, g.user(user), body=body), **options)


def test_mail_both_ways(folder):
    with Pair(folder) as p:
        for source, target in ((p.alpha, p.beta), (p.beta, p.alpha)):
            for body in hard_bodies().values():
                submit(source, target.user(), body, mail_options=["BODY=8BITMIME"])
            wait(lambda s=source: not s.queue(), lambda s=source: f"the queue empties: {s.queue()}", 60)
            got = target.arrived(len(hard_bodies()))
            want = [sha(b if b.endswith(b"\r\n") else b + b"\r\n") for b in hard_bodies().values()]
            same(sorted(sha(body_of(f.read_bytes())) for f in got), sorted(want), "bodies")
            text = got[0].read_text(errors="replace")
            check("with ESMTPS\n" in text.replace("\r", "") and "TLSv1.3" in text, f"TLS between servers:\n{text[:1500]}")
            check(text.startswith("Return-Path: <alice@"), text[:200])


def test_one_queue_id_is_the_whole_story(folder):
    with Pair(folder) as p:
        with p.alpha.smtp("submission", p.alpha.user()) as client:
            client.mail(p.alpha.user())
            client.rcpt(p.beta.user())
            said = client.data(message(p.beta.user(), p.alpha.user()))[1].decode()
        qid = said.rsplit(" ", 1)[1]
        p.beta.arrived(1)
        p.alpha.heard("sent", f"qid={qid}")


def bounce(g, name="alice"):
    return email.message_from_bytes(g.arrived(1, name)[0].read_bytes())


def test_bounce_of_an_unknown_user(folder):
    with Pair(folder) as p:
        submit(p.alpha, "nobody@beta.test")
        dsn = bounce(p.alpha)
        same(dsn.get_content_type(), "multipart/report", "content type")
        same(dsn.get_param("report-type"), "delivery-status", "report-type")
        same(dsn["Return-Path"], "<>", "Return-Path")
        check(dsn["Auto-Submitted"] == "auto-replied" or dsn["Auto-Submitted"] == "auto-generated", dsn["Auto-Submitted"])
        parts = dsn.get_payload()
        same([part.get_content_type() for part in parts][:2], ["text/plain", "message/delivery-status"], "parts")
        status = parts[1].get_payload()
        same(status[0]["Reporting-MTA"], f"dns; {p.alpha.host}", "Reporting-MTA")
        same(status[1]["Final-Recipient"], "rfc822; nobody@beta.test", "Final-Recipient")
        same(status[1]["Action"], "failed", "Action")
        same(status[1]["Status"], "5.1.1", "Status")
        check(status[1]["Diagnostic-Code"].startswith("smtp; 550"), status[1]["Diagnostic-Code"])
        check("nobody@beta.test" in parts[0].get_payload(), "the text names the recipient")
        check("Subject: interop" in parts[2].as_string(), "the third part is the message or its header")
        wait(lambda: not p.alpha.queue(), "the queue empties")


def test_no_bounce_for_a_bounce(folder):
    with Pair(folder) as p:
        with p.alpha.smtp("submission", p.alpha.user()) as client:
            client.mail("")
            code, said = client.rcpt("nobody@beta.test")
            if code == 250:
                client.data(message("nobody@beta.test", p.alpha.user()))
        wait(lambda: not p.alpha.queue(), "the queue empties")
        same(len(p.alpha.files()) + len(p.alpha.files("bob")), 0, "messages")


def test_success_dsn(folder):
    with Pair(folder) as p:
        with p.alpha.smtp("submission", p.alpha.user()) as client:
            check("dsn" in client.esmtp_features, client.esmtp_features)
            client.sendmail(p.alpha.user(), [p.beta.user()], message(p.beta.user(), p.alpha.user()), ["RET=HDRS", "ENVID=QQ314159"],
                            ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;alice@beta.test"])
        p.beta.arrived(1)
        dsn = bounce(p.alpha)
        status = dsn.get_payload()[1].get_payload()
        same(status[1]["Action"], "delivered", "Action")
        same(status[0]["Original-Envelope-Id"], "QQ314159", "ENVID")


def test_unknown_domain_bounces_and_a_dead_one_waits(folder):
    with Pair(folder) as p:
        p.alpha.stop()
        p.alpha.keys["dns.servers"] = f'["{p.dns.address}"]'
        p.alpha.start()
        submit(p.alpha, "x@nowhere.alpha.test")
        dsn = bounce(p.alpha)
        same(dsn.get_payload()[1].get_payload()[1]["Status"], "5.1.2", "Status")


def test_dead_dns_defers_and_recovers(folder):
    with Pair(folder) as p:
        p.alpha.stop()
        p.alpha.keys["dns.servers"] = '["127.0.0.1:9"]'
        p.alpha.keys["dns.timeout"] = '"1s"'
        p.alpha.write_config()
        p.alpha.start()
        submit(p.alpha, p.beta.user())
        p.alpha.heard("deferred")
        same(len(p.alpha.queue()), 1, "queue")
        p.alpha.stop()
        p.alpha.keys["dns.servers"] = f'["{p.dns.address}"]'
        p.alpha.write_config()
        p.alpha.start()
        p.beta.arrived(1)
        wait(lambda: not p.alpha.queue(), "the queue empties")


def test_peer_down_then_up(folder):
    with Pair(folder) as p:
        p.beta.stop()
        submit(p.alpha, p.beta.user())
        p.alpha.heard("deferred")
        p.beta.start()
        p.beta.arrived(1)
        wait(lambda: not p.alpha.queue(), "the queue empties")


def test_delay_warning_and_expiry(folder):
    with Pair(folder, keys={"queue.warn-after": '"2s"', "queue.lifetime": '"6s"'}) as p:
        p.beta.stop()
        submit(p.alpha, p.beta.user())
        files = wait(lambda: len(p.alpha.files()) >= 2 and p.alpha.files(), lambda: f"a warning and a bounce: {len(p.alpha.files())}", 60)
        actions = [email.message_from_bytes(f.read_bytes()).get_payload()[1].get_payload()[1]["Action"] for f in files]
        same(sorted(actions), ["delayed", "failed"], "actions")
        wait(lambda: not p.alpha.queue(), "the queue empties")
        p.beta.start()


def test_smarthost_with_login(folder):
    with Pair(folder) as p:
        p.alpha.stop()
        (p.alpha.folder / "secret").write_text(p.beta.PASSWORD + "\n")
        # beta's own alice relays for alpha's: beta must be told that she may send as that address.
        (p.beta.folder / "aliases").write_text("")
        p.alpha.extra = f'''
[[route]]
to = ["*"]
via = "localhost:{p.beta.ports["submission"]}"
tls = "may"
user = "{p.beta.user()}"
password-file = "secret"
'''
        p.alpha.extra = p.alpha.extra.replace("localhost", "mail.beta.test")
        p.alpha.write_config()
        p.alpha.start()
        submit(p.alpha, p.beta.user("bob"))
        # beta refuses alice@alpha.test as sender of alice@beta.test: the bounce shows that the login went through.
        dsn = bounce(p.alpha)
        code = dsn.get_payload()[1].get_payload()[1]["Diagnostic-Code"]
        check("5.7.1" in code, code)


def test_mail_loop_ends(folder):
    zones = {"alpha.test": ["@ MX 10 mail", "mail A 127.0.0.2"], "beta.test": ["@ MX 10 mail", "mail A 127.0.0.3"]}
    with Pair(folder, zones=zones) as p:
        (p.alpha.folder / "aliases").write_text("ping: pong@beta.test\n")
        (p.beta.folder / "aliases").write_text("pong: ping@alpha.test\n")
        for g in (p.alpha, p.beta):
            before = len(g.said())
            g.hup()
            g.heard("daemon reloaded", after=before)
        with p.alpha.smtp() as client:
            client.sendmail("alice@beta.test", ["ping@alpha.test"], message("ping@alpha.test"))
        bounced = wait(lambda: p.beta.files() or p.alpha.files(), "a bounce ends the loop", 90)
        check(b"5.4.6" in bounced[0].read_bytes(), "routing loop detected (5.4.6)")
        wait(lambda: not p.alpha.queue() and not p.beta.queue(), "both queues empty")


def test_refusals_reach_the_submitter_at_once(folder):
    with Pair(folder) as p:
        try:
            submit(p.alpha, "nobody@alpha.test")
            raise Failed("an unknown local user was taken")
        except smtplib.SMTPRecipientsRefused as error:
            same(error.recipients["nobody@alpha.test"][0], 550, "reply")
