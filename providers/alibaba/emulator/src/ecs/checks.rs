//! Checks names, descriptions, tags, and enumerated values. Source: the vendor's parameter and error tables
//! of the image calls.

use std::collections::BTreeMap;

use super::error::AcsError;
use super::params::Params;

fn has_url(text: &str) -> bool {
    text.contains("http://") || text.contains("https://")
}

fn reserved(text: &str) -> bool {
    let lower = text.to_lowercase();
    lower.starts_with("aliyun") || lower.starts_with("acs:")
}

fn is_name(text: &str) -> bool {
    (2..=128).contains(&text.chars().count())
        && text.chars().next().is_some_and(char::is_alphabetic)
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | ':' | '_' | '-'))
        && !reserved(text)
        && !has_url(text)
}

/// Checks an image's name.
pub(crate) fn image_name(text: &str) -> Result<(), AcsError> {
    if is_name(text) {
        Ok(())
    } else {
        Err(AcsError::invalid("InvalidImageName.Malformed", "ImageName"))
    }
}

/// Checks an image's family; an empty one removes it.
pub(crate) fn family(text: &str) -> Result<(), AcsError> {
    if text.is_empty() || is_name(text) {
        Ok(())
    } else {
        Err(AcsError::invalid("InvalidImageFamily", "ImageFamily"))
    }
}

/// Checks a description; it may be empty.
pub(crate) fn description(text: &str) -> Result<(), AcsError> {
    let length = text.chars().count();
    let starts_as_url = text.starts_with("http://") || text.starts_with("https://");
    if length == 0 || ((2..=256).contains(&length) && !starts_as_url) {
        Ok(())
    } else {
        Err(AcsError::invalid("InvalidDescription.Malformed", "Description"))
    }
}

/// Checks a client token: at most 64 ASCII characters.
pub(crate) fn client_token(text: &str) -> Result<(), AcsError> {
    if text.len() <= 64 && text.is_ascii() {
        Ok(())
    } else {
        Err(AcsError::invalid("InvalidClientToken.Malformed", "ClientToken"))
    }
}

/// Checks that a value is one of a set; returns the default when it is not given.
pub(crate) fn one_of<'a>(
    params: &'a Params,
    name: &str,
    allowed: &[&'a str],
    default: &'a str,
    code: &str,
) -> Result<&'a str, AcsError> {
    let value = params.get(name).unwrap_or(default);
    if value == default || allowed.contains(&value) {
        Ok(value)
    } else {
        Err(AcsError::invalid(code, name))
    }
}

/// Parses the tags of a call: at most 20, keys that differ in more than case.
pub(crate) fn tags(params: &Params) -> Result<BTreeMap<String, String>, AcsError> {
    let given = params.tags();
    if given.len() > 20 {
        return Err(AcsError::new(
            400,
            "NumberExceed.Tags",
            "The Tags parameter's number is exceed.",
        ));
    }
    let mut tags: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in given {
        let length = key.chars().count();
        if !(1..=128).contains(&length) || reserved(&key) || has_url(&key) {
            return Err(AcsError::invalid("InvalidTagKey.Malformed", "Tag.n.Key"));
        }
        let value_reserved = value.to_lowercase().starts_with("acs:");
        if value.chars().count() > 128 || value_reserved || has_url(&value) {
            return Err(AcsError::invalid("InvalidTagValue.Malformed", "Tag.n.Value"));
        }
        if tags.keys().any(|known| known.to_lowercase() == key.to_lowercase()) {
            return Err(AcsError::new(
                403,
                "TagKey.Duplication",
                "The specified tag key appears more than once.",
            ));
        }
        tags.insert(key, value);
    }
    Ok(tags)
}

/// Whether a resource has every tag that a call filters by; a filter without a value matches any value.
pub(crate) fn has_tags(tags: &BTreeMap<String, String>, wanted: &[(String, String)]) -> bool {
    wanted
        .iter()
        .all(|(key, value)| tags.get(key).is_some_and(|found| value.is_empty() || found == value))
}

#[cfg(test)]
mod tests {
    use super::{client_token, description, image_name, tags};
    use crate::auth::encode;
    use crate::ecs::params::Params;

    #[test]
    fn names_follow_the_vendors_rules() {
        for good in ["ab", "bigip-17.1.0_x:y", "镜像-1"] {
            assert!(image_name(good).is_ok(), "{good}");
        }
        for bad in ["a", "1ab", "aliyun-x", "Acs:x", "a b", "ahttp://x", &"a".repeat(129)] {
            assert_eq!(image_name(bad).unwrap_err().code, "InvalidImageName.Malformed", "{bad}");
        }
        assert!(description("").is_ok() && description("a b").is_ok());
        assert!(description("http://x").is_err() && description("x").is_err());
        assert!(client_token(&"x".repeat(65)).is_err());
    }

    #[test]
    fn tag_keys_are_compared_without_case() {
        let code = |text: &str| {
            let params = Params::new(encode::pairs(text).unwrap());
            tags(&params).map_or_else(|error| error.code, |tags| tags.len().to_string())
        };
        assert_eq!(code("Tag.1.Key=a&Tag.1.Value=1&Tag.2.Key=b"), "2");
        assert_eq!(code("Tag.1.Key=a&Tag.2.Key=A"), "TagKey.Duplication");
        assert_eq!(code("Tag.1.Key=acs:a"), "InvalidTagKey.Malformed");
        assert_eq!(code("Tag.1.Value=a"), "InvalidTagKey.Malformed");
        let many: Vec<String> = (1..=21).map(|n| format!("Tag.{n}.Key=k{n}")).collect();
        assert_eq!(code(&many.join("&")), "NumberExceed.Tags");
    }
}
