//! Finds the kernel and the initrd of an installer on an ISO.

use build_image_disk::{
    installer::{Refusal, Settings},
    iso::Iso,
};
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    rows::{INITRD, KERNEL},
};

/// Where an installer keeps its boot files, and what it expects.
struct Layout {
    kernel: &'static str,
    initrd: &'static str,
    /// Whether it is debian-installer, which reads `/preseed.cfg` of its initrd (Debian installation guide, B.2.1).
    preseeds: bool,
}

/// In the order in which they are tried.
const LAYOUTS: [Layout; 6] = [
    // debian-installer: full, netinst, and netboot (mini.iso) images.
    Layout { kernel: "/install.amd/vmlinuz", initrd: "/install.amd/initrd.gz", preseeds: true },
    Layout { kernel: "/install/vmlinuz", initrd: "/install/initrd.gz", preseeds: true },
    Layout { kernel: "/linux", initrd: "/initrd.gz", preseeds: true },
    // Ubuntu's live images.
    Layout { kernel: "/casper/vmlinuz", initrd: "/casper/initrd", preseeds: false },
    // Fedora and its relatives.
    Layout {
        kernel: "/images/pxeboot/vmlinuz",
        initrd: "/images/pxeboot/initrd.img",
        preseeds: false,
    },
    Layout { kernel: "/isolinux/vmlinuz", initrd: "/isolinux/initrd.img", preseeds: false },
];

/// The boot files of an ISO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BootFiles {
    /// Path of the kernel.
    pub(crate) kernel: String,
    /// Path of the initrd.
    pub(crate) initrd: String,
    /// Whether the installer reads `/preseed.cfg`.
    pub(crate) preseeds: bool,
}

/// Checks that kernel and initrd are named together.
pub(crate) fn check_settings(settings: &Settings) -> Result<()> {
    let (set, unset) = match (settings.text(KERNEL), settings.text(INITRD)) {
        (Some(_), None) => (KERNEL, INITRD),
        (None, Some(_)) => (INITRD, KERNEL),
        _ => return Ok(()),
    };
    Err(Refusal::settings(format!("{set} is set, but {unset} is not"))
        .hint(format!("set both, or leave {set} out: the usual places are tried then")))
}

/// Returns the boot files that the settings name, or those in a usual place.
pub(crate) fn find(iso: &Iso, settings: &Settings) -> Result<BootFiles> {
    check_settings(settings)?;
    if let (Some(kernel), Some(initrd)) = (settings.text(KERNEL), settings.text(INITRD)) {
        let preseeds = known(|layout| (layout.kernel, layout.initrd) == (kernel, initrd));
        let preseeds = preseeds.is_some_and(|layout| layout.preseeds);
        return Ok(BootFiles { kernel: kernel.to_owned(), initrd: initrd.to_owned(), preseeds });
    }
    let has = |path: &str| iso.open_file(path).is_ok();
    let Some(layout) = known(|layout| has(layout.kernel) && has(layout.initrd)) else {
        let kernels: Vec<&str> = LAYOUTS.iter().map(|layout| layout.kernel).collect();
        let text = format!(
            "`{}` has no kernel with an initrd in a usual place ({})",
            iso.path().display(),
            kernels.join(", ")
        );
        return Err(Refusal::source(text)
            .hint(format!("name both by their paths on the ISO with {KERNEL} and {INITRD}")));
    };
    Ok(BootFiles {
        kernel: layout.kernel.to_owned(),
        initrd: layout.initrd.to_owned(),
        preseeds: layout.preseeds,
    })
}

fn known(is_wanted: impl Fn(&Layout) -> bool) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|layout| is_wanted(layout))
}
