//! Checks the second way: the bucket, the role with which EC2 reads it, and a dry run of the import.

use build_image_plugin_api::{
    Error,
    document::{Build, Finding},
    retry::{Failure, Policy},
};
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use reqwest::Method;
use serde::Deserialize;

use crate::{
    attributes::description,
    check::is_refusal,
    check_calls::PASSED,
    client::{Request, Service},
    cloud::Cloud,
    ec2::{ENCODED, Ec2},
    import,
    names::object_key,
    partition::Api,
    permissions::Call,
    s3::Bucket,
};

/// Service that assumes the role.
const IMPORTER: &str = "vmie.amazonaws.com";

/// Runs the checks.
pub(crate) async fn look(cloud: &Cloud<'_>, build: &Build) -> Vec<Finding> {
    let name = match cloud.config.bucket() {
        Ok(name) => name,
        Err(error) => return vec![Finding::error("bucket", &error)],
    };
    let (bucket, role, import) =
        tokio::join!(bucket(cloud, name), role(cloud), dry_run(cloud, build, name));
    [Some(bucket), Some(role), import].into_iter().flatten().collect()
}

async fn bucket(cloud: &Cloud<'_>, name: &str) -> Finding {
    const SUBJECT: &str = "bucket";
    let found = async {
        let bucket = Bucket::open(cloud, name, &cloud.region).map_err(Failure::stop)?;
        bucket.head(&Policy::BRIEF).await
    };
    match found.await {
        Ok(Some(region)) if region != cloud.region => {
            let message =
                format!("bucket `{name}` is in {region}, and the image in {}", cloud.region);
            let error = Error::config(message)
                .with_hint("set AWS_REGION to the bucket's region, or choose another AWS_BUCKET");
            Finding::error(SUBJECT, &error)
        }
        Ok(_) => Finding::ok(SUBJECT, format!("bucket `{name}` may be used")),
        Err(failure) => Finding::error(SUBJECT, &failure.error),
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "GetRoleResult")]
    result: Found,
}

#[derive(Deserialize)]
struct Found {
    #[serde(rename = "Role")]
    role: Role,
}

#[derive(Deserialize)]
struct Role {
    #[serde(rename = "AssumeRolePolicyDocument", default)]
    trust: String,
}

async fn role(cloud: &Cloud<'_>) -> Finding {
    const SUBJECT: &str = "import role";
    let name = &cloud.config.role;
    let found = async {
        let what = format!("`{}` of `{name}`", Call::GetRole.name());
        let service = cloud.service(Api::Iam, &cloud.region).map_err(Failure::stop)?;
        let encoded = utf8_percent_encode(name, ENCODED);
        let request = Request::new(Method::POST, "/")
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .body(format!("Action=GetRole&Version=2010-05-08&RoleName={encoded}"));
        let answer = service.call(&request, &what, &Policy::BRIEF).await?;
        Service::xml::<Answer>(&answer, &what)
    };
    let role = match found.await {
        Ok(answer) => answer.result.role,
        Err(failure) if failure.has_code(&["NoSuchEntity"]) => {
            return Finding::error(SUBJECT, &failure.error);
        }
        Err(failure) => {
            return Finding::warning(
                SUBJECT,
                format!("whether role `{name}` exists is not known: {}", failure.error),
                "allow iam:GetRole, or check the role by hand",
            );
        }
    };
    let trust = percent_decode_str(&role.trust).decode_utf8_lossy();
    if trust.contains(IMPORTER) {
        return Finding::ok(SUBJECT, format!("role `{name}` exists"));
    }
    let error = Error::config(format!("role `{name}` may not be assumed by {IMPORTER}")).with_hint(
        "create the role as in the provider's README, or name another one in AWS_IMPORT_ROLE_NAME",
    );
    Finding::error(SUBJECT, &error)
}

async fn dry_run(cloud: &Cloud<'_>, build: &Build, bucket: &str) -> Option<Finding> {
    let config = cloud.config;
    let key = object_key(config, &build.run_id);
    let mut parameters = import::parameters(config, bucket, &key, &description(build));
    parameters.push(("DryRun".to_owned(), "true".to_owned()));
    let ec2 = Ec2::open(cloud, &cloud.region).ok()?;
    match ec2.call(Call::ImportSnapshot, &parameters, "a dry run", &Policy::BRIEF).await {
        // The object does not exist yet.
        Err(failure) if !failure.has_code(&[PASSED]) && is_refusal(failure.error.kind) => {
            Some(Finding::error("permissions", &failure.error))
        }
        _ => None,
    }
}
