//! Loads plugins that were built with other versions of plugin-api, and checks which work and which are refused.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{Run, Sandbox, copy_tree, locked, root, target_directory};

/// Builds the frozen provider in `source` and returns its plugin.
fn build(source: &Path) -> PathBuf {
    // The builds share a target directory.
    let _one = locked("old-plugins");
    let target = target_directory().join("abi");
    let file = build_image_plugin_api::plugin_file_name("veteran");
    // Both versions have the same file name: the old one must not be mistaken for the new one.
    for directory in ["debug", "debug/deps"] {
        let _ = fs::remove_file(target.join(directory).join(&file));
    }
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--manifest-path"])
        .arg(source.join("provider/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let built = target.join("debug").join(&file);
    let kept = tempfile::Builder::new().prefix("plugin").tempdir().unwrap().keep();
    fs::copy(&built, kept.join(&file)).unwrap();
    kept
}

/// The plugin that was built with the frozen 1.0, alone in a directory.
pub(crate) fn veteran() -> PathBuf {
    build(&root().join("tests/abi/1.0")).join(build_image_plugin_api::plugin_file_name("veteran"))
}

fn run_with(plugins: &Path) -> (Sandbox, Run) {
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 4, 1);
    let args = ["--disk", disk.to_str().unwrap(), "-p", "veteran", "--provider-dir"];
    let run = sandbox.run(&[&args[..], &[plugins.to_str().unwrap()]].concat());
    fs::remove_dir_all(plugins).unwrap();
    (sandbox, run)
}

#[test]
fn a_plugin_built_with_the_frozen_1_0_runs_a_whole_build() {
    let plugins = build(&root().join("tests/abi/1.0"));
    let (sandbox, run) = run_with(&plugins);
    run.succeeded();
    assert_eq!(run.member("veteran_seen"), "all steps");
    let made = fs::read(sandbox.path().join("images/disk.veteran.copy")).unwrap();
    assert_eq!(made, fs::read(sandbox.path().join("disk.raw")).unwrap());
}

/// Uses the frozen plugin as it was built for 1.0, by a compiler that is no longer installed.
#[test]
fn a_binary_from_the_days_of_1_0_runs_a_whole_build() {
    let kept = root().join("tests/abi/1.0/x86_64-linux-gnu/libbuild_image_provider_veteran.so.gz");
    if !cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
        eprintln!("skipped: {} is for x86_64 with glibc", kept.display());
        return;
    }
    let plugins = tempfile::Builder::new().prefix("plugin").tempdir().unwrap().keep();
    let output = Command::new("gzip").arg("-dc").arg(&kept).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = build_image_plugin_api::plugin_file_name("veteran");
    fs::write(plugins.join(file), output.stdout).unwrap();
    let (sandbox, run) = run_with(&plugins);
    run.succeeded();
    assert_eq!(run.member("veteran_seen"), "all steps");
    let made = fs::read(sandbox.path().join("images/disk.veteran.copy")).unwrap();
    assert_eq!(made, fs::read(sandbox.path().join("disk.raw")).unwrap());
}

#[test]
fn a_plugin_of_another_abi_major_is_refused_with_both_versions() {
    let copy = target_directory().join("abi/source-2.0");
    let _ = fs::remove_dir_all(&copy);
    copy_tree(&root().join("tests/abi/1.0"), &copy);
    for manifest in ["plugin-api/Cargo.toml", "provider/Cargo.toml"] {
        let path = copy.join(manifest);
        let text = fs::read_to_string(&path).unwrap();
        let raised = text.replace("version = \"1.0.0\"", "version = \"2.0.0\"");
        assert_ne!(text, raised, "{manifest} states its version");
        fs::write(path, raised).unwrap();
    }
    let _ = fs::remove_file(copy.join("provider/Cargo.lock"));
    let (_, run) = run_with(&build(&copy));
    run.failed(3, &["it speaks plugin ABI 2.0, this build-image speaks 1.x", "hint:"]);
}
