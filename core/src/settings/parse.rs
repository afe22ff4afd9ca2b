//! Parses the text of a setting into its value, according to the row's kind.

use std::path::Path;

use build_image_plugin_api::{Setting, SettingKind};
use regex::Regex;
use serde_json::Value;

use super::{file::yaml_value, home::Roots};

/// Parses a text as the row requires, without a home directory: a leading `~/` of a path stays. `None` = the text
/// means "unset".
///
/// # Errors
/// The problem, as a fragment that does not show the text of a secret.
pub fn parse_text(row: &Setting, text: &str) -> Result<Option<Value>, String> {
    parse_at(row, text, Roots { home: Some("~"), base: None })
}

/// Parses a text as the row requires; paths are resolved against `roots`.
///
/// # Errors
/// As [`parse_text`].
pub(super) fn parse_at(
    row: &Setting,
    text: &str,
    roots: Roots<'_>,
) -> Result<Option<Value>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    check_rules(row, text)?;
    let value = understood(row.kind, text, roots).map_err(|what| {
        if row.secret { format!("its value is not {}", row.kind.noun()) } else { what }
    })?;
    Ok(Some(value))
}

fn understood(kind: SettingKind, text: &str, roots: Roots<'_>) -> Result<Value, String> {
    if let Some(scalar) = kind.parse_scalar(text) {
        return scalar;
    }
    Ok(match kind {
        SettingKind::List => structured(text, roots, Value::is_array, kind.noun())?,
        SettingKind::Map => structured(text, roots, Value::is_object, kind.noun())?,
        SettingKind::Path => Value::String(roots.resolve(text)?),
        _ => Value::String(text.to_owned()),
    })
}

/// Parses a value of the configuration file as the row requires.
///
/// # Errors
/// As [`parse_text`].
pub(super) fn parse_value(
    row: &Setting,
    value: &Value,
    roots: Roots<'_>,
) -> Result<Option<Value>, String> {
    match (value, row.kind) {
        (Value::Null, _) => Ok(None),
        (Value::String(text), _) => parse_at(row, text, roots),
        (Value::Array(_), SettingKind::List) | (Value::Object(_), SettingKind::Map) => {
            Ok(Some(value.clone()))
        }
        // A scalar where a list is expected is a list of one element.
        (Value::Number(_) | Value::Bool(_), _) => parse_at(row, &value.to_string(), roots),
        (Value::Array(_), _) => Err("is a list where one value is expected".to_owned()),
        (Value::Object(_), _) => Err("is a map where one value is expected".to_owned()),
    }
}

fn check_rules(row: &Setting, text: &str) -> Result<(), String> {
    let value = if row.secret { "its value".to_owned() } else { format!("`{text}`") };
    if !row.choices.is_empty() && !row.choices.iter().any(|choice| choice == text) {
        return Err(format!("{value} is not one of {}", row.choices.join(", ")));
    }
    if row.pattern.is_empty() {
        return Ok(());
    }
    let rule = Regex::new(&format!("^(?:{})$", row.pattern))
        .map_err(|error| format!("has a broken rule `{}`: {error}", row.pattern))?;
    if rule.is_match(text) {
        Ok(())
    } else {
        Err(format!("{value} does not match `{}`", row.pattern))
    }
}

/// Parses JSON or YAML text, or the file whose path it is. A bare word is a list of one element.
fn structured(
    text: &str,
    roots: Roots<'_>,
    shape: fn(&Value) -> bool,
    what: &str,
) -> Result<Value, String> {
    let path = Path::new(text);
    let is_file = path
        .extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| matches!(extension, "json" | "yml" | "yaml"));
    let value = if is_file {
        let path = roots.resolve(text)?;
        let content = std::fs::read_to_string(&path)
            .map_err(|error| format!("names the file `{path}`, which cannot be read: {error}"))?;
        read(Path::new(&path), &content)?
    } else {
        read(Path::new("its text"), text)?
    };
    if shape(&value) {
        return Ok(value);
    }
    let single =
        matches!(value, Value::String(_) | Value::Number(_)) && shape(&Value::Array(vec![]));
    if single { Ok(Value::Array(vec![value])) } else { Err(format!("is not {what}")) }
}

fn read(name: &Path, content: &str) -> Result<Value, String> {
    if let Ok(value) = serde_json::from_str(content) {
        return Ok(value);
    }
    yaml_value(name, content)
        .map_err(|error| format!("is neither JSON nor YAML: {}", error.message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(kind: SettingKind, text: &str) -> Result<Option<Value>, String> {
        parse_at(&Setting::new("K", kind, ""), text, Roots { home: Some("/home/me"), base: None })
    }

    #[test]
    fn every_kind_reads_its_text() {
        use SettingKind::{Boolean, Duration, Integer, List, Map, Path, Size, Switch, Text};
        for (kind, text, value) in [
            (Boolean, "Yes", json!(true)),
            (Boolean, "0", json!(false)),
            (Switch, "false", json!(false)),
            (Integer, "42", json!(42)),
            (Size, "16MiB", json!(16_777_216)),
            (Size, "20 GiB", json!(21_474_836_480_u64)),
            (Size, "512", json!(512)),
            (Duration, "90m", json!(5400)),
            (Duration, "30", json!(30)),
            (Duration, "30d", json!(2_592_000)),
            (List, "[1, 2]", json!([1, 2])),
            (List, "ttyS1", json!(["ttyS1"])),
            (List, "[ttyS1, tty1]", json!(["ttyS1", "tty1"])),
            (Map, r#"{"var": 1500}"#, json!({"var": 1500})),
            (Text, " 15.10 ", json!("15.10")),
            (Text, "~/x", json!("~/x")),
            (Path, "~/x", json!("/home/me/x")),
        ] {
            assert_eq!(parsed(kind, text), Ok(Some(value)), "{text}");
        }
        assert_eq!(parsed(Text, "  "), Ok(None));
    }

    #[test]
    fn wrong_texts_are_refused_with_the_text() {
        use SettingKind::{Boolean, Integer, List, Map, Path, Size};
        for (kind, text) in [
            (Boolean, "maybe"),
            (Integer, "-1"),
            (Size, "16XB"),
            (List, "{a: 1}"),
            (Map, "[1]"),
            (Path, "~root/x"),
        ] {
            assert!(parsed(kind, text).is_err(), "{text}");
        }
        let row = Setting::new("K", SettingKind::Text, "").choices(&["a", "b"]);
        assert_eq!(parse_text(&row, "c"), Err("`c` is not one of a, b".to_owned()));
    }

    #[test]
    fn a_secret_is_not_shown_in_its_own_error() {
        use SettingKind::{Boolean, Duration, Integer, List, Map, Path, Size, Switch, Text};
        for kind in [Boolean, Duration, Integer, List, Map, Path, Size, Switch, Text] {
            for text in ["~Hunter2", "Hunter2.yml", "{Hunter2: [", "{Hunter2: }"] {
                let row = Setting::new("K", kind, "").secret();
                let error = parse_text(&row, text).err().unwrap_or_default();
                assert!(!error.contains("Hunter2"), "{error}");
                let error = parse_text(&row.pattern("[a-z]"), text).unwrap_err();
                assert!(!error.contains("Hunter2"), "{error}");
            }
        }
        let row = Setting::new("K", Integer, "").secret();
        let error = parse_text(&row, "Hunter2").unwrap_err();
        assert_eq!(error, "its value is not a whole number");
    }

    #[test]
    fn a_pattern_must_match_as_a_whole() {
        let row = Setting::new("K", SettingKind::Text, "").pattern("1|2");
        assert!(parse_text(&row, "12").is_err());
        assert_eq!(parse_text(&row, "2"), Ok(Some(json!("2"))));
    }
}
