//! Checks whether the kernel of the default boot entry has the drivers that the target's machines need. A driver of a
//! disk or of the root file system must be built in or in that entry's initramfs; one of a network may also be on the
//! root file system.

use std::collections::BTreeSet;

use crate::finding::Finding;
use crate::inspect::root_argument;
use crate::model::{BootEntry, Evidence, Inspection, Kernel};
use crate::requirements::{DriverNeed, Requirements};

/// The kernel and the initramfs of an entry.
pub(crate) struct Early<'a> {
    pub(crate) entry: &'a BootEntry,
    kernel: Option<&'a Kernel>,
    /// Names of modules that are built in; `None` if they are not known.
    builtin: Option<BTreeSet<&'a str>>,
    /// Names of modules in the initramfs; `None` if it could not be read.
    modules: Option<BTreeSet<&'a str>>,
}

impl<'a> Early<'a> {
    /// Returns the kernels and initramfs of the default entries.
    pub(crate) fn of(found: &'a Inspection) -> impl Iterator<Item = Self> {
        found.entries.iter().filter(|entry| entry.is_default).map(|entry| {
            let kernel =
                found.kernels.iter().find(|kernel| Some(&kernel.version) == entry.version.as_ref());
            let contents: Option<Vec<_>> =
                entry.initramfs.iter().map(|initramfs| initramfs.content.as_ref()).collect();
            let contents = contents.filter(|all| {
                all.iter().all(|one| one.damage.is_none() && one.not_inspected.is_none())
            });
            let listed = kernel.filter(|kernel| kernel.has_lists).map(|kernel| &kernel.builtin);
            let carried = contents.iter().flatten().map(|content| &content.builtin);
            let carried = carried.filter(|list| !list.is_empty());
            let lists: Vec<&BTreeSet<String>> = listed.into_iter().chain(carried).collect();
            let all = lists.iter().flat_map(|list| list.iter().map(String::as_str)).collect();
            let modules = contents.map(|all| {
                all.into_iter().flat_map(|one| one.modules.iter().map(String::as_str)).collect()
            });
            Self { entry, kernel, builtin: (!lists.is_empty()).then_some(all), modules }
        })
    }

    /// Returns whether the kernel has one of the drivers before the root file system is mounted; `None` if what was
    /// read does not decide it.
    pub(crate) fn has(&self, one_of: &[&str]) -> Option<bool> {
        let is_in = |set: &Option<BTreeSet<&str>>| {
            set.as_ref().map(|set| one_of.iter().any(|name| set.contains(name)))
        };
        match (is_in(&self.builtin), is_in(&self.modules)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }
    }

    /// Returns whether one of the drivers is on the root file system.
    fn is_installed(&self, one_of: &[&str]) -> Option<bool> {
        let kernel = self.kernel.filter(|kernel| kernel.has_lists)?;
        Some(one_of.iter().any(|name| kernel.modules.contains(*name)))
    }

    /// Returns what adds a driver to the initramfs.
    fn remedy(&self, one_of: &[&str]) -> String {
        let first = one_of.first().copied().unwrap_or_default();
        if self.is_installed(one_of) == Some(false) {
            return format!("install a kernel that has the driver {first}");
        }
        let mut generators = self
            .entry
            .initramfs
            .iter()
            .filter_map(|one| one.content.as_ref()?.generator.as_deref());
        match generators.next_back() {
            Some("dracut") => format!("run `dracut --force --add-drivers {first}` in the system"),
            Some("mkinitcpio") => {
                format!("add {first} to MODULES in /etc/mkinitcpio.conf, and run `mkinitcpio -P`")
            }
            _ => format!(
                "add {first} to /etc/initramfs-tools/modules, and run `update-initramfs -u`"
            ),
        }
    }

    fn evidence(&self) -> Vec<Evidence> {
        let files = self.entry.initramfs.iter().filter_map(|initramfs| {
            Some(Evidence::of(initramfs.file.volume.as_ref()?, &initramfs.file.path))
        });
        let lists = self.kernel.iter().map(|kernel| {
            let file = format!("{}/modules.builtin", kernel.evidence.file);
            Evidence::of(&kernel.evidence.volume, &file)
        });
        std::iter::once(self.entry.evidence.clone()).chain(files).chain(lists).collect()
    }
}

pub(super) fn check(found: &Inspection, needs: &Requirements, findings: &mut Vec<Finding>) {
    for early in Early::of(found) {
        for need in &needs.disks {
            disk(&early, need, findings);
        }
        for need in &needs.networks {
            network(&early, need, findings);
        }
        root(found, &early, findings);
    }
}

fn names(need: &DriverNeed) -> Vec<&str> {
    need.one_of.iter().map(String::as_str).collect()
}

fn disk(early: &Early<'_>, need: &DriverNeed, findings: &mut Vec<Finding>) {
    let drivers = names(need);
    if drivers.is_empty() || early.has(&drivers) != Some(false) {
        return;
    }
    let message = format!(
        "the kernel of the boot entry `{}` finds no root on {}: {} is neither built in nor in its initramfs",
        early.entry.title,
        need.device,
        drivers.join(" or ")
    );
    let mut finding =
        Finding::new("disk-driver-missing", need.severity, message, &early.remedy(&drivers));
    finding.evidence = early.evidence();
    findings.push(finding);
}

fn network(early: &Early<'_>, need: &DriverNeed, findings: &mut Vec<Finding>) {
    let drivers = names(need);
    let is_missing =
        early.has(&drivers) == Some(false) && early.is_installed(&drivers) == Some(false);
    if drivers.is_empty() || !is_missing {
        return;
    }
    let message = format!(
        "the kernel of the boot entry `{}` has no driver for {}: {} is not installed",
        early.entry.title,
        need.device,
        drivers.join(" or ")
    );
    let remedy = format!("install a kernel that has the driver {}", drivers[0]);
    let mut finding = Finding::new("network-driver-missing", need.severity, message, &remedy);
    finding.evidence = early.evidence();
    findings.push(finding);
}

/// Checks that the root file system can be mounted, and found if it is on a logical volume.
fn root(found: &Inspection, early: &Early<'_>, findings: &mut Vec<Finding>) {
    let Some(device) = root_argument(&early.entry.arguments) else { return };
    let Some(volume) = crate::system::find_volume(device, &found.volumes) else { return };
    let drivers: &[&str] = match volume.content.as_str() {
        // The driver of ext4 reads ext2 and ext3 too.
        "ext4" => &["ext4", "ext3", "ext2"],
        "xfs" => &["xfs"],
        "btrfs" => &["btrfs"],
        _ => &[],
    };
    if !drivers.is_empty() && early.has(drivers) == Some(false) {
        let message = format!(
            "the kernel of the boot entry `{}` cannot mount its root: {} is neither built in nor in its initramfs",
            early.entry.title, drivers[0]
        );
        let mut finding = Finding::error("root-driver-missing", message, &early.remedy(drivers));
        finding.evidence = early.evidence();
        findings.push(finding);
    }
    let contents: Option<Vec<_>> =
        early.entry.initramfs.iter().map(|one| one.content.as_ref()).collect();
    let lacks_lvm =
        early.modules.is_some() && contents.is_some_and(|all| all.iter().all(|one| !one.has_lvm));
    if volume.name.starts_with("logical volume") && lacks_lvm {
        let message =
            format!("the root is on a {}, and the initramfs has no program `lvm`", volume.name);
        let remedy = "install lvm2 in the system, and create the initramfs again";
        let mut finding = Finding::error("lvm-missing", message, remedy);
        finding.evidence = early.evidence();
        findings.push(finding);
    }
}
