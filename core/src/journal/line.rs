//! The lines of a journal: JSON objects, one per line, each with a checksum as its last member.
//!
//! ```text
//! {"time":"2026-11-22T07:30:00Z","what":"step_started","step":"upload","sum":"9f86d081884c7d65"}
//! ```
//!
//! `sum` is the beginning of the SHA-256 of the line without it (that is, without `,"sum":"…"`). Members and
//! kinds of lines that nobody knows are left alone, so that an older tool reads what a newer one wrote; a
//! line without a sum is one of a tool that wrote none.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Entry;
use crate::error::{Error, Result, Stage};

/// Digits of a checksum: 64 bits find every slip of a disk; nobody is kept from forging a journal.
const DIGITS: usize = 16;
/// What stands before the digits.
const SUM: &[u8] = b",\"sum\":\"";
/// What stands behind them.
const END: &[u8] = b"\"}";

#[derive(Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) time: String,
    #[serde(flatten)]
    pub(super) entry: Entry,
}

impl Line {
    /// The line as it is written, with its end.
    pub(super) fn text(&self) -> Result<String> {
        let mut text = serde_json::to_string(self).map_err(|error| {
            Error::new(Stage::Bug, "a journal line cannot be written").because(&error)
        })?;
        let sum = checksum(text.as_bytes());
        text.pop();
        text.push_str(&format!(",\"sum\":\"{sum}\"}}\n"));
        Ok(text)
    }

    /// Reads a line, without its end.
    fn read(line: &[u8]) -> Result<Self, String> {
        let (text, sum) = split(line);
        if let Some(sum) = sum
            && checksum(&text) != sum
        {
            return Err("its checksum is wrong".to_owned());
        }
        serde_json::from_slice(&text).map_err(|error| error.to_string())
    }
}

/// A line without its checksum, and the checksum if it has one.
fn split(line: &[u8]) -> (Vec<u8>, Option<String>) {
    let tail = SUM.len() + DIGITS + END.len();
    let parts = line.split_at_checked(line.len().saturating_sub(tail));
    let sum = parts.and_then(|(_, tail)| tail.strip_prefix(SUM)?.strip_suffix(END));
    match (parts, sum) {
        (Some((text, _)), Some(digits)) => {
            (([text, b"}"]).concat(), Some(String::from_utf8_lossy(digits).into_owned()))
        }
        _ => (line.to_owned(), None),
    }
}

fn checksum(text: &[u8]) -> String {
    let digest = Sha256::digest(text);
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    digits[..DIGITS].to_owned()
}

/// What a journal's text holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) entries: Vec<Entry>,
    /// Time of the first line and of the last.
    pub(super) times: Option<(String, String)>,
    /// Bytes up to the end of the last whole line; what follows was never finished.
    pub(super) whole: usize,
    /// The first line that cannot be believed.
    pub(super) damage: Option<Error>,
}

/// Reads a journal. Whatever follows the last line end was torn when its process was killed, or is what a
/// power cut left: nothing was done yet that it would tell of.
pub(super) fn read(text: &[u8], path: &Path) -> Contents {
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let mut contents = Contents { whole, ..Contents::default() };
    for (number, line) in text[..whole].split(|&byte| byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        match Line::read(line) {
            Ok(Line { time, entry }) => {
                let first = contents.times.take().map_or_else(|| time.clone(), |times| times.0);
                contents.times = Some((first, time));
                contents.entries.push(entry);
            }
            Err(why) => {
                let damage = || damaged(path, number + 1, &why);
                contents.damage = contents.damage.or_else(|| Some(damage()));
            }
        }
    }
    contents
}

fn damaged(path: &Path, line: usize, why: &str) -> Error {
    let folder = path.parent().unwrap_or(path).display();
    let text = format!("line {line} of the journal `{}` is damaged", path.display());
    Error { causes: vec![why.to_owned()], ..Error::new(Stage::Disk, text) }.hint(format!(
            "build-image runs lists what the other lines tell of: remove that by hand, look for more of this run in \
         the cloud, then delete `{folder}`"
    ))
}
