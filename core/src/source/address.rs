//! Where a source is: a file of this machine, or something to download. What a URL must not tell anybody.

use std::path::{Path, PathBuf};

use reqwest::Url;

use crate::error::{Error, Result, Stage};

/// Where a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A file, its path absolute.
    File(PathBuf),
    /// An `http` or `https` URL.
    Url(Url),
}

impl Address {
    /// What a setting names.
    ///
    /// # Errors
    /// When it is a URL that cannot be downloaded, or no usable path.
    pub(crate) fn of(key: &str, text: &str) -> Result<Self> {
        let Some((scheme, _)) = text.split_once("://").filter(|_| !Path::new(text).exists()) else {
            return std::path::absolute(text).map(Self::File).map_err(|error| {
                Error::new(Stage::Source, format!("{key}: `{text}` is no usable path"))
                    .because(&error)
            });
        };
        let shown = masked(text);
        if !["http", "https"].contains(&scheme.to_lowercase().as_str()) {
            let what = format!("{key}: `{shown}` is neither a file nor an http or https URL");
            return Err(Error::new(Stage::Source, what).hint("download it first"));
        }
        // The parser's message does not repeat the text.
        let parsed = Url::parse(text).map_err(|error| {
            let text = format!("{key}: `{shown}` is no usable URL");
            Error::new(Stage::Source, text)
                .because(&error)
                .hint("give a file, or an address such as https://host/folder/file")
        })?;
        Ok(Self::Url(parsed))
    }
}

/// A URL for messages: without user and password, and without its query, which may be a signature.
pub(crate) fn shown(url: &Url) -> String {
    masked(url.as_str())
}

/// A text for messages: its URLs as [`shown`].
pub(crate) fn masked(text: &str) -> String {
    rewritten(text, true)
}

/// A text to be kept for a later process: its URLs without user and password.
pub(crate) fn without_passwords(text: &str) -> String {
    rewritten(text, false)
}

fn rewritten(text: &str, hide_query: bool) -> String {
    let mut made = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        made.push_str(before);
        made.push_str("://");
        let ends = |letter: char| letter.is_whitespace() || "\"'`<>{}[],".contains(letter);
        let end = after.find(ends).unwrap_or(after.len());
        let (url, more) = after.split_at(end);
        let authority = url.find(['/', '?', '#']).unwrap_or(url.len());
        let user = url[..authority].rfind('@').map_or(0, |at| at + 1);
        let query = url.find(['?', '#']).filter(|_| hide_query);
        made.push_str(&url[user..query.unwrap_or(url.len())]);
        if query.is_some() {
            made.push_str("?…");
        }
        rest = more;
    }
    made + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_files() {
        let of = |text| Address::of("ISO", text);
        assert!(matches!(of("HTTPS://h/x.iso"), Ok(Address::Url(url)) if url.scheme() == "https"));
        assert!(matches!(of("x.iso"), Ok(Address::File(path)) if path.is_absolute()));
        for (text, part) in
            [("ftp://u:secret@h/x", "`ftp://h/x`"), ("http://", "URL"), ("https://h:x/", "URL")]
        {
            let error = of(text).unwrap_err();
            assert!(error.message.contains(part), "{error}");
        }
    }

    #[test]
    fn passwords_and_signatures_are_not_shown() {
        for (text, shown, kept) in [
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
            assert_eq!(masked(text), shown);
            assert_eq!(without_passwords(text), kept);
        }
    }
}
