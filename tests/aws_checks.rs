//! Runs the preflight check for AWS: what would make a build fail is named before it begins, and credentials come from
//! where the vendor's tools have them.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    build_aws::{BUILD, HOME, sandbox},
    harness::{Aws, Run, Sandbox, tool},
};

/// What is wrong in the account or in the settings, exit code, and texts of the error.
type Refusal = (&'static str, Value, Vec<(&'static str, &'static str)>, i32, Vec<&'static str>);

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn the_preflight_check_names_what_a_build_would_fail_at() {
    let Some(server) = Aws::shared() else { return };
    let all = json!(["ec2:*", "ebs:*", "s3:*", "sts:*", "iam:*", "kms:*", "servicequotas:*"]);
    let without = |action: &str| {
        json!({"policy": {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": all, "Resource": "*"},
            {"Effect": "Deny", "Action": [action], "Resource": "*"}]}})
    };
    let cases: Vec<Refusal> = vec![
        ("all is well", json!({}), vec![], 0, vec![]),
        ("a wrong secret", json!({}), vec![("AWS_SECRET_ACCESS_KEY", "wrong")], 6, vec![]),
        (
            "an unknown key",
            json!({}),
            vec![("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")],
            6,
            vec!["access key"],
        ),
        (
            "a region that is not enabled",
            json!({}),
            vec![("AWS_REGION", "af-south-1")],
            6,
            vec!["af-south-1"],
        ),
        (
            "no permission to register",
            without("ec2:RegisterImage"),
            vec![],
            6,
            vec!["RegisterImage"],
        ),
        (
            "no permission to share",
            without("ec2:ModifyImageAttribute"),
            vec![("AWS_IMAGE_SHARE_ACCOUNT_IDS", "['123456789012']")],
            6,
            vec!["ModifyImageAttribute"],
        ),
        (
            "no permission to import",
            without("ec2:ImportSnapshot"),
            vec![("AWS_UPLOAD", "s3")],
            6,
            vec!["ImportSnapshot"],
        ),
        (
            "no role of imports",
            json!({"vmimport": false}),
            vec![("AWS_UPLOAD", "s3")],
            6,
            vec!["vmimport"],
        ),
        (
            "no bucket",
            json!({}),
            vec![("AWS_UPLOAD", "s3"), ("AWS_BUCKET", "no-such-bucket-here")],
            6,
            vec!["no-such-bucket-here"],
        ),
        (
            "an unknown key of encryption",
            json!({}),
            vec![(
                "AWS_KMS_KEY_ID",
                "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-4000-8000-000000000000",
            )],
            6,
            vec!["key"],
        ),
        (
            "a region of copies that is not enabled",
            json!({}),
            vec![("AWS_IMAGE_COPY_REGIONS", "[af-south-1]")],
            6,
            vec!["af-south-1 is not enabled"],
        ),
        ("no room for an image", json!({"images": 0}), vec![], 6, vec!["quota", "images"]),
        ("no room for a snapshot", json!({"snapshots": 0}), vec![], 6, vec!["quota", "snapshots"]),
        (
            "no room for a public image",
            json!({"public_images": 0}),
            vec![("AWS_IMAGE_VISIBILITY", "public")],
            6,
            vec!["quota", "public images"],
        ),
        (
            "no room for an account to share with",
            json!({"shares": 1}),
            vec![("AWS_IMAGE_SHARE_ACCOUNT_IDS", "['123456789012', '123456789013']")],
            6,
            vec!["2 accounts of a shared image are wanted", "quota is 1"],
        ),
        (
            "no permission to ask for quotas",
            without("servicequotas:GetServiceQuota"),
            vec![],
            0,
            vec!["with servicequotas:GetServiceQuota"],
        ),
        (
            "public images are blocked",
            json!({"block_public": true}),
            vec![("AWS_IMAGE_VISIBILITY", "public")],
            2,
            vec!["public"],
        ),
    ];
    let mut wrong = Vec::new();
    for (what, given, settings, code, texts) in cases {
        let account = server.account(&given);
        let bucket = account.bucket().to_owned();
        let mut all = vec![("AWS_BUCKET", bucket.as_str())];
        all.retain(|(key, _)| !settings.iter().any(|(changed, _)| changed == key));
        all.extend(settings);
        let sandbox = sandbox(&account, &all);
        let mut command = sandbox.command(&[&["plan", "--check"], &BUILD[..]].concat());
        let run = Run::of(&command.output().unwrap(), None);
        let shown = format!("{}{}", run.stdout, run.stderr);
        // A region that is not enabled refuses every key; only the cause is named.
        let misleads =
            shown.contains("is not enabled") && shown.contains("access key is not valid");
        if run.code != code || misleads || !texts.iter().all(|text| shown.contains(text)) {
            wrong.push(format!("{what}: not {code} {texts:?}, but {}:\n{shown}", run.code));
        }
        // Nothing is made, not even for a moment.
        let requests = account.requests();
        let makes = |request: &&Value| {
            let operation = request["operation"].as_str().unwrap_or_default();
            request["code"] != "DryRunOperation"
                && request["status"].as_u64().unwrap() < 300
                && ["Start", "Register", "Import", "Put", "Create"]
                    .iter()
                    .any(|verb| operation.starts_with(verb))
        };
        let made: Vec<_> = requests.iter().filter(makes).collect();
        if !made.is_empty() {
            wrong.push(format!("{what}: made {made:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Files in the home directory, environment, exit code, and texts.
type Source<'a> = (Vec<(&'a str, String)>, Vec<(&'static str, String)>, i32, Vec<&'static str>);

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn credentials_come_from_where_the_vendors_tools_have_them() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({}));
    let (id, secret) = account.key("builder");
    let session = account.control("POST", "sessions", json!({}));
    let text = |name: &str| session[name].as_str().unwrap().to_owned();
    let process = json!({"Version": 1, "AccessKeyId": id, "SecretAccessKey": secret});
    let keys = format!("aws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    let region = ("AWS_REGION", HOME.to_owned());
    let start = "https://portal.example/start";
    let portal = format!(
        "[profile portal]\nregion = {HOME}\nsso_start_url = {start}\nsso_region = {HOME}\nsso_account_id = {}\nsso_role_name = builder\n",
        account.id()
    );
    // The vendor's tools name the file of a token after the SHA-1 of the address.
    let name = tool(Path::new("/"), &["sh", "-c", &format!("printf %s {start} | sha1sum")]);
    let cached = format!(".aws/sso/cache/{}.json", &name[..40]);
    let cached_token = json!({"accessToken": "of-the-portal", "expiresAt": "2099-01-01T00:00:00Z",
        "startUrl": start, "region": HOME})
    .to_string();
    let cases: Vec<Source<'_>> = vec![
        (
            vec![],
            vec![
                ("AWS_ACCESS_KEY_ID", id.to_owned()),
                ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
                region.clone(),
            ],
            0,
            vec![],
        ),
        (
            vec![],
            vec![
                ("AWS_ACCESS_KEY_ID", text("id")),
                ("AWS_SECRET_ACCESS_KEY", text("secret")),
                ("AWS_SESSION_TOKEN", text("token")),
                region.clone(),
            ],
            0,
            vec![],
        ),
        (
            vec![
                (".aws/credentials", format!("[default]\n{keys}")),
                (".aws/config", format!("[default]\nregion = {HOME}\n")),
            ],
            vec![],
            0,
            vec![],
        ),
        (
            vec![
                (".aws/credentials", format!("[work]\n{keys}")),
                (".aws/config", format!("[profile work]\nregion = {HOME}\n")),
            ],
            vec![("AWS_PROFILE", "work".to_owned())],
            0,
            vec![],
        ),
        (
            vec![(
                ".aws/config",
                format!("[default]\nregion = {HOME}\ncredential_process = echo '{process}'\n"),
            )],
            vec![],
            0,
            vec![],
        ),
        (
            vec![],
            vec![
                (
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                    format!("{}/_credentials/{}/container", server.url(), account.id()),
                ),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of-the-container".to_owned()),
                region.clone(),
            ],
            0,
            vec![],
        ),
        (
            vec![],
            vec![
                (
                    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
                    format!("{}/_credentials/{}", server.url(), account.id()),
                ),
                region.clone(),
            ],
            0,
            vec![],
        ),
        (
            vec![("token", "of-the-web".to_owned())],
            vec![
                ("AWS_WEB_IDENTITY_TOKEN_FILE", "token".to_owned()),
                ("AWS_ROLE_ARN", format!("arn:aws:iam::{}:role/builder", account.id())),
                region.clone(),
            ],
            0,
            vec![],
        ),
        (
            vec![(".aws/config", portal), (&cached, cached_token)],
            vec![("AWS_PROFILE", "portal".to_owned())],
            0,
            vec![],
        ),
        (
            vec![],
            vec![region, ("AWS_EC2_METADATA_DISABLED", "true".to_owned())],
            6,
            vec!["AWS_ACCESS_KEY_ID"],
        ),
    ];
    let mut wrong = Vec::new();
    for (files, environment, code, texts) in cases {
        let sandbox = Sandbox::new();
        sandbox.disk("disk.raw", 16, 3);
        for (name, text) in &files {
            sandbox.write(name, text);
        }
        let words = ["plan", "--check", "--disk", "disk.raw", "-p", "aws"];
        let mut command: Command = sandbox.command(&words);
        command.env("AWS_ENDPOINT_URL", server.url());
        command.envs(environment.iter().map(|(name, value)| (*name, value.as_str())));
        let run = Run::of(&command.output().unwrap(), None);
        let shown = format!("{}{}", run.stdout, run.stderr);
        if run.code != code || !texts.iter().all(|text| shown.contains(text)) {
            wrong.push(format!("{files:?} {environment:?}: {}:\n{shown}", run.code));
        }
        for secret in [secret, &text("secret"), &text("token")] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
