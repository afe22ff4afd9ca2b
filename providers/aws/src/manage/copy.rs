//! Copies images to other regions, several copies at once.
//!
//! A copy is marked with its original from its first moment, and as unfinished until its tags, access, and deprecation are
//! those of the original. A call that was interrupted is repeated: it finds the copy by that mark and finishes it.
//!
//! Source: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopyImage.html>.

use std::collections::BTreeMap;

use build_image_plugin_api::{
    Error, ErrorKind, Resource, Result,
    document::{self, ManageOutcome, Managed, Reference},
    retry::Failure,
};
use futures_util::{StreamExt as _, stream};

use super::{Manager, Target, deprecation};
use crate::{
    check_calls::{Region, listed_regions, not_enabled},
    client::CALL,
    copies::SOURCE,
    ec2::{Ec2, Parameters, pairs, tag_specifications},
    finish,
    image::Image,
    inventory::deprecated_at,
    marks::{self, COPY_OF, DISK, IMAGE_OF, MARK, is_mark, write_image},
    permissions::Call,
    refusal::refused_outright,
    sharing::{self, Permission},
    state::{IMAGE, token},
};

/// Copies that are made at the same time.
const AT_A_TIME: usize = 5;

/// Which copies are wanted.
pub(super) struct Wish<'a> {
    pub(super) regions: &'a [String],
    pub(super) name: Option<&'a str>,
    pub(super) with_access: bool,
    pub(super) keys: &'a BTreeMap<String, String>,
}

/// An image to copy.
struct Source<'a> {
    reference: &'a Reference,
    /// The named image.
    named: Target,
    /// The image that is copied: the named one, or the one that it is a copy of, if that still exists.
    target: Target,
    /// All images that count as the original: copies of one are copies of all.
    originals: Vec<Reference>,
    /// Who uses it; empty when the copies are not shared.
    permissions: Vec<Permission>,
    /// Accounts that may use its snapshots.
    users: Vec<String>,
}

/// One copy.
struct Copier<'a> {
    manager: &'a Manager<'a>,
    wish: &'a Wish<'a>,
    source: &'a Source<'a>,
    ec2: Ec2,
}

impl Manager<'_> {
    /// Makes all copies.
    pub(super) async fn copy(&self, wish: &Wish<'_>) -> Result<ManageOutcome> {
        if self.request.run_id.is_empty() && !self.request.dry_run {
            return Err(Error::config("a copy needs the identifier of its run"));
        }
        let all = pairs(&[("AllRegions", "true")]);
        // Who may not list the regions learns from the copy which one is not enabled.
        let listed = listed_regions(self.cloud, &all, &CALL).await.unwrap_or_default();
        let mut sources = Vec::new();
        for reference in &self.request.images {
            self.context.check_cancelled()?;
            sources.push((reference, self.source(reference, wish).await));
        }
        let wanted = sources.iter().flat_map(|(reference, source)| {
            wish.regions.iter().map(move |region| (*reference, source, region))
        });
        let copies = stream::iter(wanted).map(async |(reference, source, region)| {
            let made = match source {
                Ok(source) => self.copy_to(wish, source, region, &listed).await,
                Err(error) => Err(error.clone()),
            };
            made.unwrap_or_else(|error| Managed::refused(reference, &error))
        });
        let results: Vec<Managed> = copies.buffered(AT_A_TIME).collect().await;
        self.context.check_cancelled()?;
        Ok(ManageOutcome::default().results(results))
    }

    async fn source<'a>(&self, reference: &'a Reference, wish: &Wish<'_>) -> Result<Source<'a>> {
        let named = self.target(reference).await?;
        named.must_be_complete()?;
        let itself = |target: &Target| {
            Reference::image(&target.image.image_id).in_region(&target.ec2.region)
        };
        let mut originals = vec![itself(&named)];
        let mut target = named.clone();
        if let Some(original) = named.image.copy_of().filter(|_| named.image.run().is_some()) {
            let first = self.target(&original).await.ok();
            target = first.filter(|first| first.must_be_complete().is_ok()).unwrap_or(target);
            originals.push(original);
        }
        let (mut permissions, mut users) = (Vec::new(), Vec::new());
        if wish.with_access {
            permissions = sharing::permissions(&named.ec2, &named.image.image_id, &CALL).await?;
            users = self.users(&named).await?.into_values().flatten().collect();
            users.sort();
            users.dedup();
        }
        Ok(Source { reference, named, target, originals, permissions, users })
    }

    async fn copy_to(
        &self,
        wish: &Wish<'_>,
        source: &Source<'_>,
        region: &str,
        listed: &[Region],
    ) -> Result<Managed> {
        self.context.check_cancelled()?;
        match listed.iter().find(|one| one.region_name == region) {
            Some(one) if one.is_disabled() => return Err(not_enabled(region)),
            None if !listed.is_empty() => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("region {region} does not exist"),
                )
                .with_hint("name a region of: aws ec2 describe-regions --all-regions"));
            }
            _ => {}
        }
        let ec2 = Ec2::open(self.cloud, region)?;
        Copier { manager: self, wish, source, ec2 }.run().await
    }
}

impl Copier<'_> {
    async fn run(&self) -> Result<Managed> {
        let (context, region) = (self.manager.context, &self.ec2.region);
        let (reference, named) = (self.source.reference, &self.source.named);
        if *region == named.ec2.region {
            return Ok(Managed::unchanged(reference).copy(self.entry(&named.image)));
        }
        let existing = self.existing().await?;
        if let Some(copy) = &existing {
            check_state(copy, region)?;
            if !copy.is_unfinished_copy() {
                return Ok(Managed::unchanged(reference).copy(self.entry(copy)));
            }
        }
        let done = Managed::done(reference, format!("copied to {region}"));
        if self.manager.request.dry_run {
            if existing.is_none() {
                let (parameters, object) = (self.parameters(), self.source.target.object());
                self.manager.send(&self.ec2, Call::CopyImage, parameters, &object).await?;
            }
            return Ok(done);
        }
        let id = match existing {
            Some(copy) => copy.image_id,
            None => self.start().await?,
        };
        let limits = self.manager.cloud.config.import;
        let image = finish::available(&self.ec2, &id, limits).await?;
        // A copy of another run is that run's resource.
        if image.is_of(&self.manager.request.run_id) {
            context.created(&self.resource().with_id(&id))?;
        }
        self.finish(&image).await?;
        context.milestone(format!("image {id} is available in {region}"))?;
        Ok(done.copy(self.entry(&image)))
    }

    fn entry(&self, image: &Image) -> document::Image {
        document::Image::new(&image.image_id, &image.name).region(&self.ec2.region)
    }

    fn name(&self) -> &str {
        self.wish.name.unwrap_or(&self.source.named.image.name)
    }

    fn copy_of(&self) -> String {
        let Target { ec2, image } = &self.source.target;
        write_image(&ec2.region, &image.image_id)
    }

    /// The copy that the region has already: one of the same original, or the original itself. A finished one is
    /// preferred.
    async fn existing(&self) -> Result<Option<Image>> {
        let region = Some(&self.ec2.region);
        for original in self.source.originals.iter().filter(|one| one.region.as_ref() == region) {
            if let Some(image) = self.manager.find(&self.ec2, &original.id).await? {
                return Ok(Some(image));
            }
        }
        let values = self.source.originals.iter().flat_map(|original| {
            let value = write_image(original.region.as_deref().unwrap_or_default(), &original.id);
            [marks::unfinished(&value), value]
        });
        let filter = (format!("tag:{COPY_OF}"), values.collect());
        let copies = self.ec2.own_images(&[filter], &CALL).await?.into_iter();
        let same = copies.filter(|copy| copy.run().is_some());
        Ok(same.min_by_key(Image::is_unfinished_copy))
    }

    /// Requests the copy; it is recorded before.
    async fn start(&self) -> Result<String> {
        let (context, resource) = (self.manager.context, self.resource());
        let mut parameters = self.parameters();
        let key = self.wish.keys.get(&self.ec2.region).map_or("", String::as_str);
        let (run, of) = (&self.manager.request.run_id, self.copy_of());
        let client = token(&[run, &of, &self.ec2.region, self.name(), key]);
        parameters.push(("ClientToken".to_owned(), client));
        context.will_create(&resource)?;
        let object = self.source.target.object();
        let made = self.ec2.make_image(Call::CopyImage, &parameters, &object, &CALL);
        let failure = match context.until_answered(made).await {
            Ok(id) => {
                context.created(&resource.with_id(&id))?;
                return Ok(id);
            }
            Err(failure) => failure,
        };
        // The answer was lost, or another call has started the same copy in the meantime.
        if let Some(copy) = self.existing().await? {
            if !copy.is_of(run) {
                context.gone(&resource)?;
            }
            return Ok(copy.image_id);
        }
        // Nothing was made when the only attempt was refused; a broken connection proves nothing.
        if refused_outright(&failure) {
            context.gone(&resource)?;
        }
        Err(failure.into())
    }

    fn parameters(&self) -> Parameters {
        let Target { ec2, image } = &self.source.target;
        let mut parameters = pairs(&[
            ("SourceImageId", &image.image_id),
            ("SourceRegion", &ec2.region),
            ("Name", self.name()),
        ]);
        let text = image.description.clone().filter(|text| !text.is_empty());
        parameters.extend(text.map(|text| ("Description".to_owned(), text)));
        if let Some(key) = self.wish.keys.get(&self.ec2.region) {
            parameters.extend(pairs(&[("Encrypted", "true"), ("KmsKeyId", key)]));
        }
        let mut tags = self.tags(&self.manager.request.run_id);
        tags.insert(COPY_OF.to_owned(), marks::unfinished(&self.copy_of()));
        parameters.extend(tag_specifications(&["image", "snapshot"], &tags));
        parameters
    }

    /// Tags of the copy: those of the original, and the marks.
    fn tags(&self, run: &str) -> BTreeMap<String, String> {
        let mut tags = self.source.named.image.tags();
        tags.retain(|key, _| !key.starts_with("aws:") && (!is_mark(key) || key == DISK));
        tags.insert(MARK.to_owned(), run.to_owned());
        tags.insert(COPY_OF.to_owned(), self.copy_of());
        tags
    }

    fn resource(&self) -> Resource {
        let resource = Resource::new(IMAGE, self.name())
            .in_region(&self.ec2.region)
            .with(SOURCE, &self.source.target.image.image_id);
        let run = &self.manager.request.run_id;
        self.manager.owner.mark(resource, run).as_deliverable()
    }

    /// Gives an available copy the tags, access, and deprecation of its original. The mark of a finished copy is last.
    async fn finish(&self, copy: &Image) -> Result<()> {
        let manager = self.manager;
        let run = copy.run().unwrap_or(&manager.request.run_id);
        let mut tags = self.tags(run);
        // A call that was repeated may find the copy of another original.
        tags.extend(copy.copy_of().map(|of| {
            let region = of.region.as_deref().unwrap_or_default();
            (COPY_OF.to_owned(), write_image(region, &of.id))
        }));
        let mut of_snapshots = tags.clone();
        of_snapshots.insert(IMAGE_OF.to_owned(), copy.image_id.clone());
        let snapshots = copy.snapshots();
        let ids: Vec<&str> = snapshots.iter().map(String::as_str).collect();
        self.ec2.tag(&ids, &of_snapshots, &CALL).await?;
        let target = Target { ec2: self.ec2.clone(), image: copy.clone() };
        self.give_access(&target).await?;
        if let Some(at) = deprecated_at(&self.source.named.image) {
            let wish = deprecation::Wish { at: Some(at), disabled_at: None, replacement: None };
            manager.deprecate(&target, &wish).await?;
        }
        Ok(self.ec2.tag(&[&copy.image_id], &tags, &CALL).await?)
    }

    async fn give_access(&self, target: &Target) -> Result<()> {
        let Source { permissions, users, .. } = self.source;
        if permissions.is_empty() && users.is_empty() {
            return Ok(());
        }
        if sharing::is_public(permissions) {
            self.manager.must_not_block(target).await?;
        }
        let snapshots = target.image.snapshots().into_iter();
        let users = snapshots.map(|snapshot| (snapshot, users.clone())).collect();
        self.manager.change_users(target, "Add", &users).await?;
        let present = sharing::permissions(&self.ec2, &target.image.image_id, &CALL).await?;
        let new: Vec<Permission> =
            permissions.iter().filter(|one| !present.contains(one)).cloned().collect();
        Ok(self.manager.change_permissions(target, "Add", &new).await?)
    }
}

/// Refuses a copy that will never be available.
fn check_state(copy: &Image, region: &str) -> Result<(), Failure> {
    if copy.is_pending() || ["available", "disabled"].contains(&copy.image_state.as_str()) {
        return Ok(());
    }
    let (id, state) = (&copy.image_id, &copy.image_state);
    let message = format!("the copy `{id}` in {region} is in state {state}");
    Err(Failure::stop(
        Error::new(ErrorKind::Conflict, message).with_hint("delete it and copy again"),
    ))
}
