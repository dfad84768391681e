//! POP3 (RFC 1939, 2449): commands, replies, multi-line bodies.
