//! Distinguishes accounts and clouds: what one account created is not gone just because another account, or another
//! cloud, does not find it.

use build_image_plugin_api::{Error, Resource, Result, retry::Policy};
use serde::{Deserialize, Serialize};

use crate::{
    cloud::Cloud,
    partition::{Api, Partition},
};

/// Attributes of resources.
const ACCOUNT: &str = "account";
const CLOUD: &str = "cloud";
/// Attribute with the run that created a resource.
pub(crate) const RUN: &str = "run";

/// The account and the cloud that hold what a run creates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) account: String,
    /// Name of the partition, or URL of an endpoint that the user chose.
    cloud: String,
}

impl Owner {
    /// Returns the owner of what is created now.
    ///
    /// # Errors
    /// Refused credentials, and broken connections.
    pub(crate) async fn now(cloud: &Cloud<'_>, policy: &Policy) -> Result<Self> {
        let account = cloud.account(policy).await?;
        let endpoint = cloud.service(Api::Ec2, &cloud.region)?.endpoint;
        let partition = Partition::of(&cloud.region).name;
        // Private endpoints of the vendor reach the same account.
        let own = !endpoint.chosen || endpoint.url.contains(".amazonaws.com");
        let cloud = if own { partition.to_owned() } else { endpoint.url };
        Ok(Self { account, cloud })
    }

    /// Adds this owner and the run to a resource.
    pub(crate) fn mark(&self, resource: Resource, run: &str) -> Resource {
        resource.with(ACCOUNT, &self.account).with(CLOUD, &self.cloud).with(RUN, run)
    }

    /// Refuses what another owner created. `what` begins the message.
    ///
    /// # Errors
    /// Config error that names both.
    pub(crate) fn may_use(&self, what: &str, began: &Self) -> Result<()> {
        let refuse = |thing: &str, then: &str, now: &str, hint: &str| {
            Err(Error::config(format!(
                "{what} belongs to {thing} `{then}`, and these settings use `{now}`"
            ))
            .with_hint(hint))
        };
        if began.cloud != self.cloud {
            return refuse(
                "the cloud",
                &began.cloud,
                &self.cloud,
                "use the AWS_ENDPOINT_URL and AWS_REGION of that time",
            );
        }
        if began.account != self.account {
            return refuse(
                "account",
                &began.account,
                &self.account,
                "use credentials of that account, or build again in a new run",
            );
        }
        Ok(())
    }

    /// As [`Owner::may_use`], for a resource.
    ///
    /// # Errors
    /// As [`Owner::may_use`].
    pub(crate) fn may_remove(&self, resource: &Resource) -> Result<()> {
        let text = |name: &str| resource.attributes.get(name).cloned().unwrap_or_default();
        self.may_use(&resource.label(), &Self { account: text(ACCOUNT), cloud: text(CLOUD) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_removed_only_with_its_account_and_cloud() {
        let owner = |account: &str, cloud: &str| Owner {
            account: account.to_owned(),
            cloud: cloud.to_owned(),
        };
        let resource = owner("1", "aws").mark(Resource::new("image", "i"), "r-1");
        assert_eq!(resource.attributes[RUN], "r-1");
        assert!(owner("1", "aws").may_remove(&resource).is_ok());
        for (other, text) in
            [(owner("2", "aws"), "account `1`"), (owner("1", "aws-cn"), "cloud `aws`")]
        {
            let error = other.may_remove(&resource).unwrap_err();
            assert!(error.message.contains(text) && error.hint.is_some(), "{error}");
        }
    }
}
