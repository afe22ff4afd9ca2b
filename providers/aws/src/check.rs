//! Runs the preflight checks: collects everything that would make a later step fail and reports it at once.

use std::time::Duration;

use build_image_plugin_api::{
    Context, DiskFormat, DiskSpec, Error, ErrorKind, Provider as _, Result,
    document::{Build, CheckReport, CheckRequest, Finding, Severity},
    http::is_exposed,
    retry::Policy,
};

use crate::{
    Aws, check_bucket, check_calls, check_quotas,
    client::HINTS,
    cloud::Cloud,
    config::{Config, Way},
    delta, describe,
    ec2::Ec2,
    expected,
    owner::Owner,
    partition::Api,
    permissions,
    snapshot::Started,
    state::SNAPSHOT_STATE,
    sts,
};

/// Time limit of one check; a reachable cloud answers in one or two seconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// The chain of credentials asks several services in turn.
const CREDENTIALS_LIMIT: Duration = Duration::from_secs(30);
/// Seconds of clock difference that cause a warning; the services refuse 300.
const CLOCK_WARNING: i64 = 120;

/// Returns the disk that an upload needs.
pub(crate) fn disk(config: &Config) -> DiskSpec {
    match config.way {
        Way::Ebs => DiskSpec::new(DiskFormat::Raw),
        Way::S3 => describe::import_disk(),
    }
}

/// Runs all checks.
///
/// # Errors
/// When the checks cannot run at all.
pub(crate) fn check(context: &Context, aws: &Aws, request: &CheckRequest) -> Result<CheckReport> {
    let Aws { config, package, session, .. } = aws;
    let mut offline = request.clone();
    offline.online = false;
    let mut report = package.check(context, &offline)?;
    if request.online {
        report.findings.retain(|finding| finding.subject != "IMAGE_DIR");
    }
    let problems = config.attributes.problems(&request.build);
    report.findings.extend(problems.iter().map(|error| Finding::error("attributes", error)));
    report.findings.extend(delta::offline(config));
    let mut report = report
        .disk(disk(config))
        .creates(expected::resources(config, &request.build))
        .permissions(permissions::needed(config));
    if !request.online {
        return Ok(report);
    }
    let found = context.block_on(async {
        let cloud = match Cloud::open(context, config, session).await {
            Ok(cloud) => cloud,
            Err(error) => return Ok(vec![Finding::error("settings", &error)]),
        };
        online(context, &cloud, request).await
    })?;
    report.findings.extend(found);
    Ok(report)
}

async fn online(
    context: &Context,
    cloud: &Cloud<'_>,
    request: &CheckRequest,
) -> Result<Vec<Finding>> {
    // Refused keys fail every call; one finding reports it. The other checks then find them at hand.
    let identity = within(CREDENTIALS_LIMIT, credentials(context, cloud), |late| {
        Ok(vec![Finding::error("credentials", &late)])
    })
    .await?;
    let mut findings = identity;
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        findings.extend(clock(cloud));
        return Ok(findings);
    }
    let build = &request.build;
    let late = |subject: &'static str| move |late: Error| vec![Finding::error(subject, &late)];
    let (regions, usable) = within(LIMIT, check_calls::regions(cloud), |error| {
        (late("regions")(error), check_calls::all_regions(cloud))
    })
    .await;
    findings.extend(regions);
    let (names, calls, encryption, bucket, base, quotas) = tokio::join!(
        within(LIMIT, names(cloud, build, &usable), late("image name")),
        within(LIMIT, check_calls::dry_runs(cloud, build, &usable), late("permissions")),
        within(LIMIT, check_calls::encryption(cloud, &usable), late("encryption")),
        within(LIMIT, bucket(cloud, build), late("bucket")),
        within(LIMIT, delta::look(cloud, build), late("delta upload")),
        within(LIMIT, check_quotas::look(cloud, &usable), |error| vec![check_quotas::unknown(
            &error
        )]),
    );
    for more in [names, calls, encryption, bucket, base, quotas] {
        findings.extend(more);
    }
    if cloud.config.way == Way::Ebs {
        findings.push(Finding::ok(
            "EBS direct",
            "the permissions ebs:StartSnapshot, ebs:PutSnapshotBlock, and ebs:CompleteSnapshot cannot be asked in advance",
        ));
    }
    findings.extend(exposed(cloud));
    findings.extend(clock(cloud));
    Ok(findings)
}

/// A check's result, or that of `late` for a check that exceeds the limit.
async fn within<T>(
    limit: Duration,
    check: impl Future<Output = T>,
    late: impl FnOnce(Error) -> T,
) -> T {
    tokio::time::timeout(limit, check)
        .await
        .unwrap_or_else(|_| late(*HINTS.timed_out("the cloud does not answer", limit).error))
}

async fn credentials(context: &Context, cloud: &Cloud<'_>) -> Result<Vec<Finding>> {
    const SUBJECT: &str = "credentials";
    let identity = match sts::identity(cloud, &Policy::BRIEF).await {
        Ok(identity) => identity,
        Err(failure) => return Ok(vec![Finding::error(SUBJECT, &failure.error)]),
    };
    let message = format!(
        "account {} ({}), keys from {}",
        identity.account,
        identity.arn,
        cloud.source_name()
    );
    let mut findings = vec![Finding::ok(SUBJECT, message)];
    if let Some(earlier) = context.load::<Started>(SNAPSHOT_STATE)? {
        let now = Owner::now(cloud, &Policy::BRIEF).await?;
        let refused = now.may_use("the run", &earlier.owner).err();
        findings.extend(refused.map(|error| Finding::error(SUBJECT, &error)));
    }
    Ok(findings)
}

/// Finds images that have the name, in every region that receives one.
async fn names(cloud: &Cloud<'_>, build: &Build, usable: &[String]) -> Vec<Finding> {
    if build.image_name.is_empty() {
        return Vec::new();
    }
    let looks = usable.iter().map(async |region| name_in(cloud, build, region).await);
    futures_util::future::join_all(looks).await
}

async fn name_in(cloud: &Cloud<'_>, build: &Build, region: &str) -> Finding {
    const SUBJECT: &str = "image name";
    let name = &build.image_name;
    let found = async {
        let ec2 = Ec2::open(cloud, region)?;
        Ok::<_, Error>(ec2.images_with("name", name, &Policy::BRIEF).await?)
    };
    let found = match found.await {
        Ok(found) => found,
        Err(error) => return Finding::error(SUBJECT, &error),
    };
    let other = found.iter().find(|image| image.name == *name && !image.is_of(&build.run_id));
    match other {
        None => Finding::ok(SUBJECT, format!("`{name}` is free in {region}")),
        Some(image) if cloud.config.replace => Finding::warning(
            SUBJECT,
            format!(
                "image `{name}` ({}) in {region} will be replaced and deregistered",
                image.image_id
            ),
            "unset AWS_IF_EXISTS to keep it",
        ),
        Some(image) => Finding::error(SUBJECT, &crate::replace::taken(image, region)),
    }
}

/// Checks the bucket and the role of the second way.
async fn bucket(cloud: &Cloud<'_>, build: &Build) -> Vec<Finding> {
    if cloud.config.way == Way::Ebs {
        return Vec::new();
    }
    check_bucket::look(cloud, build).await
}

/// Finds endpoints whose requests can be read in transit.
fn exposed(cloud: &Cloud<'_>) -> Option<Finding> {
    let services = [Api::Ec2, Api::Ebs, Api::S3, Api::Sts].into_iter();
    let urls =
        services.filter_map(|api| Some(cloud.service(api, &cloud.region).ok()?.endpoint.url));
    let url = urls.into_iter().find(|url| is_exposed(url))?;
    Some(Finding::warning(
        "endpoints",
        format!("requests to `{url}` can be read in transit"),
        "use an https URL in AWS_ENDPOINT_URL",
    ))
}

fn clock(cloud: &Cloud<'_>) -> Option<Finding> {
    let skew = cloud.skew();
    (skew.abs() > CLOCK_WARNING).then(|| {
        let direction = if skew > 0 { "behind" } else { "ahead" };
        Finding::warning(
            "clock",
            format!("this machine's clock is {} s {direction}", skew.abs()),
            "set the clock; the services refuse 300 s",
        )
    })
}

/// Whether a failure means that the call is not permitted.
pub(crate) fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Auth | ErrorKind::Network | ErrorKind::Timeout | ErrorKind::Throttled)
}
