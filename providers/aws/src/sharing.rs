//! Shares images: with accounts, organizations, organizational units, or every account.
//!
//! Source: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyImageAttribute.html>.

use build_image_plugin_api::{
    Error, ErrorKind, Result,
    retry::{Failure, Policy},
};
use serde::{Deserialize, Serialize};

use crate::{
    client::CALL,
    config::Audience,
    ec2::{Ec2, Items, Parameters, pairs},
    permissions::Call,
};

/// Member that means every account.
const GROUP: &str = "Group";

/// Who may start instances of an image: one member is set.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Permission {
    user_id: Option<String>,
    group: Option<String>,
    organization_arn: Option<String>,
    organizational_unit_arn: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "launchPermission", default)]
    permissions: Items<Permission>,
}

impl Permission {
    /// The permission of every account.
    pub(crate) fn everyone() -> Self {
        Self { group: Some("all".to_owned()), ..Self::default() }
    }

    /// Parses the id of an account, or the ARN of an organization or unit.
    ///
    /// # Errors
    /// Config error for another text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let owned = Some(text.to_owned());
        let is_arn = |part: &str| text.starts_with("arn:") && text.contains(part);
        let none = Self::default();
        if text.len() == 12 && text.bytes().all(|digit| digit.is_ascii_digit()) {
            Ok(Self { user_id: owned, ..none })
        } else if is_arn(":organization/") {
            Ok(Self { organization_arn: owned, ..none })
        } else if is_arn(":ou/") {
            Ok(Self { organizational_unit_arn: owned, ..none })
        } else {
            Err(Error::config(format!("`{text}` is not an account"))
                .with_hint("write an account id of twelve digits, or the ARN of an organization or organizational unit"))
        }
    }

    /// Returns the account, if it is the permission of one.
    pub(crate) fn account(&self) -> Option<&str> {
        self.user_id.as_deref()
    }

    /// Returns the name and the value of the member that is set.
    fn member(&self) -> Option<(&'static str, &str)> {
        let members = [
            ("UserId", &self.user_id),
            (GROUP, &self.group),
            ("OrganizationArn", &self.organization_arn),
            ("OrganizationalUnitArn", &self.organizational_unit_arn),
        ];
        members.into_iter().find_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

/// Returns the accounts, organizations, and units of permissions.
pub(crate) fn members(permissions: &[Permission]) -> Vec<String> {
    let named = permissions.iter().filter_map(Permission::member);
    let named = named.filter(|(name, _)| *name != GROUP);
    let mut all: Vec<String> = named.map(|(_, value)| value.to_owned()).collect();
    all.sort();
    all
}

/// Whether permissions include every account.
pub(crate) fn is_public(permissions: &[Permission]) -> bool {
    permissions.contains(&Permission::everyone())
}

impl Audience {
    /// Returns the permissions that make up the audience.
    pub(crate) fn permissions(&self) -> Vec<Permission> {
        let none = Permission::default;
        let accounts = self.accounts.iter().cloned();
        let organizations = self.organizations.iter().cloned();
        let units = self.units.iter().cloned();
        accounts
            .map(|id| Permission { user_id: Some(id), ..none() })
            .chain(organizations.map(|arn| Permission { organization_arn: Some(arn), ..none() }))
            .chain(units.map(|arn| Permission { organizational_unit_arn: Some(arn), ..none() }))
            .chain(self.public.then(Permission::everyone))
            .collect()
    }
}

/// Returns who may use an image.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn permissions(
    ec2: &Ec2,
    id: &str,
    policy: &Policy,
) -> Result<Vec<Permission>, Failure> {
    let parameters = pairs(&[("ImageId", id), ("Attribute", "launchPermission")]);
    let object = format!("image `{id}`");
    let answer: Answer =
        ec2.ask(Call::DescribeImageAttribute, &parameters, &object, policy).await?;
    Ok(answer.permissions.item)
}

/// Adds permissions.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn add(
    ec2: &Ec2,
    id: &str,
    permissions: &[Permission],
    policy: &Policy,
) -> Result<(), Failure> {
    change(ec2, id, "Add", permissions, policy).await
}

/// Adds or removes permissions (`kind` is `Add` or `Remove`).
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn change(
    ec2: &Ec2,
    id: &str,
    kind: &str,
    permissions: &[Permission],
    policy: &Policy,
) -> Result<(), Failure> {
    if permissions.is_empty() {
        return Ok(());
    }
    let parameters = parameters(id, kind, permissions);
    let object = format!("image `{id}`");
    ec2.call(Call::ModifyImageAttribute, &parameters, &object, policy).await.map(drop)
}

/// Returns the parameters that add or remove permissions (`kind` is `Add` or `Remove`).
pub(crate) fn parameters(id: &str, kind: &str, permissions: &[Permission]) -> Parameters {
    let mut parameters = pairs(&[("ImageId", id)]);
    for (position, permission) in permissions.iter().enumerate() {
        if let Some((name, value)) = permission.member() {
            let name = format!("LaunchPermission.{kind}.{}.{name}", position + 1);
            parameters.push((name, value.to_owned()));
        }
    }
    parameters
}

/// Shares an image as the settings request, and compares afterwards.
///
/// # Errors
/// Refusals; permissions that the service accepted and does not show.
pub(crate) async fn share(ec2: &Ec2, id: &str, audience: &Audience) -> Result<usize> {
    let wanted = audience.permissions();
    if wanted.is_empty() {
        return Ok(0);
    }
    let missing = async || {
        let present = permissions(ec2, id, &CALL).await?;
        let absent = wanted.iter().filter(|permission| !present.contains(permission)).cloned();
        Ok::<Vec<Permission>, Failure>(absent.collect())
    };
    let absent = missing().await?;
    if !absent.is_empty() {
        add(ec2, id, &absent, &CALL).await?;
    }
    if let Some((name, value)) = missing().await?.iter().find_map(Permission::member) {
        let message = format!(
            "image `{id}` in {} is not shared with {name} `{value}`, although the service accepted it",
            ec2.region
        );
        return Err(Error::new(ErrorKind::Provider, message)
            .with_hint("look at the permissions of the image in the console, and resume the run"));
    }
    Ok(wanted.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_audience_is_a_permission() {
        let audience = Audience {
            accounts: vec!["123456789012".to_owned()],
            organizations: vec!["arn:o".to_owned()],
            units: vec!["arn:u".to_owned()],
            public: true,
        };
        let members: Vec<_> = audience.permissions();
        let members: Vec<_> = members.iter().filter_map(Permission::member).collect();
        assert_eq!(
            members,
            [
                ("UserId", "123456789012"),
                ("OrganizationArn", "arn:o"),
                ("OrganizationalUnitArn", "arn:u"),
                ("Group", "all")
            ]
        );
        assert!(Audience::default().permissions().is_empty());
    }

    #[test]
    fn permissions_are_read_as_the_service_shows_them() {
        let xml = "<DescribeImageAttributeResponse><imageId>ami-1</imageId><launchPermission><item><userId>123456789012</userId></item><item><group>all</group></item></launchPermission></DescribeImageAttributeResponse>";
        let answer: Answer = quick_xml::de::from_str(xml).unwrap();
        let audience = Audience {
            accounts: vec!["123456789012".to_owned()],
            public: true,
            ..Audience::default()
        };
        assert_eq!(answer.permissions.item, audience.permissions());
        let empty =
            "<DescribeImageAttributeResponse><launchPermission/></DescribeImageAttributeResponse>";
        let answer: Answer = quick_xml::de::from_str(empty).unwrap();
        assert!(answer.permissions.item.is_empty());
    }
}
