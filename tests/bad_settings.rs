//! Mistakes on the command line and in the configuration, and clouds that say no: before any long work.

use build_image_emulator_alibaba::Config;

use crate::harness::{Run, SECRET, Sandbox};

/// A build of a small disk with this configuration text.
fn build(sandbox: &Sandbox, config: &str, more: &[&str]) -> Run {
    let disk = sandbox.disk("disk.raw", 4, 1);
    sandbox.write("c.yml", config);
    let words =
        [&["--disk", disk.to_str().unwrap(), "-p", "alibaba", "-c", "c.yml"], more].concat();
    sandbox.run(&words)
}

#[test]
fn configuration_files_with_mistakes_name_file_and_line() {
    for (config, code, texts) in [
        ("A: 1\nB: [1,\n", 2, &["c.yml, line", "not YAML"][..]),
        ("- a\n", 2, &["c.yml, line 1", "not a map"]),
        (
            "ALIBABA_BUCKE: x\n",
            2,
            &["c.yml, line 1", "no setting `ALIBABA_BUCKE`", "did you mean `ALIBABA_BUCKET`?"],
        ),
        ("BOOT_LOCATIONS: 3\n", 2, &["BOOT_LOCATIONS (c.yml, line 1)", "`3` is none of 1, 2"]),
        ("REUSE: maybe\n", 2, &["REUSE (c.yml, line 1)", "`maybe` is neither yes"]),
        ("ISO_SIG: x.sig\n", 2, &["ISO_SIG (c.yml, line 1)", "leave ISO_SIG out"]),
    ] {
        let sandbox = Sandbox::new();
        let run = build(&sandbox, config, &[]);
        run.failed(code, texts);
        assert_eq!(run.member("result"), "FAILURE", "the result document is written all the same");
    }
}

#[test]
fn all_missing_settings_are_listed_at_once() {
    let sandbox = Sandbox::new();
    let run = build(&sandbox, "", &[]);
    run.failed(2, &["ALIBABA_BUCKET is not set", "ALIBABA_REGION is not set"]);
    let problems = run.member("error")["problems"].as_array().unwrap().len();
    assert!(problems >= 2, "{problems}");
}

#[test]
fn words_nobody_knows_get_a_suggestion() {
    let sandbox = Sandbox::new();
    for (words, texts) in [
        (&["--isso", "x.iso"][..], &["--isso", "`--iso`"][..]),
        (&["providrs", "list"], &["`providrs`", "did you mean `build-image providers`?"]),
        (&["x.iso"], &["`x.iso` is neither a flag nor a verb", "-i"]),
        (&["-p", "qcow2", "--iso"], &["--iso", "value"]),
        (&["-i", "x.iso"], &["PLATFORM is not set", "one of alibaba, qcow2"]),
        (&["-p", "qcow2"], &["nothing to make an image of", "-i", "--disk"]),
        (&["-c", "absent.yml"], &["`absent.yml`", "No such file"]),
    ] {
        sandbox.run(words).failed(2, texts);
    }
}

#[test]
fn clouds_that_say_no_stop_the_build_before_it_starts() {
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
        assert!(!run.stderr.contains("sending"), "stopped before the upload:\n{}", run.stderr);
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
    assert!(!run.stderr.contains("sending"), "{}", run.stderr);
}

#[test]
fn a_cloud_that_cannot_be_reached_is_told_apart_from_one_that_refuses() {
    let sandbox = Sandbox::with_cloud();
    // A port nobody listens on: it was free a moment ago and is never bound again here.
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
fn secrets_are_masked_in_the_plan() {
    let sandbox = Sandbox::with_cloud();
    let disk = sandbox.disk("disk.raw", 4, 1);
    let words = ["plan", "--disk", disk.to_str().unwrap(), "-p", "alibaba", "-c", "config.yml"];
    let output = sandbox.command(&words).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        text.contains("ALIBABA_ACCESS_KEY_SECRET = <protected>  (config.yml, line 2)"),
        "{text}"
    );
    assert!(!text.contains(SECRET));
    assert_eq!(sandbox.files(), ["config.yml", "disk.raw"], "a plan touches nothing");
}
