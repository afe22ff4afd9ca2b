//! Sends single signed calls, for answers that the provider converts: status, code, and error number as the
//! service returned them.

use base64::Engine as _;
use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::Value;
use sha1::Sha1;

use crate::{
    Stage,
    sign::{acs3, encode, oss_v4},
};

/// The answer of a service.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Empty for a success.
    pub(crate) code: String,
    /// OSS error-code number.
    pub(crate) ec: String,
    pub(crate) body: String,
}

impl Reply {
    /// Status, code, and error number in one line.
    pub(crate) fn line(&self) -> String {
        format!("HTTP {} {} {}", self.status, self.code, self.ec).trim().to_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// How an OSS call is signed.
#[derive(Clone, Copy)]
pub(crate) enum Signature<'a> {
    /// With the region in the scope.
    V4(&'a str),
    /// HMAC-SHA1, as it was until 2025.
    V1,
}

/// The keys and the server of a call.
pub(crate) struct Caller {
    id: String,
    secret: String,
    token: Option<String>,
    pub(crate) bucket: String,
    pub(crate) region: String,
    /// The emulator's address; `None` when the vendor's hosts are called.
    server: Option<String>,
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

impl Caller {
    /// A caller with the stage's keys; `None` when they are not plain settings.
    pub(crate) fn of(stage: &Stage) -> Option<Self> {
        let secret = |name: &str| {
            stage.secrets.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        };
        let text = |name: &str| stage.settings.get(name)?.as_str().map(str::to_owned);
        // A crypto provider that is already installed takes precedence.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder();
        let server = stage.emulator.as_ref().map(|running| format!("http://{}", running.address()));
        let client = if server.is_some() { client.no_proxy().tls_certs_only([]) } else { client };
        Some(Self {
            id: secret("ALIBABA_ACCESS_KEY_ID")?,
            secret: secret("ALIBABA_ACCESS_KEY_SECRET")?,
            token: secret("ALIBABA_SECURITY_TOKEN"),
            bucket: text("ALIBABA_BUCKET")?,
            region: text("ALIBABA_REGION")?,
            server,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            client: client.build().unwrap(),
        })
    }

    /// The public OSS endpoint of a region.
    pub(crate) fn public(region: &str) -> String {
        format!("oss-{region}.aliyuncs.com")
    }

    /// An OSS call on the bucket or on an object, at one of the vendor's endpoints. The emulator receives the
    /// vendor's host in the `Host` header.
    pub(crate) fn oss(
        &self,
        method: &Method,
        endpoint: &str,
        key: Option<&str>,
        query: &[(&str, &str)],
        body: Vec<u8>,
        signature: Signature<'_>,
    ) -> Reply {
        let host = format!("{}.{endpoint}", self.bucket);
        let query: Vec<(String, String)> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut headers: Vec<(String, String)> = Vec::new();
        if let Some(token) = &self.token {
            headers.push(("x-oss-security-token".to_owned(), token.clone()));
        }
        let authorization = match signature {
            Signature::V4(region) => {
                let date = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
                headers.push(("x-oss-date".to_owned(), date.clone()));
                let unsigned = oss_v4::UNSIGNED_PAYLOAD.to_owned();
                headers.push(("x-oss-content-sha256".to_owned(), unsigned));
                let request = oss_v4::Request {
                    method: method.as_str(),
                    bucket: &self.bucket,
                    key,
                    query: &query,
                    headers: &headers,
                    additional: &[],
                };
                let (id, secret) = (self.id.as_str(), self.secret.as_str());
                let signer = oss_v4::Signer { id, secret, region, date: &date };
                oss_v4::sign(&request, &signer).authorization
            }
            Signature::V1 => {
                let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
                headers.push(("date".to_owned(), date.clone()));
                self.v1(method, &date, key, &query, &headers)
            }
        };
        let path = encode::path(key.unwrap_or_default());
        let origin = self.server.clone().unwrap_or_else(|| format!("https://{host}"));
        let url = format!("{origin}/{path}?{}", encode::query(&query, true));
        headers.push(("authorization".to_owned(), authorization));
        if self.server.is_some() {
            headers.push(("host".to_owned(), host));
        }
        let (status, body) = self.send(method, &url, &headers, body);
        let member = |name: &str| {
            let after = body.split_once(&format!("<{name}>")).map(|(_, rest)| rest);
            after.and_then(|rest| rest.split('<').next()).unwrap_or_default().to_owned()
        };
        let code = if status < 300 { String::new() } else { member("Code") };
        Reply { status, code, ec: member("EC"), body: body.clone() }
    }

    fn v1(
        &self,
        method: &Method,
        date: &str,
        key: Option<&str>,
        query: &[(String, String)],
        headers: &[(String, String)],
    ) -> String {
        let own: String = headers
            .iter()
            .filter(|(name, _)| name.starts_with("x-oss-"))
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let resource = format!("/{}/{}", self.bucket, key.unwrap_or_default());
        let query = encode::query(query, true);
        let joint = if query.is_empty() { "" } else { "?" };
        let text = format!("{method}\n\n\n{date}\n{own}{resource}{joint}{query}");
        let mut mac = Hmac::<Sha1>::new_from_slice(self.secret.as_bytes()).unwrap();
        mac.update(text.as_bytes());
        let signature =
            base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        format!("OSS {}:{signature}", self.id)
    }

    /// An ECS call in the home region.
    pub(crate) fn ecs(&self, action: &str, parameters: &[(&str, &str)]) -> Reply {
        let vendor = format!("ecs.{}.aliyuncs.com", self.region);
        let origin = self.server.clone().unwrap_or_else(|| format!("https://{vendor}"));
        let host = origin.split_once("://").map_or(vendor.as_str(), |(_, host)| host).to_owned();
        let mut query: Vec<(String, String)> = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        query.push(("RegionId".to_owned(), self.region.clone()));
        let now = Timestamp::now();
        let mut headers: Vec<(String, String)> = [
            ("host", host),
            ("x-acs-action", action.to_owned()),
            ("x-acs-version", "2014-05-26".to_owned()),
            ("x-acs-date", now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            (
                "x-acs-signature-nonce",
                format!("{}-{:?}", now.as_nanosecond(), std::time::Instant::now()),
            ),
            ("x-acs-content-sha256", acs3::EMPTY_BODY.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if let Some(token) = &self.token {
            headers.push(("x-acs-security-token".to_owned(), token.clone()));
        }
        let request = acs3::Request {
            method: "POST",
            query: &query,
            headers: &headers,
            payload_hash: acs3::EMPTY_BODY,
        };
        let signed = acs3::sign(&request, &self.id, &self.secret);
        headers.push(("authorization".to_owned(), signed.authorization));
        headers.remove(0);
        let url = format!("{origin}/?{}", signed.query);
        let (status, body) = self.send(&Method::POST, &url, &headers, Vec::new());
        let read: Value = serde_json::from_str(&body).unwrap_or_default();
        let code = read["Code"].as_str().unwrap_or_default().to_owned();
        Reply { status, code, ec: String::new(), body }
    }

    fn send(
        &self,
        method: &Method,
        url: &str,
        headers: &[(String, String)],
        body: Vec<u8>,
    ) -> (u16, String) {
        self.runtime.block_on(async {
            let mut request = self.client.request(method.clone(), url).body(body);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            match request.send().await {
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    (status, answer.text().await.unwrap_or_default())
                }
                Err(error) => (0, error.without_url().to_string()),
            }
        })
    }
}
