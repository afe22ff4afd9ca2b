//! Sets who may use an image: accounts, organizations, and units, or every account. Accounts may make volumes from its
//! snapshots as well, which they need to copy it.
//!
//! Source: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyImageAttribute.html>,
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifySnapshotAttribute.html>.

use std::collections::BTreeMap;

use build_image_plugin_api::{Error, ErrorKind, Result, document::Audience, retry::Failure};
use serde::Deserialize;

use super::{Done, Manager, Target, count};
use crate::{
    client::CALL,
    ec2::Parameters,
    permissions::Call,
    sharing::{self, Permission},
};

/// Accounts by the snapshot whose users they are, or are to be.
type Users = BTreeMap<String, Vec<String>>;

#[derive(Deserialize)]
struct BlockPublic {
    #[serde(rename = "imageBlockPublicAccessState", default)]
    state: String,
}

impl Manager<'_> {
    /// Shares an image and its snapshots.
    pub(super) async fn share(&self, target: &Target, accounts: &[String]) -> Done {
        target.must_be_complete()?;
        let wanted = self.parse(accounts)?;
        let id = &target.image.image_id;
        let present = sharing::permissions(&target.ec2, id, &CALL).await?;
        let new: Vec<Permission> =
            wanted.iter().filter(|one| !present.contains(one)).cloned().collect();
        let users: Vec<&str> = wanted.iter().filter_map(Permission::account).collect();
        let users: Users = self
            .users(target)
            .await?
            .into_iter()
            .filter_map(|(id, present)| {
                let missing = users.iter().filter(|user| !present.iter().any(|one| one == *user));
                let missing: Vec<String> = missing.map(|user| (*user).to_owned()).collect();
                (!missing.is_empty()).then_some((id, missing))
            })
            .collect();
        if new.is_empty() && users.is_empty() {
            return Ok(None);
        }
        self.change_users(target, "Add", &users).await?;
        self.change_permissions(target, "Add", &new).await?;
        if !self.request.dry_run {
            let after = sharing::permissions(&target.ec2, id, &CALL).await?;
            let missing: Vec<Permission> =
                new.iter().filter(|one| !after.contains(one)).cloned().collect();
            if !missing.is_empty() {
                let names = sharing::members(&missing).join(", ");
                let message = format!("image `{id}` is not shared with {names}");
                return Err(Error::new(ErrorKind::Conflict, message)
                    .with_hint("check the account ids, and the quota of accounts per image"));
            }
        }
        Ok(Some(format!("shared with {}", count(wanted.len(), "account"))))
    }

    /// Withdraws the access of accounts, or of all, to an image and its snapshots.
    pub(super) async fn unshare(
        &self,
        target: &Target,
        accounts: &[String],
        everyone: bool,
    ) -> Done {
        for account in accounts {
            Permission::parse(account)?;
        }
        let is_meant = |account: &String| everyone || accounts.contains(account);
        let present = sharing::permissions(&target.ec2, &target.image.image_id, &CALL).await?;
        let gone: Vec<Permission> = present
            .into_iter()
            .filter(|one| sharing::members(std::slice::from_ref(one)).iter().any(is_meant))
            .collect();
        let users: Users = self
            .users(target)
            .await?
            .into_iter()
            .filter_map(|(id, mut present)| {
                present.retain(is_meant);
                (!present.is_empty()).then_some((id, present))
            })
            .collect();
        if gone.is_empty() && users.is_empty() {
            return Ok(None);
        }
        self.change_users(target, "Remove", &users).await?;
        self.change_permissions(target, "Remove", &gone).await?;
        let number = gone.len().max(users.values().map(Vec::len).max().unwrap_or(0));
        Ok(Some(format!("access withdrawn from {}", count(number, "account"))))
    }

    /// Makes an image public, or withdraws that.
    pub(super) async fn publish(&self, target: &Target, audience: Audience) -> Done {
        let public = match audience {
            Audience::Private => false,
            Audience::Public => true,
            _ => {
                return Err(Error::unsupported(
                    "images of EC2 are private or public",
                    "publish it for everyone, or share it with accounts",
                ));
            }
        };
        target.must_be_complete()?;
        let id = &target.image.image_id;
        let present = sharing::permissions(&target.ec2, id, &CALL).await?;
        if sharing::is_public(&present) == public {
            return Ok(None);
        }
        if public {
            self.must_not_block(target).await?;
        }
        let kind = if public { "Add" } else { "Remove" };
        self.change_permissions(target, kind, &[Permission::everyone()]).await?;
        Ok(Some(if public { "published" } else { "made private" }.to_owned()))
    }

    /// Refuses to publish where the account blocks it; the service's own refusal has no code for that.
    pub(super) async fn must_not_block(&self, target: &Target) -> Result<()> {
        let call = Call::GetImageBlockPublicAccessState;
        let answer = target.ec2.ask::<BlockPublic>(call, &Parameters::new(), "", &CALL).await;
        match answer {
            Ok(answer) if answer.state == "block-new-sharing" => {
                let region = &target.ec2.region;
                let message = format!("the account blocks public images in {region}");
                Err(Error::new(ErrorKind::Conflict, message).with_hint(format!(
                    "share it with accounts, or run: aws ec2 disable-image-block-public-access --region {region}"
                )))
            }
            // Who may not ask is refused by the next call, if at all.
            _ => Ok(()),
        }
    }

    /// Parses accounts. The own one has access already.
    fn parse(&self, accounts: &[String]) -> Result<Vec<Permission>> {
        let mut all: Vec<Permission> = Vec::new();
        for account in accounts {
            if *account == self.owner.account {
                return Err(Error::config(format!(
                    "the image belongs to account {account} itself"
                ))
                .with_hint("leave the account out"));
            }
            let permission = Permission::parse(account)?;
            if !all.contains(&permission) {
                all.push(permission);
            }
        }
        Ok(all)
    }

    /// Returns the users of the own snapshots of an image.
    pub(super) async fn users(&self, target: &Target) -> Result<Users, Failure> {
        let mut users = Users::new();
        for snapshot in self.own_snapshots(target).await? {
            let present = target.ec2.snapshot_users(&snapshot.snapshot_id, &CALL).await?;
            users.insert(snapshot.snapshot_id, present);
        }
        Ok(users)
    }

    /// Adds or removes users of snapshots. The service has a dry run of it, and the one of the image is enough.
    pub(super) async fn change_users(
        &self,
        target: &Target,
        kind: &str,
        users: &Users,
    ) -> Result<(), Failure> {
        if self.request.dry_run {
            return Ok(());
        }
        for (id, accounts) in users {
            target.ec2.change_snapshot_users(id, kind, accounts, &CALL).await?;
        }
        Ok(())
    }

    /// Adds or removes permissions of an image.
    pub(super) async fn change_permissions(
        &self,
        target: &Target,
        kind: &str,
        permissions: &[Permission],
    ) -> Result<(), Failure> {
        if permissions.is_empty() {
            return Ok(());
        }
        let parameters = sharing::parameters(&target.image.image_id, kind, permissions);
        self.send(&target.ec2, Call::ModifyImageAttribute, parameters, &target.object()).await
    }
}
