//! STS GetCallerIdentity, and of RAM what tells whether the role exists that lets ECS read
//! buckets: GetRole and ListPoliciesForRole.

use serde_json::{Value, json};

use crate::acs::unknown_action;
use crate::config::Config;
use crate::ecs::error::AcsError;
use crate::ecs::params::Params;
use crate::service::ACCOUNT_ID;

/// The role ECS takes unless told another.
pub(crate) const IMPORT_ROLE: &str = "AliyunECSImageImportDefaultRole";
const IMPORT_POLICY: &str = "AliyunECSImageImportRolePolicy";

/// Whether a role of this name exists.
pub(crate) fn role_exists(config: &Config, name: &str) -> bool {
    config.import_role && name == IMPORT_ROLE
}

/// Serves one STS call.
pub(crate) fn serve_sts(action: &str, key_id: &str) -> Result<Value, AcsError> {
    match action {
        "GetCallerIdentity" => Ok(json!({
            "IdentityType": "RAMUser",
            "AccountId": ACCOUNT_ID,
            "Arn": format!("acs:ram::{ACCOUNT_ID}:user/{key_id}"),
            "PrincipalId": "200000000000000001",
            "UserId": "200000000000000001",
        })),
        other => Err(unknown_action(other)),
    }
}

/// Serves one RAM call.
pub(crate) fn serve_ram(config: &Config, action: &str, params: &Params) -> Result<Value, AcsError> {
    if !matches!(action, "GetRole" | "ListPoliciesForRole") {
        return Err(unknown_action(action));
    }
    let name = params.need("RoleName")?;
    if !role_exists(config, name) {
        return Err(AcsError::new(
            404,
            "EntityNotExist.Role",
            &format!("The role not exists: {name}."),
        ));
    }
    if action == "ListPoliciesForRole" {
        return Ok(json!({ "Policies": { "Policy": [{
            "PolicyName": IMPORT_POLICY,
            "PolicyType": "System",
            "DefaultVersion": "v1",
            "Description": "Lets ECS read the objects that images are imported from.",
            "AttachDate": "2024-01-01T00:00:00Z",
        }] } }));
    }
    let trust = json!({
        "Statement": [{
            "Action": "sts:AssumeRole",
            "Effect": "Allow",
            "Principal": { "Service": ["ecs.aliyuncs.com"] },
        }],
        "Version": "1",
    });
    Ok(json!({ "Role": {
        "RoleId": "300000000000000001",
        "RoleName": name,
        "Arn": format!("acs:ram::{ACCOUNT_ID}:role/{}", name.to_lowercase()),
        "Description": "Lets ECS read the objects that images are imported from.",
        "AssumeRolePolicyDocument": trust.to_string(),
        "CreateDate": "2024-01-01T00:00:00Z",
        "UpdateDate": "2024-01-01T00:00:00Z",
        "MaxSessionDuration": 3600,
    } }))
}
