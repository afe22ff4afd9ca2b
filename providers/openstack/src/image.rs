//! An image as the service shows it.

use serde_json::{Map, Value};

/// Property that marks the images of a run.
pub(crate) const RUN: &str = "build_image_run";
/// Property of an image that an import is working on: the identifier of its task.
const IMPORT_LOCK: &str = "os_glance_import_task";

/// An image as the service shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Image {
    /// All members, properties included.
    pub(crate) members: Map<String, Value>,
}

impl Image {
    /// Reads an image; `None` when it has no id.
    pub(crate) fn read(value: Value) -> Option<Self> {
        match value {
            Value::Object(members) if members.get("id").is_some_and(Value::is_string) => {
                Some(Self { members })
            }
            _ => None,
        }
    }

    /// Returns a text; empty when there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.members.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the identifier.
    pub(crate) fn id(&self) -> &str {
        self.text("id")
    }

    /// Returns the status: `queued`, `saving`, `uploading`, `importing`, `active`, ….
    pub(crate) fn status(&self) -> &str {
        self.text("status")
    }

    /// Whether a request to delete the image has been accepted: a second one is refused.
    pub(crate) fn is_being_deleted(&self) -> bool {
        matches!(self.status(), "deleted" | "pending_delete")
    }

    /// Whether this run created the image, in this project.
    pub(crate) fn belongs_to(&self, run: &str, project: &str) -> bool {
        self.text(RUN) == run && (self.text("owner").is_empty() || self.text("owner") == project)
    }

    /// Whether a truth value is set.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.members.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether an import has not ended. After it has made the image active, the service saves all members as they were
    /// before, so that changes in between are lost.
    pub(crate) fn is_importing(&self) -> bool {
        !self.text(IMPORT_LOCK).is_empty()
    }

    /// Returns the number of bytes of the data.
    pub(crate) fn size(&self) -> Option<u64> {
        self.members.get("size").and_then(Value::as_u64)
    }

    /// Returns the stores that have the data.
    pub(crate) fn stores(&self) -> Vec<&str> {
        list(self.text("stores"))
    }

    /// Returns the stores into which an import failed, or is still running.
    pub(crate) fn stores_in(&self, name: &str) -> Vec<&str> {
        list(self.text(name))
    }

    /// Returns the tags, sorted.
    pub(crate) fn tags(&self) -> Vec<String> {
        let tags = self.members.get("tags").and_then(Value::as_array);
        let mut tags: Vec<String> =
            tags.into_iter().flatten().filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
        tags.sort();
        tags
    }
}

/// Reads a list of words that are separated by commas.
fn list(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect()
}
