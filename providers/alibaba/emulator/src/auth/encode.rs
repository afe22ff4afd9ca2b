//! Percent-encodes as the vendor's signatures require it (RFC 3986 unreserved characters stay), and decodes
//! what clients send.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &COMPONENT.remove(b'/');

/// Encodes a query key or value; `/` becomes `%2F`.
pub(crate) fn component(text: &str) -> String {
    utf8_percent_encode(text, COMPONENT).to_string()
}

/// Encodes a path; `/` stays.
pub(crate) fn path(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// Decodes a path segment; `None` when it is not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    percent_decode(text.as_bytes()).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// Decodes a query or form: pairs in their order, `+` is a space (a literal plus is sent as `%2B`), a key
/// without `=` has an empty value. `None` when something is not UTF-8.
pub(crate) fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let word = |raw: &str| decode(&raw.replace('+', " "));
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((word(key)?, word(value)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{component, decode, pairs, path};

    #[test]
    fn encoding_keeps_only_unreserved_characters() {
        assert_eq!(component("a b+c/~*"), "a%20b%2Bc%2F~%2A");
        assert_eq!(path("/bucket/1234+-/123/1.txt"), "/bucket/1234%2B-/123/1.txt");
        assert_eq!(decode("dir%2Fa%20b%2B").as_deref(), Some("dir/a b+"));
        assert_eq!(decode("%ff"), None);
    }

    #[test]
    fn queries_decode_plus_as_blank_and_bare_keys_as_empty() {
        let read = pairs("prefix=a+b&uploads&x=%2B&=v").unwrap();
        let expected = [("prefix", "a b"), ("uploads", ""), ("x", "+"), ("", "v")];
        let read: Vec<(&str, &str)> = read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(read, expected);
    }
}
