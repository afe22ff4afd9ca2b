//! Tests the upload's speed, the number of parts at once, and its handling of a late part and of an existing
//! object.

use std::time::{Duration, Instant};

use build_image_emulator_alibaba::Config;
use serde_json::json;

use crate::harness::{
    LENGTH, PART, PARTS, Run, calls, content, count, emulator, emulator_with, host, rules,
};

#[test]
fn a_rate_limit_holds_over_all_parts_together() {
    let emulator = emulator();
    let rate = 640 << 10;
    let run = Run::new(&emulator, host(), &[("ALIBABA_UPLOAD_RATE_LIMIT", json!(rate))]);
    let start = Instant::now();
    run.upload().unwrap();
    // All bookings except the last one must have waited for their turn.
    let least = Duration::from_secs_f64(
        f64::from(u32::try_from(LENGTH - (256 << 10)).unwrap()) / f64::from(rate),
    );
    assert!(start.elapsed() >= least, "{:?} is less than {least:?}", start.elapsed());
}

#[test]
fn waiting_for_the_rate_limit_does_not_count_as_a_stall() {
    let emulator = emulator();
    let run = Run::new(
        &emulator,
        host(),
        &[
            ("ALIBABA_UPLOAD_RATE_LIMIT", json!(400 << 10)),
            ("ALIBABA_UPLOAD_STALL_TIMEOUT", json!(1)),
            ("ALIBABA_THREAD_COUNT", json!(11)),
        ],
    );
    assert_eq!(run.upload().unwrap().bytes_sent, LENGTH);
}

#[test]
fn a_late_last_part_is_sent_a_second_time_in_parallel() {
    let emulator = emulator();
    let faults = json!([
        {"operation": "UploadPart", "part_number": PARTS, "nth": 1, "action": {"stall_ms": 120_000}},
        // Strikes nothing; it only counts.
        {"operation": "UploadPart", "part_number": PARTS, "count": 0, "action": "throttle"},
        {"operation": "UploadPart", "count": 0, "action": "throttle"},
    ]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let run = Run::new(
        &emulator,
        host(),
        // One lane: when the last part is late, every other part has arrived.
        &[("ALIBABA_UPLOAD_STALL_TIMEOUT", json!(100)), ("ALIBABA_THREAD_COUNT", json!(1))],
    );
    let start = Instant::now();
    let uploaded = run.upload().unwrap();
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    let report = rules(&emulator);
    assert_eq!(
        (&report[1]["seen"], &report[2]["seen"]),
        (&json!(2), &json!(PARTS + 1)),
        "{report}"
    );
    // It was sent both times, but only one of them counts as done.
    let last = LENGTH - (PARTS - 1) * PART;
    assert_eq!(uploaded.bytes_sent, LENGTH + last);
    let done = run.host.progress_reports().iter().map(|progress| progress.done).max();
    assert_eq!(done, Some(LENGTH));
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Xz, &content());
    assert_eq!(uploaded.facts["crc64"], json!(crc.to_string()));
    assert_eq!((count(&emulator, "objects"), count(&emulator, "open_uploads")), (1, 0));
}

#[test]
fn throttled_parts_are_sent_again_with_fewer_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let emulator = emulator_with(Config { log_requests: Some(log.clone()), ..Config::default() });
    let faults = json!([{"operation": "UploadPart", "nth": 2, "count": 4, "action": "throttle"}]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let run = Run::new(&emulator, host(), &[("ALIBABA_THREAD_COUNT", json!(8))]);
    run.upload().unwrap();
    assert_eq!(calls(&log, "UploadPart"), usize::try_from(PARTS).unwrap() + 4);
}

#[test]
fn an_object_that_was_completed_unnoticed_is_not_sent_again() {
    let emulator = emulator();
    let first = Run::new(&emulator, host(), &[]);
    let uploaded = first.upload().unwrap();
    // Killed after the service completed the upload, before its answer was recorded.
    let mut checkpoints = first.host.checkpoints();
    let state = checkpoints.get_mut("upload").unwrap();
    state["crc"] = json!(null);
    state["upload_id"] = json!("0123456789ABCDEF0123456789ABCDEF");
    let again = Run::new(&emulator, host().with_checkpoints(checkpoints.clone()), &[]);
    let found = again.upload().unwrap();
    assert_eq!((found.bytes_sent, &found.facts), (0, &uploaded.facts));
    // With other bytes of the same length the object is not the same.
    let mut changed = content();
    changed[77] ^= 1;
    let other = host().with_disk(changed).with_checkpoints(checkpoints);
    let sent = Run::new(&emulator, other, &[]).upload().unwrap();
    assert_eq!(sent.bytes_sent, LENGTH);
    assert_ne!(sent.facts["crc64"], uploaded.facts["crc64"]);
}
