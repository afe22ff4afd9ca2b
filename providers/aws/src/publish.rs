//! Registers the image from its snapshot, shares and deprecates it, and copies it to other regions. Every part is
//! compared with what the service has, so that a resumed run repeats nothing.

use std::collections::BTreeMap;

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result,
    document::{self, Build, RegisterRequest, Registered},
};
use serde_json::{Value, json};

use crate::{
    client::CALL,
    cloud::{Cloud, Session},
    config::Config,
    copies,
    ec2::{Ec2, Parameters, tag_specifications},
    finish,
    image::Image,
    marks::{self, DISK},
    owner::Owner,
    permissions::Call,
    refusal::refused_outright,
    replace::{Swap, taken},
    snapshot::foreign,
    state::{IMAGE, IMAGES_STATE},
};

/// Images of the run by region, as the checkpoint stores them.
pub(crate) type Images = BTreeMap<String, String>;

/// What a region needs to receive its image.
pub(crate) struct Publication<'a> {
    pub(crate) context: &'a Context,
    pub(crate) cloud: &'a Cloud<'a>,
    pub(crate) config: &'a Config,
    pub(crate) build: &'a Build,
    pub(crate) owner: &'a Owner,
}

/// Publishes the image of a build.
///
/// # Errors
/// Refusals; an image that is not as requested afterwards.
pub(crate) fn register(
    context: &Context,
    config: &Config,
    session: &Session,
    request: &RegisterRequest,
) -> Result<Registered> {
    context.check_cancelled()?;
    let facts = &request.uploaded.facts;
    let snapshot = facts.get("snapshot_id").and_then(Value::as_str).unwrap_or_default();
    let gib = facts.get("gib").and_then(Value::as_u64).unwrap_or_default();
    if snapshot.is_empty() {
        return Err(Error::internal("the upload reported no snapshot"));
    }
    context.block_on(async {
        let cloud = Cloud::open(context, config, session).await?;
        let owner = Owner::now(&cloud, &CALL).await?;
        let build = &marked(request);
        let publication = Publication { context, cloud: &cloud, config, build, owner: &owner };
        publication.run(snapshot, gib).await
    })
}

/// What is built, with the digest of its disk as a tag, which every image and snapshot of the build receives.
fn marked(request: &RegisterRequest) -> Build {
    let mut build = request.build.clone();
    build.tags.extend(request.disk_digest.clone().map(|digest| (DISK.to_owned(), digest)));
    build
}

/// The images and the members of the result document; the first image is that of the region of the build.
pub(crate) fn answer(
    all: Vec<document::Image>,
    home: &Image,
    region: &str,
    account: &str,
) -> Registered {
    let facts = [
        ("image_id", json!(home.image_id)),
        ("region", json!(region)),
        ("snapshot_id", json!(home.snapshots().first())),
        ("account_id", json!(account)),
    ];
    Registered::default().images(all).facts(facts)
}

impl Publication<'_> {
    async fn run(&self, snapshot: &str, gib: u64) -> Result<Registered> {
        let Self { context, cloud, config, build, .. } = *self;
        let ec2 = Ec2::open(cloud, &cloud.region)?;
        self.check_copies_before_replacing().await?;
        let parameters = config.attributes.parameters(build, snapshot, gib);
        let image = self.obtain(&ec2, &parameters, &BTreeMap::new()).await?;
        let image = finish::available(&ec2, &image, config.image).await?;
        finish::finish(self, &ec2, &image, None).await?;
        let id = &image.image_id;
        context.milestone(format!(
            "registered image `{}` ({id}) in {}",
            build.image_name, ec2.region
        ))?;
        let copied = copies::copy(self, &image).await?;
        let named = |id: &str| document::Image::new(id, &build.image_name);
        let others = copied.iter().map(|(region, id)| named(id).region(region));
        let all = std::iter::once(named(id).region(&ec2.region)).chain(others).collect();
        Ok(answer(all, &image, &ec2.region, &self.owner.account))
    }

    /// Refuses a taken name in any region before anything is deregistered.
    async fn check_copies_before_replacing(&self) -> Result<()> {
        if self.config.replace {
            return Ok(());
        }
        for region in copies::regions(self) {
            let ec2 = Ec2::open(self.cloud, &region)?;
            if let Some(other) = self.swap(&ec2).others().await?.first() {
                return Err(taken(other, &region));
            }
        }
        Ok(())
    }

    pub(crate) fn swap<'b>(&'b self, ec2: &'b Ec2) -> Swap<'b> {
        Swap {
            context: self.context,
            ec2,
            owner: self.owner,
            run: &self.build.run_id,
            name: &self.build.image_name,
        }
    }

    /// Returns the resource of an image.
    pub(crate) fn resource(&self, region: &str, name: &str) -> Resource {
        let resource = Resource::new(IMAGE, name).in_region(region);
        self.owner.mark(resource, &self.build.run_id).as_deliverable()
    }

    /// Returns the image of an earlier attempt in a region, or registers it; with the permission of the settings it
    /// takes the name of another image.
    ///
    /// # Errors
    /// Refusals; a conflict when another image has the name.
    pub(crate) async fn obtain(
        &self,
        ec2: &Ec2,
        parameters: &Parameters,
        more: &BTreeMap<String, String>,
    ) -> Result<String> {
        let Self { context, build, config, .. } = *self;
        if let Some(id) = self.known(ec2).await? {
            return Ok(id);
        }
        let swap = self.swap(ec2);
        let resource = self.resource(&ec2.region, &build.image_name);
        if let Some(ours) = swap.ours().await? {
            // The answer of an earlier attempt was lost.
            return self.keep(resource, &ec2.region, ours.image_id);
        }
        let old = swap.others().await?;
        if let Some(other) = old.first().filter(|_| !config.replace) {
            return Err(taken(other, &ec2.region));
        }
        let records = swap.free_name(&old).await?;
        let mut parameters = parameters.clone();
        let mut tags = marks::of(build);
        tags.extend(more.clone());
        parameters.extend(tag_specifications(&["image"], &tags));
        context.check_cancelled()?;
        context.will_create(&resource)?;
        let object = format!("image `{}`", build.image_name);
        let made = context
            .until_answered(ec2.make_image(Call::RegisterImage, &parameters, &object, &CALL))
            .await;
        match made {
            Ok(id) => self.keep(resource, &ec2.region, id),
            Err(failure) => {
                // A repeated request finds the name taken by the first one, whose answer was lost.
                if let Some(ours) = swap.ours().await? {
                    return self.keep(resource, &ec2.region, ours.image_id);
                }
                if refused_outright(&failure) {
                    context.gone(&resource)?;
                }
                swap.restore(records).await;
                Err(failure.into())
            }
        }
    }

    /// Returns the image that an earlier attempt registered in a region, if it still exists.
    ///
    /// # Errors
    /// Refusals; a conflict for an image without the mark of the run.
    pub(crate) async fn known(&self, ec2: &Ec2) -> Result<Option<String>> {
        let images: Images = self.context.load(IMAGES_STATE)?.unwrap_or_default();
        let Some(id) = images.get(&ec2.region) else { return Ok(None) };
        let Some(found) = ec2.image(id, &CALL).await? else { return Ok(None) };
        if !found.is_of(&self.build.run_id) {
            return Err(foreign("image", id));
        }
        if found.name != self.build.image_name {
            return Ok(None);
        }
        self.context.will_create(&self.resource(&ec2.region, &found.name).with_id(id))?;
        Ok(Some(id.clone()))
    }

    /// Records the image of a region.
    pub(crate) fn keep(&self, resource: Resource, region: &str, id: String) -> Result<String> {
        self.context.created(&resource.with_id(&id))?;
        // Copies to several regions run at once, but on one thread at a time between two awaits.
        let mut images: Images = self.context.load(IMAGES_STATE)?.unwrap_or_default();
        images.insert(region.to_owned(), id.clone());
        self.context.save(IMAGES_STATE, &images)?;
        Ok(id)
    }
}

/// The error for an image that failed.
pub(crate) fn failed(image: &Image, region: &str) -> Error {
    let message = format!("image `{}` in {region} is {}", image.image_id, image.image_state);
    let mut error = Error::new(ErrorKind::Provider, message)
        .with_hint("the vendor's text says why; build again, or resume the run");
    error.causes.extend(image.state_reason.as_ref().map(|reason| reason.message.clone()));
    error
}
