//! Parses the YAML of `clouds.yaml` into JSON values: maps, lists, scalars, anchors with aliases, and merge keys
//! (`<<`), as PyYAML's safe loader reads them. JSON files are YAML, too.

use std::{borrow::Cow, collections::HashMap, path::Path};

use build_image_plugin_api::{Error, Result};
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// Maximum nesting depth.
const MAX_DEPTH: usize = 32;
/// Maximum number of values; aliases count with everything they stand for.
const MAX_VALUES: usize = 100_000;

/// Parses the text of the file `path`; an empty file is null.
///
/// # Errors
/// Config errors with file and line. They never contain values, which may be secrets.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Value> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        path,
        depth: 0,
        values: 0,
        anchors: HashMap::new(),
    };
    loop {
        let (event, line) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            Event::StreamEnd | Event::DocumentEnd => return Ok(Value::Null),
            other => return reader.value(other, line),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    path: &'a Path,
    depth: usize,
    values: usize,
    anchors: HashMap<usize, Value>,
}

impl<'a> Reader<'a> {
    fn value(&mut self, event: Event<'a>, line: usize) -> Result<Value> {
        self.count(1, line)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (scalar(text, style), anchor),
            Event::SequenceStart(anchor, _) => (self.nested(line, Self::sequence)?, anchor),
            Event::MappingStart(anchor, _) => (self.nested(line, Self::mapping)?, anchor),
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                let value = known.ok_or_else(|| self.error(line, "an alias refers to itself"))?;
                self.count(size(&value), line)?;
                return Ok(value);
            }
            _ => return Err(self.error(line, "a value is missing")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn count(&mut self, values: usize, line: usize) -> Result<()> {
        self.values += values;
        if self.values > MAX_VALUES { Err(self.error(line, "too many values")) } else { Ok(()) }
    }

    fn nested(&mut self, line: usize, read: fn(&mut Self) -> Result<Value>) -> Result<Value> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(line, "values are nested too deeply"));
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
                other => items.push(self.value(other, line)?),
            }
        }
    }

    fn mapping(&mut self) -> Result<Value> {
        let (mut members, mut merged) = (Map::new(), Vec::new());
        loop {
            let (event, line) = self.next()?;
            let key = match event {
                Event::MappingEnd => break,
                Event::Nothing => continue,
                Event::Scalar(key, ..) => key.into_owned(),
                _ => return Err(self.error(line, "a key is not a plain word")),
            };
            let (event, line) = self.next()?;
            let value = self.value(event, line)?;
            match (key.as_str(), value) {
                ("<<", Value::Array(several)) => merged.extend(several),
                ("<<", one) => merged.push(one),
                (_, value) => drop(members.insert(key, value)),
            }
        }
        // A member of the map itself, then of the first merged map, takes precedence.
        for map in merged {
            let Value::Object(map) = map else {
                return Err(self.error(0, "`<<` does not name a map"));
            };
            for (key, value) in map {
                members.entry(key).or_insert(value);
            }
        }
        Ok(Value::Object(members))
    }

    fn next(&mut self) -> Result<(Event<'a>, usize)> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => Err(self.error(error.marker().line(), "this is not YAML")),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn error(&self, line: usize, what: &str) -> Error {
        let place = if line > 0 { format!(", line {line}") } else { String::new() };
        Error::config(format!("`{}`{place}: {what}", self.path.display()))
            .with_hint("correct the file; `openstack configuration show` reads the same files")
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value {
    match (style, &*text) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        (
            ScalarStyle::Plain,
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON",
        ) => Value::Bool(true),
        (
            ScalarStyle::Plain,
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF",
        ) => Value::Bool(false),
        // Numbers keep their text: a project's name may be 007.
        _ => Value::String(text.into_owned()),
    }
}

/// Number of values in a value.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(members) => members.values().map(size).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Value> {
        parse(Path::new("clouds.yaml"), text)
    }

    #[test]
    fn anchors_and_merge_keys_are_read_as_pyyaml_reads_them() {
        let text = "base: &b\n  auth: {auth_url: u, project_name: p}\n  verify: yes\n\
                    clouds:\n  one:\n    <<: *b\n    verify: no\n  two: *b\n";
        let read = read(text).unwrap();
        let auth = json!({"auth_url": "u", "project_name": "p"});
        assert_eq!(read["clouds"]["one"], json!({"verify": false, "auth": auth}));
        assert_eq!(read["clouds"]["two"], json!({"auth": auth, "verify": true}));
    }

    #[test]
    fn texts_that_look_like_numbers_stay_texts() {
        let text = "{\"a\": 007, b: '~', c: ~, d: \"true\"}";
        assert_eq!(read(text).unwrap(), json!({"a": "007", "b": "~", "c": null, "d": "true"}));
        assert_eq!(read("# nothing\n").unwrap(), Value::Null);
    }

    #[test]
    fn an_error_names_file_and_line_and_no_value() {
        for text in ["password: s3cret\nb: [1\n", "password: s3cret\n  x: y\n"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("clouds.yaml") && error.contains("line"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn aliases_that_multiply_are_refused() {
        let mut text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (this, last) in ["b", "c", "d", "e", "f"].iter().zip(["a", "b", "c", "d", "e"]) {
            text.push_str(&format!(
                "{this}: &{this} [{}]\n",
                vec![format!("*{last}"); 10].join(", ")
            ));
        }
        assert!(read(&text).unwrap_err().message.contains("too many values"));
        let deep = format!("a: {}{}\n", "[".repeat(200), "]".repeat(200));
        assert!(read(&deep).is_err());
    }
}
