//! The result of an inspection, as data for reports and checks.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::secret::redacted;

/// What is inside a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Inspection {
    /// Whether the inspection was not ended by a limit.
    pub complete: bool,
    /// The partitioning scheme: `GPT`, `MBR`, or `no partition table`.
    pub scheme: String,
    /// Partitions, logical volumes, or the whole disk.
    pub volumes: Vec<VolumeFacts>,
    /// The system on the root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<System>,
    /// What shows that the disk has Windows, whose files are not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Evidence>,
    /// Boot loaders, for each firmware.
    pub loaders: Vec<Loader>,
    /// Entries of the configuration of boot loaders; the default ones come first.
    pub entries: Vec<BootEntry>,
    /// Identifiers of file systems that boot loaders search for and that the disk does not have.
    pub unknown_searches: Vec<Reference>,
    /// Installed kernels.
    pub kernels: Vec<Kernel>,
    /// What could not be read, as sentences without a full stop.
    pub remarks: Vec<String>,
}

/// Where something was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Evidence {
    /// The volume, such as `partition 1`.
    pub volume: String,
    /// The path of a file on it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// The line of the file, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The text of the line, with secrets replaced; never of a file that holds keys.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

impl Evidence {
    /// Longest text that is quoted, in characters.
    const MAX_TEXT: usize = 200;

    pub(crate) fn of(volume: &str, file: &str) -> Self {
        Self { volume: volume.to_owned(), file: file.to_owned(), ..Self::default() }
    }

    pub(crate) fn at_line(mut self, line: u32) -> Self {
        self.line = Some(line);
        self
    }

    pub(crate) fn quoting(mut self, text: &str) -> Self {
        self.text = redacted(text).chars().take(Self::MAX_TEXT).collect();
        self
    }
}

/// A text, such as a device, with the place that names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The text.
    pub name: String,
    /// The place.
    pub evidence: Evidence,
}

/// A volume and its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumeFacts {
    /// `partition 1`, `logical volume vg/root`, or `disk`.
    pub name: String,
    /// Length in bytes; 0 if it is unknown.
    pub len: u64,
    /// The content with the names of `blkid`; `LVM2`, `RAID`, or `unknown` otherwise. `ext4` includes ext2 and ext3.
    pub content: String,
    /// Names of devices that lead to the volume on every machine: `UUID=…`, `/dev/disk/by-label/…`, `/dev/vg/root`.
    pub aliases: Vec<String>,
    /// Whether it is an EFI system partition.
    pub is_esp: bool,
    /// Whether its files were read.
    pub inspected: bool,
    /// Why not, if it holds something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_inspected: Option<String>,
}

/// The installed system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct System {
    /// The volume with its root file system.
    pub volume: String,
    /// ID of os-release.
    pub id: String,
    /// VERSION_ID of os-release.
    pub version: String,
    /// PRETTY_NAME of os-release.
    pub name: String,
    /// The architecture of its programs, with the names of `uname -m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Entries of /etc/fstab.
    pub fstab: Vec<FstabEntry>,
    /// Configuration of the network, by the program that reads it.
    pub networks: Vec<Network>,
    /// Agents of clouds and hypervisors.
    pub agents: Vec<Agent>,
    /// What should not be part of an image.
    pub machine_data: Vec<MachineData>,
}

/// An entry of /etc/fstab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FstabEntry {
    /// The device as it is written.
    pub device: String,
    /// The mount point, or `none`.
    pub point: String,
    /// The type of the file system.
    pub kind: String,
    /// The options.
    pub options: Vec<String>,
    /// The volume that the device leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// The line.
    pub evidence: Evidence,
}

/// A configuration of the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// `netplan`, `ifupdown`, `NetworkManager`, `systemd-networkd`, `ifcfg`.
    pub program: String,
    /// The file.
    pub evidence: Evidence,
    /// MAC addresses in the file, with their lines.
    pub macs: Vec<Reference>,
}

/// An agent that is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// The name, such as `cloud-init`.
    pub name: String,
    /// A file of it.
    pub evidence: Evidence,
}

/// What should not be part of an image, because every machine made from it would share it or because it is private.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineData {
    /// What it is.
    pub kind: MachineDataKind,
    /// The file.
    pub evidence: Evidence,
}

/// Kinds of machine-specific data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MachineDataKind {
    /// A private host key of the SSH server.
    HostKey,
    /// Keys that may log in.
    AuthorizedKeys,
    /// A private key of a user.
    PrivateKey,
    /// The identity of the machine.
    MachineId,
    /// Commands that a user typed.
    ShellHistory,
    /// What cloud-init remembers of the machine it ran on.
    CloudInitState,
    /// Names of network interfaces by MAC address.
    UdevNetRules,
    /// Leases of a DHCP client.
    DhcpLease,
    /// The seed of the random number generator.
    RandomSeed,
}

/// A firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// The firmware of PCs before UEFI, and its emulation.
    Bios,
    /// UEFI.
    Uefi,
}

/// A boot loader that a firmware starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loader {
    /// The firmware.
    pub firmware: Firmware,
    /// `GRUB`, `SYSLINUX`, `Windows`, `systemd-boot`, `shim`, `Linux`, or `unknown`.
    pub name: String,
    /// Where it is.
    pub evidence: Evidence,
    /// The architecture of a UEFI program, with the names of `uname -m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Whether it is at the path that UEFI starts without a boot variable: `\EFI\BOOT\BOOTX64.EFI` and the like.
    pub is_fallback: bool,
    /// Whether the program has a signature; it is not verified.
    pub is_signed: bool,
    /// Why it cannot work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The first module of GRUB, if none of its configurations has modules beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_module: Option<Evidence>,
}

/// An entry of a boot loader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootEntry {
    /// The kind of its configuration: `GRUB`, `GRUB Legacy`, `BLS`, `SYSLINUX`, or `UKI`.
    pub loader: String,
    /// The title or the label.
    pub title: String,
    /// Whether it is started when the user does nothing.
    pub is_default: bool,
    /// The line that names the kernel.
    pub evidence: Evidence,
    /// The arguments of the kernel.
    pub arguments: String,
    /// The line with the arguments.
    pub arguments_at: Evidence,
    /// The kernel as it is written; its place if the file exists.
    pub kernel: Located,
    /// The version of the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The initramfs files.
    pub initramfs: Vec<InitramfsFile>,
}

/// A file that a boot loader names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// The path as it is written.
    pub path: String,
    /// The volume, if the file was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Whether the volumes that could hold it were not all inspected.
    #[serde(default)]
    pub may_be_elsewhere: bool,
    /// Whether the file has a signature for Secure Boot.
    #[serde(default)]
    pub is_signed: bool,
}

/// An initramfs of a boot entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitramfsFile {
    /// Where it is.
    pub file: Located,
    /// Its content; absent if the file was not found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Arc<Initramfs>>,
}

/// The content of an initramfs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initramfs {
    /// Length in bytes.
    pub len: u64,
    /// Compressions of its parts, in order; `none` for an archive without one.
    pub compressions: Vec<String>,
    /// The program that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator: Option<String>,
    /// Versions of kernels that it has modules for.
    pub versions: Vec<String>,
    /// Number of members.
    pub members: u64,
    /// Names of its modules, as `lsmod` prints them.
    #[serde(skip)]
    pub modules: BTreeSet<String>,
    /// Names of modules that are built into the kernel, if it has the list.
    #[serde(skip)]
    pub builtin: BTreeSet<String>,
    /// Whether it has the program lvm.
    pub has_lvm: bool,
    /// Why it is damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// Why it was not read to its end, although it may be intact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_inspected: Option<String>,
}

/// An installed kernel, by its directory of modules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// The version, such as `6.1.0-18-amd64`.
    pub version: String,
    /// The directory of its modules.
    pub evidence: Evidence,
    /// Names of modules that are built in, as `lsmod` would print them.
    #[serde(skip)]
    pub builtin: BTreeSet<String>,
    /// Names of modules that are installed.
    #[serde(skip)]
    pub modules: BTreeSet<String>,
    /// Whether both lists could be read.
    pub has_lists: bool,
}
