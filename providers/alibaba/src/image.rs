//! Defines what ECS reports about images and tasks, as far as it is used.
//!
//! Source: ECS API documentation, `DescribeImages` and `DescribeTaskAttribute`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::marks::{COPY_OF, read_image, write_image};

/// The answer of `ImportImage` and `CopyImage`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Imported {
    pub(crate) image_id: String,
    #[serde(default)]
    pub(crate) task_id: Option<String>,
}

/// An image as it is listed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Image {
    pub(crate) image_id: String,
    pub(crate) image_name: String,
    pub(crate) status: String,
    pub(crate) progress: String,
    pub(crate) boot_mode: String,
    pub(crate) architecture: String,
    /// In GiB.
    pub(crate) size: Option<u64>,
    pub(crate) features: Features,
    pub(crate) detection_options: Option<Detection>,
    pub(crate) platform: String,
    pub(crate) image_family: String,
    pub(crate) resource_group_id: String,
    pub(crate) description: String,
    /// ISO 8601.
    pub(crate) creation_time: String,
    /// Whether it is a community image.
    pub(crate) is_public: bool,
    tags: Tags,
    #[serde(rename = "DiskDeviceMappings")]
    disks: DiskMappings,
}

/// Capabilities of an image; empty where the service reports nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Features {
    pub(crate) nvme_support: String,
    pub(crate) imds_support: String,
}

/// Report of the check that ECS performs on an image.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Detection {
    /// `Processing` or `Finished`.
    pub(crate) status: String,
    items: DetectionItems,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DetectionItems {
    item: Vec<DetectionItem>,
}

/// One item that was checked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct DetectionItem {
    /// `GUESTOS.` and a word.
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) risk_code: String,
    /// `High`, `Medium` or empty.
    pub(crate) risk_level: String,
}

impl Detection {
    /// All items that were checked.
    pub(crate) fn items(&self) -> &[DetectionItem] {
        &self.items.item
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Tags {
    pub(crate) tag: Vec<Tag>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Tag {
    #[serde(rename = "TagKey", alias = "Key")]
    pub(crate) key: String,
    #[serde(rename = "TagValue", alias = "Value")]
    pub(crate) value: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct DiskMappings {
    #[serde(rename = "DiskDeviceMapping")]
    list: Vec<DiskMapping>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct DiskMapping {
    #[serde(rename = "SnapshotId")]
    snapshot_id: String,
    #[serde(rename = "ImportOSSBucket")]
    bucket: String,
    #[serde(rename = "ImportOSSObject")]
    object: String,
}

impl Image {
    /// Snapshots behind the image's disks.
    pub(crate) fn snapshots(&self) -> Vec<String> {
        let ids = self.disks.list.iter().map(|disk| disk.snapshot_id.clone());
        ids.filter(|id| !id.is_empty()).collect()
    }

    /// Whether the image was imported from this object.
    pub(crate) fn comes_from(&self, bucket: &str, key: &str) -> bool {
        self.disks.list.iter().any(|disk| disk.bucket == bucket && disk.object == key)
    }

    /// All tags of the image.
    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        let tags = self.tags.tag.iter();
        tags.map(|tag| (tag.key.clone(), tag.value.clone())).collect()
    }

    /// The value of a tag.
    pub(crate) fn tag(&self, key: &str) -> Option<&str> {
        let found = self.tags.tag.iter().find(|tag| tag.key == key);
        found.map(|tag| tag.value.as_str())
    }

    /// The image that this one is a copy of, as the value of a finished copy's mark.
    pub(crate) fn copy_of(&self) -> Option<String> {
        let original = read_image(self.tag(COPY_OF)?)?;
        Some(write_image(&original.region?, &original.id))
    }

    /// Whether the image is being imported or copied.
    pub(crate) fn is_being_made(&self) -> bool {
        matches!(self.status.as_str(), "Creating" | "Waiting")
    }

    /// Whether the image has a tag.
    pub(crate) fn is_tagged(&self, key: &str, value: &str) -> bool {
        self.tags.tag.iter().any(|tag| tag.key == key && tag.value == value)
    }
}

/// A task as `DescribeTaskAttribute` returns it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Task {
    pub(crate) task_status: String,
    pub(crate) task_process: String,
    pub(crate) failed_count: Value,
    operation_progress_set: ProgressSet,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ProgressSet {
    #[serde(rename = "OperationProgress")]
    list: Vec<Operation>,
}

/// One part of a task.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Operation {
    pub(crate) operation_status: String,
    pub(crate) error_code: String,
    pub(crate) error_msg: String,
    related_item_set: RelatedItems,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RelatedItems {
    #[serde(rename = "RelatedItem")]
    list: Vec<RelatedItem>,
}

/// What a task works on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RelatedItem {
    name: String,
    value: String,
}

impl Task {
    /// The image that the task makes, where the service names it.
    pub(crate) fn image(&self) -> Option<&str> {
        let mut items = self.operations().iter().flat_map(|part| &part.related_item_set.list);
        items.find(|item| item.name == "ImageId").map(|item| item.value.as_str())
    }

    /// The parts of the task.
    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operation_progress_set.list
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_is_parsed_with_missing_fields() {
        let image: Image = serde_json::from_value(json!({
            "ImageId": "m-1", "Size": 20, "BootMode": "UEFI",
            "Features": {"NvmeSupport": "supported"},
            "Tags": {"Tag": [{"TagKey": "a", "TagValue": "1"}]},
            "DiskDeviceMappings": {"DiskDeviceMapping": [{"SnapshotId": "s-1"}, {"SnapshotId": ""}]},
            "DetectionOptions": {"Status": "Finished", "Items": {"Item": [
                {"Name": "GUESTOS.Virtio", "Value": "no", "RiskLevel": "High", "RiskCode": "x"}]}},
        }))
        .unwrap();
        assert_eq!((image.size, image.boot_mode.as_str()), (Some(20), "UEFI"));
        assert_eq!(image.features.nvme_support, "supported");
        assert_eq!(image.snapshots(), ["s-1"]);
        assert!(image.is_tagged("a", "1") && !image.is_tagged("a", "2"));
        assert_eq!(image.detection_options.unwrap().items()[0].risk_level, "High");
    }
}
