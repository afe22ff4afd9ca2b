//! Signs and sends OSS calls and interprets their answers; contains the calls on buckets and objects. Each
//! function is one operation; multipart uploads are in a separate file.
//!
//! Source: OSS API documentation.

use std::{sync::Arc, time::Duration};

use build_image_plugin_api::{
    Result,
    http::{Answer, Body, Outgoing},
    retry::{Failure, Policy, retry},
};
use reqwest::Method;
use serde::Deserialize;

use crate::{
    client::{HttpClient, Limit},
    config::Place,
    credentials::Credentials,
    oss_answer::{crc, read_refusal, read_xml},
    oss_endpoint::OssEndpoint,
    sign::{encode, oss_v4},
};

/// Time limit of a call that moves no data.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(30);

/// One bucket.
pub(crate) struct Oss {
    pub(crate) http: HttpClient,
    pub(crate) bucket: String,
    region: String,
    endpoint: OssEndpoint,
}

/// One call.
pub(crate) struct Call<'a> {
    /// Name of the operation, used in messages.
    pub(crate) operation: &'a str,
    pub(crate) method: Method,
    /// `None` for calls on the bucket.
    pub(crate) key: Option<&'a str>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
}

impl<'a> Call<'a> {
    /// A call without query and headers.
    pub(crate) fn new(operation: &'a str, method: Method, key: Option<&'a str>) -> Self {
        Self { operation, method, key, query: Vec::new(), headers: Vec::new() }
    }

    /// Adds a query parameter; an empty value is sent as the bare name.
    pub(crate) fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }
}

/// The answer of `GetBucketInfo`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct BucketInfo {
    /// `oss-` followed by the region.
    pub(crate) location: String,
    pub(crate) storage_class: String,
    /// `Enabled`, `Suspended`, or empty.
    pub(crate) versioning: String,
    /// `Enabled`, `Disabled`, or empty where nothing is reported.
    pub(crate) transfer_acceleration: String,
    #[serde(rename = "ServerSideEncryptionRule")]
    pub(crate) encryption: Encryption,
}

/// The element around it in the answer.
#[derive(Deserialize)]
pub(crate) struct BucketAnswer {
    #[serde(rename = "Bucket")]
    pub(crate) bucket: BucketInfo,
}

/// The answer of `GetBucketTransferAcceleration`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Acceleration {
    enabled: bool,
}

/// A bucket's default encryption.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Encryption {
    /// `None` or empty when disabled.
    #[serde(rename = "SSEAlgorithm")]
    pub(crate) algorithm: String,
}

/// The answer of `HeadObject`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectHead {
    pub(crate) size: u64,
    /// CRC-64 of the content, if the service knows it.
    pub(crate) crc: Option<u64>,
}

impl Oss {
    /// Opens the bucket of a place.
    ///
    /// # Errors
    /// When no connections can be made at all.
    pub(crate) fn open(place: &Place, credentials: Arc<Credentials>) -> Result<Self> {
        Ok(Self {
            http: HttpClient::open(place.oss.server(), credentials)?,
            bucket: place.bucket.clone(),
            region: place.region.clone(),
            endpoint: place.oss.clone(),
        })
    }

    /// The cloud behind the endpoint (see [`crate::endpoint::Endpoint::cloud`]).
    pub(crate) fn cloud(&self) -> &str {
        self.endpoint.server().cloud()
    }

    /// URL of an object.
    pub(crate) fn object_url(&self, key: &str) -> String {
        self.endpoint.url(&self.bucket, Some(key))
    }

    /// Reads a bucket's properties.
    pub(crate) async fn bucket_info(&self, policy: &Policy) -> Result<BucketInfo, Failure> {
        let call = || Call::new("GetBucketInfo", Method::GET, None).query("bucketInfo", "");
        let answer =
            retry(policy, async || self.once(call(), Body::Empty, CALL_LIMIT).await).await?;
        Ok(read_xml::<BucketAnswer>("GetBucketInfo", &answer)?.bucket)
    }

    /// Whether a bucket may be reached by transfer acceleration; a bucket for which it was never configured
    /// may not.
    pub(crate) async fn is_accelerated(&self, policy: &Policy) -> Result<bool, Failure> {
        const OPERATION: &str = "GetBucketTransferAcceleration";
        let call = || Call::new(OPERATION, Method::GET, None).query("transferAcceleration", "");
        match retry(policy, async || self.once(call(), Body::Empty, CALL_LIMIT).await).await {
            Ok(answer) => Ok(read_xml::<Acceleration>(OPERATION, &answer)?.enabled),
            Err(failure) if failure.has_code(&["NoSuchTransferAccelerationConfiguration"]) => {
                Ok(false)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Size and checksum of an object; `None` when it does not exist.
    pub(crate) async fn head(
        &self,
        key: &str,
        policy: &Policy,
    ) -> Result<Option<ObjectHead>, Failure> {
        let call = || Call::new("HeadObject", Method::HEAD, Some(key));
        let sent = retry(policy, async || self.once(call(), Body::Empty, CALL_LIMIT).await);
        match sent.await {
            Ok(answer) => Ok(Some(ObjectHead {
                size: answer.header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0),
                crc: crc(&answer),
            })),
            Err(failure)
                if failure.error.context("status") == Some("404")
                    && !failure.has_code(&["NoSuchBucket"]) =>
            {
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Requests the first byte of an object, which need not exist, to find out whether data can be reached at
    /// all.
    pub(crate) async fn touch(&self, key: &str, policy: &Policy) -> Result<(), Failure> {
        let call = || Call {
            headers: vec![("range".to_owned(), "bytes=0-0".to_owned())],
            ..Call::new("GetObject", Method::GET, Some(key))
        };
        let sent = retry(policy, async || self.once(call(), Body::Empty, CALL_LIMIT).await);
        match sent.await {
            Err(failure) if failure.has_code(&["NoSuchKey"]) => Ok(()),
            answered => answered.map(|_| ()),
        }
    }

    /// Deletes an object; one that does not exist is not an error.
    pub(crate) async fn delete(&self, key: &str, policy: &Policy) -> Result<(), Failure> {
        let call = || Call::new("DeleteObject", Method::DELETE, Some(key));
        let sent = retry(policy, async || self.once(call(), Body::Empty, CALL_LIMIT).await);
        sent.await.map(|_| ())
    }

    /// One attempt of a call with a time limit.
    pub(crate) async fn once(
        &self,
        call: Call<'_>,
        body: Body,
        limit: Duration,
    ) -> Result<Answer, Failure> {
        self.attempt(call, body, Limit::Total(limit)).await
    }

    /// One attempt of a call, with fresh keys, time, and signature.
    pub(crate) async fn attempt(
        &self,
        call: Call<'_>,
        body: Body,
        limit: Limit,
    ) -> Result<Answer, Failure> {
        let what = self.describe(&call);
        let keys = self.http.credentials.current().await?;
        let date = self.http.clock.now().strftime("%Y%m%dT%H%M%SZ").to_string();
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
        let outgoing = headers
            .into_iter()
            .fold(Outgoing::new(call.method, url), |outgoing, (name, value)| {
                outgoing.header(name, value)
            })
            .header("authorization", signed.authorization)
            .body(body);
        let answer = self.http.exchange(outgoing, limit, &what).await?;
        if answer.is_success() {
            return Ok(answer);
        }
        let refusal = read_refusal(&answer);
        Err(self.http.refuse(refusal, &answer, &signed.string_to_sign, &keys, &what))
    }

    fn describe(&self, call: &Call<'_>) -> String {
        match call.key {
            Some(key) => format!("`{}` of `oss://{}/{key}`", call.operation, self.bucket),
            None => format!("`{}` of bucket `{}`", call.operation, self.bucket),
        }
    }
}
