//! Tests multipart uploads: the rules of parts, checksums, lists, and the files left on disk.

use crc_fast::{CrcAlgorithm, checksum};

use crate::client::{Call, Client, Reply, emulator};

const KIB: usize = 1024;

fn filled(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from((index * 31 + seed * 7) % 251).unwrap()).collect()
}

pub(crate) fn initiate(client: &Client, key: &str) -> String {
    let query = [("uploads", "")];
    let reply =
        client.oss(&Call { method: "POST", bucket: "demo", key, query: &query, ..Call::default() });
    assert_eq!(reply.status, 200);
    reply.xml("UploadId")
}

pub(crate) fn part(client: &Client, key: &str, upload: &str, number: &str, body: &[u8]) -> Reply {
    let query = [("uploadId", upload), ("partNumber", number)];
    client.oss(&Call { method: "PUT", bucket: "demo", key, query: &query, body, ..Call::default() })
}

pub(crate) fn complete(client: &Client, key: &str, upload: &str, parts: &[(u16, &str)]) -> Reply {
    let list: String = parts
        .iter()
        .map(|(number, etag)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        })
        .collect();
    let body = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    let query = [("uploadId", upload)];
    let body = body.as_bytes();
    client.oss(&Call {
        method: "POST",
        bucket: "demo",
        key,
        query: &query,
        body,
        ..Call::default()
    })
}

pub(crate) fn complete_all(client: &Client, key: &str, upload: &str) -> Reply {
    client.oss(&Call {
        method: "POST",
        bucket: "demo",
        key,
        query: &[("uploadId", upload)],
        headers: &[("x-oss-complete-all", "yes")],
        ..Call::default()
    })
}

fn bodies(running: &build_image_emulator_alibaba::Running) -> usize {
    std::fs::read_dir(running.state_dir().join("bodies")).unwrap().count()
}

#[test]
fn equal_parts_in_any_order_become_one_file_and_one_checksum() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let whole = filled(3 * 100 * KIB + 77, 1);
    let upload = initiate(&client, "k");
    let pieces: Vec<&[u8]> = whole.chunks(100 * KIB).collect();
    let mut etags = vec![String::new(); pieces.len()];
    for index in [1, 3, 0, 2] {
        let reply = part(&client, "k", &upload, &(index + 1).to_string(), pieces[index]);
        let crc = checksum(CrcAlgorithm::Crc64Xz, pieces[index]).to_string();
        assert_eq!(reply.header("x-oss-hash-crc64ecma"), crc);
        etags[index] = reply.header("etag").to_owned();
    }
    let parts: Vec<(u16, &str)> = (1..).zip(etags.iter().map(String::as_str)).collect();
    let done = complete(&client, "k", &upload, &parts);
    assert_eq!(done.status, 200);
    let crc = checksum(CrcAlgorithm::Crc64Xz, &whole).to_string();
    assert_eq!(done.header("x-oss-hash-crc64ecma"), crc);
    assert!(done.xml("ETag").ends_with("-4&quot;"));
    let get = client.get("k");
    assert_eq!(get.body, whole);
    assert_eq!(get.header("x-oss-object-type"), "Multipart");
    assert_eq!(get.header("x-oss-hash-crc64ecma"), crc);
    assert_eq!(bodies(&running), 1);
    assert_eq!(running.status()["open_uploads"], 0);
}

#[test]
fn unequal_replaced_and_skipped_parts_still_make_the_right_object() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let upload = initiate(&client, "k");
    let [a, b, c] = [filled(100 * KIB, 1), filled(150 * KIB, 2), filled(100 * KIB, 3)];
    part(&client, "k", &upload, "2", &filled(100 * KIB, 9));
    part(&client, "k", &upload, "5", &b);
    part(&client, "k", &upload, "2", &a);
    part(&client, "k", &upload, "9000", &c);
    let done = complete_all(&client, "k", &upload);
    assert_eq!(done.status, 200);
    assert_eq!(client.get("k").body, [a, b, c].concat());
}

#[test]
fn lists_of_parts_are_checked() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let upload = initiate(&client, "k");
    let first = part(&client, "k", &upload, "1", &filled(100 * KIB - 1, 1));
    let first = first.header("etag");
    let second = part(&client, "k", &upload, "2", b"end");
    let second = second.header("etag");
    let code = |parts: &[(u16, &str)]| complete(&client, "k", &upload, parts).error();
    let error = |code: &str| (400, code.to_owned());
    assert_eq!(code(&[(1, first), (2, second)]), error("EntityTooSmall"));
    assert_eq!(code(&[(2, second), (1, first)]), error("InvalidPartOrder"));
    assert_eq!(code(&[(1, second)]), error("InvalidPart"));
    assert_eq!(code(&[(1, first), (3, second)]), error("InvalidPart"));
    assert_eq!(code(&[]), error("MalformedXML"));
    assert_eq!(complete(&client, "k", &upload, &[(2, second)]).status, 200);
    assert_eq!(client.get("k").text(), "end");
    let again = complete(&client, "k", &upload, &[(2, second)]);
    assert_eq!(again.error(), (404, "NoSuchUpload".to_owned()));
    assert_eq!(again.header("x-oss-ec"), "0042-00000002");
}

#[test]
fn parts_are_refused_without_number_length_or_upload() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let upload = initiate(&client, "k");
    for number in ["0", "10001", "x", "-1"] {
        let reply = part(&client, "k", &upload, number, b"x");
        assert_eq!(reply.error(), (400, "InvalidArgument".to_owned()), "{number}");
        assert_eq!(reply.header("x-oss-ec"), "0017-00000220");
    }
    assert_eq!(part(&client, "k", &upload, "10000", b"x").status, 200);
    assert_eq!(part(&client, "other", &upload, "1", b"x").error().1, "NoSuchUpload");
    let query = [("uploadId", upload.as_str()), ("partNumber", "1")];
    let call = Call { method: "PUT", bucket: "demo", key: "k", query: &query, ..Call::default() };
    assert_eq!(client.oss(&Call { chunked: true, body: b"x", ..call }).status, 411);
}

#[test]
fn an_aborted_upload_leaves_nothing() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let upload = initiate(&client, "k");
    part(&client, "k", &upload, "1", &filled(KIB, 1));
    part(&client, "k", &upload, "2", &filled(2 * KIB, 1));
    assert_eq!(bodies(&running), 2);
    let query = [("uploadId", upload.as_str())];
    let abort =
        Call { method: "DELETE", bucket: "demo", key: "k", query: &query, ..Call::default() };
    assert_eq!(client.oss(&abort).status, 204);
    assert_eq!(client.oss(&abort).error(), (404, "NoSuchUpload".to_owned()));
    assert_eq!(part(&client, "k", &upload, "1", b"x").error().1, "NoSuchUpload");
    assert_eq!(bodies(&running), 0);
    assert_eq!(running.status()["parts"], 0);
}

#[test]
fn parts_are_listed_in_pages_with_checksums() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let upload = initiate(&client, "k");
    for number in 1..=5 {
        part(&client, "k", &upload, &number.to_string(), &filled(number, number));
    }
    let (mut marker, mut sizes, mut sums) = (String::new(), Vec::new(), Vec::new());
    loop {
        let query = [
            ("uploadId", upload.as_str()),
            ("max-parts", "2"),
            ("part-number-marker", marker.as_str()),
        ];
        let call =
            Call { method: "GET", bucket: "demo", key: "k", query: &query, ..Call::default() };
        let page = client.oss(&call);
        sizes.extend(page.all("Size"));
        sums.extend(page.all("HashCrc64ecma"));
        let more = page.xml("IsTruncated");
        marker = page.xml("NextPartNumberMarker");
        if more == "false" {
            break;
        }
        assert_eq!(more, "true");
    }
    assert_eq!((sizes.join(","), marker.as_str()), ("1,2,3,4,5".to_owned(), "5"));
    let expected: Vec<String> =
        (1..=5).map(|n| checksum(CrcAlgorithm::Crc64Xz, &filled(n, n)).to_string()).collect();
    assert_eq!(sums, expected);
}

#[test]
fn uploads_are_listed_in_pages_below_a_prefix() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let mut ids =
        vec![initiate(&client, "x/a"), initiate(&client, "x/a"), initiate(&client, "x/b")];
    initiate(&client, "y");
    let (mut key, mut id, mut seen) = (String::new(), String::new(), Vec::new());
    loop {
        let query = [
            ("uploads", ""),
            ("prefix", "x/"),
            ("max-uploads", "1"),
            ("key-marker", key.as_str()),
            ("upload-id-marker", id.as_str()),
        ];
        let page =
            client.oss(&Call { method: "GET", bucket: "demo", query: &query, ..Call::default() });
        seen.extend(page.all("UploadId"));
        if page.xml("IsTruncated") == "false" {
            break;
        }
        (key, id) = (page.xml("NextKeyMarker"), page.xml("NextUploadIdMarker"));
    }
    ids[..2].sort();
    assert_eq!(seen, ids);
}

#[test]
fn fast_etags_complete_an_upload_as_well() {
    let running = emulator(|config| config.fast_etags = true);
    let client = Client::of(&running);
    let upload = initiate(&client, "k");
    let stored = part(&client, "k", &upload, "1", b"hello world");
    assert_eq!(stored.header("etag"), "\"53037ECDEF2352DA000000000000000B\"");
    assert_eq!(complete(&client, "k", &upload, &[(1, stored.header("etag"))]).status, 200);
    assert_eq!(client.get("k").text(), "hello world");
}
