//! Defines the marks that builds leave in the cloud: tags of images and snapshots, metadata and names of objects. They
//! connect everything that a run created, without a local file.
//!
//! An unfinished upload shows neither tags nor metadata in any list. Its mark is its key: the name that this provider
//! gives, with an identifier in the form of the host.

use std::collections::BTreeMap;

use build_image_plugin_api::document::Reference;

use crate::{image::Image, tagging::MARK};

/// What the keys of all marks begin with, and the names of objects.
pub(crate) const PREFIX: &str = "build-image-";
/// Tag of a copy: the image that it is a copy of, as `REGION/ID`.
pub(crate) const COPY_OF: &str = "build-image-copy-of";
/// Tag of a snapshot: the image that it belongs to. It remains when the image is deleted.
pub(crate) const IMAGE_OF: &str = "build-image-image";
/// Tag of an image or snapshot: the digest of the disk, `sha256:` and hexadecimal digits.
pub(crate) const DISK: &str = "build-image-disk";
/// Tag of a deprecated image: since when, in seconds since 1970-01-01 UTC.
pub(crate) const DEPRECATED: &str = "build-image-deprecated";
/// Tag of a deprecated image: the image to use instead, as `REGION/ID`.
pub(crate) const REPLACEMENT: &str = "build-image-replacement";
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
/// End of [`COPY_OF`] while the copy is made.
const UNFINISHED: &str = "+unfinished";

/// Whether a tag key is reserved for marks. The service compares keys without case.
pub(crate) fn is_mark(key: &str) -> bool {
    key.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Owned tags from borrowed ones.
pub(crate) fn tags<const N: usize>(list: [(&str, &str); N]) -> BTreeMap<String, String> {
    list.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// The tags of a user with the marks of a run.
pub(crate) fn with_run(tags: &BTreeMap<String, String>, run_id: &str) -> BTreeMap<String, String> {
    let mut all = tags.clone();
    if !run_id.is_empty() {
        all.insert(MARK.to_owned(), run_id.to_owned());
    }
    all
}

/// Writes a reference to an image as the value of a tag.
pub(crate) fn write_image(region: &str, id: &str) -> String {
    format!("{region}/{id}")
}

/// Parses a reference to an image; `None` for a value of another form.
pub(crate) fn read_image(text: &str) -> Option<Reference> {
    let text = text.strip_suffix(UNFINISHED).unwrap_or(text);
    let (region, id) = text.split_once('/')?;
    (!region.is_empty() && !id.is_empty()).then(|| Reference::image(id).in_region(region))
}

/// Writes the value of [`COPY_OF`] for a copy that is not finished.
pub(crate) fn unfinished(copy_of: &str) -> String {
    format!("{copy_of}{UNFINISHED}")
}

/// Whether a value of [`COPY_OF`] is that of a copy that is not finished.
pub(crate) fn is_unfinished(copy_of: &str) -> bool {
    copy_of.ends_with(UNFINISHED)
}

/// Whether the key of an object is one that this provider gives to a run.
pub(crate) fn is_key_of(prefix: &str, key: &str, run_id: &str) -> bool {
    let rest = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(PREFIX));
    let rest = rest.and_then(|rest| rest.strip_prefix(run_id));
    rest.is_some_and(|rest| rest.starts_with(['-', '.']) && !rest.contains('/'))
}

/// Whether a run imported an image from an object: the image has the run's mark or, before the marks are there, the object
/// belongs to the run. An object that was uploaded by another run may have become images of several. Runs of earlier
/// versions, which are not known here, imported only objects of their own.
pub(crate) fn is_import_of(image: &Image, (bucket, key): (&str, &str), run_id: &str) -> bool {
    let is_own = || key.contains(&format!("{PREFIX}{run_id}"));
    let is_marked = || image.tag(MARK).map_or_else(is_own, |tag| tag == run_id);
    image.comes_from(bucket, key) && (run_id.is_empty() || is_marked())
}

/// The run of an object's key: an identifier in the form of the host, `20261122-073000-kqzxyw`, in a name that this
/// provider gives.
pub(crate) fn run_of_key<'a>(prefix: &str, key: &'a str) -> Option<&'a str> {
    const FORM: &str = "00000000-000000-aaaaaa";
    let run = key.strip_prefix(prefix)?.strip_prefix(PREFIX)?.get(..FORM.len())?;
    let fits = |(letter, form): (char, char)| match form {
        '0' => letter.is_ascii_digit(),
        'a' => letter.is_ascii_lowercase() || letter.is_ascii_digit(),
        other => letter == other,
    };
    (run.chars().zip(FORM.chars()).all(fits) && is_key_of(prefix, key, run)).then_some(run)
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
        for (prefix, key, expected) in [
            ("", "build-image-20261122-073000-kqzxyw-web.qcow2", Some("20261122-073000-kqzxyw")),
            ("a/", "a/build-image-20261122-073000-kqzxyw.raw", Some("20261122-073000-kqzxyw")),
            ("", "a/build-image-20261122-073000-kqzxyw.raw", None),
            ("", "build-image-20261122-073000-kqzxyw/x.raw", None),
            ("", "build-image-20261122-073000-kqzxywx.raw", None),
            ("", "build-image-20261122-073000-KQZXYW.raw", None),
            ("", "build-image-2026112-0073000-kqzxyw.raw", None),
            ("", "build-image-mine.raw", None),
            ("", "build-image-20261122-073000-kqzx\u{e4}w.raw", None),
            ("", "my-build-image-20261122-073000-kqzxyw.raw", None),
        ] {
            assert_eq!(run_of_key(prefix, key), expected, "{prefix}{key}");
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

    #[test]
    fn a_reference_survives_as_a_tag() {
        let value = write_image("cn-hangzhou", "m-1");
        let expected = Some(Reference::image("m-1").in_region("cn-hangzhou"));
        assert_eq!(read_image(&value), expected);
        assert!(is_unfinished(&unfinished(&value)) && !is_unfinished(&value));
        assert_eq!(read_image(&unfinished(&value)), expected);
        for text in ["", "m-1", "/m-1", "cn-hangzhou/"] {
            assert_eq!(read_image(text), None, "{text}");
        }
    }
}
