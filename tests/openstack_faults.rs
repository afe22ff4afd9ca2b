//! Puts faults between the provider and a real Glance: connections that break or stall, answers that are lost, statuses
//! that the service would give. Each build ends with one right image, or with one clear error and no image.

use build_image_fault_proxy::{Options, start};
use serde_json::{Value, json};

use crate::{
    build_openstack::{build, sandbox},
    harness::OpenStack,
};

/// One fault in this many is tried, or as BUILD_IMAGE_SOAK_OPENSTACK sets: all of them with 1.
pub(crate) const STEP: usize = 5;

/// Every how many of the points of a matrix is tried.
pub(crate) fn step(usual: usize) -> usize {
    let step = std::env::var("BUILD_IMAGE_SOAK_OPENSTACK");
    step.map_or(usual, |step| step.parse().unwrap())
}

/// Upload method, rules of the fault proxy, exit code, and texts of the error.
type Case = (&'static str, Value, i32, &'static [&'static str]);

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn cases() -> Vec<Case> {
    let rule = |method: &str, path: &str, fault: Value| json!([{"method": method, "path": path, "nth": 1, "fault": fault}]);
    let always = |method: &str, path: &str, fault: Value| json!([{"method": method, "path": path, "fault": fault}]);
    let status =
        |code: u16, body: &str| json!({"status": {"code": code, "body": body, "retry_after": 0}});
    let images = "/v2/images";
    vec![
        // The answer is lost, and the request is repeated with the same identifier.
        ("import", rule("POST", images, json!("reset_after")), 0, &[]),
        ("put", rule("PUT", "*/file", json!("reset_after")), 0, &[]),
        ("import", rule("PUT", "*/stage", json!("reset_after")), 0, &[]),
        ("import", rule("POST", "*/import", json!("reset_after")), 0, &[]),
        ("put", rule("PATCH", "*", json!("reset_after")), 0, &[]),
        // The connection breaks in the middle of the disk.
        ("put", rule("PUT", "*/file", json!({"truncate_request": 1_000_000})), 0, &[]),
        ("import", rule("PUT", "*/stage", json!({"truncate_request": 1_000_000})), 0, &[]),
        ("put", rule("PUT", "*/file", json!({"stall_request": 1_000_000})), 0, &[]),
        ("import", rule("PUT", "*/stage", json!("reset_before")), 0, &[]),
        ("import", rule("PUT", "*/stage", json!({"slow": 4_000_000})), 0, &[]),
        // The token ends, in a call and in the middle of the upload.
        ("import", rule("PUT", "*/stage", status(401, "")), 0, &[]),
        ("put", rule("PUT", "*/file", status(401, "")), 0, &[]),
        ("put", rule("PATCH", "*", status(401, "")), 0, &[]),
        // The service fails in passing.
        ("put", json!([{"method": "GET", "nth": 3, "count": 2, "fault": status(503, "")}]), 0, &[]),
        ("put", rule("PUT", "*/file", status(502, "")), 0, &[]),
        ("import", rule("POST", "*/import", status(500, "")), 0, &[]),
        ("put", rule("GET", "/v2/images/*", json!({"truncate_answer": 20})), 0, &[]),
        ("put", rule("PATCH", "*", status(429, "")), 0, &[]),
        // What cannot be changed by another attempt.
        (
            "put",
            always("PUT", "*/file", status(413, "Image storage media is full: x")),
            6,
            &["storage is exhausted", "media is full"],
        ),
        (
            "import",
            always("PUT", "*/stage", status(413, "over the limit of 5 MiB")),
            6,
            &["quota", "over the limit"],
        ),
        (
            "put",
            always("POST", images, status(403, "You are not authorized")),
            6,
            &["permission is denied", "not authorized"],
        ),
        ("put", always("POST", images, status(409, "")), 6, &["its state does not permit it"]),
        ("import", always("PATCH", "*", status(401, "")), 6, &["the credentials are refused"]),
        (
            "put",
            always("PUT", "*/file", status(503, "")),
            7,
            &["the service failed", "attempts: 2"],
        ),
        ("put", always("PUT", "*/file", json!("reset_before")), 7, &["the connection broke"]),
        ("import", always("POST", "*/import", status(503, "")), 7, &["import image"]),
        // Bytes that change on their way fail the build.
        (
            "put",
            always("PUT", "*/file", json!({"corrupt_request": 2_000_000})),
            6,
            &["does not have the sha512 of what was sent"],
        ),
        (
            "import",
            always("PUT", "*/stage", json!({"corrupt_request": 2_000_000})),
            6,
            &["does not have the sha512 of what was sent"],
        ),
    ]
}

#[test]
fn a_fault_ends_in_one_right_image_or_in_one_error_and_no_image() {
    let Some(cloud) = OpenStack::shared() else { return };
    let mut options = Options::new(cloud.text("/image_url"));
    options.seed = 1;
    let proxy = start(&options).unwrap();
    let ca_file = proxy.ca_file().unwrap().to_str().unwrap().to_owned();
    let url = proxy.url();
    let cases = cases();
    let mut violations = Vec::new();
    for (number, (method, rules, code, texts)) in cases.iter().enumerate().step_by(step(STEP)) {
        let stalls = rules.to_string().contains("stall");
        let sandbox = sandbox(
            cloud,
            &[
                ("OPENSTACK_IMAGE_ENDPOINT", &url),
                ("OPENSTACK_CA_FILE", &ca_file),
                ("OPENSTACK_UPLOAD_METHOD", method),
                ("OPENSTACK_UPLOAD_STALL_TIMEOUT", if stalls { "5" } else { "60" }),
                ("OPENSTACK_UPLOAD_ATTEMPTS", "2"),
                ("OPENSTACK_RETRY_TIME", "0"),
            ],
        );
        let name = format!("fault-{number}");
        proxy.set_rules(&rules.to_string()).unwrap();
        let run = build(&sandbox, &name, &[]);
        let struck = proxy.rules().to_string();
        proxy.set_rules("[]").unwrap();
        let images = cloud.images(&name, "builders");
        let mut wrong = Vec::new();
        if run.code != *code {
            wrong.push(format!("exit code {}", run.code));
        }
        wrong.extend(
            texts
                .iter()
                .filter(|text| !run.stderr.contains(**text))
                .map(|text| format!("`{text}` is missing")),
        );
        if struck.contains(r#""struck":0"#) {
            wrong.push("the fault was not applied".to_owned());
        }
        match images.as_slice() {
            [image] if *code == 0 && run.code == 0 => {
                cloud.holds(image["id"].as_str().unwrap(), &sandbox.path().join("disk.raw"));
            }
            [] if *code != 0 => {}
            other => wrong.push(format!("{} images", other.len())),
        }
        let error =
            run.stderr.lines().find(|line| line.starts_with("error")).unwrap_or("one image");
        println!("{method}\t{rules}\t{}\t{error}", run.code);
        if !wrong.is_empty() {
            violations.push(format!("{method} {rules}: {wrong:?}\n{}", run.stderr));
        }
    }
    assert!(violations.is_empty(), "{} violations\n{}", violations.len(), violations.join("\n\n"));
}
