//! Parses the keys that encrypt an image and its copies.
//!
//! An import has no key: the service refuses encrypted objects, and encrypts the snapshots of an import only when the
//! account encrypts all disks by default. An image with a key is therefore a copy of what was imported.

use std::collections::BTreeMap;

use build_image_plugin_api::{Error, Result, Settings};

/// The setting with the key of the image itself.
pub(crate) const IMAGE_KEY: &str = "ALIBABA_IMAGE_KEY";
/// The setting with the keys of copies: `REGION=KEY`.
pub(crate) const KEY: &str = "ALIBABA_IMAGE_COPY_KEYS";

/// Keys by region.
///
/// # Errors
/// Config error for another form, a region without a copy, and a second key of a region.
pub(crate) fn read(settings: &Settings, regions: &[String]) -> Result<BTreeMap<String, String>> {
    let mut keys = BTreeMap::new();
    for word in settings.parsed::<Vec<String>>(KEY)? {
        let parts = word.split_once('=').map(|(region, key)| (region.trim(), key.trim()));
        let Some((region, key)) =
            parts.filter(|(region, key)| !region.is_empty() && !key.is_empty())
        else {
            return Err(Error::config(format!(
                "`{KEY}` holds `{word}`, not a region with its key"
            ))
            .with_hint("write `[cn-shanghai=KEY_ID]`"));
        };
        if !regions.iter().any(|known| known == region) {
            let message = format!("`{KEY}` has a key for `{region}`, which is not copied to");
            return Err(Error::config(message)
                .with_hint("add the region to ALIBABA_IMAGE_COPY_REGIONS, or remove its key"));
        }
        if keys.insert(region.to_owned(), key.to_owned()).is_some() {
            return Err(Error::config(format!("`{KEY}` has two keys for `{region}`"))
                .with_hint("remove one of them"));
        }
    }
    Ok(keys)
}

/// Refuses an encrypted image with copies that have no key: the service does not decrypt when it copies.
///
/// # Errors
/// Config error naming the regions without a key.
pub(crate) fn check_complete(
    settings: &Settings,
    regions: &[String],
    keys: &BTreeMap<String, String>,
) -> Result<()> {
    let is_set = |key: &str| settings.text(key).filter(|text| !text.is_empty());
    if is_set(IMAGE_KEY).is_none() {
        return Ok(());
    }
    let home = is_set("ALIBABA_REGION");
    let lacks =
        |region: &&String| Some(region.as_str()) != home && !keys.contains_key(region.as_str());
    let without: Vec<String> =
        regions.iter().filter(lacks).map(|region| format!("`{region}`")).collect();
    if without.is_empty() {
        return Ok(());
    }
    let message = format!(
        "`{IMAGE_KEY}` encrypts the image, and `{KEY}` has no key for {}",
        without.join(", ")
    );
    Err(Error::config(message)
        .with_hint("add a key of each region: copies of an encrypted image are encrypted as well"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_wrong_key_is_refused_with_its_reason() {
        let regions = ["cn-shanghai".to_owned(), "eu-central-1".to_owned()];
        let keys_of = |words: &[&str]| {
            let settings = Settings::from_values([(KEY.to_owned(), json!(words))].into());
            read(&settings, &regions)
        };
        let both = keys_of(&["cn-shanghai=a", "eu-central-1 = b=c"]).unwrap();
        assert_eq!((both["cn-shanghai"].as_str(), both["eu-central-1"].as_str()), ("a", "b=c"));
        assert!(keys_of(&[]).unwrap().is_empty());
        for (words, reason) in [
            (&["cn-shanghai"][..], "not a region with its key"),
            (&["cn-shanghai="], "not a region with its key"),
            (&["=a"], "not a region with its key"),
            (&["us-west-1=a"], "not copied to"),
            (&["cn-shanghai=a", "cn-shanghai=b"], "two keys"),
        ] {
            let error = keys_of(words).unwrap_err();
            assert!(error.message.contains(reason) && error.hint.is_some(), "{words:?}: {error}");
        }
    }

    #[test]
    fn an_encrypted_image_has_no_copies_without_a_key() {
        for (key, keys, fits) in [
            ("", &[][..], true),
            ("k", &["cn-shanghai=a", "eu-central-1=b"], true),
            ("k", &["cn-shanghai=a"], false),
            ("k", &[], false),
        ] {
            let values = [
                (IMAGE_KEY, json!(key)),
                ("ALIBABA_REGION", json!("cn-hangzhou")),
                (KEY, json!(keys)),
            ];
            let values = values.map(|(key, value)| (key.to_owned(), value));
            let settings = Settings::from_values(values.into());
            let regions = ["cn-hangzhou", "cn-shanghai", "eu-central-1"].map(str::to_owned);
            let found = read(&settings, &regions).unwrap();
            let checked = check_complete(&settings, &regions, &found);
            assert_eq!(checked.is_ok(), fits, "{key} {keys:?}: {checked:?}");
            if let Err(error) = checked {
                assert!(error.message.contains("`eu-central-1`"), "{error}");
            }
        }
    }
}
