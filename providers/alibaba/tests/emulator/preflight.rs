//! Tests the role, the copy regions, and the duration of a check.

use std::time::{Duration, Instant};

use build_image_emulator_alibaba::Config;
use build_image_plugin_api::{
    DiskFormat, DiskSpec,
    document::{CheckReport, Finding, Severity},
};
use serde_json::json;

use crate::{
    ecs::ecs,
    harness::{Run, calls, emulator, emulator_with, host},
};

fn errors(report: &CheckReport) -> Vec<&Finding> {
    report.findings.iter().filter(|finding| finding.severity == Severity::Error).collect()
}

#[test]
fn a_missing_role_is_created_on_request_and_waited_for() {
    let config =
        Config { import_role: false, role_time: Duration::from_millis(700), ..Config::default() };
    let emulator = emulator_with(config);
    let run = Run::new(&emulator, host(), &[("ALIBABA_CREATE_ROLE", json!(true))]);
    let report = run.check();
    assert!(errors(&report).is_empty(), "{report:#?}");
    let role = report.findings.iter().find(|finding| finding.subject == "import role").unwrap();
    assert!(role.message.contains("was created"), "{}", role.message);
    // The role is in force: the import succeeds.
    run.register(run.upload().unwrap()).unwrap();
    // The second time no part is missing.
    let report =
        Run::new(&emulator, host(), &[("ALIBABA_CREATE_ROLE", json!(true))]).called("run-2");
    let report = report.check();
    assert!(report.findings.iter().all(|finding| !finding.message.contains("was created")));
}

#[test]
fn a_dry_run_creates_no_role_but_reports_that_a_build_would() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let config =
        Config { import_role: false, log_requests: Some(log.clone()), ..Config::default() };
    let emulator = emulator_with(config);
    let run = Run::new(&emulator, host(), &[("ALIBABA_CREATE_ROLE", json!(true))]);
    for _ in 0..2 {
        let report = run.check_with(|request| request.dry_run = true);
        assert!(errors(&report).is_empty(), "{report:#?}");
        let role = report.findings.iter().find(|finding| finding.subject == "import role").unwrap();
        assert!(role.message.contains("would be created"), "{}", role.message);
    }
    for call in ["CreateRole", "AttachPolicyToRole"] {
        assert_eq!(calls(&log, call), 0, "{call}");
    }
    // Without the setting the build would stop here.
    let report = Run::new(&emulator, host(), &[]).check_with(|request| request.dry_run = true);
    assert_eq!(errors(&report)[0].subject, "import role");
    // A build creates it.
    assert!(errors(&run.check()).is_empty());
    assert_eq!(calls(&log, "CreateRole"), 1);
}

#[test]
fn an_unsupported_disk_or_machine_is_reported_without_network() {
    let emulator = emulator();
    let raw = DiskSpec::new(DiskFormat::Raw);
    let offline = |settings: &[(&str, serde_json::Value)]| {
        let run = Run::new(&emulator, host(), settings);
        run.check_with(|request| {
            request.online = false;
            request.host.disks = vec![raw.clone(), DiskSpec::default()];
        })
    };
    for (settings, subject, kind) in [
        (vec![("ALIBABA_DISK_FORMAT", json!("vhd"))], "disk", "unsupported"),
        (
            vec![
                ("ALIBABA_DISK_FORMAT", json!("qcow2")),
                ("ALIBABA_DISK_COMPRESSION", json!("zlib")),
            ],
            "disk",
            "unsupported",
        ),
        (
            vec![("ALIBABA_ARCHITECTURE", json!("arm64")), ("ALIBABA_BOOT_MODE", json!("BIOS"))],
            "boot mode",
            "config",
        ),
    ] {
        let report = offline(&settings);
        let found = errors(&report);
        assert_eq!(found.len(), 1, "{report:#?}");
        assert_eq!(
            (found[0].subject.as_str(), found[0].kind.map(build_image_plugin_api::ErrorKind::code)),
            (subject, Some(kind))
        );
    }
    assert!(errors(&offline(&[])).is_empty());
}

#[test]
fn a_role_of_another_name_is_asked_for_by_that_name() {
    let emulator = emulator();
    let report = Run::new(&emulator, host(), &[("ALIBABA_ROLE_NAME", json!("my-role"))]).check();
    let role = errors(&report).into_iter().find(|found| found.subject == "import role").unwrap();
    let hint = role.hint.as_deref().unwrap();
    assert!(hint.contains("CreateRole --RoleName my-role"), "{hint}");
    assert!(!hint.contains("DefaultRole"), "{hint}");
}

#[test]
fn without_permission_to_read_roles_the_check_continues() {
    let emulator = emulator();
    let refused = r#"[{"operation":"GetRole","action":{"status":403,"code":"NoPermission"}}]"#;
    emulator.set_faults(refused).unwrap();
    let report = Run::new(&emulator, host(), &[]).check();
    assert!(errors(&report).is_empty(), "{report:#?}");
}

#[test]
fn regions_that_do_not_exist_and_names_taken_there_are_found() {
    let emulator = emulator();
    let regions = ("ALIBABA_IMAGE_COPY_REGIONS", json!(["cn-shanghai", "moon-1", "mars-2"]));
    let first =
        Run::new(&emulator, host(), &[("ALIBABA_IMAGE_COPY_REGIONS", json!(["cn-shanghai"]))]);
    first.register(first.upload().unwrap()).unwrap();
    let report = Run::new(&emulator, host(), &[regions]).called("run-2").check();
    let found = errors(&report);
    let text: Vec<&str> = found.iter().map(|finding| finding.message.as_str()).collect();
    assert!(text.iter().any(|text| text.contains("`moon-1`, `mars-2`")), "{text:?}");
    assert!(text.iter().any(|text| text.contains("exists already in cn-shanghai")), "{text:?}");
    // The run that made them may continue.
    let again = host().with_checkpoints(first.host.checkpoints());
    let regions = ("ALIBABA_IMAGE_COPY_REGIONS", json!(["cn-shanghai"]));
    let report = Run::new(&emulator, again, &[regions]).check();
    assert!(errors(&report).is_empty(), "{report:#?}");
}

#[test]
fn all_problems_are_reported_together_and_quickly() {
    let emulator = emulator_with(Config { import_role: false, ..Config::default() });
    let run = Run::new(
        &emulator,
        host(),
        &[("ALIBABA_BUCKET", json!("far")), ("ALIBABA_IMAGE_COPY_REGIONS", json!(["moon-1"]))],
    );
    let start = Instant::now();
    let report = run.check();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let subjects: Vec<&str> = errors(&report).iter().map(|found| found.subject.as_str()).collect();
    for subject in ["bucket", "import role", "copy regions"] {
        assert!(subjects.contains(&subject), "{subjects:?}");
    }
    assert!(errors(&report).iter().all(|finding| finding.hint.is_some()));
    let answer = ecs(&emulator, "DescribeImages", &[("RegionId", "cn-hangzhou")]);
    assert!(answer.get("Code").is_none(), "{answer}");
}

#[test]
fn the_source_of_the_keys_is_shown_and_the_keys_are_not() {
    let emulator = emulator();
    let report = Run::new(&emulator, host(), &[]).check();
    let keys = report.findings.iter().find(|finding| finding.subject == "credentials").unwrap();
    assert!(keys.message.ends_with("keys from the settings"), "{}", keys.message);
    assert!(!format!("{report:?}").contains("emulator-secret"));
}
