//! Signatures of files, as `openssl dgst -sign` and `-verify` make and check them: a digest of the whole
//! file, signed with RSA (PKCS#1 v1.5) or ECDSA (P-256, P-384, P-521; DER). Keys are PEM files.
//!
//! ```text
//! digest.rs  several digests of one stream     pem.rs  blocks of a key file
//! public.rs  verifying                          private.rs  signing
//! file.rs    digests of a file, and how long they hold
//! signer.rs  both keys of who publishes         envelope.rs  signed statements
//! ```

mod digest;
mod envelope;
mod file;
mod pem;
mod private;
mod public;
mod signer;
#[cfg(test)]
mod tests;

use std::{io::Read, ops::ControlFlow, path::Path};

pub use digest::{Algorithm, Digests, Pass};
pub use file::{FileDigest, digests_of_file};
pub use private::PrivateKey;
pub use public::PublicKey;
pub use signer::Signer;

use crate::error::{Error, Result, Stage};

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// Signs what a reader gives, as `openssl dgst -DIGEST -sign KEY` does.
///
/// # Errors
/// An unknown digest, an unusable key, and what the reader says.
pub fn sign(digest: &str, key: &Path, reader: &mut dyn Read) -> Result<Vec<u8>> {
    let algorithm = Algorithm::named(digest)?;
    let key = PrivateKey::read(key)?;
    key.sign(algorithm, &of_stream(algorithm, reader)?)
}

/// Whether a signature is the one of what a reader gives, as `openssl dgst -DIGEST -verify KEY` asks.
///
/// # Errors
/// An unknown digest, an unusable key, and what the reader says. A wrong signature is no error.
pub fn verify(digest: &str, key: &Path, signature: &[u8], reader: &mut dyn Read) -> Result<bool> {
    let algorithm = Algorithm::named(digest)?;
    let key = PublicKey::read(key)?;
    Ok(key.verifies(algorithm, &of_stream(algorithm, reader)?, signature))
}

fn of_stream(algorithm: Algorithm, reader: &mut dyn Read) -> Result<Vec<u8>> {
    let digests = digests_of(reader, &[algorithm], &mut |_| ControlFlow::Continue(()))?;
    Ok(digests.get(algorithm).unwrap_or_default().to_vec())
}

/// Several digests of what a reader gives, read once. `seen` is told how many bytes were read so far.
///
/// # Errors
/// What the reader says, and [`Stage::Interrupted`] when `seen` wants to stop.
pub fn digests_of(
    reader: &mut dyn Read,
    algorithms: &[Algorithm],
    seen: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Digests> {
    let pass = Pass::new(algorithms)?;
    let mut done = 0;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let count =
            Read::take(&mut *reader, CHUNK as u64).read_to_end(&mut chunk).map_err(|error| {
                Error::new(Stage::Disk, "cannot read what a digest is made of").caused_by(&error)
            })?;
        if count == 0 {
            return pass.finish();
        }
        pass.update(chunk)?;
        done += count as u64;
        if seen(done).is_break() {
            return Err(Error::interrupted());
        }
    }
}
