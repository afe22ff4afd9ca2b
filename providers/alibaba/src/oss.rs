//! OSS: how a call is signed, sent and understood, and the calls on buckets and objects. Each
//! function is one operation; multipart uploads have their own file.
//!
//! Source: OSS API documentation.

use std::{sync::Arc, time::Duration};

use base64::Engine as _;
use build_image_plugin_api::{Error, ErrorKind, Result};
use reqwest::Method;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    client::{Answer, Door, Limit, Outgoing, Payload},
    config::Place,
    credentials::Credentials,
    endpoint::OssEndpoint,
    error::Failure,
    refusal::Refusal,
    retry::{Policy, retry},
    sign::{encode, oss_v4},
};

/// Longest time for a call that moves no data.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Header with the CRC-64 of what the service stored.
const CRC_HEADER: &str = "x-oss-hash-crc64ecma";

/// One bucket.
pub(crate) struct Oss {
    pub(crate) door: Door,
    pub(crate) bucket: String,
    region: String,
    endpoint: OssEndpoint,
}

/// What is asked.
pub(crate) struct Call<'a> {
    /// Name of the operation, for messages.
    pub(crate) operation: &'a str,
    pub(crate) method: Method,
    /// Absent for calls on the bucket.
    pub(crate) key: Option<&'a str>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
}

impl<'a> Call<'a> {
    /// A call without query and headers.
    pub(crate) fn new(operation: &'a str, method: Method, key: Option<&'a str>) -> Self {
        Self { operation, method, key, query: Vec::new(), headers: Vec::new() }
    }

    /// With a query parameter; an empty value is sent as the bare name.
    pub(crate) fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }
}

/// What `GetBucketInfo` says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct BucketInfo {
    /// `oss-` and the region.
    pub(crate) location: String,
    pub(crate) storage_class: String,
    #[serde(rename = "ServerSideEncryptionRule")]
    pub(crate) encryption: Encryption,
}

/// A bucket's default encryption.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Encryption {
    /// `None` or empty when off.
    #[serde(rename = "SSEAlgorithm")]
    pub(crate) algorithm: String,
}

/// What `HeadObject` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectHead {
    pub(crate) size: u64,
    /// CRC-64 of the content, when the service knows it.
    pub(crate) crc: Option<u64>,
}

impl Oss {
    /// The bucket of a place.
    ///
    /// # Errors
    /// When no connections can be made at all.
    pub(crate) fn open(place: &Place, credentials: Arc<Credentials>) -> Result<Self> {
        Ok(Self {
            door: Door::open(place.oss.server(), credentials)?,
            bucket: place.bucket.clone(),
            region: place.region.clone(),
            endpoint: place.oss.clone(),
        })
    }

    /// URL of an object.
    pub(crate) fn object_url(&self, key: &str) -> String {
        self.endpoint.url(&self.bucket, Some(key))
    }

    /// Reads a bucket's properties.
    pub(crate) async fn bucket_info(&self, policy: &Policy) -> Result<BucketInfo, Failure> {
        #[derive(Deserialize)]
        struct Wrapped {
            #[serde(rename = "Bucket")]
            bucket: BucketInfo,
        }
        let call = || Call::new("GetBucketInfo", Method::GET, None).query("bucketInfo", "");
        let answer =
            retry(policy, async || self.once(call(), Payload::Empty, CALL_LIMIT).await).await?;
        Ok(read_xml::<Wrapped>("GetBucketInfo", &answer)?.bucket)
    }

    /// Size and checksum of an object; `None` when there is none.
    pub(crate) async fn head(
        &self,
        key: &str,
        policy: &Policy,
    ) -> Result<Option<ObjectHead>, Failure> {
        let call = || Call::new("HeadObject", Method::HEAD, Some(key));
        let sent = retry(policy, async || self.once(call(), Payload::Empty, CALL_LIMIT).await);
        match sent.await {
            Ok(answer) => Ok(Some(ObjectHead {
                size: answer.header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0),
                crc: crc(&answer),
            })),
            Err(failure)
                if failure.error.context("status") == Some("404")
                    && !failure.is(&["NoSuchBucket"]) =>
            {
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Deletes an object; one that does not exist is fine.
    pub(crate) async fn delete(&self, key: &str, policy: &Policy) -> Result<(), Failure> {
        let call = || Call::new("DeleteObject", Method::DELETE, Some(key));
        let sent = retry(policy, async || self.once(call(), Payload::Empty, CALL_LIMIT).await);
        sent.await.map(|_| ())
    }

    /// One attempt of a call within a time.
    pub(crate) async fn once(
        &self,
        call: Call<'_>,
        body: Payload,
        limit: Duration,
    ) -> Result<Answer, Failure> {
        self.attempt(call, body, Limit::Total(limit)).await
    }

    /// One attempt of a call: fresh keys, fresh time, fresh signature.
    pub(crate) async fn attempt(
        &self,
        call: Call<'_>,
        body: Payload,
        limit: Limit,
    ) -> Result<Answer, Failure> {
        let what = self.describe(&call);
        let keys = self.door.credentials.current()?;
        let date = self.door.clock.now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut headers = call.headers;
        let mut add = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
        add("x-oss-date", &date);
        add("x-oss-content-sha256", oss_v4::UNSIGNED_PAYLOAD);
        if let Some(token) = &keys.token {
            add("x-oss-security-token", token.reveal());
        }
        let signed = oss_v4::sign(
            &oss_v4::Request {
                method: call.method.as_str(),
                bucket: &self.bucket,
                key: call.key,
                query: &call.query,
                headers: &headers,
                additional: &[],
            },
            &oss_v4::Signer {
                id: keys.id.reveal(),
                secret: keys.secret.reveal(),
                region: &self.region,
                date: &date,
            },
        );
        let mut url = self.endpoint.url(&self.bucket, call.key);
        let query = encode::query(&call.query, true);
        if !query.is_empty() {
            url = format!("{url}?{query}");
        }
        let outgoing = Outgoing {
            method: call.method,
            url,
            headers,
            authorization: signed.authorization,
            body,
        };
        let answer = self.door.exchange(outgoing, limit, &what).await?;
        if answer.is_success() {
            return Ok(answer);
        }
        let refusal = read_refusal(&answer);
        Err(self.door.refuse(refusal, &answer, &signed.string_to_sign, &keys, &what))
    }

    fn describe(&self, call: &Call<'_>) -> String {
        match call.key {
            Some(key) => format!("`{}` of `oss://{}/{key}`", call.operation, self.bucket),
            None => format!("`{}` of bucket `{}`", call.operation, self.bucket),
        }
    }
}

/// The CRC-64 the service computed over what it stored.
pub(crate) fn crc(answer: &Answer) -> Option<u64> {
    answer.header(CRC_HEADER).and_then(|text| text.trim().parse().ok())
}

/// Reads an answer's XML.
pub(crate) fn read_xml<T: DeserializeOwned>(
    operation: &str,
    answer: &Answer,
) -> Result<T, Failure> {
    let text = String::from_utf8_lossy(&answer.body);
    quick_xml::de::from_str(&text).map_err(|error| {
        let message = format!("`{operation}`: the answer of OSS could not be read");
        let error = Error::new(ErrorKind::Provider, message)
            .because(&error)
            .with("request_id", answer.header("x-oss-request-id").unwrap_or("none"));
        Failure::stop(error)
    })
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct XmlRefusal {
    code: String,
    message: String,
    request_id: String,
    #[serde(rename = "EC")]
    ec: String,
    string_to_sign: Option<String>,
}

/// What a refusal says: XML in the body or, for HEAD, in a header; other bodies come from proxies.
fn read_refusal(answer: &Answer) -> Refusal {
    let from_header = || {
        let text = answer.header("x-oss-err")?;
        base64::engine::general_purpose::STANDARD.decode(text).ok()
    };
    let body = if answer.body.is_empty() {
        from_header().unwrap_or_default()
    } else {
        answer.body.to_vec()
    };
    let text = String::from_utf8_lossy(&body);
    let read: XmlRefusal = quick_xml::de::from_str(&text).unwrap_or_default();
    let header = |name| answer.header(name).unwrap_or_default().to_owned();
    let or = |text: String, otherwise: String| if text.is_empty() { otherwise } else { text };
    let foreign =
        if read.code.is_empty() { text.chars().take(200).collect() } else { String::new() };
    Refusal {
        status: answer.status,
        code: read.code,
        ec: or(read.ec, header("x-oss-ec")),
        message: or(read.message, foreign),
        request_id: or(read.request_id, header("x-oss-request-id")),
        string_to_sign: read.string_to_sign,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use reqwest::header::{HeaderMap, HeaderValue};

    use super::*;

    const XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>NoSuchKey</Code>\
        <Message>gone</Message><RequestId>R1</RequestId><HostId>h</HostId><EC>0026-00000001</EC>\
        <Later>x</Later></Error>";

    fn answer(body: &str, headers: &[(&'static str, String)]) -> Answer {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (
                    reqwest::header::HeaderName::from_static(name),
                    HeaderValue::try_from(value).unwrap(),
                )
            })
            .collect();
        Answer { status: 404, headers, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[test]
    fn a_refusal_is_read_from_body_or_header() {
        let encoded = base64::engine::general_purpose::STANDARD.encode(XML);
        for answer in [answer(XML, &[]), answer("", &[("x-oss-err", encoded)])] {
            let refusal = read_refusal(&answer);
            assert_eq!(
                (refusal.code.as_str(), refusal.ec.as_str()),
                ("NoSuchKey", "0026-00000001")
            );
            assert_eq!((refusal.message.as_str(), refusal.request_id.as_str()), ("gone", "R1"));
        }
    }

    #[test]
    fn a_proxys_page_is_shown_in_its_own_words() {
        let refusal = read_refusal(&answer("<html><body>Blocked by policy", &[]));
        assert_eq!(refusal.code, "");
        assert!(refusal.message.contains("Blocked by policy"));
    }

    #[test]
    fn a_bucket_without_encryption_rule_is_read() {
        let body = "<BucketInfo><Bucket><Location>oss-cn-hangzhou</Location>\
            <StorageClass>Standard</StorageClass><Owner><ID>1</ID></Owner></Bucket></BucketInfo>";
        #[derive(Deserialize)]
        struct Wrapped {
            #[serde(rename = "Bucket")]
            bucket: BucketInfo,
        }
        let info = read_xml::<Wrapped>("GetBucketInfo", &answer(body, &[])).unwrap().bucket;
        assert_eq!(
            (info.location.as_str(), info.encryption.algorithm.as_str()),
            ("oss-cn-hangzhou", "")
        );
    }
}
