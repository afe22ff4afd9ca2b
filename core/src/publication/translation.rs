//! Replaces paths in the staging directory with the final paths of the files, in texts and documents.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{normalised, staging::staging};
use crate::error::Result;

/// Names the files of a run by their final paths: providers answer with the paths that they wrote.
#[derive(Clone, Debug)]
pub struct Translation {
    pub(super) image_dir: PathBuf,
    pub(super) staging: PathBuf,
}

impl Translation {
    /// For a run that publishes into `image_dir`.
    ///
    /// # Errors
    /// When the run's identifier is invalid.
    pub fn of(image_dir: &Path, run_id: &str) -> Result<Self> {
        let image_dir = normalised(image_dir);
        Ok(Self { staging: staging(&image_dir, run_id)?, image_dir })
    }

    /// Replaces the staging directory with IMAGE_DIR in a text: providers answer with the paths that they wrote.
    #[must_use]
    pub fn translate(&self, text: &str) -> String {
        let display = |path: &Path| path.display().to_string();
        let plain = replaced(text, &display(&self.staging), &display(&self.image_dir));
        match (self.staging.canonicalize(), self.image_dir.canonicalize()) {
            (Ok(staging), Ok(image_dir)) => {
                replaced(&plain, &display(&staging), &display(&image_dir))
            }
            _ => plain,
        }
    }

    /// Replaces the staging directory with IMAGE_DIR in a document.
    #[must_use]
    pub fn translate_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.translate(&text).into(),
            Value::Array(items) => {
                items.into_iter().map(|item| self.translate_value(item)).collect()
            }
            Value::Object(members) => members
                .into_iter()
                .map(|(name, member)| (self.translate(&name), self.translate_value(member)))
                .collect(),
            other => other,
        }
    }
}

/// Replaces a path only where the run's id ends: the id of another run may start with this one's.
fn replaced(text: &str, from: &str, to: &str) -> String {
    let in_an_id = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let (mut result, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(from) {
        result.push_str(before);
        result.push_str(if after.starts_with(in_an_id) { from } else { to });
        rest = after;
    }
    result + rest
}
