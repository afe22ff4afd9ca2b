//! Images and snapshots as EC2 shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ec2::Items;

/// Tag that marks what a run created; its value is the run.
pub(crate) const MARK: &str = "build-image-run";

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
    pub(crate) tag_set: Items<Tag>,
}

fn map(tags: &Items<Tag>) -> BTreeMap<String, String> {
    tags.item.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect()
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

    /// Whether a run created the image.
    pub(crate) fn is_of(&self, run: &str) -> bool {
        self.tags().get(MARK).is_some_and(|mark| mark == run)
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
    /// Whether a run created the snapshot.
    pub(crate) fn is_of(&self, run: &str) -> bool {
        map(&self.tag_set).get(MARK).is_some_and(|mark| mark == run)
    }

    /// Returns the percentage that is complete.
    pub(crate) fn percent(&self) -> u64 {
        let text = self.progress.as_deref().unwrap_or_default();
        text.trim().trim_end_matches('%').parse().unwrap_or(0).min(100)
    }
}
