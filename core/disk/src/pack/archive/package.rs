//! Writes OVF packages: descriptor, manifest, signature, and disk as one OVA or inside a zip archive.
//! Source: DMTF DSP0243 1.1.0, section 5.3: the descriptor comes first, manifest and certificate follow it.
//!
//! The disk is deflated directly into the package. The members before it depend on its length and digest, so
//! space is reserved for them and they are written last.

use std::path::Path;

use super::tar::{self, Flavour, check_name};
use super::zip::{Archive, Method};
use super::{ArchiveOptions, HEADERS};
use crate::error::{Error, Kind};
use crate::field::index;
use crate::ovf::{Appliance, DiskFile, ManifestDigest, Signature};
use crate::pack::control::{Control, Progress};
use crate::pack::deflate::{Deflated, crc32};
use crate::pack::digest::{DigestKinds, Digests, Hashes};
use crate::pack::growing::{Growing, Outline};
use crate::pack::output::Output;
use crate::pack::vmdk::StreamVmdk;
use crate::view::Stamp;

/// An OVF package: `<stem>.ovf`, `<stem>.mf`, a signature, and the disk under its own name.
#[derive(Debug)]
pub struct OvfPackage {
    /// The common stem of the members' names.
    pub stem: String,
    /// The content of the descriptor.
    pub appliance: Appliance,
    /// The disk, which is deflated while the package is written.
    pub disk: StreamVmdk,
    /// The digest algorithm of the manifest.
    pub manifest: ManifestDigest,
    /// Signs the manifest.
    pub signature: Option<Signature>,
    /// More members after these, such as the public key.
    pub extra: Vec<(String, Vec<u8>)>,
}

/// The members that describe the disk.
struct Papers {
    descriptor: Vec<u8>,
    manifest: Vec<u8>,
    signature: Option<Vec<u8>>,
}

impl OvfPackage {
    /// Starts to write an OVA: an uncompressed ustar archive with descriptor, manifest, signature, disk, and
    /// the rest in this order. All bytes become final together at the end.
    pub fn ova(
        self,
        stamp: &Stamp,
        digests: DigestKinds,
        dest: &Path,
        control: &Control,
    ) -> Result<Growing, Error> {
        self.check()?;
        let draft = self.draft()?;
        let room = self.room(&draft);
        let extra: u64 = self.extra.iter().map(|(_, bytes)| stored(bytes.len() as u64)).sum();
        let limit = room + stored(self.disk.length_limit()) + extra;
        let outline = Outline {
            length_limit: limit + tar::trailer(limit),
            deferred_prefix_len: u64::MAX,
            digests,
        };
        let stamp = stamp.clone();
        Growing::start(dest, outline, control, move |out| {
            let (length, digest) = self.put_disk(out, room, &stamp)?;
            for (name, bytes) in &self.extra {
                self.put_member(out, name, bytes, &stamp)?;
            }
            let end = out.end();
            out.extend_to(end + tar::trailer(end))?;
            let papers = self.papers(length, &digest, draft.descriptor.len())?;
            if self.room(&papers) != room {
                let message = "the signature of the manifest got longer than the one tried before";
                return Err(Error::new(Kind::Tool, message)
                    .with_hint("use a signature whose length does not change, such as RSA"));
            }
            let mut head = Vec::new();
            for (name, bytes) in self.named(&papers) {
                let header = tar::header(&name, bytes.len() as u64, Flavour::Ustar, &stamp)?;
                head.extend(header);
                head.extend(bytes);
                head.resize(head.len() + index(tar::padding(bytes.len() as u64)), 0);
            }
            out.write_at(&head, 0)
        })
    }

    /// Starts to write the same members to a zip archive: first the disk, which is not deflated again, then
    /// the others. All bytes become final together at the end.
    pub fn zip(
        self,
        options: &ArchiveOptions,
        dest: &Path,
        control: &Control,
    ) -> Result<Growing, Error> {
        self.check()?;
        let draft = self.draft()?;
        let mut small = self.room(&draft);
        small +=
            self.extra.iter().map(|(_, bytes)| HEADERS + stored(bytes.len() as u64)).sum::<u64>();
        let disk_limit = self.disk.length_limit();
        let outline = Outline {
            length_limit: disk_limit + small + 8 * HEADERS,
            deferred_prefix_len: u64::MAX,
            digests: options.digests,
        };
        let stamp = options.stamp.clone();
        Growing::start(dest, outline, control, move |out| {
            let mut archive = Archive::new(&stamp);
            let mut hashes = Hashes::new(self.kinds()).with_crc32();
            let mut progress = self.progress();
            let name = self.disk.name();
            let sum = archive.member(out, name, Method::Stored, disk_limit, |out| {
                let start = out.end();
                self.disk.append_to(out, &mut hashes, &mut progress)?;
                let length = out.end() - start;
                Ok(Deflated { crc: hashes.crc32(), plain: length, packed: length })
            })?;
            let digest = self.digest(hashes.finish());
            let papers = self.papers(sum.plain, &digest, draft.descriptor.len())?;
            let extra = self.extra.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice()));
            for (name, bytes) in self.named(&papers).into_iter().chain(extra) {
                let length = bytes.len() as u64;
                archive.member(out, &name, Method::Stored, length, |out| {
                    out.append(bytes)?;
                    Ok(Deflated { crc: crc32(bytes), plain: length, packed: length })
                })?;
            }
            archive.finish(out)
        })
    }

    /// Checks the names before a long operation starts.
    fn check(&self) -> Result<(), Error> {
        let mut names = vec![self.part("ovf"), self.part("mf"), self.disk.name().to_owned()];
        names.extend(self.signature.iter().map(|signature| signature.name.clone()));
        names.extend(self.extra.iter().map(|(name, _)| name.clone()));
        for name in &names {
            check_name(name)?;
        }
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(()),
            Some(pair) => {
                let message = format!("the package has two members `{}`", pair[0]);
                Err(Error::new(Kind::Unsupported, message)
                    .with_hint("name one of them differently"))
            }
        }
    }

    fn part(&self, ending: &str) -> String {
        format!("{}.{ending}", self.stem)
    }

    fn kinds(&self) -> DigestKinds {
        let sha1 = self.manifest == ManifestDigest::Sha1;
        DigestKinds { sha1, sha256: !sha1, ..DigestKinds::NONE }
    }

    fn digest(&self, digests: Digests) -> String {
        let digest = match self.manifest {
            ManifestDigest::Sha1 => digests.sha1,
            ManifestDigest::Sha256 => digests.sha256,
        };
        digest.unwrap_or_default()
    }

    fn progress(&self) -> Progress {
        Progress { done: 0, total: self.disk.data_bytes() }
    }

    /// Builds the descriptive members with their maximum lengths, before the length of the disk is known.
    fn draft(&self) -> Result<Papers, Error> {
        self.papers(self.disk.length_limit(), &"0".repeat(self.manifest.digits()), 0)
    }

    /// Builds the descriptive members for a disk file of `length` bytes. The descriptor is filled up to
    /// `at_least` bytes with line ends, which are allowed after the end of an XML document.
    fn papers(&self, length: u64, digest: &str, at_least: usize) -> Result<Papers, Error> {
        let mut descriptor = self.appliance.descriptor(DiskFile {
            name: self.disk.name(),
            length,
            capacity: self.disk.virtual_size(),
            populated: self.disk.data_bytes(),
        })?;
        let full = descriptor.len().max(at_least);
        descriptor.resize(full, b'\n');
        let own = self.digest(Digests::of(&descriptor, self.kinds()));
        let files = [(&*self.part("ovf"), &*own), (self.disk.name(), digest)];
        let manifest = self.manifest.manifest(&files);
        let signature = self.signature.as_ref().map(|signature| (signature.sign)(&manifest));
        Ok(Papers { descriptor, signature: signature.transpose()?, manifest })
    }

    fn named<'a>(&self, papers: &'a Papers) -> Vec<(String, &'a [u8])> {
        let mut out = vec![
            (self.part("ovf"), papers.descriptor.as_slice()),
            (self.part("mf"), papers.manifest.as_slice()),
        ];
        let names = self.signature.iter().map(|signature| signature.name.clone());
        out.extend(names.zip(papers.signature.as_deref()));
        out
    }

    /// Returns the number of bytes that the descriptive members need in an OVA.
    fn room(&self, papers: &Papers) -> u64 {
        self.named(papers).iter().map(|(_, bytes)| stored(bytes.len() as u64)).sum()
    }

    /// Writes the disk after the reserved space; returns its length and digest.
    fn put_disk(&self, out: &mut Output, room: u64, stamp: &Stamp) -> Result<(u64, String), Error> {
        let start = room + tar::BLOCK;
        out.extend_to(start)?;
        let mut hashes = Hashes::new(self.kinds());
        self.disk.append_to(out, &mut hashes, &mut self.progress())?;
        let length = out.end() - start;
        let header = tar::header(self.disk.name(), length, Flavour::Ustar, stamp)?;
        out.write_at(&header, room)?;
        out.extend_to(start + length + tar::padding(length))?;
        Ok((length, self.digest(hashes.finish())))
    }

    fn put_member(
        &self,
        out: &mut Output,
        name: &str,
        bytes: &[u8],
        stamp: &Stamp,
    ) -> Result<(), Error> {
        let length = bytes.len() as u64;
        out.append(&tar::header(name, length, Flavour::Ustar, stamp)?)?;
        out.append(bytes)?;
        let end = out.end();
        out.extend_to(end + tar::padding(length))
    }
}

/// Returns the number of bytes that a member of `length` bytes needs in a tar archive.
fn stored(length: u64) -> u64 {
    tar::BLOCK + length.next_multiple_of(tar::BLOCK)
}
