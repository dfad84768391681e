"""Python's imaplib, poplib and smtplib: a tour through each protocol."""

import imaplib
import poplib
import smtplib
import ssl

from lib import Failed, Gatepost, check, message, same


def send(g, n=1, to="alice", **more):
    with g.smtp() as client:
        for i in range(n):
            client.sendmail("carol@elsewhere.test", [g.user(to)], message(g.user(to), subject=f"number {i + 1}", **more))


def test_imaplib_tour(folder):
    with Gatepost(folder) as g:
        send(g, 3)
        g.arrived(3)
        imap = g.imap()
        check("IMAP4REV1" in imap.capabilities, imap.capabilities)
        same(imap.select("INBOX"), ("OK", [b"3"]), "SELECT")
        same(imap.search(None, "SUBJECT", '"number 2"'), ("OK", [b"2"]), "SEARCH")
        same(imap.store("2", "+FLAGS", r"(\Flagged $Work)")[0], "OK", "STORE")
        same(imap.search(None, "FLAGGED", "KEYWORD", "$Work"), ("OK", [b"2"]), "SEARCH FLAGGED")
        status, said = imap.fetch("2", "(FLAGS ENVELOPE BODYSTRUCTURE INTERNALDATE)")
        check(status == "OK" and b"number 2" in said[0] and b"$Work" in said[0], said)
        same(imap.create("Lists/rust")[0], "OK", "CREATE")
        same(imap.copy("1:3", "Lists/rust")[0], "OK", "COPY")
        same(imap.status("Lists/rust", "(MESSAGES UNSEEN)")[1], [b"Lists/rust (MESSAGES 3 UNSEEN 3)"], "STATUS")
        same(imap.store("1,3", "+FLAGS", r"\Deleted")[0], "OK", "STORE \\Deleted")
        check(imap.expunge()[1] in ([b"1", b"2"], [b"3", b"1"]), "EXPUNGE")
        same(imap.rename("Lists/rust", "Lists/crab")[0], "OK", "RENAME")
        same(imap.subscribe("Lists/crab")[0], "OK", "SUBSCRIBE")
        check(any(b"Lists/crab" in line for line in imap.list()[1]), imap.list())
        same(imap.delete("Lists/crab")[0], "OK", "DELETE")
        same(imap.uid("SEARCH", "ALL")[1], [b"2"], "UID SEARCH")
        same(imap.logout()[0], "BYE", "LOGOUT")
        check((g.maildir() / "cur").is_dir(), "a Maildir")


def test_two_clients_see_each_other(folder):
    with Gatepost(folder) as g:
        send(g, 2)
        g.arrived(2)
        one, two = g.imap(), g.imap()
        one.select()
        two.select()
        one.store("1", "+FLAGS", r"\Seen")
        two.noop()
        check(b"Seen" in two.fetch("1", "(FLAGS)")[1][0], "the flag")
        one.store("1", "+FLAGS", r"\Deleted")
        one.expunge()
        two.noop()
        same(two.response("EXPUNGE"), ("EXPUNGE", [b"1"]), "EXPUNGE told")
        send(g)
        two.noop()
        same(two.search(None, "ALL")[1], [b"1 2"], "the new one")
        one.logout()
        two.logout()


def test_idle_tells_of_new_mail(folder):
    with Gatepost(folder) as g:
        imap = g.imap()
        imap.select()
        imap.send(b"x IDLE\r\n")
        check(imap.readline().startswith(b"+ "), "continuation")
        send(g)
        said = [imap.readline()]
        while b"EXISTS" not in said[-1]:
            said.append(imap.readline())
        same(said[-1].strip(), b"* 1 EXISTS", "IDLE")
        imap.send(b"DONE\r\n")
        while not said[-1].startswith(b"x "):
            said.append(imap.readline())
        check(said[-1].startswith(b"x OK"), said)
        imap.logout()


def test_imap_wrong_password(folder):
    with Gatepost(folder) as g:
        imap = g.imap(login=False)
        try:
            imap.login(g.user(), "wrong")
            raise Failed("a wrong password was taken")
        except imaplib.IMAP4.error as error:
            check("AUTHENTICATIONFAILED" in str(error) or "incorrect" in str(error).lower() or "wrong" in str(error).lower(), error)
        plain = imaplib.IMAP4(g.address, g.ports["imap"])
        check("LOGINDISABLED" in plain.capabilities, plain.capabilities)
        plain.starttls(g.tls())
        same(plain.login(g.user(), g.PASSWORD)[0], "OK", "LOGIN after STARTTLS")
        plain.logout()


def test_imap_authenticate_plain(folder):
    with Gatepost(folder) as g:
        imap = g.imap(login=False)
        same(imap.authenticate("PLAIN", lambda _: f"\0{g.user()}\0{g.PASSWORD}".encode())[0], "OK", "AUTHENTICATE PLAIN")
        imap.logout()


def test_poplib_tour(folder):
    with Gatepost(folder) as g:
        send(g, 3)
        g.arrived(3)
        pop = poplib.POP3(g.address, g.ports["pop3"])
        check("STLS" in pop.capa(), pop.capa())
        pop.stls(g.tls())
        pop.user(g.user())
        pop.pass_(g.PASSWORD)
        same(pop.stat()[0], 3, "STAT")
        ids = [line.split()[1] for line in pop.uidl()[1]]
        same(len(set(ids)), 3, "UIDL")
        check(any(b"number" in line for line in pop.top(1, 0)[1]), "TOP")
        pop.dele(2)
        pop.rset()
        pop.dele(1)
        pop.quit()
        g.arrived(2)
        pop = poplib.POP3_SSL(g.address, g.ports["pop3s"], context=g.tls())
        pop.user(g.user())
        pop.pass_(g.PASSWORD)
        same([line.split()[1] for line in pop.uidl()[1]], ids[1:], "UIDL of the next session")
        pop.dele(1)
        pop.close()
        g.arrived(2)


def test_old_and_new_tls(folder):
    with Gatepost(folder) as g:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = g.tls()
            context.minimum_version = context.maximum_version = version
            with smtplib.SMTP_SSL(g.address, g.ports["submissions"], context=context) as client:
                client.login(g.user(), g.PASSWORD)


def test_big_message_is_refused_early(folder):
    with Gatepost(folder, keys={"limits.message-size": '"1M"'}) as g:
        with g.smtp() as client:
            same(client.esmtp_features["size"], "1048576", "SIZE")
            same(client.docmd("MAIL", "FROM:<a@elsewhere.test> SIZE=2000000")[0], 552, "MAIL SIZE=")
            try:
                client.sendmail("a@elsewhere.test", [g.user()], message(g.user(), body=b"x" * 70 + b"\r\n" * 1_000_000))
                raise Failed("more than SIZE was taken")
            except (smtplib.SMTPDataError, smtplib.SMTPSenderRefused) as error:
                same(error.smtp_code, 552, "DATA")
            same(client.noop()[0], 250, "the session goes on")
        same(len(g.files()), 0, "messages")
