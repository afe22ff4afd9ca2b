//! Writes archives around images: `tar.gz` with one member, zip with several, OVF packages as OVA or zip.

use std::path::Path;
use std::sync::Arc;

mod gzip;
mod package;
#[cfg(test)]
mod package_tests;
mod tar;
#[cfg(test)]
mod tests;
mod zip;

use super::control::Progress;
use super::deflate::{deflate, longest};
use super::growing::Outline;
use super::steps::Segment;
use super::{Control, DigestKinds, Growing, Level};
use crate::error::Error;
use crate::view::{Stamp, View};

pub use gzip::tar_gz;
pub use package::OvfPackage;
pub(super) use tar::{BLOCK, Flavour, check_name, header, padding, trailer};

/// An upper limit in bytes for the headers of one member, and for the end of an archive, without names.
const HEADERS: u64 = 256;

/// The content of a member of an archive.
#[derive(Clone)]
pub enum Content {
    /// Bytes in memory.
    Bytes(Vec<u8>),
    /// An image that is computed while it is read, or a file ([`crate::view::FileView`]).
    View(Arc<dyn View>),
}

impl Content {
    fn segment(self) -> Segment {
        match self {
            Self::Bytes(bytes) => Segment::Bytes(bytes.into()),
            Self::View(view) => Segment::View(view),
        }
    }
}

/// A member of an archive.
#[derive(Clone)]
pub struct Member {
    /// The name: no directories, at most 100 bytes.
    pub name: String,
    /// The content.
    pub content: Content,
}

/// Options of all archives.
#[derive(Clone, Debug)]
pub struct ArchiveOptions {
    /// The compression level.
    pub level: Level,
    /// The time of every member, and the source of identifiers.
    pub stamp: Stamp,
    /// The digests of the archive to compute.
    pub digests: DigestKinds,
}

/// Starts to write a zip archive with deflated members in the given order; large members use ZIP64. All bytes
/// become final together at the end, and digests require reading the file again.
pub fn zip(
    members: Vec<Member>,
    options: &ArchiveOptions,
    dest: &Path,
    control: &Control,
) -> Result<Growing, Error> {
    let mut parts = Vec::new();
    for Member { name, content } in members {
        check_name(&name)?;
        parts.push((name, content.segment()));
    }
    let total = parts.iter().map(|(_, content)| content.len()).sum();
    let headers: u64 = parts.iter().map(|(name, _)| HEADERS + 2 * name.len() as u64).sum();
    let limit = parts.iter().map(|(_, content)| longest(content.len())).sum::<u64>();
    let outline = Outline {
        length_limit: limit + headers + HEADERS,
        deferred_prefix_len: u64::MAX,
        digests: options.digests,
    };
    let options = options.clone();
    Growing::start(dest, outline, control, move |out| {
        let mut archive = zip::Archive::new(&options.stamp);
        let mut progress = Progress { done: 0, total };
        for (name, content) in parts {
            let limit = longest(content.len());
            archive.member(out, &name, zip::Method::Deflated, limit, |out| {
                deflate(out, &[content], options.level, &mut progress)
            })?;
        }
        archive.finish(out)
    })
}
