//! Keeps secrets dark that a provider may have put into a text: the host knows their values.

use std::collections::BTreeMap;

use build_image_plugin_api::{Error, Secret};
use serde_json::Value;

/// What stands for a secret.
const MASK: &str = "<protected>";
/// Shorter values are no secrets worth the name, and masking them would maim every text.
const SHORTEST: usize = 6;

/// The secret values of one run.
#[derive(Default)]
pub struct Mask {
    values: Vec<Secret>,
}

impl Mask {
    /// Knows these secrets.
    #[must_use]
    pub fn of(secrets: &BTreeMap<String, Option<Secret>>) -> Self {
        let values = secrets.values().flatten();
        Self {
            values: values.filter(|secret| secret.reveal().len() >= SHORTEST).cloned().collect(),
        }
    }

    /// A text without secrets.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        for secret in &self.values {
            if masked.contains(secret.reveal()) {
                masked = masked.replace(secret.reveal(), MASK);
            }
        }
        masked
    }

    /// A document without secrets in its texts.
    #[must_use]
    pub fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(members) => Value::Object(
                members.into_iter().map(|(name, member)| (name, self.value(member))).collect(),
            ),
            other => other,
        }
    }

    /// An error without secrets.
    #[must_use]
    pub fn error(&self, mut error: Error) -> Error {
        error.message = self.text(&error.message);
        error.hint = error.hint.map(|hint| self.text(&hint));
        error.causes = error.causes.iter().map(|cause| self.text(cause)).collect();
        for (_, value) in &mut error.context {
            *value = self.text(value);
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_vanish_from_texts_documents_and_errors() {
        let secrets = [
            ("K".to_owned(), Some(Secret::new("hunter22"))),
            ("S".to_owned(), Some(Secret::new("id"))),
        ];
        let mask = Mask::of(&secrets.into());
        assert_eq!(mask.text("a hunter22 b id"), "a <protected> b id");
        let document = mask.value(json!({"a": ["x-hunter22", 1], "b": {"c": "hunter22"}}));
        assert!(!document.to_string().contains("hunter22"));
        let error = Error::config("hunter22").with("at", "hunter22").with_hint("hunter22");
        assert!(!format!("{:?}", mask.error(error)).contains("hunter22"));
    }
}
