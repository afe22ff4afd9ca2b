//! Tests delta uploads whose earlier object, manifest, or service cannot be trusted, or fails.

use std::time::Duration;

use base64::Engine as _;
use crc_fast::{CrcAlgorithm, checksum, checksum_combine};
use serde_json::{Value, json};

use crate::{
    delta_bench::{BLOCK, Bench, LENGTH, disk, disk_with, noise, warnings},
    oss::{delete, get, keys, write},
};

#[test]
fn a_base_that_cannot_be_copied_from_costs_only_time() {
    for (faults, sends, warns) in [
        (
            json!([{"operation": "UploadPartCopy", "nth": 1, "count": 2, "action": {"status": 500, "code": "InternalError"}}]),
            false,
            false,
        ),
        (
            json!([{"operation": "UploadPartCopy", "nth": 1, "action": "reset_before"}]),
            false,
            false,
        ),
        (json!([{"operation": "UploadPartCopy", "nth": 1, "action": "reset_after"}]), false, false),
        (
            json!([{"operation": "UploadPartCopy", "nth": 1, "action": "truncate_answer"}]),
            false,
            false,
        ),
        (json!([{"operation": "UploadPartCopy", "nth": 1, "action": "throttle"}]), false, false),
        (
            json!([{"operation": "UploadPartCopy", "action": {"status": 503, "code": "ServiceUnavailable"}}]),
            true,
            true,
        ),
        (
            json!([{"operation": "UploadPartCopy", "action": {"status": 403, "code": "AccessDenied"}}]),
            true,
            true,
        ),
        (
            json!([{"operation": "UploadPartCopy", "action": {"status": 403, "code": "InvalidObjectState"}}]),
            true,
            true,
        ),
        (
            json!([{"operation": "UploadPartCopy", "action": {"status": 404, "code": "NoSuchKey"}}]),
            true,
            true,
        ),
        (
            json!([{"operation": "ListObjectsV2", "action": {"status": 403, "code": "AccessDenied"}}]),
            true,
            true,
        ),
        (
            json!([{"operation": "GetObject", "action": {"status": 403, "code": "AccessDenied"}}]),
            true,
            false,
        ),
        (json!([{"operation": "GetObject", "action": "corrupt_answer"}]), true, false),
    ] {
        let bench = Bench::with_base();
        bench.set_faults(&faults);
        let run = bench.run(disk(), &[]);
        let uploaded = run.upload();
        bench.set_faults(&json!([]));
        bench.holds(uploaded, &disk());
        assert_eq!(bench.sent(), if sends { LENGTH as u64 } else { 0 }, "{faults}");
        assert_eq!(warnings(&run).len(), usize::from(warns), "{faults}: {:?}", warnings(&run));
    }
}

#[test]
fn a_base_that_is_replaced_or_deleted_during_the_upload_is_not_used_any_more() {
    for replaced in [true, false] {
        let bench = Bench::with_base();
        let base = bench.base();
        bench.set_faults(
            &json!([{"operation": "UploadPartCopy", "nth": 1, "action": {"stall_ms": 700}}]),
        );
        let run = bench.run(disk(), &[("ALIBABA_THREAD_COUNT", json!(1))]);
        std::thread::scope(|scope| {
            let upload = scope.spawn(|| run.upload());
            assert!(bench.emulator.wait_for_fault(Duration::from_secs(60)));
            if replaced {
                write(&bench.emulator, &base, &[], &noise(LENGTH, 9));
            } else {
                delete(&bench.emulator, &base);
            }
            bench.holds(upload.join().unwrap(), &disk());
        });
        assert_eq!(bench.sent(), LENGTH as u64);
        let warned = warnings(&run);
        assert!(warned.len() == 1 && warned[0].contains("no more parts are copied"), "{warned:?}");
    }
}

/// A manifest that claims a block of the base to be that of another disk. The checksums of all blocks still lead to that
/// of the object: the last one is chosen for it.
fn lie(manifest: &[u8], base: &[u8], disk: &[u8], block: usize) -> Vec<u8> {
    let standard = base64::engine::general_purpose::STANDARD;
    let mut document: Value = serde_json::from_slice(manifest).unwrap();
    let bytes = |name: &str| standard.decode(document[name].as_str().unwrap()).unwrap();
    let (mut sha256, mut crc64) = (bytes("block_sha256"), bytes("block_crc64"));
    let claimed = &disk[block * BLOCK..(block + 1) * BLOCK];
    let digest = <sha2::Sha256 as sha2::Digest>::digest(claimed);
    sha256[block * 32..(block + 1) * 32].copy_from_slice(&digest);
    let crc = |data: &[u8]| checksum(CrcAlgorithm::Crc64Xz, data);
    crc64[block * 8..(block + 1) * 8].copy_from_slice(&crc(claimed).to_be_bytes());
    let last = crc64.len() - 8;
    let before = crc64[..last].chunks(8).fold(0, |whole, one| {
        let one = u64::from_be_bytes(one.try_into().unwrap());
        checksum_combine(CrcAlgorithm::Crc64Xz, whole, one, BLOCK as u64)
    });
    let rest = (base.len() - last / 8 * BLOCK) as u64;
    let shifted = checksum_combine(CrcAlgorithm::Crc64Xz, before, 0, rest);
    crc64[last..].copy_from_slice(&(crc(base) ^ shifted).to_be_bytes());
    document["block_sha256"] = standard.encode(sha256).into();
    document["block_crc64"] = standard.encode(crc64).into();
    serde_json::to_vec(&document).unwrap()
}

#[test]
fn a_manifest_that_lies_never_makes_a_wrong_object() {
    let hide = |operations: &[&str]| {
        let rule = |name: &&str| json!({"operation": name, "action": "hide_checksum"});
        Value::Array(operations.iter().map(rule).collect())
    };
    let whole = LENGTH as u64;
    for (name, hidden, most, warned) in [
        // The list of parts reveals which one is wrong; it is sent.
        ("listed", hide(&[]), whole * 6 / 10, "does not have what its manifest lists"),
        // Only the checksum of the whole reveals it; everything is sent.
        ("not listed", hide(&["ListParts"]), whole + (1 << 20), "is not what is on the disk"),
        (
            "nowhere",
            hide(&["ListParts", "CompleteMultipartUpload"]),
            whole + (1 << 20),
            "is not what is on the disk",
        ),
    ] {
        let bench = Bench::with_base();
        // Between the two halves that are copied, a block is sent.
        let wrong = disk_with(|disk| [5, 32].iter().for_each(|block| disk[block * BLOCK] ^= 1));
        let key = bench.manifests().remove(0);
        let forged = lie(&get(&bench.emulator, &key), &disk(), &wrong, 5);
        write(&bench.emulator, &key, &[], &forged);
        bench.forget_requests();
        bench.set_faults(&hidden);
        let run = bench.run(wrong.clone(), &[]);
        let uploaded = run.upload();
        bench.set_faults(&json!([]));
        bench.holds(uploaded, &wrong);
        let texts = warnings(&run);
        assert!(texts.len() == 1 && texts[0].contains(warned), "{name}: {texts:?}");
        let sent = bench.sent();
        assert!(sent > 0 && sent <= most, "{name}: {sent}");
        println!("{name}: {sent} bytes sent after a lie");
    }
}

#[test]
fn a_service_that_reports_no_checksum_is_not_believed() {
    // The object's own checksum is still there to prove the whole.
    let bench = Bench::with_base();
    bench.set_faults(&json!([{"operation": "CompleteMultipartUpload", "action": "hide_checksum"}, {"operation": "ListParts", "action": "hide_checksum"}]));
    let run = bench.run(disk(), &[]);
    run.upload().unwrap();
    assert_eq!((bench.sent(), warnings(&run).len()), (0, 0));
    // Without any, the base is not used in the first place.
    bench.forget_requests();
    bench.set_faults(&json!([{"operation": "*", "action": "hide_checksum"}]));
    bench.run(disk(), &[]).upload().unwrap();
    assert_eq!((bench.sent(), bench.copies()), (LENGTH as u64, 0));
    // It disappears once the base was read: what was copied is not proven, and is sent.
    let bench = Bench::with_base();
    bench.set_faults(&json!([
        {"operation": "HeadObject", "nth": 2, "count": 1, "action": "hide_checksum"},
        {"operation": "CompleteMultipartUpload", "nth": 1, "action": "hide_checksum"},
        {"operation": "ListParts", "action": "hide_checksum"},
    ]));
    let run = bench.run(disk(), &[]);
    bench.holds(run.upload(), &disk());
    assert_eq!((bench.sent(), warnings(&run).len()), (LENGTH as u64, 1), "{:?}", warnings(&run));
}

#[test]
fn a_manifest_that_is_not_one_is_not_used() {
    let bench = Bench::with_base();
    let key = bench.manifests().remove(0);
    let good = get(&bench.emulator, &key);
    let other = |name: &str, value: Value| {
        let mut document: Value = serde_json::from_slice(&good).unwrap();
        document[name] = value;
        serde_json::to_vec(&document).unwrap()
    };
    for (name, text) in [
        ("empty", Vec::new()),
        ("truncated", good[..good.len() / 2].to_vec()),
        ("deep", vec![b'['; 1 << 20]),
        ("not text", vec![0xff; 100]),
        ("too long", vec![b' '; 40 << 20]),
        ("of another object", other("object", json!("other.raw"))),
        ("of another length", other("size", json!(LENGTH + 1))),
        ("of another version", other("version", json!(2))),
        ("of huge blocks", other("block_size", json!(u64::MAX))),
        ("of a huge disk", other("size", json!(u64::MAX))),
        ("without digests", other("block_sha256", json!(""))),
    ] {
        write(&bench.emulator, &key, &[], &text);
        bench.forget_requests();
        let run = bench.run(disk(), &[]);
        let uploaded = bench.holds(run.upload(), &disk());
        assert_eq!((bench.sent(), bench.copies()), (LENGTH as u64, 0), "{name}");
        // Only the first object remains as a base.
        let made = uploaded.facts["object"].as_str().unwrap().to_owned();
        for left in keys(&bench.emulator).iter().filter(|key| key.starts_with(&made)) {
            delete(&bench.emulator, left);
        }
    }
    write(&bench.emulator, &key, &[], &good);
    bench.forget_requests();
    bench.holds(bench.run(disk(), &[]).upload(), &disk());
    assert_eq!(bench.sent(), 0);
}
