//! Formats and parses times as the vendor writes them. Every time in the emulator is a count of milliseconds
//! since 1970 (UTC), so that tests can specify it. Formats: OSS V4 `x-oss-date`, RFC 1123, and the two ISO
//! 8601 forms of OSS XML (milliseconds always `000`) and ECS JSON.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// Milliseconds since 1970-01-01T00:00:00Z.
pub(crate) type Millis = i64;

/// The current time.
pub(crate) fn now() -> Millis {
    Timestamp::now().as_millisecond()
}

fn format(at: Millis, pattern: &str) -> String {
    let stamp = Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH);
    stamp.strftime(pattern).to_string()
}

/// `Sat, 16 Dec 2023 16:20:57 GMT`.
pub(crate) fn rfc1123(at: Millis) -> String {
    format(at, "%a, %d %b %Y %H:%M:%S GMT")
}

/// `2023-12-16T16:20:57.000Z`: OSS reports no milliseconds, and some parsers require the zeros.
pub(crate) fn iso_zeros(at: Millis) -> String {
    format(at, "%Y-%m-%dT%H:%M:%S.000Z")
}

/// `2023-12-16T16:20:57Z`.
pub(crate) fn iso(at: Millis) -> String {
    format(at, "%Y-%m-%dT%H:%M:%SZ")
}

fn parse(text: &str, pattern: &str) -> Option<Millis> {
    let civil = DateTime::strptime(pattern, text).ok()?;
    let zoned: Zoned = civil.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_millisecond())
}

/// Reads `20231216T162057Z`.
pub(crate) fn parse_basic(text: &str) -> Option<Millis> {
    parse(text, "%Y%m%dT%H%M%SZ")
}

/// Reads `2023-12-16T16:20:57Z`, also with a fraction of a second, which some clients send.
pub(crate) fn parse_iso(text: &str) -> Option<Millis> {
    parse(text, "%Y-%m-%dT%H:%M:%S%.fZ")
}

/// Reads `2023-12-16T16:20Z`, the form of time filters in ECS.
pub(crate) fn parse_iso_minutes(text: &str) -> Option<Millis> {
    parse(text, "%Y-%m-%dT%H:%MZ")
}

/// Reads `Sat, 16 Dec 2023 16:20:57 GMT`.
pub(crate) fn parse_rfc1123(text: &str) -> Option<Millis> {
    parse(text, "%a, %d %b %Y %H:%M:%S GMT")
}

#[cfg(test)]
mod tests {
    use super::{iso, iso_zeros, parse_basic, parse_iso, parse_rfc1123, rfc1123};

    #[test]
    fn every_form_reads_back_to_the_second() {
        let at = 1_702_743_657_000;
        assert_eq!(parse_basic("20231216T162057Z"), Some(at));
        assert_eq!(rfc1123(at), "Sat, 16 Dec 2023 16:20:57 GMT");
        assert_eq!(parse_rfc1123("Sat, 16 Dec 2023 16:20:57 GMT"), Some(at));
        assert_eq!(iso(at), "2023-12-16T16:20:57Z");
        assert_eq!(parse_iso("2023-12-16T16:20:57Z"), Some(at));
        assert_eq!(parse_iso("2023-12-16T16:20:57.123Z"), Some(at + 123));
        assert_eq!(iso_zeros(at + 345), "2023-12-16T16:20:57.000Z");
        assert_eq!(parse_basic("2023-12-16"), None);
    }
}
