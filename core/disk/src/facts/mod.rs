//! Detects how a disk is partitioned, which firmware can boot it, and for which architecture it is. Reads
//! only the partition tables and the directory of the boot loaders. Nothing here is needed to read the disk,
//! so anything that cannot be interpreted is a remark, not an error.
//!
//! ```text
//! table.rs  boot record and GUID partition table, checked by its CRCs, or its backup
//! whole.rs  what tables and file systems place behind the end of the disk
//! fat.rs    the directory \EFI\BOOT of an EFI system partition
//! ```

mod fat;
mod table;
mod whole;

pub use table::{Identity, Partition, Role, Scheme};
pub use whole::Missing;

use crate::error::Error;
use crate::format::GuestReader;

/// A processor architecture, with the names of `uname -m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    I386,
    /// 64-bit Arm.
    Aarch64,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Architecture {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::I386 => "i386",
            Self::Aarch64 => "aarch64",
            Self::Riscv64 => "riscv64",
        }
    }
}

/// The facts that were detected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// The partitioning scheme.
    pub scheme: Scheme,
    /// The sector size that the partition table uses, in bytes.
    pub sector: u64,
    /// The partitions that are in use.
    pub partitions: Vec<Partition>,
    /// Whether a BIOS can boot the disk: code in the boot record, or a BIOS boot partition.
    pub bios: bool,
    /// Whether UEFI can boot the disk: an EFI system partition.
    pub uefi: bool,
    /// The architecture, if the disk identifies it without contradiction.
    pub architecture: Option<Architecture>,
    /// What is on the disk according to its tables and file systems, and ends behind its end: the file is incomplete.
    pub missing: Vec<Missing>,
    /// Remarks for the reader of a report, as sentences without a full stop.
    pub remarks: Vec<String>,
}

impl Facts {
    /// Reads the facts of a disk.
    ///
    /// # Errors
    /// Fails when the disk cannot be read. The content of the disk is never an error.
    pub fn read(disk: &GuestReader) -> Result<Self, Error> {
        let mut found = table::read(disk)?;
        let missing = whole::missing(disk, &mut found)?;
        let mut facts = Self {
            missing,
            scheme: found.scheme,
            sector: found.sector,
            bios: found.boot_code || found.has(Role::BiosBoot),
            uefi: found.has(Role::EfiSystem),
            architecture: None,
            remarks: found.remarks,
            partitions: found.partitions,
        };
        facts.architecture = facts.find_architecture(disk)?;
        // These architectures have no BIOS, whatever the first sector contains.
        if matches!(facts.architecture, Some(Architecture::Aarch64 | Architecture::Riscv64)) {
            facts.bios = false;
        }
        Ok(facts)
    }

    /// Returns whether only UEFI can boot the disk. A disk that a BIOS can boot as well does not count: it
    /// boots in a virtual machine for which UEFI was not requested.
    pub fn is_uefi_only(&self) -> bool {
        let no_bios = [Some(Architecture::Aarch64), Some(Architecture::Riscv64)];
        no_bios.contains(&self.architecture) || self.uefi && !self.bios
    }

    /// Takes the firmware that a description of the machine states, as far as the disk has a boot loader for it.
    pub fn prefer(&mut self, uefi: bool) {
        if uefi && self.uefi {
            self.bios = false;
        }
    }

    /// The partition types have priority, because boot loaders for several architectures may be present.
    fn find_architecture(&mut self, disk: &GuestReader) -> Result<Option<Architecture>, Error> {
        let typed = self.partitions.iter().filter_map(|partition| match partition.role {
            Role::System(architecture) => Some(architecture),
            Role::EfiSystem | Role::BiosBoot | Role::Other => None,
        });
        let mut all: Vec<Architecture> = typed.collect();
        let typed = !all.is_empty();
        let efi = self.partitions.iter().filter(|partition| partition.role == Role::EfiSystem);
        for partition in efi.filter(|_| !typed) {
            match fat::boot_files(disk, partition)? {
                Ok(found) => all.extend(found),
                Err(why) => {
                    let number = partition.number;
                    self.remarks.push(format!("the EFI system partition {number} {why}"));
                }
            }
        }
        all.sort_unstable();
        all.dedup();
        Ok(match all[..] {
            [only] => Some(only),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
