//! Lists every permission that the provider needs, and when. The policy in the README is generated from it: a call
//! without a row cannot be made.
//!
//! Source: <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html> and the pages of the
//! other services there.

use crate::config::{Config, Way};

/// When a permission is needed.
type When = fn(&Config) -> bool;

macro_rules! calls {
    ($($call:ident = $permission:literal, $when:expr;)+) => {
        /// A call that needs a permission.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Call { $($call,)+ }

        impl Call {
            /// Every call.
            const ALL: &'static [Self] = &[$(Self::$call),+];

            /// Returns the name of the call.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$call => stringify!($call),)+ }
            }

            /// Returns the permission.
            pub(crate) const fn permission(self) -> &'static str {
                match self { $(Self::$call => $permission,)+ }
            }

            fn is_needed(self, config: &Config) -> bool {
                let when: When = match self { $(Self::$call => $when,)+ };
                when(config)
            }
        }
    };
}

calls! {
    DescribeRegions = "ec2:DescribeRegions", always;
    DescribeImages = "ec2:DescribeImages", always;
    DescribeSnapshots = "ec2:DescribeSnapshots", always;
    RegisterImage = "ec2:RegisterImage", always;
    CreateTags = "ec2:CreateTags", always;
    DeregisterImage = "ec2:DeregisterImage", always;
    DeleteSnapshot = "ec2:DeleteSnapshot", always;
    GetEbsEncryptionByDefault = "ec2:GetEbsEncryptionByDefault", always;
    DescribeImageAttribute = "ec2:DescribeImageAttribute", shares;
    ModifyImageAttribute = "ec2:ModifyImageAttribute", shares;
    GetImageBlockPublicAccessState = "ec2:GetImageBlockPublicAccessState", |config| config.audience.public;
    EnableImageDeprecation = "ec2:EnableImageDeprecation", |config| config.deprecate_after.is_some() || config.replace;
    CopyImage = "ec2:CopyImage", |config| !config.copy_regions.is_empty();
    StartSnapshot = "ebs:StartSnapshot", direct;
    PutSnapshotBlock = "ebs:PutSnapshotBlock", direct;
    CompleteSnapshot = "ebs:CompleteSnapshot", direct;
    ListSnapshotBlocks = "ebs:ListSnapshotBlocks", direct;
    GetSnapshotBlock = "ebs:GetSnapshotBlock", |config| direct(config) && config.delta.is_on;
    DescribeKey = "kms:DescribeKey", keys;
    GenerateDataKeyWithoutPlaintext = "kms:GenerateDataKeyWithoutPlaintext", keys;
    CreateGrant = "kms:CreateGrant", keys;
    Decrypt = "kms:Decrypt", keys;
    ReEncrypt = "kms:ReEncrypt*", keys;
    ImportSnapshot = "ec2:ImportSnapshot", by_bucket;
    DescribeImportSnapshotTasks = "ec2:DescribeImportSnapshotTasks", by_bucket;
    CancelImportTask = "ec2:CancelImportTask", by_bucket;
    HeadBucket = "s3:ListBucket", by_bucket;
    PutObject = "s3:PutObject", by_bucket;
    HeadObject = "s3:GetObject", by_bucket;
    ListParts = "s3:ListMultipartUploadParts", by_bucket;
    ListMultipartUploads = "s3:ListBucketMultipartUploads", by_bucket;
    AbortMultipartUpload = "s3:AbortMultipartUpload", by_bucket;
    DeleteObject = "s3:DeleteObject", by_bucket;
    GetRole = "iam:GetRole", by_bucket;
    GetServiceQuota = "servicequotas:GetServiceQuota", always;
    GetAWSDefaultServiceQuota = "servicequotas:GetAWSDefaultServiceQuota", always;
    DeleteTags = "ec2:DeleteTags", never;
    DisableImageDeprecation = "ec2:DisableImageDeprecation", never;
    EnableImage = "ec2:EnableImage", never;
    DisableImageDeregistrationProtection = "ec2:DisableImageDeregistrationProtection", never;
    DescribeSnapshotAttribute = "ec2:DescribeSnapshotAttribute", never;
    ModifySnapshotAttribute = "ec2:ModifySnapshotAttribute", never;
    ListObjects = "s3:ListBucket", never;
}

fn always(_: &Config) -> bool {
    true
}

/// No build needs it: only commands for registered images do.
fn never(_: &Config) -> bool {
    false
}

/// An image that is replaced may have been shared before.
fn shares(config: &Config) -> bool {
    !config.audience.is_empty() || config.replace
}

fn keys(config: &Config) -> bool {
    config.kms_key.is_some() || !config.copy_keys.is_empty()
}

fn direct(config: &Config) -> bool {
    config.way == Way::Ebs
}

fn by_bucket(config: &Config) -> bool {
    config.way == Way::S3
}

/// Returns the permissions that a build with these settings needs.
pub(crate) fn needed(config: &Config) -> Vec<String> {
    let calls = Call::ALL.iter().filter(|call| call.is_needed(config));
    calls.map(|call| call.permission().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::Settings;
    use serde_json::{Value, json};

    use super::*;

    fn config(pairs: &[(&str, Value)]) -> Config {
        let all = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        Config::read(&Settings::from_values(all.collect())).unwrap()
    }

    /// The statements of the policy: which permissions, and the condition under which they are needed.
    fn policy() -> Value {
        // What some build needs has a row for it.
        let every = [("AWS_UPLOAD", json!("s3")), ("AWS_IF_EXISTS", json!("replace"))];
        let every = config(
            &[
                &every[..],
                &[
                    ("AWS_IMAGE_COPY_REGIONS", json!(["eu-west-1"])),
                    ("AWS_IMAGE_VISIBILITY", json!("public")),
                    ("AWS_KMS_KEY_ID", json!("arn:aws:kms:x:1:key/1")),
                ],
            ]
            .concat(),
        );
        let delta = config(&[("AWS_UPLOAD_DELTA", json!(true))]);
        let of_builds = [needed(&every), needed(&delta)].concat();
        let of = |groups: &[&str], sid: &str, builds: bool| {
            let mut actions: Vec<&str> = Vec::new();
            for name in Call::ALL.iter().map(|call| call.permission()) {
                let is_of_builds = of_builds.iter().any(|one| one == name);
                let is_of_group = groups.iter().any(|group| name.starts_with(group));
                if is_of_group && is_of_builds == builds && !actions.contains(&name) {
                    actions.push(name);
                }
            }
            json!({"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": "*"})
        };
        json!({"Version": "2012-10-17", "Statement": [
            of(&["ec2:"], "Images", true),
            of(&["ebs:"], "EbsDirect", true),
            of(&["servicequotas:"], "Quotas", true),
            of(&["kms:"], "OnlyWithKmsKeys", true),
            of(&["s3:", "iam:"], "OnlyWithUploadS3", true),
            of(&["ec2:"], "OnlyToManageImages", false),
        ]})
    }

    #[test]
    fn the_policy_in_the_readme_is_the_table() {
        let readme = include_str!("../README.md");
        let (_, rest) = readme.split_once("```json\n").unwrap();
        let found: Value = serde_json::from_str(rest.split_once("```").unwrap().0).unwrap();
        let expected = policy();
        assert_eq!(found, expected, "write:\n{}", serde_json::to_string_pretty(&expected).unwrap());
    }

    #[test]
    fn a_build_needs_only_what_its_settings_use() {
        let needs = |pairs: &[(&str, Value)], name: &str| {
            needed(&config(pairs)).iter().any(|permission| permission == name)
        };
        for (pairs, name, expected) in [
            (&[][..], "ebs:PutSnapshotBlock", true),
            (&[], "ebs:GetSnapshotBlock", false),
            (&[("AWS_UPLOAD_DELTA", json!(true))], "ebs:GetSnapshotBlock", true),
            (&[], "s3:PutObject", false),
            (&[], "ec2:CopyImage", false),
            (&[], "kms:DescribeKey", false),
            (&[], "ec2:ModifyImageAttribute", false),
            (&[("AWS_UPLOAD", json!("s3"))], "s3:PutObject", true),
            (&[("AWS_UPLOAD", json!("s3"))], "ebs:StartSnapshot", false),
            (&[("AWS_IMAGE_COPY_REGIONS", json!(["eu-west-1"]))], "ec2:CopyImage", true),
            (&[("AWS_KMS_KEY_ID", json!("arn:aws:kms:x:1:key/1"))], "kms:CreateGrant", true),
            (&[("AWS_IF_EXISTS", json!("replace"))], "ec2:ModifyImageAttribute", true),
        ] {
            assert_eq!(needs(pairs, name), expected, "{pairs:?} {name}");
        }
    }
}
