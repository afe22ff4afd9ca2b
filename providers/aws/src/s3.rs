//! Makes the S3 calls: multipart uploads with SHA-256, and what removes them.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/>.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use build_image_plugin_api::{
    Error, ErrorKind, Result,
    http::Answer,
    retry::{Failure, Policy},
};
use bytes::Bytes;
use percent_encoding::{AsciiSet, utf8_percent_encode};
use reqwest::Method;
use serde::Deserialize;

use crate::{
    client::{CALL, Request, Service},
    cloud::Cloud,
    ebs::{Digest, hex},
    ec2::ENCODED,
    marks::{OBJECT_KEPT, OBJECT_RUN},
    partition::Api,
    permissions::Call,
    refusal::Refusal,
};

/// Characters that stay as they are in keys.
const KEY: &AsciiSet = &ENCODED.remove(b'/');
/// Time limit of one attempt to send a part: 8 MiB at 30 KiB/s.
const PART_LIMIT: Duration = Duration::from_secs(280);
/// Completing a large upload takes minutes.
const COMPLETE_LIMIT: Duration = Duration::from_secs(600);

/// A part that the service has.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct Part {
    #[serde(rename = "PartNumber")]
    pub(crate) number: u32,
    #[serde(rename = "ETag")]
    pub(crate) etag: String,
    #[serde(rename = "Size")]
    pub(crate) size: u64,
    /// ISO 8601; empty for a part that was just sent.
    #[serde(rename = "LastModified")]
    pub(crate) last_modified: String,
    /// Base64.
    #[serde(rename = "ChecksumSHA256")]
    pub(crate) sha256: Option<String>,
}

#[derive(Deserialize)]
struct Parts {
    #[serde(rename = "Part", default)]
    parts: Vec<Part>,
    #[serde(rename = "IsTruncated", default)]
    truncated: bool,
    #[serde(rename = "NextPartNumberMarker", default)]
    next: u32,
}

#[derive(Deserialize)]
struct Begun {
    #[serde(rename = "UploadId")]
    upload: String,
}

/// A bucket.
#[derive(Clone)]
pub(crate) struct Bucket {
    pub(crate) service: Service,
    pub(crate) name: String,
    /// What paths begin with.
    root: String,
}

impl Bucket {
    /// Opens a bucket in a region.
    ///
    /// # Errors
    /// Config errors for the endpoint.
    pub(crate) fn open(cloud: &Cloud<'_>, name: &str, region: &str) -> Result<Self> {
        let mut service = cloud.service(Api::S3, region)?;
        let mut root = String::new();
        // Certificates of the vendor cover one label; other servers need not know names of buckets in hosts.
        if service.endpoint.chosen || name.contains('.') {
            root = format!("/{name}");
        } else {
            service.endpoint.url = service.endpoint.url.replacen("://", &format!("://{name}."), 1);
        }
        Ok(Self { service, name: name.to_owned(), root })
    }

    pub(crate) fn path(&self, key: &str, query: &[(&str, &str)]) -> String {
        let mut path = format!("{}/{}", self.root, utf8_percent_encode(key, KEY));
        for (position, (name, value)) in query.iter().enumerate() {
            path.push(if position == 0 { '?' } else { '&' });
            path.push_str(name);
            path.push('=');
            path.extend(utf8_percent_encode(value, ENCODED));
        }
        path
    }

    pub(crate) fn what(&self, call: Call, key: &str) -> String {
        format!("`{}` of s3://{}/{key}", call.name(), self.name)
    }

    /// Checks that the bucket exists and may be used; returns its region, if the service shows it.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn head(&self, policy: &Policy) -> Result<Option<String>, Failure> {
        let what = format!("`{}` of s3://{}", Call::HeadBucket.name(), self.name);
        let request = Request::new(Method::HEAD, self.path("", &[]));
        let answer = self.service.call(&request, &what, policy).await.map_err(|mut failure| {
            if failure.has_code(&["NotFound"]) {
                let known =
                    Refusal { code: "NoSuchBucket".to_owned(), status: 404, ..Refusal::default() };
                failure = known.into_failure(&what);
            }
            failure
        })?;
        Ok(answer.header("x-amz-bucket-region").map(str::to_owned))
    }

    /// Returns the size of an object; `None` when it does not exist.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn size(&self, key: &str, policy: &Policy) -> Result<Option<u64>, Failure> {
        let request = Request::new(Method::HEAD, self.path(key, &[]));
        match self.service.call(&request, &self.what(Call::HeadObject, key), policy).await {
            Ok(answer) => Ok(answer.header("content-length").and_then(|text| text.parse().ok())),
            Err(failure) if failure.has_status(404) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Begins an upload for a run; returns its id. `kept`: the object is to stay.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn begin(&self, key: &str, run: &str, kept: bool) -> Result<String, Failure> {
        let what = self.what(Call::PutObject, key);
        let mut request = Request::new(Method::POST, self.path(key, &[("uploads", "")]))
            .header(OBJECT_RUN, run)
            .header("x-amz-checksum-algorithm", "SHA256")
            .header("content-type", "application/octet-stream");
        if kept {
            request = request.header(OBJECT_KEPT, "yes");
        }
        let answer = self.service.call(&request, &what, &CALL).await?;
        Ok(Service::xml::<Begun>(&answer, &what)?.upload)
    }

    /// Sends a part once; returns what the service has of it.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn put(
        &self,
        (key, upload): (&str, &str),
        number: u32,
        data: Bytes,
        digest: &Digest,
    ) -> Result<Part, Failure> {
        let what = format!("part {number} of s3://{}/{key}", self.name);
        let (sha256, size) = (BASE64_STANDARD.encode(digest), data.len() as u64);
        let query = [("partNumber", &*number.to_string()), ("uploadId", upload)];
        let mut request = Request::new(Method::PUT, self.path(key, &query))
            .header("x-amz-checksum-sha256", &sha256)
            .body(data);
        request.sha256 = Some(hex(digest));
        request.limit = PART_LIMIT;
        let answer = self.service.attempt(&request, &what).await?;
        let etag = answer.header("etag").unwrap_or_default().to_owned();
        if etag.is_empty() {
            let message = format!("{what}: the service returned no ETag");
            return Err(Failure::network(Error::new(ErrorKind::Provider, message)));
        }
        Ok(Part { number, etag, size, sha256: Some(sha256), ..Part::default() })
    }

    /// Returns the parts that the service has; `None` when it does not know the upload.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn parts(
        &self,
        key: &str,
        upload: &str,
        policy: &Policy,
    ) -> Result<Option<Vec<Part>>, Failure> {
        let what = self.what(Call::ListParts, key);
        let (mut all, mut marker) = (Vec::new(), 0);
        loop {
            let query = [("uploadId", upload), ("part-number-marker", &*marker.to_string())];
            let request = Request::new(Method::GET, self.path(key, &query));
            let answer = match self.service.call(&request, &what, policy).await {
                Err(failure) if failure.has_status(404) => return Ok(None),
                answer => answer?,
            };
            let page: Parts = Service::xml(&answer, &what)?;
            all.extend(page.parts);
            if !page.truncated || page.next <= marker {
                return Ok(Some(all));
            }
            marker = page.next;
        }
    }

    /// Completes an upload from its parts, in ascending order.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn complete(
        &self,
        key: &str,
        upload: &str,
        parts: &[Part],
    ) -> Result<(), Failure> {
        let what = format!("completing s3://{}/{key}", self.name);
        let mut body = String::from(
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
        );
        for part in parts {
            let Part { number, sha256, .. } = part;
            let etag = quick_xml::escape::escape(part.etag.as_str());
            let sha256 = sha256.as_deref().unwrap_or_default();
            body.push_str(&format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><ChecksumSHA256>{sha256}</ChecksumSHA256></Part>"
            ));
        }
        body.push_str("</CompleteMultipartUpload>");
        let mut request = Request::new(Method::POST, self.path(key, &[("uploadId", upload)]))
            .header("content-type", "application/xml")
            .body(body);
        request.limit = COMPLETE_LIMIT;
        let answer = self.service.call(&request, &what, &CALL).await?;
        refused_within(&answer, &what)
    }

    /// Aborts an upload; one that does not exist is not an error.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn abort(
        &self,
        key: &str,
        upload: &str,
        policy: &Policy,
    ) -> Result<(), Failure> {
        let request = Request::new(Method::DELETE, self.path(key, &[("uploadId", upload)]));
        self.removed(&request, Call::AbortMultipartUpload, key, policy).await
    }

    /// Deletes an object; one that does not exist is not an error.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn delete(&self, key: &str, policy: &Policy) -> Result<(), Failure> {
        let request = Request::new(Method::DELETE, self.path(key, &[]));
        self.removed(&request, Call::DeleteObject, key, policy).await
    }

    async fn removed(
        &self,
        request: &Request,
        call: Call,
        key: &str,
        policy: &Policy,
    ) -> Result<(), Failure> {
        match self.service.call(request, &self.what(call, key), policy).await {
            Err(failure) if !failure.has_code(&["NoSuchUpload", "NoSuchKey"]) => Err(failure),
            _ => Ok(()),
        }
    }
}

/// The service begins its answer before it knows the outcome, so that a refusal may have the status 200.
fn refused_within(answer: &Answer, what: &str) -> Result<(), Failure> {
    let refusal = Refusal::read(answer);
    if refusal.code.is_empty() { Ok(()) } else { Err(refusal.into_failure(what)) }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    #[test]
    fn a_refusal_with_status_200_is_one() {
        let answer = |body: &str| Answer::new(200, HeaderMap::new(), body.to_owned());
        let fine =
            "<CompleteMultipartUploadResult><ETag>\"x-1\"</ETag></CompleteMultipartUploadResult>";
        assert!(refused_within(&answer(fine), "x").is_ok());
        let refused = "<Error><Code>InternalError</Code><Message>m</Message></Error>";
        let failure = refused_within(&answer(refused), "x").unwrap_err();
        assert_eq!(failure.code, "InternalError");
    }

    #[test]
    fn lists_are_parsed() {
        let xml = "<ListPartsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>b</Bucket><NextPartNumberMarker>2</NextPartNumberMarker><IsTruncated>false</IsTruncated><Part><PartNumber>1</PartNumber><LastModified>x</LastModified><ETag>\"e\"</ETag><ChecksumSHA256>AAA=</ChecksumSHA256><Size>5</Size></Part><Part><PartNumber>2</PartNumber><ETag>\"f\"</ETag><Size>6</Size></Part></ListPartsResult>";
        let parts: Parts = quick_xml::de::from_str(xml).unwrap();
        assert_eq!((parts.parts.len(), parts.truncated, parts.next), (2, false, 2));
        assert_eq!(parts.parts[0].sha256.as_deref(), Some("AAA="));
    }
}
