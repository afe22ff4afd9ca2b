//! Computes the content of a layer before its compression: the disk alone, or a tar archive with the disk, which is
//! never written anywhere.
//!
//! The archive has the members `disk/` and `disk/disk.img` (KubeVirt user guide, "containerDisk": the disk is the only
//! file in `/disk`, readable by user 107, as which qemu runs). Its headers are those of GNU tar, whose sizes have no
//! limit; dates are 0, so that equal disks are equal layers.

use build_image_plugin_api::{Context, Disk, Error, Result};

use crate::config::Kind;

/// Bytes of a tar block.
const BLOCK: u64 = 512;
/// User and group that own the disk in a container disk.
const OWNER: u64 = 107;
/// The archive ends with two empty blocks.
const END: u64 = 2 * BLOCK;
/// Largest number that an octal field of 11 digits holds.
const LARGEST_OCTAL: u64 = (1 << 33) - 1;

/// The content of a layer.
#[derive(Clone)]
pub(crate) struct Source {
    context: Context,
    disk: Disk,
    /// What precedes the disk.
    head: Vec<u8>,
    /// Zeros that follow it.
    tail: u64,
    /// Bytes of the disk; `None` while it is still being written.
    disk_length: Option<u64>,
}

impl Source {
    /// Returns the content for a disk. `length` is the number of bytes of the image file, if it is known.
    ///
    /// # Errors
    /// Internal error for an archive around a disk of unknown length.
    pub(crate) fn new(
        context: &Context,
        disk: &Disk,
        kind: Kind,
        length: Option<u64>,
    ) -> Result<Self> {
        let (context, disk) = (context.clone(), disk.clone());
        let (head, tail) = match (kind, length) {
            (Kind::Artifact, _) => (Vec::new(), 0),
            (Kind::ContainerDisk, Some(length)) => {
                let head = [
                    header(b"disk/", 0o555, 0, b'5'),
                    header(b"disk/disk.img", 0o440, length, b'0'),
                ];
                (head.concat(), (BLOCK - length % BLOCK) % BLOCK + END)
            }
            (Kind::ContainerDisk, None) => {
                return Err(Error::internal("the length of the disk is not known"));
            }
        };
        Ok(Self { context, disk, head, tail, disk_length: length })
    }

    /// Returns the number of bytes, if it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        self.disk_length.map(|length| self.head.len() as u64 + length + self.tail)
    }

    /// Fills a buffer; returns fewer bytes only at the end.
    ///
    /// # Errors
    /// When the disk cannot be read, or its length has changed.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let rest = buffer.get_mut(done..).unwrap_or_default();
            let read = self.read_part(offset + done as u64, rest)?;
            if read == 0 {
                break;
            }
            done += read;
        }
        Ok(done)
    }

    /// Reads from one of head, disk, and tail.
    fn read_part(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let head = self.head.len() as u64;
        if offset < head {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let part = self.head.get(start..).unwrap_or_default();
            let count = part.len().min(buffer.len());
            buffer[..count].copy_from_slice(&part[..count]);
            return Ok(count);
        }
        let at = offset - head;
        let Some(length) = self.disk_length else {
            return self.context.read_disk(&self.disk, at, buffer);
        };
        let fits = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if at < length {
            let count = fits(length - at);
            let read = self.context.read_disk(&self.disk, at, &mut buffer[..count])?;
            if read < count {
                let end = at + read as u64;
                return Err(Error::internal(format!("the disk image ends at byte {end}"))
                    .with_context("length", length));
            }
            return Ok(count);
        }
        let count = fits((length + self.tail).saturating_sub(at));
        buffer[..count].fill(0);
        Ok(count)
    }
}

/// Returns the header of a member.
fn header(name: &[u8], mode: u64, size: u64, kind: u8) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name);
    put(100, format!("{mode:07o}").as_bytes());
    put(108, format!("{OWNER:07o}").as_bytes());
    put(116, format!("{OWNER:07o}").as_bytes());
    if size <= LARGEST_OCTAL {
        put(124, format!("{size:011o}").as_bytes());
    } else {
        // Base 256, with a mark in the first byte.
        put(124, &[0x80]);
        put(128, &size.to_be_bytes());
    }
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar  \0");
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use build_image_plugin_api::{DiskSpec, testing::MockHost};

    use super::*;

    fn source(content: Vec<u8>, kind: Kind) -> Source {
        let length = content.len() as u64;
        let host = Arc::new(MockHost::new().with_disk(content));
        let context = host.context();
        let disk = context.make_disk(&DiskSpec::default()).unwrap();
        Source::new(&context, &disk, kind, Some(length)).unwrap()
    }

    #[test]
    fn reads_of_any_size_give_the_same_archive() {
        for length in [0, 1, 511, 512, 513, 4096] {
            let content: Vec<u8> = (0..=250).cycle().take(length).collect();
            let source = source(content.clone(), Kind::ContainerDisk);
            let total = usize::try_from(source.length().unwrap()).unwrap();
            assert_eq!((total % 512, total >= length + 2048), (0, true));
            let mut whole = vec![1; total + 10];
            assert_eq!(source.read_at(0, &mut whole).unwrap(), total);
            assert_eq!(&whole[1024..1024 + length], content);
            assert!(whole[1024 + length..total].iter().all(|&byte| byte == 0));
            for size in [1, 7, 512, 1000] {
                let (mut read, mut buffer) = (Vec::new(), vec![0; size]);
                loop {
                    let count = source.read_at(read.len() as u64, &mut buffer).unwrap();
                    read.extend_from_slice(&buffer[..count]);
                    if count < size {
                        break;
                    }
                }
                assert!(read == whole[..total], "{length} {size}");
            }
            assert_eq!(source.read_at(total as u64 + 5, &mut [0; 3]).unwrap(), 0);
        }
    }

    #[test]
    fn headers_are_those_that_gnu_tar_writes() {
        let small = header(b"disk/disk.img", 0o440, 0o1234, b'0');
        assert_eq!(&small[124..136], b"00000001234\0");
        let sum: u64 = small
            .iter()
            .enumerate()
            .map(|(at, &byte)| if (148..156).contains(&at) { 32 } else { u64::from(byte) })
            .sum();
        assert_eq!(&small[148..156], format!("{sum:06o}\0 ").as_bytes());
        let large = header(b"disk/disk.img", 0o440, 1 << 40, b'0');
        assert_eq!(&large[124..136], [0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(&header(b"a", 0, LARGEST_OCTAL, b'0')[124..136], b"77777777777\0");
    }

    #[test]
    fn a_disk_that_became_shorter_is_an_error_and_an_artifact_is_the_disk() {
        let mut short = source(vec![7; 100], Kind::ContainerDisk);
        short.disk_length = Some(200);
        let error = short.read_at(0, &mut [0; 2000]).unwrap_err();
        assert!(error.message.contains("ends at byte 100"), "{error}");
        let plain = source(vec![7; 100], Kind::Artifact);
        assert_eq!((plain.length(), plain.read_at(0, &mut [0; 200]).unwrap()), (Some(100), 100));
    }
}
