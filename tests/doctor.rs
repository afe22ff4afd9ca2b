//! Checks `build-image doctor`: its report about a host, and its exit code.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::Value;

use crate::harness::{Run, Sandbox, needs_qemu};

fn checks(run: &Run) -> Vec<(String, String, String)> {
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    let checks = document["checks"].as_array().unwrap().iter().map(|check| {
        let text = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(check["remedy"].is_null(), check["verdict"] == "ok", "{check}");
        (text("subject"), text("verdict"), text("message"))
    });
    let checks: Vec<_> = checks.collect();
    let failed = checks.iter().any(|(_, verdict, _)| verdict == "fail");
    assert_eq!((document["ready"] == false, run.code), (failed, i32::from(failed)), "{document:#}");
    checks
}

fn doctor(sandbox: &Sandbox, args: &[&str], environment: &[(&str, &str)]) -> Run {
    let mut command = sandbox.command(&[&["doctor"], args].concat());
    command.envs(environment.iter().copied());
    Run::of(&command.output().unwrap(), None)
}

#[test]
fn a_host_that_can_build_is_reported_subject_by_subject() {
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::new();
    let run = doctor(&sandbox, &["--json"], &[]);
    let found = checks(&run);
    for subject in ["qemu", "acceleration", "memory", "disk space", "providers", "proxy", "clock"] {
        assert!(found.iter().any(|(name, ..)| name == subject), "{subject}: {found:?}");
    }
    for (subject, text) in [("qemu", "qemu-system-x86_64"), ("providers", "alibaba 1.0.0")] {
        let row = found.iter().find(|(name, _, message)| name == subject && message.contains(text));
        assert_eq!(row.unwrap().1, "ok");
    }
    let run = doctor(&sandbox, &[], &[]);
    assert!(run.stdout.starts_with("ok    qemu "), "{}", run.stdout);
    assert!(sandbox.files().is_empty(), "it leaves nothing: {:?}", sandbox.files());
}

#[test]
fn what_is_wrong_has_a_remedy_and_the_exit_code_1() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("file", "");
    let below = file.join("below");
    // A port without a listener.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let proxy = format!("http://user:hunter2@127.0.0.1:{port}");
    let plugins = sandbox.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    fs::write(plugins.join("libbuild_image_provider_odd.so"), "no plugin").unwrap();
    let run = doctor(
        &sandbox,
        &["--json", "--image-dir", below.to_str().unwrap(), "--provider-dir", "plugins"],
        &[("PATH", sandbox.path().to_str().unwrap()), ("HTTPS_PROXY", &proxy)],
    );
    let found = checks(&run);
    for (subject, text) in [
        ("disk space", "IMAGE_DIR"),
        ("providers", "libbuild_image_provider_odd.so"),
        ("proxy", "takes no connection"),
    ] {
        let row = found.iter().find(|(name, _, message)| name == subject && message.contains(text));
        assert_eq!(row.unwrap_or_else(|| panic!("{subject}: {found:?}")).1, "fail");
    }
    // Builds from disk images need no qemu, unless the user names one.
    let verdict = |found: &[(String, String, String)]| {
        let row = found.iter().find(|(name, ..)| name == "qemu").unwrap();
        assert!(row.2.contains("installing ISOs and boot tests need it"), "{}", row.2);
        row.1.clone()
    };
    assert_eq!(verdict(&found), "warn");
    let named = doctor(&sandbox, &["--json", "--qemu", "missing"], &[]);
    assert_eq!(verdict(&checks(&named)), "fail");
    assert!(!run.stdout.contains("hunter2"));
    doctor(&sandbox, &["--nonsense"], &[]).failed(2, &["--nonsense", "build-image doctor --help"]);
}

/// A qemu that answers queries, and fails every probe guest after recording it.
fn failing_qemu(directory: &Path) -> String {
    let path = directory.join("qemu");
    let script = format!(
        "#!/bin/sh\ncase $1 in -version) echo 'QEMU emulator version 9.9.9'; exit 0;; -sandbox) exit 0;; esac\n\
         echo probe >>'{}'\necho 'no guest today' >&2\nexit 1\n",
        directory.join("probes").display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_acceleration_is_tried_once_until_it_is_refreshed() {
    if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        eprintln!("SKIPPED: /dev/kvm cannot be opened, so no probe guest is started");
        return;
    }
    let sandbox = Sandbox::new();
    let tools = tempfile::tempdir().unwrap();
    let qemu = failing_qemu(tools.path());
    let probes = || fs::read_to_string(tools.path().join("probes")).unwrap().lines().count();
    for (more, count, remembered) in
        [(&[][..], 1, false), (&[], 1, true), (&["--refresh"], 2, false), (&[], 2, true)]
    {
        let args = [&["--json", "--qemu", &qemu, "--accel", "auto"], more].concat();
        let found = checks(&doctor(&sandbox, &args, &[]));
        let (_, verdict, text) = found.iter().find(|(name, ..)| name == "acceleration").unwrap();
        assert!(verdict == "warn" && text.contains("no guest today"), "{text}");
        assert_eq!((text.contains("(remembered for "), probes()), (remembered, count), "{text}");
    }
}
