//! Calls `describe` twice in this thread and twice in other threads.

use serde_json::Value;

use super::lab::Lab;
use crate::{
    Description,
    conformance::{evidence::Described, surroundings::Footprint},
};

/// Longest description that is accepted, in bytes.
pub(in crate::conformance) const LIMIT: usize = 1 << 20;

pub(super) fn probe(lab: &Lab<'_>, before: Footprint) -> Described {
    lab.begin("describe");
    let subject = lab.subject.as_ref();
    // The loader keeps the file open; `describe` must not keep anything open.
    let opened = Footprint { threads: before.threads, ..Footprint::now() };
    let first = subject.describe().unwrap_or_default();
    let mut others = vec![subject.describe().unwrap_or_default()];
    std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(|| subject.describe().unwrap_or_default()));
        others.extend(threads.into_iter().map(|thread| thread.join().unwrap_or_default()));
    });
    let (bytes, same) = (first.len(), others.iter().all(|other| *other == first));
    let growth = opened.growth(opened.settled());
    let api_version = subject.api_version();
    let small = if bytes > LIMIT { "null" } else { &first };
    let document: Value = serde_json::from_str(small).unwrap_or_default();
    let unknown = unknown(&document);
    Described { api_version, document, bytes, unknown, same, growth }
}

/// Returns members that are lost when the document is read and written again: no reader uses them.
fn unknown(document: &Value) -> Vec<String> {
    let parsed = serde_json::from_value::<Description>(document.clone());
    let Ok(Ok(parsed)) = parsed.map(serde_json::to_value) else { return Vec::new() };
    let mut unknown = Vec::new();
    compare("", document, &parsed, &mut unknown);
    unknown
}

fn compare(path: &str, document: &Value, parsed: &Value, unknown: &mut Vec<String>) {
    match (document, parsed) {
        (Value::Object(document), Value::Object(parsed)) => {
            for (name, value) in document {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match parsed.get(name) {
                    Some(parsed) => compare(&path, value, parsed, unknown),
                    None if value.is_null() => {}
                    None => unknown.push(path),
                }
            }
        }
        (Value::Array(document), Value::Array(parsed)) => {
            for (document, parsed) in document.iter().zip(parsed) {
                compare(path, document, parsed, unknown);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_members_are_found() {
        let document = serde_json::json!({
            "name": "x", "sumary": "misspelt", "tags": null,
            "settings": [{"key": "A", "secrt": true}], "disk": {"spec": {"format": "raw"}},
        });
        assert_eq!(unknown(&document), ["sumary", "settings.secrt"]);
    }
}
