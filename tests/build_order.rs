//! Checks the order in which a build runs preflight checks, fetches, and logs: the cloud is checked before the
//! long part, a plan leaves no trace, and each run has a log that contains its error.

use std::{fs, io::Write as _};

use crate::harness::{Answer, Sandbox, Web, tool};

#[test]
fn the_cloud_is_asked_before_anything_is_fetched_or_unpacked() {
    let sandbox = Sandbox::with_cloud();
    let disk = fs::read(sandbox.disk("disk.raw", 4, 2)).unwrap();
    sandbox.write("wrong.yml", &sandbox.config(&[("ALIBABA_BUCKET", "absent")]));
    tool(sandbox.path(), &["gzip", "-k", "disk.raw"]);
    let web = Web::start(move |request| Answer::file(request, &disk));
    for source in [web.url("/disk.raw"), "disk.raw.gz".to_owned()] {
        let args = ["--disk", &source, "-c", "wrong.yml", "-p", "alibaba"];
        let run = sandbox.run(&args);
        run.failed(6, &["NoSuchBucket"]);
        assert!(!run.stderr.contains("unpacking"), "{}", run.stderr);
        assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
    }
    assert!(web.requests().is_empty(), "{:?}", web.requests().len());
}

#[test]
fn a_plan_fetches_the_beginning_of_a_file_and_leaves_nothing() {
    let sandbox = Sandbox::with_cloud();
    let disk = fs::read(sandbox.disk("disk.raw", 4, 2)).unwrap();
    tool(sandbox.path(), &["gzip", "-k", "disk.raw"]);
    let web = Web::start(move |request| match request.path.as_str() {
        "/absent" => Answer::status(404),
        _ => Answer::file(request, &disk),
    });
    let before = sandbox.files();
    for (source, texts) in [
        (
            web.url("/disk.raw"),
            &["size unknown", "which a build fetches or unpacks", "check → fetch → disk"][..],
        ),
        ("disk.raw.gz".to_owned(), &["size unknown", "disk.raw.gz, which a build fetches"]),
        ("disk.raw".to_owned(), &["disk      4.00 MiB", "as qcow2", "check → disk"]),
    ] {
        let args = ["plan", "--disk", &source, "-c", "config.yml", "-p", "alibaba", "--check"];
        let args = [&args[..], &["--verbose"]].concat();
        let output = sandbox.command(&args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for expected in texts {
            assert!(text.contains(expected), "`{expected}` is missing in\n{text}");
        }
        if source != "disk.raw" {
            // What follows from the size is unknown too.
            for guessed in ["0GiB", " 0 B"] {
                assert!(!text.contains(guessed), "`{guessed}` is in\n{text}");
            }
        }
        assert_eq!(sandbox.files(), before, "{source}");
    }
    let requests = web.requests();
    assert_eq!(requests.len(), 1, "one request for the beginning of the file");
    assert_eq!(requests[0].header("range"), Some("bytes=0-65535"));
    let args = ["plan", "--disk", &web.url("/absent"), "-c", "config.yml", "-p", "alibaba"];
    sandbox.run(&args).failed(4, &["404", "hint:"]);
}

#[test]
fn limits_on_size_are_checked_again_when_the_size_is_known() {
    let sandbox = Sandbox::new();
    // The provider accepts disks of at least 1 GiB; a packed disk does not record its size.
    sandbox.disk("disk.raw", 4, 1);
    tool(sandbox.path(), &["gzip", "-k", "disk.raw"]);
    for source in ["disk.raw", "disk.raw.gz"] {
        let run = sandbox.run(&["--disk", source, "-p", "gce", "--no-upload"]);
        let plain = sandbox.run(&["--disk", "disk.raw", "-p", "gce", "--no-upload"]);
        assert_eq!(run.code, plain.code, "{source}: {}", run.stderr);
        assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
    }
}

#[test]
fn every_run_has_its_log_and_a_failed_one_says_why_in_it() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 2);
    fs::File::create(sandbox.path().join("cut.qcow2")).unwrap().write_all(b"QFI\xfb\0\0").unwrap();
    let mut logs = Vec::new();
    for (disk, more, error) in [
        ("cut.qcow2", &[][..], "cut.qcow2"),
        ("disk.raw", &["--alibaba-bucket", "absent"], "NoSuchBucket"),
        ("disk.raw", &[], ""),
    ] {
        let args = ["--disk", disk, "-p", "alibaba", "-c", "config.yml", "--guest-check", "off"];
        if !more.is_empty() {
            sandbox.write("config.yml", &sandbox.config(&[("ALIBABA_BUCKET", "absent")]));
        }
        let run = sandbox.run(&args);
        sandbox.write("config.yml", &sandbox.config(&[]));
        assert_eq!(run.code == 0, error.is_empty(), "{}", run.stderr);
        let path = sandbox.path().join(run.member("log_file").as_str().unwrap());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(error), "{text}");
        // Every line of the error, with its causes and hints, is in the log.
        for line in run.stderr.lines().filter(|line| line.trim_start().starts_with("hint:")) {
            assert!(text.contains(line.trim()), "`{line}` is missing in\n{text}");
        }
        let latest = fs::read_link(sandbox.path().join("logs/latest")).unwrap();
        assert_eq!(latest, path.file_name().unwrap());
        logs.push((path, text));
    }
    for (path, text) in logs {
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "no other run writes into it");
    }
}
