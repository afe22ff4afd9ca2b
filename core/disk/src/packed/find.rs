//! Opens a file that may have layers around a disk image.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::pour::{
    MOST_MEMBERS, Pouring, file_name, is_descriptor, is_manifest, is_pax_sparse, member_name,
    named, pax_sparse, short_text, too_many,
};
use super::tap::{End, Seen, Tap};
use super::unpack::{CHUNK, Output, Packed};
use super::wrapping::{HEAD, Wrapping, wrapping_of};
use crate::error::{Error, Kind};
use crate::format::{Image, LockedFile};
use crate::ovf::{Digests, Hashed, Machine, Manifest};
use crate::stamp::FileStamp;

/// The disk image inside a file.
#[derive(Debug)]
pub struct Found {
    /// Where it is.
    pub content: Content,
    /// Name of the member of the archive.
    pub member: Option<String>,
    /// The machine that the archive describes (OVF).
    pub machine: Option<Machine>,
    /// Whether every byte of the file was passed to `seen`, in order. An archive with a table of contents is not read
    /// that way.
    pub streamed: bool,
}

/// Where a disk image is.
#[derive(Debug)]
pub enum Content {
    /// In the file, as it is.
    InPlace {
        /// The file, narrowed to the image.
        file: LockedFile,
    },
    /// In another file.
    Unpacked {
        /// A file without a name that holds the image.
        file: File,
        /// The length of the image in bytes.
        len: u64,
        /// The stamp of the packed file, which was the same from the first byte read to the last.
        source: FileStamp,
    },
}

/// Finds the disk image inside `path`, which has layers around it. What must be unpacked is written to a file without a
/// name in `directory`, with holes for zeros. `member` names the disk in an archive with several.
///
/// # Errors
/// [`Kind::Truncated`] when the packed data ends too early, [`Kind::Malformed`] when it is damaged or followed by other
/// data, [`Kind::Unsupported`] for an archive without a disk or with several, [`Kind::NoSpace`] before the file system
/// is full, [`Kind::Busy`] when another process has the file open for writing according to qemu's rules, and
/// [`Kind::Changed`] when it was written or replaced while it was read.
pub fn find(
    path: &Path,
    directory: &Path,
    member: Option<&str>,
    seen: Seen<'_>,
) -> Result<Found, Error> {
    let image = Image::open_locked(path)?;
    let packed = Packed { path, end: End::default() };
    let work = Work { image: &image, directory, pouring: Pouring::new(&packed, member) };
    let result = match wrapping_of(&image)? {
        Some(Wrapping::Tar) => work.tar(seen),
        Some(Wrapping::Zip) => work.zip(seen),
        Some(_) => work.stream(seen),
        None => Err(Error::new(Kind::Unsupported, "no layer is around the content of").at(path)),
    };
    // A change is the cause of detected damage, and of damage that is not detected.
    if !matches!(&result, Err(error) if error.kind() == Kind::Cancelled) {
        image.check_unchanged()?;
    }
    let (place, pouring, streamed) = result?;
    let (member, machine) = (pouring.member, pouring.machine);
    let content = match place {
        Place::Range(base, len) => {
            Content::InPlace { file: LockedFile::of(image).narrowed(base, len)? }
        }
        Place::File(file, len) => Content::Unpacked { file, len, source: image.stamp },
    };
    Ok(Found { content, member, machine, streamed })
}

/// Where a disk is that was found.
pub(super) enum Place {
    /// Offset and length in the file.
    Range(u64, u64),
    File(File, u64),
}

/// The search for the disk in an open file.
pub(super) struct Work<'a, 'p> {
    pub(super) image: &'a Image,
    pub(super) directory: &'a Path,
    pub(super) pouring: Pouring<'a, 'p>,
}

pub(super) type Done<'a, 'p> = (Place, Pouring<'a, 'p>, bool);

/// A member of an archive with a table of contents.
struct Listed {
    name: String,
    index: usize,
    /// Offset and length of its bytes, if they are stored as they are.
    range: Option<(u64, u64)>,
    /// Whether it is stored in a way that is not read: sparse (tar), encrypted (zip).
    unreadable: bool,
}

impl<'a, 'p> Work<'a, 'p> {
    fn open(&self) -> Result<File, Error> {
        let path = &self.image.path;
        let opened = self.image.file.try_clone().and_then(|mut file| file.rewind().map(|()| file));
        opened.map_err(|source| Error::io("cannot open", path, source))
    }

    /// Unpacks a compressed file from its first byte to its last.
    fn stream(mut self, seen: Seen<'_>) -> Result<Done<'a, 'p>, Error> {
        let mut tap = Tap::new(self.open()?, u64::MAX, seen, &self.pouring.packed.end);
        let mut output = Output::create(self.directory)?;
        self.pouring.pour(&mut tap, &mut output, 0)?;
        Ok((Place::File(output.file, output.len), self.pouring, true))
    }

    /// Finds the member of a tar archive without reading the others.
    fn tar(mut self, seen: Seen<'_>) -> Result<Done<'a, 'p>, Error> {
        let packed = self.pouring.packed;
        let tar_error = |error| packed.error(named("tar", error));
        let mut archive = tar::Archive::new(self.open()?);
        let (mut members, mut described) = (Vec::new(), None);
        for (index, entry) in archive.entries_with_seek().map_err(tar_error)?.enumerate() {
            let mut entry = entry.map_err(tar_error)?;
            let Some(name) = member_name(&entry) else { continue };
            if members.len() == MOST_MEMBERS {
                return Err(too_many(packed.path));
            }
            if is_descriptor(&name) && self.pouring.machine.is_none() {
                let text = short_text(&mut entry).map_err(tar_error)?;
                self.pouring.describe(&text)?;
                described = Some((name.clone(), Digests::of(&text)));
            }
            if is_manifest(&name) && self.pouring.manifest.is_empty() {
                self.pouring.manifest =
                    Manifest::parse(&short_text(&mut entry).map_err(tar_error)?);
            }
            let is_sparse = entry.header().entry_type().is_gnu_sparse();
            let range = (!is_sparse).then(|| (entry.raw_file_position(), entry.size()));
            let unreadable = is_pax_sparse(&mut entry);
            members.push(Listed { name, index, range, unreadable });
        }
        described.iter().try_for_each(|(name, digests)| self.pouring.compare(name, digests))?;
        let chosen = self.choose(&members)?;
        match chosen.range {
            _ if chosen.unreadable => Err(pax_sparse(packed.path)),
            Some((base, len)) => {
                if self.pouring.manifest.lists(file_name(&chosen.name)) {
                    let mut member = self.section(base)?.take(len);
                    self.read_whole(&mut member, "tar", &mut *seen)?;
                }
                self.range(base, len, seen)
            }
            None => {
                let mut archive = tar::Archive::new(self.open()?);
                let mut entries = archive.entries_with_seek().map_err(tar_error)?;
                let entry = entries.nth(chosen.index);
                let mut entry = entry
                    .ok_or_else(|| tar_error(io::ErrorKind::UnexpectedEof.into()))?
                    .map_err(tar_error)?;
                self.unpack(&mut entry, seen)
            }
        }
    }

    /// Finds the member of a zip archive by its central directory.
    pub(super) fn zip(mut self, seen: Seen<'_>) -> Result<Done<'a, 'p>, Error> {
        let packed = self.pouring.packed;
        let zip_error = |error: zip::result::ZipError| packed.error(named("zip", error.into()));
        let mut archive = zip::ZipArchive::new(self.open()?).map_err(zip_error)?;
        let mut members = Vec::new();
        if archive.len() > MOST_MEMBERS {
            return Err(too_many(packed.path));
        }
        for index in 0..archive.len() {
            let file = archive.by_index_raw(index).map_err(zip_error)?;
            if !file.is_file() {
                continue;
            }
            let name = String::from_utf8_lossy(file.name_raw()).into_owned();
            let stored = file.compression() == zip::CompressionMethod::Stored && !file.encrypted();
            let range = file.data_start().filter(|_| stored).map(|start| (start, file.size()));
            members.push(Listed { name, index, range, unreadable: file.encrypted() });
        }
        let descriptor = members.iter().find(|member| is_descriptor(&member.name));
        if let Some(descriptor) = descriptor {
            let mut file = archive.by_index(descriptor.index).map_err(zip_error)?;
            let text = short_text(&mut file).map_err(|error| packed.error(named("zip", error)))?;
            self.pouring.describe(&text)?;
        }
        let chosen = self.choose(&members)?;
        match chosen.range {
            _ if chosen.unreadable => {
                let message = format!("the member `{}` is encrypted in", chosen.name);
                let error = Error::new(Kind::Unsupported, message).at(packed.path);
                Err(error.with_hint("extract it first, and give the disk in it"))
            }
            Some((base, len)) => {
                let mut file = archive.by_index(chosen.index).map_err(zip_error)?;
                // Its end is where the reader compares the checksum.
                self.read_whole(&mut file, "zip", &mut *seen)?;
                drop(file);
                self.range(base, len, seen)
            }
            None => {
                let mut file = archive.by_index(chosen.index).map_err(zip_error)?;
                self.unpack(&mut file, seen)
            }
        }
    }

    fn choose<'l>(&mut self, members: &'l [Listed]) -> Result<&'l Listed, Error> {
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        let name = self.pouring.choice.of(&self.image.path, &names)?;
        self.pouring.member = Some(name.to_owned());
        let chosen = members.iter().find(|member| member.name == name);
        chosen.ok_or_else(|| self.pouring.choice.none(&self.image.path, &names))
    }

    /// Opens the file at an offset.
    fn section(&self, base: u64) -> Result<File, Error> {
        let mut file = self.open()?;
        file.seek(SeekFrom::Start(base))
            .map_err(|source| Error::io("cannot read", &self.image.path, source))?;
        Ok(file)
    }

    /// Reads a member to its end, and compares it with the checksum of the archive and with the manifest.
    fn read_whole(
        &self,
        member: &mut dyn Read,
        layer: &'static str,
        seen: Seen<'_>,
    ) -> Result<(), Error> {
        let packed = self.pouring.packed;
        let read = |member: &mut dyn Read| {
            let mut source = BufReader::with_capacity(CHUNK, member);
            let read = io::copy(&mut source, &mut io::sink());
            read.map_err(|error| packed.error(named(layer, error)))
        };
        let mut watched = Watched { source: member, seen, end: packed.end.clone() };
        let name = self.pouring.member.as_deref().unwrap_or_default();
        if !self.pouring.manifest.lists(file_name(name)) {
            return read(&mut watched).map(drop);
        }
        let mut hashed =
            Hashed::new(&mut watched, self.pouring.manifest.digests_of(file_name(name)));
        read(&mut hashed)?;
        self.pouring.compare(name, &hashed.digests())
    }

    /// Uses a member that is stored as it is, or unpacks it if it is compressed itself.
    fn range(mut self, base: u64, len: u64, seen: Seen<'_>) -> Result<Done<'a, 'p>, Error> {
        if !self.image.holds(base, len) {
            return Err(self.image.truncated("the archive", base.saturating_add(len)));
        }
        let most = HEAD.min(usize::try_from(len).unwrap_or(HEAD));
        if Wrapping::of(&self.image.part(base, most)?).is_none() {
            return Ok((Place::Range(base, len), self.pouring, false));
        }
        let mut tap = Tap::new(self.section(base)?, len, seen, &self.pouring.packed.end);
        let mut output = Output::create(self.directory)?;
        let member = self.pouring.member.take();
        self.pouring.pour(&mut tap, &mut output, 1)?;
        self.pouring.member = member;
        Ok((Place::File(output.file, output.len), self.pouring, false))
    }

    /// Unpacks a member through the archive's reader.
    fn unpack(mut self, member: &mut dyn Read, seen: Seen<'_>) -> Result<Done<'a, 'p>, Error> {
        let mut output = Output::create(self.directory)?;
        let mut watched = Watched { source: member, seen, end: self.pouring.packed.end.clone() };
        let name = self.pouring.member.take();
        self.pouring.pour(&mut watched, &mut output, 1)?;
        self.pouring.member = name;
        Ok((Place::File(output.file, output.len), self.pouring, false))
    }
}

/// A member whose bytes are counted as they are read.
struct Watched<'a> {
    source: &'a mut dyn Read,
    seen: Seen<'a>,
    end: End,
}

impl Read for Watched<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.source.read(buf)?;
        if got > 0 && (self.seen)(&buf[..got]).is_break() {
            self.end.stop();
            return Err(io::Error::other("stopped"));
        }
        Ok(got)
    }
}
