//! Puts faults between the provider and AWS: refusals that the vendor documents, storms of throttling, credentials that
//! end, answers that are lost, connections that break. Each build ends with one right image, or with one clear error and
//! nothing in the account.

use std::collections::BTreeSet;

use build_image_fault_proxy::{Options, Running, start};
use serde_json::{Value, json};

use crate::{
    build_aws::{BUILD, HOME, build, id_of, puts, sandbox},
    harness::{Aws, AwsAccount, Run, Sandbox},
};

/// One fault in this many is tried, or as BUILD_IMAGE_SOAK_AWS sets: all of them with 1.
const STEP: usize = 23;

/// Every how many of the points of a matrix is tried.
pub(crate) fn step(usual: usize) -> usize {
    let step = std::env::var("BUILD_IMAGE_SOAK_AWS");
    step.map_or(usual, |step| step.parse().unwrap())
}

/// The ways to upload, and what makes as many calls as possible.
fn settings(account: &AwsAccount, way: &'static str) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_UPLOAD", way.to_owned()),
        ("AWS_BUCKET", account.bucket().to_owned()),
        ("AWS_IMAGE_SHARE_ACCOUNT_IDS", "['123456789012']".to_owned()),
        ("AWS_IMAGE_COPY_REGIONS", "[eu-west-1]".to_owned()),
        ("AWS_DEPRECATE_AFTER", "30d".to_owned()),
    ]
}

/// A sandbox for an upload by a way, with further lines.
fn prepared(account: &AwsAccount, way: &'static str, more: &[(&str, &str)]) -> Sandbox {
    let rows = settings(account, way);
    let rows: Vec<_> = rows.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let kept = rows.into_iter().filter(|(key, _)| !more.iter().any(|(other, _)| other == key));
    sandbox(account, &kept.chain(more.iter().copied()).collect::<Vec<_>>())
}

/// What is wrong with the end of a build: not one right image per region, or something is left after an error.
fn judged(account: &AwsAccount, sandbox: &Sandbox, run: &Run, regions: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    let owned = account.control("GET", "objects", json!({}));
    let number = |kind: &str| owned[kind].as_array().unwrap().len();
    let numbers = ["images", "snapshots", "objects", "uploads"].map(number);
    let expected = if run.code == 0 { [regions, regions, 0, 0] } else { [0; 4] };
    // What a service that refuses to remove keeps is listed.
    let is_listed = run.stderr.contains("left behind: ");
    if numbers != expected && !is_listed {
        wrong.push(format!("{numbers:?}, not {expected:?}: {owned:#}"));
    }
    if run.code == 0 {
        account.holds(&id_of(run), HOME, &sandbox.path().join("disk.raw"));
    } else {
        let errors = run.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        if errors != 1 || run.stderr.contains("panicked") || run.code < 2 {
            wrong.push(format!("exit code {}, {errors} errors", run.code));
        }
    }
    let active = |task: &&Value| task["Status"] == "active";
    if owned["tasks"].as_array().unwrap().iter().any(|task| active(&task)) && !is_listed {
        wrong.push("an import is active".to_owned());
    }
    wrong
}

/// The operations of an undisturbed build, with their services.
pub(crate) fn operations(account: &AwsAccount) -> BTreeSet<(String, String)> {
    let text = |request: &Value, name: &str| request[name].as_str().unwrap().to_owned();
    let requests = account.requests();
    requests.iter().map(|each| (text(each, "service"), text(each, "operation"))).collect()
}

/// The provider tries for a minute: only the long tests have this one.
pub(crate) const ALWAYS_FAILS: &str = "always fails";

/// A fault of every operation: what it is called, the rule of the front, and whether the build must succeed.
pub(crate) fn faults(service: &str, operation: &str) -> Vec<(&'static str, Value, bool)> {
    let of = |more: Value| {
        let mut rule = json!({"service": service, "operation": operation});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([rule])
    };
    let slow = match service {
        "ec2" => ("RequestLimitExceeded", 503),
        "s3" => ("SlowDown", 503),
        "ebs" => ("RequestThrottledException", 400),
        _ => ("ThrottlingException", 400),
    };
    vec![
        ("fails once", of(json!({"nth": 1, "code": "InternalError", "status": 500})), true),
        (
            "is throttled three times",
            of(json!({"nth": 1, "count": 3, "code": slow.0, "status": slow.1})),
            true,
        ),
        (
            "is served, but answers an error",
            of(json!({"nth": 1, "code": "InternalError", "status": 500, "after": true})),
            true,
        ),
        ("is forbidden", of(json!({"cause": "denied"})), false),
        (ALWAYS_FAILS, of(json!({"code": "InternalError", "status": 500})), false),
    ]
}

#[test]
fn a_fault_of_any_call_ends_in_right_images_or_in_one_error() {
    let Some(server) = Aws::shared() else { return };
    let mut points = Vec::new();
    for way in ["ebs", "s3"] {
        let account = server.account(&json!({}));
        let sandbox = prepared(&account, way, &[]);
        let run = build(&sandbox, "undisturbed", &[]);
        run.succeeded();
        // The comparison of the images calls others.
        let called = operations(&account);
        assert_eq!(judged(&account, &sandbox, &run, 2), Vec::<String>::new(), "{way}");
        for (service, operation) in called {
            let faults = faults(&service, &operation).into_iter();
            for fault in faults.filter(|fault| step(STEP) < STEP || fault.0 != ALWAYS_FAILS) {
                points.push((way, operation.clone(), fault));
            }
        }
    }
    let all = points.len();
    let mut violations = Vec::new();
    let quick = [("AWS_CREATE_IMAGE_RETRY_COUNT", "20")];
    for (way, operation, (what, rules, succeeds)) in points.into_iter().step_by(step(STEP)) {
        let account = server.account(&json!({}));
        let sandbox = prepared(&account, way, &quick);
        account.rules(&rules);
        let run = build(&sandbox, "disturbed", &[]);
        let struck = account.struck();
        account.rules(&json!([]));
        let mut wrong = judged(&account, &sandbox, &run, 2);
        if succeeds && run.code != 0 {
            wrong.push(format!("exit code {}", run.code));
        }
        if struck == [0] {
            wrong.push("the fault was not applied".to_owned());
        }
        let error = run.stderr.lines().find(|line| line.starts_with("error")).unwrap_or("images");
        println!("{way}\t{operation} {what}\t{}\t{error}", run.code);
        if !wrong.is_empty() {
            eprintln!("violation: {way}: {operation} {what}: {wrong:?}");
            violations.push(format!("{way}: {operation} {what}: {wrong:?}\n{}", run.stderr));
        }
    }
    assert!(
        violations.is_empty(),
        "{} violations at {all} points\n{}",
        violations.len(),
        violations.join("\n\n")
    );
}

/// What happens, the way to upload, rules of the fault proxy, exit code, and texts of the error.
type Case = (&'static str, &'static str, Value, i32, &'static [&'static str]);

/// Faults of connections.
fn connections() -> Vec<Case> {
    let nth = |method: &str, path: &str, nth: u64, fault: Value| json!([{"method": method, "path": path, "nth": nth, "fault": fault}]);
    let always = |method: &str, path: &str, fault: Value| json!([{"method": method, "path": path, "fault": fault}]);
    let (lost, broken) = (json!("reset_after"), json!("reset_before"));
    let (blocks, sealed) = ("*/blocks/*", "*/completion/*");
    vec![
        (
            "the answer to StartSnapshot is lost",
            "ebs",
            nth("POST", "/snapshots", 1, lost.clone()),
            0,
            &[],
        ),
        ("the answer to a block is lost", "ebs", nth("PUT", blocks, 2, lost.clone()), 0, &[]),
        (
            "the answer to CompleteSnapshot is lost",
            "ebs",
            nth("POST", sealed, 1, lost.clone()),
            0,
            &[],
        ),
        (
            "every third answer of EC2 is lost",
            "ebs",
            json!([{"method": "POST", "path": "/", "percent": 33, "fault": lost}]),
            0,
            &[],
        ),
        (
            "a connection breaks before a block",
            "ebs",
            nth("PUT", blocks, 1, broken.clone()),
            0,
            &[],
        ),
        (
            "a connection breaks in the middle of a block",
            "ebs",
            nth("PUT", blocks, 3, json!({"truncate_request": 100_000})),
            0,
            &[],
        ),
        (
            "an answer of EC2 is cut",
            "ebs",
            nth("POST", "/", 3, json!({"truncate_answer": 60})),
            0,
            &[],
        ),
        (
            "a gateway answers 502",
            "ebs",
            nth("PUT", blocks, 1, json!({"status": {"code": 502}})),
            0,
            &[],
        ),
        (
            "the clock of the service differs",
            "ebs",
            json!([{"fault": {"skew_seconds": 3}}]),
            0,
            &[],
        ),
        ("the answer to a part is lost", "s3", nth("PUT", "*", 1, lost.clone()), 0, &[]),
        (
            "a connection breaks in the middle of a part",
            "s3",
            nth("PUT", "*", 1, json!({"truncate_request": 100_000})),
            0,
            &[],
        ),
        (
            "the answer to the end of the upload is lost",
            "s3",
            json!([{"method": "POST", "path": "/*", "query": ["uploadId"], "nth": 1, "fault": lost}]),
            0,
            &[],
        ),
        ("no block arrives", "ebs", always("PUT", blocks, broken.clone()), 7, &["attempts"]),
        ("nothing can be reached", "ebs", json!([{"fault": broken}]), 7, &["connection"]),
        (
            "a page of a proxy",
            "ebs",
            always("POST", "/", json!({"status": {"code": 403, "body": "<html>blocked</html>"}})),
            6,
            &[],
        ),
    ]
}

/// A proxy before the server.
fn proxy(server: &Aws) -> Running {
    let mut options = Options::new(server.url());
    options.plain = true;
    options.seed = 1;
    start(&options).unwrap()
}

#[test]
fn a_fault_of_a_connection_ends_in_one_right_image_or_in_one_error() {
    let Some(server) = Aws::shared() else { return };
    let proxy = proxy(server);
    let mut violations = Vec::new();
    let step = step(4);
    // The provider tries for minutes: only the long tests have these.
    let cases = connections().into_iter().filter(|case| step == 1 || case.3 != 7);
    for (what, way, rules, code, texts) in cases.step_by(step) {
        let account = server.account(&json!({}));
        let bucket = account.bucket().to_owned();
        let url = proxy.url();
        let more = [("AWS_UPLOAD", way), ("AWS_BUCKET", &bucket), ("AWS_ENDPOINT_URL", &url)];
        let sandbox = sandbox(&account, &more);
        proxy.set_rules(&rules.to_string()).unwrap();
        let run = build(&sandbox, "disturbed", &[]);
        let struck = proxy.rules().to_string();
        proxy.set_rules("[]").unwrap();
        // A service that could not be reached removes nothing; the next collection does.
        if run.code == 7 {
            let gc = Run::of(&sandbox.command(&["gc", "--yes"]).output().unwrap(), None);
            assert_eq!(gc.code, 0, "{what}: {}{}", gc.stdout, gc.stderr);
        }
        let mut wrong = judged(&account, &sandbox, &run, 1);
        if run.code != code {
            wrong.push(format!("exit code {}", run.code));
        }
        let missing = texts.iter().filter(|text| !run.stderr.contains(**text));
        wrong.extend(missing.map(|text| format!("`{text}` is missing")));
        if struck.contains(r#""struck":0"#) {
            wrong.push("the fault was not applied".to_owned());
        }
        let error =
            run.stderr.lines().find(|line| line.starts_with("error")).unwrap_or("one image");
        println!("{what}\t{way}\t{}\t{error}", run.code);
        if !wrong.is_empty() {
            eprintln!("violation: {what}: {wrong:?}");
            violations.push(format!("{what}: {wrong:?}\n{}", run.stderr));
        }
    }
    assert!(violations.is_empty(), "{} violations\n{}", violations.len(), violations.join("\n\n"));
}

#[test]
fn refusals_of_the_vendor_are_named_and_leave_nothing() {
    let Some(server) = Aws::shared() else { return };
    // Operation, code, status, reason, exit code, and a text of the error.
    // A setting that the vendor refuses ends as one that the program refuses.
    let cases = [
        (
            "StartSnapshot",
            "ServiceQuotaExceededException",
            402,
            "DEPENDENCY_SERVICE_QUOTA_EXCEEDED",
            6,
            "quota",
        ),
        ("StartSnapshot", "ValidationException", 400, "INVALID_CUSTOMER_KEY", 2, "KMS key"),
        ("StartSnapshot", "AccessDeniedException", 403, "DEPENDENCY_ACCESS_DENIED", 6, "KMS key"),
        ("PutSnapshotBlock", "ExpiredTokenException", 403, "", 6, "expired"),
        ("PutSnapshotBlock", "UnrecognizedClientException", 403, "", 6, "access key"),
        ("RegisterImage", "ResourceLimitExceeded", 400, "", 6, "quota"),
        ("RegisterImage", "InvalidAMIName.Duplicate", 400, "", 6, "name"),
        ("RegisterImage", "PendingVerification", 400, "", 6, "verified"),
        ("ModifyImageAttribute", "InvalidAMIAttributeItemValue", 400, "", 2, "account"),
        ("GetCallerIdentity", "ExpiredToken", 403, "", 6, "expired"),
    ];
    let mut violations = Vec::new();
    for (operation, code, status, reason, exit, text) in cases.into_iter().step_by(step(3)) {
        let account = server.account(&json!({}));
        let sandbox = sandbox(&account, &[("AWS_IMAGE_SHARE_ACCOUNT_IDS", "['123456789012']")]);
        let mut rule = json!({"operation": operation, "code": code, "status": status});
        if !reason.is_empty() {
            rule["reason"] = json!(reason);
        }
        // Dry runs and the preflight check must pass.
        let nth =
            if operation == "RegisterImage" || operation == "ModifyImageAttribute" { 2 } else { 1 };
        rule["nth"] = json!(nth);
        rule["count"] = json!(1000);
        account.rules(&json!([rule]));
        let run = build(&sandbox, "refused", &[]);
        let struck = account.struck();
        account.rules(&json!([]));
        let mut wrong = judged(&account, &sandbox, &run, 1);
        if run.code != exit || !run.stderr.contains(text) || struck == [0] {
            wrong.push(format!("exit code {}, struck {struck:?}, wanted `{text}`", run.code));
        }
        if !wrong.is_empty() {
            violations.push(format!("{operation} {code}: {wrong:?}\n{}", run.stderr));
        }
    }
    assert!(violations.is_empty(), "{} violations\n{}", violations.len(), violations.join("\n\n"));
}

#[test]
fn a_storm_of_throttling_passes_without_a_block_that_is_put_twice() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({}));
    let sandbox = sandbox(&account, &[]);
    sandbox.disk("disk.raw", 64, 40);
    // Two of three requests, for as long as the upload lasts.
    let throttled = |nth: u64| {
        json!({"service": "ebs", "operation": "PutSnapshotBlock", "nth": nth, "count": 40,
            "code": "RequestThrottledException", "reason": "ACCOUNT_THROTTLED", "status": 400})
    };
    account.rules(&json!([throttled(10), throttled(90)]));
    let run = build(&sandbox, "throttled", &[]);
    run.succeeded();
    assert_eq!(account.struck().iter().sum::<u64>(), 80);
    account.holds(&id_of(&run), HOME, &sandbox.path().join("disk.raw"));
    let puts = puts(&account);
    assert!(puts.len() == 80 && puts.values().all(|&times| times == 1), "{puts:?}");
}

/// Builds with credentials of a container, which end at a request of a service; the build must succeed.
#[track_caller]
fn renewed(account: &AwsAccount, (service, operation, nth): (&str, &str, u64)) {
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 64, 40);
    let rule = json!({"service": service, "operation": operation, "nth": nth, "expire": true});
    account.rules(&json!([rule]));
    let name = format!("renewed-{operation}-{nth}");
    let words = ["--disk", "disk.raw", "-p", "aws", "--cloud-image-name", &name];
    let mut command = sandbox.command(&words);
    let url = account.server.url();
    command.envs([
        ("AWS_REGION", HOME),
        ("AWS_ENDPOINT_URL", url),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of-the-container"),
    ]);
    let address = format!("{url}/_credentials/{}/container", account.id());
    command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", address);
    let run = Run::of(&command.output().unwrap(), None);
    assert_eq!(run.code, 0, "{operation}: {}", run.stderr);
    assert_eq!(account.struck(), [1], "{operation}");
    account.has_only(1);
    let keys: BTreeSet<_> =
        account.requests().iter().map(|request| request["key"].to_string()).collect();
    assert!(keys.len() >= 2, "{keys:?}");
}

#[test]
fn credentials_that_end_in_the_middle_of_the_upload_are_renewed_from_the_chain() {
    let Some(server) = Aws::shared() else { return };
    renewed(&server.account(&json!({})), ("ebs", "PutSnapshotBlock", 20));
    // Keys of the settings cannot be renewed: one error says so.
    let account = server.account(&json!({}));
    let sandbox = sandbox(&account, &[]);
    account.rules(&json!([{"operation": "PutSnapshotBlock", "nth": 2, "expire": true}]));
    let run = Run::of(&sandbox.command(&BUILD).output().unwrap(), None);
    assert!(run.stderr.contains("expired"), "{}", run.stderr);
    let id = account.owned("snapshots")[0]["id"].as_str().unwrap().to_owned();
    assert!(run.code == 8 && run.stderr.contains("left behind: ") && run.stderr.contains(&id));
}

#[test]
fn every_object_that_a_build_leaves_is_named() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({"polls": 1}));
    let sandbox = sandbox(&account, &[]);
    // Nothing can be removed after the registration is refused.
    let denied = |operation: &str, nth: u64| json!({"operation": operation, "nth": nth, "count": 1000, "cause": "denied"});
    account.rules(&json!([denied("RegisterImage", 2), denied("DeleteSnapshot", 2)]));
    let run = build(&sandbox, "left", &[]);
    account.rules(&json!([]));
    assert_eq!(run.code, 8, "{}", run.stderr);
    let left: Vec<Value> = account.owned("snapshots");
    assert_eq!(left.len(), 1, "{left:#?}");
    let id = left[0]["id"].as_str().unwrap();
    assert!(run.stderr.contains("left behind: ") && run.stderr.contains(id), "{}", run.stderr);
    assert!(run.stderr.contains("aws ec2 delete-snapshot"), "{}", run.stderr);
    let gc = sandbox.command(&["gc", "--yes"]).output().unwrap();
    assert!(gc.status.success(), "{}", String::from_utf8_lossy(&gc.stderr));
    account.has_only(0);
}

/// EC2 has one code for an old request and for expired credentials.
#[test]
fn credentials_that_end_at_ec2_are_renewed_as_well() {
    let Some(server) = Aws::shared() else { return };
    for at in
        [("ec2", "RegisterImage", 1), ("ec2", "RegisterImage", 2), ("ec2", "DescribeSnapshots", 2)]
    {
        renewed(&server.account(&json!({})), at);
    }
}
