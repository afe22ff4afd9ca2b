//! Reads files of paragraphs with fields, line by line: memory does not depend on the length of the file.

use std::io::{BufRead, BufReader, Read};

use crate::source::Source;

/// Longest line in bytes; longer ones are cut.
const MAX_LINE: u64 = 4 << 10;
/// Maximum number of paragraphs, and of bytes of all values that are kept.
const MAX_PARAGRAPHS: usize = 50_000;
const MAX_KEPT: usize = 8 << 20;

/// Calls `visit` for each paragraph with the fields that `key` recognises: their names and values. `separator` is
/// between both. Continued lines are left out.
pub(super) fn paragraphs(
    reader: Box<dyn Read>,
    source: &Source,
    separator: char,
    wanted: &[&str],
    mut visit: impl FnMut(&[(String, String)]),
) {
    let mut input = BufReader::new(reader);
    let (mut fields, mut line, mut count, mut kept) = (Vec::new(), Vec::new(), 0, 0);
    while count < MAX_PARAGRAPHS && kept < MAX_KEPT && source.step().is_ok() {
        line.clear();
        let got = (&mut input).take(MAX_LINE).read_until(b'\n', &mut line).unwrap_or_default();
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\n');
        if text.trim().is_empty() && !fields.is_empty() {
            visit(&fields);
            fields.clear();
            count += 1;
        }
        if got == 0 {
            return;
        }
        if let Some((key, value)) = text.split_once(separator)
            && wanted.contains(&key)
        {
            let value = value.trim().to_owned();
            kept += value.len();
            fields.push((key.to_owned(), value));
        }
    }
}

/// Returns the value of a field.
pub(super) fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    found.filter(|value| !value.is_empty())
}
