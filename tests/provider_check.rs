//! Checks with `build-image providers check` that the providers of this repository keep the contract.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use serde_json::Value;

use crate::{
    harness::{Sandbox, hostile, needs_python, plugin_directory, root},
    plugins_program::faulty,
};

pub(crate) fn plugin(name: &str) -> PathBuf {
    plugin_directory().join(build_image_plugin_api::plugin_file_name(name))
}

/// The report of a check, as a document, and the exit code.
pub(crate) fn report(sandbox: &Sandbox, args: &[&str], variables: &[(&str, &str)]) -> (i32, Value) {
    let mut command = sandbox.command(&[&["providers", "check", "--json"], args].concat());
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

/// Ids and reasons of the checks that were skipped.
fn reasons(report: &Value) -> Vec<(&str, &str)> {
    let rows = report["checks"].as_array().unwrap().iter();
    let rows = rows.filter(|row| row["verdict"] == "skip");
    rows.map(|row| (row["id"].as_str().unwrap(), row["detail"].as_str().unwrap())).collect()
}

/// Begin of the reason why a check about what a provider does not declare is skipped.
const NOT_DECLARED: &str = "not declared: the description has no ";

/// Ids of the checks that were skipped for another reason than what the provider declares.
pub(crate) fn unchecked(report: &Value) -> Vec<String> {
    let by_declaration = |detail: &str| {
        detail.starts_with(NOT_DECLARED) || detail == "every optional step is declared"
    };
    let rows = reasons(report).into_iter().filter(|(_, detail)| !by_declaration(detail));
    rows.map(|(id, _)| id.to_owned()).collect()
}

/// Checks that every provider must pass without any settings.
#[track_caller]
fn conforms(report: &Value, skipped: &[&str]) {
    let failing: Vec<String> = with_verdict(report, "fail");
    assert!(failing.is_empty(), "{report:#}");
    assert_eq!(unchecked(report), skipped, "{report:#}");
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
    assert!(text.contains("pass  loads") && text.contains("0 failed, 9 skipped"), "{text}");
    let undeclared: Vec<(&str, &str)> = reasons(&report)
        .into_iter()
        .filter_map(|(id, detail)| Some((id, detail.strip_prefix(NOT_DECLARED)?)))
        .collect();
    assert_eq!(
        undeclared,
        [
            ("settings", "`settings`"),
            ("shapes", "entry of `settings` that is not `secret`"),
            ("image-name", "`image_name`"),
            ("tags", "`tags`"),
            ("secrets", "entry of `settings` with `secret`"),
            ("inventory", "`inventory` in its `capabilities`"),
            ("manage", "`manage.…` in its `capabilities`"),
            ("locate", "`locate` in its `capabilities`"),
        ]
    );
}

/// Ids of checks.
type Rows = &'static [&'static str];

/// Providers that need no cloud, and the checks that do not apply to them.
type Case = (&'static str, &'static [&'static str], Rows);
const LOCAL: [Case; 5] = [
    ("vhd", &[], &["stub"]),
    ("vmware", &[], &["stub"]),
    ("azure", &[], &STUBS),
    ("gce", &[], &STUBS),
    ("qcow2", &["--isolate"], &["stub"]),
];
/// Checks that do not apply to stubs.
const STUBS: [&str; 12] = [
    "ledger",
    "discard",
    "gone",
    "identity",
    "taken",
    "unrecorded",
    "image-name",
    "tags",
    "progress",
    "cancel-before",
    "cancel-during",
    "cancel-clean",
];

#[test]
fn all_providers_keep_the_contract() {
    for (name, args, skipped) in LOCAL {
        let sandbox = Sandbox::new();
        let file = plugin(name);
        let args = [&[file.to_str().unwrap()], args].concat();
        let (code, report) = report(&sandbox, &args, &[]);
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
        // It exits when it is asked to cancel.
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
    let cloudy = [&["build", "stub"][..], &STUBS, &["inventory", "manage", "locate"]].concat();
    conforms(&dry, &cloudy);
    assert_eq!(code, 0);
    let inventory = inventory(&sandbox);
    // Without a view of the cloud only the provider reports what is left there.
    let unseen = ["stub", "unrecorded", "cancel-clean"];
    for (more, skipped) in [
        (&[][..], &unseen[..]),
        (&["--isolate"], &unseen),
        (&["--inventory", &inventory], &["stub"]),
        (&["--isolate", "--inventory", &inventory], &["stub"]),
    ] {
        let args = [&[file, "--config", "config.yml"], more].concat();
        let (code, wet) = report(&sandbox, &args, &[]);
        conforms(&wet, skipped);
        assert_eq!(code, 0);
        sandbox.cloud_has_only(0);
    }
}

/// A command that lists what the emulator holds.
pub(crate) fn inventory(sandbox: &Sandbox) -> String {
    let config = fs::read_to_string(sandbox.path().join("config.yml")).unwrap();
    let url = config.lines().find_map(|line| line.strip_prefix("ALIBABA_STS_ENDPOINT: ")).unwrap();
    let script = format!(
        "import json, ssl, urllib.request\n\
         context = ssl._create_unverified_context()\n\
         answer = urllib.request.urlopen('{url}/_emulator/status', context=context)\n\
         counts = json.load(answer)\n\
         for kind in ('objects', 'open_uploads', 'images', 'snapshots'):\n    \
         for number in range(counts[kind]):\n        print(kind)\n"
    );
    format!("python3 '{}'", sandbox.write("inventory.py", &script).display())
}

#[test]
fn a_program_that_expects_another_type_of_a_setting_fails_its_check_and_no_other() {
    if !needs_python() {
        return;
    }
    let sandbox = Sandbox::new();
    let file = faulty(&sandbox, "pass").join("build-image-provider-faulty");
    let script = fs::read_to_string(&file).unwrap();
    let create = "    def __init__(self, host, settings):\n        \
                  settings.get('PYDIR_FORMAT', '').strip()\n        \
                  super().__init__(host, settings)\n";
    fs::write(&file, script.replace("pydir.CHECKPOINT", &format!("{create}pydir.CHECKPOINT")))
        .unwrap();
    let (code, report) = report(&sandbox, &[file.to_str().unwrap()], &[]);
    assert_eq!((code, with_verdict(&report, "fail")), (3, vec!["shapes".to_owned()]), "{report:#}");
}

#[test]
fn a_document_that_makes_a_program_hang_fails_the_check_that_sent_it() {
    if !needs_python() {
        return;
    }
    let sandbox = Sandbox::new();
    let file = faulty(&sandbox, "pass").join("build-image-provider-faulty");
    let script = fs::read_to_string(&file).unwrap();
    let check = "    def check(self, request):\n        while not isinstance(request, dict):\n            \
                 signal.pause()\n        return super().check(request)\n";
    fs::write(&file, script.replace("pydir.CHECKPOINT", &format!("{check}pydir.CHECKPOINT")))
        .unwrap();
    let args = [file.to_str().unwrap(), "--time-limit", "20"];
    let (code, report) = report(&sandbox, &args, &[]);
    assert_eq!(
        (code, with_verdict(&report, "fail")),
        (3, vec!["malformed".to_owned()]),
        "{report:#}"
    );
    let rows = report["checks"].as_array().unwrap();
    let row = rows.iter().find(|row| row["id"] == "malformed").unwrap();
    let detail = row["detail"].as_str().unwrap();
    assert!(detail.contains("`check` of the document `[1, 2]` did not return"), "{detail}");
}

#[test]
fn the_messages_of_a_program_can_be_recorded() {
    if !needs_python() {
        return;
    }
    let sandbox = Sandbox::new();
    let file = root().join("providers/example-python/build-image-provider-pydir");
    let file = file.to_str().unwrap();
    let key = "a-key-that-is-secret";
    let config = sandbox.write("c.yml", &format!("PYDIR_SEAL_KEY: {key}\n"));
    let trace = sandbox.path().join("trace.jsonl");
    let args = ["--config", config.to_str().unwrap(), "--trace-protocol", trace.to_str().unwrap()];
    let (code, checked) = report(&sandbox, &[&[file][..], &args].concat(), &[]);
    assert_eq!(code, 0, "{checked:#}");
    let text = fs::read_to_string(&trace).unwrap();
    assert!(!text.contains(key));
    assert_eq!(trace.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let recorded = |direction: &str, pointer: &str, value: &str| {
        let mut of = lines.iter().filter(|line| line["direction"] == direction);
        of.any(|line| line["message"].pointer(pointer).is_some_and(|found| found == value))
    };
    assert!(
        recorded("to_provider", "/method", "upload")
            && recorded("from_provider", "/method", "secret")
    );
    assert!(
        recorded("to_provider", "/result", "<protected>"),
        "the answer to `secret` is redacted"
    );
    assert!(lines.iter().all(|line| line["time"].is_string() && line["process"].is_u64()));
    // A build records too, and appends to the existing record.
    let disk = sandbox.disk("disk.raw", 4, 1);
    let mut command = sandbox.command(&["--disk", disk.to_str().unwrap(), "-p", "pydir"]);
    command.args(["--provider-file", file]).env("BUILD_IMAGE_TRACE_PROTOCOL", &trace);
    assert!(command.env("F5_PYDIR_SEAL_KEY", key).output().unwrap().status.success());
    let longer = fs::read_to_string(&trace).unwrap();
    assert!(longer.len() > text.len() && longer.starts_with(&text) && !longer.contains(key));
    // The calls of a library in the same process are the same messages.
    let library = plugin("qcow2");
    let args = [library.to_str().unwrap(), "--trace-protocol", trace.to_str().unwrap()];
    let (code, report) = report(&sandbox, &args, &[]);
    assert_eq!(code, 0, "{report:#}");
    let text = fs::read_to_string(&trace).unwrap();
    for member in ["\"method\":\"upload\"", "\"method\":\"disk_read_at\"", "\"method\":\"cancel\""]
    {
        assert!(text.contains(member), "{member}");
    }
}

#[test]
fn a_file_that_is_not_a_provider_fails_with_a_remedy() {
    let sandbox = Sandbox::new();
    let args = ["providers", "check", "/lib/x86_64-linux-gnu/libm.so.6"];
    let output = sandbox.command(&args).output().unwrap();
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

/// Ids of the rows.
fn ids(report: &Value) -> Vec<&str> {
    let rows = report["checks"].as_array().unwrap().iter();
    rows.map(|row| row["id"].as_str().unwrap()).collect()
}

/// The steps that a recorded check called.
fn called(trace: &str) -> Vec<String> {
    let lines = trace.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let calls = lines.filter(|line| line["direction"] == "to_provider");
    let mut names: Vec<String> =
        calls.filter_map(|line| Some(line["message"]["method"].as_str()?.to_owned())).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn chosen_checks_alone_are_run_and_reported() {
    let sandbox = Sandbox::new();
    let file = plugin("qcow2");
    let file = file.to_str().unwrap();
    let (_, all) = report(&sandbox, &[file], &[]);
    let count = ids(&all).len();
    assert!(all["not_chosen"].is_null());
    for (choice, expected, calls) in [
        (&["--only", "name"][..], &["name"][..], &[][..]),
        (&["--only", "symbols,create"], &["symbols", "create"], &["check", "create"]),
        // In the order of the table; what they need is run, and not reported.
        (
            &["--only", "taken", "--only", "ledger"],
            &["ledger", "taken"],
            &["check", "create", "create_disk", "discard", "register", "upload"],
        ),
        (&["--isolate", "--only", "create"], &["create"], &["check", "create"]),
    ] {
        let trace = sandbox.path().join("trace.jsonl");
        let _ = fs::remove_file(&trace);
        let recorded = ["--trace-protocol", trace.to_str().unwrap()];
        let (code, report) = report(&sandbox, &[&[file], choice, &recorded].concat(), &[]);
        assert_eq!((code, ids(&report)), (0, expected.to_vec()), "{choice:?}");
        assert_eq!(report["not_chosen"], count - expected.len());
        let mut steps = called(&fs::read_to_string(&trace).unwrap());
        // Processes of isolated libraries have these too.
        steps.retain(|step| !["cancel", "describe", "initialize"].contains(&step.as_str()));
        assert_eq!(steps, calls, "{choice:?}");
    }
    let text = sandbox.command(&["providers", "check", file, "--only", "abi"]).output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.ends_with(&format!("0 skipped, {} not chosen\n", count - 1)), "{text}");
}

#[test]
fn a_chosen_check_says_why_another_one_prevents_it() {
    let sandbox = Sandbox::new();
    let other = sandbox.write("other", "#!/bin/sh\nexit 9\n");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    let [file, other] = [hostile(), &other].map(|file| file.to_str().unwrap());
    for (file, chosen, detail) in [
        (file, "taken", "see `build`: `upload` failed (panic)"),
        (other, "taken", "see `loads`: plugin `"),
    ] {
        let args = [file, "--only", chosen];
        let (code, report) = report(&sandbox, &args, &[("HOSTILE", "upload-panic")]);
        // It has not passed.
        assert_eq!((code, ids(&report)), (3, vec![chosen]), "{report:#}");
        assert!(report["checks"][0]["remedy"].is_string(), "{report:#}");
        let found = report["checks"][0]["detail"].as_str().unwrap();
        assert!(found.starts_with(detail), "{found}");
    }
}

#[test]
fn checks_that_cannot_be_chosen_are_refused() {
    let sandbox = Sandbox::new();
    let file = plugin("qcow2");
    for (words, texts) in [
        (
            &["--only", "takn"][..],
            &["check `takn` does not exist", "did you mean `taken`?", "ledger, "][..],
        ),
        (&["--only", "build,zzz"], &["check `zzz` does not exist", "the checks are loads, "]),
        (&["--only", "fault-lost"], &["check `fault-lost` needs --faults"]),
        (
            &["--inventory", "true"],
            &["--inventory needs the settings of a test account", "with -c"],
        ),
        (&["--inventory", ""], &["a value is required for `--inventory <COMMAND>`"]),
        (&["--faults", "X=y"], &["--faults needs the settings of a test account"]),
    ] {
        let args = [&["providers", "check", file.to_str().unwrap()], words].concat();
        let output = sandbox.command(&args).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        let is_named = texts.iter().all(|text| errors.contains(text));
        assert!(output.status.code() == Some(2) && is_named, "{words:?}: {errors}");
    }
}

/// The file of settings has one meaning under each of its names, and is never taken from the environment: a cloud is
/// used only when the command says so.
#[test]
fn settings_come_from_the_file_that_the_command_names() {
    let sandbox = Sandbox::new();
    let cloud = sandbox.path().join("cloud");
    fs::create_dir(&cloud).unwrap();
    sandbox.write("c.yml", &format!("HOSTILE_CLOUD: {}\n", cloud.display()));
    let file = hostile().to_str().unwrap();
    let verdict = |args: &[&str], variables: &[(&str, &str)]| {
        let args = [&[file, "--only", "build"], args].concat();
        let (_, report) = report(&sandbox, &args, variables);
        report["checks"][0]["verdict"].as_str().unwrap().to_owned()
    };
    for flag in [
        &["-c", "c.yml"][..],
        &["--config", "c.yml"],
        &["--config=c.yml"],
        &["--config-file", "c.yml"],
    ] {
        assert_eq!(verdict(flag, &[("HOSTILE", "")]), "pass", "{flag:?}");
    }
    let listing = format!("ls '{}'", cloud.display());
    assert_eq!(verdict(&["-c", "c.yml", "--inventory", &listing], &[("HOSTILE", "")]), "pass");
    let sandbox = Sandbox::with_cloud();
    let alibaba = plugin("alibaba");
    let args = [alibaba.to_str().unwrap(), "--only", "build"];
    let (_, report) = report(&sandbox, &args, &[("F5_CONFIG_FILE", "config.yml")]);
    assert_eq!(report["checks"][0]["verdict"], "skip", "{report:#}");
}

#[test]
fn remedies_for_a_program_are_in_the_words_of_the_protocol() {
    if !needs_python() {
        return;
    }
    let sandbox = Sandbox::new();
    let fault = "host.log('k ' + host.call('secret', key='PYDIR_SEAL_KEY'))";
    let program = faulty(&sandbox, fault).join("build-image-provider-faulty");
    let remedy = |file: &str, variables: &[(&str, &str)]| {
        let (_, report) = report(&sandbox, &[file, "--only", "secrets"], variables);
        report["checks"][0]["remedy"].as_str().unwrap_or_default().to_owned()
    };
    let of_program = remedy(program.to_str().unwrap(), &[]);
    assert!(of_program.starts_with("use the answer of `secret` only"), "{of_program}");
    let of_library = remedy(hostile().to_str().unwrap(), &[("HOSTILE", "secret-log")]);
    assert!(of_library.starts_with("reveal a `Secret` only"), "{of_library}");
}
