//! Reads lists of checksums, as distributions publish them beside their images: the lines of `sha256sum`, with or without
//! `*` before the name, and those of BSD (`SHA256 (NAME) = DIGEST`).

use std::{fs::File, io::Read as _, path::Path};

use reqwest::Url;

use super::{
    SourceContext,
    address::{Address, display_url},
};
use crate::{
    error::{Error, Result, Stage},
    settings::keys::DISK_SHA256SUMS,
};

/// Longest list that is read, in bytes.
const LIMIT: u64 = 4 << 20;

/// Returns the SHA-256 of a disk in the list that the settings name, with the list's name; `None` without a list.
///
/// # Errors
/// When the list cannot be read, or does not have the disk's name exactly once.
pub(super) fn expected(
    context: &SourceContext<'_>,
    path: &Path,
    url: Option<&Url>,
) -> Result<Option<(String, String)>> {
    let Some(text) = &context.settings.core().signatures.disk_sums else { return Ok(None) };
    let address = Address::of(DISK_SHA256SUMS.name(), text)?;
    let (list, bytes) = match &address {
        Address::File(file) => {
            let mut bytes = Vec::new();
            let read = File::open(file).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes));
            read.map_err(|error| unreadable(file, &error))?;
            (file.display().to_string(), bytes)
        }
        Address::Url(url) => {
            let bytes = context.downloader()?.fetch_small(url, LIMIT)?;
            let name = display_url(url);
            let bytes = bytes.ok_or_else(|| {
                Error::new(Stage::Source, format!("{DISK_SHA256SUMS}: `{name}` does not exist"))
                    .hint("check the address")
            })?;
            (name, bytes)
        }
    };
    // A downloaded disk has its name in the URL: the file here may be called otherwise.
    let name = url.map_or_else(
        || path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        |url| {
            let last = url.path_segments().and_then(|mut segments| segments.next_back());
            percent_encoding::percent_decode_str(last.unwrap_or_default())
                .decode_utf8_lossy()
                .into_owned()
        },
    );
    let text = String::from_utf8_lossy(&bytes);
    let mut found: Vec<&str> = text
        .lines()
        .filter_map(entry)
        .filter(|(_, other)| *other == name)
        .map(|(digest, _)| digest)
        .collect();
    found.sort_unstable();
    found.dedup();
    match found[..] {
        [only] => Ok(Some((only.to_lowercase(), list))),
        [] => Err(Error::new(Stage::Source, format!("`{list}` has no SHA-256 for `{name}`"))
            .hint("give the list that was published with this file, and keep the file's name")),
        _ => {
            Err(Error::new(Stage::Source, format!("`{list}` has different checksums for `{name}`"))
                .hint("give the list that was published with this file"))
        }
    }
}

fn unreadable(file: &Path, error: &std::io::Error) -> Error {
    let text = format!("{DISK_SHA256SUMS}: cannot read `{}`", file.display());
    Error::new(Stage::Source, text).caused_by(error)
}

/// Returns digest and file name of a line.
fn entry(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_end();
    let (digest, name) = match line.strip_prefix("SHA256 (") {
        Some(rest) => {
            let (name, digest) = rest.rsplit_once(") = ")?;
            (digest, name)
        }
        None => {
            let (digest, name) = line.split_once(' ')?;
            (digest, name.strip_prefix([' ', '*']).unwrap_or(name))
        }
    };
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    // Lists of whole directories name files with their path.
    let name = name.trim_start_matches("./").rsplit('/').next()?;
    (is_digest && !name.is_empty()).then_some((digest, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_all_writers_are_read() {
        let digest = "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef";
        for (line, want) in [
            (format!("{digest}  disk.raw"), Some("disk.raw")),
            (format!("{digest} *disk.raw\r"), Some("disk.raw")),
            (format!("{digest}  ./images/my disk.raw"), Some("my disk.raw")),
            (format!("SHA256 (disk.raw) = {digest}"), Some("disk.raw")),
            (format!("MD5 (disk.raw) = {digest}"), None),
            (format!("{}  disk.raw", &digest[1..]), None),
            (format!("{digest}  "), None),
            ("-----BEGIN PGP SIGNED MESSAGE-----".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(entry(&line).map(|(_, name)| name), want, "{line}");
        }
    }
}
