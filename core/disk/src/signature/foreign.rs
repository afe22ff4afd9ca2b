//! Recognises files that must not be taken for raw disks: formats that this crate does not read, archives, programs.

use crate::packed::{HEAD, Wrapping};

/// A format with what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Foreign {
    /// The name, with an article where it needs one.
    pub name: &'static str,
    /// What the user can do, as an imperative without a full stop.
    pub remedy: &'static str,
}

/// From where the offset of a signature counts.
#[derive(Clone, Copy)]
enum From {
    Start(u64),
    End(u64),
}

/// One row: place, bytes, name, remedy.
type Row = (From, &'static [u8], &'static str, &'static str);

const CONVERT: &str = "convert it, as with `qemu-img convert -O qcow2 FILE OUT`";
const EXPORT: &str = "clone the disk on the host, as with `vmkfstools -i`, or export the machine";
const EXTRACT: &str = "extract it first and give the disk in it";
const UNPACK: &str = "unpack it first";
const PROGRAM: &str = "give a disk image or, with -i, an installer ISO";

/// The table. The first row that matches wins.
const ROWS: &[Row] = &[
    (From::Start(0), b"QED\0", "a QED image", CONVERT),
    (From::Start(0), b"WithoutFreeSpace", "a Parallels image", CONVERT),
    (From::Start(0), b"WithouFreSpacExt", "a Parallels image", CONVERT),
    (From::Start(0), b"Bochs Virtual HD Image", "a Bochs image", CONVERT),
    (From::Start(0), b"#!/bin/sh\n#V2.0 Format\n", "a cloop image", CONVERT),
    (
        From::End(512),
        b"koly",
        "an Apple disk image (DMG)",
        "convert it, as with `qemu-img convert -O raw FILE OUT`",
    ),
    (From::Start(0), b"COWD", "a snapshot extent of VMware ESX", EXPORT),
    (
        From::Start(0),
        &[0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0],
        "an SEsparse extent of VMware ESX",
        EXPORT,
    ),
    (
        From::Start(0),
        b"LUKS\xba\xbe",
        "an encrypted disk (LUKS)",
        "decrypt it first, as with `cryptsetup open`; a disk that stays encrypted as a whole needs --disk-format raw",
    ),
    (
        From::Start(0),
        &[0x3a, 0xff, 0x26, 0xed],
        "an Android sparse image",
        "convert it, as with `simg2img FILE OUT`",
    ),
    (
        From::Start(0),
        b"partclone-image",
        "a partclone image",
        "restore it to a disk first, as with `partclone.restore`",
    ),
    (
        From::Start(0),
        b"MSWIM\0\0\0",
        "a Windows image (WIM)",
        "install it to a disk first, and give that disk",
    ),
    (
        From::Start(0),
        b"EVF\x09\x0d\x0a\xff\0",
        "an EnCase image (E01)",
        "export it, as with `ewfexport -f raw`",
    ),
    (From::Start(0), b"LZIP", "an lzip file", UNPACK),
    (From::Start(0), b"7z\xbc\xaf\x27\x1c", "a 7z archive", EXTRACT),
    (From::Start(0), b"Rar!\x1a\x07", "a RAR archive", EXTRACT),
    (From::Start(0), b"070701", "a cpio archive", EXTRACT),
    (From::Start(0), b"070702", "a cpio archive", EXTRACT),
    (From::Start(0), b"!<arch>\n", "an ar archive or a Debian package", EXTRACT),
    (From::Start(0), &[0xed, 0xab, 0xee, 0xdb], "an RPM package", EXTRACT),
    (From::Start(0), b"%PDF-", "a PDF document", PROGRAM),
    (From::Start(0), b"\x7fELF", "a program (ELF)", PROGRAM),
    (From::Start(0x202), b"HdrS", "a Linux kernel", PROGRAM),
    (
        From::Start(0),
        b"<!DOCTYPE",
        "a web page",
        "download the file itself: a server has answered with a page",
    ),
    (
        From::Start(0),
        b"<!doctype",
        "a web page",
        "download the file itself: a server has answered with a page",
    ),
    (
        From::Start(0),
        b"<html",
        "a web page",
        "download the file itself: a server has answered with a page",
    ),
    (
        From::Start(32769),
        b"CD001",
        "an ISO image",
        "give an installer ISO with -i; a disk that starts from this ISO needs --disk-format raw",
    ),
];

/// Recognises a file that is not a raw disk, of `length` bytes. `head` returns bytes from an offset, fewer at the end.
///
/// # Errors
/// Those of `head`.
pub fn foreign<E>(
    length: u64,
    mut head: impl FnMut(u64, usize) -> Result<Vec<u8>, E>,
) -> Result<Option<Foreign>, E> {
    for (place, bytes, name, remedy) in ROWS {
        let at = match place {
            From::Start(at) => Some(*at),
            From::End(back) => length.checked_sub(*back),
        };
        if let Some(at) = at
            && head(at, bytes.len())? == *bytes
        {
            return Ok(Some(Foreign { name, remedy }));
        }
    }
    // Layers that are inside more layers, or in an archive, than are followed.
    let wrapping = Wrapping::of(&head(0, HEAD)?);
    Ok(wrapping.map(|wrapping| Foreign {
        name: wrapping.described(),
        remedy: if wrapping.is_archive() { EXTRACT } else { UNPACK },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(file: &[u8]) -> Option<&'static str> {
        let head = |at: u64, most: usize| {
            let at = usize::try_from(at).unwrap().min(file.len());
            Ok::<_, ()>(file[at..(at + most).min(file.len())].to_vec())
        };
        foreign(file.len() as u64, head).unwrap().map(|found| found.name)
    }

    #[test]
    fn every_row_is_found_and_none_hides_behind_another() {
        for (place, bytes, name, remedy) in ROWS {
            let mut file = vec![0; 40_000];
            let at = match place {
                From::Start(at) => usize::try_from(*at).unwrap(),
                From::End(back) => file.len() - usize::try_from(*back).unwrap(),
            };
            file[at..at + bytes.len()].copy_from_slice(bytes);
            assert_eq!(name_of(&file), Some(*name));
            assert!(!remedy.ends_with('.') && !remedy.is_empty(), "{name}");
        }
        assert_eq!(name_of(&[]), None);
        assert_eq!(name_of(&[0; 70_000]), None);
    }
}
