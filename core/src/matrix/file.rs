//! Reads the file of a matrix.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value};

use super::{Axis, Entry, Exclusion, Given, Matrix};
use crate::{
    error::{Error, Problem, Result, Stage},
    settings::yaml_with_lines,
};

/// Members of the file.
const MEMBERS: [&str; 7] = ["name", "config", "results", "settings", "axes", "exclude", "include"];

/// Names that an axis cannot have: they are members of the documents that are made of the builds.
const RESERVED: [&str; 4] = ["id", "command", "include", "exclude"];

/// Most builds of one matrix.
pub(super) const MOST_BUILDS: usize = 10_000;

impl Matrix {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or is not a matrix; every problem names a line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::new(Stage::Settings, format!("cannot read the matrix `{}`", path.display()))
                .caused_by(&error)
                .hint("give an existing YAML file with -c")
        })?;
        Self::parse(path, &text)
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// As [`Matrix::read`].
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let (value, lines) = yaml_with_lines(path, text)?;
        let mut reader = Reader { lines, problems: Vec::new() };
        let mut matrix = Self { path: path.to_owned(), ..Self::default() };
        reader.matrix(&value, &mut matrix);
        let count = matrix.axes.iter().map(|axis| axis.entries.len());
        let count = count.fold(matrix.include.len().max(1), usize::saturating_mul);
        if count > MOST_BUILDS {
            reader.problem("/axes", &format!("more than {MOST_BUILDS} combinations"), "split it");
        }
        let problems = reader.problems;
        if problems.is_empty() { Ok(matrix) } else { Err(matrix.error(problems)) }
    }
}

/// Returns whether a text can be a part of an id: it becomes a part of file names and job names.
fn is_id(text: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(fits)
}

struct Reader {
    lines: BTreeMap<String, usize>,
    problems: Vec<Problem>,
}

impl Reader {
    fn line(&self, pointer: &str) -> usize {
        let mut pointer = pointer;
        loop {
            if let Some(line) = self.lines.get(pointer) {
                return *line;
            }
            match pointer.rfind('/') {
                Some(at) => pointer = &pointer[..at],
                None => return 1,
            }
        }
    }

    fn problem(&mut self, pointer: &str, what: &str, hint: &str) {
        let text = format!("line {}: {what}", self.line(pointer));
        self.problems.push(Problem::new(text).hint(hint));
    }

    fn matrix(&mut self, value: &Value, matrix: &mut Matrix) {
        let Some(members) = value.as_object() else {
            return self.problem("", "a matrix is a map", "begin with `name:` and `axes:`");
        };
        for name in members.keys().filter(|name| !MEMBERS.contains(&name.as_str())) {
            let hint = format!("a matrix has {}", MEMBERS.join(", "));
            self.problem(&format!("/{name}"), &format!("`{name}` is not known here"), &hint);
        }
        let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
        matrix.name = text("name").unwrap_or_default();
        if !is_id(&matrix.name) {
            let hint =
                "letters, digits, `.`, `-` and `_`, at most 64; builds are found again by it";
            self.problem("/name", "the matrix needs a `name`", hint);
        }
        matrix.config = text("config");
        matrix.results = text("results");
        if let Some(settings) = members.get("settings") {
            matrix.settings = self.settings(settings, "/settings", &[]);
        }
        self.axes(members.get("axes"), matrix);
        matrix.include = self.entries(members.get("include"), "/include", None);
        self.exclusions(members.get("exclude"), matrix);
    }

    /// Reads the axes, in the order of the file.
    fn axes(&mut self, value: Option<&Value>, matrix: &mut Matrix) {
        let axes = match value {
            None | Some(Value::Null) => return,
            Some(Value::Object(axes)) => axes,
            Some(_) => {
                let hint = "write `axes:` and below it `product: [...]`";
                return self.problem("/axes", "`axes` is a map of lists", hint);
            }
        };
        let mut names: Vec<&String> = axes.keys().collect();
        names.sort_by_key(|name| self.line(&format!("/axes/{name}")));
        for name in names {
            let pointer = format!("/axes/{name}");
            if !is_id(name) || RESERVED.contains(&name.as_str()) {
                self.problem(&pointer, &format!("`{name}` cannot be an axis"), "rename it");
            }
            let entries = self.entries(axes.get(name), &pointer, Some(name));
            if entries.is_empty() {
                self.problem(&pointer, &format!("axis `{name}` has no entries"), "remove the axis");
            }
            matrix.axes.push(Axis { name: name.clone(), entries });
        }
    }

    /// Reads a list of entries. A value alone stands for the setting that the axis is named after.
    fn entries(&mut self, value: Option<&Value>, pointer: &str, axis: Option<&str>) -> Vec<Entry> {
        let list = match value {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(list)) => list,
            Some(_) => {
                self.problem(pointer, "a list is expected", "write `- id: NAME`");
                return Vec::new();
            }
        };
        let mut entries: Vec<Entry> = Vec::new();
        for (at, value) in list.iter().enumerate() {
            let place = format!("{pointer}/{at}");
            let Some(entry) = self.entry(value, &place, axis) else { continue };
            if entries.iter().any(|one| one.id == entry.id) {
                let hint = "ids are unique in their list";
                self.problem(&place, &format!("`{}` stands here twice", entry.id), hint);
            }
            entries.push(entry);
        }
        entries
    }

    fn entry(&mut self, value: &Value, place: &str, axis: Option<&str>) -> Option<Entry> {
        let line = self.line(place);
        let hint = "give it an `id` of letters, digits, `.`, `-` and `_`, at most 64";
        match (value, axis) {
            (Value::Object(members), _) => {
                let id = members.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
                if !is_id(&id) {
                    self.problem(place, "an entry has no usable `id`", hint);
                    return None;
                }
                Some(Entry { id, settings: self.settings(value, place, &["id"]) })
            }
            (Value::String(text), Some(axis)) if is_id(text) => {
                let key = key_of(axis);
                let settings = vec![Given { key, text: text.clone(), line }];
                Some(Entry { id: text.clone(), settings })
            }
            _ => {
                self.problem(place, "an entry is a map, or a value that can be an id", hint);
                None
            }
        }
    }

    fn settings(&mut self, value: &Value, place: &str, except: &[&str]) -> Vec<Given> {
        let empty = Map::new();
        let members = match value {
            Value::Null => &empty,
            Value::Object(members) => members,
            _ => {
                self.problem(place, "settings are a map", "write KEY: value");
                &empty
            }
        };
        let mut settings = Vec::new();
        for (name, value) in members.iter().filter(|(name, _)| !except.contains(&name.as_str())) {
            let line = self.line(&format!("{place}/{name}"));
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            settings.push(Given { key: key_of(name), text, line });
        }
        settings.sort_by_key(|given| given.line);
        settings
    }

    fn exclusions(&mut self, value: Option<&Value>, matrix: &mut Matrix) {
        let list = match value {
            None | Some(Value::Null) => return,
            Some(Value::Array(list)) => list.as_slice(),
            Some(_) => &[Value::Null],
        };
        for (at, value) in list.iter().enumerate() {
            let place = format!("/exclude/{at}");
            let Some(members) = value.as_object().filter(|members| !members.is_empty()) else {
                let hint = "write `- {AXIS: ID}`";
                self.problem(&place, "an exclusion is a map of axes and ids", hint);
                continue;
            };
            let mut ids = BTreeMap::new();
            for (name, value) in members {
                let axis = matrix.axes.iter().find(|axis| axis.name == *name);
                let id = value.as_str().unwrap_or_default();
                if axis.is_none_or(|axis| axis.entries.iter().all(|entry| entry.id != id)) {
                    let what = format!("no axis `{name}` has the id `{id}`");
                    self.problem(&place, &what, "use names and ids of `axes`");
                }
                ids.insert(name.clone(), id.to_owned());
            }
            matrix.exclude.push(Exclusion { ids, line: self.line(&place) });
        }
    }
}

/// Returns the key of a setting in the spelling of configuration files.
fn key_of(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}
