"""Bodies that break programs, through every door in and out, compared by SHA-256."""

import poplib

from lib import Gatepost, body_of, hard_bodies, message, same, sha


def whole(body):
    """SMTP data always ends with a line end."""
    return body if body.endswith(b"\r\n") else body + b"\r\n"


def test_smtp_in_imap_pop3_and_file_out(folder):
    bodies = hard_bodies()
    with Gatepost(folder) as g:
        for service, user in (("smtp", None), ("submission", g.user("bob"))):
            for name, body in bodies.items():
                with g.smtp(service, user) as client:
                    client.sendmail(g.user("bob"), [g.user()], message(g.user(), g.user("bob"), f"{service} {name}", body),
                                    mail_options=["BODY=8BITMIME"])
        want = {f"{s} {n}": sha(whole(b)) for s in ("smtp", "submission") for n, b in bodies.items()}

        def subjects(raws):
            return {raw.split(b"Subject: ", 1)[1].split(b"\r\n")[0].decode(): sha(body_of(raw)) for raw in raws}

        same(subjects(f.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for f in g.arrived(len(want))), want, "files")
        imap = g.imap()
        imap.select()
        same(subjects(imap.fetch(str(n + 1), "(BODY.PEEK[])")[1][0][1] for n in range(len(want))), want, "IMAP")
        imap.logout()
        pop = poplib.POP3_SSL(g.address, g.ports["pop3s"], context=g.tls())
        pop.user(g.user())
        pop.pass_(g.PASSWORD)
        same(subjects(b"\r\n".join(pop.retr(n + 1)[1]) + b"\r\n" for n in range(len(want))), want, "POP3")
        pop.quit()


def test_append_keeps_every_byte(folder):
    with Gatepost(folder) as g:
        imap = g.imap()
        for name, body in hard_bodies().items():
            raw = message(g.user(), subject=name, body=body)
            status, said = imap.append("Archive", r"(\Seen)", None, raw)
            same(status, "OK", f"APPEND {name}: {said}")
        imap.select("Archive")
        for n, (name, body) in enumerate(hard_bodies().items(), 1):
            got = imap.fetch(str(n), "(RFC822.SIZE BODY.PEEK[])")[1][0]
            want = message(g.user(), subject=name, body=body)
            same(sha(got[1]), sha(want), f"APPEND and FETCH of {name}")
            same(f"RFC822.SIZE {len(want)}" in got[0].decode(), True, f"size of {name}: {got[0]}")
        imap.logout()
