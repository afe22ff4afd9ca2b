//! What the machines of a target need from a disk, as plain data.

use serde::{Deserialize, Serialize};

use crate::finding::Severity;
use crate::model::Firmware;

/// What the machines of a target need. An empty list, or `None`, needs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Requirements {
    /// Architectures, with the names of `uname -m`.
    pub architectures: Vec<String>,
    /// Firmware that machines have; the disk must boot with one of them, or with all of them.
    pub firmware: Vec<Firmware>,
    /// Whether the disk must boot with every firmware of the list.
    pub every_firmware: bool,
    /// Partitioning schemes that work, with the names of [`crate::Inspection::scheme`].
    pub schemes: Vec<String>,
    /// Drivers of disks, one row per kind of machine.
    pub disks: Vec<DriverNeed>,
    /// Drivers of networks, one row per kind of machine.
    pub networks: Vec<DriverNeed>,
    /// The console that the target records, such as `ttyS0`.
    pub console: Option<String>,
    /// Agents of which one configures the machine, with the names of [`crate::model::Agent`].
    pub agents: Vec<String>,
    /// Whether machines have Secure Boot on.
    pub secure_boot: bool,
}

/// Drivers for a device of which one is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriverNeed {
    /// The device, for messages: `the disk of NVMe machines`.
    pub device: String,
    /// Names of modules, as `lsmod` prints them.
    pub one_of: Vec<String>,
    /// The severity if there is none: an error if no machine boots, a warning if some machines do not.
    #[serde(default)]
    pub severity: Severity,
}
