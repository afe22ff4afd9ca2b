//! Redacts secret values in provider output; the host knows these values.

use std::collections::BTreeMap;

use build_image_plugin_api::{Error, Secret};
use serde_json::Value;

use crate::source::redact_text;

/// Replaces a secret.
const MASK: &str = "<protected>";

/// The secret values of one run.
#[derive(Default)]
pub struct Redactor {
    values: Vec<Secret>,
}

impl Redactor {
    /// Creates a redactor for these secrets.
    #[must_use]
    pub fn of(secrets: &BTreeMap<String, Option<Secret>>) -> Self {
        Self::of_all(secrets.values().flatten())
    }

    /// Creates a redactor for secrets of several runs.
    #[must_use]
    pub fn of_all<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Self {
        let mut values: Vec<Secret> = secrets
            .filter(|secret| secret.reveal().len() >= Secret::SHORTEST_REDACTED)
            .cloned()
            .collect();
        // One secret may be the prefix of another: the longest is replaced first, so that no rest of it remains.
        values.sort_by_key(|secret| std::cmp::Reverse(secret.reveal().len()));
        Self { values }
    }

    /// Returns whether a document contains a secret, in a text or in the name of a member.
    #[must_use]
    pub fn finds(&self, value: &Value) -> bool {
        let in_text = |text: &str| self.values.iter().any(|secret| text.contains(secret.reveal()));
        match value {
            Value::String(text) => in_text(text),
            Value::Array(items) => items.iter().any(|item| self.finds(item)),
            Value::Object(members) => {
                members.iter().any(|(name, member)| in_text(name) || self.finds(member))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// Redacts secrets in a text, and passwords and signatures in its URLs.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        redact_text(&self.secrets(text))
    }

    fn secrets(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        for secret in &self.values {
            if masked.contains(secret.reveal()) {
                masked = masked.replace(secret.reveal(), MASK);
            }
        }
        masked
    }

    /// Redacts secrets in a document's texts and names.
    #[must_use]
    pub fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.secrets(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(members) => Value::Object(
                members
                    .into_iter()
                    .map(|(name, member)| (self.secrets(&name), self.value(member)))
                    .collect(),
            ),
            other => other,
        }
    }

    /// Redacts secrets in an error.
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
    fn no_part_remains_of_a_secret_that_begins_with_another() {
        // In the order of keys, the shorter secret comes first.
        let secrets = [("A", "abcdef"), ("B", "abcdefghi"), ("C", "cdefghijk")];
        let secrets = secrets.map(|(key, value)| (key.to_owned(), Some(Secret::new(value))));
        let redactor = Redactor::of(&secrets.into());
        for text in ["abcdefghi", "abcdef", "x abcdefghi abcdef y"] {
            let masked = redactor.text(text);
            assert!(!masked.contains("ghi") && !masked.contains("abc"), "{masked}");
        }
        let document = json!({"abcdefghi": {"k": ["abcdef"]}});
        assert!(redactor.finds(&document) && !redactor.finds(&redactor.value(document.clone())));
        assert_eq!(
            redactor.value(document).to_string(),
            r#"{"<protected>":{"k":["<protected>"]}}"#
        );
    }

    #[test]
    fn passwords_and_signatures_in_addresses_of_a_provider_are_not_shown() {
        let redactor = Redactor::default();
        let error = Error::config("no answer from http://127.0.0.1:1/creds?token=SECRET")
            .with_hint("`http://u:SECRET@h` must have no user");
        let error = format!("{:?}", redactor.error(error));
        assert!(!error.contains("SECRET") && error.contains("127.0.0.1:1/creds"), "{error}");
    }

    #[test]
    fn secrets_are_redacted_in_texts_documents_and_errors() {
        let secrets = [
            ("K".to_owned(), Some(Secret::new("hunter22"))),
            ("S".to_owned(), Some(Secret::new("id"))),
        ];
        let redactor = Redactor::of(&secrets.into());
        assert_eq!(redactor.text("a hunter22 b id"), "a <protected> b id");
        let document = redactor.value(json!({"a": ["x-hunter22", 1], "b": {"c": "hunter22"}}));
        assert!(!document.to_string().contains("hunter22"));
        let error = Error::config("hunter22").with_context("at", "hunter22").with_hint("hunter22");
        assert!(!format!("{:?}", redactor.error(error)).contains("hunter22"));
    }
}
