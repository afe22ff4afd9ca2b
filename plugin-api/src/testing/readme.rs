//! Compares the settings in a provider's README with its description.

use std::collections::BTreeMap;

use crate::Description;

/// Returns the differences between the tables of a README and the settings of a provider; empty when there are
/// none. A table row whose first cell is a key in backticks documents that setting; its second cell is the
/// default. Every setting must be documented exactly once, and no other key may be.
#[must_use]
pub fn readme_differences(readme: &str, description: &Description) -> Vec<String> {
    let mut documented = BTreeMap::new();
    let mut differences = Vec::new();
    for line in readme.lines() {
        let Some(row) = line.strip_prefix("| `") else { continue };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let key = cells[0].trim_end_matches('`');
        let is_key =
            |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
        if !key.chars().all(is_key) {
            continue;
        }
        let default = cells.get(1).map(|cell| cell.trim_matches('`')).unwrap_or_default();
        if documented.insert(key, default).is_some() {
            differences.push(format!("{key} is described twice"));
        }
    }
    for row in &description.settings {
        let expected = row.default.as_deref().unwrap_or_default();
        match documented.remove(row.key.as_str()) {
            None => differences.push(format!("{} is not described", row.key)),
            Some(default) if default != expected => {
                differences
                    .push(format!("the default of {} is `{expected}`, not `{default}`", row.key));
            }
            Some(_) => {}
        }
    }
    differences.extend(documented.keys().map(|key| format!("{key} is not a setting")));
    differences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Setting, SettingKind};

    #[test]
    fn every_difference_is_found() {
        let settings = vec![
            Setting::new("TRUE", SettingKind::Text, "x").default_value("1"),
            Setting::new("WRONG", SettingKind::Text, "x").default_value("1"),
            Setting::new("SILENT", SettingKind::Text, "x"),
        ];
        let description = Description { settings, ..Description::default() };
        let readme = "| `TRUE` | `1` | x |\n| `WRONG` | `2` | x |\n| `OLD` | | x |\n| `word` | |\n";
        assert_eq!(
            readme_differences(readme, &description),
            [
                "the default of WRONG is `1`, not `2`",
                "SILENT is not described",
                "OLD is not a setting"
            ]
        );
    }
}
