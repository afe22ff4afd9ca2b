//! Lets EC2 answer late, as its eventual consistency does: what a build has just created is unknown for a moment. The
//! build must neither give up nor leave anything behind.

use serde_json::json;

use crate::{
    aws_faults::step,
    build_aws::{HOME, build, foreign, id_of, puts, sandbox},
    harness::Aws,
};

/// Way to upload, operation, first request that is answered so (earlier ones are dry runs and looks for a name), code.
const UNKNOWN: [(&str, &str, u64, &str); 10] = [
    ("ebs", "DescribeSnapshots", 1, "InvalidSnapshot.NotFound"),
    ("ebs", "DescribeSnapshots", 2, "InvalidSnapshot.NotFound"),
    ("s3", "DescribeSnapshots", 1, "InvalidSnapshot.NotFound"),
    ("ebs", "RegisterImage", 2, "InvalidSnapshot.NotFound"),
    ("ebs", "DescribeImages", 6, "InvalidAMIID.NotFound"),
    ("ebs", "ModifyImageAttribute", 2, "InvalidAMIID.NotFound"),
    ("ebs", "EnableImageDeprecation", 2, "InvalidAMIID.NotFound"),
    ("ebs", "CopyImage", 2, "InvalidAMIID.NotFound"),
    ("ebs", "CreateTags", 2, "InvalidSnapshot.NotFound"),
    ("s3", "CreateTags", 2, "InvalidSnapshot.NotFound"),
];

#[test]
fn what_was_just_created_may_be_unknown_for_a_moment() {
    let Some(server) = Aws::shared() else { return };
    let mut violations = Vec::new();
    for (way, operation, nth, code) in UNKNOWN.into_iter().step_by(step(3)) {
        let account = server.account(&json!({"polls": 1}));
        let bucket = account.bucket().to_owned();
        let settings = [
            ("AWS_UPLOAD", way),
            ("AWS_BUCKET", bucket.as_str()),
            ("AWS_IMAGE_SHARE_ACCOUNT_IDS", "['123456789012']"),
            ("AWS_IMAGE_COPY_REGIONS", "[eu-west-1]"),
            ("AWS_DEPRECATE_AFTER", "30d"),
        ];
        let sandbox = sandbox(&account, &settings);
        let rule = json!({"operation": operation, "nth": nth, "count": 2, "code": code});
        account.rules(&json!([rule]));
        let run = build(&sandbox, "consistent", &[]);
        let struck = account.struck();
        account.rules(&json!([]));
        let owned = account.control("GET", "objects", json!({}));
        let number = |kind: &str| owned[kind].as_array().map_or(0, Vec::len);
        let numbers = ["images", "snapshots", "objects", "uploads"].map(number);
        if run.code != 0 || numbers != [2, 2, 0, 0] || struck == [0] {
            violations.push(format!(
                "{way} {operation} {code}: exit code {}, {numbers:?}, struck {struck:?}\n{}",
                run.code, run.stderr
            ));
            continue;
        }
        account.holds(&id_of(&run), HOME, &sandbox.path().join("disk.raw"));
    }
    assert!(violations.is_empty(), "{} violations\n{}", violations.len(), violations.join("\n\n"));
}

#[test]
fn a_page_without_objects_is_not_the_end_of_a_list() {
    let Some(server) = Aws::shared() else { return };
    for way in ["ebs", "s3"] {
        let account = server.account(&json!({"polls": 1, "page": 1, "empty_pages": true}));
        let older = foreign(&account, "paged");
        foreign(&account, "another");
        let bucket = account.bucket().to_owned();
        let settings = [
            ("AWS_UPLOAD", way),
            ("AWS_BUCKET", bucket.as_str()),
            ("AWS_IMAGE_COPY_REGIONS", "[eu-west-1]"),
        ];
        let sandbox = sandbox(&account, &settings);
        build(&sandbox, "paged", &[]).failed(6, &["`paged` exists already", &older]);
        assert!(account.owned("tasks").is_empty() && puts(&account).is_empty());
        let run = build(&sandbox, "paged", &["--aws-if-exists", "replace"]);
        run.succeeded();
        account.holds(&id_of(&run), HOME, &sandbox.path().join("disk.raw"));
        // That of others, the image, and its copy.
        assert_eq!((account.owned("images").len(), account.owned("snapshots").len()), (3, 3));
    }
}
