//! Builds the documents of an image: configuration and manifest. Equal disks with equal settings have equal documents,
//! and so the same digest: no dates, no names of runs.
//!
//! OCI image specification 1.1: "Image Manifest Specification" (with "Guidelines for Artifact Usage"), "Image
//! Configuration", "Annotations".

use build_image_plugin_api::{Architecture, document::Build};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    config::{Config, Kind},
    flow::{Layer, digest_of},
};

/// Media type of manifests.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// What else a tag may refer to.
pub(crate) const ACCEPTED: [&str; 4] = [
    MANIFEST,
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// A blob, as a manifest refers to it ("Content Descriptors").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
}

/// A document with its digest.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) media_type: &'static str,
    pub(crate) bytes: Bytes,
    pub(crate) digest: String,
}

impl Document {
    fn new(media_type: &'static str, value: &Value) -> Self {
        let bytes = Bytes::from(value.to_string());
        let digest = digest_of(&bytes);
        Self { media_type, bytes, digest }
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// Returns the configuration: that of an image, or the empty one of artifacts.
pub(crate) fn configuration(config: &Config, build: &Build, layer: &Layer) -> Document {
    match config.kind {
        Kind::Artifact => Document::new("application/vnd.oci.empty.v1+json", &json!({})),
        Kind::ContainerDisk => Document::new(
            "application/vnd.oci.image.config.v1+json",
            &json!({
                "architecture": architecture(&build.architecture),
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
                "history": [{"created_by": "build-image"}],
            }),
        ),
    }
}

/// Returns Go's name of an architecture, as image configurations have it.
fn architecture(architecture: &Architecture) -> String {
    match architecture {
        Architecture::X86_64 | Architecture::Unknown => "amd64".to_owned(),
        Architecture::Aarch64 => "arm64".to_owned(),
        other => other.to_string(),
    }
}

/// Returns the descriptor of the layer.
pub(crate) fn descriptor(config: &Config, layer: &Layer) -> Descriptor {
    let plain = match config.kind {
        Kind::ContainerDisk => "application/vnd.oci.image.layer.v1.tar",
        Kind::Artifact => &config.media_type,
    };
    Descriptor {
        media_type: format!("{plain}{}", config.compression.media_suffix()),
        digest: layer.digest.clone(),
        size: layer.size,
    }
}

/// Returns the manifest.
pub(crate) fn manifest(
    config: &Config,
    build: &Build,
    configuration: &Document,
    layer: &Descriptor,
) -> Document {
    let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST});
    let mut blob = json!(layer);
    if config.kind == Kind::Artifact {
        manifest["artifactType"] = json!(config.artifact_type);
        // `oras pull` writes the layer to a file of this name.
        blob["annotations"] = json!({"org.opencontainers.image.title": file_name(config, build)});
    }
    manifest["config"] = configuration.descriptor();
    manifest["layers"] = json!([blob]);
    manifest["annotations"] = annotations(config, build);
    Document::new(MANIFEST, &manifest)
}

/// Returns the name of the disk file of an artifact.
fn file_name(config: &Config, build: &Build) -> String {
    let (suffix, compression) = (config.disk.file_suffix(), config.compression.file_suffix());
    format!("{}.{suffix}{compression}", config.title(build))
}

fn annotations(config: &Config, build: &Build) -> Value {
    let mut annotations = Map::new();
    let fact = |name: &str| build.product.get(name).cloned().unwrap_or_default();
    // The description of a plain disk is the image name, which may be composed.
    let description = Some(build.description.as_str()).filter(|text| *text != build.image_name);
    let description = description.unwrap_or_default();
    let automatic = [
        ("org.opencontainers.image.title", config.title(build)),
        ("org.opencontainers.image.version", fact("version")),
        ("org.opencontainers.image.description", description.to_owned()),
    ];
    for (key, value) in automatic.into_iter().filter(|(_, value)| !value.is_empty()) {
        annotations.insert(key.to_owned(), value.into());
    }
    for (key, value) in &config.annotations {
        annotations.insert(key.clone(), value.clone().into());
    }
    annotations.sort_keys();
    annotations.into()
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::Settings;

    use super::*;

    fn documents(more: &[(&str, Value)]) -> (Value, Value, Document) {
        let mut values = vec![("OCI_REFERENCE", json!("registry.example.com/a:1"))];
        values.extend(more.iter().map(|(key, value)| (*key, value.clone())));
        let values = values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let config = Config::read(&Settings::from_values(values)).unwrap();
        let build = Build::default().image_name("debian-13".to_owned());
        let layer = Layer { digest: "sha256:aa".into(), size: 7, diff_id: "sha256:bb".into() };
        let configuration = configuration(&config, &build, &layer);
        let manifest = manifest(&config, &build, &configuration, &descriptor(&config, &layer));
        let json = |document: &Document| serde_json::from_slice(&document.bytes).unwrap();
        (json(&configuration), json(&manifest), manifest)
    }

    #[test]
    fn a_container_disk_is_an_image_with_one_layer() {
        let (configuration, manifest, document) = documents(&[
            ("OCI_LAYER_COMPRESSION", json!("gzip")),
            ("OCI_ANNOTATIONS", json!({"z": 1, "a": "b", "org.opencontainers.image.title": "x"})),
        ]);
        assert_eq!(configuration["architecture"], "amd64");
        assert_eq!(configuration["rootfs"], json!({"type": "layers", "diff_ids": ["sha256:bb"]}));
        assert_eq!(
            manifest["layers"],
            json!([{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:aa", "size": 7}])
        );
        assert_eq!(
            manifest["annotations"],
            json!({"z": "1", "a": "b", "org.opencontainers.image.title": "x"})
        );
        assert!(manifest.get("artifactType").is_none());
        assert_eq!(document.digest, digest_of(&document.bytes));
        assert_eq!(documents(&[]).2.digest, documents(&[]).2.digest);
    }

    #[test]
    fn an_artifact_has_the_empty_configuration_and_the_name_of_the_file() {
        let kind = ("OCI_KIND", json!("artifact"));
        for (more, media, title) in [
            (vec![], "application/x-qemu-disk", "a-1.qcow2"),
            (
                vec![("OCI_DISK_FORMAT", json!("raw")), ("OCI_LAYER_COMPRESSION", json!("zstd"))],
                "application/x-raw-disk-image+zstd",
                "a-1.raw.zst",
            ),
            (vec![("OCI_MEDIA_TYPE", json!("a/b"))], "a/b", "a-1.qcow2"),
        ] {
            let (_, manifest, _) = documents(&[std::slice::from_ref(&kind), &more[..]].concat());
            // The digest of `{}` as the specification prints it.
            assert_eq!(
                manifest["config"],
                json!({"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
                    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"})
            );
            assert_eq!(manifest["layers"][0]["mediaType"], media);
            assert_eq!(
                manifest["layers"][0]["annotations"]["org.opencontainers.image.title"],
                title
            );
            assert_eq!(manifest["artifactType"], "application/vnd.build-image.disk.v1");
        }
    }
}
