//! What a reply code means and what to do about it, for people who never heard of SMTP (RFC 3463, RFC 5248, RFC 7372,
//! RFC 7505). Used where senders read why their mail did not arrive.

/// A cause and an advice, whole sentences each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Explained {
    pub cause: &'static str,
    pub advice: &'static str,
}

/// For an enhanced status code; the class (2, 4, 5) matters only where nothing better is known.
pub fn explain(status: (u8, u8, u8)) -> Explained {
    let (class, subject, detail) = status;
    let known = |wanted: (u8, u8)| CODES.iter().find(|(code, ..)| *code == wanted);
    let found = known((subject, detail)).or_else(|| known((subject, 0)));
    match found {
        Some((_, cause, advice)) => Explained { cause, advice },
        None if class == 2 => Explained { cause: "The message was accepted.", advice: "There is nothing to do." },
        None if class == 4 => Explained {
            cause: "The receiving server could not take the message for now.",
            advice: "This often passes by itself. If the message was given up, send it again later.",
        },
        None => Explained {
            cause: "The receiving server refused the message.",
            advice: "Read what it said below; if that does not help, ask the recipient by another way.",
        },
    }
}

/// Subject and detail, cause, advice.
type Row = ((u8, u8), &'static str, &'static str);

const CODES: &[Row] = &[
    (
        (1, 1),
        "There is no mailbox of that name at the receiving server.",
        "Check the address for typing mistakes. If it used to work, the mailbox was closed: ask the recipient for a new address.",
    ),
    ((1, 2), "The domain after the @ does not exist or takes no mail.", "Check the part after the @ for typing mistakes."),
    ((1, 3), "The receiving server cannot read this address.", "Check the address for spaces and stray characters."),
    ((1, 4), "The address fits more than one mailbox.", "Ask the recipient for an exact address."),
    ((1, 6), "The mailbox has moved and left no new address.", "Ask the recipient for the new address."),
    (
        (1, 7),
        "The receiving server does not accept your address as a sender.",
        "Check the sender address in your mail program; if it is right, show this message to your administrator.",
    ),
    (
        (1, 8),
        "The receiving server cannot find the domain of your address.",
        "Show this message to your administrator: the DNS records of your domain need a look.",
    ),
    ((1, 10), "The domain says that it never takes mail.", "Check the part after the @ for typing mistakes."),
    ((2, 0), "There is a fault with the recipient's mailbox.", "Tell the recipient by another way, or try again later."),
    ((2, 1), "The mailbox exists but is closed for mail.", "Ask the recipient by another way."),
    ((2, 2), "The recipient's mailbox is full.", "Tell the recipient by another way, and send the message again when there is room."),
    ((2, 3), "The message is larger than this mailbox allows.", "Send it without large attachments, or share them by a link."),
    ((2, 4), "The mailing list behind this address is broken.", "Tell the owner of the list."),
    ((3, 0), "The receiving server has a fault.", "Send the message again later."),
    ((3, 1), "The receiving server is out of space.", "Send the message again later."),
    ((3, 2), "The receiving server takes no mail at the moment.", "Send the message again later."),
    ((3, 3), "The receiving server lacks a feature that this message needs.", "Send it as plain text without special characters in addresses."),
    ((3, 4), "The message is larger than the receiving server allows.", "Send it without large attachments, or share them by a link."),
    ((3, 5), "The receiving server is set up wrongly.", "Tell the recipient by another way; their administrator must mend it."),
    ((4, 0), "The receiving server could not be reached.", "Send the message again later."),
    (
        (4, 1),
        "The receiving server does not answer.",
        "It may be down. Check the part after the @ for typing mistakes, or send the message again later.",
    ),
    ((4, 2), "The connection to the receiving server broke.", "Send the message again later."),
    (
        (4, 3),
        "The name service of the receiving domain does not answer.",
        "Check the part after the @ for typing mistakes, or send the message again later.",
    ),
    ((4, 4), "No way to the receiving domain was found.", "Check the part after the @ for typing mistakes."),
    ((4, 5), "The receiving server is overloaded.", "Send the message again later."),
    ((4, 6), "The message went in a circle between servers.", "Show this message to your administrator: a forwarding leads back to itself."),
    (
        (4, 7),
        "The receiving server did not take the message in the time that was allowed.",
        "Send it again later, or reach the recipient by another way.",
    ),
    ((5, 0), "The two servers did not understand one another.", "Show this message to your administrator."),
    ((5, 3), "The message has more recipients than the receiving server allows.", "Send it to fewer people at a time."),
    ((6, 0), "The receiving server cannot handle the content of this message.", "Send it as plain text."),
    ((6, 7), "The receiving server does not support addresses with these characters.", "Use an address of the recipient with plain letters only."),
    ((7, 0), "The receiving server refused the message for reasons of security.", "Read what it said below; it may name a page that explains more."),
    (
        (7, 1),
        "The receiving server refused the message: you, your server or its content are not welcome there.",
        "Read what it said below; it often names the reason or a page. Ask the recipient by another way to let you through.",
    ),
    ((7, 2), "You may not write to this mailing list.", "Join the list first, or ask its owner."),
    ((7, 3), "The message needs a protection that the receiving server cannot give.", "Show this message to your administrator."),
    ((7, 4), "The receiving server does not offer the encryption that is required.", "Show this message to your administrator."),
    ((7, 5), "The encryption between the servers failed.", "Show this message to your administrator."),
    (
        (7, 20),
        "The message bears no valid DKIM signature of your domain.",
        "Show this message to your administrator: the signing of your domain's mail needs a look.",
    ),
    (
        (7, 23),
        "Your domain does not list this server as one that may send its mail (SPF).",
        "Show this message to your administrator: the SPF record of your domain needs a look.",
    ),
    (
        (7, 25),
        "The address of this server has no proper name in the DNS.",
        "Show this message to your administrator: the reverse DNS of the server needs a look.",
    ),
    (
        (7, 26),
        "The message did not pass the receiving server's checks of your domain (SPF, DKIM, DMARC).",
        "Show this message to your administrator: the DNS records of your domain need a look.",
    ),
    ((7, 27), "Your sender domain says that it never takes mail.", "Use a sender address that can take replies."),
    ((7, 30), "The message requires TLS all the way, and the receiving server cannot promise it.", "Send it without that requirement."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explains() {
        let cases = [
            ((5, 1, 1), "no mailbox"),
            ((4, 1, 1), "no mailbox"),
            ((5, 7, 26), "DMARC"),
            ((5, 7, 99), "security"),
            ((4, 4, 7), "time"),
            ((4, 9, 9), "for now"),
            ((5, 0, 0), "refused"),
            ((2, 0, 0), "accepted"),
        ];
        for (status, word) in cases {
            assert!(explain(status).cause.contains(word), "{status:?}: {}", explain(status).cause);
        }
        for (code, cause, advice) in CODES {
            assert!(cause.ends_with('.') && advice.ends_with('.'), "{code:?}");
            assert_eq!(CODES.iter().filter(|(c, ..)| c == code).count(), 1, "{code:?}");
        }
    }
}
