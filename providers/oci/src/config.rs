//! Parses the settings into types. It makes no requests; `check` verifies the values against the registry.

use std::{collections::BTreeMap, time::Duration};

use build_image_plugin_api::{DiskFormat, DiskSpec, Error, Result, Settings, document::Build};
use serde_json::Value;

use crate::{
    disk,
    reference::{Reference, TAG_RULE, is_tag},
};

/// Fewest bytes per request: each costs a round trip and a record in the journal.
const SHORTEST_CHUNK: u64 = 64 << 10;

/// Everything that the user configured.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where the image goes.
    pub(crate) reference: Reference,
    /// How the registry is reached.
    pub(crate) access: Access,
    /// What the image is.
    pub(crate) kind: Kind,
    /// The disk in it.
    pub(crate) disk: DiskSpec,
    /// Compression of the layer.
    pub(crate) compression: LayerCompression,
    /// Further tags, each once.
    pub(crate) tags: Vec<String>,
    /// Whether tags of other images are moved.
    pub(crate) replace: bool,
    /// Annotations of the manifest.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Type of an artifact.
    pub(crate) artifact_type: String,
    /// Media type of the disk in an artifact, without its compression.
    pub(crate) media_type: String,
    /// Bytes per request; 0: one request.
    pub(crate) chunk: u64,
    /// Attempts to send a layer.
    pub(crate) attempts: u32,
    /// Longest time without a byte moved.
    pub(crate) stall: Duration,
    /// Shortest time for which failed calls are repeated.
    pub(crate) retry_time: Duration,
}

/// How the registry is reached, and who the user is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    pub(crate) tls: Tls,
    pub(crate) ca_file: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) auth_file: Option<String>,
}

/// Protection of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Certificates are verified; only a server on this machine may speak plain HTTP.
    #[default]
    Verify,
    /// Every certificate is accepted.
    Insecure,
    /// Plain HTTP.
    Off,
}

/// What the image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An image with one layer, a tar archive with the disk at `disk/disk.img`.
    ContainerDisk,
    /// A manifest whose only layer is the disk.
    Artifact,
}

/// Compression of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LayerCompression {
    #[default]
    None,
    Gzip,
    Zstd,
}

impl LayerCompression {
    /// Returns the suffix of media types (OCI image specification 1.1, "Layer media types").
    pub(crate) const fn media_suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
        }
    }

    /// Returns the suffix of file names.
    pub(crate) const fn file_suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// Config errors naming the key; `unsupported` for disk formats that are not put into registries.
    pub(crate) fn read(settings: &Settings) -> Result<Self> {
        let text =
            |key: &str| settings.text(key).filter(|text| !text.is_empty()).map(str::to_owned);
        let seconds =
            |key: &str, otherwise| Duration::from_secs(settings.integer(key).unwrap_or(otherwise));
        let disk = disk::spec(settings)?;
        let attempts = settings.integer("OCI_UPLOAD_ATTEMPTS").unwrap_or(5);
        let config = Self {
            reference: Reference::parse(settings.require("OCI_REFERENCE")?)?,
            access: Access {
                tls: match settings.text("OCI_TLS") {
                    Some("insecure") => Tls::Insecure,
                    Some("off") => Tls::Off,
                    _ => Tls::Verify,
                },
                ca_file: text("OCI_CA_FILE"),
                username: text("OCI_USERNAME"),
                auth_file: text("OCI_AUTH_FILE"),
            },
            kind: match settings.text("OCI_KIND") {
                Some("artifact") => Kind::Artifact,
                _ => Kind::ContainerDisk,
            },
            compression: match settings.text("OCI_LAYER_COMPRESSION") {
                Some("gzip") => LayerCompression::Gzip,
                Some("zstd") => LayerCompression::Zstd,
                _ => LayerCompression::None,
            },
            tags: tags(settings)?,
            replace: settings.text("OCI_IF_EXISTS") == Some("replace"),
            annotations: annotations(settings)?,
            artifact_type: media_type(settings, "OCI_ARTIFACT_TYPE")?
                .unwrap_or_else(|| "application/vnd.build-image.disk.v1".to_owned()),
            media_type: media_type(settings, "OCI_MEDIA_TYPE")?.unwrap_or_else(|| {
                // The types of these files in the database of freedesktop.org (shared-mime-info).
                let raw = disk.format == DiskFormat::Raw;
                if raw { "application/x-raw-disk-image" } else { "application/x-qemu-disk" }
                    .to_owned()
            }),
            chunk: settings.integer("OCI_CHUNK_SIZE").unwrap_or(32 << 20),
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX).max(1),
            stall: seconds("OCI_UPLOAD_STALL_TIMEOUT", 120),
            retry_time: seconds("OCI_RETRY_TIME", 60),
            disk,
        };
        config.contradictions(settings)?;
        Ok(config)
    }

    fn contradictions(&self, settings: &Settings) -> Result<()> {
        if (1..SHORTEST_CHUNK).contains(&self.chunk) {
            return Err(Error::config(format!("`OCI_CHUNK_SIZE` is {} bytes", self.chunk))
                .with_hint("use at least 64KiB, or 0 to send everything in one request"));
        }
        if self.kind == Kind::ContainerDisk {
            for key in ["OCI_ARTIFACT_TYPE", "OCI_MEDIA_TYPE"] {
                if settings.text(key).is_some_and(|text| !text.is_empty()) {
                    let message = format!(
                        "`{key}` has no meaning for a container disk, whose media types are fixed"
                    );
                    return Err(Error::config(message)
                        .with_hint(format!("unset {key}, or set OCI_KIND=artifact")));
                }
            }
        }
        if self.access.tls != Tls::Verify && self.access.ca_file.is_some() {
            let word = settings.text("OCI_TLS").unwrap_or_default();
            return Err(Error::config(format!("`OCI_CA_FILE` is set, and `OCI_TLS` is `{word}`"))
                .with_hint("unset OCI_TLS to verify the registry's certificate with the file"));
        }
        Ok(())
    }

    /// Returns the name of a build's image. A composed name differs with every build, so it is not used beside a tag:
    /// equal disks must have equal manifests.
    pub(crate) fn title(&self, build: &Build) -> String {
        let repository = &self.reference.repository;
        let last = repository.rsplit('/').next().unwrap_or(repository);
        match &self.reference.tag {
            Some(tag) if !build.image_name_chosen => format!("{last}-{tag}"),
            _ => build.image_name.clone(),
        }
    }

    /// Returns all tags of a build's image, each once, starting with that of the reference.
    pub(crate) fn all_tags(&self, build: &Build) -> Vec<String> {
        let first = self.reference.tag.clone().unwrap_or_else(|| build.image_name.clone());
        let mut tags = vec![first];
        for tag in &self.tags {
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        tags.retain(|tag| !tag.is_empty());
        tags
    }
}

/// The text of a scalar: in YAML `13` is a number.
fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn tags(settings: &Settings) -> Result<Vec<String>> {
    let values = settings.parsed::<Vec<Value>>("OCI_TAGS")?;
    let tags: Vec<String> = values.iter().map(scalar).collect();
    match tags.iter().find(|tag| !is_tag(tag)) {
        Some(tag) => Err(Error::config(format!("`OCI_TAGS` has `{tag}`, which is not a tag"))
            .with_hint(TAG_RULE)),
        None => Ok(tags),
    }
}

/// Reads the annotations. Keys have letters that a manifest shows unchanged (OCI image specification 1.1,
/// "Annotations").
fn annotations(settings: &Settings) -> Result<BTreeMap<String, String>> {
    let values = settings.parsed::<BTreeMap<String, Value>>("OCI_ANNOTATIONS")?;
    for (key, value) in &values {
        if key.is_empty() || key.chars().any(|letter| letter.is_control() || letter.is_whitespace())
        {
            return Err(Error::config(format!("`OCI_ANNOTATIONS` has the key `{key}`"))
                .with_hint("use keys without spaces, for example `com.example.team`"));
        }
        if value.is_object() || value.is_array() || value.is_null() {
            return Err(Error::config(format!("`OCI_ANNOTATIONS` has no text for `{key}`"))
                .with_hint("write `{com.example.team: images}`"));
        }
    }
    Ok(values.into_iter().map(|(key, value)| (key, scalar(&value))).collect())
}

/// Reads a media type (RFC 6838 section 4.2).
fn media_type(settings: &Settings, key: &str) -> Result<Option<String>> {
    let Some(text) = settings.text(key).filter(|text| !text.is_empty()) else { return Ok(None) };
    let is_name = |name: &str| {
        (1..=127).contains(&name.len())
            && name.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            && name
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "!#$&-^_.+".contains(letter))
    };
    if text.split_once('/').is_some_and(|(kind, name)| is_name(kind) && is_name(name)) {
        return Ok(Some(text.to_owned()));
    }
    Err(Error::config(format!("`{key}` is `{text}`, which is not a media type"))
        .with_hint("write it as `application/vnd.example.disk.v1`"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(values: &[(&str, Value)]) -> Result<Config> {
        let mut all = vec![("OCI_REFERENCE", json!("registry.example.com/a:1"))];
        all.extend(values.iter().map(|(key, value)| (*key, value.clone())));
        let values = all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Config::read(&Settings::from_values(values))
    }

    #[test]
    fn values_that_mean_nothing_are_refused_with_their_key() {
        for (values, text) in [
            (vec![("OCI_ARTIFACT_TYPE", json!("a/b"))], "`OCI_ARTIFACT_TYPE` has no meaning"),
            (vec![("OCI_MEDIA_TYPE", json!("a/b"))], "`OCI_MEDIA_TYPE` has no meaning"),
            (
                vec![("OCI_KIND", json!("artifact")), ("OCI_MEDIA_TYPE", json!("disk"))],
                "is not a media type",
            ),
            (vec![("OCI_CHUNK_SIZE", json!(65_535))], "is 65535 bytes"),
            (vec![("OCI_TAGS", json!(["a", "b c"]))], "`b c`, which is not a tag"),
            (vec![("OCI_ANNOTATIONS", json!({"a b": "c"}))], "the key `a b`"),
            (vec![("OCI_ANNOTATIONS", json!({"a": [1]}))], "no text for `a`"),
            (
                vec![("OCI_TLS", json!("off")), ("OCI_CA_FILE", json!("ca.pem"))],
                "`OCI_TLS` is `off`",
            ),
        ] {
            let error = read(&values).unwrap_err();
            assert!(error.message.contains(text) && error.hint.is_some(), "{error}");
        }
    }

    #[test]
    fn each_tag_counts_once_and_the_image_name_is_the_tag_of_a_reference_without_one() {
        let build = Build::default().image_name("debian-13".to_owned());
        let config = read(&[("OCI_TAGS", json!([13, "latest", "1", "latest"]))]).unwrap();
        assert_eq!(config.all_tags(&build), ["1", "13", "latest"]);
        assert_eq!(config.title(&build), "a-1");
        assert_eq!(config.title(&build.clone().image_name_chosen(true)), "debian-13");
        let plain = ("OCI_REFERENCE", json!("registry.example.com/a"));
        let config = read(&[plain, ("OCI_TAGS", json!(["debian-13", 7.5]))]).unwrap();
        assert_eq!(config.all_tags(&build), ["debian-13", "7.5"]);
        assert_eq!(config.title(&build), "debian-13");
    }
}
