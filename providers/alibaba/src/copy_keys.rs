//! Parses the keys that encrypt copies of an image: `REGION=KEY`.
//!
//! An import has no key: the service refuses encrypted objects, and encrypts the snapshots of an import only when the
//! account encrypts all disks by default.

use std::collections::BTreeMap;

use build_image_plugin_api::{Error, Result, Settings};

/// The setting.
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
}
