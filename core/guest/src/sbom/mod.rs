//! Reads the databases of package managers, and writes them as a bill of materials.
//!
//! ```text
//! dpkg.rs   /var/lib/dpkg/status and status.d      apk.rs    /lib/apk/db/installed
//! rpm/      rpmdb.sqlite, Packages.db, or Packages
//! formats.rs   CycloneDX 1.5 and SPDX 2.3 as JSON
//! ```

mod apk;
mod dpkg;
mod formats;
mod rpm;
mod stanza;

pub use formats::Document;
pub(crate) use rpm::every as rpm_databases;

use serde::{Deserialize, Serialize};

use crate::source::Source;
use crate::tree::Tree;

/// An installed package.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// The name.
    pub name: String,
    /// The version, as the package manager prints it; that of rpm is `epoch:version-release`, without an absent epoch.
    pub version: String,
    /// The architecture, with the names of the package manager.
    pub architecture: String,
    /// The source package, and its version, if they differ; that of rpm is a file name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The maintainer; that of rpm is the vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintainer: Option<String>,
    /// The licence, if the database has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The package URL type: `deb`, `rpm`, or `apk`.
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
    /// Databases that exist, but are not read, each with the reason.
    pub not_inspected: Vec<String>,
}

/// Reads the packages of a system.
pub(crate) fn read(tree: &Tree, source: &Source) -> Packages {
    let (os, os_version) = crate::system::os(tree);
    let mut packages = dpkg::read(tree, source);
    packages.extend(apk::read(tree, source));
    let (of_rpm, not_inspected) = rpm::read(tree, source);
    packages.extend(of_rpm);
    packages.sort();
    packages.dedup();
    Packages { os, os_version, packages, not_inspected }
}
