//! A certificate of one's own: for the demo, for tests, and until a real one is there.

/// PEM of certificate and key (ECDSA P-256) for these names (DNS names or IP addresses).
pub fn self_signed(names: &[&str]) -> Result<(String, String), String> {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).map_err(|e| format!("cannot make a certificate: {e}"))?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}
