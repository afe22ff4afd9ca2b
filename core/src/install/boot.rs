//! Prepares the kernel and the initrd of an installer pass; the initrd gets the tool's additions.

use std::{fs::File, io::copy, path::Path};

use build_image_disk::{
    initrd::{self, Addition, Content, Written},
    iso::Iso,
    qemu::Kernel,
};

use super::{InstallContext, tree};
use crate::{
    error::{Error, Result, Stage},
    plan::Installation,
    product::{self, Added, Installer, Pass},
    source::{from_disk, not_accepted},
};

const KERNEL: &str = "/isolinux/vmlinuz";
const INITRD: &str = "/isolinux/initrd.img";
const CONFIG: &str = "/isolinux/isolinux.cfg";
/// Largest `isolinux.cfg` that is read, in bytes.
const CONFIG_LIMIT: u64 = 1 << 20;

/// Checks that an ISO has an installer's initrd.
pub(super) fn check_initrd(path: &Path) -> Result<()> {
    let iso_error = |error| not_accepted(path, error);
    Iso::open(path).map_err(iso_error)?.open_file(INITRD).map_err(iso_error).map(drop)
}

/// Returns the kernel arguments of a pass, from an ISO's boot loader configuration.
fn arguments(iso: &Iso, pass: Pass) -> Result<String> {
    let path = iso.path();
    let config = iso.read(CONFIG, CONFIG_LIMIT).map_err(|error| not_accepted(path, error))?;
    product::kernel_arguments(&String::from_utf8_lossy(&config), pass).map_err(|what| {
        Error::new(Stage::Source, format!("`{}`: `{CONFIG}`: {what}", path.display()))
            .hint("give the ISO of a BIG-IP installer, as the vendor publishes it")
    })
}

/// Checks the boot files of an installation: boot loader configuration, kernel and initrd of the base ISO.
/// Reads only the configuration.
///
/// # Errors
/// What is missing on the ISO, or cannot be parsed.
pub fn check_boot(iso: &Iso) -> Result<()> {
    arguments(iso, Pass::Rtm)?;
    for name in [KERNEL, INITRD] {
        iso.open_file(name).map_err(|error| not_accepted(iso.path(), error))?;
    }
    Ok(())
}

impl InstallContext<'_> {
    /// Returns kernel and initrd of a pass. Kernel and arguments always come from the base ISO; the initrd
    /// comes from the ISO that is installed.
    pub(super) fn kernel(&self, pass: Pass) -> Result<Kernel> {
        let path = &self.installation.iso;
        let iso_error = |error| not_accepted(path, error);
        let base = Iso::open(path).map_err(iso_error)?;
        let append = arguments(&base, pass)?;
        let image = self.work.join("vmlinuz");
        let mut content = base.open_file(KERNEL).map_err(iso_error)?;
        File::create(&image)
            .and_then(|mut file| copy(&mut content, &mut file))
            .map_err(|error| cannot_write(&image, &error))?;
        let initrd = match (&self.installation.hotfix, pass) {
            (Some(hotfix), Pass::Hotfix) => {
                let iso = Iso::open(&hotfix.path);
                self.initrd(&iso.map_err(|error| not_accepted(&hotfix.path, error))?, pass)?
            }
            _ => self.initrd(&base, pass)?,
        };
        Ok(Kernel { image, initrd, append })
    }

    /// Writes the initrd of an ISO with the additions of a pass.
    fn initrd(&self, iso: &Iso, pass: Pass) -> Result<std::path::PathBuf> {
        let path = self.work.join("initrd.img");
        let additions = additions(self.installation, self.platform, pass)?;
        let mut base = iso.open_file(INITRD).map_err(|error| not_accepted(iso.path(), error))?;
        let written = initrd::append(&mut base, &additions, &path)
            .map_err(|error| from_disk(Stage::Disk, error))?;
        tracing::debug!(base = written.base, total = written.total, "initrd written");
        check_memory(written, self.installation.machine.memory_mib)?;
        Ok(path)
    }
}

/// The additions of a pass to the initrd. The contents of files are not read.
pub(super) fn additions(
    installation: &Installation,
    platform: &str,
    pass: Pass,
) -> Result<Vec<Addition>> {
    let installer = Installer {
        facts: &installation.facts,
        shape: installation.shape,
        sizes: installation.sizes,
        guest: &installation.guest,
        platform,
    };
    let mut additions = Vec::new();
    for added in installer.additions(pass) {
        match added {
            Added::Text(path, text, mode) => {
                let content = Content::Bytes(text.into_bytes());
                additions.push(Addition { path, mode, content });
            }
            Added::Path(path, source) => tree::add(&mut additions, path, &source)?,
        }
    }
    Ok(additions)
}

/// Returns the memory that a guest needs to unpack an initrd, in MiB. The packed and the unpacked initrd exist
/// at the same time, and unpacking needs about three times the size of the packed one.
fn memory_needed(written: Written) -> u64 {
    let unpacked = written.total.saturating_add(3 * written.base).saturating_add(written.added);
    written.total.saturating_mul(3).max(unpacked).div_ceil(1 << 20)
}

/// Refuses a guest with too little memory: it would start without the additions, or not at all.
fn check_memory(written: Written, has: u64) -> Result<()> {
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
        .hint(format!("give --qemu-memory {enough}MiB, or put less into UPDATE_IMAGE_FILES")))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Stage::Disk, format!("cannot write `{}`", path.display()))
        .caused_by(error)
        .hint("free some space, or set ARTIFACTS_DIR to a larger file system")
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
            check_memory(written, needs).unwrap();
            let error = check_memory(written, needs - 1).unwrap_err();
            assert!(error.message.contains(&format!("needs {needs} MiB")), "{error}");
            assert!(error.hint.unwrap().contains("--qemu-memory"));
        }
    }
}
