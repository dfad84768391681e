//! SASL (RFC 4422): PLAIN and LOGIN, from base64 to name and password.
