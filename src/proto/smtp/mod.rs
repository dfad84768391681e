//! SMTP (RFC 5321): command lines, replies, DATA and BDAT bodies.
