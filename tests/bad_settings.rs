//! Checks that mistakes on the command line and in the configuration, and requests that the cloud refuses, are
//! reported before any long work starts.

use std::fs;

use build_image_emulator_alibaba::Config;

use crate::harness::{Run, SECRET, Sandbox};

/// A build of a small disk with this configuration text.
fn build(sandbox: &Sandbox, config: &str, more: &[&str]) -> Run {
    let disk = sandbox.disk("disk.raw", 4, 1);
    sandbox.write("c.yml", config);
    let args = [&["--disk", disk.to_str().unwrap(), "-p", "alibaba", "-c", "c.yml"], more].concat();
    sandbox.run(&args)
}

#[test]
fn clouds_that_refuse_stop_the_build_before_it_starts() {
    for (changes, code, texts) in [
        (&[("ALIBABA_ACCESS_KEY_SECRET", "wrong-one")][..], 6, &["credentials", "hint:"][..]),
        (&[("ALIBABA_ACCESS_KEY_ID", "nobody")], 6, &["access key", "hint:"]),
        (&[("ALIBABA_BUCKET", "no-such-bucket")], 6, &["no-such-bucket", "hint:"]),
        (&[("ALIBABA_BUCKET", "far-away")], 2, &["far-away", "another region", "ALIBABA_REGION"]),
        (
            &[("CLOUD_IMAGE_NAME", "1-starts-with-a-digit")],
            2,
            &["1-starts-with-a-digit", "CLOUD_IMAGE_NAME"],
        ),
        (
            &[("ALIBABA_IMAGE_SHARE_ACCOUNT_IDS", "[abc]")],
            2,
            &["ALIBABA_IMAGE_SHARE_ACCOUNT_IDS", "abc"],
        ),
    ] {
        let sandbox = Sandbox::with_cloud();
        let config = sandbox.config(changes);
        let run = build(&sandbox, &config, &[]);
        run.failed(code, texts);
        assert!(!run.stderr.contains("uploading"), "stopped before the upload:\n{}", run.stderr);
        sandbox.cloud_has_only(0);
        sandbox.keeps_the_secret(&run);
        assert!(!run.stderr.contains("wrong-one"));
    }
}

#[test]
fn a_missing_import_role_is_found_before_the_upload() {
    let sandbox = Sandbox::with_cloud_of(Config { import_role: false, ..Config::default() });
    let config = sandbox.config(&[]);
    let run = build(&sandbox, &config, &[]);
    run.failed(6, &["AliyunECSImageImportDefaultRole", "hint:"]);
    assert!(!run.stderr.contains("uploading"), "{}", run.stderr);
}

#[test]
fn an_unreachable_cloud_is_distinguished_from_one_that_refuses() {
    let sandbox = Sandbox::with_cloud();
    // A port without a listener: it was free a moment ago and is never bound again here.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{port}");
    let config = sandbox.config(&[
        ("ALIBABA_OSS_ENDPOINT", &url),
        ("ALIBABA_ECS_ENDPOINT", &url),
        ("ALIBABA_STS_ENDPOINT", &url),
    ]);
    let run = build(&sandbox, &config, &[]);
    run.failed(7, &["127.0.0.1"]);
}

#[test]
fn secrets_are_redacted_in_the_plan() {
    let sandbox = Sandbox::with_cloud();
    let disk = sandbox.disk("disk.raw", 4, 1);
    let args = ["plan", "--disk", disk.to_str().unwrap(), "-p", "alibaba", "-c", "config.yml"];
    let output = sandbox.command(&args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        text.contains(
            "config.yml: ALIBABA_ACCESS_KEY_ID=<protected>, ALIBABA_ACCESS_KEY_SECRET=<protected>, "
        ),
        "{text}"
    );
    assert!(!text.contains(SECRET));
    assert!(text.contains("as qcow2"), "{text}");
    assert_eq!(sandbox.files(), ["config.yml", "disk.raw"], "a plan touches nothing");
}

/// For a disk of data: its missing system is not reported.
const DATA: &str = "--guest-check=off";

#[test]
fn harmless_mistakes_do_not_stop_a_build() {
    let sandbox = Sandbox::new();
    sandbox.disk("d.raw", 4, 1);
    sandbox.write("wrong.yml", "LOG_LEVEL: verbose\nIGNORE_DOWNLOAD_URL_TLS: false\n");
    for (args, variables) in [
        (&["--help"][..], &[("LOG_LEVEL", "verbose")][..]),
        (&["--info"], &[("F5_IMAGE_DIR", "~nobody/x")]),
        (&["providers", "list"], &[("LOG_LEVEL", "verbose")]),
        (&["providers", "--help"], &[]),
        (&["providers", "inspect", "qcow2", "--json", "--provider-dir", "."], &[]),
        (&["providers", "--provider-dir", ".", "inspect", "qcow2"], &[]),
        (&["--disk", "d.raw", "-pqcow2", "-c", "wrong.yml", "--log-level", "info", DATA], &[]),
        (&["--disk", "d.raw", "-hp", "qcow2"], &[]),
        // Names that the old tool never read: variables of other programs.
        (
            &["--disk", "d.raw", "-qp", "qcow2", DATA],
            &[("DISK", "/x"), ("QEMU_CPUS", "many"), ("INFO", "1")],
        ),
    ] {
        let output = sandbox.command(args).envs(variables.iter().copied()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {text}");
        assert!(!text.contains("warning"), "{args:?}: {text}");
    }
}

#[test]
fn settings_of_providers_are_checked_like_all_others() {
    let sandbox = Sandbox::new();
    for (args, text) in [
        (&["providers"][..], "`list`, `inspect`, `lock`, `install`, `update`"),
        (&["providers", "lsit"], "`lsit`"),
        (&["providers", "list", "--jsno"], "`--jsno`"),
        (&["providers", "inspect"], "NAME"),
        (&["providers", "list", "--provider-dir"], "--provider-dir"),
    ] {
        sandbox.run(args).failed(2, &[text, "hint:"]);
    }
}

#[test]
fn facts_about_the_host_are_json() {
    let sandbox = Sandbox::new();
    let output = sandbox.command(&["--info"]).output().unwrap();
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(facts["version"], "1.0.0");
    assert!(facts["platform"]["architecture"].is_string() && facts.get("qemu").is_some());
    assert_eq!(sandbox.files(), [""; 0], "nothing is made");
}

#[test]
fn the_result_is_printed_as_json_however_that_was_asked_for() {
    for (config, args, variables, valid) in [
        ("JSON: yes\n", &[][..], &[][..], true),
        ("", &["--json=on"], &[], true),
        ("", &[], &[("F5_JSON", "1")], true),
        ("JSON: yes\n", &["--json=no"], &[], false),
        ("", &[], &[("JSON", "1")], false),
    ] {
        let sandbox = Sandbox::new();
        let disk = sandbox.disk("d.raw", 4, 1);
        let disk = disk.to_str().unwrap();
        sandbox.write("c.yml", config);
        for (platform, code) in [("qcow2", 0), ("alibaba", 2), ("absent", 3)] {
            let args = [&["--disk", disk, "-p", platform, "-c", "c.yml"], args].concat();
            let output = sandbox.command(&args).envs(variables.iter().copied()).output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{args:?}");
            let document = serde_json::from_slice::<serde_json::Value>(&output.stdout);
            assert_eq!(document.is_ok(), valid, "{config:?} {args:?}");
        }
    }
}

#[test]
fn a_result_that_cannot_be_written_is_found_before_the_build() {
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("d.raw", 4, 1);
    fs::create_dir(sandbox.path().join("r.json")).unwrap();
    for path in ["d.raw/r.json", "r.json"] {
        let args = ["--disk", disk.to_str().unwrap(), "-p", "qcow2", "--output-json-file", path];
        sandbox.run(&args).failed(2, &["cannot write the result", path, "hint: set OUTPUT_JSON"]);
    }
    assert_eq!(sandbox.files(), ["d.raw", "r.json"], "nothing was built");
}

#[test]
fn an_image_is_named_also_when_its_result_cannot_be_written() {
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("d.raw", 4, 1);
    // A directory that can be created before the build, and that is the image itself after it.
    let path = "images/d.qcow2.zip/r.json";
    let args = ["--disk", disk.to_str().unwrap(), "-p", "qcow2", "--output-json-file", path];
    let run = sandbox.run(&args);
    run.failed(9, &["cannot write the result", path]);
    let made = sandbox.path().join("images/d.qcow2.zip");
    assert_eq!(run.stdout, format!("image {} (d.qcow2.zip)\n", made.display()));
}

#[test]
fn a_home_directory_is_never_a_directory_called_tilde() {
    let sandbox = Sandbox::new();
    sandbox.disk("d.raw", 4, 1);
    sandbox.write("c.yml", "DISK: ~/d.raw\nIMAGE_DIR: ~/made\nARTIFACTS_DIR: ~/work\n");
    let args = ["-c", "~/c.yml", "-p", "qcow2", "--log-file=~/log", "--output-json-file=~/r/"];
    sandbox.run(&args).succeeded();
    assert_eq!(
        sandbox.files().into_iter().filter(|name| !name.starts_with("work")).collect::<Vec<_>>(),
        [
            "c.yml",
            "d.raw",
            "log",
            "made",
            "made/d.qcow2.zip",
            "made/d.qcow2.zip.md5",
            "made/d.qcow2.zip.sha256",
            "r",
            "r/output_info.json"
        ]
    );
}

#[test]
fn settings_without_effect_on_a_given_disk_are_named_once() {
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("d.raw", 4, 1);
    sandbox.write("c.yml", "MODULES: ltm\nBOOT_LOCATIONS: 1\nUPDATE_LV_SIZES: {var: 1500}\n");
    let args = ["--disk", disk.to_str().unwrap(), "-p", "qcow2", "-c", "c.yml"];
    for verb in [&[][..], &["plan"]] {
        let run = sandbox.run(&[verb, &args, &["--disable-splash"]].concat());
        run.succeeded();
        let warning = "warning: UPDATE_LV_SIZES, DISABLE_SPLASH without effect";
        assert_eq!(run.stderr.matches(warning).count(), 1, "{}", run.stderr);
        assert_eq!(run.stderr.matches("without effect").count(), 1, "{}", run.stderr);
    }
}

#[test]
fn disks_a_provider_does_not_take_are_refused_also_without_an_upload() {
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("big.raw", 3 << 20, 0);
    let args = ["--disk", disk.to_str().unwrap(), "-p", "alibaba", "--no-upload"];
    sandbox.run(&args).failed(4, &["big.raw` is a disk of 3072 GiB", "at most 2048 GiB", "hint:"]);
}

#[test]
fn a_build_without_upload_names_the_file_and_no_image() {
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("d.raw", 4, 1);
    let run = sandbox.run(&["--disk", disk.to_str().unwrap(), "-p", "alibaba", "--no-upload"]);
    run.succeeded();
    let made = sandbox.path().join("images/d.alibaba.tar.gz");
    assert_eq!(run.stdout, format!("published {}\n", made.display()));
    assert_eq!(run.member("image_id"), "");
    assert_eq!(run.member("images").as_array().unwrap().len(), 0);
    assert_eq!(run.member("file"), made.to_str().unwrap());
}

#[test]
fn a_plan_checks_the_cloud_on_request_and_shows_the_effective_settings() {
    let sandbox = Sandbox::with_cloud();
    let disk = sandbox.disk("disk.raw", 4, 1);
    let disk = disk.to_str().unwrap();
    let args = ["plan", "--check", "--disk", disk, "-p", "alibaba", "-c", "config.yml"];
    let output =
        sandbox.command(&[&args[..], &["--alibaba-disk-format", "raw"]].concat()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("as raw") && text.contains("ok      bucket: "), "{text}");
    let refused = sandbox
        .command(&[&args[..], &["--alibaba-bucket", "absent-one"]].concat())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("error   bucket: "));
    assert_eq!(sandbox.files(), ["config.yml", "disk.raw"], "a plan touches nothing");
}

#[test]
fn a_name_and_tags_that_a_provider_would_ignore_are_refused() {
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 4, 1);
    sandbox.write("c.yml", "IMAGE_TAGS:\n  - owner: me\n");
    sandbox.write("none.yml", "IMAGE_TAGS: []\n");
    let words = |more: &[&'static str]| {
        let words = ["--disk", disk.to_str().unwrap(), "-p", "qcow2"];
        sandbox.run(&[&words[..], more].concat())
    };
    // A flag is refused; a file that may serve several providers is not.
    let run = words(&["--image-tags", "[{owner: me}]", "--cloud-image-name", "web"]);
    run.failed(
        2,
        &[
            "CLOUD_IMAGE_NAME",
            "IMAGE_TAGS",
            "provider `qcow2` does not support it",
            "has no `image_name`",
            "has no `tags`",
            "HYPERVISOR_IMAGE_NAME",
        ],
    );
    assert!(!sandbox.path().join("images").exists(), "{:?}", sandbox.files());
    let run = words(&["-c", "c.yml"]);
    run.succeeded();
    let warning = "provider `qcow2` does not support it, its description has no `tags`";
    assert!(run.stderr.contains(warning), "{}", run.stderr);
    let run = words(&["-c", "none.yml"]);
    run.succeeded();
    assert!(!run.stderr.contains("does not support"), "{}", run.stderr);
}
