//! The role, the copy regions, and how long a check takes.

use std::time::{Duration, Instant};

use build_image_emulator_alibaba::Config;
use build_image_plugin_api::document::{CheckReport, Finding, Severity};
use serde_json::json;

use crate::{
    ecs::ecs,
    harness::{Run, emulator, emulator_with, host},
};

fn errors(report: &CheckReport) -> Vec<&Finding> {
    report.findings.iter().filter(|finding| finding.severity == Severity::Error).collect()
}

#[test]
fn a_missing_role_is_made_on_request_and_waited_for() {
    let config =
        Config { import_role: false, role_time: Duration::from_millis(700), ..Config::default() };
    let emulator = emulator_with(config);
    let run = Run::new(&emulator, host(), &[("ALIBABA_CREATE_ROLE", json!(true))]);
    let report = run.check();
    assert!(errors(&report).is_empty(), "{report:#?}");
    let role = report.findings.iter().find(|finding| finding.subject == "import role").unwrap();
    assert!(role.message.contains("was created"), "{}", role.message);
    // It is in force: the import goes through.
    run.register(run.upload().unwrap()).unwrap();
    // The second time nothing is missing.
    let report =
        Run::new(&emulator, host(), &[("ALIBABA_CREATE_ROLE", json!(true))]).called("run-2");
    let report = report.check();
    assert!(report.findings.iter().all(|finding| !finding.message.contains("was created")));
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
fn whoever_may_not_look_at_roles_learns_nothing_and_goes_on() {
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
    // The run that made them may go on.
    let again = host().with_checkpoints(first.host.checkpoints());
    let regions = ("ALIBABA_IMAGE_COPY_REGIONS", json!(["cn-shanghai"]));
    let report = Run::new(&emulator, again, &[regions]).check();
    assert!(errors(&report).is_empty(), "{report:#?}");
}

#[test]
fn everything_that_is_wrong_is_told_at_once_and_soon() {
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
