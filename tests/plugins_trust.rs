//! Checks which plugins may be loaded and what the list reports about them, and that inspecting a plugin is
//! harmless.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::harness::{Run, Sandbox, plugin_directory};

/// A library that looks like a plugin from outside and runs `body` when it is opened.
pub(crate) fn library(directory: &Path, name: &str, body: &str) {
    let source = format!(
        "#include <stdlib.h>\n#include <unistd.h>\n\
         char _1as_0lib_1header_0root_bmodule_bloader[256];\n\
         __attribute__((constructor)) static void start(void) {{ {body} }}\n"
    );
    let text = directory.join(format!("{name}.c"));
    fs::write(&text, source).unwrap();
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(directory.join(build_image_plugin_api::plugin_file_name(name)))
        .arg(&text)
        .status()
        .unwrap();
    assert!(made.success(), "cc is part of what Rust needs");
    fs::remove_file(text).unwrap();
}

/// A program with this script.
pub(crate) fn program(directory: &Path, name: &str, script: &str) -> PathBuf {
    let path = directory.join(format!("build-image-provider-{name}"));
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A script that identifies itself and does nothing else.
pub(crate) fn describes(name: &str, more: &str) -> String {
    format!(
        "read line; echo '{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"protocol\":\"1.0\"}}}}'\n\
         read line; echo '{{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{{\"name\":\"{name}\",\"version\":\"7.1\",\"summary\":\"of {name}\"{more}}}}}'"
    )
}

fn plugins(sandbox: &Sandbox) -> PathBuf {
    let directory = sandbox.path().join("plugins");
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// The list of the plugins in the sandbox's own directory, by name, first one first.
fn listed(sandbox: &Sandbox, more: &[&str]) -> Vec<Value> {
    let directory = plugins(sandbox);
    let args = ["providers", "list", "--json", "--provider-dir", directory.to_str().unwrap()];
    let output = sandbox.command(&[&args[..], more].concat()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let whole: Value = serde_json::from_slice(&output.stdout).unwrap();
    let all = whole["providers"].as_array().unwrap().clone();
    let inside = |entry: &Value| {
        entry["path"].as_str().is_some_and(|path| Path::new(path).starts_with(&directory))
    };
    all.into_iter().filter(inside).collect()
}

fn inspect(sandbox: &Sandbox, name: &str) -> Run {
    let directory = plugins(sandbox);
    let args = ["providers", "inspect", name, "--provider-dir", directory.to_str().unwrap()];
    Run::of(&sandbox.command(&args).output().unwrap(), None)
}

/// One plugin that works and many that do not.
fn crashers(directory: &Path) {
    let sound = build_image_plugin_api::plugin_file_name("qcow2");
    fs::copy(plugin_directory().join(&sound), directory.join(&sound)).unwrap();
    for (name, body) in [
        ("lib_abort", "abort();"),
        ("lib_exit", "_exit(0);"),
        ("lib_hang", "for (;;) pause();"),
        ("lib_segfault", "*(volatile int *)0 = 1;"),
        ("lib_prints", "write(1, \"hello\\n\", 6);"),
    ] {
        library(directory, name, body);
    }
    for (name, script) in [
        ("exits", "echo out of luck >&2; exit 3"),
        ("garbage", "echo hello world"),
        ("later", "read line; echo '{\"id\":1,\"result\":{\"protocol\":\"9.0\"}}'; read line"),
        ("killed", "kill -SEGV $$"),
        ("silent", "exec sleep 600"),
        ("closes", "exec >&-; exec sleep 600"),
        ("speaks", &describes("speaks", "")),
        ("other", &describes("somebody", "")),
        ("newer", &describes("newer", ",\"abi\":{\"built\":\"1.9\",\"requires\":\"1.9\"}")),
        ("badrow", &describes("badrow", ",\"settings\":[{\"key\":\"lower\"}]")),
    ] {
        program(directory, name, script);
    }
}

#[test]
fn looking_at_a_plugin_that_crashes_or_hangs_harms_nobody() {
    let sandbox = Sandbox::new();
    let directory = plugins(&sandbox);
    crashers(&directory);
    let expected = [
        ("badrow", "its settings cannot be used"),
        ("closes", "closed its output"),
        ("exits", "exit status 3"),
        ("garbage", "no message of the protocol: `hello world`"),
        ("killed", "SIGSEGV"),
        ("later", "speaks version `9.0` of the protocol"),
        ("lib_abort", "SIGABRT"),
        ("lib_exit", "exit status 0"),
        ("lib_hang", "did not answer `describe` in time"),
        ("lib_prints", "another generation of the ABI"),
        ("lib_segfault", "SIGSEGV"),
        ("newer", "needs plugin ABI 1.9"),
        ("other", "it calls itself `somebody`"),
        ("qcow2", ""),
        ("silent", "did not answer `initialize` in time"),
        ("speaks", ""),
    ];
    let list = listed(&sandbox, &[]);
    let names: Vec<&str> = list.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names, expected.map(|(name, _)| name));
    for (entry, (name, reason)) in list.iter().zip(expected) {
        let loads = reason.is_empty();
        assert_eq!(entry["state"], if loads { "ok" } else { "refused" }, "{entry:#}");
        assert!(entry["reason"].as_str().unwrap_or_default().contains(reason), "{name}: {entry:#}");
        assert_eq!(entry["sha256"].as_str().unwrap().len(), 64);
        if !loads && !name.starts_with("lib_h") && name != "silent" {
            inspect(&sandbox, name).failed(3, &[reason]);
        }
    }
    let exits = list.iter().find(|entry| entry["name"] == "exits").unwrap();
    assert_eq!(exits["causes"][0], "standard error: out of luck");
}

#[test]
fn everything_a_plugin_declares_is_shown() {
    let sandbox = Sandbox::new();
    let more = r#","status":"stub","capabilities":["copies"],"disk":{"spec":{"format":"vhd","variant":"fixed"},"minimum_bytes":1073741824},"settings":[{"key":"ACME_TOKEN","summary":"opens the door","secret":true,"required":true},{"key":"ACME_SIZE","kind":"size","summary":"how large","default":"1GiB"}]"#;
    program(&plugins(&sandbox), "acme", &describes("acme", more));
    let run = inspect(&sandbox, "acme");
    run.succeeded();
    for text in [
        "acme 7.1: of acme",
        "program",
        "vhd fixed, for an installation at least 1.00 GiB",
        "stub",
        "built 1.0, requires 1.0",
        "check, create_disk",
        "copies",
        "ACME_TOKEN text (required) (secret)\n      opens the door",
        "ACME_SIZE size\n      how large [default: 1GiB]",
    ] {
        assert!(run.stdout.contains(text), "`{text}` is missing in\n{}", run.stdout);
    }
    let directory = plugins(&sandbox);
    let args = ["providers", "inspect", "acme", "--json", "--provider-dir"];
    let output = sandbox.command(&[&args[..], &[directory.to_str().unwrap()]].concat()).output();
    let description: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    assert_eq!(description["operations"], serde_json::json!(["check", "create_disk"]));
    assert_eq!(description["settings"][1]["default"], "1GiB");
    assert_eq!(description["kind"], "program");
}

#[test]
fn what_a_file_says_of_itself_is_shown_though_it_does_not_load() {
    let sandbox = Sandbox::new();
    let file = plugins(&sandbox).join(build_image_plugin_api::plugin_file_name("qcow2"));
    fs::copy(plugin_directory().join(file.file_name().unwrap()), &file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let entry = &listed(&sandbox, &[])[0];
    assert_eq!(entry["state"], "refused");
    assert_eq!((&entry["version"], &entry["abi"]["built"]), (&"1.0.0".into(), &"1.1".into()));
    assert!(entry["hint"].as_str().unwrap().starts_with("chmod o-w"));
}

#[test]
fn a_program_must_be_executable_and_a_library_of_its_name_comes_first() {
    let sandbox = Sandbox::new();
    let directory = plugins(&sandbox);
    let script = program(&directory, "acme", &describes("acme", ""));
    fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).unwrap();
    inspect(&sandbox, "acme").failed(3, &["may not be executed", "hint: chmod +x"]);
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    inspect(&sandbox, "acme").succeeded();
    let second = sandbox.path().join("second");
    fs::create_dir(&second).unwrap();
    program(&second, "acme", &describes("acme", ""));
    library(&second, "acme", "abort();");
    let args = ["providers", "list", "--json", "--provider-dir", second.to_str().unwrap()];
    let mut command = sandbox.command(&args);
    command.env("BUILD_IMAGE_PROVIDER_PATH", format!("relative:{}", directory.display()));
    let whole: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let all = whole["providers"].as_array().unwrap().iter().filter(|entry| entry["name"] == "acme");
    let states: Vec<(&str, &str)> = all
        .map(|entry| (entry["kind"].as_str().unwrap(), entry["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, [("library", "refused"), ("program", "shadowed"), ("program", "shadowed")]);
    let directories = whole["folders"].as_array().unwrap();
    assert!(directories.iter().all(|directory| !directory.as_str().unwrap().ends_with("relative")));
}

#[test]
fn a_lock_file_says_which_plugins_may_be_loaded() {
    let sandbox = Sandbox::new();
    let directory = plugins(&sandbox);
    let disk = sandbox.disk("disk.raw", 4, 1);
    let (directory, disk) =
        (directory.to_str().unwrap().to_owned(), disk.to_str().unwrap().to_owned());
    sandbox.write("config.yml", "IMAGE_DIR: images\n");
    let file = build_image_plugin_api::plugin_file_name("qcow2");
    let own = Path::new(&directory).join(&file);
    fs::copy(plugin_directory().join(&file), &own).unwrap();
    let build = |more: &[&str]| {
        let args =
            ["--disk", &disk, "-c", "config.yml", "-p", "qcow2", "--provider-dir", &directory];
        sandbox.run(&[&args[..], more].concat())
    };
    let lock = |more: &[&str]| {
        let args = ["providers", "lock", "-c", "config.yml", "--provider-dir", &directory];
        let mut command = sandbox.command(&[&args[..], more].concat());
        Run::of(&command.env_remove("BUILD_IMAGE_PROVIDER_PATH").output().unwrap(), None)
    };
    build(&["--locked"]).failed(3, &["it must be locked, and there is no", "providers lock"]);
    build(&[]).succeeded();

    lock(&[]).succeeded();
    let written = fs::read_to_string(sandbox.path().join("build-image.lock")).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    let entries = written["providers"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["name"] == "qcow2").unwrap();
    assert_eq!((&entry["version"], &entry["path"]), (&"1.0.0".into(), &own.to_str().into()));
    build(&["--locked"]).succeeded();
    assert_eq!(listed(&sandbox, &["-c", "config.yml"])[0]["locked"], true);

    // Another file under the same name: its sections are the same, its bytes differ.
    let mut bytes = fs::read(&own).unwrap();
    bytes.push(0);
    fs::write(&own, bytes).unwrap();
    for more in [&[][..], &["--locked"], &["--isolate"]] {
        build(more).failed(3, &["is not the one that is locked in", "locked is", "lock --update"]);
    }
    lock(&[]).failed(3, &["nothing was written", "`qcow2`"]);
    lock(&["--update"]).succeeded();
    build(&["--locked"]).succeeded();

    fs::write(sandbox.path().join("empty.lock"), r#"{"version": 1, "providers": []}"#).unwrap();
    for more in [&["--providers-lock", "empty.lock"][..], &["--providers-lock", "absent.lock"]] {
        build(more).failed(3, &["lock"]);
    }
    fs::write(sandbox.path().join("build-image.lock"), "nonsense").unwrap();
    build(&[]).failed(3, &["build-image.lock` is malformed"]);
}

#[test]
fn a_sum_beside_a_plugin_is_checked() {
    let sandbox = Sandbox::new();
    let directory = plugins(&sandbox);
    program(&directory, "acme", &describes("acme", ""));
    let sum = |text: &str| fs::write(directory.join("build-image-provider-acme.sha256"), text);
    let output = Command::new("sha256sum")
        .arg("build-image-provider-acme")
        .current_dir(&directory)
        .output()
        .unwrap();
    let right = String::from_utf8(output.stdout).unwrap();
    sum(&right).unwrap();
    inspect(&sandbox, "acme").succeeded();
    sum("0000  build-image-provider-acme\n").unwrap();
    inspect(&sandbox, "acme").failed(3, &["build-image-provider-acme.sha256", "wanted is 0000"]);
}

#[test]
fn keys_of_a_plugin_that_crashes_do_not_end_a_build_that_does_not_use_it() {
    let sandbox = Sandbox::new();
    let directory = plugins(&sandbox);
    library(&directory, "acme", "abort();");
    let disk = sandbox.disk("disk.raw", 4, 1);
    sandbox.write("config.yml", "ACME_BUCKET: x\n");
    let args = ["--disk", disk.to_str().unwrap(), "-c", "config.yml", "-p", "qcow2"];
    let run = sandbox.run(&[&args[..], &["--provider-dir", directory.to_str().unwrap()]].concat());
    run.succeeded();
    assert!(run.stderr.contains("`ACME_BUCKET` is not a setting of this build"), "{}", run.stderr);
}
