//! Changes registered images: shares, publishes, deprecates, tags, copies, and deletes them. Every action compares the
//! image with the wanted result first, so that a second call sends no request that changes something.
//!
//! In a dry run, calls are sent with the service's `DryRun`, which checks permissions and changes nothing.

mod access;
mod copy;
mod delete;
mod deprecation;
mod labels;

use build_image_plugin_api::{
    Context, Error, ErrorKind, Result,
    document::{Action, ItemKind, ManageOutcome, ManageRequest, Managed, Reference},
    retry::Failure,
};

use crate::{
    check_calls::PASSED,
    client::CALL,
    cloud::{Cloud, Session},
    config::Config,
    describe::CAPABILITIES,
    ec2::{Ec2, Parameters},
    image::{Image, Snapshot},
    owner::Owner,
    permissions::Call,
};

/// What an action did, in a few words; `None` when the image already was as wanted.
type Done = Result<Option<String>>;

/// The parameters of one call.
struct Manager<'a> {
    context: &'a Context,
    cloud: &'a Cloud<'a>,
    request: &'a ManageRequest,
    owner: Owner,
}

/// An image that exists, with the service in its region.
#[derive(Clone)]
struct Target {
    ec2: Ec2,
    image: Image,
}

/// Changes images.
///
/// # Errors
/// An action that this provider does not know, refused credentials, and Ctrl-C. What concerns one image is a result of that
/// image.
pub(crate) fn manage(
    context: &Context,
    config: &Config,
    session: &Session,
    request: &ManageRequest,
) -> Result<ManageOutcome> {
    context.check_cancelled()?;
    let action = request.action.capability();
    if !CAPABILITIES.contains(&action) {
        return Err(Error::unsupported(
            format!("this provider does not have the action `{action}`"),
            "use the vendor's tools, or a newer release of the provider",
        ));
    }
    context.block_on(async {
        let cloud = Cloud::open(context, config, session).await?;
        let owner = Owner::now(&cloud, &CALL).await?;
        Manager { context, cloud: &cloud, request, owner }.run().await
    })
}

impl Manager<'_> {
    async fn run(&self) -> Result<ManageOutcome> {
        if let Action::Copy { regions, name, with_access, keys } = &self.request.action {
            let name = name.as_deref();
            let wish = copy::Wish { regions, name, with_access: *with_access, keys };
            return self.copy(&wish).await;
        }
        let mut outcome = ManageOutcome::default();
        for image in &self.request.images {
            self.context.check_cancelled()?;
            outcome.results.push(match self.change(image).await {
                Ok(Some(summary)) => Managed::done(image, summary),
                Ok(None) => Managed::unchanged(image),
                Err(error) if error.kind == ErrorKind::Cancelled => return Err(error),
                Err(error) => Managed::refused(image, &error),
            });
        }
        Ok(outcome)
    }

    async fn change(&self, reference: &Reference) -> Done {
        if let Action::Delete { keep_data, force } = &self.request.action {
            return self.delete(reference, *keep_data, *force).await;
        }
        let target = self.target(reference).await?;
        match &self.request.action {
            Action::Share { accounts } => self.share(&target, accounts).await,
            Action::Unshare { accounts, everyone } => {
                self.unshare(&target, accounts, *everyone).await
            }
            Action::Publish { audience } => self.publish(&target, *audience).await,
            Action::Deprecate { at, disabled_at, replacement, .. } => {
                let wish = deprecation::Wish {
                    at: *at,
                    disabled_at: *disabled_at,
                    replacement: replacement.as_ref(),
                };
                self.deprecate(&target, &wish).await
            }
            Action::Restore => self.restore(&target).await,
            Action::Tag { tags } => self.tag(&target, tags).await,
            Action::Untag { keys } => self.untag(&target, keys).await,
            _ => Err(Error::internal("the action was not handled")),
        }
    }

    /// Opens EC2 in the region of an image.
    fn ec2_of(&self, reference: &Reference) -> Result<Ec2> {
        // A reference without a kind is that of an image.
        if !matches!(reference.kind, ItemKind::Image | ItemKind::Other) {
            return Err(Error::config(format!("`{}` is not an image", reference.id))
                .with_hint("name images; other resources are removed with gc"));
        }
        Ec2::open(self.cloud, reference.region.as_deref().unwrap_or(&self.cloud.region))
    }

    /// Returns an image of the account, if it exists.
    async fn find(&self, ec2: &Ec2, id: &str) -> Result<Option<Image>> {
        let found = match ec2.image(id, &CALL).await {
            Err(failure) if failure.has_code(&["InvalidAMIID.Malformed"]) => None,
            found => found?,
        };
        let owner = found.as_ref().and_then(|image| image.owner.as_deref());
        match owner.filter(|owner| *owner != self.owner.account) {
            None => Ok(found),
            Some(owner) => Err(Error::config(format!(
                "image `{id}` belongs to account {owner}, and these settings use {}",
                self.owner.account
            ))
            .with_hint("use credentials of that account")),
        }
    }

    /// Returns an image that must exist.
    async fn target(&self, reference: &Reference) -> Result<Target> {
        let ec2 = self.ec2_of(reference)?;
        let image = self.find(&ec2, &reference.id).await?.ok_or_else(|| {
            let message = format!("image `{}` does not exist in {}", reference.id, ec2.region);
            Error::new(ErrorKind::NotFound, message)
                .with_hint("list the images of the account; name the image's own region")
        })?;
        Ok(Target { ec2, image })
    }

    /// Returns the snapshots of an image that are its own: of the account, and of the same run.
    async fn own_snapshots(&self, target: &Target) -> Result<Vec<Snapshot>, Failure> {
        let mut found = target.ec2.snapshots_of(&target.image.snapshots(), &CALL).await?;
        found.retain(|snapshot| snapshot.run() == target.image.run());
        Ok(found)
    }

    /// Sends a call. In a dry run, the service only checks it.
    async fn send(
        &self,
        ec2: &Ec2,
        call: Call,
        mut parameters: Parameters,
        object: &str,
    ) -> Result<(), Failure> {
        if self.request.dry_run {
            parameters.push(("DryRun".to_owned(), "true".to_owned()));
        }
        match ec2.call(call, &parameters, object, &CALL).await {
            Err(failure) if self.request.dry_run && failure.has_code(&[PASSED]) => Ok(()),
            answered => answered.map(drop),
        }
    }
}

impl Target {
    /// Names the image in messages.
    fn object(&self) -> String {
        format!("image `{}`", self.image.image_id)
    }

    /// Refuses an image that is still being made, or never will be complete.
    fn must_be_complete(&self) -> Result<()> {
        if ["available", "disabled"].contains(&self.image.image_state.as_str()) {
            return Ok(());
        }
        let message = format!("{} is in state {}", self.object(), self.image.image_state);
        let hint = if self.image.is_pending() {
            "wait until it is available"
        } else {
            "delete it, and build or copy it again"
        };
        Err(Error::new(ErrorKind::Conflict, message).with_hint(hint))
    }
}

/// The number of things, as a text.
fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}
