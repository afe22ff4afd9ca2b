//! Checks the settings that a provider declares: its declarations are data, not trusted code.

use std::{collections::BTreeSet, path::Path};

use build_image_plugin_api::{Description, Setting};
use regex_syntax::Parser;

use crate::{
    error::{Error, Problem, Result, Stage},
    settings::{core_rows, parse_text},
};

/// Keys that every command has.
const RESERVED: [&str; 2] = ["HELP", "VERSION"];

/// Checks all rows of a description.
///
/// # Errors
/// Every row that cannot be used.
pub(super) fn check(path: &Path, description: &Description) -> Result<()> {
    let core: BTreeSet<String> = core_rows().iter().map(|row| row.key().to_owned()).collect();
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for setting in &description.settings {
        let key = &setting.key;
        let wrong = if !is_key(key) {
            Some("is no key of capital letters, digits and `_`".to_owned())
        } else if core.contains(key) || RESERVED.contains(&key.as_str()) {
            Some("is a setting of build-image itself".to_owned())
        } else if !seen.insert(key) {
            Some("is declared twice".to_owned())
        } else {
            rule(setting).err()
        };
        problems.extend(wrong.map(|what| Problem::new(format!("setting `{key}` {what}"))));
    }
    if problems.is_empty() {
        return Ok(());
    }
    let text = format!("plugin `{}` does not load: its settings cannot be used", path.display());
    Err(Error::several(Stage::Plugin, text, problems)
        .hint("this is a bug of the provider; report it to its author"))
}

fn is_key(key: &str) -> bool {
    let legal =
        |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    key.starts_with(|letter: char| letter.is_ascii_uppercase()) && key.chars().all(legal)
}

fn rule(setting: &Setting) -> Result<(), String> {
    // Parsed, not compiled: compiling takes a millisecond each, and few patterns are needed in one build.
    let parsed = Parser::new().parse(&setting.pattern);
    parsed.map_err(|error| format!("has a broken pattern: {error}"))?;
    if let Some(default) = &setting.default {
        parse_text(setting, default)
            .map_err(|what| format!("has a default that breaks its own rule: {what}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::SettingKind::{Integer, Text};

    use super::*;

    #[test]
    fn every_unusable_row_is_reported() {
        let settings = vec![
            Setting::new("GOOD_1", Text, "fine").default_value("x"),
            Setting::new("IMAGE_TAGS", Text, "the core's"),
            Setting::new("HELP", Text, "reserved"),
            Setting::new("   ", Text, "blank"),
            Setting::new("TWICE", Text, "one"),
            Setting::new("TWICE", Text, "two"),
            Setting::new("PATTERN", Text, "broken").pattern("["),
            Setting::new("NUMBER", Integer, "broken").default_value("many"),
        ];
        let description = Description::default().settings(settings);
        let error = check(Path::new("x.so"), &description).unwrap_err();
        assert_eq!(error.problems.len(), 6, "{:?}", error.problems);
    }
}
