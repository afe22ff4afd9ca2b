//! Reads the disk as the guest sees it, independent of the format of the file.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::content::Content;
use super::image::Image;
use super::lock::LockedFile;
use super::probe::find;
use super::{Format, Probe, raw};
use crate::error::{Error, Kind};
use crate::field::index;
use crate::stamp::FileStamp;

/// A range of the guest's disk that starts at the requested offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Length in bytes, never 0.
    pub len: u64,
    /// Whether the range is known to read as zeros. With `false` it may still be zeros.
    pub zero: bool,
}

/// Read access to the guest content of an image of any [`Format`] that has been fully checked.
///
/// Can be shared between threads; every read specifies its offset.
/// A clone reads the same open file.
#[derive(Clone, Debug)]
pub struct GuestReader {
    opened: Arc<Opened>,
    /// The virtual size of the disk: the size of the content, or larger.
    size: u64,
}

#[derive(Debug)]
struct Opened {
    image: Image,
    probe: Probe,
    content: Box<dyn Content>,
}

impl GuestReader {
    /// Probes `path` and opens it; refuses an incomplete image (backing file) and an encrypted one.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_as(path, None)
    }

    /// As [`Self::open`]; with a `format` the file is opened as that format, whatever its first bytes are.
    pub fn open_as(path: &Path, format: Option<Format>) -> Result<Self, Error> {
        Self::of(Image::open(path)?, format)
    }

    /// Opens a file that is already open and locked. The other files of the disk are locked too, before
    /// anything is read from them. With a `format` it is opened as that format, whatever its first bytes are.
    pub fn open_file(file: LockedFile, format: Option<Format>) -> Result<Self, Error> {
        Self::of(file.0, format)
    }

    /// Opens a file that was unpacked from the file at `path`, which had this stamp when it was read. Errors
    /// name `path`, and other files of the disk are searched for beside it. `format` as in [`Self::open_file`].
    pub fn open_unpacked(
        file: File,
        path: &Path,
        stamp: FileStamp,
        format: Option<Format>,
    ) -> Result<Self, Error> {
        Self::of(Image::nameless(file, path, stamp)?, format)
    }

    fn of(image: Image, format: Option<Format>) -> Result<Self, Error> {
        let known = match format {
            None => find(&image)?,
            Some(Format::Raw) => return Ok(Self::raw(image)),
            Some(format) => {
                let known = find(&image)?;
                if (known.probe)(&image)?.format != format {
                    let message =
                        format!("{format} is requested, but this is not a {format} image:");
                    return Err(Error::new(Kind::Unsupported, message).at(&image.path));
                }
                known
            }
        };
        let probe = (known.probe)(&image)?;
        let content = (known.open)(&image)?;
        let size = content.virtual_size();
        Ok(Self { opened: Arc::new(Opened { image, probe, content }), size })
    }

    /// Opens `path` as a raw disk, whatever its first bytes are: a disk made here is raw even if its guest
    /// wrote the signature of an image format to its first sector.
    pub fn open_raw(path: &Path) -> Result<Self, Error> {
        Ok(Self::raw(Image::open(path)?))
    }

    fn raw(image: Image) -> Self {
        let probe = Probe::new(Format::Raw, &image, image.len);
        let (size, content) = (image.len, raw::open(&image));
        Self { opened: Arc::new(Opened { image, probe, content }), size }
    }

    /// Extends the disk with zeros up to `size` bytes. Nothing is written.
    pub fn grown_to(self, size: u64) -> Result<Self, Error> {
        let now = self.stored_size();
        if size < now {
            let message = format!("a disk of {now} bytes is not made smaller, to {size} bytes:");
            return Err(Error::new(Kind::Unsupported, message)
                .at(self.path())
                .with_hint("shrink its file systems and partitions, then the file itself"));
        }
        if !size.is_multiple_of(512) {
            let message = format!("{size} bytes is no disk size (a multiple of 512) for");
            return Err(Error::new(Kind::Unsupported, message).at(self.path()));
        }
        Ok(Self { size, ..self })
    }

    /// Returns the result of [`super::probe`] for the file.
    pub fn probe(&self) -> &Probe {
        &self.opened.probe
    }

    /// Returns the file that this reader was opened with.
    pub fn path(&self) -> &Path {
        &self.opened.image.path
    }

    /// Returns every file whose bytes are part of the disk; the first one is [`GuestReader::path`].
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources().map(|(path, _)| path)
    }

    /// Returns the same files with their stamps from the time they were opened. For an unpacked disk: the
    /// packed file.
    pub fn sources(&self) -> impl Iterator<Item = (&Path, FileStamp)> {
        self.images().map(|image| (image.path.as_path(), image.stamp))
    }

    /// Checks that the files are those that were opened, and that no process wrote to them since.
    ///
    /// Fails with [`Kind::Changed`], which names the file. After a successful check, all bytes read before it
    /// are those that the disk had when it was opened.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        self.images().try_for_each(Image::check_unchanged)
    }

    fn images(&self) -> impl Iterator<Item = &Image> {
        std::iter::once(&self.opened.image).chain(self.opened.content.other_files())
    }

    /// Returns the size of the guest's disk in bytes.
    pub fn virtual_size(&self) -> u64 {
        self.size
    }

    /// Returns the size of the content that the image stores, in bytes; smaller than [`Self::virtual_size`]
    /// if the disk was extended.
    pub fn stored_size(&self) -> u64 {
        self.opened.content.virtual_size()
    }

    /// Fills `buf` from guest offset `offset`; returns fewer bytes only at the end of the disk.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        let left = self.size.saturating_sub(offset).min(buf.len() as u64);
        let whole = index(left);
        let Opened { image, content, .. } = &*self.opened;
        let stored = content.virtual_size().saturating_sub(offset).min(left);
        let (piece, stored) = (content.piece(), index(stored));
        let mut done = 0;
        while done < stored {
            let at = offset + done as u64;
            let len = index((piece - at % piece).min((stored - done) as u64));
            content.read(image, &mut buf[done..done + len], at)?;
            done += len;
        }
        buf[stored..whole].fill(0);
        Ok(whole)
    }

    /// Returns the extent at guest offset `offset`: holes and unallocated clusters are known without reading.
    /// `None` at the end of the disk.
    pub fn extent_at(&self, offset: u64) -> Result<Option<Extent>, Error> {
        if offset >= self.size {
            return Ok(None);
        }
        if offset >= self.stored_size() {
            return Ok(Some(Extent { len: self.size - offset, zero: true }));
        }
        self.opened.content.extent(&self.opened.image, offset).map(Some)
    }
}
