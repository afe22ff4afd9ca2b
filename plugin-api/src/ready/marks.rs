//! Defines the marks that builds leave in an account: tags of images and snapshots, and names of objects. They connect
//! everything that a run created, without a local file.
//!
//! A service may have other names for tags, and room for fewer marks; a provider uses those that it needs.
//!
//! ```
//! use build_image_plugin_api::{document::Reference, ready::marks};
//!
//! let value = marks::write_image("eu-west-1", "ami-1");
//! assert_eq!(marks::read_image(&value), Some(Reference::image("ami-1").in_region("eu-west-1")));
//! assert!(marks::is_unfinished(&marks::unfinished(&value)));
//! ```

use std::collections::BTreeMap;

use crate::document::{Build, Reference};

/// What the keys of all marks begin with, and the names of objects.
pub const PREFIX: &str = "build-image-";
/// Tag of everything: the run.
pub const RUN: &str = "build-image-run";
/// Tag of a copy: the image that it is a copy of, as `REGION/ID`.
pub const COPY_OF: &str = "build-image-copy-of";
/// Tag of a snapshot: the image that it belongs to. It remains when the image is deleted.
pub const IMAGE_OF: &str = "build-image-image";
/// Tag of an image or snapshot: the digest of the disk, `sha256:` and hexadecimal digits.
pub const DISK: &str = "build-image-disk";
/// Tag of a deprecated image: since when, in seconds since 1970-01-01 UTC.
pub const DEPRECATED: &str = "build-image-deprecated";
/// Tag of a deprecated image: the image to use instead, as `REGION/ID`.
pub const REPLACEMENT: &str = "build-image-replacement";
/// End of [`COPY_OF`] while the copy is made.
const UNFINISHED: &str = "+unfinished";

/// Returns owned tags from borrowed ones.
#[must_use]
pub fn tags<const N: usize>(list: [(&str, &str); N]) -> BTreeMap<String, String> {
    list.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Adds the mark of a run to the tags of a user. Without a run nothing is added.
#[must_use]
pub fn with_run(tags: &BTreeMap<String, String>, run_id: &str) -> BTreeMap<String, String> {
    let mut all = tags.clone();
    if !run_id.is_empty() {
        all.insert(RUN.to_owned(), run_id.to_owned());
    }
    all
}

/// Writes a reference to an image as the value of a tag.
#[must_use]
pub fn write_image(region: &str, id: &str) -> String {
    format!("{region}/{id}")
}

/// Parses a reference to an image; `None` for a value of another form.
#[must_use]
pub fn read_image(text: &str) -> Option<Reference> {
    let text = text.strip_suffix(UNFINISHED).unwrap_or(text);
    let (region, id) = text.split_once('/')?;
    (!region.is_empty() && !id.is_empty()).then(|| Reference::image(id).in_region(region))
}

/// Writes the value of [`COPY_OF`] for a copy that is not finished.
#[must_use]
pub fn unfinished(copy_of: &str) -> String {
    format!("{copy_of}{UNFINISHED}")
}

/// Returns whether a value of [`COPY_OF`] is that of a copy that is not finished.
#[must_use]
pub fn is_unfinished(copy_of: &str) -> bool {
    copy_of.ends_with(UNFINISHED)
}

/// Returns the end of an object's key, after the name that a provider gives to the objects of a run: `PREFIX`,
/// `build-image-`, and the run.
#[must_use]
pub fn end_of_key<'a>(prefix: &str, key: &'a str, run_id: &str) -> Option<&'a str> {
    key.strip_prefix(prefix)?.strip_prefix(PREFIX)?.strip_prefix(run_id)
}

/// Returns the run of an object's key, and the end of the key: an identifier in the form of the host,
/// `20261122-073000-kqzxyw`, in a name that a provider gives.
#[must_use]
pub fn run_of_key<'a>(prefix: &str, key: &'a str) -> Option<(&'a str, &'a str)> {
    const FORM: &str = "00000000-000000-aaaaaa";
    let rest = key.strip_prefix(prefix)?.strip_prefix(PREFIX)?;
    let (run, end) = rest.split_at_checked(FORM.len())?;
    let fits = |(letter, form): (char, char)| match form {
        '0' => letter.is_ascii_digit(),
        'a' => letter.is_ascii_lowercase() || letter.is_ascii_digit(),
        other => letter == other,
    };
    run.chars().zip(FORM.chars()).all(fits).then_some((run, end))
}

/// Returns what the disks of a lineage have in common: the family of their images, or else the name of the disk without
/// digits and punctuation, which change from version to version.
#[must_use]
pub fn lineage(family: Option<&str>, build: &Build) -> String {
    let name = if build.file_stem.is_empty() { &build.image_name } else { &build.file_stem };
    match family {
        Some(family) => format!("family {family}"),
        None => {
            let letters: String = name.chars().filter(|c| c.is_alphabetic()).collect();
            format!("name {}", letters.to_lowercase())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_only_from_a_key_of_a_provider() {
        const RUN: &str = "20261122-073000-kqzxyw";
        for (prefix, key, expected) in [
            ("", "build-image-20261122-073000-kqzxyw-web.qcow2", Some((RUN, "-web.qcow2"))),
            ("a/", "a/build-image-20261122-073000-kqzxyw.raw", Some((RUN, ".raw"))),
            ("", "build-image-20261122-073000-kqzxyw", Some((RUN, ""))),
            ("", "a/build-image-20261122-073000-kqzxyw.raw", None),
            ("", "build-image-20261122-073000-KQZXYW.raw", None),
            ("", "build-image-2026112-0073000-kqzxyw.raw", None),
            ("", "build-image-mine.raw", None),
            ("", "build-image-20261122-073000-kqzx\u{e4}w.raw", None),
            ("", "my-build-image-20261122-073000-kqzxyw.raw", None),
        ] {
            assert_eq!(run_of_key(prefix, key), expected, "{prefix}{key}");
        }
        assert_eq!(end_of_key("a/", "a/build-image-run-1.raw", "run-1"), Some(".raw"));
        assert_eq!(end_of_key("", "build-image-run-12.raw", "run-1"), Some("2.raw"));
        assert_eq!(end_of_key("b/", "a/build-image-run-1.raw", "run-1"), None);
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

    #[test]
    fn the_mark_wins_over_a_tag_of_its_name() {
        let given = tags([(RUN, "x"), ("a", "b")]);
        assert_eq!(with_run(&given, "r-1"), tags([(RUN, "r-1"), ("a", "b")]));
        assert_eq!(with_run(&given, ""), given);
    }

    #[test]
    fn versions_of_a_disk_are_one_lineage_and_a_family_is_one_whatever_the_name() {
        let of = |family: &str, stem: &str| {
            let build = Build::default().file_stem(stem.to_owned()).image_name("web");
            lineage(Some(family).filter(|family| !family.is_empty()), &build)
        };
        for (one, other, same) in [
            (("", "BIGIP-15.0.0-0.0.39.LTM"), ("", "BIGIP-17.1.0-0.0.16.LTM"), true),
            (("", "web_2026-11-29"), ("", "Web-7"), true),
            (("", "BIGIP-15.0.0.LTM"), ("", "BIGIP-15.0.0.ALL"), false),
            (("web", "a"), ("web", "b"), true),
            (("web", "a"), ("api", "a"), false),
            (("web", "a"), ("", "web"), false),
            // Without a name of the disk, that of the image counts.
            (("", ""), ("", "web"), true),
        ] {
            assert_eq!(of(one.0, one.1) == of(other.0, other.1), same, "{one:?} {other:?}");
        }
    }
}
