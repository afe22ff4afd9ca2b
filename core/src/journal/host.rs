//! Identifies the host of a process: locks of a shared file system may not work across hosts.

use std::fs;

use serde::{Deserialize, Serialize};

/// Name of this host, as the process sees it.
const NAME: &str = "/proc/sys/kernel/hostname";
/// Changes at every boot of the kernel; the containers of one host share it.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A host, from one boot to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostId {
    /// Its name.
    pub name: String,
    /// The boot id of its kernel.
    pub boot: String,
}

impl HostId {
    /// Returns the host of this process.
    #[must_use]
    pub fn of_this() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self { name: read(NAME), boot: read(BOOT) }
    }

    /// Returns whether it is another host than this one: both the name and the boot id differ. A rebooted host keeps
    /// its name, and a recreated container runs on the same kernel.
    #[must_use]
    pub fn is_another(&self) -> bool {
        let here = Self::of_this();
        let differs = |then: &str, now: &str| !then.is_empty() && !now.is_empty() && then != now;
        differs(&self.name, &here.name) && differs(&self.boot, &here.boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_another_when_its_name_and_boot_id_both_differ() {
        let here = HostId::of_this();
        assert!(!here.name.is_empty() && !here.boot.is_empty(), "{here:?}");
        let other = |name: &str, boot: &str| HostId { name: name.into(), boot: boot.into() };
        for (host, is_another) in [
            (here.clone(), false),
            (other(&here.name, "started-again"), false),
            (other("another-container", &here.boot), false),
            (other("another-host", "another-start"), true),
            (HostId::default(), false),
        ] {
            assert_eq!(host.is_another(), is_another, "{host:?}");
        }
    }
}
