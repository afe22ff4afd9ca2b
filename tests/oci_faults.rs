//! Puts faults between the provider and a real docker-registry: connections that break or stall, answers that are lost,
//! statuses that a registry would give, a full disk. Each build ends with one right image, or with one clear error and
//! without an image.

use build_image_fault_proxy::{Options, start};
use serde_json::{Value, json};

use crate::{
    build_oci::{build, sandbox},
    full_disk::can_mount,
    harness::OciRegistry,
};

/// One fault in this many is tried, or as BUILD_IMAGE_SOAK_OCI sets: all of them with 1.
const STEP: usize = 5;

/// Every how many of the points of a matrix is tried.
pub(crate) fn step(usual: usize) -> usize {
    let step = std::env::var("BUILD_IMAGE_SOAK_OCI");
    step.map_or(usual, |step| step.parse().unwrap())
}

/// Further arguments, rules of the fault proxy, exit code, and texts of the error.
type Case = (&'static [&'static str], Value, i32, &'static [&'static str]);

const CHUNKS: &[&str] = &["--oci-chunk-size", "1MiB"];
const WHOLE: &[&str] = &["--oci-chunk-size", "0"];
const GZIP: &[&str] = &["--oci-chunk-size", "1MiB", "--oci-layer-compression", "gzip"];

fn cases() -> Vec<Case> {
    let nth = |method: &str, path: &str, nth: u64, fault: Value| json!([{"method": method, "path": path, "nth": nth, "fault": fault}]);
    let first = |method: &str, path: &str, fault: Value| nth(method, path, 1, fault);
    let always = |method: &str, path: &str, fault: Value| json!([{"method": method, "path": path, "fault": fault}]);
    let status =
        |code: u16, body: &str| json!({"status": {"code": code, "body": body, "retry_after": 0}});
    let code =
        |code: &str| format!(r#"{{"errors":[{{"code":"{code}","message":"message of {code}"}}]}}"#);
    let (uploads, manifests) = ("*/blobs/uploads/*", "*/manifests/*");
    vec![
        // The request does not arrive, and is repeated.
        (CHUNKS, nth("PATCH", uploads, 2, json!("reset_before")), 0, &[]),
        (GZIP, nth("PATCH", uploads, 2, json!("reset_before")), 0, &[]),
        (CHUNKS, first("POST", uploads, json!("reset_before")), 0, &[]),
        (CHUNKS, first("PUT", manifests, json!("reset_before")), 0, &[]),
        // The answer is lost. Distribution cannot continue an upload then: the layer is sent again.
        (CHUNKS, nth("PATCH", uploads, 2, json!("reset_after")), 0, &[]),
        (GZIP, nth("PATCH", uploads, 3, json!("reset_after")), 0, &[]),
        (CHUNKS, first("POST", uploads, json!("reset_after")), 0, &[]),
        (CHUNKS, first("PUT", uploads, json!("reset_after")), 0, &[]),
        (WHOLE, first("PUT", uploads, json!("reset_after")), 0, &[]),
        (CHUNKS, first("PUT", manifests, json!("reset_after")), 0, &[]),
        (CHUNKS, nth("PUT", manifests, 2, json!("reset_after")), 0, &[]),
        (CHUNKS, first("GET", manifests, json!({"truncate_answer": 20})), 0, &[]),
        // The connection breaks, stalls, or is slow in the middle of a chunk.
        (CHUNKS, nth("PATCH", uploads, 2, json!({"truncate_request": 300_000})), 0, &[]),
        (WHOLE, first("PUT", uploads, json!({"truncate_request": 1_000_000})), 0, &[]),
        (CHUNKS, nth("PATCH", uploads, 3, json!({"stall_request": 300_000})), 0, &[]),
        (CHUNKS, first("PATCH", uploads, json!({"slow": 2_000_000})), 0, &[]),
        // The registry fails in passing.
        (CHUNKS, nth("PATCH", uploads, 2, status(503, "")), 0, &[]),
        (CHUNKS, nth("PATCH", uploads, 2, status(429, "")), 0, &[]),
        (CHUNKS, first("PUT", uploads, status(502, "")), 0, &[]),
        (CHUNKS, first("HEAD", "*", status(500, "")), 0, &[]),
        (CHUNKS, first("PUT", manifests, status(429, "")), 0, &[]),
        // The upload is lost: by the registry, or by its answer for a range.
        (CHUNKS, nth("PATCH", uploads, 3, status(416, "")), 0, &[]),
        (CHUNKS, nth("PATCH", uploads, 3, status(404, &code("BLOB_UPLOAD_UNKNOWN"))), 0, &[]),
        (CHUNKS, first("PUT", uploads, status(400, &code("DIGEST_INVALID"))), 0, &[]),
        // Bytes that change on their way are noticed by the registry, and sent again.
        (CHUNKS, nth("PATCH", uploads, 2, json!({"corrupt_request": 5000})), 0, &[]),
        (
            CHUNKS,
            always("PATCH", uploads, json!({"corrupt_request": 5000})),
            6,
            &["DIGEST_INVALID", "attempts: 2"],
        ),
        (CHUNKS, always("PUT", manifests, json!({"corrupt_request": 30})), 6, &["put manifest"]),
        // What cannot be changed by another attempt.
        (
            CHUNKS,
            always("POST", uploads, status(403, &code("DENIED"))),
            6,
            &["permission is denied", "DENIED: message of DENIED"],
        ),
        (
            CHUNKS,
            always("PATCH", uploads, status(413, "")),
            6,
            &["request limit is exhausted", "OCI_CHUNK_SIZE"],
        ),
        (
            CHUNKS,
            always("PATCH", uploads, status(401, "")),
            6,
            &["credentials of a kind that is not supported"],
        ),
        (
            CHUNKS,
            always("PUT", manifests, status(409, &code("TAG_IMMUTABLE"))),
            6,
            &["its state does not permit it", "immutable"],
        ),
        (
            CHUNKS,
            always("PATCH", uploads, status(503, "")),
            7,
            &["the registry failed", "attempts: 2"],
        ),
        (CHUNKS, always("PATCH", uploads, json!("reset_before")), 7, &["the connection broke"]),
        (
            CHUNKS,
            always("GET", "/v2/", status(404, "not here")),
            6,
            &["not that of an OCI registry"],
        ),
        (CHUNKS, always("PUT", manifests, status(307, "")), 6, &["the registry redirects"]),
    ]
}

#[test]
fn a_fault_of_a_registry_ends_in_one_right_image_or_in_one_error() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    let mut options = Options::new(registry.url());
    options.seed = 1;
    let proxy = start(&options).unwrap();
    let ca_file = proxy.ca_file().unwrap().to_str().unwrap().to_owned();
    let host = proxy.url().strip_prefix("https://").unwrap().to_owned();
    let mut violations = Vec::new();
    for (number, (more, rules, code, texts)) in cases().iter().enumerate().step_by(step(STEP)) {
        let sandbox = sandbox();
        let repository = format!("faults/{number}");
        let stall = if rules.to_string().contains("stall") { "1" } else { "60" };
        proxy.set_rules(&rules.to_string()).unwrap();
        let always = [
            "--oci-ca-file",
            &ca_file,
            "--oci-upload-attempts",
            "2",
            "--oci-retry-time",
            "0",
            "--oci-upload-stall-timeout",
            stall,
        ];
        let run = build(&sandbox, &format!("{host}/{repository}:1"), &[&always[..], more].concat());
        let struck = proxy.rules().to_string();
        proxy.set_rules("[]").unwrap();
        let mut wrong = Vec::new();
        if run.code != *code {
            wrong.push(format!("exit code {}", run.code));
        }
        let missing = texts.iter().filter(|text| !run.stderr.contains(**text));
        wrong.extend(missing.map(|text| format!("`{text}` is missing")));
        if struck.contains(r#""struck":0"#) {
            wrong.push("the fault was not applied".to_owned());
        }
        let found = (registry.tags(&repository).len(), registry.manifests(&repository).len());
        match found {
            (1, 1) if *code == 0 && run.code == 0 => {
                let image = format!("{}/{repository}:1", registry.address());
                registry.holds(&image, "qcow2", &sandbox.path().join("disk.raw"));
            }
            (0, 0) if *code != 0 => {}
            other => wrong.push(format!("{other:?} tags and manifests")),
        }
        let error =
            run.stderr.lines().find(|line| line.starts_with("error")).unwrap_or("one image");
        println!("{}\t{rules}\t{}\t{error}", more.join(" "), run.code);
        if !wrong.is_empty() {
            violations.push(format!("{more:?} {rules}: {wrong:?}\n{}", run.stderr));
        }
    }
    assert!(violations.is_empty(), "{} violations\n{}", violations.len(), violations.join("\n\n"));
}

#[test]
fn a_token_that_ends_in_the_middle_of_the_upload_is_renewed() {
    let Some(registry) = OciRegistry::start("token", &["--token-seconds", "3"]) else { return };
    let proxy = start(&Options::new(registry.url())).unwrap();
    let ca_file = proxy.ca_file().unwrap().to_str().unwrap().to_owned();
    let host = proxy.url().strip_prefix("https://").unwrap().to_owned();
    proxy.set_rules(r#"[{"method": "PATCH", "fault": {"slow": 400000}}]"#).unwrap();
    let sandbox = sandbox();
    let auths = json!({"auths": {&host: {"identitytoken": registry.text("refresh_token")}}});
    sandbox.write("auth.json", &auths.to_string());
    let more =
        ["--oci-ca-file", &ca_file, "--oci-auth-file", "auth.json", "--oci-chunk-size", "512KiB"];
    let run = build(&sandbox, &format!("{host}/team/disk:1"), &more);
    run.succeeded();
    let image = format!("{}/team/disk:1", registry.address());
    registry.holds(&image, "qcow2", &sandbox.path().join("disk.raw"));
    let log = std::fs::read_to_string(registry.text("token_log")).unwrap();
    let own = log.lines().filter(|line| line.contains("build") && line.contains("push")).count();
    assert!(own >= 3, "the token was not renewed:\n{log}");
    // The layer was sent once: a renewed token does not begin another upload.
    assert!(run.member("bytes_sent").as_u64().unwrap() < 5 << 20, "{:?}", run.result);
    assert_eq!(registry.uploads("team/disk"), 0);
}

#[test]
fn a_registry_without_space_is_named_and_nothing_is_published() {
    if !can_mount() {
        return;
    }
    let Some(registry) = OciRegistry::start("full", &[]) else { return };
    let sandbox = sandbox();
    for chunk in ["1MiB", "0"] {
        let more = [
            "--oci-disk-format",
            "raw",
            "--oci-chunk-size",
            chunk,
            "--oci-retry-time",
            "0",
            "--oci-upload-attempts",
            "2",
        ];
        let reference = format!("{}/team/disk:1", registry.address());
        build(&sandbox, &reference, &more)
            .failed(6, &["storage, quota, or request limit is exhausted"]);
        let listed = sandbox.command(&["runs", "--json"]).output().unwrap();
        assert!(
            String::from_utf8_lossy(&listed.stdout).contains(r#""runs":[]"#)
                || String::from_utf8_lossy(&listed.stdout).contains(r#""runs": []"#),
            "{listed:?}"
        );
    }
    // Nothing has a name: Distribution knows no repository.
    let image = format!("docker://{}/team/disk", registry.address());
    let mut listed = std::process::Command::new("skopeo");
    let listed = listed.args(["list-tags", "--tls-verify=false", &image]).output().unwrap();
    assert!(!listed.status.success(), "{listed:?}");
}
