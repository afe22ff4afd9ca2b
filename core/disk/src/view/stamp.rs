//! Defines the identifiers and the time that images and archives contain besides data. Both are derived from
//! values of the caller, so that the same disk produces the same bytes on every run.

use sha2::{Digest, Sha256};

/// Seconds from 1970 to 2000, both at midnight UTC; VHD counts from 2000.
pub(super) const UNIX_2000: u64 = 946_684_800;

/// The identity of an image and the creation time that it records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    identity: String,
    unix_seconds: u64,
}

impl Stamp {
    /// Creates a stamp. `identity` names the image permanently (product, version, digest of the input…); the
    /// identifiers in the image are derived from it. `unix_seconds` is usually the value of
    /// `SOURCE_DATE_EPOCH`; 0 is allowed.
    pub fn new(identity: impl Into<String>, unix_seconds: u64) -> Self {
        Self { identity: identity.into(), unix_seconds }
    }

    /// Returns the time in seconds since 1970, UTC.
    pub fn unix_seconds(&self) -> u64 {
        self.unix_seconds
    }

    /// Returns the time in seconds since 2000, UTC; 0 if it is earlier or does not fit.
    pub(super) fn seconds_since_2000(&self) -> u32 {
        u32::try_from(self.unix_seconds.saturating_sub(UNIX_2000)).unwrap_or(0)
    }

    /// Returns a UUID (RFC 9562, version 8) that differs for each `purpose`.
    pub(crate) fn uuid(&self, purpose: &str) -> [u8; 16] {
        let mut hash = Sha256::new();
        for part in [purpose, "\0", &self.identity] {
            hash.update(part.as_bytes());
        }
        let mut out = [0; 16];
        out.copy_from_slice(&hash.finalize()[..16]);
        out[6] = out[6] & 0x0f | 0x80;
        out[8] = out[8] & 0x3f | 0x80;
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_follow_from_identity_and_purpose_only() {
        let (one, same) = (Stamp::new("x-1.0", 5), Stamp::new("x-1.0", 9));
        assert_eq!(one.uuid("vhd"), same.uuid("vhd"));
        assert_ne!(one.uuid("vhd"), one.uuid("vmdk"));
        assert_ne!(one.uuid("vhd"), Stamp::new("x-1.1", 5).uuid("vhd"));
        assert_eq!(one.uuid("vhd")[6] >> 4, 8);
    }

    #[test]
    fn times_outside_of_the_format_become_its_start() {
        for (unix, since_2000) in
            [(0, 0), (UNIX_2000, 0), (UNIX_2000 + 7, 7), (UNIX_2000 + (1 << 32), 0)]
        {
            assert_eq!(Stamp::new("", unix).seconds_since_2000(), since_2000, "{unix}");
        }
    }
}
