//! Lists the objects and the unfinished uploads of a bucket, over all pages, and reads what an object says of its run.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>.

use build_image_plugin_api::retry::{Failure, Policy};
use percent_encoding::percent_decode_str;
use reqwest::Method;
use serde::Deserialize;

use crate::{
    client::{Request, Service},
    marks::{OBJECT_KEPT, OBJECT_RUN},
    permissions::Call,
    s3::Bucket,
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObjectsPage {
    #[serde(default)]
    contents: Vec<ListedObject>,
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_continuation_token: String,
    /// `url` when keys are encoded: not every service that speaks S3 does that.
    #[serde(default)]
    encoding_type: String,
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
    /// As in [`ObjectsPage`].
    #[serde(default)]
    encoding_type: String,
}

/// An unfinished upload as it is listed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct OpenUpload {
    pub(crate) key: String,
    pub(crate) upload_id: String,
    /// ISO 8601.
    pub(crate) initiated: String,
}

/// An object with its marks.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObjectDetails {
    pub(crate) size: u64,
    /// Form of HTTP headers.
    pub(crate) last_modified: String,
    pub(crate) run: Option<String>,
    pub(crate) kept: bool,
}

fn decode(text: &str, encoding: &str) -> String {
    match encoding {
        "url" => percent_decode_str(text).decode_utf8_lossy().into_owned(),
        _ => text.to_owned(),
    }
}

impl Bucket {
    async fn page(&self, call: Call, query: &[(&str, &str)], policy: &Policy) -> Page {
        let what = format!("`{}` of s3://{}", call.name(), self.name);
        let request = Request::new(Method::GET, self.path("", query));
        let answer = self.service.call(&request, &what, policy).await?;
        Ok((answer, what))
    }

    /// Returns the keys of the objects that begin with a prefix.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn keys(&self, prefix: &str, policy: &Policy) -> Result<Vec<String>, Failure> {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            // Keys may contain what XML cannot.
            let mut query = vec![("list-type", "2"), ("encoding-type", "url"), ("prefix", prefix)];
            if !token.is_empty() {
                query.push(("continuation-token", &token));
            }
            let (answer, what) = self.page(Call::ListObjects, &query, policy).await?;
            let page: ObjectsPage = Service::xml(&answer, &what)?;
            found.extend(
                page.contents.iter().map(|object| decode(&object.key, &page.encoding_type)),
            );
            let next = page.next_continuation_token;
            if !page.is_truncated || next.is_empty() || next == token {
                return Ok(found);
            }
            token = next;
        }
    }

    /// Returns the unfinished uploads whose keys begin with a prefix.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn open_uploads(
        &self,
        prefix: &str,
        policy: &Policy,
    ) -> Result<Vec<OpenUpload>, Failure> {
        let (mut found, mut marker) = (Vec::new(), (String::new(), String::new()));
        loop {
            let mut query = vec![("uploads", ""), ("encoding-type", "url"), ("prefix", prefix)];
            if !marker.0.is_empty() {
                query.extend([("key-marker", &*marker.0), ("upload-id-marker", &*marker.1)]);
            }
            let (answer, what) = self.page(Call::ListMultipartUploads, &query, policy).await?;
            let page: UploadsPage = Service::xml(&answer, &what)?;
            found.extend(page.uploads.into_iter().map(|mut upload| {
                upload.key = decode(&upload.key, &page.encoding_type);
                upload
            }));
            let next =
                (decode(&page.next_key_marker, &page.encoding_type), page.next_upload_id_marker);
            if !page.is_truncated || next.0.is_empty() || next == marker {
                return Ok(found);
            }
            marker = next;
        }
    }

    /// Returns the ids of the unfinished uploads of exactly this key.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn uploads(&self, key: &str, policy: &Policy) -> Result<Vec<String>, Failure> {
        let all = self.open_uploads(key, policy).await?.into_iter();
        Ok(all.filter(|upload| upload.key == key).map(|upload| upload.upload_id).collect())
    }

    /// Returns size, time, and marks of an object; `None` when it does not exist.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn details(
        &self,
        key: &str,
        policy: &Policy,
    ) -> Result<Option<ObjectDetails>, Failure> {
        let request = Request::new(Method::HEAD, self.path(key, &[]));
        let answer =
            match self.service.call(&request, &self.what(Call::HeadObject, key), policy).await {
                Err(failure) if failure.has_status(404) => return Ok(None),
                answer => answer?,
            };
        let header = |name: &str| answer.header(name).map(str::to_owned);
        Ok(Some(ObjectDetails {
            size: header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0),
            last_modified: header("last-modified").unwrap_or_default(),
            run: header(OBJECT_RUN).filter(|run| !run.is_empty()),
            kept: header(OBJECT_KEPT).is_some_and(|text| text == "yes"),
        }))
    }
}

/// An answer with the words for it.
type Page = Result<(build_image_plugin_api::http::Answer, String), Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_parsed_with_missing_members() {
        let xml = "<ListMultipartUploadsResult><KeyMarker/><NextKeyMarker>a%20b</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker><IsTruncated>true</IsTruncated><Upload><Key>a%20b</Key><UploadId>u</UploadId><Initiated>2026-11-29T12:00:00.000Z</Initiated><StorageClass>STANDARD</StorageClass></Upload><Upload><Key>k</Key><UploadId>v</UploadId></Upload></ListMultipartUploadsResult>";
        let page: UploadsPage = quick_xml::de::from_str(xml).unwrap();
        assert_eq!((page.uploads.len(), page.is_truncated), (2, true));
        assert_eq!(
            (decode(&page.next_key_marker, "url").as_str(), &*page.next_upload_id_marker),
            ("a b", "u")
        );
        assert_eq!(page.uploads[0].initiated, "2026-11-29T12:00:00.000Z");
        let empty: UploadsPage = quick_xml::de::from_str("<ListMultipartUploadsResult/>").unwrap();
        assert!(empty.uploads.is_empty() && !empty.is_truncated);
        let xml = "<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents><IsTruncated>false</IsTruncated></ListBucketResult>";
        let page: ObjectsPage = quick_xml::de::from_str(xml).unwrap();
        assert_eq!(page.contents[0].key, "a");
    }
}
