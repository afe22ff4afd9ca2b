//! Computes the hashes that the image service reports: SHA-512 while the disk is sent, others by reading it once more.

use build_image_plugin_api::{Context, Disk, Error, Result};

/// Bytes per read.
const BLOCK: usize = 1 << 20;

/// Algorithm of `os_hash_value` that is computed while the disk is sent.
pub(crate) const SENT: &str = "sha512";

/// Returns the hash of the whole disk in hexadecimal digits and its length in bytes, or `None` for an algorithm that is
/// not known.
///
/// # Errors
/// When the disk cannot be read, or the step was cancelled.
pub(crate) fn of_disk(
    context: &Context,
    disk: &Disk,
    algorithm: &str,
) -> Result<Option<(String, u64)>> {
    match algorithm {
        SENT => hash::<sha2::Sha512>(context, disk).map(Some),
        "sha384" => hash::<sha2::Sha384>(context, disk).map(Some),
        "sha256" => hash::<sha2::Sha256>(context, disk).map(Some),
        "md5" => hash::<md5::Md5>(context, disk).map(Some),
        _ => Ok(None),
    }
}

fn hash<D: sha2::Digest>(context: &Context, disk: &Disk) -> Result<(String, u64)> {
    let (mut digest, mut done, mut buffer) = (D::new(), 0, vec![0; BLOCK]);
    loop {
        context.check_cancelled()?;
        let read = context.read_disk(disk, done, &mut buffer)?;
        digest.update(buffer.get(..read).ok_or_else(|| Error::internal("a read was too long"))?);
        done += read as u64;
        if read < buffer.len() {
            return Ok((hexadecimal(&digest.finalize()), done));
        }
    }
}

/// Writes bytes as hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use build_image_plugin_api::{DiskSpec, testing::MockHost};

    use super::*;

    #[test]
    fn hashes_are_those_of_the_published_vectors() {
        let host = Arc::new(MockHost::new().with_disk(b"abc".to_vec()));
        let context = host.context();
        let disk = context.make_disk(&DiskSpec::default()).unwrap();
        for (algorithm, start) in [
            ("sha512", "ddaf35a193617aba"),
            ("sha384", "cb00753f45a35e8b"),
            ("sha256", "ba7816bf8f01cfea"),
            ("md5", "900150983cd24fb0"),
        ] {
            let (hash, length) = of_disk(&context, &disk, algorithm).unwrap().unwrap();
            assert!(hash.starts_with(start) && length == 3, "{algorithm}: {hash}");
        }
        assert!(of_disk(&context, &disk, "blake3").unwrap().is_none());
    }
}
