//! Parses and formats the lines of a journal: JSON objects, one per line, each with a checksum as its last member.
//!
//! ```text
//! {"time":"2026-11-22T07:30:00Z","what":"step_started","step":"upload","mac":"5d41…","sum":"9f86d081884c7d65"}
//! ```
//!
//! `sum` is the beginning of the SHA-256 of the line without it (that is, without `,"sum":"…"`). Unknown members and
//! kinds of lines are ignored, so that an older tool can read the journal of a newer one; a line without a sum was
//! written by a tool that wrote none.
//!
//! `mac` is the HMAC-SHA-256, under the user's key, of the SHA-256 of all bytes before the line, then the line without
//! both members. So the last line authenticates the whole file: lines cannot be changed, reordered or moved to another
//! journal. A line without it was written by a tool, or for a user, without a key.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Entry, Key};
use crate::error::{Error, Result, Stage};

/// Digits of a checksum: 64 bits detect every accidental change. A forged line is detected by its signature.
const DIGITS: usize = 16;
/// Prefix of the digits.
const SUM: &[u8] = b",\"sum\":\"";
/// Prefix of the digits of a signature.
const MAC: &[u8] = b",\"mac\":\"";
/// Digits of a signature.
const MAC_DIGITS: usize = 64;
/// Suffix of the digits.
const END: &[u8] = b"\"}";

#[derive(Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) time: String,
    #[serde(flatten)]
    pub(super) entry: Entry,
}

impl Line {
    /// Returns the line as written, with its line end; `before` is the digest of everything before it.
    pub(super) fn text(&self, key: &Key, before: &Sha256) -> Result<String> {
        let mut text = serde_json::to_string(self).map_err(|error| {
            Error::new(Stage::Bug, "a journal line cannot be written").caused_by(&error)
        })?;
        if let Some(mac) = key.sign(before, text.as_bytes()) {
            text.pop();
            text.push_str(&format!(",\"mac\":\"{mac}\"}}"));
        }
        let sum = checksum(text.as_bytes());
        text.pop();
        text.push_str(&format!(",\"sum\":\"{sum}\"}}\n"));
        Ok(text)
    }

    /// Parses a line, without its line end.
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

/// Returns a line without its checksum, and the checksum if it has one.
fn split(line: &[u8]) -> (Vec<u8>, Option<String>) {
    without(line, SUM, DIGITS)
}

/// Returns a line without its last member, and that member's digits, if the member has this name.
fn without(line: &[u8], name: &[u8], digits: usize) -> (Vec<u8>, Option<String>) {
    let tail = name.len() + digits + END.len();
    let parts = line.split_at_checked(line.len().saturating_sub(tail));
    let member = parts.and_then(|(_, tail)| tail.strip_prefix(name)?.strip_suffix(END));
    match (parts, member) {
        (Some((text, _)), Some(digits)) => {
            (([text, b"}"]).concat(), Some(String::from_utf8_lossy(digits).into_owned()))
        }
        _ => (line.to_owned(), None),
    }
}

/// The signature of a journal's last line, and the signed data.
#[derive(Clone, Debug, Default)]
pub(super) struct Seal {
    before: Sha256,
    text: Vec<u8>,
    mac: Option<String>,
}

impl Seal {
    fn of(line: &[u8], before: Sha256) -> Self {
        let (text, _) = split(line);
        let (text, mac) = without(&text, MAC, MAC_DIGITS);
        Self { before, text, mac }
    }

    /// Returns why the signature does not authenticate the journal.
    pub(super) fn doubt(&self, key: &Key) -> Option<String> {
        key.doubt(&self.before, &self.text, self.mac.as_deref())
    }
}

fn checksum(text: &[u8]) -> String {
    let digest = Sha256::digest(text);
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    digits[..DIGITS].to_owned()
}

/// The parsed content of a journal.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) entries: Vec<Entry>,
    /// Time of the first and of the last line.
    pub(super) times: Option<(String, String)>,
    /// Bytes up to the end of the last complete line; the rest is incomplete.
    pub(super) whole: usize,
    /// The error for the first damaged line.
    pub(super) damage: Option<Error>,
    /// The signature of the last line; `None` when no line exists.
    pub(super) seal: Option<Seal>,
    /// Digest of the complete lines.
    pub(super) digest: Sha256,
}

/// Reads a journal. Data after the last line end was torn when its process was killed, or is left by a power cut:
/// nothing that it announces was done yet.
pub(super) fn read(text: &[u8], path: &Path) -> Contents {
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let mut contents = Contents { whole, ..Contents::default() };
    let mut last = None;
    let mut start = 0;
    for (number, line) in text[..whole].split(|&byte| byte == b'\n').enumerate() {
        let at = start;
        start += line.len() + 1;
        if line.is_empty() {
            continue;
        }
        last = Some((at, line));
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
    let (before, line) = last.unwrap_or_default();
    contents.digest.update(&text[..before]);
    contents.seal = last.map(|_| Seal::of(line, contents.digest.clone()));
    contents.digest.update(&text[before..whole]);
    contents
}

fn damaged(path: &Path, line: usize, why: &str) -> Error {
    let directory = path.parent().unwrap_or(path).display();
    let text = format!("line {line} of the journal `{}` is damaged", path.display());
    Error { causes: vec![why.to_owned()], ..Error::new(Stage::Disk, text) }.hint(format!(
            "build-image runs lists what the other lines tell of: remove that by hand, look for more of this run in \
         the cloud, then delete `{directory}`"
    ))
}
