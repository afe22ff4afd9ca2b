//! Defines the marks that builds leave in the cloud: tags of images and snapshots, metadata and names of objects. They
//! connect everything that a run created, without a local file.
//!
//! An unfinished upload shows neither tags nor metadata in any list. Its mark is its key: the name that this provider
//! gives, with an identifier in the form of the host.

use build_image_plugin_api::ready::marks;
pub(crate) use build_image_plugin_api::ready::marks::{
    COPY_OF, DEPRECATED, DISK, IMAGE_OF, PREFIX, REPLACEMENT, is_unfinished, read_image, tags,
    unfinished, with_run, write_image,
};

use crate::{image::Image, tagging::MARK};

/// Tag of an image that only exists until its encrypted copy is finished.
pub(crate) const INTERMEDIATE: &str = "build-image-intermediate";
/// Metadata of an object: the run.
pub(crate) const OBJECT_RUN: &str = "x-oss-meta-build-image-run";
/// Metadata of an object: `yes` when the build was to keep it.
pub(crate) const OBJECT_KEPT: &str = "x-oss-meta-build-image-kept";
/// Metadata of an object: the format of its disk and what was found on it, for the run that registers it.
pub(crate) const OBJECT_DISK: &str = "x-oss-meta-build-image-content";
/// Number of marks of a new image; users cannot set these tags.
pub(crate) const COUNT: usize = 2;

/// Whether a tag key is reserved for marks. The service compares keys without case.
pub(crate) fn is_mark(key: &str) -> bool {
    key.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Whether the key of an object is one that this provider gives to a run.
pub(crate) fn is_key_of(prefix: &str, key: &str, run_id: &str) -> bool {
    marks::end_of_key(prefix, key, run_id).is_some_and(is_end)
}

fn is_end(rest: &str) -> bool {
    rest.starts_with(['-', '.']) && !rest.contains('/')
}

/// Whether a run imported an image from an object: the image has the run's mark or, before the marks are there, the object
/// belongs to the run. An object that was uploaded by another run may have become images of several. Runs of earlier
/// versions, which are not known here, imported only objects of their own.
pub(crate) fn is_import_of(image: &Image, (bucket, key): (&str, &str), run_id: &str) -> bool {
    let is_own = || key.contains(&format!("{PREFIX}{run_id}"));
    let is_marked = || image.tag(MARK).map_or_else(is_own, |tag| tag == run_id);
    image.comes_from(bucket, key) && (run_id.is_empty() || is_marked())
}

/// The run of an object's key: an identifier in the form of the host in a name that this provider gives.
pub(crate) fn run_of_key<'a>(prefix: &str, key: &'a str) -> Option<&'a str> {
    marks::run_of_key(prefix, key).filter(|(_, end)| is_end(end)).map(|(run, _)| run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_recognised_whatever_their_case() {
        for (key, expected) in [
            ("build-image-run", true),
            ("Build-Image-Run", true),
            ("build-image-", true),
            ("build-imag", false),
            ("build-imäge-run", false),
            ("team", false),
        ] {
            assert_eq!(is_mark(key), expected, "{key}");
        }
    }

    #[test]
    fn a_run_is_read_only_from_a_key_of_the_provider() {
        for (key, expected) in [
            ("build-image-20261122-073000-kqzxyw-web.qcow2", Some("20261122-073000-kqzxyw")),
            ("build-image-20261122-073000-kqzxyw.raw", Some("20261122-073000-kqzxyw")),
            ("build-image-20261122-073000-kqzxyw/x.raw", None),
            ("build-image-20261122-073000-kqzxywx.raw", None),
            ("build-image-mine.raw", None),
        ] {
            assert_eq!(run_of_key("a/", &format!("a/{key}")), expected, "{key}");
        }
        assert!(is_key_of("", "build-image-run-1-web.raw", "run-1"));
        assert!(!is_key_of("", "build-image-run-12.raw", "run-1"));
    }

    #[test]
    fn an_image_of_an_object_belongs_to_the_run_that_imported_it() {
        let image = |tag: Option<&str>| -> Image {
            let tags: Vec<_> = tag
                .iter()
                .map(|tag| serde_json::json!({"TagKey": MARK, "TagValue": tag}))
                .collect();
            let disk = serde_json::json!({"ImportOSSBucket": "b", "ImportOSSObject": "build-image-r-1.raw"});
            let image = serde_json::json!({"Tags": {"Tag": tags},
                "DiskDeviceMappings": {"DiskDeviceMapping": [disk]}});
            serde_json::from_value(image).unwrap()
        };
        let key = "build-image-r-1.raw";
        for (tag, object, run, expected) in [
            (Some("r-1"), ("b", key), "r-1", true),
            (None, ("b", key), "r-1", true),
            (None, ("b", key), "r-2", false),
            (Some("r-2"), ("b", key), "r-2", true),
            (Some("r-2"), ("b", key), "r-1", false),
            (Some("r-1"), ("c", key), "r-1", false),
            (Some("r-1"), ("b", "other"), "r-1", false),
            (Some("r-1"), ("b", key), "", true),
        ] {
            assert_eq!(
                is_import_of(&image(tag), object, run),
                expected,
                "{tag:?} {object:?} {run}"
            );
        }
    }
}
