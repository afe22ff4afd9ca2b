//! Reads the time of day; no other file does.

/// Returns the current time, as `2026-11-22T07:30:00Z`.
#[must_use]
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Returns the seconds since a time that [`now`] returned; 0 when it is in the future or invalid.
#[must_use]
pub fn seconds_since(moment: &str) -> u64 {
    let then = moment.parse::<jiff::Timestamp>();
    let passed = then.map(|then| jiff::Timestamp::now().as_second() - then.as_second());
    passed.map_or(0, |seconds| u64::try_from(seconds).unwrap_or(0))
}

/// Returns the current time, short enough for names: `20261122-073000`.
#[must_use]
pub fn stamp() -> String {
    jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string()
}
