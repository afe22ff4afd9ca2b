//! Defines the documents: the state of each OSS and ECS resource. Times are milliseconds since 1970.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blobs::Segment;
use super::table::Document;
use crate::clock::Millis;
use crate::faults::CheckItem;
use crate::service::ACCOUNT_ID;

/// The owner of what was stored before there was a second account.
fn first_account() -> String {
    ACCOUNT_ID.to_owned()
}

/// An OSS bucket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    /// Region id without the `oss-` prefix.
    pub(crate) region: String,
    pub(crate) created: Millis,
    /// Default encryption of objects whose writers do not specify one.
    #[serde(default)]
    pub(crate) encryption: Option<Encryption>,
    /// Whether transfer acceleration is enabled; `None` when it was never set.
    #[serde(default)]
    pub(crate) acceleration: Option<bool>,
    /// Account that owns it.
    #[serde(default = "first_account")]
    pub(crate) owner: String,
}

/// A bucket's default encryption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Encryption {
    /// `AES256`, `KMS` or `SM4`.
    pub(crate) algorithm: String,
    /// Key id; empty: the service's own key.
    pub(crate) key: String,
}

impl Document for Bucket {
    const KIND: &'static str = "buckets";
    fn key(&self) -> String {
        self.name.clone()
    }
}

/// Key of an object in its table; objects of one bucket are adjacent in key order.
pub(crate) fn object_key(bucket: &str, key: &str) -> String {
    format!("{bucket}/{key}")
}

/// An OSS object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Object {
    pub(crate) bucket: String,
    pub(crate) name: String,
    pub(crate) length: u64,
    pub(crate) crc64: u64,
    /// Without quotes.
    pub(crate) etag: String,
    pub(crate) modified: Millis,
    /// `Normal` or `Multipart`.
    pub(crate) object_type: String,
    /// Headers to return: content type and the like, and `x-oss-meta-*`.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) segments: Vec<Segment>,
}

impl Document for Object {
    const KIND: &'static str = "objects";
    fn key(&self) -> String {
        object_key(&self.bucket, &self.name)
    }
}

/// An open multipart upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) bucket: String,
    pub(crate) name: String,
    pub(crate) initiated: Millis,
    pub(crate) headers: BTreeMap<String, String>,
    /// Shared body file of equally sized parts.
    pub(crate) blob: String,
    /// Length of the first part that was received, in bytes.
    pub(crate) part_size: Option<u64>,
}

impl Document for Upload {
    const KIND: &'static str = "uploads";
    fn key(&self) -> String {
        self.id.clone()
    }
}

/// Key of a part in its table; parts of one upload are adjacent in order of number.
pub(crate) fn part_key(upload: &str, number: u16) -> String {
    format!("{upload}-{number:05}")
}

/// A finished part of an open upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) upload: String,
    pub(crate) number: u16,
    pub(crate) crc64: u64,
    /// Without quotes.
    pub(crate) etag: String,
    pub(crate) modified: Millis,
    pub(crate) segment: Segment,
}

impl Document for Part {
    const KIND: &'static str = "parts";
    fn key(&self) -> String {
        part_key(&self.upload, self.number)
    }
}

/// Result of inspecting an imported object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// A disk that ECS can use.
    Good {
        /// Virtual size in bytes.
        virtual_size: u64,
        /// `RAW`, `QCOW2`, `VHD`.
        format: String,
    },
    /// Refused; both texts are returned in the task's OperationProgress.
    Bad {
        /// Error code.
        code: String,
        /// Error message.
        message: String,
    },
}

/// An import over time: all its answers follow from the clock and the verdict.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) image: String,
    pub(crate) created: Millis,
    /// Minimum duration of the import, in milliseconds.
    pub(crate) lasts: Millis,
    pub(crate) verdict: Option<Verdict>,
    /// A failed import is reported as `Finished` with a failed operation, not as `Failed`.
    pub(crate) finished_though_failed: bool,
    pub(crate) cancelled: Option<Millis>,
    /// Account that owns it.
    #[serde(default = "first_account")]
    pub(crate) owner: String,
}

impl Document for Task {
    const KIND: &'static str = "tasks";
    fn key(&self) -> String {
        self.id.clone()
    }
}

/// An ECS image, made by an import or a copy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Image {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) family: String,
    pub(crate) created: Millis,
    /// The import that makes it.
    pub(crate) task: Option<String>,
    /// Time until which it stays `Creating`, in milliseconds (a running copy, or the pause after an import's
    /// task).
    pub(crate) creating_until: Option<Millis>,
    /// Image it is a copy of.
    #[serde(default)]
    pub(crate) copied_from: Option<String>,
    /// Start of a copy that waits for others.
    #[serde(default)]
    pub(crate) copy_starts: Option<Millis>,
    pub(crate) deprecated: bool,
    /// Whether a copy ends as a failed one.
    #[serde(default)]
    pub(crate) failed: bool,
    pub(crate) architecture: String,
    pub(crate) os_type: String,
    pub(crate) platform: String,
    pub(crate) boot_mode: String,
    pub(crate) license_type: String,
    pub(crate) nvme: String,
    pub(crate) imds: String,
    pub(crate) detection: String,
    /// Findings of the image check.
    #[serde(default)]
    pub(crate) check_items: Vec<CheckItem>,
    pub(crate) resource_group: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) shared_with: Vec<String>,
    pub(crate) public: bool,
    pub(crate) disks: Vec<Disk>,
    /// Account that owns it.
    #[serde(default = "first_account")]
    pub(crate) owner: String,
}

/// One disk of an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Disk {
    pub(crate) snapshot: String,
    /// `system` or `data`.
    pub(crate) kind: String,
    pub(crate) device: String,
    /// In GiB.
    pub(crate) size: u64,
    /// As requested; empty: detected from the bytes.
    pub(crate) format: String,
    pub(crate) bucket: String,
    pub(crate) object: String,
    /// The bytes, kept although the object may be deleted.
    pub(crate) segments: Vec<Segment>,
}

impl Document for Image {
    const KIND: &'static str = "images";
    fn key(&self) -> String {
        self.id.clone()
    }
}

/// A snapshot behind an image's disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) id: String,
    pub(crate) region: String,
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) created: Millis,
    /// `system` or `data`.
    pub(crate) kind: String,
    /// In GiB.
    pub(crate) size: u64,
    pub(crate) tags: BTreeMap<String, String>,
    /// Key that encrypts it; empty: the account's default key; `None`: it is not encrypted.
    #[serde(default)]
    pub(crate) kms_key: Option<String>,
    /// Account that owns it.
    #[serde(default = "first_account")]
    pub(crate) owner: String,
}

impl Document for Snapshot {
    const KIND: &'static str = "snapshots";
    fn key(&self) -> String {
        self.id.clone()
    }
}

/// A client token with the call it stands for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Token {
    /// `<action>/<region>/<token>`.
    pub(crate) name: String,
    /// SHA-256 over the call's parameters.
    pub(crate) parameters: String,
    pub(crate) image: String,
    pub(crate) task: String,
    pub(crate) created: Millis,
}

impl Document for Token {
    const KIND: &'static str = "tokens";
    fn key(&self) -> String {
        self.name.clone()
    }
}
