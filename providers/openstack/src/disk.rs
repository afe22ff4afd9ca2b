//! Defines the disk that is uploaded: what the settings request, whether this host can make it, and the service's name
//! for its format.

use build_image_plugin_api::{
    Compression, DiskFormat, DiskSpec, DiskVariant, Error, Result, Settings,
    document::{Finding, HostFacts},
};

/// Formats of Glance that this provider does not upload, with the reason.
const NOT_UPLOADED: [(&str, &str); 9] = [
    (
        "vhd",
        "Glance inspects uploads and takes a fixed VHD, whose header is at its end, for a raw disk",
    ),
    ("vhdx", "build-image makes no VHDX images"),
    ("vdi", "build-image makes no VDI images"),
    ("ploop", "build-image makes no ploop images"),
    ("iso", "the disk of a build is not an ISO 9660 image"),
    ("ami", "an image of this kind is three files: kernel, ramdisk, and file system"),
    ("aki", "an image of this kind is a kernel"),
    ("ari", "an image of this kind is a ramdisk"),
    ("ova", "the compute service boots no OVA files"),
];

/// Returns the disk that the settings request.
///
/// # Errors
/// `unsupported` for formats of the service that this provider does not upload; config errors for unknown words, and
/// for compression of a format that does not support it.
pub(crate) fn spec(settings: &Settings) -> Result<DiskSpec> {
    let spec = match settings.text("OPENSTACK_DISK_FORMAT") {
        None | Some("" | "qcow2") => DiskSpec::new(DiskFormat::Qcow2),
        Some("raw") => DiskSpec::new(DiskFormat::Raw),
        Some("vmdk") => DiskSpec::new(DiskFormat::Vmdk).variant(DiskVariant::StreamOptimized),
        Some(other) => return Err(refused(other)),
    };
    match settings.text("OPENSTACK_DISK_COMPRESSION") {
        None | Some("" | "none") => Ok(spec),
        Some("zlib") if spec.format == DiskFormat::Qcow2 => Ok(spec.compression(Compression::Zlib)),
        Some("zlib") => {
            let message =
                format!("`OPENSTACK_DISK_COMPRESSION` is `zlib`, and the image is {spec}");
            Err(Error::config(message)
                .with_hint("set OPENSTACK_DISK_FORMAT=qcow2, or unset OPENSTACK_DISK_COMPRESSION"))
        }
        Some(other) => Err(Error::config(format!("`OPENSTACK_DISK_COMPRESSION` is `{other}`"))
            .with_hint("use `none` or `zlib`")),
    }
}

fn refused(word: &str) -> Error {
    const INSTEAD: &str = "use `qcow2`, `raw`, or `vmdk`";
    match NOT_UPLOADED.iter().find(|(name, _)| *name == word) {
        Some((name, why)) => Error::unsupported(
            format!("images of the format `{name}` are not uploaded to OpenStack: {why}"),
            format!("{INSTEAD} for OPENSTACK_DISK_FORMAT"),
        ),
        None => Error::config(format!("`OPENSTACK_DISK_FORMAT` is `{word}`")).with_hint(INSTEAD),
    }
}

/// Returns the service's name for a format (`disk_format`).
pub(crate) fn word(spec: &DiskSpec) -> &'static str {
    spec.format.word()
}

/// Returns a finding when this host cannot make the disk. A host that does not declare its formats is tried.
pub(crate) fn finding(spec: &DiskSpec, host: &HostFacts) -> Option<Finding> {
    if host.disks.is_empty() || host.disks.contains(spec) {
        return None;
    }
    let known: Vec<String> = host.disks.iter().map(ToString::to_string).collect();
    let error = Error::unsupported(
        format!("this build-image makes no {spec} image"),
        format!(
            "it makes {}: change OPENSTACK_DISK_FORMAT or OPENSTACK_DISK_COMPRESSION",
            known.join(", ")
        ),
    );
    Some(Finding::error("disk", &error))
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::ErrorKind;
    use serde_json::json;

    use super::*;

    fn read(format: &str, compression: &str) -> Result<DiskSpec> {
        let values =
            [("OPENSTACK_DISK_FORMAT", format), ("OPENSTACK_DISK_COMPRESSION", compression)];
        let values = values.map(|(key, value)| (key.to_owned(), json!(value)));
        spec(&Settings::from_values(values.into()))
    }

    #[test]
    fn settings_become_a_disk_the_service_knows() {
        for (format, compression, display, name) in [
            ("", "", "qcow2", "qcow2"),
            ("qcow2", "zlib", "qcow2, compressed", "qcow2"),
            ("raw", "none", "raw", "raw"),
            ("vmdk", "", "vmdk stream_optimized", "vmdk"),
        ] {
            let spec = read(format, compression).unwrap();
            assert_eq!((spec.to_string().as_str(), word(&spec)), (display, name));
        }
    }

    #[test]
    fn formats_that_are_not_uploaded_are_unsupported_by_name() {
        for (name, _) in NOT_UPLOADED {
            let error = read(name, "").unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unsupported);
            assert!(error.message.contains(&format!("`{name}`")), "{error}");
        }
        for (format, compression) in
            [("qcow3", ""), ("raw", "zlib"), ("vmdk", "zlib"), ("", "zstd")]
        {
            assert_eq!(read(format, compression).unwrap_err().kind, ErrorKind::Config);
        }
    }
}
