//! Defines the documents that installers and the engine exchange: plain data.

use std::{collections::BTreeMap, path::Path, path::PathBuf};

use serde_json::Value as Json;

use super::{Lookup, Settings};
use crate::initrd::Addition;

/// A command line that help shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    /// File name of an ISO.
    pub iso: &'static str,
    /// Flags that an installation needs.
    pub flags: &'static str,
}

/// The settings of a further ISO that is installed on top of the base ISO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediumSetting {
    /// Its name in plans and provenance statements.
    pub name: &'static str,
    /// Key of the setting that names it: a path or a URL.
    pub key: &'static str,
    /// Key of the setting with its signature.
    pub signature: &'static str,
    /// Key of the setting with its SHA-256.
    pub sha256: &'static str,
}

/// What an ISO installs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// Name of the system.
    pub product: String,
    /// Its version; empty when the ISO does not state it.
    pub version: String,
    /// Its build; empty when the ISO does not state it.
    pub build: String,
    /// Architecture of the installed disk: `x86_64`.
    pub architecture: String,
    /// How the installed disk boots: `bios` or `uefi`.
    pub boot_mode: String,
    /// Facts for the provider, by name.
    pub facts: BTreeMap<String, String>,
    /// File name of a downloaded ISO.
    pub iso_name: String,
    /// What the installer needs again; only the installer reads it.
    pub details: Json,
}

impl System {
    /// Returns product and version, for display.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.product, self.version).trim_end().to_owned()
    }
}

/// A text for the user, with an optional hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The text.
    pub text: String,
    /// What to do.
    pub hint: Option<String>,
}

/// An ISO that can be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What it installs, complete.
    pub system: System,
    /// Warnings.
    pub warnings: Vec<Note>,
}

/// A further ISO that fits the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FurtherMedium {
    /// Its settings.
    pub setting: MediumSetting,
    /// The file.
    pub path: PathBuf,
    /// What it installs.
    pub system: System,
}

/// What a prepared installation is derived from.
pub struct Request<'a> {
    /// The base ISO.
    pub iso: &'a Path,
    /// What it installs.
    pub system: &'a System,
    /// Further ISOs, in the order of [`super::Installer::media`].
    pub media: &'a [FurtherMedium],
    /// The user's settings.
    pub settings: &'a Settings,
    /// Interprets paths inside settings.
    pub lookup: &'a dyn Lookup,
    /// Name of the provider.
    pub platform: &'a str,
    /// What the provider wishes of the guest: the contract's document, as JSON.
    pub guest: &'a Json,
}

/// The names that an installation gives to files and images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// File name of the image without suffix.
    pub file_stem: String,
    /// Start of a composed image name.
    pub seed: String,
    /// Name of the disk inside a package.
    pub disk_name: String,
}

/// A file that the installation reads, beside the ISOs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFile {
    /// Key of the setting that names it.
    pub key: &'static str,
    /// Where in the setting it is named, for messages.
    pub place: String,
    /// What it becomes in the image, for messages and provenance statements.
    pub target: String,
    /// File or directory on this machine; empty until it is downloaded.
    pub source: PathBuf,
    /// URL, if it is downloaded.
    pub url: Option<String>,
}

/// A text that the first boot should print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The text.
    pub text: String,
    /// The warning when it is not printed.
    pub otherwise: Note,
}

/// A boot of the installed disk before it becomes an image; the guest powers off by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstBoot {
    /// Name of its serial log.
    pub log: String,
    /// Texts that must all be printed.
    pub success: Vec<String>,
    /// A text that should be printed.
    pub expected: Option<Expected>,
}

/// A file on an ISO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsoFile {
    /// The ISO.
    pub iso: PathBuf,
    /// The path inside.
    pub path: String,
}

/// One guest that installs: a kernel that is started directly.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Its name for display.
    pub name: String,
    /// What is done when it succeeded, for display.
    pub done: String,
    /// Name of its serial log.
    pub log: String,
    /// The ISO in the CD-ROM drive.
    pub cdrom: PathBuf,
    /// The kernel.
    pub kernel: IsoFile,
    /// The initrd.
    pub initrd: IsoFile,
    /// What is added to the initrd.
    pub additions: Vec<Addition>,
    /// The command line of the kernel.
    pub arguments: String,
    /// Texts that must all be printed.
    pub success: Vec<String>,
    /// Texts that each mean that the guest has failed.
    pub failure: Vec<String>,
    /// How the initrd gets smaller, for the hint of a guest with too little memory.
    pub lighter: String,
}

/// The decisions of an installation.
#[derive(Clone, Debug)]
pub struct Document {
    /// The system that the disk will hold.
    pub system: System,
    /// Size of the disk with its reserve, in bytes.
    pub disk_bytes: u64,
    /// Size of the smallest disk that holds everything, in bytes.
    pub least_bytes: u64,
    /// What to do when a provider does not take a disk of that size.
    pub smaller: String,
    /// Names of files and images.
    pub names: Names,
    /// Automatic tags of the image.
    pub tags: BTreeMap<String, String>,
    /// Files that the installation reads.
    pub files: Vec<InputFile>,
    /// What the installed disk depends on, beside the ISOs and the additions to the initrds.
    pub fingerprint: Vec<String>,
    /// The first boot; `None` when the disk is complete after the last pass.
    pub first_boot: Option<FirstBoot>,
    /// Attributes of the image for an image registry.
    pub attributes: BTreeMap<String, Json>,
    /// Members of every record of a step.
    pub step_members: BTreeMap<String, Json>,
    /// Members of the record of the registered image.
    pub image_members: BTreeMap<String, Json>,
    /// Names of its records and serial logs, for the snapshot of a build.
    pub snapshot_files: Vec<String>,
}

/// A JSON file for other programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Name of the file.
    pub file: String,
    /// Name of the step whose common members are added.
    pub step: Option<String>,
    /// The content.
    pub members: Json,
}

/// What records contain beside the decisions.
pub struct RecordContext<'a> {
    /// The raw disk.
    pub raw_disk: &'a Path,
    /// Its size, in bytes.
    pub virtual_size: u64,
    /// Whether the image leaves this machine.
    pub is_cloud: bool,
    /// Returns the text of a setting, redacted; empty when it is not set.
    pub shown: &'a dyn Fn(&str) -> String,
}
