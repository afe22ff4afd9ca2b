//! Checks the steps that later versions of the ABI added: `tests/abi/account` implements them over a directory.

use std::path::PathBuf;

use build_image_plugin_api::plugin_file_name;
use serde_json::Value;

use crate::{
    harness::{Sandbox, built, cargo, needs_python, root},
    plugins_program::faulty,
    provider_check::{report, with_verdict},
};

/// The provider whose account is a directory.
fn account() -> PathBuf {
    let output = cargo(&root().join("tests/abi/account"), &["build", "--quiet"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    built("debug", &plugin_file_name("account"))
}

/// Runs the conformance suite on it, with this fault.
fn checked(fault: &str, args: &[&str]) -> Value {
    let sandbox = Sandbox::new();
    let directory = sandbox.path().join("account");
    let config = format!("ACCOUNT_DIR: {}\nACCOUNT_FAULT: {fault:?}\n", directory.display());
    let config = sandbox.write("c.yml", &config);
    let listing = format!("find '{}' -type f", directory.display());
    let (file, config) = (account(), config.to_str().unwrap().to_owned());
    let settings = [file.to_str().unwrap(), "--config", &config, "--inventory", &listing];
    report(&sandbox, &[&settings[..], args].concat(), &[]).1
}

/// The row of a check.
fn row<'a>(report: &'a Value, id: &str) -> &'a Value {
    let mut rows = report["checks"].as_array().unwrap().iter();
    rows.find(|row| row["id"] == id).unwrap()
}

#[test]
fn a_provider_with_optional_steps_keeps_the_contract_in_both_transports() {
    for args in [&[][..], &["--isolate"]] {
        let report = checked("", args);
        assert!(with_verdict(&report, "fail").is_empty(), "{report:#}");
        assert_eq!(with_verdict(&report, "skip"), ["stub"], "{report:#}");
        assert_eq!(row(&report, "inventory")["detail"], "2 items");
    }
}

/// Faults of the provider, and the check that finds each.
const FAULTS: [(&str, &str); 7] = [
    ("lists-every-run", "inventory"),
    ("lists-nothing", "inventory"),
    ("forgets-the-run", "inventory"),
    ("lists-no-resource", "inventory"),
    ("lists-intermediates", "inventory"),
    ("lists-the-removed", "inventory"),
    ("has-no-limit", "inventory"),
];

#[test]
fn every_fault_of_an_optional_step_fails_its_check_and_no_other() {
    for (fault, check) in FAULTS {
        let report = checked(fault, &[]);
        assert_eq!(with_verdict(&report, "fail"), [check], "{fault}: {report:#}");
    }
}

/// A plugin of 1.0 has none of the later steps, and the host says so without calling it.
#[test]
fn a_step_that_a_plugin_was_built_without_is_refused_with_both_versions() {
    let sandbox = Sandbox::new();
    let veteran = crate::old_plugins::veteran();
    let config = sandbox.write("c.yml", "VETERAN_WORD: old\n");
    for args in [&[][..], &["--isolate"]] {
        let given = [veteran.to_str().unwrap(), "--config", config.to_str().unwrap()];
        let args = [&given[..], args].concat();
        let (_, report) = report(&sandbox, &args, &[]);
        let row = row(&report, "undeclared");
        assert_eq!(row["verdict"], "pass", "{report:#}");
        let refused = |step| {
            format!(
                "provider `veteran` was built for plugin ABI 1.0; step `{step}` exists since 1.1"
            )
        };
        assert_eq!(row["detail"], ["inventory"].map(refused).join("; "));
    }
}

/// A program that declares this version and does not know the steps answers as its protocol requires.
#[test]
fn a_program_without_the_steps_answers_unsupported() {
    if !needs_python() {
        return;
    }
    let sandbox = Sandbox::new();
    let file = faulty(&sandbox, "pass").join("build-image-provider-faulty");
    let script = std::fs::read_to_string(&file).unwrap();
    let version = build_image_plugin_api::ABI_VERSION;
    let newer = format!("\"abi\": {{\"built\": \"{version}\"}}, \"name\": \"faulty\"");
    let script = script.replacen("\"name\": \"faulty\"", &newer, 1);
    std::fs::write(&file, script).unwrap();
    let (code, report) = report(&sandbox, &[file.to_str().unwrap()], &[]);
    assert_eq!((code, with_verdict(&report, "fail")), (0, vec![]), "{report:#}");
    assert_eq!(row(&report, "undeclared")["detail"], "there is no `inventory`");
    assert_eq!(row(&report, "inventory")["detail"], "not declared, see `undeclared`");
}
