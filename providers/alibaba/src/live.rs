//! The last step: finished images get their family and their name. An image that has the name
//! already (`ALIBABA_IF_EXISTS=replace`) is moved aside, takes its name back when anything goes
//! wrong, and is deleted only when the new one is in its place.
//!
//! Source: ECS API documentation, `ModifyImageAttribute`.

use build_image_plugin_api::{Context, Error, ErrorKind, Resource, Result, document::Build};
use serde::{Deserialize, Serialize};

use crate::{
    config::Config,
    discard::remove_image,
    ecs::Ecs,
    error::Failure,
    finish::Finished,
    image::Image,
    import::beside,
    retry::Policy,
    state::{IMAGE, RENAMED, REPLACED},
    tagging::MARK,
};

const NAME: &str = "ImageName";

/// An image that was moved aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Replaced {
    region: String,
    id: String,
    aside: String,
}

/// Gives all images their family and their name, then deletes what they replaced.
///
/// # Errors
/// Refusals; then every image that had a name before has it again.
pub(crate) fn go_live(
    context: &Context,
    config: &Config,
    build: &Build,
    all: &mut [Finished],
) -> Result<()> {
    let wanted = &build.image_name;
    for done in all.iter_mut() {
        if done.image.image_name != *wanted {
            take_name(context, config, &done.ecs, &done.image, wanted)?;
            done.image.image_name.clone_from(wanted);
            let text =
                format!("image {} is `{wanted}` in {}", done.image.image_id, done.ecs.region);
            context.milestone(text)?;
        }
        context.block_on(async {
            let id = &done.image.image_id;
            if let Some(family) = &config.family {
                done.ecs.modify_image(id, &[("ImageFamily", family)], &Policy::CALL).await?;
            }
            if done.image.is_tagged(MARK, &build.run_id) {
                done.ecs.unmark(&done.image, &Policy::CALL).await?;
            }
            Ok(())
        })?;
    }
    let replaced: Vec<Replaced> = context.load(REPLACED)?.unwrap_or_default();
    for old in replaced {
        if let Some(done) = all.iter().find(|done| done.ecs.region == old.region) {
            delete_replaced(context, &done.ecs, &old)?;
        }
    }
    Ok(())
}

fn take_name(
    context: &Context,
    config: &Config,
    ecs: &Ecs,
    new: &Image,
    wanted: &str,
) -> Result<()> {
    let policy = &Policy::CALL;
    let rename = async |id: &str, name: &str| ecs.modify_image(id, &[(NAME, name)], policy).await;
    let holders = context.block_on(async { Ok(ecs.images_named(wanted, policy).await?) })?;
    let Some(old) = holders.into_iter().find(|image| image.image_id != new.image_id) else {
        return context.block_on(async { Ok(rename(&new.image_id, wanted).await?) });
    };
    if !config.replace {
        let message = format!("image `{wanted}` exists already: {}", old.image_id);
        return Err(
            Error::new(ErrorKind::Conflict, message).with_hint("set ALIBABA_IF_EXISTS=replace")
        );
    }
    let aside = beside(wanted, "old", &old.image_id);
    let step = Resource::new(RENAMED, wanted)
        .in_region(&ecs.region)
        .with_id(&old.image_id)
        .with("aside", &aside)
        .with("new_image", &new.image_id)
        .with("new_name", &new.image_name);
    context.will_create(&step)?;
    let mut replaced: Vec<Replaced> = context.load(REPLACED)?.unwrap_or_default();
    let entry =
        Replaced { region: ecs.region.clone(), id: old.image_id.clone(), aside: aside.clone() };
    if !replaced.contains(&entry) {
        replaced.push(entry.clone());
        context.save(REPLACED, &replaced)?;
    }
    let swapped = context.block_on(async {
        let moved: Result<(), Failure> = async {
            rename(&old.image_id, &aside).await?;
            rename(&new.image_id, wanted).await
        }
        .await;
        let Err(failure) = moved else { return Ok(Ok(())) };
        // The first rename may have been done although it was answered by a broken line.
        rename(&old.image_id, wanted).await?;
        Ok(Err(Error::from(failure)))
    });
    match swapped? {
        Ok(()) => context.gone(&step),
        Err(error) => {
            replaced.retain(|known| *known != entry);
            context.save(REPLACED, &replaced)?;
            context.gone(&step)?;
            Err(error.with("kept_image", &old.image_id))
        }
    }
}

/// Deletes an image that was replaced, if it still has the name it was moved to. That it stays is
/// no failure of the build.
fn delete_replaced(context: &Context, ecs: &Ecs, old: &Replaced) -> Result<()> {
    let gone = context.block_on(async {
        let Some(image) = ecs.image(&old.id, &Policy::CALL).await? else { return Ok(Ok(())) };
        if image.image_name != old.aside {
            return Ok(Ok(()));
        }
        let resource = Resource::new(IMAGE, &old.aside).in_region(&ecs.region).with_id(&old.id);
        Ok(remove_image(None, ecs, &resource, "").await.map_err(Error::from))
    })?;
    match gone {
        Ok(()) => context.milestone(format!("the replaced image {} is deleted", old.id)),
        Err(error) => context.warning(
            format!("the replaced image {} is still there as `{}`: {error}", old.id, old.aside),
            format!(
                "delete it: aliyun ecs DeleteImage --RegionId {} --ImageId {} --Force true",
                ecs.region, old.id
            ),
        ),
    }
}
