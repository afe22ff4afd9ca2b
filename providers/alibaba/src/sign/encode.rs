//! Percent-encodes as both signatures define it: everything except `A-Z a-z 0-9 - . _ ~`. The request is sent
//! exactly as it is signed, so the same functions build the URL.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &VALUE.remove(b'/');

/// A query key or value; `/` becomes `%2F`, a space `%20`.
pub(crate) fn value(text: &str) -> String {
    utf8_percent_encode(text, VALUE).to_string()
}

/// A path; `/` stays.
pub(crate) fn path(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// A query in canonical order. With `bare`, an empty value is written without its `=`.
pub(crate) fn query(pairs: &[(String, String)], bare: bool) -> String {
    let mut encoded: Vec<(String, String)> =
        pairs.iter().map(|(key, text)| (value(key), value(text))).collect();
    encoded.sort();
    let written = encoded
        .into_iter()
        .map(|(key, text)| if text.is_empty() && bare { key } else { format!("{key}={text}") });
    written.collect::<Vec<_>>().join("&")
}

/// Headers in canonical form: lower-case names, trimmed values, sorted, one line each.
pub(super) fn headers(headers: &[(String, String)]) -> (String, Vec<String>) {
    let mut lines: Vec<(String, &str)> =
        headers.iter().map(|(name, text)| (name.to_ascii_lowercase(), text.trim())).collect();
    lines.sort();
    let text = lines.iter().map(|(name, text)| format!("{name}:{text}\n")).collect();
    (text, lines.into_iter().map(|(name, _)| name).collect())
}
