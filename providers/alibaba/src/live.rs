//! Gives finished images their family and their name, as the last step of a build. An existing image with the
//! name (`ALIBABA_IF_EXISTS=replace`) is moved aside; the host requests its deletion when the build is
//! released (see `replace`).
//!
//! Source: ECS API documentation, `ModifyImageAttribute`.

use std::sync::Arc;

use build_image_plugin_api::{Context, Error, ErrorKind, Result, document::Build};

use crate::{
    client::CALL,
    config::Config,
    credentials::Credentials,
    ecs::Ecs,
    finish::Finished,
    image::Image,
    owner::Owner,
    replace::{self, Moved, NAME, to_the_end},
    state::MOVED,
};

/// Gives all images their family and their name.
///
/// # Errors
/// Refusals; then every image that had a name before has it again, or its resource is still open.
pub(crate) fn go_live(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
    build: &Build,
    owner: &Owner,
    all: &mut [Finished],
) -> Result<()> {
    restore_names(context, config, credentials, all)?;
    // Every call that can be refused precedes the first name swap.
    for done in all.iter() {
        let Some(family) = &config.family else { break };
        let id = &done.image.image_id;
        let attributes = [("ImageFamily", family.as_str())];
        let call = done.ecs.modify_image(id, &attributes, &CALL);
        context.block_on(async { Ok(call.await?) })?;
    }
    let named =
        all.iter_mut().try_for_each(|done| name(context, config, credentials, build, owner, done));
    if named.is_err() {
        replace::undo(context, config, credentials)?;
    }
    named
}

/// Restores the names of images that an earlier process of the run moved aside: a clean-up may have been
/// killed after it forgot the old image and before it restored the name. The names are swapped again from a
/// known state.
fn restore_names(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
    all: &mut [Finished],
) -> Result<()> {
    let moved: Vec<Moved> = context.load(MOVED)?.unwrap_or_default();
    if moved.is_empty() {
        return Ok(());
    }
    if !replace::undo(context, config, credentials)? {
        let message = "an image that was moved aside could not get its name back";
        return Err(Error::new(ErrorKind::Conflict, message)
            .with_hint("rename it back, or remove the run with build-image gc --yes"));
    }
    for done in all {
        let id = done.image.image_id.clone();
        let now = context.block_on(async { Ok(done.ecs.image(&id, &CALL).await?) })?;
        done.image = now.unwrap_or_else(|| done.image.clone());
    }
    Ok(())
}

fn name(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
    build: &Build,
    owner: &Owner,
    done: &mut Finished,
) -> Result<()> {
    let wanted = &build.image_name;
    if done.image.image_name == *wanted {
        return Ok(());
    }
    context.check_cancelled()?;
    let ecs = Ecs::of_region(config, &done.ecs.region, credentials)?;
    take_name(context, config, owner, &ecs, &done.image, wanted)?;
    done.image.image_name.clone_from(wanted);
    context.milestone(format!("image {} is `{wanted}` in {}", done.image.image_id, ecs.region))
}

fn take_name(
    context: &Context,
    config: &Config,
    owner: &Owner,
    ecs: &Ecs,
    new: &Image,
    wanted: &str,
) -> Result<()> {
    let policy = &CALL;
    let holders = to_the_end(async { Ok(ecs.images_named(wanted, policy).await?) })?;
    let Some(old) = holders.into_iter().find(|image| image.image_id != new.image_id) else {
        return to_the_end(async {
            Ok(ecs.modify_image(&new.image_id, &[(NAME, wanted)], policy).await?)
        });
    };
    if !config.replace {
        let message = format!("image `{wanted}` exists already: {}", old.image_id);
        return Err(
            Error::new(ErrorKind::Conflict, message).with_hint("set ALIBABA_IF_EXISTS=replace")
        );
    }
    let swapped = Moved::new(&ecs.region, &old, new, wanted, owner.clone()).swap(context, ecs);
    swapped.map_err(|error| error.with_context("kept_image", &old.image_id))
}
