//! Marks the images of builds in the image service, so that they are found without a journal.
//!
//! Marks are properties, and every one begins with [`PREFIX`]. Nova copies the properties of an image to the snapshots of
//! its servers, and Cinder to the images of its volumes. Such an image belongs to its user, not to a build; it differs in
//! its identifier, which is therefore a mark as well.

use std::time::Duration;

use build_image_plugin_api::document::Build;

use crate::image::{Image, RUN};

/// How the name of every mark begins.
pub(crate) const PREFIX: &str = "build_image_";
/// Identifier of the marked image.
pub(crate) const IDENTITY: &str = "build_image_id";
/// Until when the run claims the image, in seconds since 1970-01-01 UTC. It is removed when the image is published, so
/// that an image with it is unfinished.
pub(crate) const LEASE: &str = "build_image_lease";
/// Digest of the disk that the image was made from, as it was sent: `sha256:` and hexadecimal digits.
pub(crate) const DISK: &str = "build_image_disk";
/// From when the image is deprecated, in seconds since 1970-01-01 UTC.
pub(crate) const DEPRECATED_AT: &str = "build_image_deprecated_at";
/// The image that replaces it: its identifier, and its region after `@`.
pub(crate) const REPLACEMENT: &str = "build_image_replacement";
/// Why the image is deprecated.
pub(crate) const REASON: &str = "build_image_deprecation_reason";

/// How long a run claims an image after its last change.
const QUIET: Duration = Duration::from_secs(3600);
/// The slowest upload that a lease allows for, in bytes per second: the service does not record a change meanwhile.
const SLOWEST: u64 = 1 << 20;

/// Returns the present time in seconds since 1970-01-01 UTC.
pub(crate) fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default()
}

/// Returns a time of the service in seconds since 1970-01-01 UTC.
pub(crate) fn seconds(time: &str) -> Option<u64> {
    let time: jiff::Timestamp = time.parse().ok()?;
    u64::try_from(time.as_second()).ok()
}

/// Returns the marks of a new image.
pub(crate) fn of(build: &Build, id: &str, now: u64) -> [(&'static str, String); 3] {
    let lease = now + QUIET.as_secs() + build.virtual_size / SLOWEST;
    [(RUN, build.run_id.clone()), (IDENTITY, id.to_owned()), (LEASE, lease.to_string())]
}

impl Image {
    /// Returns the run that created the image; `None` for any other image, also for one that has inherited the marks.
    pub(crate) fn run(&self) -> Option<&str> {
        let is_own = self.text(IDENTITY) == self.id();
        Some(self.text(RUN)).filter(|run| is_own && !run.is_empty())
    }

    /// Returns the digest of the disk that a run made the image from.
    pub(crate) fn disk_digest(&self) -> Option<&str> {
        self.run().map(|_| self.text(DISK)).filter(|text| text.starts_with("sha256:"))
    }

    /// Whether the run that creates the image has not published it.
    pub(crate) fn is_unfinished(&self) -> bool {
        let receives = ["queued", "saving", "uploading", "importing"].contains(&self.status());
        self.run().is_some() && (receives || self.members.contains_key(LEASE))
    }

    /// Returns until when a run claims the image.
    pub(crate) fn leased_until(&self) -> Option<u64> {
        if !self.is_unfinished() {
            return None;
        }
        let changed = seconds(self.text("updated_at")).map(|time| time + QUIET.as_secs());
        changed.max(self.text(LEASE).parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_an_image_with_its_own_identifier_in_its_marks_is_that_of_a_run() {
        for (marks, run) in [
            (json!({RUN: "r", IDENTITY: "i"}), Some("r")),
            // A snapshot of a server has inherited the properties.
            (json!({RUN: "r", IDENTITY: "j", "image_type": "snapshot"}), None),
            (json!({RUN: "r"}), None),
            (json!({RUN: "", IDENTITY: "i"}), None),
            (json!({IDENTITY: "i"}), None),
        ] {
            let mut image = json!({"id": "i", "name": "n"});
            image.as_object_mut().unwrap().extend(marks.as_object().unwrap().clone());
            assert_eq!(Image::read(image).unwrap().run(), run, "{marks}");
        }
    }

    #[test]
    fn the_digest_of_the_disk_is_that_of_an_image_with_its_own_identifier() {
        for (id, digest, expected) in [
            ("i", "sha256:1", Some("sha256:1")),
            ("i", "1", None),
            ("i", "", None),
            ("j", "sha256:1", None),
        ] {
            let image = json!({"id": "i", RUN: "r", IDENTITY: id, DISK: digest});
            assert_eq!(Image::read(image).unwrap().disk_digest(), expected, "{id} {digest}");
        }
    }

    #[test]
    fn a_lease_allows_for_a_slow_upload_and_ends_an_hour_after_the_last_change() {
        let build = Build::default().run_id("r").virtual_size(100 << 30);
        let marks = of(&build, "i", 1_000_000);
        assert_eq!(marks[2], (LEASE, (1_000_000 + 3600 + (100 << 10)).to_string()));
        let changed = "2026-01-01T00:00:00Z";
        let at = seconds(changed).unwrap();
        for (status, lease, until) in [
            ("queued", Some(at), Some(at + 3600)),
            ("saving", Some(at + 9000), Some(at + 9000)),
            ("saving", None, Some(at + 3600)),
            ("active", Some(5), Some(at + 3600)),
            ("active", None, None),
            ("deactivated", None, None),
        ] {
            let mut image = json!({"id": "i", RUN: "r", IDENTITY: "i", "status": status, "updated_at": changed});
            if let Some(lease) = lease {
                image[LEASE] = lease.to_string().into();
            }
            assert_eq!(Image::read(image).unwrap().leased_until(), until, "{status} {lease:?}");
        }
        assert_eq!(seconds("yesterday"), None);
    }
}
