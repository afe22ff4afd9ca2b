//! Registers objects that other tools or other runs uploaded, against the emulator.

use build_image_emulator_alibaba::Config;
use build_image_plugin_api::{
    ErrorKind, Event, Provider as _, Resource, Result,
    document::{DiscardReason, DiscardRequest, LocateRequest, Located, Registered, UploadRequest},
};
use serde_json::{Value, json};

use crate::{
    harness::{LENGTH, Run, calls, content, count, emulator, emulator_with, host},
    oss,
};

/// Settings that state what an object of another tool does not show.
fn machine() -> Vec<(&'static str, Value)> {
    vec![("ALIBABA_ARCHITECTURE", json!("arm64")), ("ALIBABA_BOOT_MODE", json!("UEFI"))]
}

fn locate(run: &Run, id: &str) -> Result<Located> {
    run.provider.locate(&run.context, &LocateRequest::new(run.build.clone(), id))
}

/// The resources that a run has recorded.
fn recorded(run: &Run) -> Vec<Resource> {
    let events = run.host.events().into_iter();
    let resources = events.filter_map(|event| match event {
        Event::ResourcePlanned { resource } | Event::ResourceCreated { resource } => Some(resource),
        _ => None,
    });
    resources.collect()
}

/// A raw disk with a boot sector.
fn raw() -> Vec<u8> {
    let mut disk = content();
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

#[test]
fn an_object_of_another_run_is_found_as_it_was_uploaded() {
    let emulator = emulator();
    let builder = Run::new(&emulator, host(), &[]);
    let request = UploadRequest::new(builder.build.clone(), builder.disk()).stays(true);
    let uploaded = builder.provider.upload(&builder.context, &request).unwrap();
    let kept: Vec<bool> = recorded(&builder)
        .iter()
        .filter(|resource| resource.kind == "oss_object")
        .map(|resource| resource.deliverable)
        .collect();
    assert!(!kept.is_empty() && kept.iter().all(|kept| *kept), "{kept:?}");
    // The settings of builds do not matter: the object shows its own format.
    let other =
        Run::new(&emulator, host(), &[("ALIBABA_DISK_FORMAT", json!("qcow2"))]).called("run-2");
    let located = locate(&other, uploaded.id.as_deref().unwrap()).unwrap();
    assert_eq!(located.uploaded, uploaded.bytes_sent(0));
    assert_eq!((located.length, located.virtual_size), (LENGTH, Some(LENGTH)));
    assert_eq!(located.architecture, Some("x86_64".into()));
    assert_eq!(recorded(&other), []);
    other.register(located.uploaded).unwrap();
    // The object, and the manifest for the next upload.
    assert_eq!((count(&emulator, "images"), count(&emulator, "objects")), (1, 2));
    assert!(recorded(&other).iter().all(|resource| resource.kind != "oss_object"));
}

#[test]
fn an_object_of_another_tool_is_examined_and_refused_when_it_is_no_disk() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("requests.jsonl");
    let emulator = emulator_with(Config { log_requests: Some(log.clone()), ..Config::default() });
    let mut short = raw();
    short.truncate(1000);
    let mut cut = b"QFI\xfb\0\0\0\x03".to_vec();
    cut.resize(4096, 0xff);
    for (key, bytes, format, settings, part) in [
        ("web.raw", raw(), "qcow2", machine(), ""),
        ("data.raw", content(), "raw", machine(), ""),
        ("data.img", content(), "qcow2", machine(), "no boot sector"),
        ("short.raw", short, "qcow2", machine(), "multiple of 512"),
        ("cut.qcow2", cut, "qcow2", machine(), "header is damaged"),
        ("web.gz", b"\x1f\x8b0000".repeat(99), "raw", machine(), "is a gzip file"),
        ("web.vhd", raw(), "vhd", machine(), "ALIBABA_DISK_FORMAT is `vhd`"),
        ("empty", Vec::new(), "raw", machine(), "is empty"),
        ("web.raw", raw(), "qcow2", Vec::new(), "architecture and the boot mode"),
        ("web.raw", raw(), "qcow2", machine()[1..].to_vec(), "architecture and the boot mode"),
    ] {
        oss::write(&emulator, key, &[], &bytes);
        let settings = [&settings[..], &[("ALIBABA_DISK_FORMAT", json!(format))]].concat();
        let run = Run::new(&emulator, host(), &settings);
        let found = locate(&run, &format!("oss://demo/{key}"));
        assert_eq!(recorded(&run), [], "{key}");
        match found {
            Ok(located) => {
                assert!(part.is_empty(), "{key} is taken, expected: {part}");
                assert_eq!(located.uploaded.facts["format"], "raw", "{key}");
                assert_eq!(located.virtual_size, Some(LENGTH), "{key}");
                assert_eq!(located.architecture, None, "{key}");
            }
            Err(error) => {
                assert!(!part.is_empty() && error.message.contains(part), "{key}: {error}");
                assert!(error.hint.is_some(), "{key}");
            }
        }
    }
    // Nothing was read but beginnings and ends.
    assert_eq!((calls(&log, "DeleteObject"), calls(&log, "CopyObject")), (0, 0));
}

#[test]
fn an_object_that_is_written_again_loses_what_the_upload_knew() {
    let emulator = emulator();
    let builder = Run::new(&emulator, host(), &[]);
    let uploaded = builder.upload().unwrap();
    let id = uploaded.id.unwrap();
    let key = id.strip_prefix("oss://demo/").unwrap();
    oss::write(&emulator, key, &[], b"\x1f\x8b other content");
    let error = locate(&builder, &id).unwrap_err();
    assert!(error.message.contains("is a gzip file"), "{error}");
}

/// Registers an object in a run, and discards what the run recorded if that fails.
fn register(run: &Run, id: &str) -> Result<Registered> {
    let registered = run.register(locate(run, id)?.uploaded);
    if registered.is_err() {
        let request = DiscardRequest::new(DiscardReason::Failed, run.host.resources());
        let request = request.run_id(run.build.run_id.clone());
        let discarded = run.provider.discard(&run.context, &request).unwrap();
        assert!(discarded.remaining.is_empty(), "{discarded:?}");
    }
    registered
}

/// Runs that import one object under one name: a later one must not take the first one's image for its own, neither
/// when it continues nor when it removes what it made.
#[test]
fn an_image_of_another_run_is_neither_adopted_nor_removed() {
    let emulator = emulator();
    oss::write(&emulator, "web.raw", &[], &raw());
    let run = |id: &str| {
        let settings = [&machine()[..], &[("ALIBABA_DISK_FORMAT", json!("raw"))]].concat();
        Run::new(&emulator, host(), &settings).called(id)
    };
    register(&run("run-1"), "oss://demo/web.raw").unwrap();
    let lost = json!([{"operation": "ImportImage", "nth": 1, "action": "reset_before"}]);
    for (id, rules) in [("run-2", json!([])), ("run-3", lost)] {
        emulator.set_faults(&rules.to_string()).unwrap();
        let error = register(&run(id), "oss://demo/web.raw").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict, "{id}: {error}");
        assert_eq!((count(&emulator, "images"), count(&emulator, "objects")), (1, 1), "{id}");
    }
}

#[test]
fn an_image_whose_answer_was_lost_is_found_by_its_mark() {
    let emulator = emulator();
    oss::write(&emulator, "web.raw", &[], &raw());
    let settings = [&machine()[..], &[("ALIBABA_DISK_FORMAT", json!("raw"))]].concat();
    let run = Run::new(&emulator, host(), &settings);
    let lost = json!([{"operation": "ImportImage", "nth": 1, "action": "reset_after"}]);
    emulator.set_faults(&lost.to_string()).unwrap();
    register(&run, "oss://demo/web.raw").unwrap();
    assert_eq!((count(&emulator, "images"), count(&emulator, "objects")), (1, 1));
}
