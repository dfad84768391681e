"""swaks: every way of TLS and AUTH, and what must be refused."""

from lib import Gatepost, check, run, same


def swaks(g, service, *more, to=None, sender=None, ok=True):
    return run("swaks", "--server", f"{g.address}:{g.ports[service]}", "--ehlo", "client.test", "--timeout", 30,
               "--to", to or g.user("alice"), "--from", sender or "carol@elsewhere.test", *more, ok=ok)


def refused(result, code, what):
    status, said = result
    check(status != 0 and code.encode() in said, f"{what}: expected {code}, exit status {status}\n{said.decode(errors='replace')}")


def test_plain_25(folder):
    with Gatepost(folder) as g:
        said = swaks(g, "smtp", "--body", "swaks was here").decode()
        check("queued as" in said, said)
        check(b"swaks was here" in g.arrived(1)[0].read_bytes(), "the body")
        qid = said.split("queued as ", 1)[1].split()[0]
        g.heard("mta", f"qid={qid}")


def test_starttls_25(folder):
    with Gatepost(folder) as g:
        swaks(g, "smtp", "--tls", "--tls-verify", "--tls-ca-path", g.ca, "--tls-sni", g.host)
        text = g.arrived(1)[0].read_text()
        check("with ESMTPS" in text, text)


def test_auth_after_starttls_587(folder):
    with Gatepost(folder) as g:
        login = ("--tls", "--auth-user", g.user(), "--auth-password", g.PASSWORD)
        for n, mechanism in enumerate(("PLAIN", "LOGIN"), 1):
            swaks(g, "submission", *login, "--auth", mechanism, to=g.user("bob"), sender=g.user())
            g.arrived(n, "bob")


def test_auth_465(folder):
    with Gatepost(folder) as g:
        swaks(g, "submissions", "--tls-on-connect", "--auth", "PLAIN", "--auth-user", g.user(), "--auth-password", g.PASSWORD,
              to=g.user("bob"), sender=g.user())
        text = g.arrived(1, "bob")[0].read_text()
        check("with ESMTPSA" in text, text)


def test_wrong_password(folder):
    with Gatepost(folder) as g:
        login = ("--auth-user", g.user(), "--auth-password", "swordfish", "--auth")
        refused(swaks(g, "submission", "--tls", *login, "PLAIN", sender=g.user(), ok=False), "535", "wrong password on 587")
        refused(swaks(g, "submissions", "--tls-on-connect", *login, "LOGIN", sender=g.user(), ok=False), "535", "wrong password on 465")
        same(len(g.files()), 0, "messages")
        check("swordfish" not in g.said() and g.PASSWORD not in g.said(), "a password in the log")


def test_no_password_in_the_clear(folder):
    with Gatepost(folder) as g:
        status, said = swaks(g, "submission", "--auth", "PLAIN", "--auth-user", g.user(), "--auth-password", g.PASSWORD, sender=g.user(), ok=False)
        check(status != 0 and b"AUTH" not in [line.split()[1][4:8] for line in said.splitlines() if b"250" in line[:8]], said.decode())
        same(len(g.files()), 0, "messages")


def test_submission_wants_a_login(folder):
    with Gatepost(folder) as g:
        refused(swaks(g, "submission", "--tls", ok=False), "530", "587 without login")
        refused(swaks(g, "submissions", "--tls-on-connect", ok=False), "530", "465 without login")


def test_no_open_relay(folder):
    with Gatepost(folder) as g:
        for to in ("x@far.test", "x%far.test@alpha.test", "@alpha.test:x@far.test", '"x@far.test"@alpha.test', "x@far.test@alpha.test", "far.test!x@alpha.test"):
            status, said = swaks(g, "smtp", to=to, ok=False)
            check(status != 0 and b"<~* 5" in said or b"<** 5" in said, f"{to}: {said.decode(errors='replace')}")
        refused(swaks(g, "smtp", to="x@far.test", ok=False), "550", "relay")
        same(g.queue(), [], "queue")


def test_only_own_addresses(folder):
    with Gatepost(folder) as g:
        login = ("--tls", "--auth", "PLAIN", "--auth-user", g.user(), "--auth-password", g.PASSWORD)
        status, said = swaks(g, "submission", *login, sender=g.user("bob"), ok=False)
        check(status != 0 and (b" 550 5.7" in said or b" 553 5.7" in said), said.decode(errors="replace"))


def test_unknown_user(folder):
    with Gatepost(folder) as g:
        refused(swaks(g, "smtp", to="nobody@alpha.test", ok=False), "550 5.1.1", "unknown user")


def test_pipelined(folder):
    with Gatepost(folder) as g:
        swaks(g, "smtp", "--pipeline", to="alice@alpha.test,bob@alpha.test")
        g.arrived(1)
        g.arrived(1, "bob")
