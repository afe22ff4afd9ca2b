//! Changes registered images: who can use them, whether they are deprecated, tags, copies in further stores, deletion.
//! Every image is read first, and a request that changes something is sent only for what differs.

use std::{collections::BTreeMap, sync::Arc};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Result,
    document::{Action, ManageOutcome, ManageRequest, Managed, Reference},
    retry::Policy,
};
use serde_json::json;

use crate::{
    changes::{self, count, is_usable},
    cloud::{Cloud, HASHES, Session},
    config::Config,
    copies::Copier,
    image::Image,
    inventory::is_id,
    marks,
};

/// Visibility of images that have members.
const SHARED: &str = "shared";

/// Words of the description, one for each action.
pub(crate) const CAPABILITIES: [&str; 9] = [
    "manage.share",
    "manage.unshare",
    "manage.publish",
    "manage.deprecate",
    "manage.restore",
    "manage.tag",
    "manage.untag",
    "manage.copy",
    "manage.delete",
];

/// Changes images.
///
/// # Errors
/// An unknown action; a login that fails. What concerns one image is a result of that image.
pub(crate) fn manage(
    context: &Context,
    config: &Config,
    session: &Arc<Session>,
    request: &ManageRequest,
) -> Result<ManageOutcome> {
    context.check_cancelled()?;
    if !CAPABILITIES.contains(&request.action.capability()) {
        return Err(Error::unsupported(
            "this release of the provider does not know the action",
            "use a newer release of the provider",
        ));
    }
    context.block_on(async {
        let policy = Policy::call(config.retry_time);
        let regions = Cloud::regions(context, config, session, &policy).await?;
        let mut manager =
            Manager { context, config, session, request, regions, clouds: BTreeMap::new() };
        let mut outcome = ManageOutcome::default();
        for image in &request.images {
            context.check_cancelled()?;
            outcome.results.extend(manager.results(image).await?);
        }
        Ok(outcome)
    })
}

struct Manager<'a> {
    context: &'a Context,
    config: &'a Config,
    session: &'a Arc<Session>,
    request: &'a ManageRequest,
    /// Regions of the account.
    regions: Vec<Option<String>>,
    /// The clouds that were needed so far, by the region of the reference. One that cannot be reached is tried once.
    clouds: BTreeMap<Option<String>, Result<Arc<Cloud>>>,
}

impl Manager<'_> {
    /// Returns the results for one image.
    ///
    /// # Errors
    /// Only [`Error::cancelled`].
    async fn results(&mut self, reference: &Reference) -> Result<Vec<Managed>> {
        let refused = |error: Error| match error.kind {
            ErrorKind::Cancelled => Err(error),
            _ => Ok(Managed::refused(reference, &error)),
        };
        let found = self.find(reference).await;
        if let Action::Copy { regions, name, keys, .. } = &self.request.action {
            let mut results = Vec::new();
            for place in regions {
                let copied = match &found {
                    Ok((cloud, image)) => {
                        let copier = Copier {
                            context: self.context,
                            config: self.config,
                            cloud,
                            regions: &self.regions,
                            request: self.request,
                        };
                        copier.copy(reference, image, place, name.as_deref(), keys).await
                    }
                    Err(error) => Err(error.clone()),
                };
                results.push(copied.or_else(refused)?);
            }
            return Ok(results);
        }
        let changed = match found {
            Ok((cloud, image)) => self.change(&cloud, reference, &image).await,
            Err(error)
                if error.kind == ErrorKind::NotFound
                    && matches!(self.request.action, Action::Delete { .. }) =>
            {
                Ok(Managed::unchanged(reference))
            }
            Err(error) => Err(error),
        };
        Ok(vec![changed.or_else(refused)?])
    }

    /// Returns an image with its cloud.
    ///
    /// # Errors
    /// `not_found`; an unknown region; an image of another project.
    async fn find(&mut self, reference: &Reference) -> Result<(Arc<Cloud>, Image)> {
        let id = &reference.id;
        let cloud = self.cloud(reference.region.as_ref()).await?;
        let found = if is_id(id) { cloud.image(id).await? } else { None };
        let Some(image) = found else {
            let region = cloud.region.as_ref().map(|region| format!(" in region `{region}`"));
            let message = format!("no image `{id}`{}", region.unwrap_or_default());
            return Err(Error::new(ErrorKind::NotFound, message)
                .with_hint("list the images of the account: names are not identifiers"));
        };
        let (owner, project) = (image.text("owner"), cloud.project());
        if !owner.is_empty() && owner != project {
            return Err(Error::config(format!(
                "image `{id}` belongs to project `{owner}`, and these settings use `{project}`"
            ))
            .with_hint("use credentials of that project"));
        }
        Ok((cloud, image))
    }

    async fn cloud(&mut self, region: Option<&String>) -> Result<Arc<Cloud>> {
        let key = region.cloned();
        if let Some(cloud) = self.clouds.get(&key) {
            return cloud.clone();
        }
        if key.is_some() && !self.regions.contains(&key) {
            let names: Vec<&str> = self.regions.iter().flatten().map(String::as_str).collect();
            let region = key.unwrap_or_default();
            return Err(Error::config(format!(
                "the account has no image service in region `{region}`"
            ))
            .with_hint(format!("name one of: {}", names.join(", "))));
        }
        let policy = Policy::call(self.config.retry_time);
        let region = region.map(String::as_str);
        let cloud = Cloud::open_in(self.context, self.config, self.session, policy, region);
        let cloud = cloud.await.map(Arc::new);
        self.clouds.insert(key, cloud.clone());
        cloud
    }

    async fn change(&self, cloud: &Cloud, reference: &Reference, image: &Image) -> Result<Managed> {
        match &self.request.action {
            Action::Share { accounts } => self.share(cloud, reference, image, accounts).await,
            Action::Unshare { accounts, everyone } => {
                self.unshare(cloud, reference, image, accounts, *everyone).await
            }
            Action::Delete { keep_data, force } => {
                self.delete(cloud, reference, image, *keep_data, *force).await
            }
            action => {
                let hides = cloud.minor_version >= HASHES;
                let plan = changes::plan(image, action, marks::now(), hides)?;
                if plan.is_empty() {
                    return Ok(Managed::unchanged(reference));
                }
                if !self.request.dry_run {
                    self.apply(cloud, image.id(), &plan).await?;
                }
                Ok(Managed::done(reference, plan.summary))
            }
        }
    }

    async fn apply(&self, cloud: &Cloud, id: &str, plan: &changes::Plan) -> Result<()> {
        self.context.check_cancelled()?;
        if !plan.operations.is_empty() {
            let operations = plan.operations.clone().into();
            cloud.patch_image(id, operations, &format!("change image `{id}`")).await?;
        }
        if let Some(action) = plan.activation {
            cloud.activate(id, action).await?;
        }
        Ok(())
    }

    /// Shares an image. A private one becomes one that can have members.
    async fn share(
        &self,
        cloud: &Cloud,
        reference: &Reference,
        image: &Image,
        accounts: &[String],
    ) -> Result<Managed> {
        let (id, visibility) = (image.id(), image.text("visibility"));
        check_projects(accounts, &cloud.project())?;
        if !matches!(visibility, "private" | SHARED) {
            let message = format!("image `{id}` is {visibility}: only a shared image has members");
            return Err(Error::new(ErrorKind::Conflict, message)
                .with_hint("everyone can use it already; make it private before it is shared"));
        }
        let known = if visibility == SHARED { cloud.members(id).await? } else { Vec::new() };
        let is_known = |account: &&String| known.iter().any(|(project, _)| project == *account);
        let missing: Vec<&String> = accounts.iter().filter(|account| !is_known(account)).collect();
        if missing.is_empty() {
            return Ok(Managed::unchanged(reference));
        }
        is_usable(image)?;
        if !self.request.dry_run {
            self.context.check_cancelled()?;
            if visibility != SHARED {
                let operations = json!([{"op": "replace", "path": "/visibility", "value": SHARED}]);
                let what = format!("make image `{id}` one that can have members");
                cloud.patch_image(id, operations, &what).await?;
            }
            for project in &missing {
                cloud.add_member(id, project).await?;
            }
            let listed = cloud.members(id).await?;
            let is_listed = |account: &&&String| listed.iter().any(|(one, _)| one == **account);
            if let Some(project) = missing.iter().find(|account| !is_listed(account)) {
                let message = format!(
                    "image `{id}` is not shared with `{project}`, although the service accepted it"
                );
                return Err(Error::new(ErrorKind::Provider, message));
            }
        }
        Ok(Managed::done(reference, format!("shared with {}", count(missing.len(), "project"))))
    }

    async fn unshare(
        &self,
        cloud: &Cloud,
        reference: &Reference,
        image: &Image,
        accounts: &[String],
        everyone: bool,
    ) -> Result<Managed> {
        let id = image.id();
        if image.text("visibility") != SHARED {
            return Ok(Managed::unchanged(reference));
        }
        let members = cloud.members(id).await?.into_iter().map(|(project, _)| project);
        let leaving: Vec<String> =
            members.filter(|project| everyone || accounts.contains(project)).collect();
        if leaving.is_empty() {
            return Ok(Managed::unchanged(reference));
        }
        if !self.request.dry_run {
            for project in &leaving {
                self.context.check_cancelled()?;
                cloud.remove_member(id, project).await?;
            }
        }
        let summary = format!("access withdrawn from {}", count(leaving.len(), "project"));
        Ok(Managed::done(reference, summary))
    }

    async fn delete(
        &self,
        cloud: &Cloud,
        reference: &Reference,
        image: &Image,
        keep_data: bool,
        force: bool,
    ) -> Result<Managed> {
        let id = image.id();
        if keep_data {
            return Err(Error::unsupported(
                "the image service deletes the data of an image with its record",
                "download the image first: openstack image save --file FILE ID",
            ));
        }
        if image.is_being_deleted() {
            return Ok(Managed::unchanged(reference));
        }
        if let Some(why) = self.is_needed(cloud, image).await?.filter(|_| !force) {
            return Err(Error::new(ErrorKind::Conflict, format!("image `{id}` {why}"))
                .with_hint("repeat it with `--force` to delete the image nevertheless"));
        }
        if !self.request.dry_run {
            self.context.check_cancelled()?;
            if image.is("protected") {
                let operations = json!([{"op": "replace", "path": "/protected", "value": false}]);
                cloud.patch_image(id, operations, &format!("unprotect image `{id}`")).await?;
            }
            if !cloud.delete_image(id).await? {
                return Ok(Managed::unchanged(reference));
            }
        }
        Ok(Managed::done(reference, "deleted"))
    }

    /// Returns why an image must not be deleted without force.
    async fn is_needed(&self, cloud: &Cloud, image: &Image) -> Result<Option<String>> {
        if image.is("protected") {
            return Ok(Some("is protected".to_owned()));
        }
        if image.leased_until().is_some_and(|until| until > marks::now()) {
            let run = image.run().unwrap_or_default();
            return Ok(Some(format!("is being created by run `{run}`")));
        }
        match image.text("visibility") {
            visibility @ ("public" | "community") => Ok(Some(format!("is {visibility}"))),
            SHARED => {
                let members = cloud.members(image.id()).await?.len();
                Ok((members > 0).then(|| format!("is shared with {}", count(members, "project"))))
            }
            _ => Ok(None),
        }
    }
}

fn check_projects(accounts: &[String], own: &str) -> Result<()> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    for account in accounts {
        if account.is_empty() || account.len() > 255 || !account.chars().all(plain) {
            return Err(Error::config(format!("`{account}` is not a project's id"))
                .with_hint("write letters, digits, `-`, `_`, and `.`"));
        }
        if account == own {
            return Err(Error::config(format!("the image belongs to project `{own}` itself"))
                .with_hint("name the projects of others"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_identifiers_of_other_projects_are_accepted() {
        for (account, text) in [
            ("p", "itself"),
            ("", "not a project's id"),
            ("a/b", "not a project's id"),
            ("a b", "not a project's id"),
        ] {
            let error = check_projects(&["q".to_owned(), account.to_owned()], "p").unwrap_err();
            assert!(error.message.contains(text) && error.hint.is_some(), "{error}");
        }
        assert!(check_projects(&["3f2a-b_c.d".to_owned()], "p").is_ok());
    }

    #[test]
    fn every_word_is_that_of_an_action() {
        for word in CAPABILITIES {
            let kind = word.strip_prefix("manage.").unwrap();
            let action = json!({"type": kind, "accounts": [], "audience": "public", "tags": {}, "keys": {}, "regions": []});
            let action = match kind {
                "untag" => json!({"type": kind, "keys": []}),
                _ => action,
            };
            let action: Action = serde_json::from_value(action).unwrap();
            assert_eq!(action.capability(), word);
        }
    }
}
