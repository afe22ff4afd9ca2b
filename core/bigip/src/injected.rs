//! Parses the list of files that are injected into the installed system (UPDATE_IMAGE_FILES).

use std::path::{Path, PathBuf};

use build_image_disk::installer::{InputFile, Lookup, Problem, Refusal};
use serde_json::Value;

use crate::Result;

/// The setting that lists the files.
pub(crate) const KEY: &str = "UPDATE_IMAGE_FILES";

/// Files of the installed system that the tool writes itself: a user's file at the same path would be lost, or
/// mistaken for the tool's.
const RESERVED: [&str; 6] = [
    "build_info.json",
    ".vadc_first_boot",
    "fastboot",
    "shared/vadc/.hypervisor_type",
    "etc/.one_slot_marker",
    "etc/.all_modules_marker",
];

/// A file or directory that the user injects into the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// File or directory on this machine; empty until it is downloaded.
    pub source: PathBuf,
    /// URL, if it is downloaded.
    pub url: Option<String>,
    /// Absolute path in the image.
    pub destination: String,
    /// Mode of the destination, octal digits.
    pub mode: Option<String>,
}

impl Injected {
    /// Returns the file at a position of the list as the engine sees it.
    pub(crate) fn input(&self, position: usize) -> InputFile {
        InputFile {
            key: KEY,
            place: format!("{KEY}, entry {}", position + 1),
            target: self.destination.clone(),
            source: self.source.clone(),
            url: self.url.clone(),
        }
    }
}

/// Parses UPDATE_IMAGE_FILES.
///
/// # Errors
/// Every entry that is not accepted.
pub fn injected(value: Option<&Value>, lookup: &dyn Lookup) -> Result<Vec<Injected>> {
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    for (position, item) in value.and_then(Value::as_array).into_iter().flatten().enumerate() {
        match injected_one(item, lookup) {
            Ok(file) => files.push(file),
            Err(what) => problems
                .push(Problem::new(format!("UPDATE_IMAGE_FILES, entry {}: {what}", position + 1))),
        }
    }
    if problems.is_empty() {
        return Ok(files);
    }
    Err(Refusal::settings("files for the image are not acceptable")
        .with_problems(problems)
        .hint("an entry has `source`, an absolute `destination` and an optional octal `mode`"))
}

fn injected_one(item: &Value, lookup: &dyn Lookup) -> Result<Injected, String> {
    let text = |key: &str| match item.get(key) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let source = lookup.resolve(&text("source").ok_or("`source` is missing")?)?;
    let destination = text("destination").ok_or("`destination` is missing")?;
    if !destination.starts_with('/') || destination.contains(['\n', '\0']) {
        return Err(format!("destination `{destination}` is not an absolute path"));
    }
    if destination.chars().any(char::is_control) {
        return Err(format!("destination {destination:?} has a control character in it"));
    }
    if destination.split('/').any(|part| part == "..") {
        return Err(format!("destination `{destination}` has `..` in it; name the place itself"));
    }
    let mode = text("mode");
    let is_octal = |mode: &String| {
        (1..=4).contains(&mode.len()) && mode.bytes().all(|digit| (b'0'..=b'7').contains(&digit))
    };
    if let Some(mode) = mode.as_ref().filter(|mode| !is_octal(mode)) {
        return Err(format!("mode `{mode}` is not one to four octal digits"));
    }
    let url = lookup.url(&source)?;
    if url.is_none() && !Path::new(&source).exists() {
        return Err(format!("source `{source}` does not exist"));
    }
    if destination.ends_with('/') && !Path::new(&source).is_dir() {
        return Err(format!(
            "destination `{destination}` is a directory, but source `{}` is not: add the file's name",
            lookup.redacted(&source)
        ));
    }
    if let Some(name) = reserved(&destination, Path::new(&source)) {
        return Err(format!(
            "destination `{destination}`: build-image itself writes `/{name}` in the image"
        ));
    }
    let source = if url.is_some() { PathBuf::new() } else { PathBuf::from(source) };
    Ok(Injected { source, url, destination, mode })
}

/// Returns the reserved file that a file or tree would replace, or be placed below.
fn reserved(destination: &str, source: &Path) -> Option<&'static str> {
    let parts = |path: &str| -> PathBuf {
        path.split('/').filter(|part| !part.is_empty() && *part != ".").collect()
    };
    let destination = parts(destination);
    RESERVED.into_iter().find(|name| {
        let below = Path::new(name).strip_prefix(&destination);
        // The file itself is named, or a named tree contains it.
        let brought =
            |rest: &Path| rest == Path::new("") || source.join(rest).symlink_metadata().is_ok();
        destination.starts_with(name) || below.is_ok_and(brought)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Resolves `~` to `/etc`, and knows no URL.
    struct Plain;

    impl Lookup for Plain {
        fn resolve(&self, text: &str) -> Result<String, String> {
            Ok(text.replace('~', "/etc"))
        }

        fn url(&self, _: &str) -> Result<Option<String>, String> {
            Ok(None)
        }

        fn redacted(&self, text: &str) -> String {
            text.to_owned()
        }
    }

    #[test]
    fn all_wrong_files_are_reported() {
        let value = json!([
            {"source": "/etc/hosts", "destination": "relative"},
            {"destination": "/x"},
            {"source": "/etc/hosts", "destination": "/x", "mode": "9"},
            {"source": "/absent/file", "destination": "/x"},
            {"source": "/etc/hosts", "destination": "/config/../x"},
            {"source": "/etc/hosts", "destination": "/config/"},
            {"source": "/etc/hosts", "destination": "/x\ty"},
            {"source": "/etc", "destination": "/config/"},
            {"source": "/etc/hosts", "destination": "/x y", "mode": 644},
        ]);
        assert_eq!(injected(Some(&value), &Plain).unwrap_err().problems.len(), 7);
    }

    #[test]
    fn no_file_replaces_one_that_the_tool_writes() {
        let directory = tempfile::tempdir().unwrap();
        let source = |name: &str| directory.path().join(name).display().to_string();
        std::fs::create_dir_all(source("tree/etc")).unwrap();
        std::fs::write(source("tree/etc/.one_slot_marker"), "").unwrap();
        std::fs::create_dir_all(source("harmless/etc")).unwrap();
        let (hosts, tree, harmless) = ("/etc/hosts".to_owned(), source("tree"), source("harmless"));
        for (source, destination, taken) in [
            (&hosts, "/build_info.json", Some("/build_info.json")),
            (&hosts, "//./build_info.json", Some("/build_info.json")),
            (&hosts, "/build_info.json/x", Some("/build_info.json")),
            (&hosts, "/shared/vadc/.hypervisor_type", Some("/shared/vadc/.hypervisor_type")),
            (&tree, "/", Some("/etc/.one_slot_marker")),
            (&tree, "/config", None),
            (&harmless, "/", None),
            (&hosts, "/config/build_info.json", None),
            (&hosts, "/build_info.json.orig", None),
            (&hosts, "/config/with blanks in it", None),
        ] {
            let value = json!([{"source": source, "destination": destination}]);
            match (injected(Some(&value), &Plain), taken) {
                (Ok(files), None) => assert_eq!(files[0].destination, destination),
                (Err(error), Some(name)) => {
                    let message = &error.problems[0].message;
                    assert!(
                        message.contains(&format!("build-image itself writes `{name}`")),
                        "{message}"
                    );
                }
                (result, _) => panic!("{source} to {destination}: {result:?}"),
            }
        }
    }

    #[test]
    fn a_source_below_home_is_found() {
        let value = json!([{"source": "~/hosts", "destination": "/x"}]);
        let files = injected(Some(&value), &Plain).unwrap();
        assert_eq!(files[0].source, Path::new("/etc/hosts"));
    }
}
