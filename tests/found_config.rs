//! A configuration file that is found in the working directory sets what is built, and nothing that decides what runs,
//! which keys count, or where data and credentials are sent.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::Value;

use crate::harness::Sandbox;

const FOUND: &str = "build-image.yml";
/// As `Sandbox::run`, a build needs no flag beside these.
const BUILD: [&str; 4] = ["--disk", "disk.raw", "-p", "qcow2"];

#[test]
fn the_file_of_the_working_directory_is_used_and_named() {
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 4, 1);
    sandbox.write(FOUND, "DISK: disk.raw\nPLATFORM: qcow2\nPACKAGE: none\nIMAGE_DIR: out\n");
    let run = sandbox.run(&["--quiet=no"]);
    run.succeeded();
    assert!(run.stderr.contains("config  build-image.yml"), "{}", run.stderr);
    assert!(sandbox.path().join("out/disk.qcow2").is_file());
    // A named file takes its place; an empty one is none.
    let run = sandbox.run(&[&BUILD[..], &["-c", "/dev/null"]].concat());
    run.succeeded();
    assert!(!run.stderr.contains(FOUND), "{}", run.stderr);
    assert!(sandbox.path().join("images/disk.qcow2.zip").is_file());
    // It does not start a build by itself.
    let bare = sandbox.command(&[]).output().unwrap();
    assert_eq!(bare.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&bare.stderr).contains("Usage:"));
}

#[test]
fn a_found_file_that_needs_trust_is_refused_and_a_named_one_is_not() {
    for (line, what) in [
        ("QEMU: ./qemu", "what runs"),
        ("PROVIDER_DIR: plugins", "what runs"),
        ("PROVIDER_FILE: evil.so", "what runs"),
        ("ISOLATE: no", "what runs"),
        ("LOCKED: no", "what runs"),
        ("JOURNAL_KEY_FILE: key", "which keys"),
        ("IMAGE_SIG_PRIVATE_KEY: key.pem", "which keys"),
        ("DISK_SIG_PUBLIC_KEY: key.pem", "which keys"),
        ("IGNORE_DOWNLOAD_URL_TLS: yes", "which keys"),
        ("IMAGE_REGISTRATION_URL: http://127.0.0.1:1/", "where data is sent"),
        ("ALIBABA_OSS_ENDPOINT: http://127.0.0.1:1", "where data is sent"),
        ("ALIBABA_ACCESS_KEY_SECRET: s3cr3t-text", "a secret"),
        ("OUTPUT_JSON_FILE: ../result.json", "a path outside"),
        ("IMAGE_DIR: ~/images", "a path outside"),
        ("LOG_FILE: /tmp/x.log", "a path outside"),
    ] {
        let sandbox = Sandbox::new();
        sandbox.disk("disk.raw", 4, 1);
        sandbox.write(FOUND, &format!("# one\n{line}\n"));
        let args = ["plan", "--disk", "disk.raw", "-p", "alibaba", "--alibaba-bucket", "b"];
        let args = [&args[..], &["--alibaba-region", "cn-hangzhou"]].concat();
        let found = sandbox.command(&args).output().unwrap();
        let text = String::from_utf8_lossy(&found.stderr);
        assert_eq!(found.status.code(), Some(2), "{line}: {text}");
        assert!(text.contains("line 2") && text.contains(what), "{line}: {text}");
        assert!(text.contains("-c build-image.yml"), "{line}: {text}");
        assert!(!text.contains("s3cr3t-text"), "{text}");
        let named = sandbox.command(&[&args[..], &["-c", FOUND]].concat()).output().unwrap();
        let text = String::from_utf8_lossy(&named.stderr);
        assert!(!text.contains("a file that was found"), "{line}: {text}");
    }
}

#[test]
fn a_file_that_others_can_change_is_not_used() {
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 4, 1);
    let path = sandbox.write(FOUND, "PACKAGE: none\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    sandbox.run(&BUILD).failed(2, &[FOUND, "not used as configuration", "-c /dev/null"]);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    sandbox.run(&BUILD).failed(2, &["not a regular file"]);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    sandbox.run(&BUILD).failed(2, &["not a regular file"]);
    assert!(!sandbox.path().join("images").exists());
}

#[test]
fn a_resumed_run_uses_the_file_of_its_own_directory() {
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 4, 1);
    sandbox.write(FOUND, "PACKAGE: none\nON_FAILURE: keep\n");
    sandbox.write("images/disk.qcow2/x", "a directory in the way");
    assert_ne!(sandbox.run(&BUILD).code, 0);
    fs::remove_dir_all(sandbox.path().join("images/disk.qcow2")).unwrap();
    let elsewhere = sandbox.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let artifacts = sandbox.path().join("artifacts");
    let mut resume = sandbox.command(&["resume", "--artifacts-dir", artifacts.to_str().unwrap()]);
    let resumed = resume.current_dir(&elsewhere).output().unwrap();
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    assert!(sandbox.path().join("images/disk.qcow2").is_file());
}

/// The name that a plan prints.
fn planned(sandbox: &Sandbox, args: &[&str]) -> String {
    let plan = sandbox.command(&[&["plan", "--json"], args].concat()).output().unwrap();
    assert!(plan.status.success(), "{}", String::from_utf8_lossy(&plan.stderr));
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    plan["image_name"].as_str().unwrap().to_owned()
}

#[test]
fn a_build_uses_the_name_that_the_plan_printed_and_the_next_one_another() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 1);
    let args = ["--disk", "disk.raw", "-p", "alibaba", "-c", "config.yml"];
    let mut names = Vec::new();
    for _ in 0..3 {
        let name = planned(&sandbox, &args);
        assert_eq!(name, planned(&sandbox, &args), "a plan changes nothing");
        let run = sandbox.run(&args);
        run.succeeded();
        assert_eq!(run.member("image_name"), name.as_str());
        assert!(!names.contains(&name), "{name} twice");
        names.push(name);
    }
    // A number that cannot be kept makes the names random, and nothing else.
    let state = sandbox.path().join("state");
    fs::write(&state, "a file, not a directory").unwrap();
    for _ in 0..2 {
        let mut build = sandbox.command(&[&args[..], &["--json"]].concat());
        let built = build.env("XDG_STATE_HOME", &state).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let result: Value = serde_json::from_slice(&built.stdout).unwrap();
        let name = result["image_name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("disk-") && !names.contains(&name), "{name}");
        names.push(name);
    }
}

#[test]
fn targets_of_a_found_file_have_no_other_rights() {
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 4, 1);
    let text = "TARGETS:\n  - provider: qcow2\n  - provider: alibaba\n    ALIBABA_BUCKET: b\n    \
                ALIBABA_REGION: cn-hangzhou\n    ALIBABA_ECS_ENDPOINT: http://127.0.0.1:1\n";
    sandbox.write(FOUND, text);
    for which in [&["-p", "alibaba"][..], &[]] {
        let refused = sandbox.run(&[&["--disk", "disk.raw"], which].concat());
        refused.failed(2, &["ALIBABA_ECS_ENDPOINT", "line 6", "where data is sent"]);
    }
    assert!(!sandbox.path().join("images").exists(), "{:?}", sandbox.files());
}

#[test]
fn completions_use_the_file_and_never_wait_for_it() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.path().join("elsewhere/runs/20261130-120000-abcdef")).unwrap();
    let path = sandbox.write(FOUND, "ARTIFACTS_DIR: elsewhere\n");
    let offered = || {
        let output = sandbox.command(&["complete-words", "resume", ""]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(offered().contains("20261130-120000-abcdef"), "{}", offered());
    fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert!(!offered().contains("20261130-120000-abcdef"), "a pipe is not read");
}
