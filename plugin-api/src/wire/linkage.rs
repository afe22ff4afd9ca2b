//! Reads the exports and imports of a library, its dynamic symbol table and its needed libraries, without loading
//! it.
//!
//! Source: System V ABI, chapter "Dynamic Linking", 64-bit little-endian layout.

use std::fs::File;

use super::{
    elf::{Elf, word},
    import::Problem,
};

/// Tag of a needed library in the dynamic section.
const NEEDED: u64 = 1;
/// Size in bytes of an entry of the symbol table and of the dynamic section.
const SYMBOL_BYTES: usize = 24;
const DYNAMIC_BYTES: usize = 16;

/// Names that the system's loader uses to link a library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Linkage {
    /// Symbols that others can bind to.
    pub exports: Vec<String>,
    /// Symbols that it imports.
    pub imports: Vec<String>,
    /// Libraries it needs.
    pub needed: Vec<String>,
}

impl Linkage {
    /// Reads the tables of a library.
    ///
    /// # Errors
    /// When the file is not a valid library.
    pub fn of(file: &File) -> Result<Self, crate::LoadError> {
        Self::read(file).map_err(|problem| problem.at(std::path::Path::new("")))
    }

    fn read(file: &File) -> Result<Self, Problem> {
        let elf = Elf::open(file)?;
        let strings = elf.section(b".dynstr\0")?;
        let mut linkage = Self::default();
        for symbol in elf.section(b".dynsym\0")?.chunks_exact(SYMBOL_BYTES).skip(1) {
            let name = u32::from_le_bytes([symbol[0], symbol[1], symbol[2], symbol[3]]);
            let name = text(&strings, name as usize);
            let (global, visible) = (matches!(symbol[4] >> 4, 1 | 2), symbol[5] & 3 == 0);
            let defined = symbol[6..8] != [0, 0];
            match (defined, global && visible) {
                (true, true) => linkage.exports.push(name),
                (false, _) => linkage.imports.push(name),
                (true, false) => {}
            }
        }
        for entry in elf.section(b".dynamic\0")?.chunks_exact(DYNAMIC_BYTES) {
            if word(entry, 0) == NEEDED {
                let at = usize::try_from(word(entry, 8)).unwrap_or(usize::MAX);
                linkage.needed.push(text(&strings, at));
            }
        }
        Ok(linkage)
    }
}

fn text(strings: &[u8], at: usize) -> String {
    let bytes = strings.get(at..).unwrap_or_default();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
