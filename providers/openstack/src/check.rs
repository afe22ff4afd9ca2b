//! Runs the preflight checks: collects everything that would make a later step fail and reports it at once. Nothing is
//! created, except a token.

use std::{sync::Arc, time::Duration};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result,
    document::{Build, CheckReport, CheckRequest, Finding},
    http::is_exposed,
    retry::Policy,
};

use crate::{
    check_service,
    cloud::{Cloud, Session},
    config::{Config, IfExists},
    disk,
    image::RUN,
    machines,
    owner::Owner,
    record::{IMAGE, STARTED, Started},
    replace,
};

/// Time limit of one check; a reachable cloud answers in one or two seconds.
const LIMIT: Duration = Duration::from_secs(10);
/// Seconds of clock difference that cause a warning.
const CLOCK_WARNING: i64 = 300;

/// Runs all checks.
///
/// # Errors
/// Only when the checkpoint of the run cannot be read, or the check was cancelled.
pub(crate) fn check(
    context: &Context,
    config: &Config,
    session: &Arc<Session>,
    request: &CheckRequest,
) -> Result<CheckReport> {
    context.check_cancelled()?;
    let build = &request.build;
    let mut report = CheckReport::default()
        .disk(config.disk.clone())
        .machines(machines::of(&config.wanted.properties(build, &config.disk)))
        .creates([expected(config, build)])
        .permissions(permissions(config));
    report.findings.extend(disk::finding(&config.disk, &request.host));
    let problems = config.wanted.problems(build, &config.disk);
    report.findings.extend(problems.iter().map(|error| Finding::error("properties", error)));
    if config.accept_members && config.members.is_empty() {
        report.findings.push(Finding::warning(
            "members",
            "`OPENSTACK_ACCEPT_MEMBERS` has no effect without `OPENSTACK_MEMBERS`",
            "name the projects in OPENSTACK_MEMBERS, or unset OPENSTACK_ACCEPT_MEMBERS",
        ));
    }
    if !request.online {
        return Ok(report);
    }
    let started: Option<Started> = context.load(STARTED)?;
    report.findings.extend(
        context.block_on(async {
            Ok(online(context, config, session, build, started.as_ref()).await)
        })?,
    );
    Ok(report)
}

/// The image, in the region of the settings if they name one.
fn expected(config: &Config, build: &Build) -> Resource {
    let image = Resource::new(IMAGE, &build.image_name).as_deliverable();
    let mut values = config.identity.values.iter();
    match values.find(|(name, _)| *name == "region_name") {
        Some((_, region)) => image.in_region(region),
        None => image,
    }
}

/// Permissions as the policies of the image service name them.
fn permissions(config: &Config) -> Vec<String> {
    let mut names = vec![
        "get_images",
        "get_image",
        "add_image",
        "upload_image",
        "modify_image",
        "delete_image",
    ];
    match config.visibility.as_str() {
        "public" => names.push("publicize_image"),
        "community" => names.push("communitize_image"),
        _ => {}
    }
    if !config.members.is_empty() {
        names.extend(["get_members", "add_member"]);
    }
    if config.accept_members {
        names.push("modify_member");
    }
    if !config.copy_stores.is_empty() {
        names.push("copy_image");
    }
    names.into_iter().map(str::to_owned).collect()
}

async fn online(
    context: &Context,
    config: &Config,
    session: &Arc<Session>,
    build: &Build,
    started: Option<&Started>,
) -> Vec<Finding> {
    const SUBJECT: &str = "credentials";
    let failed = |subject: &str, error: &Error| vec![Finding::error(subject, error)];
    let mut cloud = match within(Cloud::log_in(context, config, session, Policy::BRIEF)).await {
        Ok(cloud) => cloud,
        Err(error) => return failed(SUBJECT, &error),
    };
    let mut findings = identity(&cloud);
    match within(async { Ok(cloud.newest_version().await?) }).await {
        Ok(version) => cloud.minor_version = version,
        Err(error) => {
            findings.push(Finding::error("image service", &error));
            return findings;
        }
    }
    let region =
        cloud.region.as_ref().map_or_else(String::new, |region| format!(", region {region}"));
    let at = format!("`{}`{region}, API 2.{}", cloud.endpoint, cloud.minor_version);
    findings.push(Finding::ok("image service", at));
    if let Some(started) = started
        && let Err(error) = Owner::now(&cloud).may_use("the run", &started.owner)
    {
        findings.push(Finding::error("settings", &error));
    }
    findings.extend(roles(&cloud, config));
    let (service, name) = tokio::join!(
        within(check_service::look(&cloud, config, build)),
        within(image_name(&cloud, config, build)),
    );
    findings.extend(service.unwrap_or_else(|error| failed("image service", &error)));
    findings.extend(name.unwrap_or_else(|error| failed("image name", &error)));
    findings.extend(plain(&cloud));
    findings.extend(clock(&cloud));
    findings
}

async fn within<T>(check: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(LIMIT, check).await.unwrap_or_else(|_| {
        let message = format!("the cloud did not answer within {} s", LIMIT.as_secs());
        Err(Error::new(ErrorKind::Timeout, message)
            .with_hint(crate::http::HINTS.unreachable)
            .retryable())
    })
}

fn identity(cloud: &Cloud) -> Vec<Finding> {
    let token = cloud.token();
    let message = format!(
        "user `{}` ({}) in project `{}` ({}), from {}",
        token.user_name, token.user_id, token.project_name, token.project_id, cloud.login.source
    );
    vec![Finding::ok("credentials", message)]
}

/// What the roles permit, as far as the default policies of the image service say; a cloud may have others.
fn roles(cloud: &Cloud, config: &Config) -> Vec<Finding> {
    const SUBJECT: &str = "permissions";
    let token = cloud.token();
    let shown = token.roles.join(", ");
    let is_admin = token.roles.iter().any(|role| role == "admin");
    let mut findings = Vec::new();
    if token.roles.iter().all(|role| role == "reader") {
        let message =
            format!("the roles in project `{}` permit reading only: {shown}", token.project_name);
        let error = Error::new(ErrorKind::Auth, message).with_hint(
            "ask for the role `member` in the project, or use an application credential with it",
        );
        findings.push(Finding::error(SUBJECT, &error));
    }
    let mut needs_admin = |what: &str, policy: &str| {
        if !is_admin {
            findings.push(Finding::warning(
                SUBJECT,
                format!("{what} needs the role `admin` unless the cloud has another policy; the roles are: {shown}"),
                format!("ask the operator whether the policy `{policy}` permits it"),
            ));
        }
    };
    if config.visibility == "public" {
        needs_admin("a public image", "publicize_image");
    }
    if !config.copy_stores.is_empty() {
        needs_admin("a copy to further stores", "copy_image");
    }
    let own = config.members.iter().find(|member| **member == token.project_id);
    if let Some(own) = own {
        let error =
            Error::config(format!("`OPENSTACK_MEMBERS` has the image's own project `{own}`"))
                .with_hint("remove it from OPENSTACK_MEMBERS");
        findings.push(Finding::error("members", &error));
    }
    let by_credential =
        matches!(cloud.login.method, crate::login::Method::ApplicationCredential { .. });
    if config.accept_members && by_credential {
        findings.push(Finding::warning(
            "members",
            "an application credential belongs to one project, so the image is not accepted in others",
            "accept it there: openstack image set --accept ID; or use a password",
        ));
    }
    findings
}

async fn image_name(cloud: &Cloud, config: &Config, build: &Build) -> Result<Vec<Finding>> {
    const SUBJECT: &str = "image name";
    let name = &build.image_name;
    if name.is_empty() {
        return Ok(Vec::new());
    }
    let older = replace::older(cloud, build, None).await?;
    let ids: Vec<&str> = older.iter().map(|image| image.id()).collect();
    let ids = ids.join(", ");
    let warn = |message: String, hint: &str| Finding::warning(SUBJECT, message, hint);
    let mut findings = match config.if_exists {
        _ if older.is_empty() => vec![Finding::ok(
            SUBJECT,
            format!("no visible image of the project is called `{name}`"),
        )],
        IfExists::Fail => vec![Finding::error(SUBJECT, &crate::publish::taken(name, &ids))],
        IfExists::Keep => vec![warn(
            format!(
                "images of the project are called `{name}` already, and names are not unique: {ids}"
            ),
            "set OPENSTACK_IF_EXISTS to `hide` or `replace` to have one visible image of the name",
        )],
        IfExists::Hide => vec![warn(
            format!("images `{name}` will be hidden when the new image is active: {ids}"),
            "set OPENSTACK_IF_EXISTS=keep to keep them visible",
        )],
        IfExists::Replace => vec![warn(
            format!(
                "images `{name}` will be hidden when the new image is active, and deleted after the release: {ids}"
            ),
            "set OPENSTACK_IF_EXISTS=keep to keep them",
        )],
    };
    if config.if_exists == IfExists::Replace {
        findings.extend(older.iter().filter(|image| image.is("protected")).map(|image| {
            warn(
                format!("image `{}` is protected: it will be hidden, but not deleted", image.id()),
                "remove its protection: openstack image set --unprotected ID",
            )
        }));
    }
    let project = cloud.project();
    let all = cloud.images_named(name, false).await?;
    let foreign = all
        .iter()
        .filter(|image| image.text("owner") != project && image.text(RUN) != build.run_id)
        .count();
    if foreign > 0 {
        findings.push(warn(
            format!("{foreign} visible images of other projects are called `{name}`, too; they stay as they are"),
            "use the image by its id, or choose another CLOUD_IMAGE_NAME",
        ));
    }
    Ok(findings)
}

fn plain(cloud: &Cloud) -> Option<Finding> {
    let urls = [&cloud.login.auth_url, &cloud.endpoint];
    let exposed = urls.into_iter().find(|url| is_exposed(url))?;
    Some(Finding::warning(
        "TLS",
        format!(
            "the connection to `{exposed}` is not encrypted: others can read password and token"
        ),
        "use the https URL of the service, if it has one",
    ))
}

fn clock(cloud: &Cloud) -> Option<Finding> {
    let issued = cloud.token().issued?;
    let skew = issued.as_second() - jiff::Timestamp::now().as_second();
    (skew.abs() > CLOCK_WARNING).then(|| {
        let direction = if skew > 0 { "behind" } else { "ahead of" };
        Finding::warning(
            "clock",
            format!("the clock of this machine is {} s {direction} that of the cloud", skew.abs()),
            "set the clock; it decides when tokens are renewed and certificates are valid",
        )
    })
}
