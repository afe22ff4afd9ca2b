//! Tests delta uploads that are interrupted and resumed, and those that run at the same time.

use serde_json::json;

use crate::{
    delta_bench::{BLOCK, Bench, disk_with, in_five_runs},
    harness::{count, host},
    oss::{delete, get, write},
};

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
    write(&bench.emulator, &key, &[], b"other");
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
            let uploaded = bench.run(disk.clone(), &[]).upload().unwrap();
            assert!(get(&bench.emulator, uploaded.facts["object"].as_str().unwrap()) == disk);
        };
        let threads: Vec<_> = (1..4).map(|number| scope.spawn(move || upload(number))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert!(bench.sent() <= 3 * (1 << 20), "{}", bench.sent());
    assert_eq!(count(&bench.emulator, "open_uploads"), 0);
    assert_eq!(bench.manifests().len(), 4);
}
