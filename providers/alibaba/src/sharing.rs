//! Sets which accounts may use an image: shares in groups as large as the service accepts, and reads the
//! shares back over all pages.
//!
//! Source: ECS API documentation, `ModifyImageSharePermission` and `DescribeImageSharePermission`.

use std::collections::BTreeSet;

use build_image_plugin_api::{
    Context, Result,
    retry::{Failure, Policy},
};
use serde_json::Value;

use crate::{
    client::CALL,
    ecs::{Ecs, PAGE_SIZE, pairs},
};

/// Accounts per call; the service would silently drop further ones.
const GROUP: usize = 10;

impl Ecs {
    /// Shares an image with accounts (`AddAccount`) or revokes shares (`RemoveAccount`).
    pub(crate) async fn change_shares(
        &self,
        image: &str,
        change: &str,
        accounts: &[String],
        policy: &Policy,
    ) -> Result<(), Failure> {
        for group in accounts.chunks(GROUP) {
            let mut parameters = pairs(&[("RegionId", &self.region), ("ImageId", image)]);
            for (position, account) in group.iter().enumerate() {
                parameters.push((format!("{change}.{}", position + 1), account.clone()));
            }
            let what = format!("image `{image}`");
            let action = "ModifyImageSharePermission";
            self.service.call::<Value>(action, &parameters, &what, policy).await?;
        }
        Ok(())
    }

    /// Accounts an image is shared with, over all pages.
    pub(crate) async fn shares(
        &self,
        image: &str,
        policy: &Policy,
    ) -> Result<BTreeSet<String>, Failure> {
        let mut found = BTreeSet::new();
        for page in 1_usize.. {
            let parameters = pairs(&[
                ("RegionId", &self.region),
                ("ImageId", image),
                ("PageSize", &PAGE_SIZE.to_string()),
                ("PageNumber", &page.to_string()),
            ]);
            let what = format!("image `{image}`");
            let action = "DescribeImageSharePermission";
            let answer: Value = self.service.call(action, &parameters, &what, policy).await?;
            let accounts = answer["Accounts"]["Account"].as_array().map_or(&[][..], Vec::as_slice);
            found.extend(accounts.iter().filter_map(|account| match &account["AliyunId"] {
                Value::String(id) => Some(id.clone()),
                Value::Number(id) => Some(id.to_string()),
                _ => None,
            }));
            let total = answer["TotalCount"].as_u64().and_then(|total| usize::try_from(total).ok());
            if accounts.is_empty() || page * PAGE_SIZE >= total.unwrap_or(0) {
                break;
            }
        }
        Ok(found)
    }
}

/// Revokes shares, shares, and reads the shares back; returns the accounts that actually have access.
///
/// # Errors
/// Refusals. An account that is missing afterwards is a warning.
pub(crate) fn share(
    context: &Context,
    ecs: &Ecs,
    image: &str,
    add: &[String],
    remove: &[String],
) -> Result<Vec<String>> {
    if add.is_empty() && remove.is_empty() {
        return Ok(Vec::new());
    }
    let policy = &CALL;
    let shared = context.block_on(async {
        let before = ecs.shares(image, policy).await?;
        let still = |account: &&String| before.contains(*account);
        let back: Vec<String> = remove.iter().filter(still).cloned().collect();
        ecs.change_shares(image, "RemoveAccount", &back, policy).await?;
        let new: Vec<String> = add.iter().filter(|account| !still(account)).cloned().collect();
        ecs.change_shares(image, "AddAccount", &new, policy).await?;
        Ok(ecs.shares(image, policy).await?)
    })?;
    let (have, lack): (Vec<String>, Vec<String>) =
        add.iter().cloned().partition(|account| shared.contains(account));
    let kept: Vec<String> =
        remove.iter().filter(|account| shared.contains(*account)).cloned().collect();
    for (accounts, is) in [(lack, "is not"), (kept, "is still")] {
        if !accounts.is_empty() {
            context.warning(
                format!("image {image} {is} shared with {}", accounts.join(", ")),
                "check the account ids, or change the sharing in the ECS console",
            )?;
        }
    }
    Ok(have)
}
