//! Tests copies, deletions of many objects, conditions, and default encryption, beyond what other tests
//! cover.

use crate::client::{Call, Client, Reply, emulator};
use crate::import::params;
use crate::{disks, multipart};

fn copy(client: &Client, key: &str, headers: &[(&str, &str)]) -> Reply {
    client.oss(&Call { method: "PUT", bucket: "demo", key, headers, ..Call::default() })
}

fn document(client: &Client, method: &str, resource: &str, body: &str) -> Reply {
    client.oss(&Call {
        method,
        bucket: "demo",
        query: &[(resource, "")],
        body: body.as_bytes(),
        ..Call::default()
    })
}

#[test]
fn a_copy_outlives_its_source_and_moves_no_bytes() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put("a b", b"hello world");
    let source = ("x-oss-copy-source", "/demo/a%20b");
    let made = copy(&client, "c", &[source]);
    assert_eq!((made.status, made.header("x-oss-hash-crc64ecma")), (200, "5981764153023615706"));
    assert_eq!(made.xml("ETag"), "&quot;5EB63BBBE01EEED093CB22BB8F5ACDC3&quot;");
    let bodies = || std::fs::read_dir(running.state_dir().join("bodies")).unwrap().count();
    assert_eq!(bodies(), 1);
    client.oss(&Call { method: "DELETE", bucket: "demo", key: "a b", ..Call::default() });
    assert_eq!(client.get("c").text(), "hello world");
    assert_eq!(copy(&client, "d", &[source]).error(), (404, "NoSuchKey".to_owned()));
    let replaced = [("x-oss-copy-source", "/demo/c"), ("x-oss-metadata-directive", "REPLACE")];
    assert_eq!(copy(&client, "c", &replaced).status, 200);
    assert_eq!(client.get("c").text(), "hello world");
    client.oss(&Call { method: "DELETE", bucket: "demo", key: "c", ..Call::default() });
    assert_eq!(bodies(), 0);
}

#[test]
fn parts_can_be_copied_out_of_an_object() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let source = disks::raw(300_000);
    client.put("source", &source);
    let upload = multipart::initiate(&client, "joined");
    let part = |number: &str, range: &str| {
        let reply = client.oss(&Call {
            method: "PUT",
            bucket: "demo",
            key: "joined",
            query: &[("uploadId", &upload), ("partNumber", number)],
            headers: &[("x-oss-copy-source", "/demo/source"), ("x-oss-copy-source-range", range)],
            ..Call::default()
        });
        assert_eq!(reply.xml("ETag").replace("&quot;", "\""), reply.header("etag"));
        reply.header("etag").to_owned()
    };
    let parts = [(1, part("1", "bytes=0-149999")), (2, part("2", "bytes=150000-299999"))];
    let parts: Vec<(u16, &str)> = parts.iter().map(|(n, etag)| (*n, etag.as_str())).collect();
    assert_eq!(multipart::complete(&client, "joined", &upload, &parts).status, 200);
    assert_eq!(client.get("joined").body, source);
}

#[test]
fn many_objects_go_at_once_and_quietly() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    for key in ["a", "b&c", "d"] {
        client.put(key, b"x");
    }
    let keys = "<Object><Key>a</Key></Object><Object><Key>b&amp;c</Key></Object>";
    let body = format!("<Delete><Quiet>false</Quiet>{keys}</Delete>");
    let reply = document(&client, "POST", "delete", &body);
    assert!(reply.text().contains("<Deleted><Key>b&amp;c</Key></Deleted>"));
    let body = "<Delete><Quiet>true</Quiet><Object><Key>d</Key></Object></Delete>";
    assert!(!document(&client, "POST", "delete", body).text().contains("Deleted"));
    assert_eq!(running.status()["objects"], 0);
    let bad = document(&client, "POST", "delete", "<Delete><Object>");
    assert_eq!(bad.error(), (400, "MalformedXML".to_owned()));
}

#[test]
fn an_encrypted_bucket_marks_its_objects_and_ecs_refuses_them() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let rule = "<ServerSideEncryptionRule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256\
                </SSEAlgorithm></ApplyServerSideEncryptionByDefault></ServerSideEncryptionRule>";
    assert_eq!(document(&client, "PUT", "encryption", rule).status, 200);
    assert_eq!(document(&client, "GET", "bucketInfo", "").xml("SSEAlgorithm"), "AES256");
    client.put("disk.raw", &disks::raw(1 << 20));
    assert_eq!(client.get("disk.raw").header("x-oss-server-side-encryption"), "AES256");
    let refused = (403, "InvalidOSSBucket.EncryptUnsupported".to_owned());
    assert_eq!(client.ecs("ImportImage", &params("img", "disk.raw", "RAW")).error(), refused);
    assert_eq!(document(&client, "DELETE", "encryption", "").status, 204);
    assert_eq!(client.ecs("ImportImage", &params("img", "disk.raw", "RAW")).error(), refused);
    client.put("disk.raw", &disks::raw(1 << 20));
    assert_eq!(client.ecs("ImportImage", &params("img", "disk.raw", "RAW")).status, 200);
    let bad = document(&client, "PUT", "encryption", "<a><SSEAlgorithm>ROT13</SSEAlgorithm></a>");
    assert_eq!(bad.error(), (400, "MalformedXML".to_owned()));
}

#[test]
fn transfer_acceleration_is_stored_and_reported() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let resource = "transferAcceleration";
    let acceleration = || document(&client, "GET", "bucketInfo", "").xml("TransferAcceleration");
    let never = document(&client, "GET", resource, "");
    assert_eq!(never.error(), (404, "NoSuchTransferAccelerationConfiguration".to_owned()));
    assert_eq!(acceleration(), "Disabled");
    for (word, status) in [("true", "Enabled"), ("false", "Disabled")] {
        let body = format!(
            "<TransferAccelerationConfiguration><Enabled>{word}</Enabled>\
             </TransferAccelerationConfiguration>"
        );
        assert_eq!(document(&client, "PUT", resource, &body).status, 200);
        assert_eq!(document(&client, "GET", resource, "").xml("Enabled"), word);
        assert_eq!(acceleration(), status);
    }
    let bad = document(&client, "PUT", resource, "<a><Enabled>perhaps</Enabled></a>");
    assert_eq!(bad.error(), (400, "MalformedXML".to_owned()));
}

#[test]
fn a_call_may_hold_itself_to_a_rate() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put("k", &vec![7; 20_000]);
    let get = |limit: &str| {
        let headers = [("x-oss-traffic-limit", limit)];
        client.oss(&Call {
            method: "GET",
            bucket: "demo",
            key: "k",
            headers: &headers,
            ..Call::default()
        })
    };
    let begun = std::time::Instant::now();
    assert_eq!(get("245760").body.len(), 20_000);
    assert!(begun.elapsed().as_millis() >= 500);
    assert_eq!(get("245759").error(), (400, "InvalidArgument".to_owned()));
}

#[test]
fn objects_replaced_and_deleted_meanwhile_are_read_whole_or_not_at_all() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put("k", &[1; 5000]);
    std::thread::scope(|scope| {
        for worker in 0..4_u8 {
            let client = client.clone();
            scope.spawn(move || {
                for round in 0..60 {
                    let reply = match (worker, round % 2) {
                        (0, _) => client.put("k", &[1; 5000]),
                        (1, 0) => client.oss(&Call {
                            method: "DELETE",
                            bucket: "demo",
                            key: "k",
                            ..Call::default()
                        }),
                        (1, _) => copy(&client, "c", &[("x-oss-copy-source", "/demo/k")]),
                        (2, _) => client.get("k"),
                        _ => client.get("c"),
                    };
                    assert!(matches!(reply.status, 200 | 204 | 404), "{}", reply.text());
                    if worker >= 2 && reply.status == 200 {
                        assert_eq!(reply.body, [1; 5000]);
                    }
                }
            });
        }
    });
}
