//! Everything that would make a later step fail, asked at once and told at once.

use std::time::Duration;

use build_image_plugin_api::{
    Context, Error, ErrorKind, Result,
    document::{Build, CheckReport, CheckRequest, Finding, Severity},
};

use crate::{
    cloud::Cloud,
    config::{Config, Place},
    error::Failure,
    image::Image,
    import::{import_parameters, working_name},
    names,
    retry::Policy,
    state::{IMPORT, ImportState},
};

/// Longest time for one check; a cloud that can be reached answers in one or two seconds.
const LIMIT: Duration = Duration::from_secs(10);
/// Seconds of clock difference worth a word; the services refuse 900.
const CLOCK_WARNING: i64 = 300;
/// How a dry run says that the call would have been made.
const DRY_RUN_PASSED: [&str; 2] = ["DryRunOperation", "DRYRUN.SUCCESS"];

/// Runs all checks.
///
/// # Errors
/// When settings are missing or no connections can be made at all.
pub(crate) fn check(
    context: &Context,
    config: &Config,
    request: &CheckRequest,
) -> Result<CheckReport> {
    let build = &request.build;
    let mut findings = offline(config, build);
    let disk = Some(config.disk());
    if !request.online {
        return Ok(CheckReport { findings, disk });
    }
    let place = match config.place() {
        Ok(place) => place,
        Err(error) => {
            findings.push(Finding::error("settings", &error));
            return Ok(CheckReport { findings, disk });
        }
    };
    let cloud = Cloud::open(context, &place)?;
    let ours: Option<ImportState> = context.load(IMPORT)?;
    findings.extend(
        context
            .block_on(async { Ok(online(&cloud, config, &place, build, ours.as_ref()).await) })?,
    );
    Ok(CheckReport { findings, disk })
}

fn offline(config: &Config, build: &Build) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !build.image_name.is_empty()
        && let Err(error) = names::check_image_name(&build.image_name, config.name_length)
    {
        findings.push(Finding::error("image name", &error));
    }
    findings
        .extend(names::tag_problems(&build.tags).iter().map(|error| Finding::error("tags", error)));
    findings
}

async fn online(
    cloud: &Cloud,
    config: &Config,
    place: &Place,
    build: &Build,
    ours: Option<&ImportState>,
) -> Vec<Finding> {
    let (identity, bucket, name, import) = tokio::join!(
        within(credentials(cloud, config), |late| unknown_identity(&late)),
        within(bucket(cloud, place), |late| Finding::error("bucket", &late)),
        within(image_name(cloud, config, build, ours), |late| Some(Finding::error(
            "image name",
            &late
        ))),
        within(import(cloud, config, place, build), |late| Some(Finding::error("import", &late))),
    );
    let keys_refused = identity.kind.as_deref() == Some(ErrorKind::Auth.code());
    let bucket_wrong = bucket.severity == Severity::Error;
    let mut findings = vec![identity];
    // Refused keys fail every call; one finding says it.
    let follows =
        |finding: &Finding| keys_refused && finding.kind.as_deref() == Some(ErrorKind::Auth.code());
    let about_bucket = |finding: &Finding| bucket_wrong && finding.message.contains("bucket");
    findings.extend(Some(bucket).filter(|finding| !follows(finding)));
    findings.extend(name.filter(|finding| !follows(finding)));
    findings.extend(import.filter(|finding| !follows(finding) && !about_bucket(finding)));
    findings.extend(clock(cloud));
    findings
}

/// A check's finding, or what `late` makes of a check that takes too long.
async fn within<T>(check: impl Future<Output = T>, late: impl FnOnce(Error) -> T) -> T {
    tokio::time::timeout(LIMIT, check)
        .await
        .unwrap_or_else(|_| late(*Failure::timeout("the cloud does not answer", LIMIT).error))
}

async fn credentials(cloud: &Cloud, config: &Config) -> Finding {
    const SUBJECT: &str = "credentials";
    let identity = match cloud.sts.identity(&Policy::CHECK).await {
        Ok(identity) => identity,
        Err(failure) if failure.error.kind == ErrorKind::Network => {
            return unknown_identity(&failure.error);
        }
        Err(failure) => return Finding::error(SUBJECT, &failure.error),
    };
    if config.share.contains(&identity.account_id) {
        let message = format!("account {} is the image's own account", identity.account_id);
        let error =
            Error::config(message).with_hint("take it out of ALIBABA_IMAGE_SHARE_ACCOUNT_IDS");
        return Finding::error("sharing", &error);
    }
    Finding::ok(SUBJECT, format!("account {} ({})", identity.account_id, identity.arn))
}

/// The build itself does not need STS.
fn unknown_identity(error: &Error) -> Finding {
    Finding::warning(
        "credentials",
        format!("{error}; whose keys they are is not known"),
        "set ALIBABA_STS_ENDPOINT where the central endpoint cannot be reached",
    )
}

async fn bucket(cloud: &Cloud, place: &Place) -> Finding {
    const SUBJECT: &str = "bucket";
    let info = match cloud.oss.bucket_info(&Policy::CHECK).await {
        Ok(info) => info,
        Err(failure) => return Finding::error(SUBJECT, &failure.error),
    };
    let bucket = &place.bucket;
    let region = info.location.strip_prefix("oss-").unwrap_or(&info.location);
    if region != place.region {
        let message = format!("bucket `{bucket}` is in {region}, not in {}", place.region);
        let hint = format!("set ALIBABA_REGION to {region} or choose another ALIBABA_BUCKET");
        return Finding::error(SUBJECT, &Error::config(message).with_hint(hint));
    }
    if !matches!(info.encryption.algorithm.as_str(), "" | "None") {
        let message = format!(
            "bucket `{bucket}` encrypts with {}; ECS does not import encrypted objects",
            info.encryption.algorithm
        );
        let error = Error::config(message).with_hint("choose a bucket without default encryption");
        return Finding::error(SUBJECT, &error);
    }
    match info.storage_class.as_str() {
        "Standard" | "" => Finding::ok(SUBJECT, format!("bucket `{bucket}` is in {region}")),
        class if class.contains("Archive") => {
            let message = format!(
                "bucket `{bucket}` has storage class {class}; ECS cannot read archived objects"
            );
            Finding::error(
                SUBJECT,
                &Error::config(message).with_hint("choose a bucket of storage class Standard"),
            )
        }
        class => Finding::warning(
            SUBJECT,
            format!("bucket `{bucket}` has storage class {class}"),
            "a bucket of storage class Standard costs less for short-lived objects",
        ),
    }
}

async fn image_name(
    cloud: &Cloud,
    config: &Config,
    build: &Build,
    ours: Option<&ImportState>,
) -> Option<Finding> {
    const SUBJECT: &str = "image name";
    let name = &build.image_name;
    if name.is_empty() {
        return None;
    }
    let found = match cloud.ecs.images_named(name, &Policy::CHECK).await {
        Ok(found) => found,
        Err(failure) => return Some(Finding::error(SUBJECT, &failure.error)),
    };
    let is_ours = |image: &Image| {
        ours.is_some_and(|state| {
            state.image_id.as_deref() == Some(image.image_id.as_str())
                || image.comes_from(&state.bucket, &state.key)
        })
    };
    Some(match found.iter().find(|image| !is_ours(image)) {
        None => Finding::ok(SUBJECT, format!("`{name}` is free")),
        Some(image) if config.replace => Finding::warning(
            SUBJECT,
            format!("image `{name}` ({}) will be replaced and deleted", image.image_id),
            "unset ALIBABA_IF_EXISTS to keep it",
        ),
        Some(image) => {
            let message =
                format!("image `{name}` exists already: {} ({})", image.image_id, image.status);
            let hint = format!(
                "choose another CLOUD_IMAGE_NAME, set ALIBABA_IF_EXISTS=replace, or delete it: aliyun ecs DeleteImage --RegionId {} --ImageId {}",
                cloud.ecs.region, image.image_id
            );
            Finding::error(SUBJECT, &Error::new(ErrorKind::Conflict, message).with_hint(hint))
        }
    })
}

/// A dry run of the import. The object does not exist yet, so that is no objection.
async fn import(cloud: &Cloud, config: &Config, place: &Place, build: &Build) -> Option<Finding> {
    const SUBJECT: &str = "import";
    let key = names::object_key(&config.prefix, &build.run_id, "", config.format);
    let name = working_name(config, build);
    let mut parameters = import_parameters(config, place, build, &name, &key);
    parameters.push(("DryRun".to_owned(), "true".to_owned()));
    let passed = Finding::ok(SUBJECT, format!("an import into {} is permitted", place.region));
    match cloud.ecs.import_image(&parameters, &Policy::CHECK).await {
        Ok(_) => Some(passed),
        Err(failure)
            if failure.is(&DRY_RUN_PASSED) || failure.is(&["InvalidOSSObject.NotFound"]) =>
        {
            Some(passed)
        }
        // The look-up by name tells that, and knows whose image it is.
        Err(failure) if failure.is(&["InvalidImageName.Duplicated", "ImageIsImporting"]) => None,
        Err(failure) => Some(Finding::error(SUBJECT, &failure.error)),
    }
}

fn clock(cloud: &Cloud) -> Option<Finding> {
    let skews = [cloud.oss.door.clock.skew(), cloud.ecs.service.door.clock.skew()];
    let skew = skews.into_iter().max_by_key(|skew| skew.abs())?;
    (skew.abs() > CLOCK_WARNING).then(|| {
        let direction = if skew > 0 { "behind" } else { "ahead" };
        Finding::warning(
            "clock",
            format!("this machine's clock is {} s {direction}", skew.abs()),
            "set the clock; requests are signed by the service's time meanwhile",
        )
    })
}
