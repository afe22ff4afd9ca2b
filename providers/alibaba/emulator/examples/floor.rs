//! Measures the lower bound of every upload: reads and PUTs the stored bytes of a disk, and nothing else. No
//! image format, no checksum, no retry, no record of what was done. `floor [--ca-file FILE] URL KEY DISK [PART_MIB
//! [LANES [CHUNK_KIB]]]` sends the data between the holes of DISK as one object of the bucket `bench`, by multipart
//! upload. Over TLS it trusts the CA certificates in FILE only. For the benchmark; see docs/internals/performance.md.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use reqwest::{Body, Certificate, Client, Method, Response};
use rustix::fs::{SeekFrom, seek};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const BUCKET: &str = "bench";
const ID: &str = "emulator-id";
const SECRET: &str = "emulator-secret";
const REGION: &str = "cn-hangzhou";
const AHEAD: usize = 2;

/// The stored data of a file: the offset of each run in the file, by its offset in the object.
struct Stored {
    file: File,
    runs: BTreeMap<u64, (u64, u64)>,
    length: u64,
    /// Maximum number of bytes read at once.
    chunk: u64,
}

impl Stored {
    fn open(path: &str, chunk: u64) -> Result<Self, Failure> {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        let (mut runs, mut length, mut at) = (BTreeMap::new(), 0, 0);
        while let Ok(start) = seek(&file, SeekFrom::Data(at)) {
            at = seek(&file, SeekFrom::Hole(start)).unwrap_or(end);
            runs.insert(length, (start, at - start));
            length += at - start;
        }
        Ok(Self { file, runs, length, chunk })
    }

    /// The bytes of the object at `at`: at most a chunk, none beyond `end`.
    fn chunk(&self, at: u64, end: u64) -> Result<Bytes, Failure> {
        let (begin, (start, len)) = self.runs.range(..=at).next_back().ok_or("no such byte")?;
        let count = self.chunk.min(end - at).min(begin + len - at);
        let mut buffer = vec![0; usize::try_from(count)?];
        self.file.read_exact_at(&mut buffer, start + at - begin)?;
        Ok(buffer.into())
    }

    /// A range as a body, read on a separate thread.
    fn body(self: &Arc<Self>, mut at: u64, end: u64) -> Body {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let stored = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            while at < end {
                let chunk = stored.chunk(at, end);
                at += chunk.as_ref().map_or(u64::MAX - at, |chunk| chunk.len() as u64);
                if sender.blocking_send(chunk).is_err() {
                    return;
                }
            }
        });
        Body::wrap_stream(stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|chunk| (chunk, receiver))
        }))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn mac(key: &[u8], data: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(data.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// An object during its upload.
struct Object {
    client: Client,
    url: String,
    key: String,
}

impl Object {
    /// Signs (OSS V4, header form, body unsigned) and sends. `query` is already sorted and encoded.
    async fn send(
        &self,
        method: Method,
        query: &str,
        body: Body,
        length: u64,
    ) -> Result<Response, Failure> {
        let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let path = format!("/{BUCKET}/{}", self.key);
        let canonical = format!(
            "{method}\n{path}\n{query}\nx-oss-content-sha256:UNSIGNED-PAYLOAD\nx-oss-date:{stamp}\n\n\nUNSIGNED-PAYLOAD"
        );
        let scope = format!("{}/{REGION}/oss/aliyun_v4_request", &stamp[..8]);
        let key = format!("aliyun_v4{SECRET}").into_bytes();
        let key = scope.split('/').fold(key, |key, word| mac(&key, word));
        let hash = hex(&Sha256::digest(canonical));
        let text = format!("OSS4-HMAC-SHA256\n{stamp}\n{scope}\n{hash}");
        let signature = hex(&mac(&key, &text));
        let authorization =
            format!("OSS4-HMAC-SHA256 Credential={ID}/{scope},Signature={signature}");
        let request = self
            .client
            .request(method, format!("{}{path}?{query}", self.url))
            .header("x-oss-content-sha256", "UNSIGNED-PAYLOAD")
            .header("x-oss-date", stamp)
            .header("authorization", authorization)
            .header("content-length", length)
            .body(body);
        Ok(request.send().await?.error_for_status()?)
    }

    async fn part(
        &self,
        upload: &str,
        number: u64,
        body: Body,
        length: u64,
    ) -> Result<(u64, String), Failure> {
        let query = format!("partNumber={number}&uploadId={upload}");
        let answer = self.send(Method::PUT, &query, body, length).await?;
        let etag = answer.headers().get("etag").ok_or("a part without a tag")?.to_str()?;
        Ok((number, etag.to_owned()))
    }
}

async fn upload(
    object: &Object,
    stored: &Arc<Stored>,
    size: u64,
    concurrency: usize,
) -> Result<(), Failure> {
    let begun = object.send(Method::POST, "uploads", Body::default(), 0).await?.text().await?;
    let upload = begun.split(['<', '>']).skip_while(|word| *word != "UploadId").nth(1);
    let upload = upload.ok_or("an upload without an id")?;
    let parts = (0..stored.length.div_ceil(size)).map(|index| {
        let (start, end) = (index * size, stored.length.min((index + 1) * size));
        async move { object.part(upload, index + 1, stored.body(start, end), end - start).await }
    });
    let mut parts: Vec<(u64, String)> =
        stream::iter(parts).buffer_unordered(concurrency).try_collect().await?;
    parts.sort_unstable();
    let rows = parts.iter().map(|(number, etag)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
    });
    let list =
        format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", rows.collect::<String>());
    let length = list.len() as u64;
    object.send(Method::POST, &format!("uploadId={upload}"), list.into(), length).await?;
    Ok(())
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (trusted, args) = match args.as_slice() {
        [option, file, rest @ ..] if option == "--ca-file" => (Some(file), rest),
        rest => (None, rest),
    };
    let [url, key, disk, tuning @ ..] = args else {
        return Err(
            "usage: floor [--ca-file FILE] URL KEY DISK [PART_MIB [LANES [CHUNK_KIB]]]".into()
        );
    };
    let size = tuning.first().map_or(Ok(16), |text| text.parse::<u64>())? << 20;
    let concurrency = tuning.get(1).map_or(Ok(4), |text| text.parse())?;
    let chunk = tuning.get(2).map_or(Ok(256), |text| text.parse::<u64>())? << 10;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let trusted = match trusted {
        Some(file) => Certificate::from_pem_bundle(&std::fs::read(file)?)?,
        None => Vec::new(),
    };
    let client = Client::builder().no_proxy().tls_certs_only(trusted).tcp_nodelay(true).build()?;
    let object = Object { client, url: url.clone(), key: key.clone() };
    runtime.block_on(upload(&object, &Arc::new(Stored::open(disk, chunk)?), size, concurrency))
}
