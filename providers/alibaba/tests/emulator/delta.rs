//! Tests uploads that copy unchanged parts from an earlier object, and measures what they send by the emulator's request
//! log.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use base64::Engine as _;
use build_image_emulator_alibaba::{Config, Running};
use build_image_plugin_api::{
    Event, Provider, Result,
    document::{DiscardReason, DiscardRequest, InventoryRequest, Uploaded},
    testing::MockHost,
};
use crc_fast::{CrcAlgorithm, checksum, checksum_combine};
use serde_json::{Value, json};

use crate::{
    harness::{Run, calls, count, emulator_with, host},
    oss::{delete, get, keys, write},
};

/// Bytes of the disk; the last block is short.
const LENGTH: usize = (8 << 20) + 512;
/// Bytes of a disk that is large compared with its blocks.
const LARGE: usize = (64 << 20) + 512;
/// Bytes of a block of such a disk.
const BLOCK: usize = 128 << 10;

/// Bytes that do not repeat.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn disk() -> Vec<u8> {
    noise(LENGTH, 0x9e37_79b9_7f4a_7c15)
}

/// A cloud whose requests are logged.
struct Bench {
    emulator: Running,
    directory: tempfile::TempDir,
    runs: AtomicU32,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log_requests = Some(directory.path().join("requests"));
        let emulator =
            emulator_with(Config { log_requests, fast_etags: true, ..Config::default() });
        Self { emulator, directory, runs: AtomicU32::new(0) }
    }

    /// A cloud that has an object of the disk with its manifest; the log is empty.
    fn with_base() -> Self {
        Self::with_base_of(disk())
    }

    fn with_base_of(disk: Vec<u8>) -> Self {
        let bench = Self::new();
        let length = disk.len() as u64;
        bench.run(disk, &[]).upload().unwrap();
        assert_eq!(bench.sent(), length);
        assert_eq!(count(&bench.emulator, "objects"), 2);
        bench.forget_requests();
        bench
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("requests")
    }

    fn forget_requests(&self) {
        let log = std::fs::OpenOptions::new().write(true).open(self.log()).unwrap();
        log.set_len(0).unwrap();
    }

    /// A run of a later time than all before.
    fn run(&self, disk: Vec<u8>, extra: &[(&str, Value)]) -> Run {
        self.run_on(host().with_disk(disk), extra)
    }

    fn run_on(&self, host: MockHost, extra: &[(&str, Value)]) -> Run {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let mut all = vec![
            ("ALIBABA_KEEP_OSS_OBJECT", json!(true)),
            ("ALIBABA_UPLOAD_PART_SIZE", json!(1 << 20)),
        ];
        all.extend(extra.iter().cloned());
        Run::new(&self.emulator, host, &all).called(&format!("20261129-1200{number:02}-aaaaaa"))
    }

    /// The same run in another process.
    fn resumed(&self, run: &Run, disk: Vec<u8>, extra: &[(&str, Value)]) -> Run {
        let host = host().with_disk(disk).with_checkpoints(run.host.checkpoints());
        self.run_on(host, extra).called(&run.build.run_id)
    }

    /// Bytes of parts that the service received.
    fn sent(&self) -> u64 {
        let text = std::fs::read_to_string(self.log()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let parts = lines.filter(|line| line["operation"] == "UploadPart");
        parts.map(|line| line["bytes_in"].as_u64().unwrap()).sum()
    }

    /// Number of requests that copied a part.
    fn copies(&self) -> usize {
        calls(&self.log(), "UploadPartCopy")
    }

    fn set_faults(&self, faults: &Value) {
        self.emulator.set_faults(&faults.to_string()).unwrap();
    }

    /// The manifests in the bucket, the oldest first.
    fn manifests(&self) -> Vec<String> {
        keys(&self.emulator).into_iter().filter(|key| key.ends_with(".json")).collect()
    }

    /// Key of the oldest object.
    fn base(&self) -> String {
        keys(&self.emulator).into_iter().next().unwrap()
    }

    /// Checks that an object is the disk.
    #[track_caller]
    fn holds(&self, uploaded: Result<Uploaded>, disk: &[u8]) -> Uploaded {
        let uploaded = uploaded.unwrap();
        let key = uploaded.facts["object"].as_str().unwrap();
        assert!(get(&self.emulator, key) == disk, "`{key}` is not the disk");
        assert_eq!(uploaded.facts["crc64"], checksum(CrcAlgorithm::Crc64Xz, disk).to_string());
        assert_eq!(count(&self.emulator, "open_uploads"), 0);
        uploaded
    }
}

fn warnings(run: &Run) -> Vec<String> {
    let text = |event| match event {
        Event::Warning { text, .. } => Some(text),
        _ => None,
    };
    run.host.events().into_iter().filter_map(text).collect()
}

/// Changes 1 % of the disk in five runs that begin and end inside blocks.
fn in_five_runs(disk: &mut [u8]) {
    let each = disk.len() / 500;
    for run in 0..5 {
        let start = disk.len() / 5 * run + 7777;
        disk[start..start + each].iter_mut().for_each(|byte| *byte ^= 0x55);
    }
}

/// Changes 1 % of the disk in pages of 4 KiB that are scattered over it.
fn scattered(disk: &mut [u8]) {
    let pages = disk.len() / 4096;
    let mut state = 7_u64;
    for _ in 0..pages / 100 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let page = usize::try_from(state >> 33).unwrap() % pages;
        disk[page * 4096] ^= 1;
    }
}

#[test]
fn only_what_has_changed_is_sent() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, Change, std::ops::RangeInclusive<u64>); 8] = [
        ("unchanged", |_| {}, 0..=0),
        ("a byte", |disk| disk[LARGE / 2] ^= 1, 1..=1),
        ("the last byte", |disk| disk[LARGE - 1] ^= 1, 1..=1),
        ("1 % in five runs", |disk| in_five_runs(disk), 1..=3),
        ("1 % scattered", |disk| scattered(disk), 10..=60),
        ("grown by a tenth", |disk| disk.extend(noise(LARGE / 10, 3)), 9..=10),
        ("shrunk by half", |disk| disk.truncate(LARGE / 2), 0..=1),
        ("everything", |disk| *disk = noise(LARGE, 5), 100..=100),
    ];
    for (name, change, expected) in cases {
        let mut disk = noise(LARGE, 1);
        let bench = Bench::with_base_of(disk.clone());
        change(&mut disk);
        let run = bench.run(disk.clone(), &[]);
        let uploaded = bench.holds(run.upload(), &disk);
        let (sent, length) = (bench.sent(), disk.len() as u64);
        println!(
            "{name}: {sent} of {length} bytes sent ({:.2} %) in {} parts, {} parts copied",
            sent as f64 * 100.0 / length as f64,
            calls(&bench.log(), "UploadPart"),
            bench.copies(),
        );
        assert_eq!(uploaded.bytes_sent, sent, "{name}");
        assert!(expected.contains(&(sent * 100).div_ceil(length)), "{name}: {sent} of {length}");
        assert_eq!(warnings(&run), [""; 0], "{name}");
        assert!(run.host.resources().iter().all(|resource| resource.deliverable));
        // The next build copies from this one.
        bench.forget_requests();
        let next = bench.run(disk.clone(), &[]);
        bench.holds(next.upload(), &disk);
        assert_eq!((bench.sent(), bench.manifests().len()), (0, 3), "{name}");
    }
}

#[test]
fn a_build_that_cannot_gain_makes_no_further_request() {
    for extra in [
        vec![("ALIBABA_KEEP_OSS_OBJECT", json!(false))],
        vec![("ALIBABA_UPLOAD_DELTA", json!("off"))],
        vec![("ALIBABA_DISK_FORMAT", json!("qcow2"))],
        vec![("ALIBABA_DISK_FORMAT", json!("vhd"))],
    ] {
        let bench = Bench::new();
        let disk = noise(3 << 20, 1);
        bench.holds(bench.run(disk.clone(), &extra).upload(), &disk);
        for operation in ["ListObjectsV2", "GetObject", "PutObject", "UploadPartCopy"] {
            // Reading the object back is this test's.
            let own = usize::from(operation == "GetObject");
            assert_eq!(calls(&bench.log(), operation), own, "{extra:?} {operation}");
        }
        assert_eq!(count(&bench.emulator, "objects"), 1);
    }
}

#[test]
fn a_named_base_is_used_without_keeping_the_object() {
    let bench = Bench::with_base();
    let base = bench.base();
    for (name, copies) in
        [(base.clone(), true), (format!("oss://demo/{base}"), true), ("other.raw".into(), false)]
    {
        bench.forget_requests();
        let extra = [
            ("ALIBABA_KEEP_OSS_OBJECT", json!(false)),
            ("ALIBABA_UPLOAD_DELTA_BASE", json!(name)),
            // Another lineage.
            ("ALIBABA_IMAGE_FAMILY", json!("other")),
        ];
        let run = bench.run(disk(), &extra);
        bench.holds(run.upload(), &disk());
        assert_eq!(bench.sent() == 0, copies, "{name}");
        assert_eq!(warnings(&run).len(), usize::from(!copies), "{name}: {:?}", warnings(&run));
        assert_eq!(bench.manifests().len(), 1);
        let found: Vec<String> = run.check().findings.iter().map(|f| f.message.clone()).collect();
        let expected = if copies { "only what differs from `" } else { "has no manifest" };
        assert!(found.iter().any(|text| text.contains(expected)), "{found:?}");
    }
}

#[test]
fn the_newest_object_of_the_lineage_is_the_base() {
    let bench = Bench::with_base();
    let mut other = bench.run(noise(LENGTH, 2), &[]);
    other.build.image_name = "quite-another".into();
    other.upload().unwrap();
    let second = disk_with(|disk| disk[0] ^= 1);
    bench.run(second.clone(), &[]).upload().unwrap();
    bench.forget_requests();
    let run = bench.run(second.clone(), &[]);
    bench.holds(run.upload(), &second);
    assert_eq!(bench.sent(), 0);
    // Without the newest one, the one before is used.
    let newest = keys(&bench.emulator).into_iter().rfind(|key| key.ends_with(".raw")).unwrap();
    delete(&bench.emulator, &newest);
    bench.forget_requests();
    bench.holds(bench.run(second.clone(), &[]).upload(), &second);
    assert_eq!(bench.sent(), 0);
}

fn disk_with(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut disk = disk();
    change(&mut disk);
    disk
}

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
                write(&bench.emulator, &base, &noise(LENGTH, 9));
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
        write(&bench.emulator, &key, &forged);
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
        write(&bench.emulator, &key, &text);
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
    write(&bench.emulator, &key, &good);
    bench.forget_requests();
    bench.holds(bench.run(disk(), &[]).upload(), &disk());
    assert_eq!(bench.sent(), 0);
}

#[test]
fn a_resumed_upload_neither_copies_nor_sends_a_part_again() {
    type Between = fn(&Bench);
    let nothing: Between = |_| {};
    let no_base: Between = |bench| delete(&bench.emulator, &bench.base());
    for (name, extra, between) in [
        ("as before", vec![], nothing),
        ("switched off", vec![("ALIBABA_UPLOAD_DELTA", json!("off"))], nothing),
        ("without the base", vec![], no_base),
        ("not kept", vec![("ALIBABA_KEEP_OSS_OBJECT", json!(false))], nothing),
    ] {
        let bench = Bench::with_base();
        let disk = disk_with(|disk| in_five_runs(disk));
        bench.set_faults(&json!([{"operation": "CompleteMultipartUpload", "action": {"status": 403, "code": "AccessDenied"}}]));
        let first = bench.run(disk.clone(), &[]);
        first.upload().unwrap_err();
        bench.set_faults(&json!([]));
        let before = (bench.sent(), bench.copies());
        assert!(before.0 > 0 && before.1 > 0);
        between(&bench);
        let second = bench.resumed(&first, disk.clone(), &extra);
        bench.holds(second.upload(), &disk);
        assert_eq!((bench.sent(), bench.copies()), before, "{name}");
        let kept = name != "not kept";
        assert!(second.host.resources().iter().all(|resource| resource.deliverable == kept));
        let manifest = kept && name != "switched off";
        assert_eq!(bench.manifests().len(), 1 + usize::from(manifest), "{name}");
    }
}

#[test]
fn an_upload_that_is_cancelled_at_any_read_is_resumed_and_copies_no_part_twice() {
    let (mut stopped, mut again) = (0, 0);
    // The disk is read once for its digests, 33 chunks of 256 KiB, and then where it has changed.
    for reads in [1, 16, 32, 33, 34, 35, 36, 37, 38] {
        let bench = Bench::with_base();
        let disk = disk_with(|disk| in_five_runs(disk));
        let host = host().with_disk(disk.clone()).cancel_after_reads(reads);
        let first = bench.run_on(host, &[("ALIBABA_THREAD_COUNT", json!(1))]);
        if first.upload().is_ok() {
            continue;
        }
        stopped += 1;
        // Another disk in between: nothing of the first one remains in the object.
        let second = bench.resumed(&first, disk.clone(), &[]);
        bench.holds(second.upload(), &disk);
        let reference = Bench::with_base();
        reference.run(disk.clone(), &[]).upload().unwrap();
        let more = bench.copies().saturating_sub(reference.copies());
        // A call that was not answered is repeated.
        assert!(more <= 1, "after {reads} reads {more} parts were copied again");
        again += more;
    }
    assert!(stopped >= 7, "only {stopped} were cancelled in time");
    println!("{stopped} cancelled uploads, {again} parts copied again");
}

#[test]
fn a_run_that_is_resumed_with_another_disk_uploads_that_disk() {
    let bench = Bench::with_base();
    let disk = disk_with(|disk| in_five_runs(disk));
    bench.set_faults(&json!([{"operation": "CompleteMultipartUpload", "action": {"status": 403, "code": "AccessDenied"}}]));
    let first = bench.run(disk, &[]);
    first.upload().unwrap_err();
    bench.set_faults(&json!([]));
    let other = disk_with(|disk| disk[20 * BLOCK] ^= 1);
    let second = bench.resumed(&first, other.clone(), &[]);
    bench.holds(second.upload(), &other);
    // So does a complete run whose object another program has changed.
    let key = second.upload().unwrap().facts["object"].as_str().unwrap().to_owned();
    write(&bench.emulator, &key, b"other");
    let third = bench.resumed(&second, other.clone(), &[]);
    bench.holds(third.upload(), &other);
    bench.forget_requests();
    bench.holds(bench.run(other.clone(), &[]).upload(), &other);
    assert_eq!(bench.sent(), 0, "the manifest was not written again");
}

#[test]
fn builds_at_the_same_time_copy_from_one_base() {
    let bench = Bench::with_base();
    std::thread::scope(|scope| {
        let upload = |number: usize| {
            let disk = disk_with(|disk| disk[number * 10 * BLOCK] ^= 1);
            bench.holds_while_others_run(bench.run(disk.clone(), &[]).upload(), &disk);
        };
        let threads: Vec<_> = (1..4).map(|number| scope.spawn(move || upload(number))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert!(bench.sent() <= 3 * (1 << 20), "{}", bench.sent());
    assert_eq!(count(&bench.emulator, "open_uploads"), 0);
    assert_eq!(bench.manifests().len(), 4);
}

impl Bench {
    #[track_caller]
    fn holds_while_others_run(&self, uploaded: Result<Uploaded>, disk: &[u8]) {
        let uploaded = uploaded.unwrap();
        assert!(get(&self.emulator, uploaded.facts["object"].as_str().unwrap()) == disk);
    }
}

#[test]
fn a_manifest_that_cannot_be_written_is_a_warning_and_leaves_nothing() {
    for action in [json!({"status": 403, "code": "AccessDenied"}), json!("reset_after")] {
        let bench = Bench::new();
        bench.set_faults(&json!([{"operation": "PutObject", "action": action}]));
        let run = bench.run(disk(), &[]);
        let uploaded = run.upload();
        bench.set_faults(&json!([]));
        bench.holds(uploaded, &disk());
        assert_eq!(warnings(&run).len(), 1, "{:?}", warnings(&run));
        assert_eq!((bench.manifests().len(), run.host.resources().len()), (0, 1));
    }
}

#[test]
fn a_manifest_is_a_resource_of_its_run_and_is_removed_with_the_object() {
    let bench = Bench::with_base();
    let run = bench.run(disk(), &[]);
    bench.holds(run.upload(), &disk());
    let id = run.build.run_id.clone();
    let request = InventoryRequest::default().run_id(&id);
    let listed = run.provider.inventory(&run.context, &request).unwrap().items;
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(listed.iter().all(|item| item.resource.deliverable));
    // The inventory and the journal name the same resources, and either removes both; the base stays.
    let of_journal = run.host.resources();
    for resource in &of_journal {
        assert!(listed.iter().any(|item| item.resource.name == resource.name), "{resource:?}");
    }
    let request = DiscardRequest::new(DiscardReason::Failed, of_journal);
    let discarded = run.provider.discard(&run.context, &request).unwrap();
    assert_eq!((discarded.removed.len(), discarded.remaining.len()), (2, 0));
    assert_eq!(keys(&bench.emulator).len(), 2);
    assert!(keys(&bench.emulator)[0].contains("-120000-"));
}
