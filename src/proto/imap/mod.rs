//! IMAP (RFC 3501, 9051): a framer cuts lines and literals, commands are parsed, responses written.
