//! Tests that the README lists every setting, with its actual default, and no other.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use build_image_plugin_api::Provider;
use build_image_provider_alibaba::Alibaba;

const README: &str = include_str!("../README.md");

/// Setting and default of every row of every table whose first cell is a setting.
fn documented_settings() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in README.lines().filter(|line| line.starts_with("| `ALIBABA_")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let plain = |text: &str| text.trim_matches('`').to_owned();
        let other = found.insert(plain(cells[0]), plain(cells[1]));
        assert!(other.is_none(), "{} is told twice", cells[0]);
    }
    found
}

#[test]
fn the_tables_and_the_description_agree() {
    let settings = documented_settings();
    for row in Alibaba::describe().settings {
        let default =
            settings.get(&row.key).unwrap_or_else(|| panic!("{} is not described", row.key));
        if let Some(expected) = row.default {
            assert_eq!(*default, expected, "default of {}", row.key);
        }
    }
    let rows: Vec<String> = Alibaba::describe().settings.into_iter().map(|row| row.key).collect();
    for key in settings.keys() {
        assert!(rows.contains(key), "{key} is no setting");
    }
}

#[test]
fn the_policy_is_a_document_with_every_action_that_is_used() {
    let start = README.find("```json").expect("a policy") + "```json".len();
    let length = README[start..].find("```").expect("its end");
    let policy: serde_json::Value =
        serde_json::from_str(&README[start..start + length]).expect("JSON");
    let text = policy.to_string();
    for action in [
        "oss:GetBucketInfo",
        "oss:ListMultipartUploads",
        "oss:PutObject",
        "oss:GetObject",
        "oss:DeleteObject",
        "oss:AbortMultipartUpload",
        "oss:ListParts",
        "ecs:ImportImage",
        "ecs:DescribeTaskAttribute",
        "ecs:CancelTask",
        "ecs:DescribeImages",
        "ecs:DescribeRegions",
        "ecs:ModifyImageAttribute",
        "ecs:CopyImage",
        "ecs:CancelCopyImage",
        "ecs:DeleteImage",
        "ecs:DescribeSnapshots",
        "ecs:DeleteSnapshot",
        "ecs:TagResources",
        "ecs:ModifyImageSharePermission",
        "ecs:DescribeImageSharePermission",
    ] {
        assert!(text.contains(&format!("\"{action}\"")), "{action}");
    }
}
