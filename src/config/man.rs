//! gatepost.conf(5) out of the table.

/// The manual page in roff.
pub fn man() -> String {
    String::new()
}
