//! Marks the images that a run creates, so that they are found without a journal.
//!
//! The manifest itself names no run: equal disks have equal digests. The mark is a further tag,
//! `build-image.SECONDS.RUN`, with the time of the mark in seconds since 1970-01-01 UTC. A run that finds its manifest in
//! the repository has not created it, and does not mark it.

use std::time::SystemTime;

use crate::reference::is_tag;

/// How every mark begins.
const PREFIX: &str = "build-image";

/// What a mark says of its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The run that created it.
    pub(crate) run_id: String,
    /// When, in seconds since 1970-01-01 UTC.
    pub(crate) created: u64,
}

impl Mark {
    /// Returns the mark that a run sets now.
    pub(crate) fn now(run_id: &str) -> Self {
        let now = SystemTime::UNIX_EPOCH.elapsed();
        Self { run_id: run_id.to_owned(), created: now.map_or(0, |now| now.as_secs()) }
    }

    /// Returns the tag; `None` for a run whose identifier does not fit into one.
    pub(crate) fn tag(&self) -> Option<String> {
        let tag = format!("{PREFIX}.{}.{}", self.created, self.run_id);
        Some(tag).filter(|tag| is_tag(tag) && Self::read(tag).as_ref() == Some(self))
    }

    /// Reads a tag; `None` for one that is not a mark.
    pub(crate) fn read(tag: &str) -> Option<Self> {
        let (created, run_id) = tag.strip_prefix(PREFIX)?.strip_prefix('.')?.split_once('.')?;
        let is_run =
            |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        let is_number = created.chars().all(|letter| letter.is_ascii_digit());
        let valid = is_number && !run_id.is_empty() && run_id.chars().all(is_run);
        let created = created.parse().ok().filter(|_| valid)?;
        Some(Self { run_id: run_id.to_owned(), created })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = Mark { run_id: "2026-a-1".to_owned(), created: 1_767_225_600 };
        assert_eq!(mark.tag().as_deref(), Some("build-image.1767225600.2026-a-1"));
        assert_eq!(Mark::read(&mark.tag().unwrap()), Some(mark));
        for run_id in ["", "A", "a.b", "a/b", &"a".repeat(128)] {
            let mark = Mark { run_id: run_id.to_owned(), created: 1 };
            assert_eq!(mark.tag(), None, "{run_id}");
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
            "build-image.x.run",
            "build-image.+1.run",
            "build-image-1-run",
            "build-image.1.run.part",
            "build-image.99999999999999999999.run",
            "my-build-image.1.run",
        ] {
            assert_eq!(Mark::read(tag), None, "{tag}");
        }
    }
}
