//! Lists images, snapshots and tasks of a region, and objects and unfinished uploads of a bucket, over all pages.
//!
//! Source: ECS API documentation, `DescribeImages`, `DescribeSnapshots`, `DescribeTasks` and `DescribeTaskAttribute`; OSS
//! API documentation, `ListObjectsV2` and `ListMultipartUploads`.

use std::collections::BTreeMap;

use build_image_plugin_api::{
    http::Body,
    retry::{Failure, Policy, retry},
};
use jiff::{SignedDuration, Timestamp};
use percent_encoding::percent_decode_str;
use reqwest::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    acs::Parameters,
    ecs::{ALL_STATES, Ecs, PAGE_SIZE, pairs},
    image::{Image, Tags},
    oss::{CALL_LIMIT, Call, Oss},
    oss_answer::read_xml,
};

/// Longest time that an import is looked for after its start.
const TASK_AGE: SignedDuration = SignedDuration::from_hours(48);

/// Parses a time of the services: ISO 8601, or the form of HTTP headers. Returns seconds since 1970-01-01 UTC.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let iso = || text.parse::<Timestamp>().ok();
    let rfc = || jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp());
    iso().or_else(rfc).and_then(|time| u64::try_from(time.as_second()).ok())
}

/// A page of a list.
trait Page: DeserializeOwned {
    type Entry;
    /// The entries, and the number of entries on all pages.
    fn split(self) -> (Vec<Self::Entry>, usize);
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Images {
    images: ImageList,
    #[serde(default)]
    total_count: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageList {
    #[serde(default)]
    image: Vec<Image>,
}

impl Page for Images {
    type Entry = Image;

    fn split(self) -> (Vec<Image>, usize) {
        (self.images.image, self.total_count)
    }
}

/// A snapshot as it is listed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Snapshot {
    pub(crate) snapshot_id: String,
    pub(crate) snapshot_name: String,
    /// `progressing`, `accomplished` or `failed`.
    pub(crate) status: String,
    pub(crate) progress: String,
    /// ISO 8601.
    pub(crate) creation_time: String,
    /// `image`, `disk`, `image_disk` or `none`.
    pub(crate) usage: String,
    /// GiB; a number or a text.
    pub(crate) source_disk_size: Value,
    pub(crate) encrypted: bool,
    #[serde(rename = "KMSKeyId")]
    pub(crate) key: String,
    tags: Tags,
}

impl Snapshot {
    /// All tags.
    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        self.tags.tag.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect()
    }

    /// GiB of the disk.
    pub(crate) fn size(&self) -> Option<u64> {
        let text = self.source_disk_size.as_str().and_then(|text| text.parse().ok());
        self.source_disk_size.as_u64().or(text)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Snapshots {
    snapshots: SnapshotList,
    #[serde(default)]
    total_count: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SnapshotList {
    #[serde(default)]
    snapshot: Vec<Snapshot>,
}

impl Page for Snapshots {
    type Entry = Snapshot;

    fn split(self) -> (Vec<Snapshot>, usize) {
        (self.snapshots.snapshot, self.total_count)
    }
}

/// A task as it is listed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ListedTask {
    pub(crate) task_id: String,
    pub(crate) task_status: String,
    pub(crate) task_process: String,
    /// ISO 8601.
    pub(crate) creation_time: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tasks {
    task_set: TaskList,
    #[serde(default)]
    total_count: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TaskList {
    #[serde(default)]
    task: Vec<ListedTask>,
}

impl Page for Tasks {
    type Entry = ListedTask;

    fn split(self) -> (Vec<ListedTask>, usize) {
        (self.task_set.task, self.total_count)
    }
}

impl Ecs {
    async fn pages<P: Page>(
        &self,
        action: &str,
        filters: &Parameters,
        policy: &Policy,
    ) -> Result<Vec<P::Entry>, Failure> {
        let what = format!("region `{}`", self.region);
        let mut found = Vec::new();
        for page in 1_usize.. {
            let mut parameters = pairs(&[
                ("RegionId", &self.region),
                ("PageSize", &PAGE_SIZE.to_string()),
                ("PageNumber", &page.to_string()),
            ]);
            parameters.extend(filters.iter().cloned());
            let listed: P = self.service.call(action, &parameters, &what, policy).await?;
            let (entries, total) = listed.split();
            let count = entries.len();
            found.extend(entries);
            if count == 0 || page * PAGE_SIZE >= total {
                break;
            }
        }
        Ok(found)
    }

    /// Own images that match filters, in any state.
    pub(crate) async fn images_with(
        &self,
        filters: &Parameters,
        policy: &Policy,
    ) -> Result<Vec<Image>, Failure> {
        let mut all = pairs(&[("ImageOwnerAlias", "self"), ("Status", ALL_STATES)]);
        all.extend(filters.iter().cloned());
        self.pages::<Images>("DescribeImages", &all, policy).await
    }

    /// Own images with these identifiers, as far as they exist.
    pub(crate) async fn images_of(
        &self,
        ids: &[String],
        policy: &Policy,
    ) -> Result<Vec<Image>, Failure> {
        let mut found = Vec::new();
        for some in ids.chunks(PAGE_SIZE) {
            let filter = pairs(&[("ImageId", &some.join(","))]);
            found.extend(self.images_with(&filter, policy).await?);
        }
        Ok(found)
    }

    /// Snapshots that match filters.
    pub(crate) async fn snapshots_with(
        &self,
        filters: &Parameters,
        policy: &Policy,
    ) -> Result<Vec<Snapshot>, Failure> {
        self.pages::<Snapshots>("DescribeSnapshots", filters, policy).await
    }

    /// Snapshots with these identifiers, as far as they exist.
    pub(crate) async fn snapshots_of(
        &self,
        ids: &[String],
        policy: &Policy,
    ) -> Result<Vec<Snapshot>, Failure> {
        let mut found = Vec::new();
        for some in ids.chunks(PAGE_SIZE) {
            let filter = pairs(&[("SnapshotIds", &Value::from(some.to_vec()).to_string())]);
            found.extend(self.snapshots_with(&filter, policy).await?);
        }
        Ok(found)
    }

    /// Whether every snapshot of an image is encrypted with a key.
    pub(crate) async fn is_encrypted(
        &self,
        image: &Image,
        key: &str,
        policy: &Policy,
    ) -> Result<bool, Failure> {
        let snapshots = self.snapshots_of(&image.snapshots(), policy).await?;
        let with_key = |one: &Snapshot| one.encrypted && one.key == key;
        Ok(!snapshots.is_empty() && snapshots.iter().all(with_key))
    }

    /// Imports that are running, with the identifier of the image that each makes.
    pub(crate) async fn running_imports(
        &self,
        policy: &Policy,
    ) -> Result<Vec<(ListedTask, String)>, Failure> {
        let now = self.service.http.clock.now();
        let since = now.checked_sub(TASK_AGE).unwrap_or(now).strftime("%Y-%m-%dT%H:%MZ");
        let filters = pairs(&[("TaskAction", "ImportImage"), ("StartTime", &since.to_string())]);
        let mut running = Vec::new();
        for task in self.pages::<Tasks>("DescribeTasks", &filters, policy).await? {
            if !matches!(task.task_status.as_str(), "Waiting" | "Processing" | "Paused") {
                continue;
            }
            let details = self.task(&task.task_id, policy).await?;
            if let Some(image) = details.image() {
                running.push((task, image.to_owned()));
            }
        }
        Ok(running)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObjectsPage {
    #[serde(default)]
    contents: Vec<ListedObject>,
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_continuation_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedObject {
    key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UploadsPage {
    #[serde(rename = "Upload", default)]
    uploads: Vec<OpenUpload>,
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_key_marker: String,
    #[serde(default)]
    next_upload_id_marker: String,
}

/// An unfinished upload as it is listed.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct OpenUpload {
    pub(crate) key: String,
    pub(crate) upload_id: String,
    /// ISO 8601.
    pub(crate) initiated: String,
}

/// An object with its metadata.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObjectDetails {
    pub(crate) size: u64,
    /// Form of HTTP headers.
    pub(crate) last_modified: String,
    /// Headers `x-oss-meta-…`.
    pub(crate) metadata: BTreeMap<String, String>,
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

impl Oss {
    /// Keys of the objects that begin with a prefix.
    pub(crate) async fn keys(&self, prefix: &str, policy: &Policy) -> Result<Vec<String>, Failure> {
        const OPERATION: &str = "ListObjectsV2";
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let call = || {
                // Keys may contain what XML cannot.
                let call = Call::new(OPERATION, Method::GET, None)
                    .query("list-type", "2")
                    .query("encoding-type", "url")
                    .query("max-keys", "1000")
                    .query("prefix", prefix);
                if token.is_empty() { call } else { call.query("continuation-token", &*token) }
            };
            let sent = retry(policy, async || self.once(call(), Body::Empty, CALL_LIMIT).await);
            let page: ObjectsPage = read_xml(OPERATION, &sent.await?)?;
            found.extend(page.contents.iter().map(|object| decode(&object.key)));
            let next = decode(&page.next_continuation_token);
            if !page.is_truncated || next.is_empty() || next == token {
                return Ok(found);
            }
            token = next;
        }
    }

    /// Unfinished uploads whose keys begin with a prefix.
    pub(crate) async fn open_uploads(
        &self,
        prefix: &str,
        policy: &Policy,
    ) -> Result<Vec<OpenUpload>, Failure> {
        const OPERATION: &str = "ListMultipartUploads";
        let mut found = Vec::new();
        let mut marker = (String::new(), String::new());
        loop {
            let call = || {
                let call = Call::new(OPERATION, Method::GET, None)
                    .query("uploads", "")
                    .query("encoding-type", "url")
                    .query("max-uploads", "1000")
                    .query("prefix", prefix);
                if marker.0.is_empty() {
                    return call;
                }
                call.query("key-marker", &*marker.0).query("upload-id-marker", &*marker.1)
            };
            let sent = retry(policy, async || self.once(call(), Body::Empty, CALL_LIMIT).await);
            let page: UploadsPage = read_xml(OPERATION, &sent.await?)?;
            found.extend(page.uploads.into_iter().map(|mut upload| {
                upload.key = decode(&upload.key);
                upload
            }));
            let next = (decode(&page.next_key_marker), page.next_upload_id_marker);
            if !page.is_truncated || next.0.is_empty() || next == marker {
                return Ok(found);
            }
            marker = next;
        }
    }

    /// Size, time and metadata of an object; `None` when it does not exist.
    pub(crate) async fn details(
        &self,
        key: &str,
        policy: &Policy,
    ) -> Result<Option<ObjectDetails>, Failure> {
        let call = || Call::new("HeadObject", Method::HEAD, Some(key));
        let sent = retry(policy, async || self.once(call(), Body::Empty, CALL_LIMIT).await);
        match sent.await {
            Ok(answer) => {
                let header = |name: &str| answer.header(name).unwrap_or_default().to_owned();
                let names = [crate::marks::OBJECT_RUN, crate::marks::OBJECT_KEPT];
                let metadata = names.map(|name| (name.to_owned(), header(name)));
                let given = metadata.into_iter().filter(|(_, value)| !value.is_empty());
                Ok(Some(ObjectDetails {
                    size: header("content-length").parse().unwrap_or(0),
                    last_modified: header("last-modified"),
                    metadata: given.collect(),
                }))
            }
            Err(failure)
                if failure.error.context("status") == Some("404")
                    && !failure.has_code(&["NoSuchBucket"]) =>
            {
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_write_times_in_several_forms() {
        for (text, expected) in [
            ("2026-11-29T12:00:00Z", Some(1_795_953_600)),
            ("2026-11-29T12:00Z", Some(1_795_953_600)),
            ("2026-11-29T12:00:00.000Z", Some(1_795_953_600)),
            ("Sun, 29 Nov 2026 12:00:00 GMT", Some(1_795_953_600)),
            ("", None),
            ("yesterday", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn a_snapshot_is_parsed_with_missing_fields() {
        for size in [Value::from("40"), Value::from(40)] {
            let read = serde_json::json!({"SnapshotId": "s-1", "SourceDiskSize": size});
            let snapshot: Snapshot = serde_json::from_value(read).unwrap();
            assert_eq!((snapshot.size(), snapshot.encrypted), (Some(40), false));
        }
    }
}
