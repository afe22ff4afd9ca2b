//! Lists the rows of the core's table and those of its installers, whole or for one use.

use std::sync::LazyLock;

use super::{
    key::Key,
    row::{Row, Use},
    schema::table,
};
use crate::installers;

/// All rows that are known without a provider, in the order of help and documentation.
static ROWS: LazyLock<Vec<Row>> =
    LazyLock::new(|| merged(installers::described(table()), installers::rows()));

/// Inserts rows from outside of the core's table after the rows that they name.
fn merged(mut rows: Vec<Row>, others: Vec<Row>) -> Vec<Row> {
    for row in others {
        let place = rows.iter().position(|one| Some(one.key()) == row.after);
        rows.insert(place.map_or(rows.len(), |place| place + 1), row);
    }
    rows
}

/// Returns all rows that are known without a provider.
#[must_use]
pub fn core_rows() -> Vec<Row> {
    ROWS.clone()
}

/// Returns the row of a setting that is known without a provider.
pub(crate) fn core_row(key: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.key() == key)
}

/// Returns the rows that are read for one use.
#[must_use]
pub fn rows_for(reader: Use) -> Vec<Row> {
    ROWS.iter().filter(|row| row.is_used_by(reader)).cloned().collect()
}

/// Returns the rows of these settings.
#[must_use]
pub fn rows_of(keys: &[Key]) -> Vec<Row> {
    keys.iter().filter_map(|key| core_row(key.name()).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use build_image_plugin_api::{Setting, SettingKind as Kind};

    use super::*;

    #[test]
    fn keys_and_flags_are_unique_and_legal() {
        let (mut keys, mut flags) = (BTreeSet::new(), BTreeSet::new());
        for row in core_rows() {
            let legal = |letter: char| {
                letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_'
            };
            assert!(row.key().chars().all(legal), "{}", row.key());
            assert!(keys.insert(row.key().to_owned()), "{} twice", row.key());
            assert!(row.flag.is_none_or(|flag| flags.insert(flag)), "{:?} twice", row.flag);
            assert!(!row.setting.summary.is_empty() && !row.setting.summary.ends_with('.'));
            assert!(!row.setting.group.is_empty());
        }
    }

    #[test]
    fn defaults_fit_their_own_rows() {
        for row in core_rows() {
            if let Some(default) = &row.setting.default {
                let parsed = super::super::parse_text(&row.setting, default);
                assert!(matches!(parsed, Ok(Some(_))), "{}: {parsed:?}", row.key());
            }
        }
    }

    #[test]
    fn rows_from_elsewhere_are_listed_where_they_belong() {
        let row = |key| Row::new(Setting::new(key, Kind::Text, "x"));
        let rows = vec![row("A"), row("B")];
        let others =
            vec![row("A1").after("A"), row("A2").after("A1"), row("Z"), row("Y").after("?")];
        let keys: Vec<String> =
            merged(rows, others).iter().map(|row| row.key().to_owned()).collect();
        assert_eq!(keys, ["A", "A1", "A2", "B", "Z", "Y"]);
        let rows = installers::rows();
        assert!(!rows.is_empty());
        assert!(rows.iter().all(|row| row.after.and_then(core_row).is_some()));
    }
}
