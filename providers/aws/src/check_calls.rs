//! Asks the services whether the calls of a build would be permitted: dry runs, the regions, the KMS keys, and for the
//! second way the bucket and the role.

use build_image_plugin_api::{
    Error, ErrorKind,
    document::{Build, Finding},
    retry::{Failure, Policy},
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    check::is_refusal,
    client::{Request, Service},
    cloud::Cloud,
    ec2::{Ec2, Items, Parameters, is_absent, pairs, tag_parameters},
    marks,
    partition::Api,
    permissions::Call,
};

/// Code with which a dry run reports that the call would have been made.
pub(crate) const PASSED: &str = "DryRunOperation";
/// Identifiers that have the right form and that no object has.
const NO_IMAGE: &str = "ami-00000000000000000";
const NO_SNAPSHOT: &str = "snap-00000000000000000";

/// Returns the regions that receive an image, the own one first.
pub(crate) fn all_regions(cloud: &Cloud<'_>) -> Vec<String> {
    let others = cloud.config.copy_regions.iter().filter(|region| **region != cloud.region);
    std::iter::once(&cloud.region).chain(others).cloned().collect()
}

#[derive(Deserialize)]
struct Regions {
    #[serde(rename = "regionInfo", default)]
    regions: Items<Region>,
}

/// A region, as the service lists it.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Region {
    pub(crate) region_name: String,
    opt_in_status: String,
}

impl Region {
    /// Whether the account has not enabled the region.
    pub(crate) fn is_disabled(&self) -> bool {
        self.opt_in_status == "not-opted-in"
    }
}

/// The regions of the account that the service lists.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn listed_regions(
    cloud: &Cloud<'_>,
    parameters: &Parameters,
    policy: &Policy,
) -> Result<Vec<Region>, Error> {
    let ec2 = Ec2::open(cloud, &cloud.region)?;
    let answer: Regions = ec2.ask(Call::DescribeRegions, parameters, "", policy).await?;
    Ok(answer.regions.item)
}

/// The error for a region that the account has not enabled: every request there is refused.
pub(crate) fn not_enabled(region: &str) -> Error {
    Error::new(ErrorKind::Auth, format!("region {region} is not enabled for the account"))
        .with_hint(format!("aws account enable-region --region-name {region}"))
}

/// Checks that every region exists and is enabled. Returns also the regions that answer: in the others every request fails,
/// for no further reason.
pub(crate) async fn regions(cloud: &Cloud<'_>) -> (Vec<Finding>, Vec<String>) {
    const SUBJECT: &str = "regions";
    let wanted = all_regions(cloud);
    let all = pairs(&[("AllRegions", "true")]);
    let found = match listed_regions(cloud, &all, &Policy::BRIEF).await {
        Ok(found) => found,
        Err(error) => return (vec![Finding::error(SUBJECT, &error)], wanted),
    };
    let (mut findings, mut usable) = (Vec::new(), Vec::new());
    for region in wanted {
        let known = found.iter().find(|known| known.region_name == region);
        let error = match known {
            Some(known) if known.is_disabled() => not_enabled(&region),
            None if !found.is_empty() => Error::config(format!("region {region} does not exist"))
                .with_hint("check AWS_REGION and AWS_IMAGE_COPY_REGIONS"),
            _ => {
                usable.push(region);
                continue;
            }
        };
        findings.push(Finding::error(SUBJECT, &error));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, format!("{} enabled", usable.join(", "))));
    }
    (findings, usable)
}

/// Makes a dry run of every call that has one.
pub(crate) async fn dry_runs(cloud: &Cloud<'_>, build: &Build, usable: &[String]) -> Vec<Finding> {
    const SUBJECT: &str = "permissions";
    let ec2 = match Ec2::open(cloud, &cloud.region) {
        Ok(ec2) => ec2,
        Err(error) => return vec![Finding::error(SUBJECT, &error)],
    };
    let calls = planned(cloud, build, usable);
    let runs = calls.into_iter().map(async |(call, region, mut parameters)| {
        parameters.push(("DryRun".to_owned(), "true".to_owned()));
        let ec2 = match region {
            Some(region) => Ec2::open(cloud, &region).map_err(Failure::stop)?,
            None => ec2.clone(),
        };
        match ec2.call(call, &parameters, "a dry run", &Policy::BRIEF).await {
            Err(failure) if failure.has_code(&[PASSED]) || is_absent(&failure) => Ok(()),
            // The look-up by name reports that, and knows whose image it is.
            Err(failure) if failure.has_code(&["InvalidAMIName.Duplicate"]) => Ok(()),
            Err(failure) if is_refusal(failure.error.kind) || call == Call::RegisterImage => {
                Err(failure)
            }
            // A call on an object that does not exist was permitted, and then refused.
            Err(failure) => {
                tracing::debug!(error = %failure.error, "a dry run was not conclusive");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    });
    let outcomes: Vec<Result<(), Failure>> = futures_util::future::join_all(runs).await;
    let count = outcomes.len();
    let refused: Vec<Finding> = outcomes
        .into_iter()
        .filter_map(Result::err)
        .map(|failure| Finding::error(SUBJECT, &failure.error))
        .collect();
    if refused.is_empty() {
        return vec![Finding::ok(SUBJECT, format!("{count} dry runs of EC2 calls passed"))];
    }
    refused
}

/// The calls of a build that have a dry run, with the region where it is not the own one.
fn planned(
    cloud: &Cloud<'_>,
    build: &Build,
    usable: &[String],
) -> Vec<(Call, Option<String>, Parameters)> {
    let config = cloud.config;
    let image = || pairs(&[("ImageId", NO_IMAGE)]);
    let mut tagging = pairs(&[("ResourceId.1", NO_SNAPSHOT)]);
    tagging.extend(tag_parameters("", &marks::of(build)));
    let mut all = vec![
        (Call::RegisterImage, None, config.attributes.parameters(build, NO_SNAPSHOT, 1)),
        (Call::CreateTags, None, tagging),
        (Call::DeregisterImage, None, image()),
        (Call::DeleteSnapshot, None, pairs(&[("SnapshotId", NO_SNAPSHOT)])),
    ];
    if !config.audience.is_empty() {
        let mut sharing = image();
        sharing.extend(pairs(&[("LaunchPermission.Add.1.UserId", "123456789012")]));
        all.push((Call::ModifyImageAttribute, None, sharing));
    }
    if config.deprecate_after.is_some() {
        let mut deprecation = image();
        deprecation.extend(pairs(&[("DeprecateAt", "2099-01-01T00:00:00.000Z")]));
        all.push((Call::EnableImageDeprecation, None, deprecation));
    }
    for region in usable.iter().filter(|region| **region != cloud.region) {
        let copy = pairs(&[
            ("SourceImageId", NO_IMAGE),
            ("SourceRegion", &cloud.region),
            ("Name", &build.image_name),
        ]);
        all.push((Call::CopyImage, Some(region.clone()), copy));
    }
    all
}

#[derive(Deserialize)]
struct ByDefault {
    #[serde(rename = "ebsEncryptionByDefault", default)]
    enabled: bool,
}

/// Whether the account encrypts all snapshots of a region. A missing permission for this question does not prevent a
/// build.
pub(crate) async fn encrypts_by_default(cloud: &Cloud<'_>, region: &str) -> bool {
    let Ok(ec2) = Ec2::open(cloud, region) else { return false };
    let call = Call::GetEbsEncryptionByDefault;
    let answer = ec2.ask::<ByDefault>(call, &Parameters::new(), "", &Policy::BRIEF).await;
    answer.is_ok_and(|answer| answer.enabled)
}

/// Checks the KMS keys, and that a shared image is not encrypted with a key that cannot be shared.
pub(crate) async fn encryption(cloud: &Cloud<'_>, usable: &[String]) -> Vec<Finding> {
    const SUBJECT: &str = "encryption";
    let config = cloud.config;
    let home = config.kms_key.iter().map(|key| (cloud.region.clone(), key.clone()));
    let copies = config.copy_keys.iter().map(|(region, key)| (region.clone(), key.clone()));
    let keys = home.chain(copies).filter(|(region, _)| usable.contains(region));
    let keys: Vec<(String, String)> = keys.collect();
    let looks = keys.iter().map(async |(region, key)| kms_key(cloud, region, key).await);
    let mut findings = futures_util::future::join_all(looks).await;
    if config.audience.public && config.encrypted {
        let error = Error::config("an encrypted image cannot be public")
            .with_hint("unset AWS_ENCRYPTED and AWS_KMS_KEY_ID, or AWS_IMAGE_VISIBILITY");
        findings.push(Finding::error(SUBJECT, &error));
    }
    if config.audience.is_empty() {
        return findings;
    }
    // A copy of an encrypted image is encrypted as well, with the default key of its region unless another is named.
    let keyless = |region: &&String| !config.copy_keys.contains_key(*region);
    let mut copies = usable.iter().filter(|region| **region != cloud.region);
    if let Some(region) = copies.find(keyless).filter(|_| config.encrypted) {
        let error = Error::config(format!(
            "the copy in {region} would be encrypted with the account's default key, and such an image cannot be shared"
        ))
        .with_hint("name a key of that region in AWS_IMAGE_COPY_KMS_KEY_IDS");
        findings.push(Finding::error(SUBJECT, &error));
    }
    if config.kms_key.is_some() {
        return findings;
    }
    if config.encrypted || encrypts_by_default(cloud, &cloud.region).await {
        let error = Error::config(
            "the snapshot would be encrypted with the account's default key, and such an image cannot be shared",
        )
        .with_hint("set AWS_KMS_KEY_ID to a key that the other accounts may use");
        findings.push(Finding::error(SUBJECT, &error));
    }
    if config.audience.public {
        findings.extend(public(cloud).await);
    }
    findings
}

#[derive(Deserialize)]
struct BlockPublic {
    #[serde(rename = "imageBlockPublicAccessState", default)]
    state: String,
}

/// Checks whether the account permits public images.
async fn public(cloud: &Cloud<'_>) -> Option<Finding> {
    let state = async {
        let ec2 = Ec2::open(cloud, &cloud.region)?;
        let call = Call::GetImageBlockPublicAccessState;
        let answer: BlockPublic = ec2.ask(call, &Parameters::new(), "", &Policy::BRIEF).await?;
        Ok::<_, Error>(answer.state)
    };
    (state.await.ok()? == "block-new-sharing").then(|| {
        let error = Error::config("the account blocks public images").with_hint(
            "unset AWS_IMAGE_VISIBILITY, or run: aws ec2 disable-image-block-public-access",
        );
        Finding::error("sharing", &error)
    })
}

/// Returns what the service says of a KMS key.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn key_metadata(
    cloud: &Cloud<'_>,
    region: &str,
    key: &str,
) -> Result<Value, Failure> {
    let what = format!("`{}` of `{key}`", Call::DescribeKey.name());
    let service = cloud.service(Api::Kms, region).map_err(Failure::stop)?;
    let request = Request::new(Method::POST, "/")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "TrentService.DescribeKey")
        .body(json!({"KeyId": key}).to_string());
    let answer = service.call(&request, &what, &Policy::BRIEF).await?;
    let mut document = Service::json::<Value>(&answer, &what)?;
    Ok(document["KeyMetadata"].take())
}

/// Checks that a KMS key can encrypt snapshots.
async fn kms_key(cloud: &Cloud<'_>, region: &str, key: &str) -> Finding {
    const SUBJECT: &str = "encryption";
    let metadata = match key_metadata(cloud, region, key).await {
        Ok(metadata) => metadata,
        Err(failure) => return Finding::error(SUBJECT, &failure.error),
    };
    let text = |name: &str| metadata[name].as_str().unwrap_or_default().to_owned();
    let wrong = [
        ("KeyState", "Enabled"),
        ("KeyUsage", "ENCRYPT_DECRYPT"),
        ("KeySpec", "SYMMETRIC_DEFAULT"),
    ]
    .into_iter()
    .find(|(name, wanted)| !text(name).is_empty() && text(name) != *wanted);
    match wrong {
        None => Finding::ok(SUBJECT, format!("key `{}` in {region} is enabled", text("Arn"))),
        Some((name, wanted)) => {
            let message = format!("{name} of KMS key `{key}` is {}, not {wanted}", text(name));
            let error = Error::new(ErrorKind::Config, message)
                .with_hint("choose an enabled symmetric key in AWS_KMS_KEY_ID");
            Finding::error(SUBJECT, &error)
        }
    }
}
