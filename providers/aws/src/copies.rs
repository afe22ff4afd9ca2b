//! Copies the image to other regions, all at the same time, and finishes each copy as the image itself. A copy that
//! replaces an image is made under a working name first, so that the old image exists until the copy is complete.

use std::collections::BTreeMap;

use build_image_plugin_api::{Error, Resource, Result};
use futures_util::future::join_all;

use crate::{
    attributes::description,
    client::CALL,
    ec2::{Ec2, Parameters, pairs, tag_specifications},
    finish,
    image::Image,
    marks::{self, COPY_OF},
    permissions::Call,
    publish::Publication,
    refusal::refused_outright,
    replace::taken,
    state::token,
};

/// Attribute with the id of the image that was copied.
pub(crate) const SOURCE: &str = "copied_from";

/// Returns the regions of the copies.
pub(crate) fn regions(publication: &Publication<'_>) -> Vec<String> {
    let home = &publication.cloud.region;
    publication.config.copy_regions.iter().filter(|region| *region != home).cloned().collect()
}

/// Copies an image; returns region and id of every copy.
///
/// # Errors
/// One error that names every region that failed.
pub(crate) async fn copy(
    publication: &Publication<'_>,
    source: &Image,
) -> Result<Vec<(String, String)>> {
    let copies = regions(publication).into_iter().map(async |region| {
        let copier = Copier { publication, source };
        let made = copier.copy(&region).await;
        (region, made)
    });
    judge(publication, source, join_all(copies).await)
}

fn judge(
    publication: &Publication<'_>,
    source: &Image,
    outcomes: Vec<(String, Result<String>)>,
) -> Result<Vec<(String, String)>> {
    publication.context.check_cancelled()?;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for (region, outcome) in outcomes {
        match outcome {
            Ok(id) => done.push((region, id)),
            Err(error) => failed.push((region, error)),
        }
    }
    let Some((_, first)) = failed.first() else { return Ok(done) };
    let names: Vec<String> = failed.iter().map(|(region, _)| format!("`{region}`")).collect();
    let message = format!("image `{}` was not copied to {}", source.image_id, names.join(", "));
    let hint = first.hint.as_deref().unwrap_or("look at the causes");
    let mut error = Error::new(first.kind, message)
        .with_context("regions_done", done.len())
        .with_hint(format!("{hint}; a resumed run copies only what is missing"));
    error.retryable = failed.iter().all(|(_, error)| error.retryable);
    error.exhausted = failed.iter().filter_map(|(_, error)| error.exhausted).max();
    error.exhausted = error.exhausted.filter(|_| error.retryable);
    for (region, cause) in failed {
        error.causes.push(format!("{region}: {cause}"));
        error.causes.extend(cause.causes);
    }
    Err(error)
}

struct Copier<'a> {
    publication: &'a Publication<'a>,
    source: &'a Image,
}

impl Copier<'_> {
    async fn copy(&self, region: &str) -> Result<String> {
        let Publication { context, cloud, config, build, .. } = *self.publication;
        let ec2 = Ec2::open(cloud, region)?;
        let id = match self.publication.known(&ec2).await? {
            Some(id) => id,
            None => self.make(&ec2).await?,
        };
        let image = finish::available(&ec2, &id, config.import).await?;
        finish::finish(self.publication, &ec2, &image, Some(&self.copy_of())).await?;
        context.milestone(format!("copied image `{}` ({id}) to {region}", build.image_name))?;
        Ok(id)
    }

    /// Makes a copy that has the name.
    async fn make(&self, ec2: &Ec2) -> Result<String> {
        let Publication { context, config, build, .. } = *self.publication;
        let swap = self.publication.swap(ec2);
        let old = swap.others().await?;
        if let Some(other) = old.first().filter(|_| !config.replace) {
            return Err(taken(other, &ec2.region));
        }
        let working = format!("build-image-{}", &token(&[&build.run_id, &ec2.region])[..16]);
        // An earlier attempt may have deregistered the old image already.
        let unfinished = self.of_name(ec2, &working).await?;
        if old.is_empty() && unfinished.is_none() {
            let resource = self.resource(ec2, &build.image_name);
            let id = match self.of_name(ec2, &build.image_name).await? {
                Some(ours) => ours.image_id,
                None => self.call(ec2, &build.image_name, &resource).await?,
            };
            return self.publication.keep(resource, &ec2.region, id);
        }
        let resource = self.resource(ec2, &working);
        let id = match unfinished {
            Some(ours) => ours.image_id,
            None => self.call(ec2, &working, &resource).await?,
        };
        context.created(&resource.clone().with_id(&id))?;
        let copy = finish::available(ec2, &id, config.import).await?;
        let mut parameters = copy.parameters();
        for (name, value) in &mut parameters {
            if name == "Name" {
                value.clone_from(&build.image_name);
            }
        }
        let named = self.publication.obtain(ec2, &parameters, &self.mark()).await?;
        // Both images use the same snapshots.
        ec2.deregister(&id, &CALL).await?;
        context.gone(&resource)?;
        Ok(named)
    }

    fn copy_of(&self) -> String {
        marks::write_image(&self.publication.cloud.region, &self.source.image_id)
    }

    /// The mark of a copy that is not finished.
    fn mark(&self) -> BTreeMap<String, String> {
        marks::tags([(COPY_OF, &marks::unfinished(&self.copy_of()))])
    }

    /// Returns the image of this run that has a name.
    async fn of_name(&self, ec2: &Ec2, name: &str) -> Result<Option<Image>> {
        let run = &self.publication.build.run_id;
        let found = ec2.images_with("name", name, &CALL).await?;
        Ok(found.into_iter().find(|image| image.name == name && image.is_of(run)))
    }

    fn resource(&self, ec2: &Ec2, name: &str) -> Resource {
        self.publication.resource(&ec2.region, name).with(SOURCE, &self.source.image_id)
    }

    /// Requests a copy; returns its id.
    async fn call(&self, ec2: &Ec2, name: &str, resource: &Resource) -> Result<String> {
        let Publication { context, cloud, config, build, .. } = *self.publication;
        let key = config.copy_keys.get(&ec2.region);
        let (id, home) = (&self.source.image_id, &cloud.region);
        let client = token(&[&build.run_id, id, &ec2.region, name, key.map_or("", String::as_str)]);
        let mut parameters: Parameters = pairs(&[
            ("SourceImageId", id),
            ("SourceRegion", home),
            ("Name", name),
            ("Description", &description(build)),
            ("ClientToken", &client),
        ]);
        if let Some(key) = key {
            parameters.extend(pairs(&[("Encrypted", "true"), ("KmsKeyId", key)]));
        }
        let mut tags = marks::of(build);
        tags.extend(self.mark());
        parameters.extend(tag_specifications(&["image", "snapshot"], &tags));
        context.check_cancelled()?;
        context.will_create(resource)?;
        let object = format!("image `{id}`");
        let made = context
            .until_answered(ec2.make_image(Call::CopyImage, &parameters, &object, &CALL))
            .await;
        match made {
            Ok(id) => Ok(id),
            Err(failure) => {
                if let Some(ours) = self.of_name(ec2, name).await? {
                    return Ok(ours.image_id);
                }
                if refused_outright(&failure) {
                    context.gone(resource)?;
                }
                Err(failure.into())
            }
        }
    }
}
