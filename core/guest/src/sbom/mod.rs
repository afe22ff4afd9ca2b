//! Reads the databases of package managers, and writes them as a bill of materials.
//!
//! ```text
//! dpkg.rs   /var/lib/dpkg/status and status.d      apk.rs    /lib/apk/db/installed
//! formats.rs   CycloneDX 1.5 and SPDX 2.3 as JSON
//! ```
//!
//! The databases of rpm are named, but not read.

mod apk;
mod dpkg;
mod formats;
mod stanza;

pub use formats::Document;

use serde::{Deserialize, Serialize};

use crate::source::Source;
use crate::tree::Tree;

/// An installed package.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// The name.
    pub name: String,
    /// The version, as the package manager prints it.
    pub version: String,
    /// The architecture, with the names of the package manager.
    pub architecture: String,
    /// The source package, and its version, if they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The maintainer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintainer: Option<String>,
    /// The licence, if the database has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The package URL type: `deb` or `apk`.
    pub kind: String,
}

/// The packages of a disk, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packages {
    /// ID of os-release, or `linux`.
    pub os: String,
    /// VERSION_ID of os-release.
    pub os_version: String,
    /// The packages.
    pub packages: Vec<Package>,
    /// Databases that exist, but are not read.
    pub not_inspected: Vec<String>,
}

/// Databases of rpm: SQLite, ndb, and Berkeley DB, in both of their directories.
const RPM: [&str; 6] = [
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/Packages.db",
    "/usr/lib/sysimage/rpm/Packages",
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages.db",
    "/var/lib/rpm/Packages",
];

/// Reads the packages of a system.
pub(crate) fn read(tree: &Tree, source: &Source) -> Packages {
    let (os, os_version) = crate::system::os(tree);
    let mut packages = dpkg::read(tree, source);
    packages.extend(apk::read(tree, source));
    packages.sort();
    packages.dedup();
    let rpm = RPM.iter().find(|path| tree.has(path));
    let not_inspected = rpm.iter().map(|path| format!("the database of rpm at {path}")).collect();
    Packages { os, os_version, packages, not_inspected }
}
