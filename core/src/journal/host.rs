//! Says on which host a process of a run works: locks of a shared file system may not reach from host to host.

use std::fs;

use serde::{Deserialize, Serialize};

/// Name of this host, as the process sees it.
const NAME: &str = "/proc/sys/kernel/hostname";
/// Changes when the kernel starts; containers of one host have the same.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A host, from one start to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostId {
    /// Its name.
    pub name: String,
    /// The identifier of its kernel's start.
    pub boot: String,
}

impl HostId {
    /// The host of this process.
    #[must_use]
    pub fn of_this() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self { name: read(NAME), boot: read(BOOT) }
    }

    /// Whether it is another host than this one. A host that was started again keeps its name, and a container that
    /// was created again is on the same kernel.
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
    fn a_host_is_another_when_neither_its_name_nor_its_start_is_known_here() {
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
