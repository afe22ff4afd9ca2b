//! Parses the location of a source: a file on this machine or a URL. Redacts what a URL must not disclose.

use std::path::{Path, PathBuf};

use reqwest::Url;
use serde_json::Value;

use crate::error::{Error, Result, Stage};
use crate::settings::STDIN;

/// The location of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A file, with an absolute path.
    File(PathBuf),
    /// An `http` or `https` URL.
    Url(Url),
}

impl Address {
    /// Parses the value of a setting.
    ///
    /// # Errors
    /// When it is a URL that cannot be downloaded, or not a usable path.
    pub(crate) fn of(key: &str, text: &str) -> Result<Self> {
        if text == STDIN {
            let what = format!("{key}: `-` is standard input, which only a disk is read from");
            return Err(Error::new(Stage::Source, what)
                .hint("name a file; one that is called `-` is written `./-`"));
        }
        let Some((scheme, _)) = text.split_once("://").filter(|_| !Path::new(text).exists()) else {
            return std::path::absolute(text).map(Self::File).map_err(|error| {
                Error::new(Stage::Source, format!("{key}: `{text}` is no usable path"))
                    .caused_by(&error)
            });
        };
        let display = redacted(text);
        if scheme.eq_ignore_ascii_case("file") {
            return local(text).map(Self::File).ok_or_else(|| {
                let what = format!("{key}: `{display}` does not name a file on this machine");
                Error::new(Stage::Source, what)
                    .hint("write file:///directory/file, or the path alone")
            });
        }
        if !["http", "https"].contains(&scheme.to_lowercase().as_str()) {
            let what = format!("{key}: `{display}` is neither a file nor an http or https URL");
            return Err(Error::new(Stage::Source, what).hint("download it first"));
        }
        // The parser's message does not contain the text.
        let parsed = Url::parse(text).map_err(|error| {
            let text = format!("{key}: `{display}` is no usable URL");
            Error::new(Stage::Source, text)
                .caused_by(&error)
                .hint("give a file, or an address such as https://host/directory/file")
        })?;
        Ok(Self::Url(parsed))
    }
}

/// Returns the path of a `file` URL (RFC 8089) on this machine.
fn local(text: &str) -> Option<PathBuf> {
    let url =
        Url::parse(text).ok().filter(|url| url.query().is_none() && url.fragment().is_none())?;
    url.to_file_path().ok().filter(|path| !path.as_os_str().is_empty())
}

/// Replaces a query or a fragment.
const HIDDEN: &str = "?…";

/// What is redacted in a URL in addition to user name and password.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hide {
    /// Nothing: the URL must still work.
    User,
    /// The query, which may be a signature.
    Query,
    /// Query and fragment.
    All,
}

/// Formats a URL for messages: without user and password, and without its query, which may be a signature.
pub(crate) fn display_url(url: &Url) -> String {
    let mut plain = url.clone();
    let hidden = plain.query().is_some() || plain.fragment().is_some();
    plain.set_query(None);
    plain.set_fragment(None);
    let cleared = plain.set_username("").and_then(|()| plain.set_password(None));
    let text = match cleared {
        Ok(()) => plain.to_string(),
        Err(()) if plain.cannot_be_a_base() => format!("{}:…", plain.scheme()),
        Err(()) => plain.to_string(),
    };
    if hidden { text + HIDDEN } else { text }
}

/// Formats the value of a setting for messages: a URL, or a document with URLs, is redacted like [`shown`].
pub(crate) fn redacted(text: &str) -> String {
    value(text, Hide::All)
}

/// Removes user and password from the URLs of a text that is stored for a later process.
pub(crate) fn without_passwords(text: &str) -> String {
    value(text, Hide::User)
}

/// Redacts free text from servers and providers: its URLs lose user, password and query.
pub(crate) fn redact_text(text: &str) -> String {
    free(text, Hide::Query)
}

fn value(text: &str, hide: Hide) -> String {
    let (flag, rest) = match text.split_once('=') {
        Some((flag, rest)) if flag.starts_with('-') => (flag, rest),
        _ => return bare(text, hide),
    };
    format!("{flag}={}", bare(rest, hide))
}

fn bare(text: &str, hide: Hide) -> String {
    if scheme_end(text).is_some_and(|(start, _)| start == 0) {
        // The whole text is the URL, whatever characters it contains.
        return one(text, hide);
    }
    match serde_json::from_str::<Value>(text) {
        Ok(document @ (Value::Array(_) | Value::Object(_))) if text.contains("://") => {
            strings(document, hide).to_string()
        }
        _ => free(text, hide),
    }
}

fn strings(document: Value, hide: Hide) -> Value {
    match document {
        Value::String(text) => Value::String(bare(&text, hide)),
        Value::Array(items) => items.into_iter().map(|item| strings(item, hide)).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            members.map(|(name, member)| (bare(&name, hide), strings(member, hide))).collect()
        }
        other => other,
    }
}

/// Returns the start of the first scheme and the end of its `://`.
fn scheme_end(text: &str) -> Option<(usize, usize)> {
    let at = text.find("://")?;
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "+.-".contains(letter);
    let before = text[..at].trim_end_matches(is_part).len();
    Some((before, at + 3))
}

/// Finds URLs in a text. They end at white space, at a quote, or at a bracket that URLs do not contain; any
/// other mark may belong to the URL and is treated as part of it.
fn free(text: &str, hide: Hide) -> String {
    let mut made = String::new();
    let mut rest = text;
    while let Some((start, _)) = scheme_end(rest) {
        made.push_str(&rest[..start]);
        let ends = |letter: char| letter.is_whitespace() || "\"`<>".contains(letter);
        let end = rest[start..].find(ends).map_or(rest.len(), |length| start + length);
        made.push_str(&one(&rest[start..end], hide));
        rest = &rest[end..];
    }
    made + rest
}

/// Redacts one URL whose extent is known, including further URLs that a list joins to its end.
fn one(url: &str, hide: Hide) -> String {
    let Some((_, scheme)) = scheme_end(url) else { return url.to_owned() };
    // Like URL parsers: more than two slashes count as two, and a backslash counts as a slash.
    let slashes = url[scheme..].len() - url[scheme..].trim_start_matches(['/', '\\']).len();
    let start = scheme + slashes;
    let length = url[start..].find(['/', '?', '#', '\\']).unwrap_or(url.len() - start);
    let end = start + length;
    let user = url[start..end].rfind('@').map(|at| start + at + 1);
    let parsed = Url::parse(&url[..end]);
    // In a text that no parser accepts, the password may contain any character, also those that end a host.
    let host = match (parsed, user) {
        (Ok(_), Some(user)) => user,
        (Ok(_), None) => start,
        (Err(_), _) => url[start..].rfind('@').map_or(start, |at| start + at + 1),
    };
    let rest = &url[host..];
    let scheme = &url[..scheme];
    // A list joins several URLs: after a comma or a bracket the next one begins.
    let next = rest.find("://").and_then(|at| {
        let name = rest[..at].trim_end_matches(|letter: char| letter.is_ascii_alphanumeric());
        name.ends_with([',', '{', '[', ':', '=', '\'']).then_some(name.len())
    });
    let (own, more) = rest.split_at(next.unwrap_or(rest.len()));
    let hidden = match hide {
        Hide::User => None,
        Hide::Query => own.find('?'),
        Hide::All => own.find(['?', '#']),
    };
    let more = if more.is_empty() { String::new() } else { one(more, hide) };
    match hidden {
        Some(at) => format!("{scheme}{}{HIDDEN}{more}", &own[..at]),
        None => format!("{scheme}{own}{more}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_files_are_distinguished() {
        let of = |text| Address::of("ISO", text);
        assert!(matches!(of("HTTPS://h/x.iso"), Ok(Address::Url(url)) if url.scheme() == "https"));
        assert!(matches!(of("x.iso"), Ok(Address::File(path)) if path.is_absolute()));
        let file = |text| match of(text) {
            Ok(Address::File(path)) => Some(path),
            _ => None,
        };
        assert_eq!(file("file:///a/my%20disk.raw"), Some(PathBuf::from("/a/my disk.raw")));
        assert_eq!(file("FILE://localhost/a/b"), Some(PathBuf::from("/a/b")));
        for text in ["file://host/a", "file:///a?x", "file:///a#x"] {
            assert!(of(text).unwrap_err().message.contains("on this machine"), "{text}");
        }
        for (text, part) in
            [("ftp://u:secret@h/x", "`ftp://h/x`"), ("http://", "URL"), ("https://h:x/", "URL")]
        {
            let error = of(text).unwrap_err();
            assert!(error.message.contains(part), "{error}");
        }
    }

    #[test]
    fn passwords_and_signatures_are_not_shown() {
        for (text, expected, kept) in [
            ("https://u:p@h/x", "https://h/x", "https://h/x"),
            ("--iso=http://u@h:80/a@b?c=d", "--iso=http://h:80/a@b?…", "--iso=http://h:80/a@b?c=d"),
            (
                r#"[{"source":"http://a:b@c/d"},{"source":"https://e/f#g"}]"#,
                r#"[{"source":"http://c/d"},{"source":"https://e/f?…"}]"#,
                r#"[{"source":"http://c/d"},{"source":"https://e/f#g"}]"#,
            ),
            ("https://h?a=u:p@x", "https://h?…", "https://h?a=u:p@x"),
            ("/a/file", "/a/file", "/a/file"),
            ("://", "://", "://"),
        ] {
            assert_eq!(redacted(text), expected);
            assert_eq!(without_passwords(text), kept);
        }
    }

    /// Tests characters that end a URL in a sentence, and do not end one in a setting.
    #[test]
    fn passwords_and_signatures_with_any_letter_are_not_shown() {
        for (text, shown_as) in [
            ("https://u:pa,SECRET@h/x", "https://h/x"),
            ("https://u:pa'SECRET@h/x", "https://h/x"),
            ("https://h/o?process=image/resize,w_1&sig=SECRET", "https://h/o?…"),
            ("https://h/a,b.raw?sig=SECRET", "https://h/a,b.raw?…"),
            ("https://h/a[1].raw?sig=SECRET", "https://h/a[1].raw?…"),
            ("https://h/o?x={a}&sig=SECRET", "https://h/o?…"),
            ("http://u:SECRET@[::1]/x?sig=SECRET", "http://[::1]/x?…"),
            ("https://u:[SECRET]@h/x", "https://h/x"),
            ("https://u:{SECRET}@h/x", "https://h/x"),
            ("https://u:a@SECRET@h/x", "https://h/x"),
            ("https://u:pa SECRET@h/x", "https://h/x"),
            ("https://u:pa/SECRET@h/x", "https://h/x"),
            ("https:////u:SECRET@h/x", "https://h/x"),
            ("https://SECRET@h/x#SECRET", "https://h/x?…"),
        ] {
            assert_eq!(redacted(text), shown_as, "{text}");
            assert_eq!(redacted(&format!("--disk={text}")), format!("--disk={shown_as}"));
            let list = serde_json::json!([{"source": text}]);
            assert_eq!(redacted(&list.to_string()), list.to_string().replace(text, shown_as));
            let user = text.split(['?', '#']).next().unwrap_or_default();
            assert!(!without_passwords(user).contains("SECRET"), "{}", without_passwords(user));
            if let Ok(url) = Url::parse(text) {
                assert!(!display_url(&url).contains("SECRET"), "{}", display_url(&url));
            }
            // In a sentence and in a list without quotes a space ends a URL, and a fragment may be a location
            // in a page.
            if !text.contains([' ', '#']) {
                for around in [
                    format!("cannot get {text}, sorry"),
                    format!("[{{source:{text}}},{{source:{text}}}]"),
                ] {
                    assert!(!redact_text(&around).contains("SECRET"), "{}", redact_text(&around));
                    assert!(!redacted(&around).contains("SECRET"), "{}", redacted(&around));
                }
            }
        }
        // The stored URL still works.
        assert_eq!(
            without_passwords("[{source: 'http://a:b@c/d,e?f=g'}, {source: http://h/i}]"),
            "[{source: 'http://c/d,e?f=g'}, {source: http://h/i}]"
        );
        assert_eq!(redact_text("see https://h/#/roles now"), "see https://h/#/roles now");
    }
}
