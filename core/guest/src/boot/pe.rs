//! Reads headers of UEFI programs: architecture, signature, and sections. Source: Microsoft, "PE Format".

use std::collections::BTreeMap;

use crate::bytes::{index, le16, le32, text};

/// Bytes of a program that are read for its headers.
pub(crate) const HEAD: usize = 32 << 10;
/// Maximum number of sections.
const MAX_SECTIONS: u16 = 96;
/// Position of the certificate table among the data directories.
const CERTIFICATES: usize = 4;

/// What the headers declare.
pub(crate) struct Program {
    /// The name of `uname -m`.
    pub(crate) architecture: Option<&'static str>,
    /// Whether there is a table of certificates; it is not verified.
    pub(crate) is_signed: bool,
    /// Sections with their offset and length in the file, in bytes.
    pub(crate) sections: BTreeMap<String, (u64, usize)>,
}

/// Parses the first bytes of a file; `None` if it is not a UEFI program.
pub(crate) fn parse(head: &[u8]) -> Option<Program> {
    if !head.starts_with(b"MZ") {
        return None;
    }
    let pe = index(le32(head, 0x3c)?.into());
    if head.get(pe..pe.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let coff = pe + 4;
    let optional = coff + 20;
    // 0x20b is the format with 64-bit addresses, whose header is 16 bytes longer.
    let directories = optional + if le16(head, optional)? == 0x20b { 112 } else { 96 };
    let count = index(le32(head, directories - 4)?.into());
    let certificates = directories + 8 * CERTIFICATES;
    let is_signed = count > CERTIFICATES
        && le32(head, certificates)? != 0
        && le32(head, certificates + 4)? != 0;
    let mut sections = BTreeMap::new();
    let table = optional + usize::from(le16(head, coff + 16)?);
    for number in 0..usize::from(le16(head, coff + 2)?.min(MAX_SECTIONS)) {
        let at = table + 40 * number;
        let Some(name) = head.get(at..at + 8) else { break };
        let (Some(virtual_len), Some(len), Some(offset)) =
            (le32(head, at + 8), le32(head, at + 16), le32(head, at + 20))
        else {
            break;
        };
        sections.insert(text(name), (offset.into(), index(len.min(virtual_len).into())));
    }
    let architecture = match le16(head, coff)? {
        0x8664 => Some("x86_64"),
        0x14c => Some("i386"),
        0xaa64 => Some("aarch64"),
        0x5064 => Some("riscv64"),
        _ => None,
    };
    Some(Program { architecture, is_signed, sections })
}

/// Returns the version in the header of a Linux kernel for x86. Source: Linux, Documentation/arch/x86/boot.rst.
pub(crate) fn kernel_version(head: &[u8]) -> Option<String> {
    if head.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let at = usize::from(le16(head, 0x20e)?).checked_add(0x200)?;
    let line = text(head.get(at..)?);
    let version = line.split_whitespace().next()?;
    (!version.is_empty()).then(|| version.to_owned())
}
