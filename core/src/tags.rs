//! Composes the tags of an image: the automatic ones, plus the user's, minus excluded ones, checked against the
//! provider's limits before anything is built.

use std::collections::BTreeMap;

use build_image_plugin_api::TagRules;
use serde_json::Value;

use crate::{
    error::{Error, Problem, Result, Stage},
    settings::keys::{IMAGE_TAGS, IMAGE_TAGS_EXCLUDE},
};

/// Automatic tags in the order in which they are dropped for the user's, where a provider permits few.
const EXPENDABLE: [&str; 9] = [
    "version_jobid",
    "version_changelist",
    "version_sequence",
    "version_built",
    "build_source",
    "build_user",
    "build_host",
    "version_edition",
    "version_date",
];

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// Adds the user's tags and removes excluded ones.
///
/// # Errors
/// When IMAGE_TAGS is not a list of one-key maps or IMAGE_TAGS_EXCLUDE is not a list of words.
pub fn compose(mut automatic: Tags, add: Option<&Value>, exclude: Option<&Value>) -> Result<Tags> {
    automatic.retain(|_, value| !value.is_empty());
    for item in add.and_then(Value::as_array).into_iter().flatten() {
        let map = item
            .as_object()
            .ok_or_else(|| invalid(&format!("{IMAGE_TAGS}: `{item}` is no `key: value`")))?;
        for (key, value) in map {
            let text = scalar(value).ok_or_else(|| {
                invalid(&format!("{IMAGE_TAGS}: the value of `{key}` is not plain text"))
            })?;
            automatic.insert(key.clone(), text);
        }
    }
    for item in exclude.and_then(Value::as_array).into_iter().flatten() {
        let key = scalar(item).ok_or_else(|| {
            invalid(&format!("{IMAGE_TAGS_EXCLUDE}: `{item}` is not a plain word"))
        })?;
        if automatic.remove(&key).is_none() {
            tracing::info!(key, "{IMAGE_TAGS_EXCLUDE} names a tag that is not there");
        }
    }
    Ok(automatic)
}

/// Formats a size in the largest binary unit of which it is a multiple: `20GiB`, as the tool that this one succeeds,
/// whose disks are whole gibibytes; `64MiB` for a smaller disk.
#[must_use]
pub fn exact_size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.iter().find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    match unit {
        Some((name, shift)) => format!("{}{name}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

/// Drops less useful automatic tags while there are more than the provider permits.
pub fn fit(tags: &mut Tags, add: Option<&Value>, rules: &TagRules) {
    let maps = add.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    let added: Vec<&String> = maps.flat_map(serde_json::Map::keys).collect();
    for key in EXPENDABLE {
        if tags.len() <= limit(rules.maximum) {
            return;
        }
        if !added.iter().any(|name| *name == key) && tags.remove(key).is_some() {
            tracing::warn!(
                tag = key,
                maximum = rules.maximum,
                "left out: the provider takes no more tags"
            );
        }
    }
}

fn invalid(message: &str) -> Error {
    Error::new(Stage::Settings, message).hint(format!(
        "{IMAGE_TAGS} is a list such as `- owner: team`, {IMAGE_TAGS_EXCLUDE} a list of keys"
    ))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Checks tags against the provider's limits.
///
/// # Errors
/// Every tag that violates a rule, and too many tags.
pub fn check(tags: &Tags, rules: &TagRules) -> Result<()> {
    let mut problems = Vec::new();
    if tags.len() > limit(rules.maximum) {
        let keys: Vec<&str> = tags.keys().map(String::as_str).collect();
        problems.push(Problem::new(format!(
            "{} tags, allowed are {}: {}",
            tags.len(),
            rules.maximum,
            keys.join(", ")
        )));
    }
    for (key, value) in tags {
        problems.extend(check_one(key, value, rules).map(Problem::new));
    }
    if rules.keys_ignore_case {
        let mut seen: BTreeMap<String, &String> = BTreeMap::new();
        for key in tags.keys() {
            if let Some(first) = seen.insert(key.to_lowercase(), key) {
                problems
                    .push(Problem::new(format!("tags `{first}` and `{key}` differ only by case")));
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::several(Stage::Settings, "the image's tags break the provider's rules", problems)
        .hint(format!("change {IMAGE_TAGS}, or leave tags out with {IMAGE_TAGS_EXCLUDE}")))
}

/// Returns the limit of a rule; zero means that no limit exists.
fn limit(rule: usize) -> usize {
    if rule == 0 { usize::MAX } else { rule }
}

fn check_one(key: &str, value: &str, rules: &TagRules) -> Option<String> {
    let starts = |text: &str, prefixes: &[String]| {
        let lower = text.to_lowercase();
        prefixes.iter().find(|prefix| lower.starts_with(&prefix.to_lowercase())).cloned()
    };
    let contains =
        rules.forbidden_texts.iter().find(|text| key.contains(*text) || value.contains(*text));
    if key.is_empty() {
        Some("a tag has an empty key".to_owned())
    } else if key.chars().count() > limit(rules.key_length) {
        Some(format!("tag key `{key}` has more than {} characters", rules.key_length))
    } else if value.chars().count() > limit(rules.value_length) {
        Some(format!("the value of tag `{key}` has more than {} characters", rules.value_length))
    } else if let Some(prefix) = starts(key, &rules.forbidden_key_prefixes) {
        Some(format!("tag key `{key}` must not start with `{prefix}`"))
    } else if let Some(prefix) = starts(value, &rules.forbidden_value_prefixes) {
        Some(format!("the value of tag `{key}` must not start with `{prefix}`"))
    } else {
        contains.map(|text| format!("tag `{key}` must not contain `{text}`"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules() -> TagRules {
        TagRules::default()
            .maximum(3)
            .key_length(8)
            .value_length(8)
            .forbidden_key_prefixes(["acs:"])
            .keys_ignore_case(true)
    }

    fn tags(pairs: &[(&str, &str)]) -> Tags {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_users_tags_win_and_excluded_ones_are_removed() {
        let automatic = tags(&[("a", "1"), ("b", "2"), ("empty", "")]);
        let composed =
            compose(automatic, Some(&json!([{"b": 3}, {"c": "x"}])), Some(&json!(["a", "zz"])))
                .unwrap();
        assert_eq!(composed, tags(&[("b", "3"), ("c", "x")]));
        assert!(compose(Tags::new(), Some(&json!(["word"])), None).is_err());
    }

    #[test]
    fn sizes_are_exact_and_whole_gibibytes_are_written_as_before() {
        for (bytes, text) in [
            (20 << 30, "20GiB"),
            (2048 << 30, "2048GiB"),
            (64 << 20, "64MiB"),
            (3 << 29, "1536MiB"),
            ((5 << 20) + 512, "5243392B"),
            ((5 << 20) + 1024, "5121KiB"),
        ] {
            assert_eq!(exact_size(bytes), text);
        }
    }

    #[test]
    fn automatic_tags_make_room_for_the_users() {
        let mut all = tags(&[
            ("version_jobid", "1"),
            ("build_host", "h"),
            ("platform", "p"),
            ("x", "1"),
            ("y", "2"),
        ]);
        fit(&mut all, Some(&json!([{"x": 1}, {"y": 2}])), &rules());
        assert_eq!(all, tags(&[("platform", "p"), ("x", "1"), ("y", "2")]));
        let mut chosen = tags(&[("build_host", "mine"), ("a", "1"), ("b", "1"), ("c", "1")]);
        let before = chosen.clone();
        fit(&mut chosen, Some(&json!([{"build_host": "mine"}])), &rules());
        assert_eq!(chosen, before, "what the user asked for stays, and is then an error");
    }

    #[test]
    fn limits_of_zero_do_not_apply() {
        let long = "x".repeat(1000);
        let many = tags(&[("a", &long), (&long, "1"), ("b", "1")]);
        assert!(check(&many, &TagRules::default()).is_ok());
        assert!(check(&tags(&[("", "1")]), &TagRules::default()).is_err());
    }

    #[test]
    fn every_broken_rule_is_reported() {
        let many = tags(&[
            ("a", "1"),
            ("A", "1"),
            ("acs:x", "1"),
            ("toolongkey", "1"),
            ("v", "123456789"),
        ]);
        assert_eq!(check(&many, &rules()).unwrap_err().problems.len(), 5);
        assert!(check(&tags(&[("a", "1")]), &rules()).is_ok());
    }
}
