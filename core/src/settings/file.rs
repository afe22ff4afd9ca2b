//! Parses the configuration file: one YAML document with a map at its top. Scalars keep their original text (`15.10`
//! stays `15.10`), and every key keeps its line for messages.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::Value;

use super::targets::TargetList;
use crate::error::{Error, Result, Stage};

/// The content of a configuration file.
#[derive(Clone, Default)]
pub struct FileLayer {
    /// The path of the file.
    pub path: PathBuf,
    /// Its keys, upper-case, in the file's order.
    pub entries: Vec<(String, Entry)>,
    /// Its list of targets, if it has one.
    pub targets: Option<TargetList>,
    /// Keys that the entry of the chosen target sets.
    pub own: BTreeSet<String>,
    /// Whether it was found in the working directory, and not named by the user.
    pub found: bool,
}

/// Names only: values may be secrets.
impl fmt::Debug for FileLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.entries.iter().map(|(key, _)| key.as_str()).collect();
        f.debug_struct("FileLayer").field("path", &self.path).field("keys", &keys).finish()
    }
}

/// One key's value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Line of the key, from 1.
    pub line: usize,
    /// The value; scalars are strings with their original text, unset is null.
    pub value: Value,
}

impl FileLayer {
    /// Reads and parses a file.
    ///
    /// # Errors
    /// When it cannot be read, is not YAML, or has no map at its top; with file and line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::new(
                Stage::Settings,
                format!("cannot read the configuration file `{}`", path.display()),
            )
            .caused_by(&error)
            .hint("give an existing YAML file with -c")
        })?;
        Self::parse(path, &text)
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// As [`FileLayer::read`].
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut reader = Reader::new(path, text);
        let mut entries = reader.document()?;
        let targets = TargetList::take(path, &mut entries, &reader.lines)?;
        Ok(Self { path: path.to_owned(), entries, targets, ..Self::default() })
    }

    /// Returns the entry of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, entry)| entry)
    }
}

/// Parses any YAML text into JSON (for settings that name a file).
pub(super) fn yaml_value(path: &Path, text: &str) -> Result<Value> {
    yaml_with_lines(path, text).map(|(value, _)| value)
}

/// Parses any YAML text into JSON; returns also the line of each member, from 1, by its JSON pointer.
///
/// # Errors
/// When it is not YAML; with file and line.
pub(crate) fn yaml_with_lines(path: &Path, text: &str) -> Result<(Value, BTreeMap<String, usize>)> {
    let mut reader = Reader::new(path, text);
    loop {
        let (event, line) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            Event::StreamEnd | Event::DocumentEnd => return Ok((Value::Null, reader.lines)),
            other => {
                let value = reader.value(other, line)?;
                reader.end()?;
                return Ok((value, reader.lines));
            }
        }
    }
}

/// Maximum nesting depth.
const MAX_DEPTH: usize = 32;

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    path: &'a Path,
    depth: usize,
    /// Where the reader is, as a JSON pointer.
    pointer: String,
    lines: BTreeMap<String, usize>,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, text: &'a str) -> Self {
        let parser = Parser::new_from_str(text);
        Self { parser, path, depth: 0, pointer: String::new(), lines: BTreeMap::new() }
    }

    /// Reads the value of a member, whose line is kept.
    fn member(
        &mut self,
        name: &str,
        line: usize,
        read: impl FnOnce(&mut Self) -> Result<Value>,
    ) -> Result<Value> {
        let length = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(name);
        self.lines.insert(self.pointer.clone(), line);
        let value = read(self);
        self.pointer.truncate(length);
        value
    }

    fn document(&mut self) -> Result<Vec<(String, Entry)>> {
        let mut entries: Vec<(String, Entry)> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
                Event::StreamEnd | Event::DocumentEnd => return Ok(entries),
                Event::MappingStart(..) => {
                    self.top(&mut entries)?;
                    self.end()?;
                    return Ok(entries);
                }
                Event::Scalar(text, ..) if is_null(&text) => {
                    self.end()?;
                    return Ok(entries);
                }
                _ => {
                    return Err(self.syntax_error(
                        line,
                        "the top of the file is not a map of keys and values",
                    ));
                }
            }
        }
    }

    /// Refuses anything after the one document.
    fn end(&mut self) -> Result<()> {
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(()),
                Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                Event::Scalar(text, ..) if is_null(&text) => {}
                _ => {
                    return Err(
                        self.syntax_error(line, "a second document begins here, only one is read")
                    );
                }
            }
        }
    }

    fn top(&mut self, entries: &mut Vec<(String, Entry)>) -> Result<()> {
        loop {
            let (event, line) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(()),
                Event::Scalar(text, ..) => text.trim().to_uppercase().replace('-', "_"),
                Event::Nothing => continue,
                _ => return Err(self.syntax_error(line, "a key is not a plain word")),
            };
            if let Some((_, first)) = entries.iter().find(|(name, _)| *name == key) {
                let first = first.line;
                return Err(self.syntax_error(
                    line,
                    &format!("`{key}` is given twice, first in line {first}"),
                ));
            }
            let value = self.member(&key, line, Self::next_value)?;
            entries.push((key, Entry { line, value }));
        }
    }

    fn next_value(&mut self) -> Result<Value> {
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::Nothing => {}
                other => return self.value(other, line),
            }
        }
    }

    fn value(&mut self, event: Event<'a>, line: usize) -> Result<Value> {
        match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) if is_null(&text) => Ok(Value::Null),
            Event::Scalar(text, ScalarStyle::Plain, ..) if self.depth > 0 => Ok(plain(&text)),
            Event::Scalar(text, ..) => Ok(Value::String(text.into_owned())),
            Event::SequenceStart(..) => self.nested(line, Self::sequence),
            Event::MappingStart(..) => self.nested(line, Self::mapping),
            Event::Alias(_) => Err(self.syntax_error(line, "aliases are not supported")),
            _ => Err(self.syntax_error(line, "a value is missing")),
        }
    }

    fn nested(&mut self, line: usize, read: fn(&mut Self) -> Result<Value>) -> Result<Value> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.syntax_error(line, "values are nested too deeply"));
        }
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn sequence(&mut self) -> Result<Value> {
        let mut items = Vec::new();
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::SequenceEnd => return Ok(Value::Array(items)),
                Event::Nothing => {}
                other => {
                    let name = items.len().to_string();
                    items.push(self.member(&name, line, |this| this.value(other, line))?);
                }
            }
        }
    }

    fn mapping(&mut self) -> Result<Value> {
        let mut members = serde_json::Map::new();
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::MappingEnd => return Ok(Value::Object(members)),
                Event::Nothing => {}
                Event::Scalar(key, ..) => {
                    let key = key.into_owned();
                    if members.contains_key(&key) {
                        return Err(
                            self.syntax_error(line, &format!("`{key}` is given twice in a map"))
                        );
                    }
                    let value = self.member(&key, line, Self::next_value)?;
                    members.insert(key, value);
                }
                _ => return Err(self.syntax_error(line, "a key is not a plain word")),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, usize)> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => {
                Err(self
                    .syntax_error(error.marker().line(), &format!("not YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn syntax_error(&self, line: usize, what: &str) -> Error {
        Error::new(Stage::Settings, format!("{}, line {line}: {what}", self.path.display()))
            .hint("the configuration file is a YAML map, one `KEY: value` per line")
    }
}

/// Parses an unquoted scalar inside a list or map: a number or boolean of YAML's JSON schema, otherwise text.
fn plain(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ if text.starts_with('0') && text.len() > 1 => Value::String(text.to_owned()),
        // `+49` and `1_000` stay texts.
        _ if !text.bytes().all(|byte| byte.is_ascii_digit()) => Value::String(text.to_owned()),
        _ => text.parse::<u64>().map_or_else(|_| Value::String(text.to_owned()), Value::from),
    }
}

/// Returns whether a plain scalar means null.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<FileLayer> {
        FileLayer::parse(Path::new("config.yml"), text)
    }

    #[test]
    fn scalars_keep_their_text_and_keys_their_lines() {
        let layer = read("# x\niso: 15.10\nACME-BUCKET: \"b\"\nSHARE:\n  - 0123\n  - 22\n  - +49\nLV: {var: 1500}\nN: ~\n").unwrap();
        assert_eq!(layer.get("ISO"), Some(&Entry { line: 2, value: json!("15.10") }));
        assert_eq!(layer.get("ACME_BUCKET").unwrap().value, json!("b"));
        assert_eq!(layer.get("SHARE").unwrap().value, json!(["0123", 22, "+49"]));
        assert_eq!(layer.get("LV").unwrap().value, json!({"var": 1500}));
        assert_eq!(layer.get("N").unwrap().value, Value::Null);
    }

    #[test]
    fn anything_but_a_yaml_map_is_refused_with_its_line() {
        for (text, line, what) in [
            ("a: 1\nb: [1, 2\n", "line", "not yaml"),
            ("- a\n- b\n", "line 1", "not a map"),
            ("just words\n", "line 1", "not a map"),
            ("A: 1\na: 2\n", "line 2", "given twice"),
            ("A: &x 1\nB: *x\n", "line 2", "alias"),
            ("---\nA: 1\n---\nB: 2\n", "line 4", "second document"),
            ("A: 1\n...\n---\n- x\n", "line 4", "second document"),
            ("~\n---\nA: 1\n", "line 3", "second document"),
        ] {
            let error = read(text).unwrap_err().message;
            assert!(
                error.contains(line) && error.to_lowercase().contains(what),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn an_empty_file_sets_nothing() {
        for text in ["", "---\n", "# only a comment\n", "null\n", "---\n---\n"] {
            assert!(read(text).unwrap().entries.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn debug_output_shows_keys_only() {
        let debug = format!("{:?}", read("TOKEN: hunter2\n").unwrap());
        assert!(debug.contains("TOKEN") && !debug.contains("hunter2"), "{debug}");
    }

    #[test]
    fn deep_nesting_ends_in_an_error() {
        let text = format!("A: {}{}\n", "[".repeat(200), "]".repeat(200));
        assert!(read(&text).unwrap_err().message.contains("too deeply"));
    }
}
