//! Parses the texts of settings that are one number or one word, for hosts and for the conformance suite.

use serde_json::Value;

use crate::SettingKind;

impl SettingKind {
    /// Returns a noun for a text of this kind, with its article.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Boolean | Self::Switch => "yes or no",
            Self::Integer => "a whole number",
            Self::Size => "a number of bytes",
            Self::Duration => "a duration",
            Self::List => "a list",
            Self::Map => "a map",
            Self::Path => "a usable path",
            Self::Text => "a text",
        }
    }

    /// Parses a text as a host does: sizes in bytes, durations in seconds. `None` for the kinds that are not one number
    /// or yes and no: texts, paths, lists, maps.
    ///
    /// # Errors
    /// The problem, as a fragment that shows the text.
    #[must_use]
    pub fn parse_scalar(self, text: &str) -> Option<Result<Value, String>> {
        Some(match self {
            Self::Boolean | Self::Switch => boolean(text).map(Value::Bool),
            Self::Integer => integer(text).map(Value::from),
            Self::Size => scaled(text, &SIZES, self.noun()).map(Value::from),
            Self::Duration => scaled(text, &DURATIONS, self.noun()).map(Value::from),
            Self::Text | Self::Path | Self::List | Self::Map => return None,
        })
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "yes" | "true" | "on" | "1" | "y" => Ok(true),
        "no" | "false" | "off" | "0" | "n" => Ok(false),
        _ => Err(format!("`{text}` is neither yes/true/on/1 nor no/false/off/0")),
    }
}

fn integer(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is not a whole number"))
}

const SIZES: [(&str, u64); 13] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("T", 1 << 40),
    ("B", 1),
    ("", 1),
];
const DURATIONS: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("", 1)];

/// Parses a whole number with a suffix of the table.
fn scaled(text: &str, suffixes: &[(&str, u64)], what: &str) -> Result<u64, String> {
    let invalid = || format!("`{text}` is not {what} such as {}", example(suffixes));
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().map_err(|_| invalid())?;
    let suffix = text[end..].trim();
    let (_, factor) = suffixes.iter().find(|(name, _)| *name == suffix).ok_or_else(invalid)?;
    number.checked_mul(*factor).ok_or_else(invalid)
}

fn example(suffixes: &[(&str, u64)]) -> String {
    let examples: Vec<String> =
        suffixes.iter().take(2).map(|(suffix, _)| format!("16{suffix}")).collect();
    examples.join(" or ")
}
