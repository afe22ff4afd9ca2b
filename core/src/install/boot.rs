//! Prepares the kernel and the initrd of an installer pass; the initrd gets the tool's additions.

use std::{
    fs::File,
    io::copy,
    path::{Path, PathBuf},
};

use build_image_disk::{
    initrd::{self, Written},
    installer::{IsoFile, Pass},
    iso::{Content, Iso},
    qemu::Kernel,
};

use super::InstallContext;
use crate::{
    artifacts::more_space,
    error::{Error, Result, Stage},
    settings::keys::ARTIFACTS_DIR,
    source::{from_disk, not_accepted},
};

/// Checks that the boot files of a pass are on their ISOs.
pub(super) fn check(pass: &Pass) -> Result<()> {
    open(&pass.kernel)?;
    open(&pass.initrd).map(drop)
}

fn open(file: &IsoFile) -> Result<Content> {
    let iso_error = |error| not_accepted(&file.iso, error);
    Iso::open(&file.iso).map_err(iso_error)?.open_file(&file.path).map_err(iso_error)
}

impl InstallContext<'_> {
    /// Returns kernel and initrd of a pass, as files.
    pub(super) fn kernel(&self, pass: &Pass) -> Result<Kernel> {
        let image = self.work.join("vmlinuz");
        let mut content = open(&pass.kernel)?;
        File::create(&image)
            .and_then(|mut file| copy(&mut content, &mut file))
            .map_err(|error| cannot_write(&image, &error))?;
        Ok(Kernel { image, initrd: self.initrd(pass)?, append: pass.arguments.clone() })
    }

    /// Writes the initrd of a pass with its additions.
    fn initrd(&self, pass: &Pass) -> Result<PathBuf> {
        let path = self.work.join("initrd.img");
        let mut base = open(&pass.initrd)?;
        let written = initrd::append(&mut base, &pass.additions, &path)
            .map_err(|error| from_disk(Stage::Disk, error))?;
        tracing::debug!(base = written.base, total = written.total, "initrd written");
        check_memory(written, self.installation.machine.memory_mib, &pass.lighter)?;
        Ok(path)
    }
}

/// Returns the memory that a guest needs to unpack an initrd, in MiB. The packed and the unpacked initrd exist
/// at the same time, and unpacking needs about three times the size of the packed one.
fn memory_needed(written: Written) -> u64 {
    let unpacked = written.total.saturating_add(3 * written.base).saturating_add(written.added);
    written.total.saturating_mul(3).max(unpacked).div_ceil(1 << 20)
}

/// Refuses a guest with too little memory: it would start without the additions, or not at all.
fn check_memory(written: Written, has: u64, lighter: &str) -> Result<()> {
    let needs = memory_needed(written);
    if needs <= has {
        return Ok(());
    }
    let text = format!(
        "the installer's initrd has {} MiB with the files for the image; to unpack it the installing machine needs {needs} MiB of memory, but it has {has}",
        written.total.div_ceil(1 << 20)
    );
    let enough = needs.next_multiple_of(256);
    Err(Error::new(Stage::Settings, text)
        .hint(format!("give --qemu-memory {enough}MiB, or {lighter}")))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Stage::Disk, format!("cannot write `{}`", path.display()))
        .caused_by(error)
        .hint(more_space(ARTIFACTS_DIR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_three_initrds_or_what_they_unpack_to() {
        const MIB: u64 = 1 << 20;
        for (base, total, added, needs) in [
            (11, 11, 0, 44),
            // Incompressible files: observed to fail with 768 MiB and to work with 1024.
            (26, 326, 300, 978),
            // A file of zeros needs memory only when it is unpacked.
            (11, 15, 4000, 4048),
        ] {
            let written = Written { base: base * MIB, total: total * MIB, added: added * MIB };
            assert_eq!(memory_needed(written), needs);
            check_memory(written, needs, "add less").unwrap();
            let error = check_memory(written, needs - 1, "add less").unwrap_err();
            assert!(error.message.contains(&format!("needs {needs} MiB")), "{error}");
            assert!(error.hint.unwrap().contains("--qemu-memory"));
        }
    }
}
