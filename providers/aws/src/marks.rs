//! Defines the marks that builds leave in the account: tags of images, snapshots, and import tasks, metadata and names of
//! objects. They connect everything that a run created, without a local file.
//!
//! `CopyImage` of other programs may copy tags: such an image or snapshot has the marks of its source and is not that of
//! the run. It differs in the source that the service shows, which [`COPY_OF`] names for copies of this provider.
//!
//! An unfinished upload shows neither tags nor metadata in any list. Its mark is its key: the name that this provider
//! gives, with an identifier in the form of the host.

use std::{collections::BTreeMap, time::Duration};

pub(crate) use build_image_plugin_api::ready::marks::{
    COPY_OF, DEPRECATED, DISK, IMAGE_OF, PREFIX, REPLACEMENT, RUN as MARK, is_unfinished,
    read_image, tags, unfinished, write_image,
};
use build_image_plugin_api::{document::Build, ready::marks};
use jiff::Timestamp;

/// Tag of a snapshot: until when a run needs it, in seconds since 1970-01-01 UTC.
pub(crate) const LEASE: &str = "build-image-lease";
/// Tag of a snapshot that is kept without an image: `yes`.
pub(crate) const KEPT: &str = "build-image-kept";
/// Metadata of an object: the run.
pub(crate) const OBJECT_RUN: &str = "x-amz-meta-build-image-run";
/// Metadata of an object: `yes` when the build was to keep it.
pub(crate) const OBJECT_KEPT: &str = "x-amz-meta-build-image-kept";
/// End of the key of an object.
const END: &str = ".vmdk";
/// Most marks of one image or snapshot; users cannot set these tags.
pub(crate) const COUNT: usize = 5;
/// Tags that the service permits for a resource.
pub(crate) const TAGS_OF_RESOURCE: usize = 50;
/// What was active within this time is claimed by a live run.
pub(crate) const QUIET: u64 = 3600;
/// The slowest upload that a lease allows for, in bytes per second: the service does not show when a block arrived.
const SLOWEST: u64 = 1 << 20;

/// Returns the tags of a build with the mark of its run.
pub(crate) fn of(build: &Build) -> BTreeMap<String, String> {
    marks::with_run(&build.tags, &build.run_id)
}

/// Whether a tag key is reserved for marks.
pub(crate) fn is_mark(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// Returns the present time in seconds since 1970-01-01 UTC, by a clock that is `skew` seconds ahead of this machine's.
pub(crate) fn now(skew: i64) -> u64 {
    u64::try_from(Timestamp::now().as_second().saturating_add(skew)).unwrap_or_default()
}

/// Parses a time of the services: ISO 8601, or the form of HTTP headers. Returns seconds since 1970-01-01 UTC.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let iso = || text.parse::<Timestamp>().ok();
    let rfc = || jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp());
    iso().or_else(rfc).and_then(|time| u64::try_from(time.as_second()).ok())
}

/// Until when activity at `latest` claims an object; `None` when that is over.
pub(crate) fn lease(latest: Option<u64>, now: u64, lasts: u64) -> Option<u64> {
    latest.map(|latest| latest.saturating_add(lasts)).filter(|until| *until > now)
}

/// The mark of a snapshot that a run begins to write now.
pub(crate) fn claim(bytes: u64, skew: i64) -> BTreeMap<String, String> {
    let until = now(skew).saturating_add(QUIET).saturating_add(bytes / SLOWEST);
    tags([(LEASE, &until.to_string())])
}

/// The mark of a snapshot whose image can be registered again for some time.
pub(crate) fn claim_for(time: Duration, skew: i64) -> BTreeMap<String, String> {
    tags([(LEASE, &now(skew).saturating_add(time.as_secs()).to_string())])
}

/// Whether the key of an object is the one that this provider gives to a run.
pub(crate) fn is_key_of(prefix: &str, key: &str, run_id: &str) -> bool {
    marks::end_of_key(prefix, key, run_id) == Some(END)
}

/// The run of an object's key: an identifier in the form of the host in the name that this provider gives.
pub(crate) fn run_of_key<'a>(prefix: &str, key: &'a str) -> Option<&'a str> {
    marks::run_of_key(prefix, key).filter(|(_, end)| *end == END).map(|(run, _)| run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_only_from_a_key_of_the_provider() {
        for (key, expected) in [
            ("build-image-20261122-073000-kqzxyw.vmdk", Some("20261122-073000-kqzxyw")),
            ("build-image-20261122-073000-kqzxyw/x.vmdk", None),
            ("build-image-20261122-073000-kqzxyw-x.vmdk", None),
            ("build-image-mine.vmdk", None),
        ] {
            assert_eq!(run_of_key("a/", &format!("a/{key}")), expected, "{key}");
        }
        assert!(is_key_of("", "build-image-run-1.vmdk", "run-1"));
        assert!(!is_key_of("", "build-image-run-12.vmdk", "run-1"));
    }

    #[test]
    fn activity_claims_an_object_for_a_time() {
        for (latest, expected) in [
            (Some(10_000), Some(13_600)),
            (Some(6_401), Some(10_001)),
            (Some(6_400), None),
            (Some(u64::MAX), Some(u64::MAX)),
            (None, None),
        ] {
            assert_eq!(lease(latest, 10_000, QUIET), expected, "{latest:?}");
        }
        let until: u64 = claim(90 << 20, 5)[LEASE].parse().unwrap();
        assert!(until >= now(5) + QUIET + 89 && until <= now(5) + QUIET + 90);
    }

    #[test]
    fn the_services_write_times_in_several_forms() {
        for (text, expected) in [
            ("2026-11-29T12:00:00.000Z", Some(1_795_953_600)),
            ("2026-11-29T12:00:00Z", Some(1_795_953_600)),
            ("Sun, 29 Nov 2026 12:00:00 GMT", Some(1_795_953_600)),
            ("", None),
            ("yesterday", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
