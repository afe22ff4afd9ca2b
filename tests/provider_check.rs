//! `build-image providers check`: the providers of this repository keep the contract.

use std::path::PathBuf;

use serde_json::Value;

use crate::{
    harness::{Sandbox, needs_python, plugin_folder, root},
    plugins_program::faulty,
};

fn plugin(name: &str) -> PathBuf {
    plugin_folder().join(build_image_plugin_api::plugin_file_name(name))
}

/// The report of a check, as a document, and the exit code.
pub(crate) fn report(
    sandbox: &Sandbox,
    words: &[&str],
    variables: &[(&str, &str)],
) -> (i32, Value) {
    let mut command = sandbox.command(&[&["providers", "check", "--json"], words].concat());
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code().unwrap(), report)
}

/// Ids of the checks with a verdict.
pub(crate) fn with_verdict(report: &Value, verdict: &str) -> Vec<String> {
    let rows = report["checks"].as_array().unwrap().iter();
    let rows = rows.filter(|row| row["verdict"] == verdict);
    rows.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// What every provider must keep without any settings.
fn conforms(report: &Value, skipped: &[&str]) {
    assert_eq!(with_verdict(report, "fail"), [""; 0], "{report:#}");
    assert_eq!(with_verdict(report, "skip"), skipped, "{report:#}");
    assert_eq!(report["conforms"], true);
}

#[test]
fn a_local_provider_keeps_the_whole_contract() {
    let sandbox = Sandbox::new();
    let file = plugin("qcow2");
    let (code, report) = report(&sandbox, &[file.to_str().unwrap()], &[]);
    conforms(&report, &["stub"]);
    assert_eq!((code, &report["name"]), (0, &"qcow2".into()));
    let text = sandbox.command(&["providers", "check", file.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("pass  loads") && text.contains("0 failed, 1 skipped"), "{text}");
}

/// Providers that need no cloud, and the checks that are not theirs.
const LOCAL: [(&str, &[&str], &[&str]); 7] = [
    ("vhd", &[], &["stub"]),
    ("vmware", &[], &["stub"]),
    ("aws", &[], &STUBS),
    ("azure", &[], &STUBS),
    ("gce", &[], &STUBS),
    ("qcow2", &["--isolate"], &["stub"]),
    ("aws", &["--isolate"], &STUBS),
];
/// What stubs do not do.
const STUBS: [&str; 5] = ["ledger", "discard", "progress", "cancel-before", "cancel-during"];

#[test]
fn all_providers_keep_the_contract() {
    for (name, words, skipped) in LOCAL {
        let sandbox = Sandbox::new();
        let file = plugin(name);
        let words = [&[file.to_str().unwrap()], words].concat();
        let (code, report) = report(&sandbox, &words, &[]);
        conforms(&report, skipped);
        assert_eq!((code, &report["name"]), (0, &name.into()));
    }
}

#[test]
fn a_program_in_another_language_keeps_the_contract() {
    if !needs_python() {
        return;
    }
    let sandbox = Sandbox::new();
    let file = root().join("providers/example-python/build-image-provider-pydir");
    let (code, report) = report(&sandbox, &[file.to_str().unwrap()], &[]);
    conforms(&report, &["symbols", "libraries", "unwind", "stub"]);
    assert_eq!((code, &report["name"]), (0, &"pydir".into()));
}

#[test]
fn a_program_that_does_wrong_fails_its_check_and_no_other() {
    if !needs_python() {
        return;
    }
    for (fault, expected) in [
        // Asked to stop, it dies instead.
        ("os._exit(0)", &["build", "cancel-during"][..]),
        ("host.log('k ' + host.call('secret', key='PYDIR_SEAL_KEY'))", &["secrets"]),
    ] {
        let sandbox = Sandbox::new();
        let file = faulty(&sandbox, fault).join("build-image-provider-faulty");
        let (code, report) = report(&sandbox, &[file.to_str().unwrap()], &[]);
        assert_eq!(with_verdict(&report, "fail"), *expected, "{fault}: {report:#}");
        assert_eq!(code, 3);
    }
}

#[test]
fn a_cloud_provider_keeps_the_contract_without_and_with_a_cloud() {
    let sandbox = Sandbox::with_cloud();
    let file = plugin("alibaba");
    let file = file.to_str().unwrap();
    let (code, dry) = report(&sandbox, &[file], &[]);
    let cloudy =
        ["build", "stub", "ledger", "discard", "progress", "cancel-before", "cancel-during"];
    conforms(&dry, &cloudy);
    assert_eq!(code, 0);
    for more in [&[][..], &["--isolate"]] {
        let words = [&[file, "--config", "config.yml"], more].concat();
        let (code, wet) = report(&sandbox, &words, &[]);
        conforms(&wet, &["stub"]);
        assert_eq!(code, 0);
        sandbox.cloud_has_only(0);
    }
}

#[test]
fn what_is_no_provider_fails_with_a_remedy() {
    let sandbox = Sandbox::new();
    let words = ["providers", "check", "/lib/x86_64-linux-gnu/libm.so.6"];
    let output = sandbox.command(&words).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("FAIL  loads") && text.contains("exports no build-image provider"),
        "{text}"
    );
    assert!(text.contains("remedy: a provider crate needs `export_provider!`"), "{text}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.starts_with("error: plugin `/lib/"), "{errors}");
}
