//! Changes registered images: shares, publishes, deprecates, tags, copies and deletes them. Every action compares the
//! image with the wanted result first, so that a second call sends no changing request.
//!
//! In a dry run, `CopyImage` and `ModifyImageAttribute` are sent with the service's `DryRun`; other changing calls are not
//! sent at all.

mod access;
mod attributes;
mod copy;
mod delete;
mod labels;
mod modify;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Result,
    document::{Action, ItemKind, ManageOutcome, ManageRequest, Managed, Reference},
    retry::Failure,
};
use serde_json::Value;

use crate::{
    acs::Parameters,
    check::DRY_RUN_PASSED,
    client::CALL,
    config::Config,
    credentials::Credentials,
    ecs::{Ecs, pairs},
    image::Image,
};

/// What an action did, in a few words; `None` when the image already was as wanted.
type Done = Result<Option<String>>;

/// The parameters of one call.
struct Manager<'a> {
    context: &'a Context,
    config: &'a Config,
    credentials: &'a Arc<Credentials>,
    request: &'a ManageRequest,
    /// One client per region.
    clients: Mutex<BTreeMap<String, Arc<Ecs>>>,
}

/// An image that exists, with the client of its region.
struct Target {
    ecs: Arc<Ecs>,
    image: Image,
}

/// Changes images.
///
/// # Errors
/// An action that this provider does not know, and Ctrl-C. What concerns one image is a result of that image.
pub(crate) fn manage(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
    request: &ManageRequest,
) -> Result<ManageOutcome> {
    let clients = Mutex::default();
    let manager = Manager { context, config, credentials, request, clients };
    if let Action::Copy { regions, name, with_access, keys } = &request.action {
        let wish = copy::Wish { regions, name: name.as_deref(), with_access: *with_access, keys };
        return manager.copy(&wish);
    }
    let mut outcome = ManageOutcome::default();
    for image in &request.images {
        context.check_cancelled()?;
        let change = context.block_on(manager.change(image));
        if let Err(error) = &change
            && (error.kind == ErrorKind::Cancelled || is_unknown(&request.action))
        {
            return Err(error.clone());
        }
        outcome.results.push(match change {
            Ok(Some(summary)) => Managed::done(image, summary),
            Ok(None) => Managed::unchanged(image),
            Err(error) => Managed::refused(image, &error),
        });
    }
    Ok(outcome)
}

fn is_unknown(action: &Action) -> bool {
    action.capability() == Action::Unknown.capability()
}

impl Manager<'_> {
    async fn change(&self, reference: &Reference) -> Done {
        let target = async || self.target(reference).await;
        match &self.request.action {
            Action::Share { accounts } => self.share(&target().await?, accounts).await,
            Action::Unshare { accounts, everyone } => {
                self.unshare(&target().await?, accounts, *everyone).await
            }
            Action::Publish { audience } => self.publish(&target().await?, *audience).await,
            Action::Deprecate { at, disabled_at, replacement, .. } => {
                let wish = attributes::Deprecation {
                    at: *at,
                    disabled_at: *disabled_at,
                    replacement: replacement.as_ref(),
                };
                self.deprecate(&target().await?, &wish).await
            }
            Action::Restore => self.restore(&target().await?).await,
            Action::Tag { tags } => self.tag(&target().await?, tags).await,
            Action::Untag { keys } => self.untag(&target().await?, keys).await,
            Action::Modify { name, attributes } => {
                self.set(&target().await?, name.as_deref(), attributes).await
            }
            Action::Delete { keep_data, force } => self.delete(reference, *keep_data, *force).await,
            _ => Err(Error::unsupported(
                "this provider does not know the action",
                "use a newer release of the provider",
            )),
        }
    }

    /// The client of a region.
    fn ecs(&self, region: &str) -> Result<Arc<Ecs>> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = clients.get(region) {
            return Ok(Arc::clone(known));
        }
        let ecs = Arc::new(Ecs::of_region(self.config, region, self.credentials)?);
        clients.insert(region.to_owned(), Arc::clone(&ecs));
        Ok(ecs)
    }

    /// The client of an image's region.
    fn client_of(&self, reference: &Reference) -> Result<Arc<Ecs>> {
        if reference.kind != ItemKind::Image {
            return Err(Error::config(format!("`{}` is not an image", reference.id))
                .with_hint("name images; other resources are removed with gc"));
        }
        let region = reference.region.as_deref().or(self.config.home().1);
        let region = region.ok_or_else(|| {
            Error::config(format!("the region of image `{}` is not known", reference.id))
                .with_hint("name it, or set ALIBABA_REGION")
        })?;
        self.ecs(region)
    }

    /// The image, which must exist.
    async fn target(&self, reference: &Reference) -> Result<Target> {
        let ecs = self.client_of(reference)?;
        let image = ecs.image(&reference.id, &CALL).await?;
        let image = image.ok_or_else(|| {
            let message = format!("image `{}` does not exist in {}", reference.id, ecs.region);
            Error::new(ErrorKind::NotFound, message)
                .with_hint("list the images of the account; name the image's own region")
        })?;
        Ok(Target { ecs, image })
    }

    /// Sends a call that knows `DryRun`. In a dry run, the service only checks it.
    async fn send(
        &self,
        ecs: &Ecs,
        action: &str,
        mut parameters: Parameters,
        what: &str,
    ) -> Result<(), Failure> {
        if self.request.dry_run {
            parameters.push(("DryRun".to_owned(), "true".to_owned()));
        }
        match ecs.service.call::<Value>(action, &parameters, what, &CALL).await {
            Err(failure) if self.request.dry_run && failure.has_code(&DRY_RUN_PASSED) => Ok(()),
            answered => answered.map(|_| ()),
        }
    }

    /// Changes attributes of an image.
    async fn modify(&self, target: &Target, attributes: &[(&str, &str)]) -> Result<(), Failure> {
        let id = &target.image.image_id;
        let mut parameters = pairs(&[("RegionId", &target.ecs.region), ("ImageId", id)]);
        parameters.extend(pairs(attributes));
        let what = format!("image `{id}`");
        self.send(&target.ecs, "ModifyImageAttribute", parameters, &what).await
    }
}

/// The number of things, as a text.
fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}
