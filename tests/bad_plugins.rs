//! Checks that invalid plugins do not load and that missing providers are reported: one clear error each.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::harness::{Run, Sandbox, plugin_directory};

/// The real plugin of a provider.
fn real(name: &str) -> PathBuf {
    plugin_directory().join(build_image_plugin_api::plugin_file_name(name))
}

/// A sandbox with only its own plugin directory.
fn run_with(sandbox: &Sandbox, name: &str, bytes: &[u8]) -> Run {
    let directory = sandbox.path().join("plugins");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(build_image_plugin_api::plugin_file_name(name)), bytes).unwrap();
    run_in(sandbox, &directory, name)
}

fn run_in(sandbox: &Sandbox, directory: &Path, name: &str) -> Run {
    let disk = sandbox.disk("disk.raw", 4, 1);
    let directory = directory.to_str().unwrap();
    sandbox.run(&["--disk", disk.to_str().unwrap(), "-p", name, "--provider-dir", directory])
}

#[test]
fn files_that_are_not_plugins_are_refused_before_they_are_opened() {
    let whole = fs::read(real("qcow2")).unwrap();
    let mut other_machine = whole.clone();
    other_machine[18] = 183;
    let mut other_class = whole.clone();
    other_class[4] = 1;
    let library = fs::read("/lib/x86_64-linux-gnu/libm.so.6").unwrap();
    for (what, bytes, text) in [
        ("empty", &[][..], "the file is empty"),
        (
            "text",
            b"not a library, not even a long one, just some text in a file ......",
            "not an ELF",
        ),
        ("truncated", &whole[..whole.len() / 2], "truncated"),
        ("header only", &whole[..64], "truncated"),
        ("another CPU's", &other_machine[..], "is for aarch64"),
        ("32 bits", &other_class[..], "not 64-bit"),
        ("no plugin", &library[..], "exports no build-image provider"),
    ] {
        let sandbox = Sandbox::new();
        let run = run_with(&sandbox, "acme", bytes);
        run.failed(3, &["libbuild_image_provider_acme.so` does not load", text]);
        assert_eq!(run.member("error")["kind"], "plugin", "{what}");
        assert_eq!(run.member("result"), "FAILURE");
    }
}

#[test]
fn a_plugin_that_calls_itself_something_else_is_refused() {
    let sandbox = Sandbox::new();
    let run = run_with(&sandbox, "acme", &fs::read(real("qcow2")).unwrap());
    run.failed(3, &["it calls itself `qcow2`, its file name says `acme`", "hint: rename the file"]);
}

#[test]
fn a_plugin_others_may_write_to_is_refused() {
    let sandbox = Sandbox::new();
    let directory = sandbox.path().join("plugins");
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join(build_image_plugin_api::plugin_file_name("qcow2"));
    fs::copy(real("qcow2"), &file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    run_in(&sandbox, &directory, "qcow2")
        .failed(3, &["may be written by everybody", "hint: chmod o-w"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    run_in(&sandbox, &directory, "qcow2").succeeded();
}

#[test]
fn an_unknown_provider_lists_those_found_and_where_it_was_looked() {
    let sandbox = Sandbox::new();
    let directory = plugin_directory();
    let run = run_in(&sandbox, &directory, "alibabba");
    let directory = directory.display().to_string();
    run.failed(
        3,
        &[
            "unknown provider `alibabba`",
            "alibaba, aws, azure, gce, oci, openstack, qcow2, vhd, vmware",
            &directory,
            "did you mean `-p alibaba`?",
        ],
    );
}

#[test]
fn a_named_plugin_file_that_is_missing_is_named() {
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 4, 1);
    let args = ["--disk", disk.to_str().unwrap(), "-p", "acme", "--provider-file", "absent.so"];
    sandbox.run(&args).failed(3, &["absent.so", "cannot be opened"]);
}

#[test]
fn all_providers_are_listed_and_describe_themselves() {
    let sandbox = Sandbox::new();
    let output = sandbox.command(&["providers", "list", "--json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let loaded: Vec<(&str, &str)> = listed["providers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["loads"] == true && entry["shadowed"] == false)
        .map(|entry| (entry["name"].as_str().unwrap(), entry["summary"].as_str().unwrap()))
        .collect();
    let names: Vec<&str> = loaded.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        ["alibaba", "aws", "azure", "gce", "oci", "openstack", "qcow2", "vhd", "vmware"]
    );
    let spoken: std::collections::BTreeSet<&str> =
        loaded.iter().map(|(_, summary)| *summary).collect();
    assert_eq!(spoken.len(), names.len(), "each speaks for itself");
}

#[test]
fn name_version_and_abi_are_read_without_running_a_plugin() {
    let path = real("qcow2");
    let file = fs::File::open(&path).unwrap();
    let metadata =
        build_image_plugin_api::Library::inspect(&file, &path).unwrap().metadata.unwrap();
    assert_eq!(metadata.package, "build-image-provider-qcow2");
    assert_eq!((metadata.version.as_str(), metadata.abi.as_str()), ("1.0.0", "1.1"));
}

#[test]
fn listing_shows_why_a_plugin_does_not_load() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "plugins/libbuild_image_provider_broken.so",
        "text, no library at all, but long enough for a header",
    );
    let directory = sandbox.path().join("plugins");
    let args = ["providers", "list", "--json", "--provider-dir", directory.to_str().unwrap()];
    let output = sandbox.command(&args).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let entries = listed["providers"].as_array().unwrap();
    let broken = entries.iter().find(|entry| entry["name"] == "broken").unwrap();
    assert_eq!(broken["loads"], false);
    assert!(broken["reason"].as_str().unwrap().contains("not an ELF library"));
}
