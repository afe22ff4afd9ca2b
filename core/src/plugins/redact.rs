//! Keeps secrets dark that a provider may have put into a text: the host knows their values.

use std::collections::BTreeMap;

use build_image_plugin_api::{Error, Secret};
use serde_json::Value;

use crate::source::redact_text;

/// What stands for a secret.
const MASK: &str = "<protected>";
/// Shorter values are no secrets worth the name, and masking them would maim every text.
const SHORTEST: usize = 6;

/// The secret values of one run.
#[derive(Default)]
pub struct Redactor {
    values: Vec<Secret>,
}

impl Redactor {
    /// Knows these secrets.
    #[must_use]
    pub fn of(secrets: &BTreeMap<String, Option<Secret>>) -> Self {
        let values = secrets.values().flatten();
        let mut values: Vec<Secret> =
            values.filter(|secret| secret.reveal().len() >= SHORTEST).cloned().collect();
        // One may begin with another: the rest of the longer one must not stay.
        values.sort_by_key(|secret| std::cmp::Reverse(secret.reveal().len()));
        Self { values }
    }

    /// Whether a document holds a secret, in a text or in the name of a member.
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

    /// A text without secrets, its addresses without passwords and signatures.
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

    /// A document without secrets in its texts and names.
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
    fn nothing_stays_of_a_secret_that_begins_with_another() {
        // By key, the shorter one comes first.
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
    fn secrets_vanish_from_texts_documents_and_errors() {
        let secrets = [
            ("K".to_owned(), Some(Secret::new("hunter22"))),
            ("S".to_owned(), Some(Secret::new("id"))),
        ];
        let redactor = Redactor::of(&secrets.into());
        assert_eq!(redactor.text("a hunter22 b id"), "a <protected> b id");
        let document = redactor.value(json!({"a": ["x-hunter22", 1], "b": {"c": "hunter22"}}));
        assert!(!document.to_string().contains("hunter22"));
        let error = Error::config("hunter22").with("at", "hunter22").with_hint("hunter22");
        assert!(!format!("{:?}", redactor.error(error)).contains("hunter22"));
    }
}
