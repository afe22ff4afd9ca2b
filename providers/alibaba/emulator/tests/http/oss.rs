//! Tests buckets and objects: addressing, headers, ranges, lists, refusals.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::client::{Call, Client, emulator};

#[test]
fn an_object_comes_back_as_it_was_put() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let put = client.oss(&Call {
        method: "PUT",
        bucket: "demo",
        key: "dir/a b+ü.raw",
        headers: &[("x-oss-meta-run", "x  y"), ("content-type", "text/plain")],
        body: b"hello world",
        ..Call::default()
    });
    assert_eq!(put.status, 200);
    assert_eq!(put.header("x-oss-hash-crc64ecma"), "5981764153023615706");
    assert_eq!(put.header("etag"), "\"5EB63BBBE01EEED093CB22BB8F5ACDC3\"");
    assert_eq!(put.header("x-oss-request-id").len(), 24);
    let get = client.get("dir/a b+ü.raw");
    assert_eq!((get.status, get.text()), (200, "hello world"));
    assert_eq!(get.header("x-oss-meta-run"), "x  y");
    let call = Call { method: "HEAD", bucket: "demo", key: "dir/a b+ü.raw", ..Call::default() };
    let head = client.oss(&call);
    assert_eq!(head.header("content-length"), "11");
    assert_eq!(head.header("x-oss-object-type"), "Normal");
    assert_eq!(head.header("content-type"), "text/plain");
    assert!(head.header("last-modified").ends_with(" GMT"));
    let range = client.oss(&Call {
        method: "GET",
        bucket: "demo",
        key: "dir/a b+ü.raw",
        headers: &[("range", "bytes=6-")],
        ..Call::default()
    });
    assert_eq!((range.status, range.text()), (206, "world"));
    assert_eq!(range.header("content-range"), "bytes 6-10/11");
}

#[test]
fn deletion_is_quiet_and_complete() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put("k", b"x");
    let delete = Call { method: "DELETE", bucket: "demo", key: "k", ..Call::default() };
    assert_eq!(client.oss(&delete).status, 204);
    assert_eq!(client.oss(&delete).status, 204);
    assert_eq!(client.get("k").error(), (404, "NoSuchKey".to_owned()));
    assert_eq!(std::fs::read_dir(running.state_dir().join("bodies")).unwrap().count(), 0);
}

#[test]
fn virtual_hosts_go_by_the_host_header() {
    let running = emulator(|_| {});
    let mut client = Client::of(&running);
    client.put("k", b"x");
    client.host = Some("demo.oss-cn-hangzhou.aliyuncs.com".to_owned());
    assert_eq!(client.get("k").text(), "x");
    client.host = Some("demo.oss-cn-beijing.aliyuncs.com".to_owned());
    let far = client.get("k");
    assert_eq!(far.error(), (403, "AccessDenied".to_owned()));
    assert_eq!(far.xml("Endpoint"), "oss-cn-hangzhou.aliyuncs.com");
}

#[test]
fn bucket_calls_return_the_region() {
    let running = emulator(|_| {});
    let mut client = Client::of(&running);
    let ask = |client: &Client, bucket, name| {
        client.oss(&Call { method: "GET", bucket, query: &[(name, "")], ..Call::default() })
    };
    let info = ask(&client, "demo", "bucketInfo");
    assert_eq!(info.xml("Location"), "oss-cn-hangzhou");
    assert_eq!(info.xml("SSEAlgorithm"), "None");
    assert_eq!(info.xml("Grant"), "private");
    assert!(ask(&client, "demo", "location").text().contains(">oss-cn-hangzhou</Location"));
    let wrong = ask(&client, "far", "location");
    assert_eq!(wrong.error(), (400, "InvalidArgument".to_owned()));
    assert_eq!(wrong.header("x-oss-ec"), "0002-00000226");
    client.region = "cn-beijing".to_owned();
    assert_eq!(ask(&client, "far", "bucketInfo").xml("Location"), "oss-cn-beijing");
    let made = client.oss(&Call { method: "PUT", bucket: "made", ..Call::default() });
    assert_eq!(made.status, 200);
    assert_eq!(ask(&client, "made", "bucketInfo").xml("Location"), "oss-cn-beijing");
    assert_eq!(client.oss(&Call { method: "GET", ..Call::default() }).all("Name").len(), 3);
}

#[test]
fn callers_are_refused_with_the_vendors_codes() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let anonymous = client.plain("GET", "/demo/k", b"");
    assert_eq!(anonymous.error(), (403, "AccessDenied".to_owned()));
    let wrong = Client { secret: "wrong".to_owned(), ..client.clone() }.get("k");
    assert_eq!(wrong.error(), (403, "SignatureDoesNotMatch".to_owned()));
    assert!(wrong.xml("CanonicalRequest").starts_with("GET\n/demo/k\n"));
    let unknown = Client { id: "nobody".to_owned(), ..client.clone() }.get("k");
    assert_eq!(unknown.error(), (403, "InvalidAccessKeyId".to_owned()));
    let bucket = client.oss(&Call { method: "GET", bucket: "none", key: "k", ..Call::default() });
    assert_eq!(bucket.error(), (404, "NoSuchBucket".to_owned()));
    assert_eq!(client.put("/k", b"").error(), (400, "InvalidObjectName".to_owned()));
    assert_eq!(client.put(&"k".repeat(1024), b"").error(), (400, "InvalidObjectName".to_owned()));
    let acl = Call { method: "GET", bucket: "demo", query: &[("acl", "")], ..Call::default() };
    assert_eq!(client.oss(&acl).error(), (501, "NotImplemented".to_owned()));
}

#[test]
fn errors_of_head_are_in_a_header() {
    let running = emulator(|_| {});
    let call = Call { method: "HEAD", bucket: "demo", key: "none", ..Call::default() };
    let reply = Client::of(&running).oss(&call);
    assert_eq!((reply.status, reply.body.len()), (404, 0));
    let xml = String::from_utf8(STANDARD.decode(reply.header("x-oss-err")).unwrap()).unwrap();
    assert!(xml.contains("<Code>NoSuchKey</Code>"));
    assert!(xml.contains(&format!("<RequestId>{}<", reply.header("x-oss-request-id"))));
    assert_eq!(reply.header("x-oss-ec"), "0026-00000001");
}

#[test]
fn bodies_need_a_length_or_chunks_and_the_right_md5() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let put = Call { method: "PUT", bucket: "demo", key: "k", ..Call::default() };
    let bare = client.oss(&Call { no_length: true, ..put });
    assert_eq!(bare.error(), (411, "MissingContentLength".to_owned()));
    let put = Call { method: "PUT", bucket: "demo", key: "k", ..Call::default() };
    assert_eq!(client.oss(&Call { chunked: true, body: b"hello world", ..put }).status, 200);
    assert_eq!(client.get("k").text(), "hello world");
    let md5 = |value, body| {
        let headers = [("content-md5", value)];
        let call = Call {
            method: "PUT",
            bucket: "demo",
            key: "m",
            headers: &headers,
            body,
            ..Call::default()
        };
        client.oss(&call)
    };
    assert_eq!(md5("XrY7u+Ae7tCTyyK7j1rNww==", b"hello world").status, 200);
    let invalid = (400, "InvalidDigest".to_owned());
    assert_eq!(md5("XrY7u+Ae7tCTyyK7j1rNww==", b"hello there").error(), invalid);
    assert_eq!(md5("nonsense", b"x").error(), invalid);
    assert_eq!(client.get("m").text(), "hello world");
}

#[test]
fn overwriting_can_be_forbidden() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let put = |body| {
        client.oss(&Call {
            method: "PUT",
            bucket: "demo",
            key: "k",
            headers: &[("x-oss-forbid-overwrite", "true")],
            body,
            ..Call::default()
        })
    };
    assert_eq!(put(b"one").status, 200);
    assert_eq!(put(b"two").error(), (409, "FileAlreadyExists".to_owned()));
    assert_eq!(client.get("k").text(), "one");
}

#[test]
fn lists_come_in_pages_and_fold_at_a_delimiter() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    for key in ["a/1", "a/2", "b", "c/1", "d&e"] {
        client.put(key, b"x");
    }
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let query = [("list-type", "2"), ("max-keys", "2"), ("continuation-token", &token)];
        let page =
            client.oss(&Call { method: "GET", bucket: "demo", query: &query, ..Call::default() });
        seen.extend(page.all("Key"));
        token = page.xml("NextContinuationToken");
        assert_eq!(page.xml("IsTruncated") == "true", !token.is_empty());
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["a/1", "a/2", "b", "c/1", "d&amp;e"]);
    let folded = client.oss(&Call {
        method: "GET",
        bucket: "demo",
        query: &[("list-type", "2"), ("delimiter", "/"), ("encoding-type", "url")],
        ..Call::default()
    });
    assert_eq!(folded.all("Key"), ["b", "d%26e"]);
    assert_eq!(folded.all("CommonPrefixes"), ["<Prefix>a%2F</Prefix>", "<Prefix>c%2F</Prefix>"]);
    assert_eq!(folded.xml("EncodingType"), "url");
    assert!(folded.all("LastModified").iter().all(|time| time.ends_with(".000Z")));
}
