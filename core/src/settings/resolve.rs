//! Resolves layers into values: applies precedence and rules, reports all problems at once, and keeps secrets
//! separate.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::OnceLock};

use build_image_plugin_api::{Secret, Settings};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::{
    advice::{advice, lower_case},
    builder::Builder,
    env::Environment,
    file::FileLayer,
    groups::CoreSettings,
    home::Roots,
    key::Key,
    parse::{parse_at, parse_value},
    row::Row,
    schema::keys,
    targets::ChosenTarget,
};
use crate::{
    error::{Error, Problem, Result, Stage},
    source::redacted,
};

/// The origin of a value.
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
    /// Its origin.
    pub origin: Origin,
}

impl Value {
    /// Returns the text of a text or a path.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.json.as_str()
    }
}

/// The texts of settings before they are parsed.
#[derive(Clone, Default)]
pub struct Layers {
    /// Texts from the command line, by key.
    pub command_line: BTreeMap<String, String>,
    /// The configuration file.
    pub file: Option<FileLayer>,
    /// The environment.
    pub environment: Environment,
    /// Base of relative paths: the working directory of the command that started the run. `None` = that of this
    /// process.
    pub base: Option<PathBuf>,
    /// The target that was chosen from several, or from the list of the configuration file.
    pub target: Option<ChosenTarget>,
}

/// Names only: values may be secrets.
impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let typed: Vec<&String> = self.command_line.keys().collect();
        f.debug_struct("Layers")
            .field("command_line", &typed)
            .field("file", &self.file)
            .field("environment", &self.environment)
            .finish()
    }
}

/// All values that are set.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    values: BTreeMap<String, Value>,
    home: Option<String>,
    base: Option<PathBuf>,
    builder: Builder,
    target: Option<String>,
    secrets: BTreeMap<String, Secret>,
    /// Environment variables that have no effect, and why.
    ignored: Vec<String>,
    /// The core's own, read when they are first needed.
    core: OnceLock<CoreSettings>,
}

impl Layers {
    /// Parses every row; finds every problem.
    ///
    /// # Errors
    /// All values that do not fit their rows, at once.
    pub fn resolve(&self, rows: &[Row]) -> Result<Resolved> {
        let home = self.home().map(str::to_owned);
        let builder = Builder::of(&self.environment);
        let base = self.base.clone();
        let target = self.target.as_ref().map(|target| target.name.clone());
        let mut resolved = Resolved { home, base, builder, target, ..Resolved::default() };
        let mut problems = Vec::new();
        for row in rows {
            match self.value(row) {
                Ok(value) => {
                    resolved.ignored.extend(self.ignored(row, value.as_ref()));
                    if let Some(value) = value {
                        resolved.insert(row, value);
                    }
                }
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

    fn home(&self) -> Option<&str> {
        self.environment.get("HOME")
    }

    fn roots(&self) -> Roots<'_> {
        Roots { home: self.home(), base: self.base.as_deref() }
    }

    /// Returns the value of one row, from the first layer in which it is set.
    fn value(&self, row: &Row) -> Result<Option<Value>, Problem> {
        let key = row.key();
        let explicit = self.explicit(row)?;
        if let (Some(why), Some(value)) = (row.unsupported, &explicit) {
            if value.json == Json::Bool(false) {
                return Ok(None);
            }
            return Err(Problem::new(format!("{key} ({}): {why}", value.origin))
                .hint(format!("leave {key} out")));
        }
        if explicit.is_some() {
            return Ok(explicit);
        }
        let Some(default) = &row.setting.default else { return Ok(None) };
        with_origin(row, default, parse_at(&row.setting, default, self.roots()), Origin::Default)
    }

    fn explicit(&self, row: &Row) -> Result<Option<Value>, Problem> {
        let (key, roots) = (row.key(), self.roots());
        if let Some(target) = self.target.as_ref().filter(|_| keys::PLATFORM == *row) {
            let json = Json::String(target.provider.clone());
            return Ok(Some(Value { json, origin: target.origin.clone() }));
        }
        if let Some(text) = self.command_line.get(key) {
            let value =
                with_origin(row, text, parse_at(&row.setting, text, roots), Origin::CommandLine)?;
            if value.is_some() {
                return Ok(value);
            }
        }
        if let Some(file) = &self.file
            && let Some(entry) = file.get(key)
        {
            let origin = Origin::File(file.path.clone(), entry.line);
            let parsed = parse_value(&row.setting, &entry.value, roots);
            let value = with_origin(row, entry.value.as_str().unwrap_or_default(), parsed, origin)?;
            if value.is_some() {
                return Ok(value);
            }
        }
        let Some((name, text)) = self.environment.setting(row) else { return Ok(None) };
        let is_generic = name == key;
        match with_origin(row, text, self.of_environment(row, text), Origin::Environment(name)) {
            // Another program may mean something else by a name without the prefix.
            Err(_) if is_generic => Ok(None),
            value => value,
        }
    }

    /// Parses a text of the environment, which belongs to this process, and so do its relative paths.
    fn of_environment(&self, row: &Row, text: &str) -> Result<Option<Json>, String> {
        parse_at(&row.setting, text, Roots { base: None, ..self.roots() })
    }

    /// Returns why the variable of a row has no effect, although the user may expect one: the configuration file takes
    /// precedence with another value, or a value that is not acceptable has a name without the prefix.
    fn ignored(&self, row: &Row, value: Option<&Value>) -> Option<String> {
        let (name, text) = self.environment.setting(row)?;
        let origin = value.map_or(&Origin::Default, |value| &value.origin);
        let parsed = self.of_environment(row, text);
        match (origin, parsed) {
            (Origin::File(..), Ok(Some(other))) if value.is_some_and(|set| set.json != other) => {
                Some(format!("{name} in the environment is ignored: {origin} sets {}", row.key()))
            }
            (Origin::Default, Err(why)) => {
                Some(format!("{name} in the environment is ignored: {why}"))
            }
            _ => None,
        }
    }
}

fn with_origin(
    row: &Row,
    text: &str,
    parsed: Result<Option<Json>, String>,
    origin: Origin,
) -> Result<Option<Value>, Problem> {
    match parsed {
        Ok(Some(json)) => Ok(Some(Value { json, origin })),
        Ok(None) => Ok(None),
        Err(what) => Err(Problem::new(format!("{} ({origin}): {what}", row.key()))
            .hint(lower_case(row, text).unwrap_or_else(|| advice(row, &origin)))),
    }
}

impl Resolved {
    fn insert(&mut self, row: &Row, mut value: Value) {
        if row.setting.secret {
            let text = match std::mem::take(&mut value.json) {
                Json::String(text) => text,
                other => other.to_string(),
            };
            self.secrets.insert(row.key().to_owned(), Secret::new(text));
        }
        self.values.insert(row.key().to_owned(), value);
    }

    /// Returns the settings of the core, typed.
    #[must_use]
    pub fn core(&self) -> &CoreSettings {
        self.core.get_or_init(|| CoreSettings::of(self))
    }

    /// Returns the value of a setting of the core with its origin.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&Value> {
        self.values.get(key.name())
    }

    /// Returns the value of a row with its origin.
    #[must_use]
    pub fn of(&self, row: &Row) -> Option<&Value> {
        self.values.get(row.key())
    }

    /// Looks values up by the names of rows: of an installer, or rows that a caller chooses. The core's own settings
    /// are fields of [`Resolved::core`].
    #[must_use]
    pub fn by_name(&self) -> ByName<'_> {
        ByName(self)
    }

    /// Returns the environment variables that have no effect although the user may expect one, and why.
    #[must_use]
    pub fn ignored_variables(&self) -> &[String] {
        &self.ignored
    }

    /// Resolves a path inside another value as in settings that are paths.
    ///
    /// # Errors
    /// The problem, as a fragment.
    pub fn resolve_path(&self, path: &str) -> Result<String, String> {
        Roots { home: self.home.as_deref(), base: self.base.as_deref() }.resolve(path)
    }

    /// Resolves a path for this process: a relative path starts where those of the run do.
    #[must_use]
    pub fn relative_to_run(&self, path: PathBuf) -> PathBuf {
        match &self.base {
            Some(base) => base.join(path),
            None => path,
        }
    }

    /// Returns an absolute path; a relative path starts where relative paths of settings do.
    ///
    /// # Errors
    /// When the working directory is unknown.
    pub fn absolute(&self, path: &std::path::Path) -> Result<PathBuf> {
        let path = self.base.as_ref().map_or_else(|| path.to_owned(), |base| base.join(path));
        std::path::absolute(&path).map_err(|error| {
            let text = format!("cannot make `{}` an absolute path", path.display());
            Error::new(Stage::Settings, text).caused_by(&error)
        })
    }

    /// Returns the name of the target, if one was chosen from several.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// Returns a text that differs if any of these rows has another value.
    #[must_use]
    pub(crate) fn fingerprint<'a>(&self, rows: impl Iterator<Item = &'a Row>) -> String {
        let mut hash = Sha256::new();
        for row in rows {
            let Some(value) = self.of(row) else { continue };
            let secret = self.secrets.get(row.key()).map(Secret::reveal).unwrap_or_default();
            for text in [row.key(), &value.json.to_string(), secret] {
                hash.update((text.len() as u64).to_le_bytes());
                hash.update(text);
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns the user and the machine of the build.
    #[must_use]
    pub fn builder(&self) -> &Builder {
        &self.builder
    }

    /// Returns the secrets among a provider's rows.
    #[must_use]
    pub fn secrets(&self, rows: &[Row]) -> BTreeMap<String, Option<Secret>> {
        let secret_rows = rows.iter().filter(|row| row.setting.secret);
        secret_rows
            .map(|row| (row.key().to_owned(), self.secrets.get(row.key()).cloned()))
            .collect()
    }

    /// Returns the values of a provider's rows, without secrets.
    #[must_use]
    pub fn for_provider(&self, rows: &[Row]) -> Settings {
        let open_rows = rows.iter().filter(|row| !row.setting.secret);
        let values = open_rows.filter_map(|row| Some((row.key().to_owned(), self.of(row)?)));
        Settings::from_values(values.map(|(key, value)| (key, value.json.clone())).collect())
    }

    /// Returns every key, its text for humans (secrets redacted) and its origin.
    pub fn shown(&self) -> impl Iterator<Item = (&str, String, &Origin)> {
        self.values.iter().map(|(key, value)| {
            let text = match &value.json {
                Json::Null => "<protected>".to_owned(),
                Json::String(text) => redacted(text),
                other => redacted(&other.to_string()),
            };
            (key.as_str(), text, &value.origin)
        })
    }
}

/// Values by the names of their rows.
#[derive(Clone, Copy, Debug)]
pub struct ByName<'a>(&'a Resolved);

impl<'a> ByName<'a> {
    /// Returns a value with its origin.
    #[must_use]
    pub fn get(self, name: &str) -> Option<&'a Value> {
        self.0.values.get(name)
    }

    /// Returns the text of a setting.
    #[must_use]
    pub fn text(self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::text)
    }

    /// Returns whether a switch is on.
    #[must_use]
    pub fn is_on(self, name: &str) -> bool {
        self.get(name).and_then(|value| value.json.as_bool()).unwrap_or(false)
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
        Layers { command_line: owned.collect(), file: Some(file), environment, ..Layers::default() }
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
            assert_eq!(resolved.by_name().text("A"), Some(expected));
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
    fn secrets_of_other_kinds_are_kept_as_text() {
        let rows = [
            Row::new(Setting::new("N", SettingKind::Integer, "n").secret()),
            Row::new(Setting::new("L", SettingKind::List, "l").secret()),
        ];
        let layers = layers(&[("N", "42")], "L: [a, 1]", Environment::default());
        let secrets = layers.resolve(&rows).unwrap().secrets(&rows);
        let text = |key: &str| secrets[key].as_ref().map(Secret::reveal);
        assert_eq!((text("N"), text("L")), (Some("42"), Some(r#"["a",1]"#)));
    }

    #[test]
    fn an_unsupported_switch_that_is_off_is_unset() {
        let row = |key| {
            Row::new(Setting::new(key, SettingKind::Switch, "x")).unsupported("not in this version")
        };
        let resolve = |file| layers(&[], file, Environment::default()).resolve(&[row("OFF")]);
        for off in ["OFF: false", "OFF: 'No'", "OFF:"] {
            assert!(resolve(off).unwrap().by_name().get("OFF").is_none(), "{off}");
        }
        assert!(resolve("OFF: 1").unwrap_err().message.contains("not in this version"));
    }

    #[test]
    fn a_home_directory_is_expanded_from_every_layer() {
        let rows = [Row::new(Setting::new("P", SettingKind::Path, "p"))];
        let home = || Environment::of([("HOME", "/home/me"), ("F5_P", "~/env")]);
        for (cli, file, path) in [
            (&[("P", "~/cli")][..], "", "/home/me/cli"),
            (&[], "P: ~/file", "/home/me/file"),
            (&[], "", "/home/me/env"),
        ] {
            let resolved = layers(cli, file, home()).resolve(&rows).unwrap();
            assert_eq!(resolved.by_name().text("P"), Some(path));
        }
        let error = layers(&[("P", "~you/x")], "", home()).resolve(&rows).unwrap_err();
        assert!(error.hint.unwrap().contains("`~/…`"));
    }

    #[test]
    fn debug_output_of_layers_shows_names_only() {
        let layers = layers(&[("A", "hunter1")], "S: hunter2", Environment::of([("N", "hunter3")]));
        let debug = format!("{layers:?}");
        assert!(debug.contains("\"S\"") && !debug.contains("hunter"), "{debug}");
    }

    #[test]
    fn secrets_are_kept_separate_and_redacted() {
        let layers = layers(&[("S", "hunter2")], "", Environment::default());
        let resolved = layers.resolve(&rows()).unwrap();
        assert!(!format!("{resolved:?}").contains("hunter2"));
        assert!(!resolved.for_provider(&rows()).is_set("S"));
        let secrets = resolved.secrets(&rows());
        assert_eq!(secrets["S"].as_ref().map(Secret::reveal), Some("hunter2"));
        assert!(resolved.shown().any(|(key, text, _)| key == "S" && text == "<protected>"));
    }
}
