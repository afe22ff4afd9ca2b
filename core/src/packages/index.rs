//! Defines the index of a publisher. Its schema is `docs/schemas/provider-index-1.json`; what changes its meaning needs
//! another version.

use semver::Version;
use serde::Deserialize;

use super::{refused, select::Abi};
use crate::{
    clock,
    error::{Error, Result},
    plugins::{FileKind, is_provider_name},
    signature::MinisignKey,
};

/// Identifies the document.
const FORMAT: &str = "build-image provider index";
/// The version that this program reads.
const VERSION: u64 = 1;
/// Longest name of a publisher, in bytes.
const LONGEST_PUBLISHER: usize = 100;
/// Largest package, in bytes.
const LARGEST: u64 = 1 << 30;

/// What a publisher offers. Unknown members are ignored.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Index {
    format: String,
    version: u64,
    /// Name of the publisher, under which its key is pinned.
    pub(super) publisher: String,
    /// Number of this index; a newer index has a greater one.
    pub(super) serial: u64,
    /// The time from which on the index is refused, UTC.
    pub(super) expires: String,
    /// All packages.
    pub(super) packages: Vec<Release>,
}

/// A version of a provider.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Release {
    /// Name of the provider, as after `-p`.
    pub(super) name: String,
    /// Its version.
    pub(super) version: Version,
    /// The plugin ABI that it was built for, and the oldest that it works with.
    pub(super) abi: Abi,
    /// Its files.
    pub(super) targets: Vec<Target>,
}

/// A file of a version, and what it runs on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Target {
    /// `library` or `program`.
    #[serde(with = "kind")]
    pub(super) kind: FileKind,
    /// `linux`.
    pub(super) os: String,
    /// `x86_64`, `aarch64`, or `any`.
    pub(super) arch: String,
    /// `gnu`, `musl`, or `any`.
    pub(super) libc: String,
    /// Where the file is: a path relative to the index, or an http or https URL.
    pub(super) url: String,
    /// SHA-256 of the file, hexadecimal.
    pub(super) sha256: String,
    /// Length of the file, in bytes.
    pub(super) size: u64,
}

/// The members that are read before the signature is verified: they decide which key verifies it.
#[derive(Deserialize)]
struct Claimed {
    publisher: String,
}

/// Returns the publisher that an index claims to be of. Nothing is verified yet.
///
/// # Errors
/// When it is not an index.
pub(super) fn claimed_publisher(bytes: &[u8], display: &str) -> Result<String> {
    let claimed: Claimed =
        serde_json::from_slice(bytes).map_err(|error| malformed(display, &error.to_string()))?;
    check_publisher(&claimed.publisher).map_err(|what| malformed(display, &what))?;
    Ok(claimed.publisher)
}

/// Verifies the signature of an index, and parses it.
///
/// # Errors
/// When the key did not sign it, it is malformed, or it has expired.
pub(super) fn verified(
    bytes: &[u8],
    signature: &str,
    key: &MinisignKey,
    display: &str,
) -> Result<Index> {
    key.verify_bytes(bytes, signature).map_err(|what| {
        refused(format!(
            "the signature of `{display}` does not verify with key {}: {what}",
            key.id()
        ))
        .hint("ask the publisher; the index, its signature or the key was changed on its way")
    })?;
    let index = parsed(bytes, display)?;
    match clock::is_past(&index.expires) {
        Some(false) => Ok(index),
        Some(true) => Err(refused(format!("`{display}` expired at {}", index.expires)).hint(
            "ask the publisher for a newer index, copy the mirror again, or set this host's clock",
        )),
        None => Err(malformed(display, &format!("`{}` is not a time", index.expires))),
    }
}

/// Parses an index.
///
/// # Errors
/// When it is malformed.
pub(super) fn parsed(bytes: &[u8], display: &str) -> Result<Index> {
    let index: Index =
        serde_json::from_slice(bytes).map_err(|error| malformed(display, &error.to_string()))?;
    index.check().map_err(|what| malformed(display, &what))?;
    Ok(index)
}

impl Index {
    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("its format is `{}`, not `{FORMAT}`", self.format));
        }
        if self.version != VERSION {
            return Err(format!(
                "it has version {}, this build-image reads {VERSION}",
                self.version
            ));
        }
        check_publisher(&self.publisher)?;
        for (number, release) in self.packages.iter().enumerate() {
            let Release { name, version, targets, .. } = release;
            if !is_provider_name(name) {
                return Err(format!("`{name}` is not the name of a provider"));
            }
            let is_same = |one: &Release| one.name == *name && one.version == *version;
            if self.packages[..number].iter().any(is_same) {
                return Err(format!("`{name}` {version} is in it twice"));
            }
            for target in targets {
                target.check().map_err(|what| format!("`{name}` {version}: {what}"))?;
            }
        }
        Ok(())
    }
}

impl Target {
    fn check(&self) -> Result<(), String> {
        check_location(&self.url)?;
        if !is_sha256(&self.sha256) {
            return Err(format!("`{}` is not a SHA-256", self.sha256));
        }
        if self.size == 0 || self.size > LARGEST {
            return Err(format!("a size of {} bytes is not accepted", self.size));
        }
        Ok(())
    }

    /// Returns what it runs on, for messages.
    pub(super) fn display(&self) -> String {
        format!("{} {} {}", self.os, self.arch, self.libc)
    }
}

/// Returns whether a text is a SHA-256 in lower-case hexadecimal digits.
pub(super) fn is_sha256(text: &str) -> bool {
    let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    text.len() == 64 && text.bytes().all(is_digit)
}

/// Checks that a location is an http or https URL, or a relative path of plain names: a mirror is a copied directory,
/// and no index leads out of it.
fn check_location(text: &str) -> Result<(), String> {
    if is_url(text) {
        return Ok(());
    }
    let legal = |letter: char| letter.is_ascii_alphanumeric() || "._+~-".contains(letter);
    let is_name =
        |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(legal);
    if text.split('/').all(is_name) {
        return Ok(());
    }
    Err(format!(
        "`{}` is neither an http or https URL nor a relative path of plain names",
        text.escape_debug()
    ))
}

/// Returns whether a location is an http or https URL.
pub(super) fn is_url(text: &str) -> bool {
    ["http://", "https://"].iter().any(|start| text.starts_with(start))
}

fn check_publisher(name: &str) -> Result<(), String> {
    let legal = |letter: char| {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-.".contains(letter)
    };
    let is_name = !name.is_empty() && !name.starts_with(['-', '.']) && name.chars().all(legal);
    if is_name && name.len() <= LONGEST_PUBLISHER {
        return Ok(());
    }
    Err(format!("`{}` is not the name of a publisher", name.escape_debug()))
}

fn malformed(display: &str, what: &str) -> Error {
    refused(format!("`{display}` is not a provider index that this build-image reads: {what}"))
        .hint("check the address; docs/schemas/provider-index-1.json describes the form")
}

/// Reads and writes the kind of a file as its word.
pub(super) mod kind {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    use crate::plugins::FileKind;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(in crate::packages) fn serialize<S: Serializer>(
        kind: &FileKind,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(kind.word())
    }

    pub(in crate::packages) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<FileKind, D::Error> {
        let word = String::deserialize(deserializer)?;
        let found =
            [FileKind::Library, FileKind::Program].into_iter().find(|kind| kind.word() == word);
        found.ok_or_else(|| D::Error::custom(format!("`{word}` is neither library nor program")))
    }
}
