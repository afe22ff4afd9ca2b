//! Tests the findings of a check before the long work.

use build_image_emulator_alibaba::Config;
use build_image_plugin_api::{
    document::{CheckReport, Finding, Severity},
    testing::MockHost,
};
use serde_json::json;

use crate::harness::{Run, content, emulator, emulator_with, host};

fn errors(report: &CheckReport) -> Vec<&Finding> {
    report.findings.iter().filter(|finding| finding.severity == Severity::Error).collect()
}

#[test]
fn a_wrong_secret_is_reported_as_one_finding() {
    let emulator = emulator();
    let host = MockHost::new()
        .with_secret("ALIBABA_ACCESS_KEY_ID", "emulator-id")
        .with_secret("ALIBABA_ACCESS_KEY_SECRET", "not-the-secret")
        .with_disk(content());
    let report = Run::new(&emulator, host, &[]).check();
    let errors = errors(&report);
    assert_eq!(errors.len(), 1, "{report:#?}");
    assert_eq!(
        (errors[0].subject.as_str(), errors[0].kind.map(build_image_plugin_api::ErrorKind::code)),
        ("credentials", Some("auth"))
    );
    assert!(errors[0].message.contains("the access key secret is wrong"), "{}", errors[0].message);
    assert_eq!(errors[0].hint.as_deref(), Some("check ALIBABA_ACCESS_KEY_SECRET"));
    let text = format!("{report:?}");
    assert!(!text.contains("not-the-secret") && !text.contains("emulator-id"), "{text}");
}

#[test]
fn missing_keys_name_the_settings() {
    let emulator = emulator();
    let report = Run::new(&emulator, MockHost::new(), &[]).check();
    let finding = errors(&report)[0];
    assert!(finding.hint.as_deref().unwrap().contains("ALIBABA_ACCESS_KEY_ID"), "{finding:?}");
}

#[test]
fn a_missing_bucket_is_found_with_the_command_that_makes_it() {
    let emulator = emulator();
    let report =
        Run::new(&emulator, host(), &[("ALIBABA_BUCKET", json!("no-such-bucket"))]).check();
    let errors = errors(&report);
    assert_eq!(errors.len(), 1, "{report:#?}");
    assert_eq!(
        (errors[0].subject.as_str(), errors[0].kind.map(build_image_plugin_api::ErrorKind::code)),
        ("bucket", Some("not_found"))
    );
    assert!(errors[0].hint.as_deref().unwrap().contains("aliyun oss mb"), "{:?}", errors[0]);
}

#[test]
fn a_bucket_in_another_region_is_found() {
    let emulator = emulator();
    let report = Run::new(&emulator, host(), &[("ALIBABA_BUCKET", json!("far"))]).check();
    let errors = errors(&report);
    assert_eq!(errors.len(), 1, "{report:#?}");
    assert_eq!(
        (errors[0].subject.as_str(), errors[0].kind.map(build_image_plugin_api::ErrorKind::code)),
        ("bucket", Some("config"))
    );
    assert!(errors[0].hint.as_deref().unwrap().contains("ALIBABA_REGION"), "{:?}", errors[0]);
}

#[test]
fn a_missing_import_role_is_reported_with_the_commands_that_create_it() {
    let emulator = emulator_with(Config { import_role: false, ..Config::default() });
    let report = Run::new(&emulator, host(), &[]).check();
    let errors = errors(&report);
    assert_eq!(errors.len(), 1, "{report:#?}");
    let hint = errors[0].hint.as_deref().unwrap();
    assert!(hint.contains("aliyun ram CreateRole"), "{hint}");
    assert!(hint.contains("AliyunECSImageImportRolePolicy"), "{hint}");
}

#[test]
fn a_taken_name_is_reported_with_the_image_that_has_it() {
    let emulator = emulator();
    let first = Run::new(&emulator, host(), &[]);
    let registered = first.register(first.upload().unwrap()).unwrap();
    let report = Run::new(&emulator, host(), &[]).check();
    let errors = errors(&report);
    assert_eq!(errors.len(), 1, "{report:#?}");
    assert_eq!(
        (errors[0].subject.as_str(), errors[0].kind.map(build_image_plugin_api::ErrorKind::code)),
        ("image name", Some("conflict"))
    );
    assert!(errors[0].message.contains(&registered.images[0].id), "{}", errors[0].message);
    // The run that made the image may continue.
    let again = host().with_checkpoints(first.host.checkpoints());
    let report = Run::new(&emulator, again, &[]).check();
    assert!(report.findings.iter().all(|f| f.severity != Severity::Error), "{report:#?}");
}

#[test]
fn a_wrong_clock_is_a_warning_and_requests_follow_the_service() {
    let emulator = emulator();
    emulator.set_faults(r#"[{"operation":"*","action":{"skew_seconds":7200}}]"#).unwrap();
    let report = Run::new(&emulator, host(), &[]).check();
    let clock = report.findings.iter().find(|finding| finding.subject == "clock").unwrap();
    assert_eq!(clock.severity, Severity::Warning);
    assert!(clock.message.contains("behind"), "{}", clock.message);
    assert!(errors(&report).is_empty(), "{report:#?}");
}

#[test]
fn an_unset_bucket_is_a_finding_and_not_a_failure() {
    let emulator = emulator();
    let report = Run::new(&emulator, host(), &[("ALIBABA_BUCKET", json!(""))]).check();
    assert!(errors(&report)[0].message.contains("ALIBABA_BUCKET"), "{report:?}");
}

#[test]
fn data_that_the_public_endpoint_does_not_serve_is_found_before_the_long_part() {
    let emulator = emulator();
    let forbidden = json!([{"operation": "GetObject",
        "action": {"status": 403, "code": "PublicEndpointForbidden"}}]);
    emulator.set_faults(&forbidden.to_string()).unwrap();
    let report = Run::new(&emulator, host(), &[]).check();
    let errors = errors(&report);
    assert_eq!(errors.len(), 1, "{report:#?}");
    assert_eq!(errors[0].subject, "bucket");
    assert!(errors[0].hint.as_deref().unwrap().contains("ALIBABA_OSS_ENDPOINT"), "{errors:?}");
}

#[test]
fn a_check_outlives_resets_and_throttling_and_does_not_advise_what_it_does_not_use() {
    for faults in [
        json!([{"operation": "*", "action": {"skew_seconds": 7200}},
            {"operation": "GetBucketInfo", "nth": 2, "action": "reset_before"},
            {"operation": "DescribeImages", "nth": 2, "action": "reset_before"}]),
        json!([{"operation": "*", "nth": 1, "count": 8, "action": "throttle"}]),
    ] {
        let emulator = emulator();
        emulator.set_faults(&faults.to_string()).unwrap();
        let report = Run::new(&emulator, host(), &[]).check();
        assert!(errors(&report).is_empty(), "{faults}: {report:#?}");
    }
    let emulator = emulator();
    emulator.set_faults(r#"[{"operation":"DescribeImages","action":"throttle"}]"#).unwrap();
    let report = Run::new(&emulator, host(), &[]).check();
    let text = format!("{:?}", errors(&report));
    assert!(text.contains("request limit") && !text.contains("THREAD_COUNT"), "{text}");
}
