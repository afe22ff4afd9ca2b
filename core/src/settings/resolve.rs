//! From layers to values: precedence, rules, all problems at once, secrets apart.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use build_image_plugin_api::{Secret, Settings};
use serde_json::Value as Json;

use super::{
    env::Environment,
    file::FileLayer,
    parse::{parse_text, parse_value},
    row::Row,
};
use crate::error::{Error, Problem, Result, Stage};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    CommandLine,
    /// A line of the configuration file.
    File(PathBuf, usize),
    /// An environment variable.
    Environment(String),
    /// The row's default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("command line"),
            Self::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value with its origin.
#[derive(Clone, Debug)]
pub struct Value {
    /// The value, typed by its row; null for a secret.
    pub json: Json,
    /// Where it came from.
    pub origin: Origin,
}

/// What was said, before it is understood.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// Texts from the command line by key.
    pub command_line: BTreeMap<String, String>,
    /// The configuration file.
    pub file: Option<FileLayer>,
    /// The environment.
    pub environment: Environment,
}

/// All values that are set.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    values: BTreeMap<String, Value>,
    secrets: BTreeMap<String, Secret>,
}

impl Layers {
    /// Understands every row; finds every problem.
    ///
    /// # Errors
    /// All values that do not fit their rows, at once.
    pub fn resolve(&self, rows: &[Row]) -> Result<Resolved> {
        let mut resolved = Resolved::default();
        let mut problems = Vec::new();
        for row in rows {
            match self.value(row) {
                Ok(Some(value)) => resolved.insert(row, value),
                Ok(None) => {}
                Err(problem) => problems.push(problem),
            }
        }
        match problems.len() {
            0 => Ok(resolved),
            1 => {
                let only = problems.remove(0);
                let error = Error::new(Stage::Settings, only.message);
                Err(match only.hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                })
            }
            count => Err(Error::several(
                Stage::Settings,
                format!("{count} settings are not acceptable"),
                problems,
            )),
        }
    }

    /// The value of one row: the first layer in which it is set decides.
    fn value(&self, row: &Row) -> Result<Option<Value>, Problem> {
        let key = row.key();
        let explicit = self.explicit(row)?;
        if let (Some(why), Some(value)) = (row.unsupported, &explicit) {
            return Err(Problem::new(format!("{key} ({}): {why}", value.origin))
                .hint(format!("leave {key} out")));
        }
        if explicit.is_some() {
            return Ok(explicit);
        }
        let Some(default) = &row.setting.default else { return Ok(None) };
        with_origin(row, parse_text(&row.setting, default), Origin::Default)
    }

    fn explicit(&self, row: &Row) -> Result<Option<Value>, Problem> {
        let key = row.key();
        if let Some(text) = self.command_line.get(key) {
            let value = with_origin(row, parse_text(&row.setting, text), Origin::CommandLine)?;
            if value.is_some() {
                return Ok(value);
            }
        }
        if let Some(file) = &self.file
            && let Some(entry) = file.get(key)
        {
            let origin = Origin::File(file.path.clone(), entry.line);
            let value = with_origin(row, parse_value(&row.setting, &entry.value), origin)?;
            if value.is_some() {
                return Ok(value);
            }
        }
        let Some((name, text)) = self.environment.setting(key) else { return Ok(None) };
        with_origin(row, parse_text(&row.setting, text), Origin::Environment(name))
    }
}

fn with_origin(
    row: &Row,
    parsed: Result<Option<Json>, String>,
    origin: Origin,
) -> Result<Option<Value>, Problem> {
    match parsed {
        Ok(Some(json)) => Ok(Some(Value { json, origin })),
        Ok(None) => Ok(None),
        Err(what) => Err(Problem::new(format!("{} ({origin}): {what}", row.key())).hint(format!(
            "{} is {}",
            row.key(),
            row.setting.summary
        ))),
    }
}

impl Resolved {
    fn insert(&mut self, row: &Row, mut value: Value) {
        if row.setting.secret {
            if let Json::String(text) = &value.json {
                self.secrets.insert(row.key().to_owned(), Secret::new(text.clone()));
            }
            value.json = Json::Null;
        }
        self.values.insert(row.key().to_owned(), value);
    }

    /// A value with its origin.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// The text of a setting.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(|value| value.json.as_str())
    }

    /// The path of a setting.
    #[must_use]
    pub fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// The number of a setting.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(|value| value.json.as_u64())
    }

    /// Whether a switch is on.
    #[must_use]
    pub fn is_on(&self, key: &str) -> bool {
        self.get(key).and_then(|value| value.json.as_bool()).unwrap_or(false)
    }

    /// The secrets among a provider's rows.
    #[must_use]
    pub fn secrets(&self, rows: &[Row]) -> BTreeMap<String, Option<Secret>> {
        let secret_rows = rows.iter().filter(|row| row.setting.secret);
        secret_rows
            .map(|row| (row.key().to_owned(), self.secrets.get(row.key()).cloned()))
            .collect()
    }

    /// The values of a provider's rows, secrets left out.
    #[must_use]
    pub fn for_provider(&self, rows: &[Row]) -> Settings {
        let open_rows = rows.iter().filter(|row| !row.setting.secret);
        let values = open_rows.filter_map(|row| Some((row.key().to_owned(), self.get(row.key())?)));
        Settings::from_values(values.map(|(key, value)| (key, value.json.clone())).collect())
    }

    /// Every key, its text for humans (secrets masked) and its origin.
    pub fn shown(&self) -> impl Iterator<Item = (&str, String, &Origin)> {
        self.values.iter().map(|(key, value)| {
            let text = match &value.json {
                Json::Null => "<protected>".to_owned(),
                Json::String(text) => text.clone(),
                other => other.to_string(),
            };
            (key.as_str(), text, &value.origin)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use build_image_plugin_api::{Setting, SettingKind};

    use super::*;

    fn rows() -> Vec<Row> {
        vec![
            Row::new(Setting::new("A", SettingKind::Text, "a").default_value("from default")),
            Row::new(Setting::new("N", SettingKind::Integer, "n")),
            Row::new(Setting::new("S", SettingKind::Text, "s").secret()),
        ]
    }

    fn layers(cli: &[(&str, &str)], file: &str, environment: Environment) -> Layers {
        let owned = cli.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
        let file = FileLayer::parse(Path::new("c.yml"), file).unwrap();
        Layers { command_line: owned.collect(), file: Some(file), environment }
    }

    #[test]
    fn the_first_layer_in_which_a_key_is_set_decides() {
        let environment = || Environment::of([("A", "from env")]);
        for (cli, file, env, expected) in [
            (vec![("A", "from cli")], "A: from file", environment(), "from cli"),
            (vec![("A", "")], "A: from file", environment(), "from file"),
            (vec![], "A: ~", environment(), "from env"),
            (vec![], "", Environment::default(), "from default"),
        ] {
            let resolved = layers(&cli, file, env).resolve(&rows()).unwrap();
            assert_eq!(resolved.text("A"), Some(expected));
        }
    }

    #[test]
    fn all_problems_are_reported_with_their_origins() {
        let layers = layers(&[("N", "x")], "S: [1]\n", Environment::default());
        let error = layers.resolve(&rows()).unwrap_err();
        let texts: Vec<&str> =
            error.problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].starts_with("N (command line): "), "{texts:?}");
        assert!(texts[1].starts_with("S (c.yml, line 1): "), "{texts:?}");
    }

    #[test]
    fn secrets_are_kept_apart_and_masked() {
        let layers = layers(&[("S", "hunter2")], "", Environment::default());
        let resolved = layers.resolve(&rows()).unwrap();
        assert!(!format!("{resolved:?}").contains("hunter2"));
        assert!(!resolved.for_provider(&rows()).is_set("S"));
        let secrets = resolved.secrets(&rows());
        assert_eq!(secrets["S"].as_ref().map(Secret::reveal), Some("hunter2"));
        assert!(resolved.shown().any(|(key, text, _)| key == "S" && text == "<protected>"));
    }
}
