//! Defines the result of a build with several targets: a section per target. Its schema is
//! `docs/schemas/targets-1.json`; what changes its meaning needs another version.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::Failure;
use crate::{exit, pipeline::Preparations};

/// The result of a build with several targets.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GroupOutcome {
    /// Version of this form.
    pub version: u32,
    /// `SUCCESS`, `PARTIAL` or `FAILURE`.
    pub result: String,
    /// The exit code of the program.
    pub exit_code: u8,
    /// Identifier of the build; empty if it did not begin.
    pub group_id: String,
    /// Start, UTC.
    pub start_time: String,
    /// End, UTC.
    pub end_time: String,
    /// Version of this tool.
    pub tool_version: String,
    /// The log file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_file: Option<String>,
    /// What this process prepared for all targets.
    pub prepared: Preparations,
    /// The result document of each target, with the exit code that it would have alone.
    pub targets: BTreeMap<String, Value>,
    /// Why the build failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl GroupOutcome {
    /// The version that is written.
    pub const VERSION: u32 = 1;

    /// Returns the word for a result.
    #[must_use]
    pub fn word(done: usize, all: usize) -> &'static str {
        match done {
            0 => "FAILURE",
            done if done == all => "SUCCESS",
            _ => "PARTIAL",
        }
    }

    /// Returns the identifiers of all images.
    #[must_use]
    pub fn image_ids(&self) -> Vec<String> {
        let images = self.targets.values().filter_map(|target| target.get("images")?.as_array());
        let ids = images.flatten().filter_map(|image| image.get("id")?.as_str());
        ids.map(str::to_owned).collect()
    }

    /// The document as pretty-printed JSON.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// Returns whether an exit code means that the target has its image.
#[must_use]
pub fn has_image(code: u8) -> bool {
    [exit::DONE, exit::FOLLOW_UP].contains(&code)
}
