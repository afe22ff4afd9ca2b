//! Parses the accounts an image is shared with, in each of the shapes that users write.

use std::collections::BTreeSet;

use build_image_plugin_api::{Error, Result};
use serde_json::Value;

/// Account ids from a list of numbers or texts, from a single one, or from text such as `[1, 2]`.
///
/// # Errors
/// Config error naming the setting `key`.
pub(crate) fn share_ids(key: &str, value: &Value) -> Result<Vec<String>> {
    let mut words = Vec::new();
    collect_words(key, value, &mut words)?;
    let mut seen = BTreeSet::new();
    for word in &words {
        if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(not_an_account(key, word));
        }
    }
    Ok(words.into_iter().filter(|word| seen.insert(word.clone())).collect())
}

fn collect_words(key: &str, value: &Value, words: &mut Vec<String>) -> Result<()> {
    match value {
        Value::Null => {}
        Value::Number(number) => words.push(number.to_string()),
        Value::Array(items) => items.iter().try_for_each(|item| collect_words(key, item, words))?,
        Value::String(text) => {
            let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
            let found = inner.split([',', ' ']).map(|word| word.trim().trim_matches(['"', '\'']));
            words.extend(found.filter(|word| !word.is_empty()).map(str::to_owned));
        }
        Value::Bool(_) | Value::Object(_) => return Err(not_an_account(key, &value.to_string())),
    }
    Ok(())
}

fn not_an_account(key: &str, word: &str) -> Error {
    Error::config(format!("`{key}` holds `{word}`, not an account id"))
        .with_hint("account ids are digits only; write `[1234567890123456, 2345678901234567]`")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn account_ids_come_in_many_shapes() {
        for value in [
            json!([1, 2]),
            json!(["1", "2"]),
            json!("[1, 2]"),
            json!("1,2"),
            json!("[\"1\",\"2\"]"),
        ] {
            assert_eq!(share_ids("K", &value).unwrap(), ["1", "2"], "{value}");
        }
        assert_eq!(share_ids("K", &json!("1234567890123456")).unwrap(), ["1234567890123456"]);
        assert_eq!(
            share_ids("K", &json!(1_234_567_890_123_456_u64)).unwrap(),
            ["1234567890123456"]
        );
        assert_eq!(share_ids("K", &json!([7, "7"])).unwrap(), ["7"]);
        assert!(share_ids("K", &Value::Null).unwrap().is_empty());
    }

    #[test]
    fn an_invalid_account_id_is_named() {
        for value in [json!(["12a"]), json!([-1]), json!([1.5]), json!([true]), json!({"a": 1})] {
            let error = share_ids("K", &value).unwrap_err();
            assert!(error.message.contains("`K`"), "{error}");
        }
    }
}
