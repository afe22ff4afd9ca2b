//! Runs the preflight checks: collects everything that would make a later step fail and reports it at once.

use std::{sync::Arc, time::Duration};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Result,
    document::{Build, CheckReport, CheckRequest, Finding, Purpose, Severity},
    retry::Policy,
};

use crate::{
    acs::Parameters,
    check_bucket, check_copies, check_plain,
    client::HINTS,
    cloud::Cloud,
    config::{Config, Place},
    copies,
    credentials::Credentials,
    delta, disk, expected, guest,
    image::Image,
    import::{import_name, import_parameters, machine_problem, too_late},
    marks::is_import_of,
    names,
    nearby::nearby,
    role,
    state::{ACCOUNT, IMPORT, ImportState},
    tagging::MARK,
};

/// Time limit of one check; a reachable cloud answers in one or two seconds.
const LIMIT: Duration = Duration::from_secs(10);
/// Seconds of clock difference that cause a warning; the services refuse 900.
const CLOCK_WARNING: i64 = 300;
/// Codes with which a dry run reports that the call would have been made.
pub(crate) const DRY_RUN_PASSED: [&str; 2] = ["DryRunOperation", "DRYRUN.SUCCESS"];

/// Runs all checks.
///
/// # Errors
/// When settings are missing or no connections can be made at all.
pub(crate) fn check(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
    request: &CheckRequest,
) -> Result<CheckReport> {
    let mut report = expected_of(config, request);
    report.findings = offline(config, request);
    if !request.online {
        return Ok(report);
    }
    let place = match config.place() {
        Ok(place) => nearby(context, config, place)?,
        Err(error) => {
            report.findings.push(Finding::error("settings", &error));
            return Ok(report);
        }
    };
    let cloud = Cloud::open(credentials, &place)?;
    let before = Before { import: context.load(IMPORT)?, copies: copies::known(context)? };
    if let Some(started) = &before.import {
        let late = too_late(config, &place, &request.build, started);
        report.findings.extend(late.iter().map(|error| Finding::error("settings", error)));
    }
    let late = copies::too_late(context, config)?;
    report.findings.extend(late.iter().map(|error| Finding::error("settings", error)));
    let found = async {
        Ok(match request.purpose {
            Purpose::Upload => online_upload(&cloud, config, &place, &request.build).await,
            _ => online(&cloud, config, &place, request, &before).await,
        })
    };
    report.findings.extend(context.block_on(found)?);
    report.findings.extend(same_account(context, credentials, request.dry_run)?);
    Ok(report)
}

/// Stores the account that the run belongs to, and refuses a run that another account began.
fn same_account(
    context: &Context,
    credentials: &Credentials,
    dry_run: bool,
) -> Result<Option<Finding>> {
    let Some(now) = credentials.account() else { return Ok(None) };
    match context.load::<String>(ACCOUNT)? {
        Some(then) if then != now => {
            let message =
                format!("the run belongs to account {then}, and these keys are of account {now}");
            let error = Error::config(message)
                .with_hint("use the keys of that account, or build again in a new run");
            return Ok(Some(Finding::error("credentials", &error)));
        }
        None if !dry_run => context.save(ACCOUNT, &now)?,
        _ => {}
    }
    Ok(None)
}

/// What is known of a build before any request is sent.
fn expected_of(config: &Config, request: &CheckRequest) -> CheckReport {
    let mut report = CheckReport::default()
        .disk(config.disk.clone())
        .creates(expected::resources(config, &request.build, request.purpose))
        .permissions(expected::rights(config, request.purpose));
    report.bytes_per_second = config.upload.rate;
    report
}

/// Resources that an earlier attempt of the run created.
struct Before {
    import: Option<ImportState>,
    copies: Vec<String>,
}

fn offline(config: &Config, request: &CheckRequest) -> Vec<Finding> {
    let build = &request.build;
    let mut findings = Vec::new();
    if request.purpose != Purpose::Register {
        findings.extend(disk::finding(&config.disk, &request.host));
        findings.extend(delta::offline(config));
    }
    if request.purpose == Purpose::Upload {
        // What follows is about the image.
        return findings;
    }
    if let Some(error) = machine_problem(config, build) {
        findings.push(Finding::error("boot mode", &error));
    }
    let contradictions = guest::problems(config, build);
    findings.extend(contradictions.iter().map(|error| Finding::error("operating system", error)));
    findings.extend(guest::licence_warning(config, build));
    if !build.image_name.is_empty()
        && let Err(error) = names::check_image_name(&build.image_name, config.name_length)
    {
        findings.push(Finding::error("image name", &error));
    }
    if let Some(problem) = names::description_problem(&build.description) {
        findings.push(Finding::warning(
            "description",
            format!("the image's description {problem}"),
            "write 2 to 256 characters, not starting with `http://` or `https://`",
        ));
    }
    findings
        .extend(names::tag_problems(&build.tags).iter().map(|error| Finding::error("tags", error)));
    findings
}

/// Checks what an upload needs that is not registered: an account that may only write objects passes.
async fn online_upload(
    cloud: &Cloud,
    config: &Config,
    place: &Place,
    build: &Build,
) -> Vec<Finding> {
    let key = key(config, build);
    let (identity, bucket) = tokio::join!(
        within(credentials(cloud, config), |late| unknown_identity(&late)),
        within(check_bucket::look(cloud, place, &key), |late| vec![Finding::error(
            "bucket", &late
        )]),
    );
    let keys_refused = identity.kind == Some(ErrorKind::Auth);
    let follows = |finding: &Finding| keys_refused && finding.kind == Some(ErrorKind::Auth);
    let mut findings = vec![identity];
    findings.extend(check_plain::findings(place));
    findings.extend(bucket.into_iter().filter(|finding| !follows(finding)));
    findings.extend(clock(cloud));
    findings
}

async fn online(
    cloud: &Cloud,
    config: &Config,
    place: &Place,
    request: &CheckRequest,
    before: &Before,
) -> Vec<Finding> {
    let CheckRequest { build, dry_run, .. } = request;
    let made = if *dry_run { None } else { make_role(cloud, config, place, build).await };
    let key = key(config, build);
    let (identity, bucket, name, import, role, copies, base) = tokio::join!(
        within(credentials(cloud, config), |late| unknown_identity(&late)),
        within(check_bucket::look(cloud, place, &key), |late| vec![Finding::error(
            "bucket", &late
        )]),
        within(image_name(cloud, config, build, before), |late| Some(Finding::error(
            "image name",
            &late
        ))),
        within(import(cloud, config, place, build), |late| Some(Finding::error("import", &late))),
        within(role::look(cloud, config, *dry_run && config.create_role), |_| None),
        within(check_copies::look(cloud, config, place, build, &before.copies), |late| {
            vec![Finding::error("copy regions", &late)]
        }),
        within(delta::look(&cloud.oss, config, build), |_| None),
    );
    let keys_refused = identity.kind == Some(ErrorKind::Auth);
    let bucket_wrong = bucket.iter().any(|finding| finding.severity == Severity::Error);
    let is_error = |finding: &Finding| finding.severity == Severity::Error;
    let no_role =
        role.as_ref().is_some_and(|look| look.shut) || made.as_ref().is_some_and(is_error);
    let role = made.or(role.map(|look| look.finding));
    let mut findings = vec![identity];
    findings.extend(check_plain::findings(place));
    // Refused keys fail every call; one finding reports it.
    let follows = |finding: &Finding| keys_refused && finding.kind == Some(ErrorKind::Auth);
    let about_bucket = |finding: &Finding| bucket_wrong && finding.message.contains("bucket");
    findings.extend(bucket.into_iter().filter(|finding| !follows(finding)));
    findings.extend(name.filter(|finding| !follows(finding)));
    // The dry run also reports a missing role, with less detail.
    let about_role = |finding: &Finding| no_role && finding.message.contains("may not read");
    findings.extend(
        import
            .filter(|finding| !follows(finding) && !about_bucket(finding) && !about_role(finding)),
    );
    findings.extend(role.filter(|finding| !follows(finding)));
    findings.extend(copies.into_iter().filter(|finding| !follows(finding)));
    // A bucket that cannot be used has been reported.
    findings.extend(base.filter(|_| !keys_refused && !bucket_wrong));
    findings.extend(clock(cloud));
    findings
}

/// A check's finding, or the result of `late` for a check that exceeds the limit.
async fn within<T>(check: impl Future<Output = T>, late: impl FnOnce(Error) -> T) -> T {
    tokio::time::timeout(LIMIT, check)
        .await
        .unwrap_or_else(|_| late(*HINTS.timed_out("the cloud does not answer", LIMIT).error))
}

async fn credentials(cloud: &Cloud, config: &Config) -> Finding {
    const SUBJECT: &str = "credentials";
    let identity = match cloud.sts.identity(&Policy::BRIEF).await {
        Ok(identity) => identity,
        Err(failure) if failure.error.kind == ErrorKind::Network => {
            return unknown_identity(&failure.error);
        }
        Err(failure) => return Finding::error(SUBJECT, &failure.error),
    };
    cloud.oss.http.credentials.belong_to(&identity.account_id);
    if config.share.contains(&identity.account_id) {
        let message = format!("account {} is the image's own account", identity.account_id);
        let error =
            Error::config(message).with_hint("take it out of ALIBABA_IMAGE_SHARE_ACCOUNT_IDS");
        return Finding::error("sharing", &error);
    }
    let source = cloud.oss.http.credentials.source_name().unwrap_or_default();
    let message = format!("account {} ({}), keys from {source}", identity.account_id, identity.arn);
    Finding::ok(SUBJECT, message)
}

/// The build itself does not need STS.
fn unknown_identity(error: &Error) -> Finding {
    Finding::warning(
        "credentials",
        format!("{error}; whose keys they are is not known"),
        "set ALIBABA_STS_ENDPOINT where the central endpoint cannot be reached",
    )
}

/// Creates the role when the settings ask for it; this may take minutes.
async fn make_role(
    cloud: &Cloud,
    config: &Config,
    place: &Place,
    build: &Build,
) -> Option<Finding> {
    if !config.create_role {
        return None;
    }
    let made = role::ensure(cloud, config, &dry_run(config, place, build)).await;
    made.unwrap_or_else(|failure| Some(Finding::error("import role", &failure.error)))
}

async fn image_name(
    cloud: &Cloud,
    config: &Config,
    build: &Build,
    before: &Before,
) -> Option<Finding> {
    const SUBJECT: &str = "image name";
    let name = &build.image_name;
    if name.is_empty() {
        return None;
    }
    let found = match cloud.ecs.images_named(name, &Policy::BRIEF).await {
        Ok(found) => found,
        Err(failure) => return Some(Finding::error(SUBJECT, &failure.error)),
    };
    // The answer that named the encrypted image may have been lost.
    let is_encrypted = |image: &Image| config.key.is_some() && image.is_tagged(MARK, &build.run_id);
    let is_ours = |image: &Image| {
        let is_copy = before.copies.contains(&image.image_id);
        is_copy
            || is_encrypted(image)
            || before.import.as_ref().is_some_and(|state| {
                state.image_id.as_deref() == Some(image.image_id.as_str())
                    || is_import_of(image, (&state.bucket, &state.key), &state.run)
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

/// The key of an object of the run.
fn key(config: &Config, build: &Build) -> String {
    names::object_key(&config.prefix, &build.run_id, "", config.disk.format)
}

fn dry_run(config: &Config, place: &Place, build: &Build) -> Parameters {
    let name = import_name(config, build);
    let mut parameters = import_parameters(config, place, build, &name, &key(config, build));
    parameters.push(("DryRun".to_owned(), "true".to_owned()));
    parameters
}

/// Performs a dry run of the import. The object does not exist yet, so its absence is not a problem.
async fn import(cloud: &Cloud, config: &Config, place: &Place, build: &Build) -> Option<Finding> {
    const SUBJECT: &str = "import";
    let parameters = dry_run(config, place, build);
    let passed = Finding::ok(SUBJECT, format!("an import into {} is permitted", place.region));
    match cloud.ecs.import_image(&parameters, &Policy::BRIEF).await {
        Ok(_) => Some(passed),
        Err(failure)
            if failure.has_code(&DRY_RUN_PASSED)
                || failure.has_code(&["InvalidOSSObject.NotFound"]) =>
        {
            Some(passed)
        }
        // The look-up by name reports that, and knows whose image it is.
        Err(failure) if failure.has_code(&["InvalidImageName.Duplicated", "ImageIsImporting"]) => {
            None
        }
        Err(failure) => Some(Finding::error(SUBJECT, &failure.error)),
    }
}

fn clock(cloud: &Cloud) -> Option<Finding> {
    let skews = [cloud.oss.http.clock.skew(), cloud.ecs.service.http.clock.skew()];
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
