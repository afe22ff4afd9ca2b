//! Reads the boot files of an installer ISO: the boot loader's configuration, the kernel, and the initrd.

use build_image_disk::{installer::Refusal, iso::Iso};

use crate::{Pass, Result, kernel_arguments};

pub(crate) const KERNEL: &str = "/isolinux/vmlinuz";
pub(crate) const INITRD: &str = "/isolinux/initrd.img";
const CONFIG: &str = "/isolinux/isolinux.cfg";
/// Largest `isolinux.cfg` that is read, in bytes.
const CONFIG_LIMIT: u64 = 1 << 20;

/// Returns the kernel arguments of a pass, from an ISO's boot loader configuration.
pub(crate) fn arguments(iso: &Iso, pass: Pass) -> Result<String> {
    let path = iso.path();
    let config =
        iso.read(CONFIG, CONFIG_LIMIT).map_err(|error| Refusal::unreadable(path, error))?;
    kernel_arguments(&String::from_utf8_lossy(&config), pass).map_err(|what| {
        Refusal::source(format!("`{}`: `{CONFIG}`: {what}", path.display()))
            .hint("give the ISO of a BIG-IP installer, as the vendor publishes it")
    })
}

/// Checks the boot files of an installation: boot loader configuration, kernel and initrd of the base ISO.
/// Reads only the configuration.
///
/// # Errors
/// What is missing on the ISO, or cannot be parsed.
pub(crate) fn check(iso: &Iso) -> Result<()> {
    arguments(iso, Pass::Rtm)?;
    for name in [KERNEL, INITRD] {
        iso.open_file(name).map_err(|error| Refusal::unreadable(iso.path(), error))?;
    }
    Ok(())
}
