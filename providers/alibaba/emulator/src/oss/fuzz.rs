//! Combines requests from pieces of real ones and noise: every parser of heads, queries, and documents must
//! refuse or accept them, never panic. The sequence is deterministic.

use hyper::header::{HeaderName, HeaderValue};

use super::complete::read_list;
use super::conditions::{self, OBJECT};
use super::{copy, delete_many, range, read_xml, route, traffic};
use crate::auth::{acs3, encode, oss_v1, oss_v4, rpc_v1};
use crate::config::Account;
use crate::ecs::params::Params;
use crate::faults::Faults;
use crate::http::Head;
use crate::oss::operation::Operation;
use crate::state::Object;

const ROUNDS: usize = 20_000;
const PIECES: [&str; 52] = [
    "OSS4-HMAC-SHA256",
    "ACS3-HMAC-SHA256",
    "OSS ",
    " Credential=",
    "ak/20231216/cn-hangzhou/oss/aliyun_v4_request",
    "Signature=",
    "SignedHeaders=",
    "AdditionalHeaders=",
    "host;x-acs-action",
    ",",
    ";",
    ":",
    "/",
    "//",
    "..",
    "/../",
    "?",
    "&",
    "=",
    "+",
    "%",
    "%2F",
    "%00",
    "%ff",
    "%c3%28",
    "bytes=",
    "bytes=0-",
    "-",
    "18446744073709551615",
    "99999999999999999999",
    "-1",
    "0",
    "demo",
    "uploads",
    "uploadId",
    "partNumber",
    "x-oss-signature-version",
    "x-oss-expires=604801",
    "20231216T162057Z",
    "Sat, 16 Dec 2023 16:20:57 GMT",
    "2023-12-16T16:20:57Z",
    "<",
    ">",
    "</",
    "<Part>",
    "</Part>",
    "<PartNumber>1</PartNumber>",
    "<CompleteMultipartUpload>",
    "<Delete><Object><Key>",
    "&#x0;",
    "&amp;",
    "é\u{0}\u{7f}\r\n\"'",
];
const NAMES: [&str; 14] = [
    "authorization",
    "x-oss-date",
    "x-oss-content-sha256",
    "x-oss-copy-source",
    "x-oss-copy-source-range",
    "x-oss-traffic-limit",
    "x-acs-date",
    "x-acs-action",
    "date",
    "range",
    "x-oss-range-behavior",
    "if-match",
    "if-modified-since",
    "content-type",
];

/// SplitMix64.
struct Noise(u64);

impl Noise {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    fn text(&mut self) -> String {
        (0..self.below(9)).map(|_| PIECES[self.below(PIECES.len())]).collect()
    }

    fn head(&mut self) -> Head {
        let mut head = Head {
            method: ["GET", "PUT", "POST", "HEAD", "DELETE"][self.below(5)].to_owned(),
            host: [String::new(), "127.0.0.1:1".into(), "[::1".into(), self.text()][self.below(4)]
                .clone(),
            raw_path: format!("/{}", self.text()),
            query: encode::pairs(&self.text()).unwrap_or_default(),
            ..Head::default()
        };
        for _ in 0..self.below(6) {
            let name = HeaderName::from_static(NAMES[self.below(NAMES.len())]);
            if let Ok(value) = HeaderValue::from_bytes(self.text().as_bytes()) {
                head.headers.insert(name, value);
            }
        }
        head
    }
}

fn object() -> Object {
    Object {
        bucket: "demo".into(),
        name: "k".into(),
        length: 10,
        crc64: 0,
        etag: "AB".into(),
        modified: 0,
        object_type: "Normal".into(),
        headers: std::collections::BTreeMap::new(),
        segments: Vec::new(),
    }
}

#[test]
fn heads_of_pieces_and_noise_are_read_without_panic() {
    let mut noise = Noise(1);
    let accounts =
        [Account { id: "ak".to_owned(), secret: "sk".to_owned(), token: Some("t".to_owned()) }];
    let (now, object) = (1_702_743_657_000, object());
    for _ in 0..ROUNDS {
        let head = noise.head();
        let _ = (head.host_name(), acs3::is_used(&head), copy::is_meant(&head));
        if let Ok(call) = route::route(&head) {
            let resource = call.resource();
            // A random signature is never valid.
            let verified = oss_v4::verify(&head, resource, Some("cn-hangzhou"), &accounts, now);
            assert!(verified.is_err());
            assert!(oss_v1::verify(&head, call.resource(), &accounts, now).is_err());
        }
        assert!(acs3::verify(&head, b"", &accounts, now).is_err());
        assert!(rpc_v1::verify("GET", &head.query, &accounts, now).is_err());
        if let Ok(Some((first, length))) = range::read(&head, object.length) {
            assert!(length > 0 && first + length <= object.length, "{head:?}");
        }
        if let Some((first, length)) = range::inside(&noise.text(), object.length) {
            assert!(length > 0 && first + length <= object.length);
        }
        let _ = conditions::check(&head, &object, &OBJECT);
        let _ = traffic::check(&head, Operation::GetObject);
        let params = Params::new(head.query.clone());
        let _ = (params.tags(), params.page(), params.indexes("Tag"), params.fingerprint());
    }
}

#[test]
fn documents_of_pieces_and_noise_are_read_without_panic() {
    let mut noise = Noise(2);
    let mut read = 0;
    for _ in 0..ROUNDS {
        let text = noise.text();
        read += usize::from(read_xml::elements(text.as_bytes()).is_ok());
        let wrapped = format!("<CompleteMultipartUpload>{text}</CompleteMultipartUpload>");
        read += usize::from(read_list(wrapped.as_bytes()).is_ok());
        let _ = delete_many::read(format!("<Delete>{text}</Delete>").as_bytes());
        let _ = Faults::default().set(&text);
    }
    assert!(read > ROUNDS / 100, "{read}: the noise must not be all nonsense");
}
