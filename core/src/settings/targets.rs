//! Reads the list `targets` of the configuration file: each entry names a provider, and overrides settings of the file
//! for one target.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value};

use super::{
    file::{Entry, FileLayer},
    resolve::Origin,
    row::{Row, Use},
    rows::core_rows,
    schema::keys,
};
use crate::error::{Error, Problem, Result, Stage};

/// Key of the list.
const TARGETS: &str = "TARGETS";
/// Keys of an entry that are not settings.
const NAME: &str = "NAME";
const PROVIDER: &str = "PROVIDER";
/// Maximum length of a name, characters.
const LONGEST_NAME: usize = 64;

/// The list of targets.
#[derive(Clone)]
pub struct TargetList {
    entries: Vec<TargetEntry>,
}

/// An entry of the list.
#[derive(Clone)]
struct TargetEntry {
    name: String,
    provider: String,
    line: usize,
    settings: Vec<(String, Entry)>,
}

/// A target of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenTarget {
    /// Its name, unique in the build.
    pub name: String,
    /// The name of its provider.
    pub provider: String,
    /// Where it is named.
    pub origin: Origin,
}

impl TargetList {
    /// Removes the list from the entries of a file. `lines` has the line of each member by its JSON pointer.
    ///
    /// # Errors
    /// Every entry that is wrong, with its line.
    pub(super) fn take(
        path: &Path,
        entries: &mut Vec<(String, Entry)>,
        lines: &BTreeMap<String, usize>,
    ) -> Result<Option<Self>> {
        let Some(place) = entries.iter().position(|(key, _)| key == TARGETS) else {
            return Ok(None);
        };
        let (_, Entry { line, value }) = entries.remove(place);
        let error = |line: usize, what: &str| {
            let text = format!("{}, line {line}: {what}", path.display());
            Error::new(Stage::Settings, text)
                .hint("list targets as `- provider: NAME`, with `name` and settings below it")
        };
        let items = match value {
            Value::Null => return Ok(None),
            Value::Array(items) if !items.is_empty() => items,
            _ => return Err(error(line, "`targets` is not a list of targets")),
        };
        let mut list = Self { entries: Vec::new() };
        for (number, item) in items.into_iter().enumerate() {
            let pointer = format!("/{TARGETS}/{number}");
            let line = lines.get(&pointer).copied().unwrap_or(line);
            let Value::Object(members) = item else {
                return Err(error(line, "a target is not a map of keys and values"));
            };
            let line_of = |key: &str| lines.get(&format!("{pointer}/{key}")).copied();
            let entry =
                entry(members, line, &line_of).map_err(|(line, what)| error(line, &what))?;
            if let Some(first) = list.entries.iter().find(|one| one.name == entry.name) {
                let what = format!(
                    "target `{}` is listed twice, first in line {}",
                    entry.name, first.line
                );
                return Err(error(line, &what).hint("give one of them another `name`"));
            }
            list.entries.push(entry);
        }
        Ok(Some(list))
    }

    /// Returns the targets with these names, or of these providers; all targets when none is named.
    ///
    /// # Errors
    /// When one of them is not in the list.
    fn select(&self, path: &Path, names: &[String]) -> Result<Vec<ChosenTarget>> {
        let mut chosen: Vec<&TargetEntry> = Vec::new();
        for name in names {
            let named: Vec<&TargetEntry> = match self.entries.iter().find(|one| one.name == *name) {
                Some(entry) => vec![entry],
                None => self.entries.iter().filter(|one| one.provider == *name).collect(),
            };
            if named.is_empty() {
                let text = format!("`{}` lists no target `{name}`", path.display());
                let names: Vec<&str> = self.entries.iter().map(|one| one.name.as_str()).collect();
                return Err(Error::new(Stage::Settings, text)
                    .hint(format!("its targets are {}", names.join(", "))));
            }
            for entry in named {
                if !chosen.iter().any(|one| one.name == entry.name) {
                    chosen.push(entry);
                }
            }
        }
        if names.is_empty() {
            chosen = self.entries.iter().collect();
        }
        let target = |entry: &TargetEntry| ChosenTarget {
            name: entry.name.clone(),
            provider: entry.provider.clone(),
            origin: Origin::File(path.to_owned(), entry.line),
        };
        Ok(chosen.into_iter().map(target).collect())
    }
}

impl FileLayer {
    /// Returns the targets of the list with these names, or of these providers; all targets when none is named, and
    /// `None` when the file has no list.
    ///
    /// # Errors
    /// When one of them is not in the list.
    pub fn targets(&self, names: &[String]) -> Result<Option<Vec<ChosenTarget>>> {
        self.targets.as_ref().map(|list| list.select(&self.path, names)).transpose()
    }

    /// Returns the settings of one target: those of its entry override those of the file.
    #[must_use]
    pub fn of_target(&self, name: &str) -> Self {
        let mut layer = Self { targets: None, ..self.clone() };
        let entry =
            self.targets.as_ref().and_then(|list| list.entries.iter().find(|one| one.name == name));
        for (key, value) in entry.iter().flat_map(|entry| &entry.settings) {
            layer.entries.retain(|(other, _)| other != key);
            layer.entries.push((key.clone(), value.clone()));
            layer.own.insert(key.clone());
        }
        layer
    }

    /// Refuses settings of a target that apply to a whole build.
    ///
    /// # Errors
    /// Each of them, with its line.
    pub fn check_own(&self) -> Result<()> {
        let rows = core_rows();
        let whole =
            |key: &String| rows.iter().any(|row| row.key() == key && is_of_whole_build(row));
        let problem = |key: &String| {
            let line = self.get(key).map(|entry| entry.line).unwrap_or_default();
            let place = format!("{}, line {line}", self.path.display());
            Problem::new(format!("{place}: {key} applies to all targets"))
                .hint("set it beside `targets`, not in a target")
        };
        let mut problems: Vec<Problem> =
            self.own.iter().filter(|key| whole(key)).map(problem).collect();
        match problems.len() {
            0 => Ok(()),
            1 => {
                let only = problems.remove(0);
                let error = Error::new(Stage::Settings, only.message);
                Err(error.hint(only.hint.unwrap_or_default()))
            }
            count => {
                let text = format!("{count} settings of targets apply to all targets");
                Err(Error::several(Stage::Settings, text, problems))
            }
        }
    }
}

/// Returns whether all targets of a build share a setting.
fn is_of_whole_build(row: &Row) -> bool {
    const MORE: [super::Key; 8] = [
        keys::PLATFORM,
        keys::CONFIG_FILE,
        keys::LOG_FILE,
        keys::LOG_LEVEL,
        keys::INFO,
        keys::UPLOAD_RATE,
        keys::FAIL_FAST,
        keys::KEEP_GOING,
    ];
    [Use::Report, Use::Runs].iter().any(|one| row.is_used_by(*one))
        || MORE.iter().any(|key| *key == *row)
}

/// Reads an entry; an error is a line and what is wrong there.
fn entry(
    members: Map<String, Value>,
    line: usize,
    line_of: &dyn Fn(&str) -> Option<usize>,
) -> Result<TargetEntry, (usize, String)> {
    let mut settings: Vec<(String, Entry)> = Vec::new();
    for (member, value) in members {
        let line = line_of(&member).unwrap_or(line);
        let key = member.trim().to_uppercase().replace('-', "_");
        if settings.iter().any(|(other, _)| *other == key) {
            return Err((line, format!("`{key}` is given twice in a target")));
        }
        settings.push((key, Entry { line, value: as_at_top(value) }));
    }
    let mut take = |key: &str| {
        let place = settings.iter().position(|(other, _)| other == key)?;
        Some(settings.remove(place).1)
    };
    let text = |entry: Option<Entry>| match entry {
        Some(Entry { line, value }) => match value {
            Value::Null => Ok(None),
            Value::String(text) if !text.trim().is_empty() => {
                Ok(Some((line, text.trim().to_owned())))
            }
            _ => Err((line, "the name of a target or provider is a text".to_owned())),
        },
        None => Ok(None),
    };
    let (name, provider) = (text(take(NAME))?, text(take(PROVIDER))?);
    let Some((provider_line, provider)) = provider else {
        return Err((line, "a target has no `provider`".to_owned()));
    };
    let is_provider = provider.starts_with(|letter: char| letter.is_ascii_lowercase())
        && provider
            .chars()
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    if !is_provider {
        return Err((provider_line, format!("`{provider}` is not the name of a provider")));
    }
    let (name_line, name) = name.unwrap_or_else(|| (provider_line, provider.clone()));
    if !is_name(&name) {
        let text = format!(
            "`{name}` is not the name of a target: at most {LONGEST_NAME} letters, digits, `-` and `_`"
        );
        return Err((name_line, text));
    }
    Ok(TargetEntry { name, provider, line, settings })
}

/// Returns whether a text can be the name of a target: it becomes a part of paths.
fn is_name(text: &str) -> bool {
    let legal = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    text.len() <= LONGEST_NAME
        && text.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        && text.chars().all(legal)
}

/// Returns a value as it is read at the top of a file, where every scalar is a text.
fn as_at_top(value: Value) -> Value {
    match value {
        Value::Number(_) | Value::Bool(_) => Value::String(value.to_string()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<FileLayer> {
        FileLayer::parse(Path::new("c.yml"), text)
    }

    const TWO: &str = "ACME_BUCKET: common\nIMAGE_DIR: d\ntargets:\n- provider: acme\n  acme-bucket: one\n\
                       - name: far-away\n  provider: acme\n  ACME_PIN: 0123\n  ACME_SIZE: 12\n";

    #[test]
    fn an_entry_overrides_the_file_for_its_target() {
        let file = read(TWO).unwrap();
        assert!(file.get(TARGETS).is_none());
        let chosen = file.targets(&[]).unwrap().unwrap();
        let names: Vec<&str> = chosen.iter().map(|target| target.name.as_str()).collect();
        assert_eq!(names, ["acme", "far-away"]);
        assert_eq!(chosen[1].origin.to_string(), "c.yml, line 6");
        let value = |name: &str, key: &str| {
            file.of_target(name).get(key).map(|entry| (entry.line, entry.value.clone()))
        };
        assert_eq!(value("acme", "ACME_BUCKET"), Some((5, json!("one"))));
        assert_eq!(value("far-away", "ACME_BUCKET"), Some((1, json!("common"))));
        assert_eq!(value("far-away", "ACME_PIN"), Some((8, json!("0123"))));
        assert_eq!(value("far-away", "ACME_SIZE"), Some((9, json!("12"))));
        assert_eq!(value("acme", "ACME_PIN"), None);
        assert!(file.of_target("acme").own.contains("ACME_BUCKET"));
    }

    #[test]
    fn targets_are_chosen_by_name_before_provider() {
        let file = read(TWO).unwrap();
        for (names, expected) in [
            (&["far-away"][..], "far-away"),
            (&["acme"], "acme"),
            (&["far-away", "acme"], "far-away acme"),
            (&["far-away", "far-away"], "far-away"),
        ] {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let chosen = file.targets(&names).unwrap().unwrap();
            let found: Vec<&str> = chosen.iter().map(|target| target.name.as_str()).collect();
            assert_eq!(found.join(" "), expected);
        }
        let error = file.targets(&["other".to_owned()]).unwrap_err();
        assert!(error.message.contains("no target `other`"), "{error}");
        assert!(error.hint.unwrap().contains("acme, far-away"));
        assert_eq!(read("A: 1\n").unwrap().targets(&[]).unwrap(), None);
        let same = read("targets:\n- {name: a, provider: acme}\n- {name: b, provider: acme}\n");
        assert_eq!(same.unwrap().targets(&["acme".to_owned()]).unwrap().unwrap().len(), 2);
    }

    #[test]
    fn a_wrong_list_is_refused_with_its_line() {
        for (text, line, what) in [
            ("targets: acme\n", 1, "not a list"),
            ("A: 1\ntargets: []\n", 2, "not a list"),
            ("targets:\n- acme\n", 2, "not a map"),
            ("targets:\n- provider: acme\n- A: 1\n", 3, "no `provider`"),
            ("targets:\n- provider: Acme\n", 2, "not the name of a provider"),
            ("targets:\n- provider: acme\n  name: a,b\n", 3, "not the name of a target"),
            ("targets:\n- provider: acme\n  name: ../x\n", 3, "not the name of a target"),
            ("targets:\n- provider: acme\n- provider: acme\n", 3, "listed twice"),
            ("targets:\n- provider: acme\n  a-b: 1\n  A_B: 2\n", 4, "given twice"),
        ] {
            let error = read(text).unwrap_err().message;
            assert!(error.contains(&format!("line {line}:")) && error.contains(what), "{error}");
        }
        assert!(read("targets:\n").unwrap().targets.is_none());
    }

    #[test]
    fn a_target_does_not_set_what_all_targets_share() {
        let own = |text: &str| read(text).unwrap().of_target("acme").check_own();
        own("JSON: yes\ntargets:\n- provider: acme\n  IMAGE_DIR: d\n").unwrap();
        for key in
            ["JSON", "FORMAT", "ARTIFACTS_DIR", "OUTPUT_JSON_FILE", "LOG_FILE", "UPLOAD_RATE"]
        {
            let error = own(&format!("targets:\n- provider: acme\n  {key}: x\n")).unwrap_err();
            assert!(error.message.contains(&format!("line 3: {key}")), "{error}");
        }
    }
}
