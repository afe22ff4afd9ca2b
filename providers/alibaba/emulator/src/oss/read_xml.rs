//! Parses XML: flattens a small document to the texts of its elements, in the order in which they end.
//! Document types, comments, and attributes are skipped; entities are the five of XML and character
//! references.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::error::OssError;

/// Maximum nesting depth; no request of OSS nests deeper.
const MAX_DEPTH: usize = 8;

/// An element that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    /// Names from the root on, joined with `/`, without namespaces.
    pub(super) path: String,
    /// Its own text, unchanged.
    pub(super) text: String,
}

/// 400 `MalformedXML`.
pub(super) fn malformed(why: &str) -> OssError {
    OssError::new(
        400,
        "MalformedXML",
        &format!("The XML you provided was not well-formed or did not validate: {why}"),
    )
}

/// The character that an entity stands for.
fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        other => {
            let number = other.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

/// Flattens a document.
pub(super) fn elements(text: &[u8]) -> Result<Vec<Element>, OssError> {
    let bad = |error: &dyn std::fmt::Display| malformed(&error.to_string());
    let text = std::str::from_utf8(text).map_err(|error| bad(&error))?;
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut ended = Vec::new();
    loop {
        match reader.read_event().map_err(|error| bad(&error))? {
            Event::Start(start) => open.push(child(&open, start.local_name().as_ref())?),
            Event::Empty(start) => ended.push(child(&open, start.local_name().as_ref())?),
            Event::Text(run) => {
                if let Some(last) = open.last_mut() {
                    last.text.push_str(&run);
                }
            }
            Event::CData(run) => {
                if let Some(last) = open.last_mut() {
                    last.text.push_str(&run);
                }
            }
            Event::GeneralRef(name) => {
                let character = entity(&name).ok_or_else(|| malformed("an entity is not known"))?;
                if let Some(last) = open.last_mut() {
                    last.text.push(character);
                }
            }
            Event::End(_) => ended.extend(open.pop()),
            Event::Eof if open.is_empty() => return Ok(ended),
            Event::Eof => return Err(malformed("it ends early")),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

fn child(open: &[Element], name: &str) -> Result<Element, OssError> {
    if open.len() == MAX_DEPTH {
        return Err(malformed("it is nested too deeply"));
    }
    let path = match open.last() {
        Some(parent) => format!("{}/{name}", parent.path),
        None => name.to_owned(),
    };
    Ok(Element { path, text: String::new() })
}

#[cfg(test)]
mod tests {
    use super::elements;

    #[test]
    fn elements_come_in_the_order_of_their_ends() {
        let text = "<?xml version=\"1.0\"?><!DOCTYPE a><x:a xmlns:x=\"u\"> <b>1&amp;&#x41;&#66;</b><c/>\
                    <b><![CDATA[<k>]]></b></x:a>";
        let found: Vec<(String, String)> =
            elements(text.as_bytes()).unwrap().into_iter().map(|e| (e.path, e.text)).collect();
        let expected = [("a/b", "1&AB"), ("a/c", ""), ("a/b", "<k>"), ("a", " ")];
        assert_eq!(found, expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
    }

    #[test]
    fn broken_documents_are_refused() {
        let deep = "<a>".repeat(9);
        for text in ["<a>", "<a></b>", "<a>&lol;</a>", "<a>&#x110000;</a>", deep.as_str()] {
            assert_eq!(elements(text.as_bytes()).unwrap_err().code, "MalformedXML", "{text}");
        }
        assert!(elements(b"<a>\xff</a>").is_err());
    }
}
