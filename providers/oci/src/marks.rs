//! Marks the images that a run creates, so that they are found without a journal.
//!
//! The manifest itself names no run and no disk: equal disks have equal digests. The marks are further tags. A run puts its
//! manifest under `build-image.SECONDS.RUN.begun`, with the time in seconds since 1970-01-01 UTC, and once all tags of the
//! image are set under `build-image.SECONDS.RUN` or, when the digest of the disk is known,
//! `build-image.SECONDS.RUN.DIGEST`. Registries may remove no single tags, so the first mark stays beside the second. A run that
//! finds its manifest completed in the repository has not created it, and does not mark it.

use std::{collections::BTreeSet, time::SystemTime};

use crate::reference::is_tag;

/// How every mark begins.
const PREFIX: &str = "build-image";
/// The last part of the mark of an image that is not complete.
const BEGUN: &str = "begun";
/// What the digest of a disk begins with; a tag has the rest of it.
const SHA256: &str = "sha256:";
/// How long a run claims an image that it has begun, in seconds.
pub(crate) const LEASE: u64 = 3600;

/// How far a run has come with its image.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Its tags are not set yet.
    Begun,
    /// It is complete; with the hexadecimal digest of its disk.
    Complete(Option<String>),
}

/// What a mark says of its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The run that created it.
    pub(crate) run_id: String,
    /// When, in seconds since 1970-01-01 UTC.
    pub(crate) created: u64,
    stage: Stage,
}

impl Mark {
    /// Returns the mark that a run sets now, before its image is complete.
    pub(crate) fn begin(run_id: &str) -> Self {
        Self { run_id: run_id.to_owned(), created: now(), stage: Stage::Begun }
    }

    /// Returns the mark of the image when it is complete, with the digest of its disk if there is room.
    pub(crate) fn complete(&self, disk_digest: Option<&str>) -> Self {
        let digits = disk_digest.and_then(|digest| digest.strip_prefix(SHA256));
        let with = |digits: Option<String>| Self { stage: Stage::Complete(digits), ..self.clone() };
        let whole = with(digits.map(str::to_owned));
        if whole.tag().is_some() { whole } else { with(None) }
    }

    /// Returns the tag; `None` for a run whose identifier does not fit into one.
    pub(crate) fn tag(&self) -> Option<String> {
        let stage = match &self.stage {
            Stage::Begun => format!(".{BEGUN}"),
            Stage::Complete(Some(digits)) => format!(".{digits}"),
            Stage::Complete(None) => String::new(),
        };
        let tag = format!("{PREFIX}.{}.{}{stage}", self.created, self.run_id);
        Some(tag).filter(|tag| is_tag(tag) && Self::read(tag).as_ref() == Some(self))
    }

    /// Reads a tag; `None` for one that is not a mark.
    pub(crate) fn read(tag: &str) -> Option<Self> {
        let (created, rest) = tag.strip_prefix(PREFIX)?.strip_prefix('.')?.split_once('.')?;
        let (run_id, stage) = match rest.split_once('.') {
            None => (rest, Stage::Complete(None)),
            Some((run_id, BEGUN)) => (run_id, Stage::Begun),
            Some((run_id, digits)) if is_digest(digits) => {
                (run_id, Stage::Complete(Some(digits.to_owned())))
            }
            Some(_) => return None,
        };
        let is_run =
            |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        let is_number = created.chars().all(|letter| letter.is_ascii_digit());
        let valid = is_number && !run_id.is_empty() && run_id.chars().all(is_run);
        let created = created.parse().ok().filter(|_| valid)?;
        Some(Self { run_id: run_id.to_owned(), created, stage })
    }

    /// Whether it is set before the image is complete.
    pub(crate) fn is_begun(&self) -> bool {
        self.stage == Stage::Begun
    }

    /// Returns until when the run claims an image that it has begun.
    pub(crate) fn leased_until(&self) -> u64 {
        self.created.saturating_add(LEASE)
    }

    /// Whether the run may still be at work on the image.
    pub(crate) fn is_leased(&self) -> bool {
        self.is_begun() && self.leased_until() > now()
    }

    /// Returns the digest of the disk, as documents have it.
    pub(crate) fn disk_digest(&self) -> Option<String> {
        match &self.stage {
            Stage::Complete(Some(digits)) => Some(format!("{SHA256}{digits}")),
            _ => None,
        }
    }
}

/// The marks of runs that have begun an image and not completed it.
pub(crate) fn unfinished(tags: &[String]) -> BTreeSet<&String> {
    let marks = || tags.iter().filter_map(|tag| Some((tag, Mark::read(tag)?)));
    let complete: BTreeSet<(u64, String)> = marks()
        .filter(|(_, mark)| !mark.is_begun())
        .map(|(_, mark)| (mark.created, mark.run_id))
        .collect();
    marks()
        .filter(|(_, mark)| {
            mark.is_begun() && !complete.contains(&(mark.created, mark.run_id.clone()))
        })
        .map(|(tag, _)| tag)
        .collect()
}

/// Whether a text is the hexadecimal part of a SHA-256 digest.
pub(crate) fn is_digest(digits: &str) -> bool {
    let is_digit = |letter: char| letter.is_ascii_digit() || ('a'..='f').contains(&letter);
    digits.len() == 64 && digits.chars().all(is_digit)
}

/// The present time in seconds since 1970-01-01 UTC.
fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(run_id: &str) -> Mark {
        Mark { run_id: run_id.to_owned(), created: 1_767_225_600, stage: Stage::Begun }
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let digits = "0123456789abcdef".repeat(4);
        let digest = format!("{SHA256}{digits}");
        let run = "20261122-073000-kqzxyw";
        let mark = begun(run);
        let start = format!("build-image.1767225600.{run}");
        for (mark, end, digest) in [
            (mark.clone(), ".begun".to_owned(), None),
            (mark.complete(None), String::new(), None),
            (mark.complete(Some(&digest)), format!(".{digits}"), Some(digest.clone())),
            (mark.complete(Some("sha512:0")), String::new(), None),
            (mark.complete(Some(&digits)), String::new(), None),
        ] {
            let tag = mark.tag().unwrap();
            assert_eq!(tag, format!("{start}{end}"));
            assert_eq!(mark.disk_digest(), digest, "{tag}");
            assert_eq!(Mark::read(&tag), Some(mark));
        }
        // A longer run leaves no room for the digest.
        let long = begun(&"a".repeat(60)).complete(Some(&digest));
        assert_eq!((long.disk_digest(), long.tag().is_some()), (None, true));
        for run_id in ["", "A", "a.b", "a/b", &"a".repeat(128)] {
            assert_eq!(begun(run_id).tag(), None, "{run_id}");
        }
    }

    #[test]
    fn other_tags_are_not_marks() {
        for tag in [
            "13",
            "latest",
            "build-image",
            "build-image.1",
            "build-image.1.",
            "build-image.1..begun",
            "build-image.x.run",
            "build-image.+1.run",
            "build-image-1-run",
            "build-image.1.run.part",
            "build-image.1.run.begun.begun",
            "build-image.1.run.0123",
            "build-image.99999999999999999999.run",
            "my-build-image.1.run",
        ] {
            assert_eq!(Mark::read(tag), None, "{tag}");
        }
    }

    #[test]
    fn only_a_mark_without_that_of_the_complete_image_is_unfinished() {
        let digits = "0".repeat(64);
        let tags: Vec<String> = [
            "13".to_owned(),
            "build-image.1.a.begun".to_owned(),
            "build-image.1.a".to_owned(),
            "build-image.1.b.begun".to_owned(),
            format!("build-image.1.b.{digits}"),
            "build-image.1.c.begun".to_owned(),
            "build-image.2.a.begun".to_owned(),
            "build-image.3.d".to_owned(),
        ]
        .into();
        let found: Vec<&str> = unfinished(&tags).into_iter().map(String::as_str).collect();
        assert_eq!(found, ["build-image.1.c.begun", "build-image.2.a.begun"]);
    }

    #[test]
    fn an_image_that_was_begun_is_claimed_for_an_hour() {
        let mark = Mark::begin("run");
        assert!(mark.is_leased() && !mark.complete(None).is_leased());
        let old = Mark { created: mark.created - LEASE, ..mark };
        assert!(!old.is_leased());
    }
}
