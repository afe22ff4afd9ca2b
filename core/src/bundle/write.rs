//! Writes a bundle. The image is read once: it is written to its place first and the members before it afterwards,
//! whose lengths do not depend on the digest of the image.

use std::{fs::File, io, ops::ControlFlow, os::unix::fs::FileExt as _, path::Path};

use build_image_disk::pack::plain_tar;
use build_image_files::AtomicFile;

use super::{
    CHUNK, DOCUMENT, Document, STATEMENT, document::BundledMember, image::digest_of, open::hex,
};
use crate::{
    artifacts::{cannot, more_space},
    error::{Error, Result, Stage},
    settings::keys::BUNDLE,
    signature::{Algorithm, Pass, Signer},
    source::from_disk,
};

/// Blocks of zeros of this length become holes, bytes.
const HOLE: usize = 64 << 10;

/// What a bundle is made of.
pub(crate) struct Contents<'a> {
    /// The document; its list of members is filled in.
    pub(crate) document: Document,
    /// Returns the provenance statement of an image with this SHA-256. Its length is always the same.
    pub(crate) statement: &'a dyn Fn(&str) -> Result<String>,
    /// Signs the document.
    pub(crate) signer: Option<&'a Signer>,
    /// Fills a buffer from an offset of the image; returns fewer bytes only at its end.
    pub(crate) image: &'a dyn Fn(&mut [u8], u64) -> Result<usize>,
    /// Length of the image, bytes.
    pub(crate) length: u64,
}

/// A member with its content.
type Part = (String, Vec<u8>);

/// Writes a bundle; it appears complete or not at all. `seen` is called with the number of bytes of the image that
/// are done. Returns the length of the bundle in bytes.
///
/// # Errors
/// When the image cannot be read, or the file cannot be written; [`Stage::Interrupted`] when `seen` breaks.
pub(crate) fn write(
    dest: &Path,
    contents: &Contents<'_>,
    seen: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<u64> {
    let write_error = |error: io::Error| {
        let made = cannot("write", dest, &error);
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                made.hint(more_space(BUNDLE))
            }
            _ => made.hint(format!("set {BUNDLE} to a file this user may write")),
        }
    };
    let planned = contents.before_image(&"0".repeat(64))?;
    let place = end_of(&planned) + plain_tar::HEADER;
    let length = plain_tar::length(plain_tar::next(place, contents.length));
    let staged = AtomicFile::create(dest).map_err(write_error)?;
    let file = staged.file();
    file.set_len(length).map_err(write_error)?;
    let sha256 = contents.copy_image(file, place, seen, &write_error)?;
    let parts = contents.before_image(&sha256)?;
    if end_of(&parts) != end_of(&planned) {
        return Err(Error::new(Stage::Bug, "the length of a bundle's documents is not constant"));
    }
    let header = |name: &str, length: u64| {
        plain_tar::header(name, length).map_err(|error| from_disk(Stage::Disk, error))
    };
    let mut at = 0;
    for (name, bytes) in &parts {
        let count = bytes.len() as u64;
        file.write_all_at(&header(name, count)?, at).map_err(write_error)?;
        at += plain_tar::HEADER;
        file.write_all_at(bytes, at).map_err(write_error)?;
        at = plain_tar::next(at, count);
    }
    let header = header(&contents.document.image.member, contents.length)?;
    file.write_all_at(&header, at).map_err(write_error)?;
    staged.commit().map_err(write_error)?;
    Ok(length)
}

impl Contents<'_> {
    /// Returns the members before the image, whose SHA-256 this is.
    fn before_image(&self, sha256: &str) -> Result<Vec<Part>> {
        let statement = (self.statement)(sha256)?.into_bytes();
        let entry = |name: &str, length: u64, sha256: String| BundledMember {
            name: name.to_owned(),
            length,
            sha256,
        };
        let mut document = self.document.clone();
        document.members = vec![
            entry(STATEMENT, statement.len() as u64, hex(&digest_of(&statement))),
            entry(&document.image.member, self.length, sha256.to_owned()),
        ];
        let text = document.text().into_bytes();
        let sign = |signer: &Signer| -> Result<Part> {
            let name = format!("{DOCUMENT}{}", signer.algorithm().signature_suffix());
            Ok((name, signer.sign(&text)?))
        };
        let signature = self.signer.map(sign).transpose()?;
        let mut parts = vec![(DOCUMENT.to_owned(), text)];
        parts.extend(signature);
        parts.push((STATEMENT.to_owned(), statement));
        Ok(parts)
    }

    /// Writes the image to its place; returns its SHA-256.
    fn copy_image(
        &self,
        file: &File,
        place: u64,
        seen: &mut dyn FnMut(u64) -> ControlFlow<()>,
        write_error: &dyn Fn(io::Error) -> Error,
    ) -> Result<String> {
        let pass = Pass::new(&[Algorithm::Sha256])?;
        let mut done = 0;
        while done < self.length {
            let count = usize::try_from(self.length - done).unwrap_or(CHUNK).min(CHUNK);
            let mut chunk = vec![0; count];
            let count = (self.image)(&mut chunk, done)?;
            if count == 0 {
                return Err(Error::new(Stage::Bug, "the image is shorter than its length"));
            }
            chunk.truncate(count);
            for (number, piece) in chunk.chunks(HOLE).enumerate() {
                if !is_zero(piece) {
                    let at = place + done + (number * HOLE) as u64;
                    file.write_all_at(piece, at).map_err(write_error)?;
                }
            }
            done += count as u64;
            pass.update(chunk)?;
            if seen(done).is_break() {
                return Err(Error::interrupted());
            }
        }
        Ok(pass.finish()?.hex(Algorithm::Sha256).unwrap_or_default())
    }
}

/// Returns the offset behind these members.
fn end_of(parts: &[Part]) -> u64 {
    parts
        .iter()
        .fold(0, |at, (_, bytes)| plain_tar::next(at + plain_tar::HEADER, bytes.len() as u64))
}

fn is_zero(piece: &[u8]) -> bool {
    static ZEROS: [u8; HOLE] = [0; HOLE];
    *piece == ZEROS[..piece.len()]
}
