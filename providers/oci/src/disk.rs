//! Defines the disk that is uploaded: what the settings request, and whether this host can make it.

use build_image_plugin_api::{
    Compression, DiskFormat, DiskSpec, Error, Result, Settings,
    document::{Finding, HostFacts},
};

/// Returns the disk that the settings request. KubeVirt accepts raw and qcow2 disks in container disks ("containerDisk"
/// of its user guide); artifacts are limited to the same formats.
///
/// # Errors
/// `unsupported` for other formats; config errors for compression of a raw disk.
pub(crate) fn spec(settings: &Settings) -> Result<DiskSpec> {
    let spec = match settings.text("OCI_DISK_FORMAT") {
        None | Some("" | "qcow2") => DiskSpec::new(DiskFormat::Qcow2),
        Some("raw") => DiskSpec::new(DiskFormat::Raw),
        Some(other) => {
            return Err(Error::unsupported(
                format!("disks of the format `{other}` are not put into registries"),
                "set OCI_DISK_FORMAT to `qcow2` or `raw`",
            ));
        }
    };
    match settings.text("OCI_DISK_COMPRESSION") {
        Some("zlib") if spec.format == DiskFormat::Qcow2 => Ok(spec.compression(Compression::Zlib)),
        Some("zlib") => {
            Err(Error::config("`OCI_DISK_COMPRESSION` is `zlib`, and the disk is raw").with_hint(
                "set OCI_DISK_FORMAT=qcow2, or OCI_LAYER_COMPRESSION in place of OCI_DISK_COMPRESSION",
            ))
        }
        _ => Ok(spec),
    }
}

/// Returns a finding when this host cannot make the disk. A host that does not declare its formats is tried.
pub(crate) fn finding(spec: &DiskSpec, host: &HostFacts) -> Option<Finding> {
    if host.disks.is_empty() || host.disks.contains(spec) {
        return None;
    }
    let known: Vec<String> = host.disks.iter().map(ToString::to_string).collect();
    let error = Error::unsupported(
        format!("this build-image makes no {spec} image"),
        format!("it makes {}: change OCI_DISK_FORMAT or OCI_DISK_COMPRESSION", known.join(", ")),
    );
    Some(Finding::error("disk", &error))
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::ErrorKind;
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_become_a_disk_or_an_error_by_name() {
        for (format, compression, expected) in [
            ("", "", Ok("qcow2")),
            ("qcow2", "zlib", Ok("qcow2, compressed")),
            ("raw", "none", Ok("raw")),
            ("raw", "zlib", Err(ErrorKind::Config)),
            ("vmdk", "none", Err(ErrorKind::Unsupported)),
        ] {
            let values = [("OCI_DISK_FORMAT", format), ("OCI_DISK_COMPRESSION", compression)];
            let values = values.map(|(key, value)| (key.to_owned(), json!(value)));
            let found = spec(&Settings::from_values(values.into()));
            let found = found.map(|spec| spec.to_string()).map_err(|error| error.kind);
            assert_eq!(found, expected.map(str::to_owned), "{format} {compression}");
        }
    }
}
