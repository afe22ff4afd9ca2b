//! Sets who can use an image: accounts, or everyone as a community image.
//!
//! Source: ECS API documentation, `ModifyImageSharePermission`.

use build_image_plugin_api::{Error, ErrorKind, document::Audience, retry::Failure};
use serde_json::{Value, json};

use super::{Done, Manager, Target, count};
use crate::{accounts::share_ids, client::CALL, ecs::pairs};

impl Manager<'_> {
    /// Shares an image with accounts.
    pub(super) async fn share(&self, target: &Target, accounts: &[String]) -> Done {
        let Target { ecs, image } = target;
        let accounts = share_ids("accounts", &json!(accounts))?;
        let before = ecs.shares(&image.image_id, &CALL).await?;
        let new: Vec<String> =
            accounts.into_iter().filter(|account| !before.contains(account)).collect();
        if new.is_empty() {
            return Ok(None);
        }
        if !self.request.dry_run {
            ecs.change_shares(&image.image_id, "AddAccount", &new, &CALL).await?;
            let after = ecs.shares(&image.image_id, &CALL).await?;
            let missing: Vec<&str> =
                new.iter().filter(|one| !after.contains(*one)).map(String::as_str).collect();
            if !missing.is_empty() {
                let id = &image.image_id;
                let message = format!("image `{id}` is not shared with {}", missing.join(", "));
                return Err(Error::new(ErrorKind::Conflict, message)
                    .with_hint("check the account ids, and the quota of accounts per image"));
            }
        }
        Ok(Some(format!("shared with {}", count(new.len(), "account"))))
    }

    /// Withdraws the access of accounts, or of all.
    pub(super) async fn unshare(
        &self,
        target: &Target,
        accounts: &[String],
        everyone: bool,
    ) -> Done {
        let Target { ecs, image } = target;
        let accounts = share_ids("accounts", &json!(accounts))?;
        let before = ecs.shares(&image.image_id, &CALL).await?.into_iter();
        let gone: Vec<String> =
            before.filter(|account| everyone || accounts.contains(account)).collect();
        if gone.is_empty() {
            return Ok(None);
        }
        if !self.request.dry_run {
            ecs.change_shares(&image.image_id, "RemoveAccount", &gone, &CALL).await?;
        }
        Ok(Some(format!("access withdrawn from {}", count(gone.len(), "account"))))
    }

    /// Publishes an image as a community image, or withdraws that.
    pub(super) async fn publish(&self, target: &Target, audience: Audience) -> Done {
        let public = match audience {
            Audience::Private => false,
            Audience::Community => true,
            _ => {
                return Err(Error::unsupported(
                    "Alibaba Cloud publishes images of users as community images only",
                    "publish it for the community; public images are offered in the marketplace",
                ));
            }
        };
        if target.image.is_public == public {
            return Ok(None);
        }
        if !self.request.dry_run {
            self.set_public(target, public).await?;
        }
        let word = if public { "published as a community image" } else { "made private" };
        Ok(Some(word.to_owned()))
    }

    /// Sets whether an image is a community image.
    pub(super) async fn set_public(&self, target: &Target, public: bool) -> Result<(), Failure> {
        let Target { ecs, image } = target;
        let parameters = pairs(&[
            ("RegionId", &ecs.region),
            ("ImageId", &image.image_id),
            ("IsPublic", if public { "true" } else { "false" }),
        ]);
        let what = format!("image `{}`", image.image_id);
        let action = "ModifyImageSharePermission";
        ecs.service.call::<Value>(action, &parameters, &what, &CALL).await.map(|_| ())
    }
}
