//! Inspects a plugin file before it is opened: a truncated library kills the process inside `dlopen`, a library
//! for another CPU fails with a misleading text, and a library that is not a plugin would run its constructors.
//! Reads metadata without running any code.
//!
//! Source: System V ABI, chapters "Object Files" and "Program Loading", 64-bit little-endian layout.

use std::{fs::File, os::unix::fs::FileExt as _};

use serde::{Deserialize, Serialize};

use super::import::{LoadErrorKind, Problem};

/// The symbol that a plugin exports.
const SYMBOL: &[u8] = b"_1as_0lib_1header_0root_bmodule_bloader\0";
/// The section that contains the metadata text.
const SECTION: &[u8] = b".build_image\0";
/// Largest metadata and string table that are read, in bytes.
const LIMIT: u64 = 64 << 20;

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// Metadata in a plugin's file, readable without loading it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PluginMetadata {
    /// Cargo package that it was built from.
    pub package: String,
    /// Version of that package.
    pub version: String,
    /// ABI that it was built with.
    pub abi: String,
}

/// Result of inspecting a file that has the structure of a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ElfReport {
    /// The metadata section; absent when the file has no such section.
    pub metadata: Option<PluginMetadata>,
}

/// Checks the ELF header, that all loadable segments are inside the file, and that the plugin symbol exists.
pub(super) fn inspect(file: &File) -> Result<ElfReport, Problem> {
    let elf = Elf::open(file)?;
    if !elf.section(b".dynstr\0")?.windows(SYMBOL.len()).any(|window| window == SYMBOL) {
        return Err(Problem::new(
            LoadErrorKind::NotAPlugin,
            "the library exports no build-image provider",
        )
        .hint("a provider crate needs `export_provider!` and crate-type `cdylib`"));
    }
    Ok(ElfReport { metadata: serde_json::from_slice(&elf.section(SECTION)?).ok() })
}

/// A library for this machine with a valid header and valid segments.
pub(super) struct Elf<'a> {
    file: &'a File,
    length: u64,
    sections: Vec<Section>,
    names: Vec<u8>,
}

impl<'a> Elf<'a> {
    pub(super) fn open(file: &'a File) -> Result<Self, Problem> {
        let length = file.metadata().map_err(|error| unreadable(&error))?.len();
        if length == 0 {
            return Err(Problem::new(LoadErrorKind::NotElf, "the file is empty"));
        }
        let mut header = [0; 64];
        if length < 64 || read(file, &mut header, 0).is_err() || header[..4] != *b"\x7fELF" {
            return Err(Problem::new(LoadErrorKind::NotElf, "the file is not an ELF library"));
        }
        check_header(&header)?;
        check_segments(file, &header, length)?;
        let sections = sections(file, &header, length)?;
        let names = section_bytes(file, sections.get(usize::from(half(&header, 62))), length)?;
        Ok(Self { file, length, sections, names })
    }

    /// Returns the bytes of a section, whose name ends with a zero byte; empty when the section does not exist.
    pub(super) fn section(&self, name: &[u8]) -> Result<Vec<u8>, Problem> {
        let has_name = |section: &&Section| {
            self.names.get(section.name..).is_some_and(|found| found.starts_with(name))
        };
        section_bytes(self.file, self.sections.iter().find(has_name), self.length)
    }
}

fn check_header(header: &[u8; 64]) -> Result<(), Problem> {
    if header[4] != 2 || header[5] != 1 {
        return Err(Problem::new(
            LoadErrorKind::WrongMachine,
            "the library is not 64-bit little-endian",
        ));
    }
    let machine = half(header, 18);
    if machine != MACHINE {
        return Err(Problem::new(
            LoadErrorKind::WrongMachine,
            format!(
                "the library is for {}, this machine is {}",
                machine_name(machine),
                machine_name(MACHINE)
            ),
        )
        .hint("get the provider's build for this machine"));
    }
    if half(header, 16) != 3 {
        return Err(Problem::new(LoadErrorKind::NotElf, "the file is no shared library"));
    }
    Ok(())
}

fn check_segments(file: &File, header: &[u8; 64], length: u64) -> Result<(), Problem> {
    let (offset, size, count) = (word(header, 32), half(header, 54), half(header, 56));
    for index in 0..u64::from(count) {
        let mut segment = [0; 56];
        let at = offset.saturating_add(index * u64::from(size));
        read(file, &mut segment, at).map_err(|_| truncated(at.saturating_add(56), length))?;
        let end = word(&segment, 8).saturating_add(word(&segment, 32));
        let loadable = segment[..4] == [1, 0, 0, 0];
        if loadable && end > length {
            return Err(truncated(end, length));
        }
    }
    Ok(())
}

struct Section {
    name: usize,
    offset: u64,
    size: u64,
}

fn sections(file: &File, header: &[u8; 64], length: u64) -> Result<Vec<Section>, Problem> {
    let (offset, size, count) = (word(header, 40), half(header, 58), half(header, 60));
    let mut found = Vec::with_capacity(usize::from(count));
    for index in 0..u64::from(count) {
        let mut section = [0; 64];
        let at = offset.saturating_add(index * u64::from(size));
        read(file, &mut section, at).map_err(|_| truncated(at.saturating_add(64), length))?;
        let name = u32::from_le_bytes([section[0], section[1], section[2], section[3]]);
        found.push(Section {
            name: name as usize,
            offset: word(&section, 24),
            size: word(&section, 32),
        });
    }
    Ok(found)
}

fn section_bytes(file: &File, section: Option<&Section>, length: u64) -> Result<Vec<u8>, Problem> {
    let Some(section) = section else { return Ok(Vec::new()) };
    if section.size > LIMIT {
        return Err(Problem::new(
            LoadErrorKind::NotAPlugin,
            format!("a table of the library has {} bytes, which is absurd", section.size),
        ));
    }
    if section.offset.saturating_add(section.size) > length {
        return Err(truncated(section.offset.saturating_add(section.size), length));
    }
    let mut bytes = vec![0; usize::try_from(section.size).unwrap_or_default()];
    read(file, &mut bytes, section.offset).map_err(|error| unreadable(&error))?;
    Ok(bytes)
}

fn read(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    file.read_exact_at(bytes, offset)
}

fn unreadable(error: &std::io::Error) -> Problem {
    Problem::new(LoadErrorKind::Unreadable, format!("the file cannot be read: {error}"))
}

fn truncated(needed: u64, length: u64) -> Problem {
    Problem::new(
        LoadErrorKind::Truncated,
        format!("the library is truncated: it needs {needed} bytes, the file has {length}"),
    )
    .hint("copy the file again")
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

fn machine_name(machine: u16) -> String {
    match machine {
        3 => "x86".to_owned(),
        40 => "arm".to_owned(),
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "riscv".to_owned(),
        other => format!("machine {other}"),
    }
}
