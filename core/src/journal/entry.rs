//! Defines the entries of the journal, one per line.

use std::{collections::BTreeMap, path::PathBuf};

use build_image_plugin_api::{Event, document::Build};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::HostId;
use crate::publication::PublishedFile;

/// A target of a build with several targets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupTarget {
    /// Its name.
    pub name: String,
    /// Its provider.
    pub provider: String,
}

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Entry {
    /// The first line.
    RunStarted {
        /// Identifier of the run.
        run_id: String,
        /// Version of this tool.
        tool: String,
        /// Name of the provider.
        platform: String,
        /// Path of the plugin's file.
        #[serde(default)]
        plugin: String,
        /// SHA-256 of that file.
        #[serde(default)]
        sha256: String,
        /// The provider's settings without secrets, for the removal of leftovers.
        #[serde(default)]
        settings: Value,
        /// The command line without secrets, normalised, for a resume.
        #[serde(default)]
        words: Vec<String>,
        /// Working directory of the command.
        #[serde(default, rename = "folder")]
        working_directory: String,
        /// The settings that decide what is built, normalised; a resumed run keeps them.
        #[serde(default)]
        shape: BTreeMap<String, String>,
        /// Whether the inputs still had to be fetched; `InputsKnown` records the result.
        #[serde(default)]
        provisional: bool,
        /// The parameters of the provider's steps, as far as they were known before the inputs were fetched.
        #[serde(default)]
        build: Box<Build>,
        /// Directory of the build's files, when it needs one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        artifacts: Option<PathBuf>,
        /// The host of the process.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<HostId>,
        /// The build with several targets of which it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<Box<str>>,
    },
    /// The first line of a build with several targets, whose targets are runs with journals.
    GroupStarted {
        /// Identifier of the build.
        group: String,
        /// Version of this tool.
        tool: String,
        /// The command line without secrets, normalised, for a resume.
        words: Vec<String>,
        /// Working directory of the command.
        #[serde(rename = "folder")]
        working_directory: String,
        /// Its targets.
        targets: Vec<GroupTarget>,
        /// The host of the process.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<HostId>,
    },
    /// Another process resumes a build with several targets.
    GroupResumed {
        /// Version of this tool.
        tool: String,
        /// The host of the process.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<HostId>,
    },
    /// A run of a target begins.
    TargetStarted {
        /// Name of the target.
        target: String,
        /// Identifier of the run.
        run: String,
    },
    /// The run of a target has ended.
    TargetEnded {
        /// Name of the target.
        target: String,
        /// The exit code that it would have alone.
        code: u8,
        /// Its result document.
        result: Value,
    },
    /// Targets share a directory of files.
    DirectoryShared {
        /// The directory.
        artifacts: PathBuf,
    },
    /// A disk that targets share is installed.
    DiskInstalled {
        /// What decides its content.
        shape: String,
        /// The facts of the step, as in the journals of the runs.
        facts: Value,
    },
    /// The inputs are known, and with them the parameters of the provider's steps.
    InputsKnown {
        /// The parameters of the provider's steps.
        build: Box<Build>,
        /// Directory of the build's files, when it needs one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        artifacts: Option<PathBuf>,
    },
    /// Another process resumes the run.
    RunResumed {
        /// Version of this tool.
        tool: String,
        /// SHA-256 of the plugin's file.
        sha256: String,
        /// The provider's settings without secrets.
        #[serde(default)]
        settings: Value,
        /// The host of the process.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<HostId>,
    },
    /// The user trusts the preceding lines, although this user's key did not sign them.
    RunAdopted {
        /// Version of this tool.
        tool: String,
    },
    /// A step begins.
    StepStarted {
        /// Name of the step.
        step: String,
    },
    /// A step is done.
    StepDone {
        /// Name of the step.
        step: String,
        /// The facts of the step that later steps need.
        facts: Value,
    },
    /// A provider's resource changed.
    Resource {
        /// The change.
        event: Event,
    },
    /// The image is finished: its parts belong to the user from now on. What follows is finished, never undone.
    ProductsReleased {
        /// Files in the run's staging directory that are given their names in IMAGE_DIR.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<PublishedFile>,
    },
    /// A provider stores a checkpoint.
    Checkpoint {
        /// Its key.
        key: String,
        /// The document.
        document: Value,
    },
    /// The last line.
    RunDone {
        /// `success`, or the error's kind.
        result: String,
    },
    /// A run builds under a name that the user gave (the journal of the name, not of the run).
    NameTaken {
        /// Identifier of the run.
        run_id: String,
        /// What was asked for: the settings that decide what is built.
        request: BTreeMap<String, String>,
    },
    /// The build of a name is done.
    NameDone {
        /// The result document.
        outcome: Value,
    },
    /// A line of a later version.
    #[serde(other)]
    Unknown,
}
