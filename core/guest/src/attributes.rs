//! Infers the attributes that a cloud records of an image.

use serde::{Deserialize, Serialize};

use crate::check::Early;
use crate::model::{Firmware, Inspection};

/// The name of Windows where other systems have the ID of os-release.
const WINDOWS: &str = "windows";

/// Attributes of an image, as far as the disk shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Firmware that can start the disk.
    pub firmware: Vec<Firmware>,
    /// The architecture, with the names of `uname -m`.
    pub architecture: Option<String>,
    /// Whether the system finds its root on an NVMe disk.
    pub nvme: Option<bool>,
    /// ID of os-release, or `windows`.
    pub os: Option<String>,
    /// VERSION_ID of os-release.
    pub os_version: Option<String>,
    /// PRETTY_NAME of os-release.
    pub os_name: Option<String>,
    /// Agents of clouds and hypervisors.
    pub agents: Vec<String>,
}

impl Attributes {
    /// Infers the attributes from an inspection.
    pub fn of(found: &Inspection) -> Self {
        let starts = |firmware: Firmware| {
            found.loaders.iter().any(|loader| {
                loader.firmware == firmware && loader.is_fallback && loader.problem.is_none()
            })
        };
        let firmware = [Firmware::Bios, Firmware::Uefi].into_iter().filter(|one| starts(*one));
        let system = found.system.as_ref();
        let text = |value: Option<&String>| value.filter(|text| !text.is_empty()).cloned();
        // A system whose files were read is certain; Windows is known by its boot loader only.
        let windows = found.windows.as_ref().filter(|_| system.is_none());
        let programs = found.loaders.iter().filter(|loader| loader.is_fallback);
        let mut programs: Vec<&String> =
            programs.filter_map(|loader| loader.architecture.as_ref()).collect();
        programs.dedup();
        let program = match programs[..] {
            [only] => Some(only.clone()),
            _ => None,
        };
        Self {
            firmware: firmware.collect(),
            architecture: system.and_then(|system| system.architecture.clone()).or(program),
            nvme: Early::of(found).next().and_then(|early| early.has(&["nvme"])),
            os: text(system.map(|system| &system.id)).or(windows.map(|_| WINDOWS.to_owned())),
            os_version: text(system.map(|system| &system.version)),
            os_name: text(system.map(|system| &system.name))
                .or(windows.map(|_| "Windows".to_owned())),
            agents: system
                .iter()
                .flat_map(|system| &system.agents)
                .map(|one| one.name.clone())
                .collect(),
        }
    }
}
