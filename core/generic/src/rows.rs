//! Declares the settings of an installation.

use build_image_disk::installer::Attributes;
use build_image_plugin_api::{Setting, SettingKind as Kind};

/// Help heading.
const GROUP: &str = "Generic Linux installer (experimental)";

/// Size of the disk; a row of the engine.
pub(crate) const DISK_SIZE: &str = "DISK_SIZE";
/// Path of the kernel on the ISO.
pub(crate) const KERNEL: &str = "INSTALLER_KERNEL";
/// Path of the initrd on the ISO.
pub(crate) const INITRD: &str = "INSTALLER_INITRD";
/// The answer file.
pub(crate) const ANSWER_FILE: &str = "INSTALLER_ANSWER_FILE";
/// Command line of the kernel.
pub(crate) const ARGUMENTS: &str = "INSTALLER_ARGUMENTS";
/// Text that means success.
pub(crate) const SUCCESS: &str = "INSTALLER_SUCCESS";

/// Returns the settings with their attributes.
#[must_use]
pub fn rows() -> Vec<(Setting, Attributes)> {
    let row = |key: &str, kind, summary: &str| {
        let attributes = Attributes::default().prefixed_only().decides();
        (Setting::new(key, kind, summary).group(GROUP), attributes)
    };
    let (kernel, attributes) = row(
        KERNEL,
        Kind::Text,
        "path of the kernel on the ISO; usual places are tried when not set",
    );
    let (initrd, _) =
        row(INITRD, Kind::Text, "path of the initrd on the ISO; set together with the kernel");
    vec![
        (kernel.pattern("/.+"), attributes.example("/install.amd/vmlinuz")),
        (initrd.pattern("/.+"), attributes.example("/install.amd/initrd.gz")),
        row(
            ANSWER_FILE,
            Kind::Path,
            "answer file, path or URL, put into the initrd: as /preseed.cfg for debian-installer, otherwise under its \
             own name",
        ),
        row(
            ARGUMENTS,
            Kind::Text,
            "command line of the kernel; console=ttyS0 is added when it names no console",
        ),
        row(
            SUCCESS,
            Kind::Text,
            "text that the console prints when the installation succeeded; a power-off counts when not set",
        ),
    ]
}
