//! Implements ModifyImageSharePermission and DescribeImageSharePermission. A call accepts ten accounts of
//! each kind; further ones are silently dropped, as in the real service.

use serde_json::{Value, json};

use super::describe::{find, state};
use super::error::AcsError;
use super::params::Params;
use super::region;
use crate::service::Context;
use crate::state::Disk;

const PER_CALL: usize = 10;
const PER_IMAGE: usize = 50;

fn check_account(account: &str, owner: &str) -> Result<(), AcsError> {
    if account == owner {
        return Err(AcsError::new(
            403,
            "InvalidAccount.Forbbiden",
            "An image cannot be shared with its owner.",
        ));
    }
    if account.is_empty() || !account.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(AcsError::new(
            404,
            "InvalidAccount.NotFound",
            "The specified account does not exist.",
        ));
    }
    Ok(())
}

/// ModifyImageSharePermission.
pub(crate) fn modify(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let region = region::need(context, params, "RegionId")?;
    let mut world = context.store.world();
    let mut image = find(&world, (context.account, region), params.need("ImageId")?)?.clone();
    if state(&world, &image, context.now).0 != "Available" {
        return Err(AcsError::new(
            403,
            "IncorrectImageStatus",
            "The current status of the image does not support this operation.",
        ));
    }
    let (shares, publishes) = (!params.list("AddAccount").is_empty(), params.flag("IsPublic"));
    // Only images that are encrypted with a key of the account can be shared.
    let is_refused = |disk: &Disk| {
        let key = world.snapshots.get(&disk.snapshot).and_then(|found| found.kms_key.as_ref());
        key.is_some_and(|key| publishes || (shares && key.is_empty()))
    };
    if image.disks.iter().any(is_refused) {
        return Err(AcsError::new(
            403,
            "OperationDeined.EncryptedSnapshot",
            "The specified image contains an encrypted snapshot.",
        ));
    }
    for account in params.list("AddAccount").into_iter().take(PER_CALL) {
        check_account(account, context.account)?;
        if !image.shared_with.iter().any(|known| known == account) {
            image.shared_with.push(account.to_owned());
        }
    }
    for account in params.list("RemoveAccount").into_iter().take(PER_CALL) {
        image.shared_with.retain(|known| known != account);
    }
    if image.shared_with.len() > PER_IMAGE {
        return Err(AcsError::new(
            400,
            "QuotaExceed.ShareImageUser",
            "The image is shared with as many accounts as it can be.",
        ));
    }
    if params.get("IsPublic").is_some() {
        image.public = params.flag("IsPublic");
    }
    if params.flag("DryRun") {
        return Err(AcsError::dry_run());
    }
    world.images.put(image)?;
    Ok(json!({}))
}

/// DescribeImageSharePermission.
pub(crate) fn describe(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let region = region::need(context, params, "RegionId")?;
    let (number, size) = params.page()?;
    let world = context.store.world();
    let image = find(&world, (context.account, region), params.need("ImageId")?)?;
    let accounts: Vec<Value> = image
        .shared_with
        .iter()
        .skip((number - 1) * size)
        .take(size)
        .map(|account| json!({ "AliyunId": account }))
        .collect();
    Ok(json!({
        "ImageId": image.id,
        "RegionId": region,
        "TotalCount": image.shared_with.len(),
        "PageNumber": number,
        "PageSize": size,
        "ShareGroups": { "ShareGroup": [] },
        "Accounts": { "Account": accounts },
    }))
}
