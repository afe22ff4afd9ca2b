//! Builds images in a private cloud, whose OSS server has a name and its buckets in the path: the emulator, reached as a
//! proxy, which is how a test gives a server a name.

use std::{fs, process::Command};

use build_image_emulator_alibaba::{BucketSeed, Config, StateDir, Stored, start};

use crate::harness::{Run, Sandbox};

/// A command that reaches the servers of the private cloud.
fn reached(sandbox: &Sandbox, args: &[&str]) -> Run {
    let result = sandbox.path().join("result.json");
    let mut command: Command = sandbox.command(args);
    command.env("http_proxy", sandbox.emulator.as_ref().unwrap().url());
    command.env("F5_OUTPUT_JSON_FILE", &result);
    let output = command.output().unwrap();
    let document = fs::read(&result).ok().and_then(|text| serde_json::from_slice(&text).ok());
    Run::of(&output, document)
}

#[test]
fn a_disk_becomes_an_image_of_a_private_cloud_and_a_failed_run_is_resumed() {
    let kept = tempfile::tempdir().unwrap();
    let cloud = kept.path().join("cloud");
    let mut sandbox = Sandbox::with_plain_cloud();
    sandbox.emulator = Some(
        start(Config {
            state: StateDir::Kept(cloud.clone()),
            buckets: vec![BucketSeed {
                name: "demo".to_owned(),
                region: Some("cn-hangzhou".to_owned()),
            }],
            ..Config::default()
        })
        .unwrap(),
    );
    let disk = sandbox.disk("disk.raw", 40, 33);
    let oss = ("ALIBABA_OSS_ENDPOINT", "http://stack");
    let by_path = ("ALIBABA_OSS_PATH_STYLE", "true");
    sandbox.write("bound.yml", &sandbox.config(&[oss]));
    let one_by_one = ("ALIBABA_THREAD_COUNT", "1");
    sandbox.write("path.yml", &sandbox.config(&[oss, by_path, one_by_one]));
    sandbox.write("vendor.yml", &sandbox.config(&[("ALIBABA_OSS_ENDPOINT", "public"), by_path]));
    let build = |config| ["--disk", "disk.raw", "-p", "alibaba", "-c", config];
    reached(&sandbox, &build("vendor.yml"))
        .failed(2, &["`ALIBABA_OSS_PATH_STYLE` is set, but", "hint: set ALIBABA_OSS_ENDPOINT"]);
    // Without the setting, the name is that of one bucket.
    assert_ne!(reached(&sandbox, &build("bound.yml")).code, 0);
    sandbox.cloud_has_only(0);
    let emulator = sandbox.emulator.as_ref().unwrap();
    let refuse = r#"[{"operation":"UploadPart","part_number":3,"action":{"status":403,"code":"AccessDenied"}}]"#;
    emulator.set_faults(refuse).unwrap();
    let keep = ["--on-failure", "keep"];
    assert_ne!(reached(&sandbox, &[&build("path.yml")[..], &keep].concat()).code, 0);
    emulator.set_faults("[]").unwrap();
    assert_eq!(emulator.status()["open_uploads"], 1, "{}", emulator.status());
    let run = reached(&sandbox, &["resume"]);
    let image = run.succeeded().member("image_id").as_str().unwrap();
    let sent = run.member("bytes_sent").as_u64().unwrap();
    assert!(sent < 16 << 20, "parts are sent again: {sent}");
    let exported = kept.path().join("exported.raw");
    Stored::open(&cloud).unwrap().export(image, &exported).unwrap();
    assert!(fs::read(&exported).unwrap() == fs::read(&disk).unwrap());
    sandbox.cloud_has_only(1);
}
