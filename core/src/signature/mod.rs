//! Creates and verifies signatures of files like `openssl dgst -sign` and `-verify`: a digest of the whole
//! file, signed with RSA (PKCS#1 v1.5) or ECDSA (P-256, P-384, P-521; DER). Keys are PEM files.
//!
//! ```text
//! digest.rs  several digests of one stream    pem.rs       blocks of a key file
//! public.rs  public keys, verification        private.rs   private keys, signing
//! file.rs    digests of a file, and their validity
//! signer.rs  the publisher's keys             envelope.rs  signed statements
//! trusted.rs keys of other programs too       minisign.rs  minisign
//! ```

mod digest;
mod envelope;
mod file;
mod minisign;
mod pem;
mod private;
mod public;
mod signer;
#[cfg(test)]
mod tests;
mod trusted;

use std::{io::Read, ops::ControlFlow, path::Path};

pub use digest::{Algorithm, Digests, Pass};
pub use file::{FileDigest, digests_of_file};
pub use minisign::MinisignKey;
pub use private::PrivateKey;
pub use public::PublicKey;
pub use signer::Signer;
pub use trusted::TrustedKey;

use crate::error::{Error, Result, Stage};

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// Signs the bytes of a reader, like `openssl dgst -DIGEST -sign KEY`.
///
/// # Errors
/// An unknown digest, an unusable key, and errors of the reader.
pub fn sign(digest: &str, key: &Path, reader: &mut dyn Read) -> Result<Vec<u8>> {
    let algorithm = Algorithm::named(digest)?;
    let key = PrivateKey::read(key)?;
    key.sign(algorithm, &of_stream(algorithm, reader)?)
}

/// Verifies the signature of a reader's bytes, like `openssl dgst -DIGEST -verify KEY`.
///
/// # Errors
/// An unknown digest, an unusable key, and errors of the reader. A wrong signature is not an error.
pub fn verify(digest: &str, key: &Path, signature: &[u8], reader: &mut dyn Read) -> Result<bool> {
    let algorithm = Algorithm::named(digest)?;
    let key = PublicKey::read(key)?;
    Ok(key.verifies(algorithm, &of_stream(algorithm, reader)?, signature))
}

fn of_stream(algorithm: Algorithm, reader: &mut dyn Read) -> Result<Vec<u8>> {
    let digests = digests_of(reader, &[algorithm], &mut |_| ControlFlow::Continue(()))?;
    Ok(digests.get(algorithm).unwrap_or_default().to_vec())
}

/// Computes several digests of a reader's bytes in one pass. `seen` is called with the number of bytes read so far.
///
/// # Errors
/// Errors of the reader, and [`Stage::Interrupted`] when `seen` breaks.
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
