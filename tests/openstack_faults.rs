//! Puts faults between the provider and a real Glance: connections that break or stall, answers that are lost, statuses
//! that the service would give. Each build ends with one right image, or with one clear error and no image.

use std::fs;

use build_image_fault_proxy::{Options, start};
use serde_json::{Value, json};

use crate::{
    build_openstack::{build, sandbox},
    harness::{OpenStack, root},
};

/// One fault in this many is tried, or as BUILD_IMAGE_SOAK_OPENSTACK sets: all of them with 1.
pub(crate) const STEP: usize = 5;

/// Every how many of the points of a matrix is tried.
pub(crate) fn step(usual: usize) -> usize {
    let step = std::env::var("BUILD_IMAGE_SOAK_OPENSTACK");
    step.map_or(usual, |step| step.parse().unwrap())
}

/// What happens, upload method, rules of the fault proxy, exit code, and texts of the error.
type Case = (&'static str, &'static str, Value, i32, &'static [&'static str]);

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn cases() -> Vec<Case> {
    let rule = |method: &str, path: &str, fault: Value| json!([{"method": method, "path": path, "nth": 1, "fault": fault}]);
    let always = |method: &str, path: &str, fault: Value| json!([{"method": method, "path": path, "fault": fault}]);
    let status =
        |code: u16, body: &str| json!({"status": {"code": code, "body": body, "retry_after": 0}});
    let images = "/v2/images";
    vec![
        // The answer is lost, and the request is repeated with the same identifier.
        (
            "the answer to the creation of the record is lost",
            "import",
            rule("POST", images, json!("reset_after")),
            0,
            &[],
        ),
        (
            "the answer to the upload is lost",
            "put",
            rule("PUT", "*/file", json!("reset_after")),
            0,
            &[],
        ),
        (
            "the answer to the upload is lost",
            "import",
            rule("PUT", "*/stage", json!("reset_after")),
            0,
            &[],
        ),
        (
            "the answer to the start of the import is lost",
            "import",
            rule("POST", "*/import", json!("reset_after")),
            0,
            &[],
        ),
        (
            "the answer to a change of the image is lost",
            "put",
            rule("PATCH", "*", json!("reset_after")),
            0,
            &[],
        ),
        // The connection breaks in the middle of the disk.
        (
            "the connection breaks in the middle of the disk",
            "put",
            rule("PUT", "*/file", json!({"truncate_request": 1_000_000})),
            0,
            &[],
        ),
        (
            "the connection breaks in the middle of the disk",
            "import",
            rule("PUT", "*/stage", json!({"truncate_request": 1_000_000})),
            0,
            &[],
        ),
        (
            "the upload stalls in the middle of the disk",
            "put",
            rule("PUT", "*/file", json!({"stall_request": 1_000_000})),
            0,
            &[],
        ),
        (
            "the connection breaks before the disk is sent",
            "import",
            rule("PUT", "*/stage", json!("reset_before")),
            0,
            &[],
        ),
        (
            "the connection is slow",
            "import",
            rule("PUT", "*/stage", json!({"slow": 4_000_000})),
            0,
            &[],
        ),
        // The token ends, in a call and in the middle of the upload.
        (
            "401 during the upload: the token ended",
            "import",
            rule("PUT", "*/stage", status(401, "")),
            0,
            &[],
        ),
        (
            "401 during the upload: the token ended",
            "put",
            rule("PUT", "*/file", status(401, "")),
            0,
            &[],
        ),
        (
            "401 at a change of the image: the token ended",
            "put",
            rule("PATCH", "*", status(401, "")),
            0,
            &[],
        ),
        // The service fails in passing.
        (
            "503 twice",
            "put",
            json!([{"method": "GET", "nth": 3, "count": 2, "fault": status(503, "")}]),
            0,
            &[],
        ),
        ("502 at the upload", "put", rule("PUT", "*/file", status(502, "")), 0, &[]),
        (
            "500 at the start of the import",
            "import",
            rule("POST", "*/import", status(500, "")),
            0,
            &[],
        ),
        (
            "an answer is cut off",
            "put",
            rule("GET", "/v2/images/*", json!({"truncate_answer": 20})),
            0,
            &[],
        ),
        ("429 at a change of the image", "put", rule("PATCH", "*", status(429, "")), 0, &[]),
        // What cannot be changed by another attempt.
        (
            "413 at every upload: the store is full",
            "put",
            always("PUT", "*/file", status(413, "Image storage media is full: x")),
            6,
            &["storage is exhausted", "media is full"],
        ),
        (
            "413 at every upload: the quota is used up",
            "import",
            always("PUT", "*/stage", status(413, "over the limit of 5 MiB")),
            6,
            &["quota", "over the limit"],
        ),
        (
            "403 at the creation of the record",
            "put",
            always("POST", images, status(403, "You are not authorized")),
            6,
            &["permission is denied", "not authorized"],
        ),
        (
            "409 at the creation of the record",
            "put",
            always("POST", images, status(409, "")),
            6,
            &["its state does not permit it"],
        ),
        (
            "401 at every change of the image",
            "import",
            always("PATCH", "*", status(401, "")),
            6,
            &["the credentials are refused"],
        ),
        (
            "503 at every upload",
            "put",
            always("PUT", "*/file", status(503, "")),
            7,
            &["the service failed", "attempts: 2"],
        ),
        (
            "the connection breaks at every upload",
            "put",
            always("PUT", "*/file", json!("reset_before")),
            7,
            &["the connection broke"],
        ),
        (
            "503 at every start of the import",
            "import",
            always("POST", "*/import", status(503, "")),
            7,
            &["import image"],
        ),
        // Bytes that change on their way fail the build.
        (
            "a bit of the disk changes on its way",
            "put",
            always("PUT", "*/file", json!({"corrupt_request": 2_000_000})),
            6,
            &["does not have the sha512 of what was sent"],
        ),
        (
            "a bit of the disk changes on its way",
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
    for (number, (_, method, rules, code, texts)) in cases.iter().enumerate().step_by(step(STEP)) {
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

/// With BUILD_IMAGE_UPDATE_DOCS set, the table is written instead.
#[test]
fn the_page_of_the_provider_has_the_table_of_faults() {
    const HEAD: &str = "| fault | upload method | exit code | result |\n|---|---|---|---|\n";
    let path = root().join("providers/openstack/README.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, after) = page.split_once(HEAD).expect("the page has the head of the table");
    let rest = after.find("\n\n").map_or("", |end| &after[end + 1..]);
    let rows = cases().into_iter().map(|(what, method, _, code, texts)| {
        let result = if code == 0 { "one image".to_owned() } else { texts.join("; ") };
        format!("| {what} | {method} | {code} | {result} |\n")
    });
    let expected = format!("{before}{HEAD}{}{rest}", rows.collect::<String>());
    if std::env::var_os("BUILD_IMAGE_UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    assert!(fs::read_to_string(path).unwrap() == expected, "run it with BUILD_IMAGE_UPDATE_DOCS=1");
}
