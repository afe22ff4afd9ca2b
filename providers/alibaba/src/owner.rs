//! Distinguishes clouds and accounts: a resource that one account created at one endpoint is not removed just
//! because another account does not find it.

use std::sync::Arc;

use build_image_plugin_api::{Context, Error, Resource, Result, retry::Policy};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, Place},
    credentials::Credentials,
    endpoint::Endpoint,
    state::ACCOUNT,
    sts::Sts,
};

/// Attributes of resources.
pub(crate) const ACCOUNT_ID: &str = "account";
pub(crate) const OSS_CLOUD: &str = "oss_endpoint";
pub(crate) const ECS_CLOUD: &str = "ecs_endpoint";

/// The account and the cloud that create resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// Account id, if STS reported it.
    #[serde(default)]
    account: Option<String>,
    /// The cloud behind the OSS endpoint (see [`Endpoint::cloud`]); empty in journals of earlier versions.
    #[serde(default)]
    oss: String,
    /// The same for ECS.
    #[serde(default)]
    ecs: String,
}

impl Owner {
    /// The owner of resources that are created at a place now.
    ///
    /// # Errors
    /// When the account that the check stored cannot be read.
    pub(crate) fn now(context: &Context, place: &Place) -> Result<Self> {
        Ok(Self {
            account: context.load(ACCOUNT)?,
            oss: place.oss.server().cloud().to_owned(),
            ecs: place.ecs.cloud().to_owned(),
        })
    }

    /// Adds this owner to an object or an upload.
    pub(crate) fn of_bucket(&self, resource: Resource) -> Resource {
        self.mark(resource, OSS_CLOUD, &self.oss)
    }

    /// Adds this owner to an image.
    pub(crate) fn of_region(&self, resource: Resource) -> Resource {
        self.mark(resource, ECS_CLOUD, &self.ecs)
    }

    fn mark(&self, resource: Resource, name: &str, cloud: &str) -> Resource {
        let marked = if cloud.is_empty() { resource } else { resource.with(name, cloud) };
        match &self.account {
            Some(account) => marked.with(ACCOUNT_ID, account),
            None => marked,
        }
    }

    /// Refuses to continue a run that another account, or the same one at another endpoint, began.
    ///
    /// # Errors
    /// Config error that names both.
    pub(crate) fn may_continue(&self, began: &Self) -> Result<()> {
        for (setting, then, now) in [
            ("ALIBABA_OSS_ENDPOINT", &began.oss, &self.oss),
            ("ALIBABA_ECS_ENDPOINT", &began.ecs, &self.ecs),
        ] {
            if !then.is_empty() && then != now {
                return Err(elsewhere("the run", then, now, setting));
            }
        }
        match (&began.account, &self.account) {
            (Some(then), Some(now)) if then != now => Err(of_another("the run", then, now)),
            _ => Ok(()),
        }
    }
}

fn elsewhere(what: &str, then: &str, now: &str, setting: &str) -> Error {
    Error::config(format!("{what} was begun at `{then}`, and this configuration reaches `{now}`"))
        .with_hint(format!("set {setting} as it was then, or build again in a new run"))
}

/// The error for a resource that was not found with the keys of an unknown account.
pub(crate) fn of_unknown(resource: &Resource) -> Error {
    let account = resource.attributes.get(ACCOUNT_ID).map_or("", String::as_str);
    let what = resource.label();
    Error::config(format!(
        "{what} of account {account} is not found; whose keys these are is not known"
    ))
    .with_hint("use keys of that account, and allow them sts:GetCallerIdentity")
}

fn of_another(what: &str, then: &str, now: &str) -> Error {
    Error::config(format!("{what} belongs to account {then}, and these keys are of account {now}"))
        .with_hint("use the keys of that account")
}

/// Compares resources with the present configuration before any is reported as removed.
pub(crate) struct Guard<'a> {
    pub(crate) config: &'a Config,
    pub(crate) credentials: &'a Arc<Credentials>,
    /// The account of the present keys, once it was requested; `Some(None)` when it could not be determined.
    pub(crate) account: Option<Option<String>>,
}

impl Guard<'_> {
    /// Refuses a resource of another cloud or account. Returns whether the account agrees. An account that
    /// cannot be determined is not a reason to refuse, but then a resource that is not found may exist for
    /// another account.
    ///
    /// # Errors
    /// Config error that names both.
    pub(crate) async fn check(&mut self, resource: &Resource) -> Result<bool> {
        let region = resource.region.as_deref().or(self.config.home().1).unwrap_or_default();
        let bucket = resource.attributes.get("bucket").map_or("", String::as_str);
        for (name, setting) in
            [(OSS_CLOUD, "ALIBABA_OSS_ENDPOINT"), (ECS_CLOUD, "ALIBABA_ECS_ENDPOINT")]
        {
            let Some(then) = resource.attributes.get(name) else { continue };
            let now = if name == OSS_CLOUD {
                self.config.oss_of(bucket, region)?.server().clone()
            } else {
                self.config.ecs_of(region)?
            };
            if then != now.cloud() {
                let error = elsewhere(&resource.label(), then, now.cloud(), setting);
                return Err(error.with_hint(format!("set {setting} as it was then")));
            }
        }
        let Some(then) = resource.attributes.get(ACCOUNT_ID) else { return Ok(true) };
        if self.account.is_none() {
            self.account = Some(self.learn().await);
        }
        match self.account.as_ref().and_then(Option::as_ref) {
            Some(now) if now != then => Err(of_another(&resource.label(), then, now)),
            Some(_) => Ok(true),
            None => Ok(false),
        }
    }

    /// The account of the present keys; `None` when it cannot be determined.
    pub(crate) async fn learn(&self) -> Option<String> {
        if let Some(known) = self.credentials.account() {
            return Some(known);
        }
        let sts = self.config.sts().and_then(|place| Sts::at(&place, self.credentials));
        let result = match sts {
            Ok(sts) => sts.identity(&Policy::BRIEF).await.map_err(Error::from),
            Err(error) => Err(error),
        };
        match result {
            Ok(identity) => {
                self.credentials.belong_to(&identity.account_id);
                Some(identity.account_id)
            }
            Err(error) => {
                tracing::warn!(%error, "whose keys these are could not be learned");
                None
            }
        }
    }
}

impl Endpoint {
    /// The cloud behind the endpoint: all of the vendor's hosts are one cloud, any other server is a separate
    /// one.
    pub(crate) fn cloud(&self) -> &str {
        if self.host().ends_with(crate::endpoint::VENDOR_DOMAIN) {
            crate::endpoint::VENDOR_DOMAIN.trim_start_matches('.')
        } else {
            self.authority()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(account: Option<&str>, cloud: &str) -> Owner {
        Owner { account: account.map(str::to_owned), oss: cloud.into(), ecs: cloud.into() }
    }

    #[test]
    fn every_host_of_the_vendor_is_one_cloud_and_other_servers_are_their_own() {
        for (text, cloud) in [
            ("oss-cn-hangzhou.aliyuncs.com", "aliyuncs.com"),
            ("oss-cn-hangzhou-internal.aliyuncs.com", "aliyuncs.com"),
            ("http://127.0.0.1:81", "127.0.0.1:81"),
            ("stack.example.com", "stack.example.com"),
            ("notaliyuncs.com", "notaliyuncs.com"),
        ] {
            assert_eq!(Endpoint::parse("K", text).unwrap().cloud(), cloud);
        }
    }

    #[test]
    fn a_run_is_continued_by_its_owner_only() {
        let began = owner(Some("1"), "aliyuncs.com");
        assert!(owner(Some("1"), "aliyuncs.com").may_continue(&began).is_ok());
        // An unknown account is not a reason to refuse.
        assert!(owner(None, "aliyuncs.com").may_continue(&began).is_ok());
        assert!(owner(Some("2"), "x").may_continue(&Owner::default()).is_ok());
        let error = owner(Some("2"), "aliyuncs.com").may_continue(&began).unwrap_err();
        assert!(error.message.contains("account 1"), "{error}");
        let error = owner(Some("1"), "x:1").may_continue(&began).unwrap_err();
        assert!(error.hint.unwrap().contains("ALIBABA_OSS_ENDPOINT"));
    }
}
