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

const SIZES: [(&str, u64); 14] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("T", 1 << 40),
    ("B", 1),
    ("", 1),
];
const DURATIONS: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("", 1)];

/// Parses a number with a suffix of the table, in any case. A fraction must come to a whole number.
fn scaled(text: &str, suffixes: &[(&str, u64)], what: &str) -> Result<u64, String> {
    let invalid = || format!("`{text}` is not {what} such as {}", example(suffixes));
    let is_part = |letter: char| letter.is_ascii_digit() || letter == '.';
    let end = text.find(|letter: char| !is_part(letter)).unwrap_or(text.len());
    let (whole, fraction) = text[..end].split_once('.').unwrap_or((&text[..end], "0"));
    let suffix = text[end..].trim();
    let factor = suffixes.iter().find(|(name, _)| name.eq_ignore_ascii_case(suffix));
    let factor = factor.map(|(_, factor)| *factor).ok_or_else(invalid)?;
    let number = |digits: &str| digits.parse::<u64>().map_err(|_| invalid());
    // At most 15 digits, so that no intermediate value overflows.
    let places = u32::try_from(fraction.len()).ok().filter(|places| (1..=15).contains(places));
    let scale = 10_u128.pow(places.ok_or_else(invalid)?);
    let parts = u128::from(number(fraction)?) * u128::from(factor);
    if !parts.is_multiple_of(scale) {
        return Err(invalid());
    }
    let part = u64::try_from(parts / scale).map_err(|_| invalid())?;
    number(whole)?.checked_mul(factor).and_then(|whole| whole.checked_add(part)).ok_or_else(invalid)
}

fn example(suffixes: &[(&str, u64)]) -> String {
    let examples: Vec<String> =
        suffixes.iter().take(2).map(|(suffix, _)| format!("16{suffix}")).collect();
    examples.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_have_units_and_fractions() {
        for (kind, text, want) in [
            (SettingKind::Size, "20g", Some(20 << 30)),
            (SettingKind::Size, "1TB", Some(1_000_000_000_000)),
            (SettingKind::Size, "1tib", Some(1 << 40)),
            (SettingKind::Size, "1.5GiB", Some(3 << 29)),
            (SettingKind::Size, "0.5K", Some(512)),
            (SettingKind::Size, "1.0", Some(1)),
            (SettingKind::Size, "1.5", None),
            (SettingKind::Size, "0.3KiB", None),
            (SettingKind::Size, ".5G", None),
            (SettingKind::Size, "1.", None),
            (SettingKind::Size, "1.2.3G", None),
            (SettingKind::Size, "1.0000000000000000G", None),
            (SettingKind::Size, "18446744073709551615", Some(u64::MAX)),
            (SettingKind::Size, "18446744073709551615.5T", None),
            (SettingKind::Duration, "1.5h", Some(5400)),
            (SettingKind::Duration, "90M", Some(5400)),
            (SettingKind::Duration, "0.3s", None),
        ] {
            let found = kind.parse_scalar(text).unwrap().ok().and_then(|value| value.as_u64());
            assert_eq!(found, want, "{text}");
        }
    }
}
