//! Calls RAM for the role with which ECS reads the bucket.
//!
//! Source: RAM API documentation, version 2015-05-01.

use std::sync::Arc;

use build_image_plugin_api::{
    Result,
    retry::{Failure, Policy},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{acs::Service, config::Place, credentials::Credentials, ecs::pairs};

/// Role that ECS uses when none is named.
pub(crate) const DEFAULT_ROLE: &str = "AliyunECSImageImportDefaultRole";
/// System policy that allows it to read objects.
pub(crate) const POLICY: &str = "AliyunECSImageImportRolePolicy";
/// Trust policy that allows ECS to assume the role.
pub(crate) const TRUST: &str = r#"{"Version":"1","Statement":[{"Action":"sts:AssumeRole","Effect":"Allow","Principal":{"Service":["ecs.aliyuncs.com"]}}]}"#;

/// The access control service.
pub(crate) struct Ram(Service);

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RoleAnswer {
    role: RoleFacts,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RoleFacts {
    assume_role_policy_document: String,
}

impl Ram {
    /// Opens the service for a place.
    ///
    /// # Errors
    /// When no connections can be made at all.
    pub(crate) fn open(place: &Place, credentials: Arc<Credentials>) -> Result<Self> {
        Service::open(&place.ram, "2015-05-01", credentials).map(Self)
    }

    /// The trust policy of a role as text; `None` when the role does not exist.
    pub(crate) async fn trust(
        &self,
        role: &str,
        policy: &Policy,
    ) -> Result<Option<String>, Failure> {
        let parameters = pairs(&[("RoleName", role)]);
        let what = format!("role `{role}`");
        match self.0.call::<RoleAnswer>("GetRole", &parameters, &what, policy).await {
            Ok(answer) => Ok(Some(answer.role.assume_role_policy_document)),
            Err(failure) if failure.has_code(&["EntityNotExist.Role"]) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Names of the policies attached to a role.
    pub(crate) async fn policies(
        &self,
        role: &str,
        policy: &Policy,
    ) -> Result<Vec<String>, Failure> {
        let parameters = pairs(&[("RoleName", role)]);
        let what = format!("role `{role}`");
        let answer: Value = self.0.call("ListPoliciesForRole", &parameters, &what, policy).await?;
        let list = answer["Policies"]["Policy"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(list.iter().filter_map(|row| row["PolicyName"].as_str().map(str::to_owned)).collect())
    }

    /// Creates a role that ECS may assume; one that exists is not an error.
    pub(crate) async fn create(&self, role: &str, policy: &Policy) -> Result<(), Failure> {
        let parameters = pairs(&[("RoleName", role), ("AssumeRolePolicyDocument", TRUST)]);
        self.change("CreateRole", &parameters, role, policy).await
    }

    /// Attaches the policy for reading objects to a role; one that is already attached is not an error.
    pub(crate) async fn attach(&self, role: &str, policy: &Policy) -> Result<(), Failure> {
        let parameters =
            pairs(&[("PolicyType", "System"), ("PolicyName", POLICY), ("RoleName", role)]);
        self.change("AttachPolicyToRole", &parameters, role, policy).await
    }

    async fn change(
        &self,
        action: &str,
        parameters: &[(String, String)],
        role: &str,
        policy: &Policy,
    ) -> Result<(), Failure> {
        let what = format!("role `{role}`");
        match self.0.call::<Value>(action, &parameters.to_vec(), &what, policy).await {
            Err(failure) if !failure.code.starts_with("EntityAlreadyExists") => Err(failure),
            _ => Ok(()),
        }
    }
}
