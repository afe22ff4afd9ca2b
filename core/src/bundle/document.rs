//! Defines `bundle.json`. Its schema is `docs/schemas/bundle-1.json`; what changes its meaning needs another version.

use std::{collections::BTreeMap, path::Path};

use build_image_guest::Attributes;
use build_image_plugin_api::{Architecture, BootMode, DiskSpec, document::Build};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::STATEMENT;
use crate::error::{Error, Result, Stage};

/// Identifies the document.
pub(super) const FORMAT: &str = "build-image bundle";
/// The version that this program writes, and the only one that it reads.
pub(super) const VERSION: u64 = 1;

/// What is in a bundle, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Always `build-image bundle`.
    pub format: String,
    /// Version of the format.
    pub version: u64,
    /// Version of the program that wrote it.
    pub tool: String,
    /// The provider that it is for.
    pub provider: String,
    /// Regions in which it may be registered; absent = any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<String>>,
    /// The time from which on it is refused, UTC, such as `2026-12-29T07:30:00Z`; absent = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// What is registered.
    pub register: ImageRequest,
    /// What was found on the disk; absent when it was not inspected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<Attributes>,
    /// The image.
    pub image: BundledImage,
    /// All members behind this document and its signature, in their order.
    pub members: Vec<BundledMember>,
}

/// The parameters of the registration that belong to the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRequest {
    /// Name of the image.
    pub image_name: String,
    /// Whether the builder chose the name, so that it must be used exactly.
    pub image_name_chosen: bool,
    /// Text for the image's description.
    pub description: String,
    /// Facts of the product inside the image; empty for a plain disk.
    pub product: BTreeMap<String, String>,
    /// `x86_64` or `aarch64`.
    pub architecture: Architecture,
    /// `bios` or `uefi`.
    pub boot_mode: BootMode,
    /// Size that the guest sees, bytes.
    pub virtual_size: u64,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// File name of the image without suffix, from which providers derive names of objects.
    pub file_stem: String,
    /// File name without suffix of the disk inside an archive.
    pub disk_name: String,
}

/// The image in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledImage {
    /// Name of its member.
    pub member: String,
    /// Its format, as the provider requested it.
    pub spec: DiskSpec,
}

/// A member of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledMember {
    /// Its name.
    pub name: String,
    /// Its length, bytes.
    pub length: u64,
    /// Its SHA-256, 64 hexadecimal digits in lower case.
    pub sha256: String,
}

impl ImageRequest {
    /// Takes over what belongs to the image; what belongs to the run stays.
    #[must_use]
    pub fn of(build: &Build) -> Self {
        Self {
            image_name: build.image_name.clone(),
            image_name_chosen: build.image_name_chosen,
            description: build.description.clone(),
            product: build.product.clone(),
            architecture: build.architecture.clone(),
            boot_mode: build.boot_mode.clone(),
            virtual_size: build.virtual_size,
            tags: build.tags.clone(),
            file_stem: build.file_stem.clone(),
            disk_name: build.disk_name.clone(),
        }
    }
}

impl Document {
    /// Creates a document without regions, expiry, facts of the guest, and members.
    #[must_use]
    pub fn new(provider: &str, register: ImageRequest, image: BundledImage) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            provider: provider.to_owned(),
            regions: None,
            expires: None,
            register,
            guest: None,
            image,
            members: Vec::new(),
        }
    }

    /// Parses a document; errors name the file at `path`.
    ///
    /// # Errors
    /// When it has another version, misses a member, or contradicts itself.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let display = path.display();
        let parse_error = |error: &serde_json::Error| {
            Error::new(Stage::Source, format!("bundle.json in `{display}` is invalid"))
                .caused_by(error)
        };
        // A document of another version may have any members.
        let value: Value = serde_json::from_slice(bytes).map_err(|error| parse_error(&error))?;
        if value["format"] != FORMAT {
            let text = format!("bundle.json in `{display}` is not that of a bundle");
            return Err(Error::new(Stage::Source, text));
        }
        if value["version"] != VERSION {
            let version = &value["version"];
            let text = format!(
                "`{display}` has format version {version}, but this build-image reads version {VERSION}"
            );
            return Err(Error::new(Stage::Source, text)
                .hint("publish it with the version of build-image that made it, or a newer one"));
        }
        let document: Self = serde_json::from_slice(bytes).map_err(|error| parse_error(&error))?;
        document.check().map_err(|what| {
            Error::new(Stage::Source, format!("bundle.json in `{display}` is invalid: {what}"))
        })?;
        Ok(document)
    }

    /// Returns the document as it is written.
    #[must_use]
    pub fn text(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        format!("{value:#}\n")
    }

    /// Returns the entry of the image.
    pub(super) fn image_entry(&self) -> Option<&BundledMember> {
        self.members.iter().find(|member| member.name == self.image.member)
    }

    fn check(&self) -> Result<(), String> {
        let names: Vec<&str> = self.members.iter().map(|member| member.name.as_str()).collect();
        if names != [STATEMENT, self.image.member.as_str()] {
            return Err(format!("it lists the members {}", names.join(", ")));
        }
        let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
        for BundledMember { name, sha256, .. } in &self.members {
            if sha256.len() != 64 || !sha256.bytes().all(is_digit) {
                return Err(format!("the SHA-256 of `{name}` is not one"));
            }
        }
        let ImageRequest { file_stem, disk_name, .. } = &self.register;
        for (key, name) in [("file_stem", file_stem), ("disk_name", disk_name)] {
            let is_special = ["", ".", ".."].contains(&name.as_str());
            if is_special || name.contains(|letter: char| letter == '/' || letter.is_control()) {
                return Err(format!("{key} is not a file name"));
            }
        }
        Ok(())
    }
}
