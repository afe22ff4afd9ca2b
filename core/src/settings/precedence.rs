//! Finds the value of each setting: flag, configuration file, environment, default, in this order. Reports all values that
//! are not acceptable at once.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde_json::Value as Json;

use super::{
    advice::{advice, lower_case},
    builder::Builder,
    env::Environment,
    file::FileLayer,
    found_file::refusal,
    home::Roots,
    parse::{parse_at, parse_value},
    resolve::{Origin, Resolved, Value},
    row::Row,
    rows::core_row,
    schema::keys,
    targets::ChosenTarget,
};
use crate::error::{Error, Problem, Result, Stage};

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
        let mut resolved = Resolved::empty(home, base, builder, target);
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
            if let Some(what) = refusal(row, &entry.value).filter(|_| file.found) {
                let text = format!("{key} ({origin}): a file that was found cannot set {what}");
                let hint = format!("name the file with -c {}", file.path.display());
                return Err(Problem::new(text).hint(hint));
            }
            let parsed = parse_value(&row.setting, &entry.value, roots);
            let value = with_origin(row, entry.value.as_str().unwrap_or_default(), parsed, origin)?;
            if value.is_some() {
                return Ok(value);
            }
        }
        let Some((name, text)) = self.environment.setting(row) else { return Ok(None) };
        let is_generic = name == key && core_row(key).is_some();
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
