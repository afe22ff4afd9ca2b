//! Checks that ECS may read the bucket: the role, its trust policy, its permissions. On request, creates the
//! role and waits for it.

use std::time::{Duration, Instant};

use build_image_plugin_api::{
    Error, ErrorKind,
    document::Finding,
    retry::{Failure, Policy},
};

use crate::{
    acs::Parameters,
    cloud::Cloud,
    codes::ROLE_HINT,
    config::Config,
    ram::{DEFAULT_ROLE, POLICY, TRUST},
};

const SUBJECT: &str = "import role";
/// Longest wait until a new role is in force; a minute is usual.
const IN_FORCE: Duration = Duration::from_secs(180);
/// Codes that an import returns as long as the role is not in force.
pub(crate) const NO_ROLE: [&str; 3] =
    ["NoSetRoletoECSServiceAcount", "NoSetRoletoECSServiceAccount", "InvalidOSS.NotAuthorized"];

fn name(config: &Config) -> &str {
    let chosen = config.import.extra.iter().find(|(name, _)| *name == "RoleName");
    chosen.map_or(DEFAULT_ROLE, |(_, value)| value)
}

fn attach_command(role: &str) -> String {
    format!(
        "aliyun ram AttachPolicyToRole --PolicyType System --PolicyName {POLICY} --RoleName {role}"
    )
}

/// Result of a check of the role.
pub(crate) struct Look {
    pub(crate) finding: Finding,
    /// ECS may not read the bucket at present; the dry run of the import reports the same with less detail.
    pub(crate) shut: bool,
}

impl Look {
    fn open(finding: Finding) -> Option<Self> {
        Some(Self { finding, shut: false })
    }

    fn shut(finding: Finding) -> Option<Self> {
        Some(Self { finding, shut: true })
    }
}

/// What a build with `ALIBABA_CREATE_ROLE` would do about the role.
fn foreseen(text: String) -> Option<Look> {
    Look::shut(Finding::ok(SUBJECT, text))
}

fn missing(role: &str) -> Finding {
    let message = format!("role `{role}` does not exist: ECS may not read the bucket");
    let hint = ROLE_HINT.replace(DEFAULT_ROLE, role);
    Finding::error(SUBJECT, &Error::new(ErrorKind::Auth, message).with_hint(hint))
}

/// Checks the role and changes nothing. With `foresee`, a missing part is not an error: a build would create
/// it. A user without the right to check learns the result from the dry run of the import.
pub(crate) async fn look(cloud: &Cloud, config: &Config, foresee: bool) -> Option<Look> {
    let role = name(config);
    let trust = match cloud.ram.trust(role, &Policy::BRIEF).await {
        Ok(Some(trust)) => trust,
        Ok(None) if foresee => {
            return foreseen(format!("role `{role}` would be created, with policy {POLICY}"));
        }
        Ok(None) => return Look::shut(missing(role)),
        Err(failure) => {
            tracing::debug!(error = %failure.error, "the role cannot be looked at");
            return None;
        }
    };
    // Documents are plain or percent-encoded.
    if !trust.is_empty() && !trust.contains("ecs.aliyuncs.com") {
        let message = format!("role `{role}` does not trust ECS");
        let hint = format!(
            "change whom it trusts: aliyun ram UpdateRole --RoleName {role} --NewAssumeRolePolicyDocument '{TRUST}'"
        );
        return Look::shut(Finding::error(
            SUBJECT,
            &Error::new(ErrorKind::Auth, message).with_hint(hint),
        ));
    }
    let policies = cloud.ram.policies(role, &Policy::BRIEF).await.ok()?;
    if foresee && !policies.iter().any(|name| name == POLICY) {
        return foreseen(format!("role `{role}` would get policy {POLICY}"));
    }
    let enough = if role == DEFAULT_ROLE {
        policies.iter().any(|name| name == POLICY)
    } else {
        !policies.is_empty()
    };
    if enough {
        return Look::open(Finding::ok(SUBJECT, format!("ECS reads the bucket as `{role}`")));
    }
    Look::open(Finding::warning(
        SUBJECT,
        format!("role `{role}` has no policy that lets ECS read objects"),
        format!("attach one: {}", attach_command(role)),
    ))
}

/// Creates the missing parts of the role, and waits until an import would be permitted. Does nothing if no
/// part is missing.
///
/// # Errors
/// Refusals, and a role that does not come into force.
pub(crate) async fn ensure(
    cloud: &Cloud,
    config: &Config,
    import: &Parameters,
) -> Result<Option<Finding>, Failure> {
    let role = name(config);
    let policy = &Policy::BRIEF;
    let there = cloud.ram.trust(role, policy).await?.is_some();
    if !there {
        cloud.ram.create(role, policy).await?;
    }
    let able = there && cloud.ram.policies(role, policy).await?.iter().any(|name| name == POLICY);
    if able {
        return Ok(None);
    }
    cloud.ram.attach(role, policy).await?;
    let deadline = Instant::now() + IN_FORCE;
    let mut pause = Duration::from_millis(250);
    loop {
        match cloud.ecs.import_image(import, policy).await {
            Err(failure) if failure.has_code(&NO_ROLE) => {
                if Instant::now() >= deadline {
                    return Err(failure);
                }
            }
            // Any other refusal is reported by the import's own check.
            _ => break,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    let text = if there { "got its policy" } else { "was created" };
    Ok(Some(Finding::ok(SUBJECT, format!("role `{role}` {text}; ECS reads the bucket with it"))))
}
