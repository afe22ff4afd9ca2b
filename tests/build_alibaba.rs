//! Checks builds that end with an image in the emulator.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, process::Command};

use build_image_emulator_alibaba::{Config, StateDir, Stored};

use crate::harness::{
    Iso, Sandbox, TinyIso, Turn, needs_qemu, plugin_directory, sandbox_walk, until,
};

/// Compares two raw disks with qemu-img.
#[track_caller]
fn equal(one: &Path, other: &Path) {
    let output = Command::new("qemu-img")
        .args(["compare", "-f", "raw", "-F", "raw"])
        .args([one, other])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn an_installer_iso_becomes_a_registered_image_with_the_old_command_line() {
    if !needs_qemu() {
        return;
    }
    let _turn = Turn::take();
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_cloud_of(Config {
        state: StateDir::Kept(state.path().to_owned()),
        ..Config::default()
    });
    let iso = Iso::of("ok");
    let args =
        ["-i", iso.word(), "-c", "config.yml", "-p", "alibaba", "-m", "ltm", "-b", "1", "--reuse"];
    let run = sandbox.run(&args);
    run.succeeded();
    let image = run.member("image_id").as_str().unwrap().to_owned();
    assert_eq!(run.member("alibaba_image_id"), image.as_str());
    assert_eq!(run.member("alibaba_region"), "cn-hangzhou");
    assert_eq!(run.member("virtual_size"), 20_u64 << 30);
    assert!(
        run.stdout.starts_with(&format!("image {image} (F5-BIGIP-15-0-0-0-0-39-BYOL-ltm-1slot-"))
    );
    sandbox.cloud_has_only(1);
    sandbox.keeps_the_secret(&run);

    let exported = state.path().join("exported.raw");
    Stored::open(state.path()).unwrap().export(&image, &exported).unwrap();
    let directory = sandbox.path().join("artifacts/ok/alibaba/ltm_1slot");
    equal(&directory.join("BIGIP-15.0.0-0.0.39.LTM_1SLOT.alibaba.raw"), &exported);
    for log in ["qemu.iso.log", "qemu.selinux_relabeling.log"] {
        assert!(directory.join(log).is_file(), "{log} is kept with --reuse");
    }
}

/// Bytes that files below a directory allocate.
fn allocated(directory: &Path) -> u64 {
    let mut sum = 0;
    sandbox_walk(directory, &mut |path| {
        sum += path.symlink_metadata().map_or(0, |metadata| metadata.blocks() * 512);
    });
    sum
}

#[test]
fn an_upload_needs_no_second_copy_of_the_disk() {
    let sandbox = Sandbox::with_cloud();
    let disk = sandbox.disk("disk.raw", 200, 100);
    let before = allocated(sandbox.path());
    let emulator = sandbox.emulator.as_ref().unwrap();
    // All parts are uploaded; the build waits for the answer that combines them into one object.
    emulator
        .set_faults(
            r#"[{"operation":"CompleteMultipartUpload","count":1,"action":{"stall_ms":3000}}]"#,
        )
        .unwrap();
    let args = ["--disk", disk.to_str().unwrap(), "-c", "config.yml", "-p", "alibaba"];
    let temporary = tempfile::tempdir().unwrap();
    let mut child = sandbox
        .command(&args)
        .env("TMPDIR", temporary.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let parts = 101_u64.div_ceil(16);
    until("all parts are sent", || {
        assert!(child.try_wait().unwrap().is_none(), "the build ended before all parts were sent");
        emulator.status()["parts"].as_u64() >= Some(parts)
    });
    let now = allocated(sandbox.path()) + allocated(temporary.path());
    assert!(child.wait().unwrap().success());
    let more = now.saturating_sub(before);
    assert!(more < 1 << 20, "{more} bytes were written beside the disk, only log and journal may");
    sandbox.cloud_has_only(1);
}

#[test]
fn a_build_that_is_interrupted_leaves_nothing_behind() {
    let sandbox = Sandbox::with_cloud();
    let disk = sandbox.disk("disk.raw", 200, 100);
    let emulator = sandbox.emulator.as_ref().unwrap();
    emulator
        .set_faults(r#"[{"operation":"UploadPart","part_number":5,"action":{"stall_ms":60000}}]"#)
        .unwrap();
    let args = ["--disk", disk.to_str().unwrap(), "-c", "config.yml", "-p", "alibaba"];
    let child = sandbox
        .command(&args)
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until("two parts are sent", || emulator.status()["parts"].as_u64() >= Some(2));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("error: interrupted"), "{text}");
    sandbox.cloud_has_only(0);
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
}

#[test]
fn other_formats_arrive_as_the_same_disk() {
    if !needs_qemu() {
        return;
    }
    for (format, compression, stored_format) in [("vhd", "none", "VHD"), ("qcow2", "zlib", "QCOW2")]
    {
        let state = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::with_cloud_of(Config {
            state: StateDir::Kept(state.path().to_owned()),
            ..Config::default()
        });
        let config = sandbox.config(&[
            ("ALIBABA_DISK_FORMAT", format),
            ("ALIBABA_DISK_COMPRESSION", compression),
            ("ALIBABA_UPLOAD_PART_SIZE", "1MiB"),
        ]);
        sandbox.write("c.yml", &config);
        let disk = sandbox.disk("disk.raw", 48, 20);
        let run = sandbox.run(&["--disk", disk.to_str().unwrap(), "-p", "alibaba", "-c", "c.yml"]);
        run.succeeded();
        sandbox.cloud_has_only(1);
        let stored = Stored::open(state.path()).unwrap();
        assert_eq!(stored.images()[0].format, stored_format);
        let exported = state.path().join("exported.raw");
        stored.export(run.member("image_id").as_str().unwrap(), &exported).unwrap();
        equal(&disk, &exported);
    }
}

/// The output of `plan --check` for a small disk, and whether it found no problems.
fn plan_check(sandbox: &Sandbox, config: &str) -> (bool, String) {
    let disk = sandbox.disk("disk.raw", 4, 1);
    let args = ["plan", "--check", "--disk", disk.to_str().unwrap(), "-p", "alibaba", "-c", config];
    let output = sandbox.command(&args).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_plan_makes_no_import_role_and_the_build_does() {
    let sandbox = Sandbox::with_cloud_of(Config { import_role: false, ..Config::default() });
    sandbox.write("make.yml", &sandbox.config(&[("ALIBABA_CREATE_ROLE", "true")]));
    let role = "AliyunECSImageImportDefaultRole";
    for _ in 0..2 {
        let (fine, text) = plan_check(&sandbox, "make.yml");
        assert!(fine && text.contains(&format!("role `{role}` would be created")), "{text}");
        // Without the flag the missing role is reported: the dry run created none.
        let (fine, text) = plan_check(&sandbox, "config.yml");
        assert!(!fine && text.contains(&format!("role `{role}` does not exist")), "{text}");
    }
    let disk = sandbox.path().join("disk.raw");
    let args = ["--disk", disk.to_str().unwrap(), "-p", "alibaba", "-c", "make.yml"];
    sandbox.run(&args).succeeded();
    let (fine, text) = plan_check(&sandbox, "config.yml");
    assert!(fine && text.contains(&format!("ECS reads the bucket as `{role}`")), "{text}");
    sandbox.cloud_has_only(1);
}

#[test]
fn acceleration_that_is_not_enabled_is_found_before_the_upload() {
    let sandbox = Sandbox::with_plain_cloud();
    let url = sandbox.emulator.as_ref().unwrap().url();
    let config = sandbox.config(&[("ALIBABA_OSS_ENDPOINT", "http://oss-accelerate.aliyuncs.com")]);
    sandbox.write("c.yml", &config);
    let disk = sandbox.disk("disk.raw", 4, 1);
    let args = ["--disk", disk.to_str().unwrap(), "-p", "alibaba", "-c", "c.yml"];
    // The emulator answers in place of the vendor's own host names, as a proxy.
    let output = sandbox.command(&args).env("http_proxy", &url).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("bucket `demo` may not be reached by transfer acceleration"), "{text}");
    assert!(text.contains("hint: enable transfer acceleration"), "{text}");
    assert!(!text.contains("uploading"), "{text}");
    sandbox.cloud_has_only(0);
}

#[test]
fn what_the_cloud_would_refuse_stops_the_build_before_anything_is_installed() {
    if !needs_qemu() {
        return;
    }
    for (changes, import_role, code, text) in [
        (("ALIBABA_BUCKET", "far-away"), true, 2, "another region"),
        (("ALIBABA_BUCKET", "demo"), false, 6, "AliyunECSImageImportDefaultRole"),
        (("CLOUD_IMAGE_NAME", "aliyun-mine"), true, 2, "aliyun"),
    ] {
        let sandbox = Sandbox::with_cloud_of(Config { import_role, ..Config::default() });
        sandbox.write("c.yml", &sandbox.config(&[changes]));
        // Its kernel is invalid: an installation would fail in another way.
        let iso = TinyIso::base().write(&sandbox.path().join("base.iso"));
        let args =
            ["-i", iso.to_str().unwrap(), "-c", "c.yml", "-p", "alibaba", "-m", "ltm", "-b", "1"];
        let run = sandbox.run(&args);
        run.failed(code, &[text, "hint:"]);
        assert!(!run.stderr.contains("installing"), "{}", run.stderr);
        assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
        sandbox.cloud_has_only(0);
    }
}

#[test]
fn a_cloud_image_without_upload_is_published_and_needs_no_credentials() {
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 8, 1);
    let run = sandbox.run(&["--disk", disk.to_str().unwrap(), "-p", "alibaba", "--no-upload"]);
    run.succeeded();
    assert!(
        fs::metadata(sandbox.path().join("images/disk.alibaba.tar.gz")).unwrap().len() > 1 << 20
    );
    assert_eq!(run.member("location"), sandbox.path().join("images").to_str().unwrap());
}

/// The command that continues from the published file is the one that works: with the configuration of the build.
#[test]
fn the_command_after_a_build_without_upload_makes_the_image() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("my disk.raw", 4, 1);
    let plugins = plugin_directory().display().to_string();
    let build = ["--disk", "my disk.raw", "-p", "alibaba", "-c", "config.yml"];
    let build = [&build[..], &["--provider-dir", &plugins, "--no-upload"]].concat();
    let run = sandbox.run(&build);
    run.succeeded();
    let next = run.member("next").as_str().unwrap();
    assert!(
        next.ends_with(&format!("-p alibaba -c config.yml --provider-dir {plugins}")),
        "{next}"
    );
    let program = Path::new(env!("CARGO_BIN_EXE_build-image"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    let mut shell = Command::new("sh");
    shell.current_dir(sandbox.path()).args(["-c", next]);
    let command = sandbox.command(&[]);
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PATH", path);
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    sandbox.cloud_has_only(1);
}
