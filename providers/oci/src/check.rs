//! Runs the preflight checks: collects everything that would make a later step fail and reports it at once. Nothing is
//! created, except a token.

use std::{sync::Arc, time::Duration};

use build_image_plugin_api::{
    Context, Error, ErrorKind, MachineNeeds, Resource, Result,
    document::{Build, CheckReport, CheckRequest, Finding},
    http::Answer,
    retry::Policy,
};
use reqwest::Method;

use crate::{
    config::{Config, Kind, Tls},
    disk,
    http::foreign,
    owner::Owner,
    publish::{MANIFEST, TAG, TagState, tag_state, taken},
    reference::{TAG_RULE, is_tag},
    registry::{Authorization, Call, Registry, Session},
    session::{STARTED, Started},
    token,
};

/// Time limit of one check; a reachable registry answers in one or two seconds.
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
    let tags = config.all_tags(build);
    let mut creates = vec![Resource::new(MANIFEST, config.reference.name()).as_deliverable()];
    creates.extend(tags.iter().map(|tag| Resource::new(TAG, tag).as_deliverable()));
    let mut report = CheckReport::default().disk(config.disk.clone()).creates(creates).permissions(
        ["pull", "push"].map(|word| format!("repository:{}:{word}", config.reference.repository)),
    );
    if config.kind == Kind::Artifact {
        // It is not known what reads an artifact.
        report = report.machines(MachineNeeds::default());
    }
    report.findings.extend(disk::finding(&config.disk, &request.host));
    report.findings.extend(tags.iter().filter(|tag| !is_tag(tag)).map(|tag| {
        let error = Error::config(format!("`{tag}` is not a tag")).with_hint(TAG_RULE);
        Finding::error("tags", &error)
    }));
    if tags.is_empty() {
        let error = Error::config("the image has no tag")
            .with_hint("add one to OCI_REFERENCE, or set CLOUD_IMAGE_NAME");
        report.findings.push(Finding::error("tags", &error));
    }
    if config.kind == Kind::ContainerDisk
        && config.disk.format == build_image_plugin_api::DiskFormat::Raw
        && config.compression == crate::config::LayerCompression::None
    {
        report.findings.push(Finding::warning(
            "disk",
            "a raw disk is sent with all its free space",
            "set OCI_DISK_FORMAT=qcow2, or OCI_LAYER_COMPRESSION",
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

async fn online(
    context: &Context,
    config: &Config,
    session: &Arc<Session>,
    build: &Build,
    started: Option<&Started>,
) -> Vec<Finding> {
    const REGISTRY: &str = "registry";
    let failed = |subject: &str, error: &Error| vec![Finding::error(subject, error)];
    let open = Registry::open(context, config, session, Policy::BRIEF);
    let registry = match within(open).await {
        Ok(registry) => registry,
        Err(error) => return failed(REGISTRY, &error),
    };
    let answer = match within(async { Ok(ping(&registry).await?) }).await {
        Ok(answer) => answer,
        Err(error) if error.kind == ErrorKind::Auth => return failed("credentials", &error),
        Err(error) => return failed(REGISTRY, &error),
    };
    let mut findings = vec![Finding::ok(REGISTRY, format!("`{}`", registry.origin()))];
    if let Some(started) = started
        && let Err(error) = Owner::of(&registry).may_use("the run", &started.owner)
    {
        findings.push(Finding::error("settings", &error));
    }
    findings.extend(connection(config, &registry));
    match within(tags(&registry, config, build)).await {
        Ok(found) => {
            findings.extend(permissions(&registry));
            findings.extend(found);
        }
        Err(error) if error.kind == ErrorKind::Auth => {
            findings.push(Finding::error("credentials", &error));
        }
        Err(error) => findings.push(Finding::error("tags", &error)),
    }
    findings.extend(clock(&answer));
    findings
}

async fn within<T>(check: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(LIMIT, check).await.unwrap_or_else(|_| {
        let message = format!("the registry did not answer within {} s", LIMIT.as_secs());
        Err(Error::new(ErrorKind::Timeout, message)
            .with_hint(crate::http::HINTS.unreachable)
            .retryable())
    })
}

/// Asks whether the server is a registry ("Determining Support").
async fn ping(registry: &Registry) -> Result<Answer, build_image_plugin_api::retry::Failure> {
    let what = format!("reach the registry `{}`", registry.reference.registry);
    let call = Call::new(Method::GET, registry.root());
    match registry.call(&call, &what).await {
        Err(failure) if failure.has_status(404) => Err(foreign(&what)),
        other => other,
    }
}

/// What is known of the permissions: a web token states them, another token and a password do not.
fn permissions(registry: &Registry) -> Vec<Finding> {
    const SUBJECT: &str = "credentials";
    let source = &registry.credentials.source;
    let repository = &registry.reference.repository;
    let Authorization::Token(found) = registry.authorization() else {
        return vec![match registry.authorization() {
            Authorization::Nothing => Finding::ok(SUBJECT, "the registry wants none for reading"),
            _ => Finding::ok(SUBJECT, format!("accepted, from {source}")),
        }];
    };
    match token::granted(&found.value, repository) {
        Some(granted) if !granted.contains("push") => {
            let message =
                format!("the token from {source} does not permit pushing to `{repository}`");
            let error = Error::new(ErrorKind::Auth, message).with_hint(
                "use credentials that may push, or ask the registry's operator for the permission",
            );
            vec![Finding::error(SUBJECT, &error)]
        }
        Some(granted) => {
            let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
            vec![Finding::ok(
                SUBJECT,
                format!("a token permits {}, from {source}", granted.join(", ")),
            )]
        }
        None => vec![Finding::ok(SUBJECT, format!("accepted, from {source}"))],
    }
}

async fn tags(registry: &Registry, config: &Config, build: &Build) -> Result<Vec<Finding>> {
    const SUBJECT: &str = "tags";
    let mut findings = Vec::new();
    let mut free = Vec::new();
    for tag in config.all_tags(build).iter().filter(|tag| is_tag(tag)) {
        match tag_state(registry, tag).await? {
            TagState::Free => free.push(format!("`{tag}`")),
            TagState::At(digest) if config.replace => findings.push(Finding::warning(
                SUBJECT,
                format!(
                    "tag `{tag}` will be moved from `{digest}` unless the new image is the same"
                ),
                "set OCI_IF_EXISTS=fail to keep it",
            )),
            TagState::At(digest) => {
                // The digest of the new image follows from a disk that may not exist yet.
                let error = taken(registry, tag, &digest);
                findings.push(Finding::warning(
                    SUBJECT,
                    format!("tag `{tag}` exists: the build fails unless its image is the same as `{digest}`"),
                    error.hint.unwrap_or_default(),
                ));
            }
        }
    }
    if !free.is_empty() {
        findings.insert(
            0,
            Finding::ok(SUBJECT, format!("{} of `{}`", free.join(", "), registry.reference.name())),
        );
    }
    Ok(findings)
}

fn connection(config: &Config, registry: &Registry) -> Vec<Finding> {
    let warn = |message: String, hint: &str| vec![Finding::warning("TLS", message, hint)];
    if registry.is_plain() && !registry.is_here() {
        let message = format!(
            "the connection to `{}` is not encrypted: others can read password and disk, and change both",
            registry.reference.registry
        );
        return warn(message, "unset OCI_TLS if the registry has HTTPS");
    }
    if config.access.tls == Tls::Insecure {
        let message = format!(
            "the certificate of `{}` is not verified: another server may take its place",
            registry.reference.registry
        );
        return warn(
            message,
            "name the registry's CA certificate in OCI_CA_FILE, and unset OCI_TLS",
        );
    }
    Vec::new()
}

fn clock(answer: &Answer) -> Option<Finding> {
    let text = answer.header("date")?;
    let server = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let skew = server.as_second() - jiff::Timestamp::now().as_second();
    (skew.abs() > CLOCK_WARNING).then(|| {
        let direction = if skew > 0 { "behind" } else { "ahead of" };
        Finding::warning(
            "clock",
            format!(
                "the clock of this machine is {} s {direction} that of the registry",
                skew.abs()
            ),
            "set the clock; it decides whether certificates and tokens are valid",
        )
    })
}
