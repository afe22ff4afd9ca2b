//! Defines the disk that is uploaded: what the settings request, whether this host can make it, and the
//! service's name for its format.
//!
//! Source: ECS documentation of `ImportImage`: RAW, VHD, and QCOW2.

use build_image_plugin_api::{
    Compression, DiskFormat, DiskSpec, Error, Result, Settings,
    document::{Finding, HostFacts},
};

/// The disk that the settings request.
///
/// # Errors
/// Config errors for unknown values, and for compression of a format that does not support it.
pub(crate) fn spec(settings: &Settings) -> Result<DiskSpec> {
    let spec = match settings.text("ALIBABA_DISK_FORMAT") {
        None | Some("" | "qcow2") => DiskSpec::default(),
        Some("raw") => DiskSpec::new(DiskFormat::Raw),
        // ECS refuses dynamic disks with unusual block sizes; fixed disks have no blocks.
        Some("vhd") => DiskSpec::new(DiskFormat::Vhd).variant("fixed"),
        Some(other) => {
            return Err(unknown("ALIBABA_DISK_FORMAT", other, "`qcow2`, `raw` or `vhd`"));
        }
    };
    match settings.text("ALIBABA_DISK_COMPRESSION") {
        None | Some("" | "none") => Ok(spec),
        Some("zlib") if spec.format == DiskFormat::Qcow2 => Ok(spec.compression(Compression::Zlib)),
        Some("zlib") => {
            let message = format!("a {} disk cannot be compressed", spec.format.word());
            Err(Error::config(message)
                .with_hint("set ALIBABA_DISK_FORMAT=qcow2, or leave ALIBABA_DISK_COMPRESSION out"))
        }
        Some(other) => Err(unknown("ALIBABA_DISK_COMPRESSION", other, "`none` or `zlib`")),
    }
}

fn unknown(key: &str, word: &str, known: &str) -> Error {
    Error::config(format!("`{key}` is `{word}`")).with_hint(format!("use {known}"))
}

/// The service's name for a format.
pub(crate) fn word(spec: &DiskSpec) -> &'static str {
    match spec.format {
        DiskFormat::Raw => "RAW",
        DiskFormat::Vhd => "VHD",
        _ => "QCOW2",
    }
}

/// A finding when this host cannot make the disk. A host that does not declare its formats is tried.
pub(crate) fn finding(spec: &DiskSpec, host: &HostFacts) -> Option<Finding> {
    if host.disks.is_empty() || host.disks.contains(spec) {
        return None;
    }
    let known: Vec<String> = host.disks.iter().map(ToString::to_string).collect();
    let error = Error::unsupported(
        format!("this build-image makes no {spec} image"),
        format!(
            "it makes {}: change ALIBABA_DISK_FORMAT or ALIBABA_DISK_COMPRESSION",
            known.join(", ")
        ),
    );
    Some(Finding::error("disk", &error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(format: &str, compression: &str) -> Result<DiskSpec> {
        let values = [("ALIBABA_DISK_FORMAT", format), ("ALIBABA_DISK_COMPRESSION", compression)];
        let values = values.map(|(key, value)| (key.to_owned(), json!(value)));
        spec(&Settings::from_values(values.into()))
    }

    #[test]
    fn settings_become_a_disk_the_service_knows() {
        for (format, compression, display, name) in [
            ("", "", "qcow2", "QCOW2"),
            ("qcow2", "none", "qcow2", "QCOW2"),
            ("qcow2", "zlib", "qcow2, compressed", "QCOW2"),
            ("raw", "none", "raw", "RAW"),
            ("vhd", "", "vhd fixed", "VHD"),
        ] {
            let spec = read(format, compression).unwrap();
            assert_eq!((spec.to_string().as_str(), word(&spec)), (display, name));
        }
    }

    #[test]
    fn invalid_values_are_refused_with_the_valid_ones() {
        for (format, compression, hint) in [
            ("vmdk", "", "`vhd`"),
            ("qcow2", "zstd", "`zlib`"),
            ("raw", "zlib", "ALIBABA_DISK_FORMAT=qcow2"),
            ("vhd", "zlib", "ALIBABA_DISK_COMPRESSION"),
        ] {
            let found = read(format, compression).unwrap_err().hint.unwrap();
            assert!(found.contains(hint), "{format} {compression}: {found}");
        }
    }

    #[test]
    fn a_disk_this_host_cannot_make_is_found_early() {
        let host = HostFacts::default().disks([DiskSpec::default()]);
        assert!(finding(&DiskSpec::default(), &host).is_none());
        let compressed = read("qcow2", "zlib").unwrap();
        let found = finding(&compressed, &host).unwrap();
        assert_eq!(found.kind.map(build_image_plugin_api::ErrorKind::code), Some("unsupported"));
        assert!(found.hint.unwrap().contains("it makes qcow2:"));
        assert!(finding(&compressed, &HostFacts::default()).is_none());
    }
}
