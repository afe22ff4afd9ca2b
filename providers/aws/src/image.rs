//! Images and snapshots as EC2 shows them.

use std::collections::BTreeMap;

use build_image_plugin_api::document::Reference;
use serde::{Deserialize, Serialize};

use crate::{
    ec2::Items,
    marks::{self, COPY_OF, MARK, read_image},
};

/// What the service writes before the source in the description of a snapshot that it copied with an image.
const COPIED: &str = " from SourceAmi ";

/// A tag.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct Tag {
    key: String,
    value: String,
}

/// A volume of an image.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Ebs {
    pub(crate) snapshot_id: Option<String>,
    pub(crate) volume_size: Option<u64>,
    pub(crate) delete_on_termination: Option<bool>,
    pub(crate) volume_type: Option<String>,
    pub(crate) iops: Option<u64>,
    pub(crate) throughput: Option<u64>,
    pub(crate) encrypted: Option<bool>,
}

/// A device of an image.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Device {
    pub(crate) device_name: String,
    pub(crate) virtual_name: Option<String>,
    pub(crate) ebs: Option<Ebs>,
}

/// Why something is in its state.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Reason {
    pub(crate) message: String,
}

/// An image.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Image {
    pub(crate) image_id: String,
    pub(crate) image_state: String,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) architecture: Option<String>,
    pub(crate) boot_mode: Option<String>,
    pub(crate) ena_support: Option<bool>,
    pub(crate) sriov_net_support: Option<String>,
    pub(crate) imds_support: Option<String>,
    pub(crate) tpm_support: Option<String>,
    pub(crate) root_device_name: Option<String>,
    pub(crate) virtualization_type: Option<String>,
    pub(crate) creation_date: Option<String>,
    pub(crate) deprecation_time: Option<String>,
    #[serde(rename = "imageOwnerId")]
    pub(crate) owner: Option<String>,
    pub(crate) is_public: Option<bool>,
    /// Begins with `enabled` or `disabled`.
    pub(crate) deregistration_protection: Option<String>,
    /// Set for copies, by whomever.
    pub(crate) source_image_id: Option<String>,
    pub(crate) source_image_region: Option<String>,
    pub(crate) state_reason: Option<Reason>,
    pub(crate) block_device_mapping: Items<Device>,
    pub(crate) tag_set: Items<Tag>,
}

/// A snapshot.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Snapshot {
    pub(crate) snapshot_id: String,
    /// `pending`, `completed`, `error`, `recoverable`, `recovering`.
    pub(crate) status: String,
    pub(crate) status_message: Option<String>,
    pub(crate) progress: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) owner_id: Option<String>,
    pub(crate) start_time: Option<String>,
    /// GiB.
    pub(crate) volume_size: Option<u64>,
    pub(crate) full_snapshot_size_in_bytes: Option<u64>,
    pub(crate) encrypted: Option<bool>,
    pub(crate) kms_key_id: Option<String>,
    pub(crate) tag_set: Items<Tag>,
}

/// Returns tags as a map.
pub(crate) fn map(tags: &Items<Tag>) -> BTreeMap<String, String> {
    tags.item.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect()
}

fn tag<'a>(tags: &'a Items<Tag>, key: &str) -> Option<&'a str> {
    tags.item.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
}

impl Image {
    /// Whether the image is still registered, or about to be.
    pub(crate) fn exists(&self) -> bool {
        self.image_state != "deregistered"
    }

    /// Returns the tags.
    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        map(&self.tag_set)
    }

    /// Returns a tag.
    pub(crate) fn tag(&self, key: &str) -> Option<&str> {
        tag(&self.tag_set, key)
    }

    /// Returns the image that this one is a copy of, from its marks.
    pub(crate) fn copy_of(&self) -> Option<Reference> {
        self.tag(COPY_OF).and_then(read_image)
    }

    /// Returns the run that created the image; `None` for any other image, also for a copy that has inherited the marks.
    pub(crate) fn run(&self) -> Option<&str> {
        let run = self.tag(MARK).filter(|run| !run.is_empty())?;
        let Some(id) = self.source_image_id.as_deref().filter(|id| !id.is_empty()) else {
            return Some(run);
        };
        let original = self.copy_of()?;
        let region = self.source_image_region.as_ref().filter(|region| !region.is_empty());
        let same_region = region.is_none_or(|region| original.region.as_ref() == Some(region));
        (original.id == id && same_region).then_some(run)
    }

    /// Whether a run created the image.
    pub(crate) fn is_of(&self, run: &str) -> bool {
        self.run() == Some(run)
    }

    /// Whether the image is a copy that its run has not finished.
    pub(crate) fn is_unfinished_copy(&self) -> bool {
        self.tag(COPY_OF).is_some_and(marks::is_unfinished)
    }

    /// Whether the image is being registered or copied.
    pub(crate) fn is_pending(&self) -> bool {
        ["pending", "transient"].contains(&self.image_state.as_str())
    }

    /// Whether every account may use the image.
    pub(crate) fn is_public(&self) -> bool {
        self.is_public == Some(true)
    }

    /// Returns the ids of its snapshots.
    pub(crate) fn snapshots(&self) -> Vec<String> {
        let devices = self.block_device_mapping.item.iter();
        devices.filter_map(|device| device.ebs.as_ref()?.snapshot_id.clone()).collect()
    }

    /// Returns the parameters that register the image again from its snapshots.
    pub(crate) fn parameters(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        let mut add = |name: String, value: Option<String>| {
            all.extend(value.filter(|value| !value.is_empty()).map(|value| (name, value)));
        };
        add("Name".to_owned(), Some(self.name.clone()));
        for (name, value) in [
            ("Description", &self.description),
            ("Architecture", &self.architecture),
            ("BootMode", &self.boot_mode),
            ("SriovNetSupport", &self.sriov_net_support),
            ("ImdsSupport", &self.imds_support),
            ("TpmSupport", &self.tpm_support),
            ("RootDeviceName", &self.root_device_name),
            ("VirtualizationType", &self.virtualization_type),
        ] {
            add(name.to_owned(), value.clone());
        }
        add("EnaSupport".to_owned(), self.ena_support.map(|value| value.to_string()));
        for (position, device) in self.block_device_mapping.item.iter().enumerate() {
            let name = |end: &str| format!("BlockDeviceMapping.{}.{end}", position + 1);
            add(name("DeviceName"), Some(device.device_name.clone()));
            add(name("VirtualName"), device.virtual_name.clone());
            let Some(ebs) = &device.ebs else { continue };
            let number = |value: Option<u64>| value.map(|value| value.to_string());
            // EC2 shows IOPS of gp2 volumes, which cannot be set.
            let settable = matches!(ebs.volume_type.as_deref(), Some("gp3" | "io1" | "io2"));
            for (end, value) in [
                ("Ebs.SnapshotId", ebs.snapshot_id.clone()),
                ("Ebs.VolumeSize", number(ebs.volume_size)),
                ("Ebs.VolumeType", ebs.volume_type.clone()),
                ("Ebs.Iops", number(ebs.iops.filter(|_| settable))),
                ("Ebs.Throughput", number(ebs.throughput)),
                ("Ebs.DeleteOnTermination", ebs.delete_on_termination.map(|is| is.to_string())),
            ] {
                add(name(end), value);
            }
        }
        all
    }
}

impl Snapshot {
    /// Returns the tags.
    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        map(&self.tag_set)
    }

    /// Returns a tag.
    pub(crate) fn tag(&self, key: &str) -> Option<&str> {
        tag(&self.tag_set, key)
    }

    /// Returns the run that created the snapshot; `None` for any other, also for one that was copied with its image by
    /// another program and has inherited the marks.
    pub(crate) fn run(&self) -> Option<&str> {
        let run = self.tag(MARK).filter(|run| !run.is_empty())?;
        let description = self.description.as_deref().unwrap_or_default();
        let Some((_, rest)) = description.split_once(COPIED) else { return Some(run) };
        let source = rest.split(' ').next().unwrap_or_default();
        let original = self.tag(COPY_OF).and_then(read_image)?;
        (original.id == source).then_some(run)
    }

    /// Whether a run created the snapshot.
    pub(crate) fn is_of(&self, run: &str) -> bool {
        self.run() == Some(run)
    }

    /// Returns the percentage that is complete.
    pub(crate) fn percent(&self) -> u64 {
        let text = self.progress.as_deref().unwrap_or_default();
        text.trim().trim_end_matches('%').parse().unwrap_or(0).min(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(tags: &[(&str, &str)]) -> Items<Tag> {
        let tag = |(key, value): &(&str, &str)| Tag { key: (*key).into(), value: (*value).into() };
        Items { item: tags.iter().map(tag).collect() }
    }

    #[test]
    fn a_copy_by_another_program_has_the_marks_and_is_not_of_the_run() {
        let (run, home) = ((MARK, "r-1"), (COPY_OF, "eu-west-1/ami-1"));
        let unfinished = (COPY_OF, "eu-west-1/ami-1+unfinished");
        for (tags, source, region, expected) in [
            (&[run][..], None, None, Some("r-1")),
            (&[run], Some("ami-1"), Some("eu-west-1"), None),
            (&[run, home], Some("ami-1"), Some("eu-west-1"), Some("r-1")),
            (&[run, unfinished], Some("ami-1"), None, Some("r-1")),
            (&[run, home], Some("ami-2"), Some("eu-west-1"), None),
            (&[run, home], Some("ami-1"), Some("eu-west-2"), None),
            (&[(MARK, "")], None, None, None),
            (&[], None, None, None),
        ] {
            let image = Image {
                tag_set: tagged(tags),
                source_image_id: source.map(str::to_owned),
                source_image_region: region.map(str::to_owned),
                ..Image::default()
            };
            assert_eq!(image.run(), expected, "{tags:?} {source:?} {region:?}");
        }
        let text =
            "Copied for DestinationAmi ami-9 from SourceAmi ami-1 for SourceSnapshot snap-1.";
        for (tags, description, expected) in [
            (&[run][..], "a disk", Some("r-1")),
            (&[run], text, None),
            (&[run, home], text, Some("r-1")),
            (&[run, (COPY_OF, "eu-west-1/ami-2")], text, None),
        ] {
            let snapshot = Snapshot {
                tag_set: tagged(tags),
                description: Some(description.to_owned()),
                ..Snapshot::default()
            };
            assert_eq!(snapshot.run(), expected, "{tags:?} {description}");
        }
    }
}
