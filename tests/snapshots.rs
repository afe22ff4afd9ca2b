//! Compares the exact output of the program with the files in `tests/snapshots`. Text that differs between runs
//! and hosts is replaced first. With BUILD_IMAGE_UPDATE_DOCS set, the files are written instead.

use std::{fs, process::Output};

use regex::Regex;

use crate::harness::{Sandbox, root};

/// Patterns and their replacements, applied in order.
const MASKS: [(&str, &str); 16] = [
    (r"https?://127\.0\.0\.1:\d+", "ADDRESS"),
    (r"build-image-\d{8}-\d{6}-[a-z0-9]{6}", "build-image-RUN"),
    (r"\b\d{8}-\d{6}-[a-z0-9]{6}\.log", "RUN.log"),
    (r"\bm-[a-z0-9]{10,}", "m-ID"),
    (r"\b(disk-)[A-Z0-9]{9}\b", "${1}RANDOM"),
    (r"(build_(?:host|user): ).*", "${1}SOMEBODY"),
    (r"\((?:\d+\.\d s|\d+ s|\d+ min \d+ s)\)", "(TIME)"),
    (r", (?:\d+\.\d s|\d+ s|\d+ min \d+ s), log", ", TIME, log"),
    (r"[0-9.]+ [KMG]iB used", "SIZE used"),
    (r"(writes +about )[0-9.]+ [KMG]iB (.*), [0-9.]+ [KMGT]iB free", "${1}SIZE ${2}, SIZE free"),
    (r"(sends +)[0-9.]+ MiB, [0-9.]+ s", "${1}SIZE, TIME"),
    (r"account \d+ \(.*\), keys", "account NUMBER (NAME), keys"),
    // The size of the image beyond the disk's 2 MiB is checked by the tests of the disk library.
    (r"(prepared|uploading|uploaded|writing|wrote) [0-9.]+ MiB", "${1} SIZE"),
    (r"[0-9.]+ MiB sent", "SIZE sent"),
    (r"(F5_ACCEL|PROVIDER_PATH).*", "${1}"),
    (r"[ \t]+\n", "\n"),
];

fn masked(sandbox: &Sandbox, text: &str) -> String {
    let directory = sandbox.path().display().to_string();
    let real = fs::canonicalize(sandbox.path()).unwrap().display().to_string();
    let text = text.replace(&real, "FOLDER").replace(&directory, "FOLDER");
    MASKS.iter().fold(text, |text, (pattern, with)| {
        Regex::new(pattern).unwrap().replace_all(&text, *with).into_owned()
    })
}

/// Runs command lines and compares all their output with a file.
#[track_caller]
fn prints(sandbox: &Sandbox, name: &str, lines: &[&str]) {
    let mut text = String::new();
    for line in lines {
        let args: Vec<&str> = line.split_whitespace().collect();
        let mut command = sandbox.command(&args);
        command.env("COLUMNS", "100").env("LC_ALL", "C.UTF-8");
        let Output { status, stdout, stderr } = command.output().unwrap();
        let printed = [stderr, stdout].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        text.push_str(&format!("$ build-image {line}\n{printed}"));
        if !status.success() {
            text.push_str(&format!("[exit {}]\n", status.code().unwrap()));
        }
        text.push('\n');
    }
    let text = masked(sandbox, &text);
    let path = root().join("tests/snapshots").join(name);
    if std::env::var_os("BUILD_IMAGE_UPDATE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let differs = text.lines().zip(kept.lines()).find(|(new, old)| new != old);
    assert!(
        text == kept,
        "{name} is another (BUILD_IMAGE_UPDATE_DOCS=1 writes it anew); first difference: {differs:?}\n{text}"
    );
}

#[test]
fn help_of_every_verb() {
    let verbs = [
        "plan",
        "resume",
        "runs",
        "gc",
        "inspect",
        "boot",
        "providers",
        "doctor",
        "completions",
        "man",
        "help",
    ];
    let lines: Vec<String> = ["--help".to_owned(), "-p qcow2 -h".to_owned()]
        .into_iter()
        .chain(verbs.iter().map(|verb| format!("help {verb}")))
        .chain(
            ["list", "inspect", "lock", "check", "new"].map(|verb| format!("providers {verb} -h")),
        )
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    prints(&Sandbox::new(), "help.txt", &lines);
}

#[test]
fn a_plan_for_people() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 2);
    prints(
        &sandbox,
        "plan.txt",
        &[
            "plan --disk disk.raw -c config.yml -p alibaba --check --alibaba-image-copy-regions [cn-beijing] --alibaba-upload-rate-limit 1MiB",
            "plan --disk disk.raw -p qcow2",
        ],
    );
    sandbox.cloud_has_only(0);
}

#[test]
fn what_a_build_says() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 2);
    let build = "--disk disk.raw -c config.yml -p alibaba";
    prints(
        &sandbox,
        "build.txt",
        &[
            &format!("{build} --cloud-image-name one"),
            &format!("{build} --cloud-image-name two -q"),
            &format!("{build} --cloud-image-name one"),
            "--disk disk.raw -p qcow2 --package none",
        ],
    );
}
