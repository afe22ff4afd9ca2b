//! Writes packages as CycloneDX 1.5 and SPDX 2.3, in JSON. Sources: CycloneDX specification 1.5, SPDX specification
//! 2.3, and the package URL specification for the types deb, rpm, and apk. The same packages give the same bytes: time and
//! serial number are the caller's.

use serde_json::{Value, json};

use super::{Package, Packages};

/// What identifies a document.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    /// The name of what the packages are installed on, such as the name of the image.
    pub name: &'a str,
    /// A UUID.
    pub uuid: &'a str,
    /// The time of its creation, RFC 3339 in UTC.
    pub time: &'a str,
    /// The version of this program.
    pub tool_version: &'a str,
}

impl Packages {
    /// Returns the packages as CycloneDX.
    pub fn cyclonedx(&self, document: &Document<'_>) -> Value {
        let components: Vec<Value> =
            self.packages.iter().map(|package| self.component(package)).collect();
        json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "serialNumber": format!("urn:uuid:{}", document.uuid),
            "version": 1,
            "metadata": {
                "timestamp": document.time,
                "tools": { "components": [{
                    "type": "application", "name": "build-image", "version": document.tool_version,
                }] },
                "component": {
                    "type": "operating-system",
                    "bom-ref": "disk",
                    "name": if self.os.is_empty() { document.name } else { &self.os },
                    "version": self.os_version,
                },
            },
            "components": components,
        })
    }

    fn component(&self, package: &Package) -> Value {
        let url = self.package_url(package);
        let mut component = json!({
            "type": "library",
            "bom-ref": url,
            "name": package.name,
            "version": package.version,
            "purl": url,
        });
        if let Some(licence) = &package.licence {
            component["licenses"] = json!([{ "license": { "name": licence } }]);
        }
        if let Some(maintainer) = &package.maintainer {
            component["publisher"] = json!(maintainer);
        }
        component
    }

    /// Returns the packages as SPDX.
    pub fn spdx(&self, document: &Document<'_>) -> Value {
        let packages: Vec<Value> = (1..)
            .zip(&self.packages)
            .map(|(number, package)| {
                json!({
                    "SPDXID": format!("SPDXRef-Package-{number}"),
                    "name": package.name,
                    "versionInfo": package.version,
                    "downloadLocation": "NOASSERTION",
                    "filesAnalyzed": false,
                    "licenseConcluded": "NOASSERTION",
                    "licenseDeclared": "NOASSERTION",
                    "copyrightText": "NOASSERTION",
                    "supplier": supplier(package),
                    "externalRefs": [{
                        "referenceCategory": "PACKAGE-MANAGER",
                        "referenceType": "purl",
                        "referenceLocator": self.package_url(package),
                    }],
                })
            })
            .collect();
        let described = (1..=packages.len()).map(|number| {
            json!({
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": format!("SPDXRef-Package-{number}"),
            })
        });
        json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": document.name,
            "documentNamespace": format!("urn:uuid:{}", document.uuid),
            "creationInfo": {
                "created": document.time,
                "creators": [format!("Tool: build-image-{}", document.tool_version)],
            },
            "packages": packages,
            "relationships": described.collect::<Vec<Value>>(),
        })
    }

    /// Returns the package URL: `pkg:deb/debian/bash@5.2.15-2?arch=amd64&distro=debian-12`.
    fn package_url(&self, package: &Package) -> String {
        let os = if self.os.is_empty() { "linux" } else { &self.os };
        let is_rpm = package.kind == "rpm";
        // The namespace of rpm is the vendor, and the epoch is not a part of the version.
        let namespace = match os {
            "rhel" if is_rpm => "redhat",
            _ if is_rpm && os.starts_with("opensuse-") => "opensuse",
            _ => os,
        };
        let split = package.version.split_once(':').filter(|_| is_rpm);
        let (epoch, version) = split.unwrap_or(("", &package.version));
        let (name, version) = (encoded(&package.name), encoded(version));
        let mut url = format!("pkg:{}/{}/{name}@{version}", package.kind, encoded(namespace));
        let mut separator = '?';
        let distribution = format!("{os}-{}", self.os_version);
        let architecture = package.architecture.as_str();
        for (key, value) in [("arch", architecture), ("distro", &distribution), ("epoch", epoch)] {
            if !value.is_empty() && !value.ends_with('-') {
                url.push_str(&format!("{separator}{key}={}", encoded(value)));
                separator = '&';
            }
        }
        url
    }
}

/// Returns the supplier in SPDX: dpkg and apk name a person, rpm names a vendor.
fn supplier(package: &Package) -> String {
    let kind = if package.kind == "rpm" { "Organization" } else { "Person" };
    match &package.maintainer {
        Some(name) => format!("{kind}: {}", name.replace('<', "(").replace('>', ")")),
        None => "NOASSERTION".to_owned(),
    }
}

/// Percent-encodes what a package URL does not allow in a component.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
