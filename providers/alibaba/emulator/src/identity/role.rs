//! Defines the roles that exist from the start, and what a role permits.

use serde_json::{Value, json};

use crate::clock::Millis;
use crate::config::Config;
use crate::ecs::error::AcsError;
use crate::service::ACCOUNT_ID;
use crate::state::{Attached, Role, StateError, World};

/// The role with which ECS reads buckets unless another one is given.
pub(crate) const IMPORT_ROLE: &str = "AliyunECSImageImportDefaultRole";
/// The role of the instance behind the metadata service.
pub(crate) const INSTANCE_ROLE: &str = "emulator-role";
const IMPORT_POLICY: &str = "AliyunECSImageImportRolePolicy";
const MAX_SESSION: i64 = 3600;

/// Creates the roles that exist from the start.
pub(crate) fn seed(world: &mut World, config: &Config) -> Result<(), StateError> {
    if config.import_role {
        let principal = json!({ "Service": ["ecs.aliyuncs.com"] });
        plant(world, IMPORT_ROLE, &principal, Some(IMPORT_POLICY))?;
    } else {
        world.roles.remove(IMPORT_ROLE)?;
    }
    let principal = json!({
        "Service": ["ecs.aliyuncs.com"],
        "RAM": [format!("acs:ram::{ACCOUNT_ID}:root")],
        "Federated": [format!("acs:ram::{ACCOUNT_ID}:oidc-provider/emulator")],
    });
    plant(world, INSTANCE_ROLE, &principal, None)
}

fn plant(
    world: &mut World,
    name: &str,
    principal: &Value,
    policy: Option<&str>,
) -> Result<(), StateError> {
    if world.roles.get(name).is_some() {
        return Ok(());
    }
    let trust = json!({
        "Statement": [{ "Action": "sts:AssumeRole", "Effect": "Allow", "Principal": principal }],
        "Version": "1",
    });
    let attached =
        |name: &str| Attached { name: name.to_owned(), kind: "System".to_owned(), at: 0 };
    world.roles.put(Role {
        name: name.to_owned(),
        description: "There from the start.".to_owned(),
        trust: trust.to_string(),
        created: 0,
        max_session: MAX_SESSION,
        policies: policy.map(attached).into_iter().collect(),
    })?;
    Ok(())
}

/// 404 `EntityNotExist.Role`.
pub(crate) fn missing(name: &str) -> AcsError {
    AcsError::new(404, "EntityNotExist.Role", &format!("The role not exists: {name}."))
}

/// The role's resource name.
pub(crate) fn arn(name: &str) -> String {
    format!("acs:ram::{ACCOUNT_ID}:role/{}", name.to_lowercase())
}

/// The role that a resource name refers to.
pub(crate) fn of_arn<'a>(world: &'a World, text: &str) -> Result<&'a Role, AcsError> {
    let wanted = text.to_lowercase();
    world
        .roles
        .iter()
        .find(|role| arn(&role.name) == wanted)
        .ok_or_else(|| missing(text.rsplit('/').next().unwrap_or(text)))
}

/// Whether the named role trusts a principal, such as the service `ecs.aliyuncs.com`.
pub(crate) fn trusts(role: &Role, kind: &str, principal: &str) -> bool {
    let Ok(policy) = serde_json::from_str::<Value>(&role.trust) else { return false };
    let named = |value: &Value| match value {
        Value::String(one) => one == principal,
        Value::Array(many) => many.iter().any(|one| one == principal),
        _ => false,
    };
    let statements = policy["Statement"].as_array().cloned().unwrap_or_default();
    statements.iter().any(|each| each["Effect"] == "Allow" && named(&each["Principal"][kind]))
}

/// Whether ECS may read buckets with this role by now: it trusts ECS and has a policy that was attached at
/// least the configured delay ago.
pub(crate) fn lets_ecs_read(config: &Config, world: &World, name: &str, now: Millis) -> bool {
    let delay = Millis::try_from(config.role_time.as_millis()).unwrap_or(Millis::MAX / 4);
    let Some(role) = world.roles.get(name) else { return false };
    trusts(role, "Service", "ecs.aliyuncs.com")
        && role.policies.iter().any(|policy| policy.at == 0 || policy.at + delay <= now)
}
