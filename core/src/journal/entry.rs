//! Defines what a line of the journal says.

use std::{collections::BTreeMap, path::PathBuf};

use build_image_plugin_api::{Event, document::Build};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::HostId;
use crate::publication::PublishedFile;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Entry {
    /// The first line.
    RunStarted {
        /// Identifier of the run.
        run_id: String,
        /// Version of this tool.
        tool: String,
        /// Provider.
        platform: String,
        /// File of the plugin.
        #[serde(default)]
        plugin: String,
        /// SHA-256 of that file.
        #[serde(default)]
        sha256: String,
        /// The provider's settings without secrets: what removing leftovers needs.
        #[serde(default)]
        settings: Value,
        /// The command line without secrets, in one spelling: what resuming needs.
        #[serde(default)]
        words: Vec<String>,
        /// Working directory of the command.
        #[serde(default, rename = "folder")]
        working_directory: String,
        /// The settings that decide what is built, in one spelling: a resumed run keeps them.
        #[serde(default)]
        shape: BTreeMap<String, String>,
        /// Whether the inputs were still to be fetched: `InputsKnown` says what became of it.
        #[serde(default)]
        provisional: bool,
        /// What the provider's steps receive, as far as it was known before the inputs were fetched.
        #[serde(default)]
        build: Box<Build>,
        /// Directory of the build's files, when it needs one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        artifacts: Option<PathBuf>,
        /// Where the process works.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<HostId>,
    },
    /// The inputs are known, and with them what the provider's steps receive.
    InputsKnown {
        /// What the provider's steps receive.
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
        /// Where the process works.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<HostId>,
    },
    /// The user believes what the lines before say, though this user's key did not sign them.
    RunAdopted {
        /// Version of this tool.
        tool: String,
    },
    /// A step begins.
    StepStarted {
        /// Which.
        step: String,
    },
    /// A step is done.
    StepDone {
        /// Which.
        step: String,
        /// What later steps need of it.
        facts: Value,
    },
    /// A provider's resource changed.
    Resource {
        /// How.
        event: Event,
    },
    /// The image is finished: what it consists of is the user's from now on. What follows is finished, never
    /// undone.
    ProductsReleased {
        /// Files in the run's staging directory that get their names in IMAGE_DIR.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<PublishedFile>,
    },
    /// A provider keeps a document.
    Checkpoint {
        /// Under which key.
        key: String,
        /// The document.
        document: Value,
    },
    /// The last line.
    RunDone {
        /// `success`, or the error's kind.
        result: String,
    },
    /// A line of a later version.
    #[serde(other)]
    Unknown,
}
