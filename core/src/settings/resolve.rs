//! Holds the values of all settings with their origins; secrets are separate.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::OnceLock};

use build_image_plugin_api::{Secret, Settings};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::{builder::Builder, groups::CoreSettings, home::Roots, key::Key, row::Row};
use crate::{
    error::{Error, Result, Stage},
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
    pub(super) ignored: Vec<String>,
    /// The core's own, read when they are first needed.
    core: OnceLock<CoreSettings>,
}

impl Resolved {
    /// Creates values of which none is set.
    pub(super) fn empty(
        home: Option<String>,
        base: Option<PathBuf>,
        builder: Builder,
        target: Option<String>,
    ) -> Self {
        Self { home, base, builder, target, ..Self::default() }
    }

    pub(super) fn insert(&mut self, row: &Row, mut value: Value) {
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
    use crate::settings::{Environment, FileLayer, Layers, core_rows};

    #[test]
    fn variables_without_effect_are_named() {
        let file = FileLayer::parse(Path::new("c.yml"), "LOG_LEVEL: debug\nPIN: hunter2").unwrap();
        let secret =
            Row::new(Setting::new("PIN", SettingKind::Text, "x").pattern("[a-z0-9]+").secret());
        let rows = [core_rows(), vec![secret]].concat();
        let level = "LOG_LEVEL in the environment is ignored";
        for (variables, file, typed, expected) in [
            (
                [("LOG_LEVEL", "info"), ("X", "1")],
                Some(&file),
                None,
                vec![format!("{level}: c.yml, line 1 sets LOG_LEVEL")],
            ),
            (
                [("F5_LOG_LEVEL", "info"), ("X", "1")],
                Some(&file),
                None,
                vec![format!("F5_{level}: c.yml, line 1 sets LOG_LEVEL")],
            ),
            (
                [("PIN", "hunter3"), ("X", "1")],
                Some(&file),
                None,
                vec!["PIN in the environment is ignored: c.yml, line 2 sets PIN".to_owned()],
            ),
            // The same value, and a flag, are not surprising.
            ([("LOG_LEVEL", "debug"), ("X", "1")], Some(&file), None, vec![]),
            ([("LOG_LEVEL", "verbose"), ("X", "1")], None, Some("info"), vec![]),
        ] {
            let layers = Layers {
                command_line: typed
                    .map(|text: &str| ("LOG_LEVEL".to_owned(), text.to_owned()))
                    .into_iter()
                    .collect(),
                file: file.cloned(),
                environment: Environment::of(variables),
                ..Layers::default()
            };
            let found = layers.resolve(&rows).unwrap();
            assert_eq!(found.ignored_variables(), expected, "{variables:?}");
        }
    }

    #[test]
    fn only_generic_names_may_mean_something_else() {
        let own = Row::new(Setting::new("ACME_MODE", SettingKind::Text, "x").choices(&["a", "b"]));
        let rows = [core_rows(), vec![own]].concat();
        let resolve = |name, text| {
            let environment = Environment::of([(name, text)]);
            Layers { environment, ..Layers::default() }.resolve(&rows)
        };
        let found = resolve("LOG_LEVEL", "verbose").unwrap();
        let level = found.shown().find(|(key, ..)| *key == "LOG_LEVEL");
        assert!(level.is_none_or(|(.., origin)| *origin == Origin::Default));
        let [ignored] = found.ignored_variables() else { panic!("{found:?}") };
        assert!(
            ignored.starts_with("LOG_LEVEL in the environment is ignored: `verbose` is not one of")
        );
        for (name, text) in [("F5_LOG_LEVEL", "verbose"), ("ACME_MODE", "c")] {
            let error = resolve(name, text).unwrap_err();
            assert!(error.message.contains(&format!("environment variable {name}")), "{error}");
        }
    }

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
