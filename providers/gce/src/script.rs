//! Renders the script that uploads and registers the image.

use build_image_plugin_api::{
    Architecture, Archive, BootMode, DiskSpec, document::Build, ready::scripted,
};

use crate::Gce;

const TEMPLATE: &str = include_str!("upload.sh");

impl Gce {
    /// Returns the script for a file with this format.
    pub(crate) fn render(&self, build: &Build, spec: &DiskSpec, file: &str) -> String {
        let labels: Vec<String> =
            build.tags.iter().map(|(key, value)| format!("{key}={}", label_value(value))).collect();
        scripted::render(
            TEMPLATE,
            &[
                ("FILE", file),
                ("IS_PACKAGE", if spec.archive == Archive::None { "no" } else { "yes" }),
                ("IMAGE_NAME", &build.image_name),
                ("LABELS", &labels.join(",")),
                ("BUCKET", &self.bucket),
                ("PROJECT", &self.project),
                (
                    "ARCHITECTURE",
                    if build.architecture == Architecture::Aarch64 { "ARM64" } else { "X86_64" },
                ),
                (
                    "FEATURES",
                    if build.boot_mode == BootMode::Uefi { "UEFI_COMPATIBLE" } else { "" },
                ),
            ],
        )
    }
}

/// Converts a value to a label's value: lower-case; everything except letters, digits and `-` becomes a `-`.
fn label_value(value: &str) -> String {
    let clean = |letter: char| match letter.to_ascii_lowercase() {
        letter @ ('a'..='z' | '0'..='9' | '-') => letter,
        _ => '-',
    };
    value.chars().map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_labels() {
        for (value, label) in
            [("BIG-IP", "big-ip"), ("15.0.0", "15-0-0"), ("Tue May  7, a=b", "tue-may--7--a-b")]
        {
            assert_eq!(label_value(value), label);
        }
    }
}
