//! Builds the OVF description of the virtual machine for a VMDK: BIG-IP Virtual Edition's hardware, or a plain
//! machine when the disk's product is not known. The product's version decides which hardware version the guest
//! supports.

use std::{fs, io::Read as _};

use crate::{BootMode, Error, ErrorKind, Ovf, OvfNetwork, OvfProduct, Result, document::Build};

/// Longest licence text, in bytes; a longer file is not a licence text.
const LICENCE_LIMIT: u64 = 1 << 20;

/// Network of a machine whose product is not known: name and description.
const PLAIN_NETWORK: (&str, &str) = ("Network", "Network of the only adapter");
/// Networks of BIG-IP in the order of its adapters: name and description.
const NETWORKS: [(&str, &str); 4] = [
    ("Management", "Network of the management interface"),
    ("Internal", "Network of interface 1.1, towards the servers"),
    ("External", "Network of interface 1.2, towards the clients"),
    ("HA", "Network of interface 1.3, towards the other unit of a pair"),
];

/// Returns the machine of a build: 2 processors, 4096 MiB, one adapter or the product's four, the hardware version
/// for the product's version, and a manifest with SHA-256 digests (DSP0243 2.1.0, section 6.1; vSphere since 6.5).
#[must_use]
pub fn machine(build: &Build) -> Ovf {
    let fact = |name: &str| build.product.get(name).cloned().unwrap_or_default();
    let (name, version) = (fact("name"), fact("version"));
    let is_known = !name.is_empty();
    let full_version = [version.clone(), fact("build")].join("-");
    let annotation = if is_known {
        format!("{name} Virtual Edition {full_version}, made by build-image")
    } else {
        format!("{}, made by build-image", build.disk_name)
    };
    let product = OvfProduct {
        name: if is_known { name } else { build.disk_name.clone() },
        vendor: if is_known { "F5 Networks".to_owned() } else { String::new() },
        version,
        full_version: if is_known { full_version } else { String::new() },
        ..OvfProduct::default()
    };
    let network = |(name, description): (&str, &str)| OvfNetwork {
        name: name.to_owned(),
        description: description.to_owned(),
        ..OvfNetwork::default()
    };
    Ovf {
        name: build.disk_name.clone(),
        annotation,
        product: Some(product),
        hardware_version: hardware_version(version_of(build)),
        uefi: build.boot_mode == BootMode::Uefi,
        cpus: 2,
        memory_mib: 4096,
        networks: if is_known {
            NETWORKS.map(network).to_vec()
        } else {
            vec![network(PLAIN_NETWORK)]
        },
        manifest_digest: "SHA256".to_owned(),
        ..Ovf::default()
    }
}

/// Returns the product's version as a number with two digits per component: 14.1.0.3 → 14010003. `None` when the
/// product is not known.
#[must_use]
pub fn version_of(build: &Build) -> Option<u64> {
    let mut parts = build.product.get("version")?.split('.');
    let mut number = 0;
    for _ in 0..4 {
        let part: u64 = parts.next().unwrap_or("0").parse().ok()?;
        number = number * 100 + part.min(99);
    }
    Some(number)
}

/// Returns VMware's hardware version: 13 since 15.1.6.2 and 16.1.2.2, otherwise 10.
fn hardware_version(version: Option<u64>) -> u32 {
    match version {
        Some(15_010_602..16_000_000 | 16_010_202..) => 13,
        _ => 10,
    }
}

/// Refuses a URL where the path of a licence text is required.
///
/// # Errors
/// [`ErrorKind::Config`] with the setting and a hint.
pub fn check_licence_path(key: &str, path: &str) -> Result<()> {
    let Some((scheme, _)) = path.split_once("://") else { return Ok(()) };
    if !scheme.chars().all(|letter| letter.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(Error::config(format!("{key}: `{path}` is an address, not a file")).with_hint(format!(
        "fetch it first (curl -o eula.txt '{path}'), then set {key} to eula.txt"
    )))
}

/// Reads a licence text.
///
/// # Errors
/// When it is a URL, cannot be read, is empty, is longer than 1 MiB or is not plain text.
pub fn licence(key: &str, path: &str) -> Result<String> {
    check_licence_path(key, path)?;
    let licence_error = |what: &str| {
        Error::config(format!("{key}: `{path}` {what}"))
            .with_hint(format!("set {key} to a plain text file in UTF-8"))
    };
    let mut bytes = Vec::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(LICENCE_LIMIT + 1).read_to_end(&mut bytes));
    read.map_err(|error| {
        Error::new(ErrorKind::Config, format!("{key}: cannot read `{path}`"))
            .caused_by(&error)
            .with_hint(format!("set {key} to an existing file, or leave it out"))
    })?;
    if bytes.len() as u64 > LICENCE_LIMIT {
        return Err(licence_error("is longer than 1 MiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_| licence_error("is no text in UTF-8"))?;
    let is_plain = |letter: char| matches!(letter, '\t' | '\n' | '\r') || !letter.is_control();
    if text.trim().is_empty() {
        return Err(licence_error("is empty"));
    }
    if !text.chars().all(is_plain) {
        return Err(licence_error("has control characters"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(version: &str) -> Build {
        let facts = [("name", "BIG-IP"), ("version", version), ("build", "0.0.39")];
        Build {
            disk_name: "disk".into(),
            product: facts.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..Build::default()
        }
    }

    #[test]
    fn the_hardware_version_follows_the_products_version() {
        for (version, number, hardware) in [
            ("14.1.0.3", Some(14_010_003), 10),
            ("15.1.6.1", Some(15_010_601), 10),
            ("15.1.6.2", Some(15_010_602), 13),
            ("15.1.10", Some(15_011_000), 13),
            ("16.0.0", Some(16_000_000), 10),
            ("16.1.2.1", Some(16_010_201), 10),
            ("16.1.2.2", Some(16_010_202), 13),
            ("17.1.0", Some(17_010_000), 13),
            ("x", None, 10),
        ] {
            let build = build(version);
            assert_eq!(version_of(&build), number, "{version}");
            assert_eq!(machine(&build).hardware_version, hardware, "{version}");
        }
    }

    #[test]
    fn the_product_is_described_as_far_as_it_is_known() {
        let product = machine(&build("15.0.0")).product.unwrap();
        assert_eq!((&*product.name, &*product.full_version), ("BIG-IP", "15.0.0-0.0.39"));
        let plain = machine(&Build { disk_name: "debian".into(), ..Build::default() });
        assert_eq!(plain.product.as_ref().unwrap().name, "debian");
        assert_eq!(plain.annotation, "debian, made by build-image");
        assert_eq!((plain.networks.len(), machine(&build("15.0.0")).networks.len()), (1, 4));
    }

    #[test]
    fn licences_are_files_of_plain_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        for (name, content) in [
            ("good", "you may\n".as_bytes()),
            ("empty", b" \n"),
            ("binary", b"\xff\xfe"),
            ("nul", b"a\0"),
        ] {
            fs::write(path(name), content).unwrap();
        }
        assert_eq!(licence("K", &path("good")).unwrap(), "you may\n");
        for (path, text) in [
            (path("empty"), "is empty"),
            (path("binary"), "no text in UTF-8"),
            (path("nul"), "control characters"),
            (path("absent"), "cannot read"),
            ("https://example.com/eula.txt".to_owned(), "is an address, not a file"),
        ] {
            let error = licence("K", &path).unwrap_err();
            assert!(error.kind == ErrorKind::Config && error.message.contains(text), "{error}");
            assert!(error.hint.is_some());
        }
    }
}
