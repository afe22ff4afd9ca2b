//! Implements RAM, as far as an importer needs it: looking up and creating the role with which ECS reads
//! buckets.

use serde_json::{Value, json};

use super::role;
use crate::acs::unknown_action;
use crate::clock;
use crate::ecs::error::AcsError;
use crate::ecs::params::Params;
use crate::service::Context;
use crate::state::{Attached, Role};

const MAX_NAME: usize = 64;

/// Serves one RAM call.
pub(crate) fn serve(
    context: &Context<'_>,
    action: &str,
    params: &Params,
) -> Result<Value, AcsError> {
    match action {
        "CreateRole" => create(context, params),
        "GetRole" => Ok(json!({ "Role": fields(&find(context, params)?) })),
        "DeleteRole" => delete(context, params),
        "ListPoliciesForRole" => list_policies(context, params),
        "AttachPolicyToRole" => attach(context, params),
        "DetachPolicyFromRole" => detach(context, params),
        other => Err(unknown_action(other)),
    }
}

fn find(context: &Context<'_>, params: &Params) -> Result<Role, AcsError> {
    let name = params.need("RoleName")?;
    context.store.world().roles.get(name).cloned().ok_or_else(|| role::missing(name))
}

fn fields(role: &Role) -> Value {
    json!({
        "RoleId": "300000000000000001",
        "RoleName": role.name,
        "Arn": role::arn(&role.name),
        "Description": role.description,
        "AssumeRolePolicyDocument": role.trust,
        "CreateDate": clock::iso(role.created),
        "UpdateDate": clock::iso(role.created),
        "MaxSessionDuration": role.max_session,
    })
}

fn create(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let name = params.need("RoleName")?;
    let shaped = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    if !shaped || name.len() > MAX_NAME {
        return Err(AcsError::invalid("InvalidParameter.RoleName.InvalidChars", "RoleName"));
    }
    let trust = params.need("AssumeRolePolicyDocument")?;
    let policy = serde_json::from_str::<Value>(trust).ok();
    if policy.is_none_or(|policy| !policy["Statement"].is_array()) {
        return Err(AcsError::invalid("MalformedPolicyDocument", "AssumeRolePolicyDocument"));
    }
    let max_session = match params.get("MaxSessionDuration") {
        None => 3600,
        Some(text) => {
            text.parse().ok().filter(|time| (3600..=43_200).contains(time)).ok_or_else(|| {
                AcsError::invalid("InvalidParameter.MaxSessionDuration", "MaxSessionDuration")
            })?
        }
    };
    let mut world = context.store.world();
    if world.roles.get(name).is_some() {
        return Err(AcsError::new(
            409,
            "EntityAlreadyExists.Role",
            &format!("The role already exists: {name}."),
        ));
    }
    let role = Role {
        name: name.to_owned(),
        description: params.get("Description").unwrap_or_default().to_owned(),
        trust: trust.to_owned(),
        created: context.now,
        max_session,
        policies: Vec::new(),
    };
    let answer = json!({ "Role": fields(&role) });
    world.roles.put(role)?;
    Ok(answer)
}

fn delete(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let role = find(context, params)?;
    if !role.policies.is_empty() {
        return Err(AcsError::new(
            409,
            "DeleteConflict.Role.Policy",
            "The role cannot be deleted while policies are attached to it.",
        ));
    }
    context.store.world().roles.remove(&role.name)?;
    Ok(json!({}))
}

fn list_policies(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let row = |policy: &Attached| {
        json!({
            "PolicyName": policy.name,
            "PolicyType": policy.kind,
            "DefaultVersion": "v1",
            "Description": "",
            "AttachDate": clock::iso(policy.at),
        })
    };
    let policies: Vec<Value> = find(context, params)?.policies.iter().map(row).collect();
    Ok(json!({ "Policies": { "Policy": policies } }))
}

/// The policy that a call names. The vendor's own are called `Aliyun…`; no others exist here.
fn policy(context: &Context<'_>, params: &Params) -> Result<Attached, AcsError> {
    let kind = params.need("PolicyType")?;
    let name = params.need("PolicyName")?;
    if !matches!(kind, "System" | "Custom") {
        return Err(AcsError::invalid("InvalidParameter.PolicyType", "PolicyType"));
    }
    if kind == "Custom" || !name.starts_with("Aliyun") {
        return Err(AcsError::new(
            404,
            "EntityNotExist.Policy",
            &format!("The policy not exists: {name}."),
        ));
    }
    Ok(Attached { name: name.to_owned(), kind: kind.to_owned(), at: context.now })
}

fn attach(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let policy = policy(context, params)?;
    let mut role = find(context, params)?;
    if role.policies.iter().any(|known| known.name == policy.name) {
        return Err(AcsError::new(
            409,
            "EntityAlreadyExists.Role.Policy",
            "The policy is attached to the role already.",
        ));
    }
    role.policies.push(policy);
    context.store.world().roles.put(role)?;
    Ok(json!({}))
}

fn detach(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let policy = policy(context, params)?;
    let mut role = find(context, params)?;
    let before = role.policies.len();
    role.policies.retain(|known| known.name != policy.name);
    if role.policies.len() == before {
        return Err(AcsError::new(
            404,
            "EntityNotExist.Role.Policy",
            "The policy is not attached to the role.",
        ));
    }
    context.store.world().roles.put(role)?;
    Ok(json!({}))
}
