//! Reads the one variable of the vendor's tools that the vendor's library for Rust does not know; it reads the others.

/// Returns the file with CA certificates that the vendor's other tools use.
#[expect(clippy::disallowed_methods, reason = "all access to the environment goes through here")]
pub(crate) fn ca_bundle() -> Option<String> {
    std::env::var("AWS_CA_BUNDLE").ok().filter(|path| !path.is_empty())
}
