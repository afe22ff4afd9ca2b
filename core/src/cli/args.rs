//! Old spellings and the first look: which provider and which configuration file, before all flags
//! are known.

use std::collections::BTreeMap;

use crate::{
    error::Result,
    settings::{Environment, FileLayer, Layers},
};

/// Keys that are needed before the provider's rows are known.
const FIRST: [(&str, Option<char>); 5] = [
    ("PLATFORM", Some('p')),
    ("CONFIG_FILE", Some('c')),
    ("PROVIDER_DIR", None),
    ("PROVIDER_FILE", None),
    ("OUTPUT_JSON_FILE", None),
];

/// Brings every long flag into one spelling: `--ALIBABA_BUCKET=x` → `--alibaba-bucket=x`.
#[must_use]
pub(super) fn normalised(words: &[String]) -> Vec<String> {
    let mut flags = true;
    let one = |word: &String| {
        if word == "--" {
            flags = false;
        }
        let Some(rest) = word.strip_prefix("--").filter(|rest| flags && !rest.is_empty()) else {
            return word.clone();
        };
        let (key, value) = match rest.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (rest, None),
        };
        let key = key.to_lowercase().replace('_', "-");
        value.map_or_else(|| format!("--{key}"), |value| format!("--{key}={value}"))
    };
    words.iter().map(one).collect()
}

/// The texts of the first keys as the command line has them.
pub(super) fn first_words(words: &[String]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        for (key, flag) in FIRST {
            let long = format!("--{}", key.to_lowercase().replace('_', "-"));
            let short = flag.map(|flag| format!("-{flag}"));
            let value = if *word == long || short.as_ref() == Some(word) {
                words.next().cloned()
            } else {
                word.strip_prefix(&format!("{long}=")).map(str::to_owned)
            };
            if let Some(value) = value {
                found.entry(key.to_owned()).or_insert(value);
                break;
            }
        }
    }
    found
}

/// The layers as far as they are known before the provider is: first keys, file, environment.
///
/// # Errors
/// When the configuration file cannot be read.
pub(super) fn first_look(words: &[String], environment: Environment) -> Result<Layers> {
    let command_line = first_words(words);
    let named = command_line.get("CONFIG_FILE").cloned();
    let named =
        named.or_else(|| environment.setting("CONFIG_FILE").map(|(_, text)| text.to_owned()));
    let file = named.map(|path| FileLayer::read(path.as_ref())).transpose()?;
    Ok(Layers { command_line, file, environment })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn all_spellings_of_a_flag_are_one() {
        let line = "--ALIBABA-BUCKET A_b --alibaba_bucket=X_y -i A_B -- --AS_IS";
        let expected = "--alibaba-bucket A_b --alibaba-bucket=X_y -i A_B -- --AS_IS";
        assert_eq!(normalised(&words(line)), words(expected));
    }

    #[test]
    fn the_first_look_takes_the_first_of_several() {
        let found = first_words(&words("-i x.iso -p one --platform=two --config-file c.yml"));
        assert_eq!(found["PLATFORM"], "one");
        assert_eq!(found["CONFIG_FILE"], "c.yml");
    }
}
