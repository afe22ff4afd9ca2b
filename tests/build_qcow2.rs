//! Checks builds with the local provider.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use crate::harness::{Sandbox, needs_qemu};

fn qemu_img(args: &[&str]) {
    let output = Command::new("qemu-img").args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "qemu-img {args:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_raw_disk_becomes_a_qcow2_file_that_qemu_finds_equal() {
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("my disk.raw", 70, 3);
    let run = sandbox.run(&["--disk", disk.to_str().unwrap(), "-p", "qcow2", "--package", "none"]);
    run.succeeded();
    let made = sandbox.path().join("images/my disk.qcow2");
    let made = made.to_str().unwrap();
    assert_eq!(run.member("image_id"), made);
    assert_eq!(run.stdout, format!("image {made} (my disk.qcow2)\n"));
    qemu_img(&["check", made]);
    qemu_img(&["compare", "-f", "raw", "-F", "qcow2", disk.to_str().unwrap(), made]);
    let log = format!("logs/{}.log", run.member("run_id").as_str().unwrap());
    assert_eq!(run.member("log_file"), log.as_str());
    assert_eq!(
        sandbox.files(),
        [
            "images",
            "images/my disk.qcow2",
            "images/my disk.qcow2.md5",
            "images/my disk.qcow2.sha256",
            "logs",
            &log,
            "logs/image-qcow2",
            "logs/latest",
            "my disk.raw",
            "result.json"
        ],
        "nothing else is left"
    );
    let log = fs::metadata(sandbox.path().join("logs/image-qcow2")).unwrap();
    assert_eq!(log.permissions().mode() & 0o777, 0o600, "the log is its owner's");
}

/// FILE_IF_EXISTS over what IMAGE_DIR has: nothing that is there changes with `fail`, and the plan knows it.
#[test]
fn a_published_file_is_replaced_or_kept_as_requested() {
    const IMAGE: &str = "images/d.qcow2";
    for (existing, mode, is_refused) in [
        (None, "fail", false),
        (Some(IMAGE), "fail", true),
        (Some(IMAGE), "replace", false),
        (Some("images/d.qcow2.sha256"), "fail", true),
        (Some("images/d.qcow2.sha256"), "replace", false),
        // Of an older image: a build without a signature removes it.
        (Some("images/d.qcow2.512.sig"), "fail", true),
        (Some("images/d.qcow2.512.sig"), "replace", false),
        (Some("images/d.qcow2.txt"), "fail", false),
    ] {
        let sandbox = Sandbox::new();
        sandbox.disk("d.raw", 4, 1);
        let case = format!("{existing:?} {mode}");
        if let Some(name) = existing {
            sandbox.write(name, "of the user");
        }
        let build = ["--disk", "d.raw", "-p", "qcow2", "--package", "none"];
        let build = [&build[..], &["--file-if-exists", mode]].concat();
        let plan = sandbox.run(&[&["plan"], &build[..]].concat());
        assert_eq!(plan.code, if is_refused { 6 } else { 0 }, "{case}: {}", plan.stderr);
        let announces = existing.is_some() && mode == "replace";
        let announced = "is replaced when the new image is complete";
        assert_eq!(plan.stdout.contains(announced), announces, "{case}: {}", plan.stdout);

        let run = sandbox.run(&build);
        if let Some(name) = existing.filter(|_| is_refused) {
            run.failed(6, &[&format!("{name}` exists already"), "FILE_IF_EXISTS=replace"]);
            let kept = fs::read_to_string(sandbox.path().join(name)).unwrap();
            assert_eq!(kept, "of the user", "{case}");
            assert_eq!(fs::read_dir(sandbox.path().join("images")).unwrap().count(), 1, "{case}");
            continue;
        }
        run.succeeded();
        assert_eq!(run.stderr.contains(announced), announces, "{case}: {}", run.stderr);
        assert_eq!(fs::metadata(sandbox.path().join(IMAGE)).unwrap().len() >> 20, 1, "{case}");
        // The same build again finds its own file.
        let again = sandbox.run(&build);
        assert_eq!(again.code, if mode == "fail" { 6 } else { 0 }, "{case}: {}", again.stderr);
    }
}

/// What takes the name while a build with FILE_IF_EXISTS=fail is killed stays: a file of the user, and one of another build.
#[test]
fn a_file_that_takes_the_name_during_a_build_is_kept() {
    for by_build in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.disk("d.raw", 4, 1);
        let build = ["--disk", "d.raw", "-p", "qcow2", "--package", "none"];
        let build = [&build[..], &["--file-if-exists", "fail"]].concat();
        let point = "before:\"what\":\"products_released\"";
        let killed = sandbox.command(&build).env("BUILD_IMAGE_FAILPOINT", point).output().unwrap();
        assert_eq!(killed.status.code(), None, "{by_build}");
        let run = sandbox.command(&["runs", "--json"]).output().unwrap();
        let run: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
        let id = run["runs"][0]["id"].as_str().unwrap();
        if by_build {
            sandbox.run(&build).succeeded();
        } else {
            sandbox.write("images/d.qcow2", "of the user");
        }
        let before = fs::read(sandbox.path().join("images/d.qcow2")).unwrap();
        sandbox.run(&["resume", id]).failed(6, &["d.qcow2` exists already"]);
        let after = fs::read(sandbox.path().join("images/d.qcow2")).unwrap();
        assert!(after == before, "{by_build}");
        sandbox.run(&["gc", "--yes"]).succeeded();
        let rest = sandbox.files().into_iter().filter(|name| name.starts_with("images/")).count();
        assert_eq!(rest, if by_build { 3 } else { 1 }, "{by_build}: {:?}", sandbox.files());
    }
}

/// The files of a killed run that had begun to get their names are not those of others.
#[test]
fn a_killed_build_is_resumed_with_the_files_that_it_published() {
    let at = |when: &str| format!("{when}:\"what\":\"products_released\"");
    for point in [at("before"), at("after"), "before:\"what\":\"run_done\"".to_owned()] {
        let sandbox = Sandbox::new();
        sandbox.disk("d.raw", 4, 1);
        let build = ["--disk", "d.raw", "-p", "qcow2", "--package", "none"];
        let build = [&build[..], &["--file-if-exists", "fail"]].concat();
        let killed = sandbox.command(&build).env("BUILD_IMAGE_FAILPOINT", &point).output().unwrap();
        assert_eq!(killed.status.code(), None, "{point}");
        let resumed = sandbox.run(&["resume"]);
        assert_eq!(resumed.code, 0, "{point}: {}", resumed.stderr);
        let files = sandbox.files();
        let images = files.iter().filter(|name| name.starts_with("images/")).count();
        assert_eq!(images, 3, "{point}: {files:?}");
    }
}

#[test]
fn the_result_document_is_on_standard_output_when_asked_for() {
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("d.raw", 4, 1);
    // It holds no system, which would be a warning.
    let quiet = ["--json", "-q", "--guest-check", "off"];
    let run =
        sandbox.run(&[&["--disk", disk.to_str().unwrap(), "-p", "qcow2"], &quiet[..]].concat());
    run.succeeded();
    let printed: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(Some(&printed), run.result.as_ref());
    assert_eq!(printed["result"], "SUCCESS");
    assert_eq!(printed["plugin"]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(run.stderr, "");
}

#[test]
fn a_result_that_cannot_be_printed_fails_the_build() {
    let sandbox = Sandbox::new();
    sandbox.disk("d.raw", 1, 1);
    for (args, code) in [
        (&["--disk", "d.raw", "-p", "qcow2", "--json"][..], 9),
        (&["--disk", "d.raw", "-p", "qcow2"], 9),
        (&["plan", "--disk", "d.raw", "-p", "qcow2"], 9),
        (&["--help"], 9),
        (&["--disk", "absent.raw", "-p", "qcow2", "--json"], 4),
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = sandbox.command(args).stdout(full).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
        assert_eq!(errors.contains("cannot write to standard output"), code == 9, "{errors}");
    }
    assert!(sandbox.path().join("images/d.qcow2.zip").is_file(), "{:?}", sandbox.files());
}

#[test]
fn results_are_not_written_over_what_a_build_reads() {
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("d.json", 1, 1);
    let before = fs::read(&disk).unwrap();
    fs::write(sandbox.path().join("c.json"), "PLATFORM: qcow2\n").unwrap();
    for (args, named) in [
        (&["--disk", "d.json", "-c", "c.json", "--output-json-file", "d.json"][..], "DISK"),
        (&["--disk", "d.json", "-c", "c.json", "--output-json-file", "c.json"], "CONFIG_FILE"),
        (&["--disk", "d.json", "-p", "qcow2", "--provenance-file", "./d.json"], "DISK"),
        (&["--disk", "d.json", "-p", "absent", "--output-json-file", "d.json"], "absent"),
    ] {
        let output = sandbox.command(args).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(2 | 3)), "{args:?}: {errors}");
        assert!(errors.contains(named), "{args:?}: {errors}");
        assert_eq!(fs::read(&disk).unwrap(), before, "{args:?}");
        let config = fs::read_to_string(sandbox.path().join("c.json")).unwrap();
        assert_eq!(config, "PLATFORM: qcow2\n");
    }
    assert!(!sandbox.path().join("images").exists());
}

#[test]
fn other_disk_formats_are_taken_as_they_are() {
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::new();
    let raw = sandbox.disk("disk.raw", 70, 3);
    let raw = raw.to_str().unwrap();
    for (format, options) in
        [("qcow2", &["-c"][..]), ("vpc", &["-o", "subformat=dynamic,force_size"])]
    {
        let image = sandbox.path().join(format!("given.{format}"));
        let image = image.to_str().unwrap();
        qemu_img(&[&["convert", "-O", format], options, &[raw, image]].concat());
        sandbox.run(&["--disk", image, "-p", "qcow2", "--package", "none"]).succeeded();
        let made = sandbox.path().join("images/given.qcow2");
        qemu_img(&["check", made.to_str().unwrap()]);
        qemu_img(&["compare", "-f", "raw", "-F", "qcow2", raw, made.to_str().unwrap()]);
    }
    let backed = sandbox.path().join("backed.qcow2");
    let args = ["create", "-f", "qcow2", "-F", "raw", "-b", raw, backed.to_str().unwrap()];
    qemu_img(&args);
    sandbox
        .run(&["--disk", backed.to_str().unwrap(), "-p", "qcow2"])
        .failed(4, &["backed.qcow2", "backing"]);
}
