//! Sends noise: requests with a valid signature and invalid content, requests with a byte or two changed, and
//! random bytes. For all of them the emulator must answer with something other than an internal error, or end
//! the connection, and serve the next one.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::client::{Client, Reply};

const THREADS: u64 = 4;
const KEYS: [&str; 14] = [
    "k",
    "..",
    "../../x",
    "a/../b",
    "nul\0",
    "ü/é",
    "%2e%2e",
    "",
    "/",
    "\\",
    " ",
    "\n",
    "?",
    "_emulator/",
];
const NAMES: [&str; 26] = [
    "uploads",
    "uploadId",
    "partNumber",
    "delete",
    "stat",
    "encryption",
    "bucketInfo",
    "location",
    "list-type",
    "prefix",
    "delimiter",
    "marker",
    "max-keys",
    "max-parts",
    "max-uploads",
    "part-number-marker",
    "key-marker",
    "upload-id-marker",
    "encoding-type",
    "continuation-token",
    "start-after",
    "fetch-owner",
    "objectMeta",
    "x-oss-traffic-limit",
    "response-content-type",
    "acl",
];
const HEADERS: [&str; 15] = [
    "range",
    "x-oss-range-behavior",
    "x-oss-copy-source",
    "x-oss-copy-source-range",
    "x-oss-copy-source-if-match",
    "x-oss-metadata-directive",
    "x-oss-forbid-overwrite",
    "x-oss-complete-all",
    "x-oss-storage-class",
    "x-oss-meta-x",
    "x-oss-server-side-encryption",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
];
const VALUES: [&str; 30] = [
    "",
    "0",
    "1",
    "-1",
    "10000",
    "65536",
    "4294967296",
    "18446744073709551615",
    "99999999999999999999999",
    "1e9",
    "true",
    "yes",
    "url",
    "2",
    "standard",
    "bytes=0-0",
    "bytes=-1",
    "bytes=1-0",
    "bytes=0-18446744073709551615",
    "bytes=18446744073709551615-",
    "/demo/k",
    "/demo/%2e%2e",
    "/demo",
    "REPLACE",
    "AES256",
    "Archive",
    "Sat, 16 Dec 2023 16:20:57 GMT",
    "\"*\"",
    "ü",
    "/",
];
const XML: [&str; 22] = [
    "<CompleteMultipartUpload>",
    "</CompleteMultipartUpload>",
    "<Part>",
    "</Part>",
    "<PartNumber>1</PartNumber>",
    "<PartNumber>-1</PartNumber>",
    "<ETag>\"A\"</ETag>",
    "<ETag>&quot;</ETag>",
    "<Delete>",
    "</Delete>",
    "<Object><Key>k</Key></Object>",
    "<Object><Key>../x</Key></Object>",
    "<Quiet>true</Quiet>",
    "<SSEAlgorithm>AES256</SSEAlgorithm>",
    "<!DOCTYPE a [<!ENTITY b \"c\">]>",
    "&b;",
    "&#0;",
    "&#x10FFFF;",
    "<![CDATA[",
    "]]>",
    "<!--",
    "\u{0}é",
];
const ACTIONS: [&str; 19] = [
    "DescribeRegions",
    "ImportImage",
    "DescribeTaskAttribute",
    "DescribeTasks",
    "CancelTask",
    "DescribeImages",
    "ModifyImageAttribute",
    "DeleteImage",
    "CopyImage",
    "CancelCopyImage",
    "ModifyImageSharePermission",
    "DescribeImageSharePermission",
    "DescribeSnapshots",
    "DeleteSnapshot",
    "TagResources",
    "UntagResources",
    "ListTagResources",
    "AddTags",
    "Nonsense",
];
const PARAMS: [&str; 24] = [
    "RegionId",
    "ImageId",
    "TaskId",
    "TaskIds",
    "ImageName",
    "PageNumber",
    "PageSize",
    "Status",
    "StartTime",
    "DiskDeviceMapping.1.OSSBucket",
    "DiskDeviceMapping.1.OSSObject",
    "DiskDeviceMapping.1.DiskImageSize",
    "DiskDeviceMapping.4294967295.Format",
    "DiskDeviceMapping.0.OSSBucket",
    "Tag.1.Key",
    "Tag.1.Value",
    "Tag.99999999999.Key",
    "AddAccount.1",
    "ResourceType",
    "ResourceId.1",
    "ClientToken",
    "SnapshotIds",
    "DestinationRegionId",
    "BootMode",
];
const WORDS: [&str; 16] = [
    "cn-hangzhou",
    "cn-beijing",
    "demo",
    "k",
    "m-x",
    "image",
    "snapshot",
    "[]",
    "[\"s\"]",
    "{",
    "0",
    "100",
    "18446744073709551616",
    "2024-01-01T00:00Z",
    "ü\0",
    "",
];

/// SplitMix64.
struct Noise(u64);

impl Noise {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap_or_default()
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    fn pairs<'a>(
        &mut self,
        most: usize,
        names: &[&'a str],
        values: &[&'a str],
    ) -> Vec<(&'a str, &'a str)> {
        (0..self.below(most)).map(|_| (self.of(names), self.of(values))).collect()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap_or_default()
    }
}

/// Results.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) requests: u64,
    /// Answers by status; 0 counts connections that ended.
    statuses: BTreeMap<u16, u64>,
}

impl Done {
    /// `200 × 5, 400 × 7, …`; 0 stands for connections that ended.
    pub(crate) fn summary(&self) -> String {
        let words: Vec<String> =
            self.statuses.iter().map(|(status, count)| format!("{status} × {count}")).collect();
        words.join(", ")
    }

    fn add(&mut self, status: u16) {
        self.requests += 1;
        *self.statuses.entry(status).or_default() += 1;
    }
}

/// A signed OSS request with invalid content.
fn signed(noise: &mut Noise, client: &mut Client) -> io::Result<Reply> {
    let method = noise.of(&["GET", "PUT", "POST", "HEAD", "DELETE", "PATCH"]);
    let key = noise.of(&KEYS);
    let query = noise.pairs(5, &NAMES, &VALUES);
    let mut headers = noise.pairs(4, &HEADERS, &VALUES);
    headers.sort_unstable();
    headers.dedup_by_key(|(name, _)| *name);
    let body: String = (0..noise.below(9)).map(|_| noise.of(&XML)).collect();
    client.oss(method, key, &query, &headers, body.as_bytes())
}

/// A signed ECS call with invalid content.
fn called(noise: &mut Noise, client: &mut Client) -> io::Result<Reply> {
    let nonce = noise.below(usize::MAX).to_string();
    let params = noise.pairs(9, &PARAMS, &WORDS);
    client.ecs(noise.of(&ACTIONS), &nonce, &params)
}

/// A request with some bytes changed; the connection is not used again.
fn damaged(noise: &mut Noise, client: &mut Client) -> io::Result<Reply> {
    let mut text = format!(
        "{} /{}?{}={} HTTP/1.1\r\nhost: 127.0.0.1\r\n{}: {}\r\ncontent-length: 0\r\n\
         authorization: OSS4-HMAC-SHA256 Credential=a/20240101/b/oss/aliyun_v4_request,\
         Signature=0\r\nx-oss-date: 20240101T000000Z\r\n\r\n",
        noise.of(&["GET", "PUT", "POST"]),
        noise.of(&["demo/k", "demo", "", "latest/meta-data/", "_emulator/status", "%ff"]),
        noise.of(&NAMES),
        noise.of(&["1", "%", "%zz", "+", "%00"]),
        noise.of(&HEADERS),
        noise.of(&["1", "x", "bytes=0-1"]),
    )
    .into_bytes();
    for _ in 0..noise.below(4) {
        let at = noise.below(text.len());
        text[at] = noise.byte();
    }
    // Ends unfinished requests, too.
    text.extend_from_slice(b"\r\n\r\n");
    client.raw(&text, b"", true)
}

fn work(address: SocketAddr, until: Instant, seed: u64) -> Result<Done, Failure> {
    let mut noise = Noise(seed);
    let mut done = Done::default();
    let mut client = Client::connect(address)?;
    while Instant::now() < until {
        let kind = noise.below(8);
        let answered = match kind {
            0 => damaged(&mut noise, &mut client),
            1 | 2 => called(&mut noise, &mut client),
            _ => signed(&mut noise, &mut client),
        };
        let broken = answered.is_err();
        match answered {
            Ok(reply) if reply.status >= 500 && reply.status != 501 => {
                let text = String::from_utf8_lossy(&reply.body);
                return Err(format!("seed {seed}: {} {text}", reply.status).into());
            }
            Ok(reply) => done.add(reply.status),
            Err(_) => done.add(0),
        }
        if kind == 0 || broken {
            client = Client::connect(address)?;
        }
    }
    Ok(done)
}

/// Sends noise for `time`.
pub(crate) fn run(address: SocketAddr, time: Duration, seed: u64) -> Result<Done, Failure> {
    let until = Instant::now() + time;
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| scope.spawn(move || work(address, until, seed * THREADS + number)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| Failure::from("a sender panicked"))?)
            .collect::<Result<Vec<Done>, Failure>>()
    })?;
    let mut sum = Done::default();
    for done in all {
        sum.requests += done.requests;
        for (status, count) in done.statuses {
            *sum.statuses.entry(status).or_default() += count;
        }
    }
    Ok(sum)
}
