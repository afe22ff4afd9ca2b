//! Words nobody knows: the nearest known one is suggested.

use crate::{
    error::{Error, Problem, Result, Stage},
    plugins::{Plugin, SearchPath},
    report::Reporter,
    settings::{FileLayer, Row},
};

/// How alike two keys must be for one to be taken for a slip of the other (Jaro–Winkler).
const ALIKE: f64 = 0.92;

/// An unknown verb.
pub(super) fn verb(word: &str) -> Error {
    let near = super::VERBS.iter().find(|(verb, _)| strsim::jaro_winkler(verb, word) > 0.8);
    let error = Error::usage(format!("`{word}` is neither a flag nor a verb"));
    match near {
        Some((verb, _)) => error.hint(format!("did you mean `build-image {verb}`?")),
        None => {
            error.hint("an ISO is given with -i, a disk image with --disk; see build-image --help")
        }
    }
}

/// Looks at keys of the configuration file that are no setting of this build. One that is nearly a
/// setting is a slip and an error; one that belongs to another provider is fine: one file may serve
/// several platforms; any other is named in a warning.
///
/// # Errors
/// All slips at once.
pub(super) fn keys(
    file: &FileLayer,
    rows: &[Row],
    search: &SearchPath,
    reporter: &Reporter,
) -> Result<()> {
    let known = |rows: &[Row], key: &str| rows.iter().any(|row| row.key() == key);
    let unknown: Vec<(&str, usize)> = file
        .entries
        .iter()
        .filter(|(key, _)| !known(rows, key))
        .map(|(key, entry)| (key.as_str(), entry.line))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let others = rows_of_others(search);
    let mut problems = Vec::new();
    for (key, line) in unknown {
        let place = format!("{}, line {line}", file.path.display());
        if known(&others, key) {
            tracing::info!(key, place, "belongs to another provider");
        } else if let Some(near) = nearest(rows, key) {
            problems.push(
                Problem::new(format!("{place}: there is no setting `{key}`"))
                    .hint(format!("did you mean `{near}`?")),
            );
        } else {
            reporter.warning(
                &format!("{place}: `{key}` is no setting of this build, left alone"),
                None,
            );
        }
    }
    match problems.len() {
        0 => Ok(()),
        1 => {
            let only = problems.remove(0);
            Err(Error::new(Stage::Settings, only.message).hint(only.hint.unwrap_or_default()))
        }
        count => {
            Err(Error::several(Stage::Settings, format!("{count} unknown settings"), problems))
        }
    }
}

fn nearest<'a>(rows: &'a [Row], key: &str) -> Option<&'a str> {
    let likeness = |row: &&Row| strsim::jaro_winkler(row.key(), key);
    let alike =
        |row: &&Row| likeness(row) >= ALIKE && strsim::damerau_levenshtein(row.key(), key) <= 3;
    let best = rows.iter().filter(alike).max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    best.map(Row::key)
}

/// Settings of all providers that can be found and load.
fn rows_of_others(search: &SearchPath) -> Vec<Row> {
    let plugins = search.all().into_iter().filter_map(|candidate| Plugin::load(&candidate).ok());
    plugins.flat_map(|plugin| plugin.rows()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::core_rows;

    #[test]
    fn slips_are_told_from_other_peoples_keys() {
        let rows = core_rows();
        assert_eq!(nearest(&rows, "IMAGE_DRI"), Some("IMAGE_DIR"));
        assert_eq!(nearest(&rows, "BOOT_LOCATION"), Some("BOOT_LOCATIONS"));
        for foreign in ["AWS_BUCKET", "GOOGLE_APPLICATION_CREDENTIALS", "FOO"] {
            assert_eq!(nearest(&rows, foreign), None, "{foreign}");
        }
    }
}
