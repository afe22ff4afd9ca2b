//! Defines the result document: what a build did, for scripts. It is also written when a build fails early.

use std::collections::BTreeMap;

use build_image_guest::{Attributes, Finding};
use build_image_plugin_api::{Exhausted, Resource, document::Managed};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{boot_test::BootTested, error::Error};

/// A registered or published image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageEntry {
    /// Identifier or path.
    pub id: String,
    /// Name.
    pub name: String,
    /// Region, if the cloud has regions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// The plugin that was used.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginEntry {
    /// Provider.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `stable` or `stub`.
    pub status: String,
    /// Its file.
    pub path: String,
    /// SHA-256 of the file that was loaded.
    pub sha256: String,
}

/// What was found on the disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GuestEntry {
    /// The system, as far as the disk shows it.
    pub attributes: Attributes,
    /// What does not fit the provider's machines, or should not be part of an image; the most severe first.
    pub findings: Vec<Finding>,
}

/// An uploaded object that is not registered yet. Its schema is `docs/schemas/uploaded-1.json`; what changes its meaning
/// needs another version.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UploadedEntry {
    /// Version of this form.
    pub version: u32,
    /// The object as `build-image register` takes it.
    pub id: String,
    /// Its location, a URL.
    pub location: String,
    /// Its length, bytes.
    pub length: u64,
    /// Size the guest sees, bytes.
    pub virtual_size: u64,
    /// Its image format.
    pub disk: String,
}

impl UploadedEntry {
    /// The version that is written.
    pub const VERSION: u32 = 1;
}

/// Why a build failed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// Identifier of the error's kind.
    pub kind: String,
    /// The error message.
    pub message: String,
    /// The causes, outermost first.
    pub causes: Vec<String>,
    /// The problems, if there were several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// The hint of each problem, in the same order; empty where it has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problem_hints: Vec<String>,
    /// Request ids and similar details.
    pub context: BTreeMap<String, String>,
    /// The hint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Attempts and time that were spent on repeating the failed request, when it was repeated in vain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exhausted: Option<Exhausted>,
    /// The exit code of the program.
    pub exit_code: u8,
}

/// A resource that could not be removed after a failure.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Leftover {
    /// The resource.
    pub resource: Resource,
    /// Why it could not be removed.
    pub reason: String,
    /// How to remove it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The result of a build. Field names are part of the public interface; fields are only added.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// `SUCCESS` or `FAILURE`.
    pub result: String,
    /// Provider.
    pub platform: String,
    /// Module set, if the image has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modules: Option<String>,
    /// Install slots, if the image has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_locations: Option<String>,
    /// Final name of the image.
    pub image_name: String,
    /// Identifier of the first image.
    pub image_id: String,
    /// All images.
    pub images: Vec<ImageEntry>,
    /// Unique identifier of this build, hexadecimal.
    pub uuid: String,
    /// Identifier of the run.
    pub run_id: String,
    /// Start, UTC.
    pub start_time: String,
    /// End, UTC.
    pub end_time: String,
    /// Seconds per step.
    pub durations: BTreeMap<String, f64>,
    /// Size the guest sees, bytes.
    pub virtual_size: u64,
    /// Length of the image that was uploaded or published, bytes.
    pub image_length: u64,
    /// The boot test, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_test: Option<BootTested>,
    /// Bytes sent over the network.
    pub bytes_sent: u64,
    /// The uploaded object, if the build ended with the upload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uploaded: Option<UploadedEntry>,
    /// Whether nothing was uploaded because the account had the image already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// Whether the build was done before, under the same name: nothing was built now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// Older images that the build deprecated, or could not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deprecated: Vec<Managed>,
    /// Directory of published files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Path of the published disk image, if it is on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The command that continues from the result, for a build that stopped before the upload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What was found on the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestEntry>,
    /// The plugin that was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginEntry>,
    /// Version of this tool.
    pub tool_version: String,
    /// The log file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_file: Option<String>,
    /// Why the build failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Resources that could not be removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leftovers: Vec<Leftover>,
    /// The provider's own members, `<provider>_<name>`. A member with the name of one above gets the suffix `_`.
    #[serde(skip)]
    pub provider: BTreeMap<String, Value>,
}

/// Members of the document that a provider's member never replaces, also if they are absent.
const MEMBERS: [&str; 29] = [
    "bytes_sent",
    "boot_locations",
    "boot_test",
    "deprecated",
    "durations",
    "end_time",
    "error",
    "file",
    "guest",
    "image_id",
    "image_length",
    "image_name",
    "images",
    "leftovers",
    "location",
    "log_file",
    "modules",
    "next",
    "platform",
    "plugin",
    "repeated",
    "result",
    "run_id",
    "skipped",
    "start_time",
    "tool_version",
    "uploaded",
    "uuid",
    "virtual_size",
];

/// Returns the name of a provider's member in a document with other members: `_` is appended until the name is
/// free.
pub(crate) fn free_name(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut name = name.to_owned();
    while is_taken(&name) {
        name.push('_');
    }
    name
}

impl Failure {
    /// Converts an error into its document.
    #[must_use]
    pub fn of(error: &Error, exit_code: u8) -> Self {
        Self {
            kind: error.kind().to_owned(),
            message: error.message.clone(),
            causes: error.causes.clone(),
            problems: error.problems.iter().map(|problem| problem.message.clone()).collect(),
            problem_hints: error
                .problems
                .iter()
                .map(|one| one.hint.clone().unwrap_or_default())
                .collect(),
            context: error.context.iter().cloned().collect(),
            hint: error.advice(),
            exhausted: error.exhausted,
            exit_code,
        }
    }
}

impl Outcome {
    /// Total time of all steps, `h:mm:ss`.
    #[must_use]
    pub fn duration(&self) -> String {
        let seconds = self.durations.values().sum::<f64>().max(0.0);
        let seconds = std::time::Duration::from_secs_f64(seconds).as_secs();
        format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    /// Reads a document that [`Outcome::text`] wrote; `None` when it is not one.
    #[must_use]
    pub fn of_document(document: &Value) -> Option<Self> {
        let mut outcome: Self = serde_json::from_value(document.clone()).ok()?;
        let members = document.as_object()?.iter();
        let own = members.filter(|(name, _)| !MEMBERS.contains(&name.as_str()));
        outcome.provider = own.map(|(name, value)| (name.clone(), value.clone())).collect();
        Some(outcome)
    }

    /// The document as pretty-printed JSON with sorted keys.
    #[must_use]
    pub fn text(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        let mut sorted: BTreeMap<String, Value> = match value {
            Value::Object(members) => members.into_iter().collect(),
            _ => BTreeMap::new(),
        };
        for (name, value) in &self.provider {
            let taken = |name: &str| MEMBERS.contains(&name) || sorted.contains_key(name);
            let name = free_name(name, taken);
            sorted.insert(name, value.clone());
        }
        serde_json::to_string_pretty(&sorted).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_provider_never_replaces_a_member_of_the_document() {
        let provider = [
            ("image_id", "theirs"),
            ("image_id_", "theirs too"),
            ("log_file", "of a provider called log"),
            ("acme_size", "7"),
        ];
        let outcome = Outcome {
            image_id: "m-1".to_owned(),
            provider: provider.map(|(name, value)| (name.to_owned(), json!(value))).into(),
            ..Outcome::default()
        };
        let document: Value = serde_json::from_str(&outcome.text()).unwrap();
        for (name, value) in [
            ("image_id", json!("m-1")),
            ("image_id_", json!("theirs")),
            ("image_id__", json!("theirs too")),
            // Absent in this document, but the name is reserved.
            ("log_file", Value::Null),
            ("log_file_", json!("of a provider called log")),
            ("acme_size", json!("7")),
        ] {
            assert_eq!(document[name], value, "{name}");
        }
        assert_eq!(Outcome::of_document(&document).unwrap().text(), outcome.text());
    }

    #[test]
    fn every_member_of_the_document_is_protected() {
        let text = Some(String::new());
        let outcome = Outcome {
            modules: text.clone(),
            boot_locations: text.clone(),
            boot_test: Some(BootTested::default()),
            guest: Some(GuestEntry::default()),
            location: text.clone(),
            file: text.clone(),
            plugin: Some(PluginEntry::default()),
            next: text.clone(),
            log_file: text,
            uploaded: Some(UploadedEntry::default()),
            error: Some(Failure::default()),
            leftovers: vec![Leftover::default()],
            skipped: true,
            repeated: true,
            deprecated: vec![Managed::default()],
            ..Outcome::default()
        };
        let document: BTreeMap<String, Value> = serde_json::from_str(&outcome.text()).unwrap();
        let mut members = MEMBERS.to_vec();
        members.sort_unstable();
        assert_eq!(document.keys().map(String::as_str).collect::<Vec<_>>(), members);
    }
}
