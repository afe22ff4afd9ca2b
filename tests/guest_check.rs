//! Checks GUEST_CHECK: what is on the disk is compared with what the provider's machines need, before it is sent.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    process::Stdio,
};

use crate::{
    build_debian::{TOOLS, debian},
    harness::{Sandbox, needs, until},
};

/// The Debian of the tests has no driver for the disk controller of an OVA: it is a kernel for clouds.
const MISSING: &str = "mptspi is neither built in nor in its initramfs";

#[test]
fn a_system_without_the_driver_is_reported_or_refused_before_its_image_is_made() {
    if !needs(&TOOLS) {
        return;
    }
    let disk = debian();
    let disk = disk.to_str().unwrap();
    for (mode, code, is_reported) in [("off", 0, false), ("warn", 0, true), ("require", 6, true)] {
        let sandbox = Sandbox::new();
        let args = ["--disk", disk, "-p", "vmware", "--guest-check", mode];
        let plan = sandbox.run(&[&["plan"], &args[..]].concat());
        assert_eq!(plan.code, code, "{mode}: {}", plan.stderr);
        assert_eq!(plan.stdout.contains(MISSING), is_reported, "{mode}: {}", plan.stdout);
        assert_eq!(plan.stdout.contains("\n          Debian"), is_reported, "{}", plan.stdout);

        let run = sandbox.run(&args);
        assert_eq!(run.stderr.contains(MISSING), is_reported, "{mode}: {}", run.stderr);
        let made = sandbox.path().join("images/disk.vmware.ova");
        assert_eq!(made.is_file(), code == 0, "{mode}: {:?}", sandbox.files());
        if code == 0 {
            run.succeeded();
        } else {
            let texts = ["does not work on machines of `vmware`", "GUEST_CHECK=warn"];
            run.failed(code, &texts);
            assert_eq!(run.member("error")["kind"], "invalid_image");
        }
        if !is_reported {
            assert!(run.result.as_ref().unwrap().get("guest").is_none());
            continue;
        }
        let guest = run.member("guest");
        assert_eq!(guest["attributes"]["os"], "debian");
        assert_eq!(guest["attributes"]["firmware"], serde_json::json!(["bios"]));
        let findings = guest["findings"].as_array().unwrap();
        let missing = findings.iter().find(|one| one["id"] == "disk-driver-missing").unwrap();
        assert_eq!(missing["severity"], "error");
        assert_eq!(missing["evidence"][0]["file"], "/syslinux.cfg");
    }
}

/// Nothing of the cloud changes when a disk is refused, also when it was downloaded first.
#[test]
fn a_disk_without_a_system_is_refused_only_for_machines() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 1);
    let nothing = "no system was found on the disk, and no boot loader";
    for (mode, code) in [("off", 0), ("warn", 0), ("require", 6)] {
        let name = format!("image-{mode}");
        let cloud = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];
        let more = ["--guest-check", mode, "--cloud-image-name", &name];
        let run = sandbox.run(&[&cloud[..], &more].concat());
        assert_eq!(run.code, code, "{mode}: {}", run.stderr);
        assert_eq!(run.stderr.contains(nothing), mode != "off", "{mode}: {}", run.stderr);
        // A local file has no machines of its platform.
        let local = ["--disk", "disk.raw", "-p", "qcow2", "--hypervisor-image-name", &name];
        let run = sandbox.run(&[&local[..], &["--guest-check", mode]].concat());
        run.succeeded();
        assert_eq!(run.stderr.contains(nothing), mode != "off", "{mode}: {}", run.stderr);
    }
    sandbox.cloud_has_only(2);
}

/// What ends the build is not hidden by remarks about the disk, which the result has all the same.
#[test]
fn what_the_provider_refuses_is_the_only_thing_that_is_reported() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 1);
    let build = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];
    let run = sandbox.run(&[&build[..], &["--alibaba-bucket", "nowhere"]].concat());
    run.failed(6, &["of bucket `nowhere`: the bucket does not exist"]);
    assert!(!run.stderr.contains("guest"), "{}", run.stderr);
    assert_eq!(run.member("guest")["findings"][0]["id"], "no-system");
}

#[test]
fn a_disk_that_is_refused_is_not_published_on_this_machine_either() {
    let (sandbox, state) = Sandbox::with_kept_cloud();
    sandbox.disk("disk.raw", 4, 1);
    let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba", "--no-upload"];
    let run = sandbox.run(&[&args[..], &["--guest-check", "require"]].concat());
    run.failed(6, &["does not work on machines of `alibaba`: 1 problem", "GUEST_CHECK=warn"]);
    assert!(!sandbox.path().join("images").exists(), "{:?}", sandbox.files());
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
    let requests = fs::read_to_string(state.path().join("requests.jsonl")).unwrap_or_default();
    assert_eq!(requests, "", "the cloud was asked");
    sandbox.run(&[&args[..], &["--guest-check", "warn"]].concat()).succeeded();
    assert!(sandbox.path().join("images").exists(), "{:?}", sandbox.files());
}

/// The inspection writes nothing and starts no program, so that there is nothing to remove when it is killed.
#[test]
fn an_inspection_that_is_killed_leaves_no_file_and_no_process() {
    if !needs(&TOOLS) {
        return;
    }
    let disk = debian();
    let disk = disk.to_str().unwrap();
    let (sandbox, state) = Sandbox::with_kept_cloud();
    let before = sandbox.files();
    let build = ["--disk", disk, "-c", "config.yml", "-p", "alibaba"];
    for args in [&["inspect", disk][..], &build] {
        let temporary = tempfile::tempdir().unwrap();
        let mut child = sandbox
            .command(args)
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let process = format!("/proc/{}", child.id());
        if args[0] == "inspect" {
            let opened = || {
                let files = fs::read_dir(format!("{process}/fd")).unwrap().flatten();
                files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file == *disk)
            };
            until("it has opened the disk", opened);
        } else {
            // The inspection is the first act of the check.
            let lines = BufReader::new(child.stderr.take().unwrap()).lines();
            let found = lines.map_while(Result::ok).any(|line| line.contains("preflight checks"));
            assert!(found);
        }
        let children = format!("{process}/task/{}/children", child.id());
        let children = fs::read_to_string(children).unwrap_or_default();
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "it had ended before");
        assert_eq!(children, "", "{args:?} had started programs");
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "{args:?}");
    }
    let requests = fs::read_to_string(state.path().join("requests.jsonl")).unwrap_or_default();
    assert_eq!(requests, "", "the build was not in its inspection");
    sandbox.run(&["gc", "--yes"]).succeeded();
    let mut left = sandbox.files();
    left.retain(|name| !name.starts_with("logs") && name != "result.json");
    assert_eq!(left, before);
}
