//! Archives around images: `tar.gz` with one member, zip with several, OVF packages as OVA or zip.

use std::path::Path;
use std::sync::Arc;

use super::{Control, DigestKinds, Growing, Level, StreamVmdk};
use crate::error::{Error, Kind};
use crate::ovf::{Appliance, ManifestDigest, Signature};
use crate::view::{Stamp, View};

/// What a member of an archive holds.
#[derive(Clone)]
pub enum Content {
    /// Bytes in memory.
    Bytes(Vec<u8>),
    /// An image computed while it is read, or a file ([`crate::view::FileView`]).
    View(Arc<dyn View>),
}

/// A member of an archive.
#[derive(Clone)]
pub struct Member {
    /// Its name: no folders, at most 100 bytes.
    pub name: String,
    /// What it holds.
    pub content: Content,
}

/// What all archives take.
#[derive(Clone, Debug)]
pub struct ArchiveOptions {
    /// How hard to compress.
    pub level: Level,
    /// The time of every member, among others.
    pub stamp: Stamp,
    /// Digests of the archive.
    pub digests: DigestKinds,
}

/// Starts writing a gzipped tar archive with one member, mode 644, owner 0:0, in GNU's old header
/// format (`tar --format=oldgnu`). It becomes final in order; long runs of zeros cost nearly nothing.
pub fn tar_gz(
    member: Member,
    options: &ArchiveOptions,
    dest: &Path,
    control: &Control,
) -> Result<Growing, Error> {
    let _ = (member.name, options, control);
    Err(Error::new(Kind::Unsupported, "tar.gz cannot be written yet:").at(dest))
}

/// Starts writing a zip archive with deflated members in the order given; large members use ZIP64.
/// It becomes final at the end, all at once.
pub fn zip(
    members: Vec<Member>,
    options: &ArchiveOptions,
    dest: &Path,
    control: &Control,
) -> Result<Growing, Error> {
    let _ = (members, options, control);
    Err(Error::new(Kind::Unsupported, "zip cannot be written yet:").at(dest))
}

/// An OVF package: descriptor, manifest, signature and disk, named `<stem>.ovf`, `<stem>.mf`, ….
pub struct OvfPackage {
    /// The common stem of the members' names.
    pub stem: String,
    /// What the descriptor says.
    pub appliance: Appliance,
    /// The disk, written as `<stem>.vmdk` while the package is.
    pub disk: StreamVmdk,
    /// The digest in the manifest.
    pub manifest: ManifestDigest,
    /// Signs the manifest.
    pub signature: Option<Signature>,
    /// More members behind these, such as the public key.
    pub extra: Vec<(String, Vec<u8>)>,
}

impl OvfPackage {
    /// Starts writing an OVA: an uncompressed ustar archive in the order DSP0243 wants: descriptor,
    /// manifest, signature, disk. It becomes final at the end, all at once.
    pub fn ova(
        self,
        stamp: &Stamp,
        digests: DigestKinds,
        dest: &Path,
        control: &Control,
    ) -> Result<Growing, Error> {
        let _ = (self.stem, stamp, digests, control);
        Err(Error::new(Kind::Unsupported, "OVA cannot be written yet:").at(dest))
    }

    /// Starts writing the same members into a zip archive, without compressing the disk twice.
    pub fn zip(
        self,
        options: &ArchiveOptions,
        dest: &Path,
        control: &Control,
    ) -> Result<Growing, Error> {
        let _ = (self.stem, options, control);
        Err(Error::new(Kind::Unsupported, "OVF in zip cannot be written yet:").at(dest))
    }
}
