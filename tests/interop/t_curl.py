"""curl: SMTP, IMAP and POP3, plain with STARTTLS and with TLS from the first byte."""

from lib import Gatepost, body_of, check, hard_bodies, message, run, same, sha


def url(g, scheme, service, path=""):
    return f"{scheme}://{g.host}:{g.ports[service]}/{path}"


def curl(g, where, *more, user="alice", ok=True):
    resolve = [x for p in g.ports.values() for x in ("--resolve", f"{g.host}:{p}:{g.address}")]
    login = ("--user", f"{g.user(user)}:{g.PASSWORD}") if user else ()
    return run("curl", "-sS", "--cacert", g.ca, "--max-time", 60, *resolve, *login, where, *more, ok=ok)


def test_smtp(folder):
    with Gatepost(folder) as g:
        mail = folder / "mail"
        mail.write_bytes(message(g.user("bob"), g.user()))
        envelope = ("--mail-from", g.user(), "--mail-rcpt", g.user("bob"), "--upload-file", mail)
        curl(g, url(g, "smtp", "submission", "client.test"), "--ssl-reqd", *envelope)
        curl(g, url(g, "smtps", "submissions", "client.test"), *envelope)
        curl(g, url(g, "smtp", "smtp", "client.test"), *envelope, user=None)
        g.arrived(3, "bob")


def test_imap(folder):
    with Gatepost(folder) as g:
        mail = folder / "mail"
        mail.write_bytes(message(g.user(), body=hard_bodies()["8bit"]))
        for scheme, service, more in (("imap", "imap", ("--ssl-reqd",)), ("imaps", "imaps", ())):
            curl(g, url(g, scheme, service, "Drafts"), *more, "--upload-file", mail)
        for scheme, service, more in (("imap", "imap", ("--ssl-reqd",)), ("imaps", "imaps", ())):
            raw = curl(g, url(g, scheme, service, "Drafts;MAILINDEX=2"), *more)
            same(sha(raw), sha(mail.read_bytes()), f"FETCH over {scheme}")
        listed = curl(g, url(g, "imaps", "imaps")).decode()
        check('"Drafts"' in listed.replace(" Drafts", ' "Drafts"') and "INBOX" in listed, listed)
        found = curl(g, url(g, "imaps", "imaps", "Drafts?SUBJECT%20interop")).decode()
        same(found.split(), ["*", "SEARCH", "1", "2"], "SEARCH")
        status, _ = curl(g, url(g, "imap", "imap"), ok=False)
        check(status != 0, "a login in the clear went through")


def test_pop3(folder):
    with Gatepost(folder) as g:
        bodies = {n: b for n, b in hard_bodies().items() if n != "25MB"}
        for body in bodies.values():
            with g.smtp() as client:
                client.sendmail("carol@elsewhere.test", [g.user()], message(g.user(), body=body))
        g.arrived(len(bodies))
        for scheme, service, more in (("pop3", "pop3", ("--ssl-reqd",)), ("pop3s", "pop3s", ())):
            listed = curl(g, url(g, scheme, service), *more).decode().split()
            same(len(listed), 2 * len(bodies), "LIST")
            got = sorted(sha(body_of(curl(g, url(g, scheme, service, str(n + 1)), *more))) for n in range(len(bodies)))
            want = sorted(sha(b if b.endswith(b"\r\n") else b + b"\r\n") for b in bodies.values())
            same(got, want, f"bodies over {scheme}")
        curl(g, url(g, "pop3s", "pop3s", "1"), "--request", "DELE", "--list-only")
        g.arrived(len(bodies) - 1)
