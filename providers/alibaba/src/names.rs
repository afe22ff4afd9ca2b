//! Checks the rules that need no network: image names, tags, object keys.
//!
//! Source: ECS documentation of `ImportImage` and `TagResources`; OSS "Object naming conventions".

use std::collections::BTreeMap;

use build_image_plugin_api::{DiskFormat, Error, Result};

use crate::{
    acs::Parameters,
    describe::{FORBIDDEN_TEXTS, NAME_PREFIXES, TAG_LENGTH, TAGS_MAXIMUM},
};

/// Maximum length of an object key in bytes.
const KEY_BYTES: usize = 1023;

fn starts_without_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn forbidden_text(text: &str) -> Option<&'static str> {
    FORBIDDEN_TEXTS.into_iter().find(|forbidden| text.to_lowercase().contains(forbidden))
}

/// Checks an image name.
///
/// # Errors
/// Config error stating which rule it breaks.
pub(crate) fn check_image_name(name: &str, length: (usize, usize)) -> Result<()> {
    let count = name.chars().count();
    let allowed = |c: char| c.is_alphabetic() || c.is_ascii_digit() || "._:-".contains(c);
    let wrong = if count < length.0 || count > length.1 {
        format!("has {count} characters, not {} to {}", length.0, length.1)
    } else if !name.starts_with(char::is_alphabetic) {
        "does not start with a letter".to_owned()
    } else if let Some(prefix) = NAME_PREFIXES.iter().find(|p| starts_without_case(name, p)) {
        format!("starts with `{prefix}`")
    } else if let Some(text) = forbidden_text(name) {
        format!("contains `{text}`")
    } else if let Some(character) = name.chars().find(|&c| !allowed(c)) {
        format!("contains `{character}`")
    } else {
        return Ok(());
    };
    Err(Error::config(format!("image name `{name}` {wrong}"))
        .with_hint("use letters, digits, `.`, `_`, `:` and `-` in CLOUD_IMAGE_NAME"))
}

/// Maximum length of a description in characters.
pub(crate) const DESCRIPTION: usize = 256;

/// What ECS would not accept in a description; the description is then left out or cut.
pub(crate) fn description_problem(text: &str) -> Option<&'static str> {
    let text = text.trim();
    if text.is_empty() {
        None
    } else if text.starts_with("http://") || text.starts_with("https://") {
        Some("starts with an address and is left out")
    } else if text.chars().count() < 2 {
        Some("has one character and is left out")
    } else if text.chars().count() > DESCRIPTION {
        Some("has more than 256 characters and is cut")
    } else {
        None
    }
}

/// Checks tags and returns all problems.
pub(crate) fn tag_problems(tags: &BTreeMap<String, String>) -> Vec<Error> {
    let mut problems = Vec::new();
    let mut found = |message: String| {
        problems.push(Error::config(message).with_hint("change IMAGE_TAGS or IMAGE_TAGS_EXCLUDE"));
    };
    if tags.len() > TAGS_MAXIMUM {
        found(format!("{} tags are too many: at most {TAGS_MAXIMUM} are taken", tags.len()));
    }
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for (key, value) in tags {
        if key.is_empty() || key.chars().count() > TAG_LENGTH {
            found(format!("tag key `{key}` does not have 1 to {TAG_LENGTH} characters"));
        }
        if value.chars().count() > TAG_LENGTH {
            found(format!("value of tag `{key}` has more than {TAG_LENGTH} characters"));
        }
        if let Some(prefix) = NAME_PREFIXES.iter().find(|p| starts_without_case(key, p)) {
            found(format!("tag key `{key}` starts with `{prefix}`"));
        }
        if starts_without_case(value, "acs:") {
            found(format!("value of tag `{key}` starts with `acs:`"));
        }
        if let Some(text) = forbidden_text(key).or_else(|| forbidden_text(value)) {
            found(format!("tag `{key}` contains `{text}`"));
        }
        if let Some(other) = seen.insert(key.to_lowercase(), key) {
            found(format!("tag keys `{other}` and `{key}` differ only by case"));
        }
    }
    problems
}

/// Tags as `Tag.N.Key` and `Tag.N.Value`.
pub(crate) fn tag_parameters(tags: &BTreeMap<String, String>) -> Parameters {
    let numbered = tags.iter().enumerate().flat_map(|(position, (key, value))| {
        let number = position + 1;
        [(format!("Tag.{number}.Key"), key.clone()), (format!("Tag.{number}.Value"), value.clone())]
    });
    numbered.collect()
}

/// Key of a run's object: prefix, run and file name, ending in the format's suffix.
pub(crate) fn object_key(
    prefix: &str,
    run_id: &str,
    file_name: &str,
    format: DiskFormat,
) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let suffix = format!(".{}", format.word());
    let file: String =
        file_name.rsplit('/').next().unwrap_or(file_name).chars().map(plain).collect();
    let stem = file.strip_suffix(&suffix).unwrap_or(&file);
    let start = format!("{prefix}build-image-{run_id}");
    let room = KEY_BYTES.saturating_sub(start.len() + suffix.len() + 1);
    let stem = &stem[..stem.len().min(room)];
    let joint = if stem.is_empty() { "" } else { "-" };
    format!("{start}{joint}{stem}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_are_judged_by_the_services_rules() {
        for name in ["ab", "F5-BIGIP-15-0-0", "a.b_c:d-e", "镜像-17.1", "负载均衡", "Größe-1"]
        {
            check_image_name(name, (2, 128)).unwrap();
        }
        for name in [
            "a",
            "1a",
            "-ab",
            "a b",
            "aliyunx",
            "ALIYUN-x",
            "acs:x",
            "xhttp://y",
            "-镜像",
            "镜 像",
            "镜像！",
            "阿",
        ] {
            assert!(check_image_name(name, (2, 128)).is_err(), "{name}");
        }
        assert!(check_image_name(&"a".repeat(129), (2, 128)).is_err());
        // The length counts characters, not bytes.
        check_image_name(&"镜".repeat(128), (2, 128)).unwrap();
        assert!(check_image_name(&"镜".repeat(129), (2, 128)).is_err());
        assert!(check_image_name("abcdef", (2, 5)).is_err());
    }

    #[test]
    fn descriptions_are_judged_by_the_services_rules() {
        for text in ["", "ab", "镜像", &"x".repeat(256), "see https://x"] {
            assert_eq!(description_problem(text), None, "{text}");
        }
        for text in ["a", "http://x", "https://x", &"镜".repeat(257)] {
            assert!(description_problem(text).is_some(), "{text}");
        }
    }

    fn tags(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn every_problem_of_the_tags_is_found() {
        assert!(tag_problems(&tags(&[("k", "v"), ("empty", "")])).is_empty());
        let wrong = tags(&[
            ("", "v"),
            ("aliyun-x", "v"),
            ("Name", "1"),
            ("name", "2"),
            ("ref", "see https://x"),
            ("v", "ACS:x"),
        ]);
        assert_eq!(tag_problems(&wrong).len(), 5, "{:?}", tag_problems(&wrong));
        let many = (0..21).map(|n| (format!("k{n}"), String::new())).collect();
        assert!(tag_problems(&many)[0].message.starts_with("21 tags"));
        let long = tags(&[("k", &"x".repeat(129))]);
        assert_eq!(tag_problems(&long).len(), 1);
    }

    #[test]
    fn tags_are_numbered_from_one() {
        let parameters = tag_parameters(&tags(&[("a", "1"), ("b", "")]));
        let written: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(written, ["Tag.1.Key=a", "Tag.1.Value=1", "Tag.2.Key=b", "Tag.2.Value="]);
    }

    #[test]
    fn keys_end_in_the_formats_suffix_and_fit() {
        let key =
            object_key("images/", "run-1", "BIGIP-15.0.0.LTM.alibaba.qcow2", DiskFormat::Qcow2);
        assert_eq!(key, "images/build-image-run-1-BIGIP-15.0.0.LTM.alibaba.qcow2");
        assert_eq!(object_key("", "r", "a b/ö x", DiskFormat::Raw), "build-image-r---x.raw");
        assert_eq!(object_key("", "r", "", DiskFormat::Raw), "build-image-r.raw");
        let long = object_key(&"p".repeat(512), "r", &"x".repeat(2000), DiskFormat::Qcow2);
        assert_eq!(long.len(), 1023);
        assert!(long.ends_with(".qcow2"));
    }
}
