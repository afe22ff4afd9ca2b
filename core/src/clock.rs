//! Reads the time of day; no other file does.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Form of times in documents, for [`Timestamp::strftime`].
const FORM: &str = "%Y-%m-%dT%H:%M:%SZ";

/// Returns the current time, as `2026-11-22T07:30:00Z`.
#[must_use]
pub fn now() -> String {
    Timestamp::now().strftime(FORM).to_string()
}

/// Returns the seconds since a time that [`now`] returned; 0 when it is in the future or invalid.
#[must_use]
pub fn seconds_since(moment: &str) -> u64 {
    let then = moment.parse::<Timestamp>();
    let passed = then.map(|then| Timestamp::now().as_second() - then.as_second());
    passed.map_or(0, |seconds| u64::try_from(seconds).unwrap_or(0))
}

/// Returns the current time, short enough for names: `20261122-073000`.
#[must_use]
pub fn stamp() -> String {
    Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string()
}

/// Returns the time after a duration, in the form of [`now`]; `None` when it cannot be represented.
#[must_use]
pub fn after(duration: Duration) -> Option<String> {
    let later = Timestamp::now().checked_add(SignedDuration::try_from(duration).ok()?).ok()?;
    Some(later.strftime(FORM).to_string())
}

/// Returns the current time in seconds since 1970-01-01 UTC.
#[must_use]
pub fn seconds() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}

/// Returns a time in seconds since 1970-01-01 UTC in the form of [`now`]; empty when it cannot be represented.
#[must_use]
pub fn text(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|at| Timestamp::from_second(at).ok());
    time.map(|time| time.strftime(FORM).to_string()).unwrap_or_default()
}

/// Parses a time in the form of RFC 3339; returns the seconds since 1970-01-01 UTC.
#[must_use]
pub fn parse(moment: &str) -> Option<u64> {
    u64::try_from(moment.parse::<Timestamp>().ok()?.as_second()).ok()
}

/// Returns whether a time has been reached; `None` when the text is not a time.
#[must_use]
pub fn is_past(moment: &str) -> Option<bool> {
    Some(moment.parse::<Timestamp>().ok()? <= Timestamp::now())
}
