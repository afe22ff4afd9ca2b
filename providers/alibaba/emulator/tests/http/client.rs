//! Sends one request per connection over a plain socket, with signers for OSS V4 and ACS3 written from the
//! specification alone.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

use build_image_emulator_alibaba::{BucketSeed, Config, Running, start};
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub(crate) const REGION: &str = "cn-hangzhou";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], data: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(data.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn encode(text: &str, slash: bool) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            b'/' if !slash => "/".to_owned(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// An answer as received.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Content of every XML element of this name.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let pieces = self.text().split(&open).skip(1);
        pieces.map(|piece| piece.split(&close).next().unwrap().to_owned()).collect()
    }

    /// Content of the first XML element of this name, or an empty string.
    pub(crate) fn xml(&self, name: &str) -> String {
        self.all(name).into_iter().next().unwrap_or_default()
    }

    /// Status and code of an error in XML or JSON.
    pub(crate) fn error(&self) -> (u16, String) {
        let code = match serde_json::from_slice::<Value>(&self.body) {
            Ok(value) => value["Code"].as_str().unwrap_or_default().to_owned(),
            Err(_) => self.xml("Code"),
        };
        (self.status, code)
    }
}

/// Starts an emulator with bucket `demo` and further settings.
pub(crate) fn emulator(change: impl FnOnce(&mut Config)) -> Running {
    let buckets =
        vec![BucketSeed::parse("demo").unwrap(), BucketSeed::parse("far:cn-beijing").unwrap()];
    let mut config = Config { buckets, ..Config::default() };
    change(&mut config);
    start(config).unwrap()
}

/// A caller with a key pair.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) region: String,
    /// Host header instead of the address, which makes the bucket part of the host.
    pub(crate) host: Option<String>,
}

/// One OSS request before it is signed.
#[derive(Debug, Default)]
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
    pub(crate) query: &'a [(&'a str, &'a str)],
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
    /// Leave out Content-Length.
    pub(crate) no_length: bool,
    /// Send the body in chunks.
    pub(crate) chunked: bool,
}

impl Client {
    pub(crate) fn of(running: &Running) -> Self {
        Self {
            address: running.address(),
            id: "emulator-id".to_owned(),
            secret: "emulator-secret".to_owned(),
            region: REGION.to_owned(),
            host: None,
        }
    }

    fn send(&self, head: &str, body: &[u8]) -> std::io::Result<Reply> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        let cut_error = || std::io::Error::other("the answer broke off");
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(cut_error)?;
        let text = String::from_utf8(all[..end].to_vec()).unwrap();
        let mut lines = text.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: BTreeMap<String, String> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        let body = all[end + 4..].to_vec();
        let announced = headers.get("content-length").and_then(|text| text.parse().ok());
        if !head.starts_with("HEAD") && announced.is_some_and(|length: usize| length != body.len())
        {
            return Err(cut_error());
        }
        Ok(Reply { status, headers, body })
    }

    /// The V4 Authorization header; `request` is method, path and query on three lines.
    fn authorize_oss(&self, request: &str, headers: &[(String, String)], stamp: &str) -> String {
        let signed: String = headers
            .iter()
            .filter(|(name, _)| name.starts_with("x-oss-") || name.starts_with("content-"))
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let canonical = format!("{request}{signed}\n\nUNSIGNED-PAYLOAD");
        let scope = format!("{}/{}/oss/aliyun_v4_request", &stamp[..8], self.region);
        let hash = hex(&Sha256::digest(&canonical));
        let mut key = format!("aliyun_v4{}", self.secret).into_bytes();
        for word in scope.split('/') {
            key = mac(&key, word);
        }
        let text = format!("OSS4-HMAC-SHA256\n{stamp}\n{scope}\n{hash}");
        let signature = hex(&mac(&key, &text));
        format!("OSS4-HMAC-SHA256 Credential={}/{scope},Signature={signature}", self.id)
    }

    /// Signs and sends an OSS request; an error is a broken connection.
    pub(crate) fn try_oss(&self, call: &Call<'_>) -> std::io::Result<Reply> {
        let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut headers: Vec<(String, String)> = vec![
            ("x-oss-content-sha256".to_owned(), "UNSIGNED-PAYLOAD".to_owned()),
            ("x-oss-date".to_owned(), stamp.clone()),
        ];
        headers.extend(call.headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        headers.sort();
        let mut query: Vec<(String, String)> = call
            .query
            .iter()
            .map(|(key, value)| (encode(key, true), encode(value, true)))
            .collect();
        query.sort();
        let query: Vec<String> = query
            .into_iter()
            .map(|(key, value)| if value.is_empty() { key } else { format!("{key}={value}") })
            .collect();
        let query = query.join("&");
        let path = match (call.bucket, call.key) {
            ("", _) => "/".to_owned(),
            (bucket, key) => format!("/{bucket}/{}", encode(key, false)),
        };
        let request = format!("{}\n{path}\n{query}\n", call.method);
        let authorization = self.authorize_oss(&request, &headers, &stamp);
        headers.push(("authorization".to_owned(), authorization));
        let target = match &self.host {
            Some(_) => format!("/{}", encode(call.key, false)),
            None => path,
        };
        let host = self.host.clone().unwrap_or_else(|| self.address.to_string());
        let mut head = format!(
            "{} {target}?{query} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n",
            call.method
        );
        for (name, value) in &headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if call.chunked {
            head.push_str("transfer-encoding: chunked\r\n\r\n");
            let mut body = Vec::new();
            for piece in call.body.chunks(7) {
                body.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                body.extend_from_slice(piece);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            return self.send(&head, &body);
        }
        if !call.no_length {
            head.push_str(&format!("content-length: {}\r\n", call.body.len()));
        }
        head.push_str("\r\n");
        self.send(&head, call.body)
    }

    /// Signs and sends an OSS request.
    pub(crate) fn oss(&self, call: &Call<'_>) -> Reply {
        self.try_oss(call).unwrap()
    }

    pub(crate) fn put(&self, key: &str, body: &[u8]) -> Reply {
        self.oss(&Call { method: "PUT", bucket: "demo", key, body, ..Call::default() })
    }

    pub(crate) fn get(&self, key: &str) -> Reply {
        self.oss(&Call { method: "GET", bucket: "demo", key, ..Call::default() })
    }

    /// Signs and sends a call of ECS, STS or RAM with a given nonce.
    pub(crate) fn acs_with_nonce(
        &self,
        (version, action): (&str, &str),
        params: &[(&str, &str)],
        nonce: &str,
    ) -> Reply {
        let mut pairs: Vec<(String, String)> =
            params.iter().map(|(key, value)| (encode(key, true), encode(value, true))).collect();
        // Sorted by key, not by the joined text: `Tag.1=` comes before `Tag.10=`.
        pairs.sort();
        let pairs: Vec<String> =
            pairs.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        let query = pairs.join("&");
        let empty = hex(&Sha256::digest(b""));
        let date = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let host = self.address.to_string();
        let headers = [
            ("host", host.as_str()),
            ("x-acs-action", action),
            ("x-acs-content-sha256", &empty),
            ("x-acs-date", &date),
            ("x-acs-signature-nonce", nonce),
            ("x-acs-version", version),
        ];
        let signed: String =
            headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let names = headers.map(|(name, _)| name).join(";");
        let canonical = format!("POST\n/\n{query}\n{signed}\n{names}\n{empty}");
        let text = format!("ACS3-HMAC-SHA256\n{}", hex(&Sha256::digest(&canonical)));
        let signature = hex(&mac(self.secret.as_bytes(), &text));
        let mut head =
            format!("POST /?{query} HTTP/1.1\r\nconnection: close\r\ncontent-length: 0\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!(
            "authorization: ACS3-HMAC-SHA256 Credential={},SignedHeaders={names},Signature={signature}\r\n\r\n",
            self.id
        ));
        self.send(&head, b"").unwrap()
    }

    /// Signs and sends an ECS call.
    pub(crate) fn ecs(&self, action: &str, params: &[(&str, &str)]) -> Reply {
        static NONCE: AtomicU64 = AtomicU64::new(0);
        let nonce = format!("nonce-{}", NONCE.fetch_add(1, Ordering::Relaxed));
        let mut all = vec![("RegionId", REGION)];
        all.extend(params.iter().filter(|(key, _)| *key != "RegionId"));
        if let Some(region) = params.iter().find(|(key, _)| *key == "RegionId") {
            all[0] = *region;
        }
        self.acs_with_nonce(("2014-05-26", action), &all, &nonce)
    }

    /// A request without any signature.
    pub(crate) fn plain(&self, method: &str, target: &str, body: &[u8]) -> Reply {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.send(&head, body).unwrap()
    }

    /// Sends a request without a body that is not signed, with further header lines.
    pub(crate) fn raw(&self, method: &str, target: &str, host: &str, headers: &str) -> Reply {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n\r\n"
        );
        self.send(&head, b"").unwrap()
    }
}
