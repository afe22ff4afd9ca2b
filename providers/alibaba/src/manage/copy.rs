//! Copies images to other regions, several copies at once.
//!
//! A copy is marked with its original from its first moment, and as unfinished until its attributes, tags and access are
//! those of the original. A call that was interrupted is repeated: it finds the copy by that mark and finishes it.
//!
//! Source: ECS API documentation, `CopyImage`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use build_image_plugin_api::{
    Error, ErrorKind, Resource, Result,
    document::{self, ManageOutcome, Managed, Reference},
    retry::Failure,
};

use super::{Manager, Target};
use crate::{
    acs::Parameters,
    client::CALL,
    copies::AT_A_TIME,
    ecs::{Ecs, pairs},
    image::{Image, Imported},
    import::{description, hex},
    marks::{self, COPY_OF, DISK, IMAGE_OF, is_mark, read_image, write_image},
    monitor::{Deadline, Waiter},
    names::tag_parameters,
    owner::ECS_CLOUD,
    refusal::refused_outright,
    snapshots::noted,
    state::IMAGE,
    tagging::MARK,
};

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
    target: Target,
    /// The image that this one is a copy of, or itself: all its copies are equal.
    original: Reference,
    /// Accounts that use it; empty when the copies are not shared.
    shares: Vec<String>,
}

/// One copy.
struct Copier<'a> {
    manager: &'a Manager<'a>,
    wish: &'a Wish<'a>,
    source: &'a Source<'a>,
    waiter: Waiter<'a>,
    ecs: Arc<Ecs>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Manager<'_> {
    /// Makes all copies.
    pub(super) fn copy(&self, wish: &Wish<'_>) -> Result<ManageOutcome> {
        if self.request.run_id.is_empty() && !self.request.dry_run {
            return Err(Error::config("a copy needs the identifier of its run"));
        }
        let mut sources = Vec::new();
        for reference in &self.request.images {
            self.context.check_cancelled()?;
            let source = self.context.block_on(self.source(reference, wish));
            if let Err(error) = &source
                && error.kind == ErrorKind::Cancelled
            {
                return Err(error.clone());
            }
            sources.push((reference, source));
        }
        let wanted = sources.iter().flat_map(|(reference, source)| {
            wish.regions.iter().map(move |region| (*reference, source, region))
        });
        let queue: VecDeque<_> = wanted.enumerate().collect();
        let workers = AT_A_TIME.min(queue.len());
        let queue = Mutex::new(queue);
        let results = Mutex::new(Vec::new());
        let deadline = Deadline::after(self.config.import.timeout);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        // The lock must not be held while a copy is made.
                        let next = lock(&queue).pop_front();
                        let Some((number, (reference, source, region))) = next else { break };
                        let made = match source {
                            Ok(source) => self.copy_to(wish, source, region, number, &deadline),
                            Err(error) => Err(error.clone()),
                        };
                        let made = made.unwrap_or_else(|error| Managed::refused(reference, &error));
                        lock(&results).push((number, made));
                    }
                });
            }
        });
        // After Ctrl-C the copies that were made keep their results.
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|(number, _)| *number);
        Ok(ManageOutcome::default().results(results.into_iter().map(|(_, result)| result)))
    }

    async fn source<'a>(&self, reference: &'a Reference, wish: &Wish<'_>) -> Result<Source<'a>> {
        let target = self.target(reference).await?;
        let id = &target.image.image_id;
        let itself = Reference::image(id).in_region(&target.ecs.region);
        let original = target.image.tag(COPY_OF).and_then(read_image).unwrap_or(itself);
        let shares = if wish.with_access {
            target.ecs.shares(id, &CALL).await?.into_iter().collect()
        } else {
            Vec::new()
        };
        Ok(Source { reference, target, original, shares })
    }

    fn copy_to(
        &self,
        wish: &Wish<'_>,
        source: &Source<'_>,
        region: &str,
        number: usize,
        deadline: &Deadline,
    ) -> Result<Managed> {
        let context = self.context;
        context.check_cancelled()?;
        let progress = u32::try_from(number).unwrap_or(u32::MAX);
        let longest_pause = self.config.import.longest_pause;
        let waiter = Waiter { context, longest_pause, deadline, progress };
        Copier { manager: self, wish, source, waiter, ecs: self.ecs(region)? }.run()
    }
}

impl Copier<'_> {
    fn run(&self) -> Result<Managed> {
        let (context, region) = (self.manager.context, &self.ecs.region);
        let reference = self.source.reference;
        if *region == self.source.target.ecs.region {
            return Ok(Managed::unchanged(reference).copy(self.entry(&self.source.target.image)));
        }
        let existing = context.block_on(async { Ok(self.existing().await?) })?;
        if let Some(copy) = &existing {
            check_state(copy, region)?;
            if !copy.tag(COPY_OF).is_some_and(marks::is_unfinished) {
                return Ok(Managed::unchanged(reference).copy(self.entry(copy)));
            }
        }
        let done = Managed::done(reference, format!("copied to {region}"));
        if self.manager.request.dry_run {
            if existing.is_none() {
                context.block_on(async { Ok(self.try_out().await?) })?;
            }
            return Ok(done);
        }
        let id = match existing {
            Some(copy) => copy.image_id,
            None => self.start()?,
        };
        let image = self.waiter.image(&self.ecs, &id)?;
        // A copy of another run is that run's resource.
        if image.is_tagged(MARK, &self.manager.request.run_id) {
            context.created(&noted(self.resource().with_id(&id), &image.snapshots()))?;
        }
        context.block_on(self.finish(&image))?;
        context.milestone(format!("image {id} is available in {region}"))?;
        Ok(done.copy(self.entry(&image)))
    }

    fn entry(&self, image: &Image) -> document::Image {
        document::Image::new(&image.image_id, &image.image_name).region(&self.ecs.region)
    }

    fn what(&self) -> String {
        format!("image `{}` to `{}`", self.source.target.image.image_id, self.ecs.region)
    }

    fn name(&self) -> &str {
        self.wish.name.unwrap_or(&self.source.target.image.image_name)
    }

    fn copy_of(&self) -> String {
        let original = &self.source.original;
        write_image(original.region.as_deref().unwrap_or_default(), &original.id)
    }

    /// The copy that the region has already: one of the same original, or the original itself. A finished one is
    /// preferred.
    async fn existing(&self) -> Result<Option<Image>, Failure> {
        let original = &self.source.original;
        if original.region.as_deref() == Some(&self.ecs.region)
            && let Some(image) = self.ecs.image(&original.id, &CALL).await?
        {
            return Ok(Some(image));
        }
        let filter = pairs(&[("Tag.1.Key", COPY_OF)]);
        let copies = self.ecs.images_with(&filter, &CALL).await?.into_iter();
        let same =
            copies.filter(|copy| copy.tag(COPY_OF).and_then(read_image).as_ref() == Some(original));
        Ok(same.min_by_key(|copy| copy.tag(COPY_OF).is_some_and(marks::is_unfinished)))
    }

    /// Requests the copy; it is recorded before.
    fn start(&self) -> Result<String> {
        let context = self.manager.context;
        let resource = self.resource();
        context.will_create(&resource)?;
        let mut parameters = self.parameters();
        let token = format!("{}\n{:?}", self.manager.request.run_id, parameters);
        parameters.push(("ClientToken".to_owned(), hex(token.as_bytes(), 24)));
        let made = context.block_on(async {
            match context.until_answered(self.call(&parameters)).await {
                Ok(copy) => Ok(copy.image_id),
                // Another call may have started the same copy in the meantime.
                Err(failure) if failure.has_code(&["InvalidImageName.Duplicated"]) => {
                    let copy = self.existing().await?;
                    copy.map(|copy| copy.image_id).ok_or_else(|| Error::from(failure))
                }
                Err(failure) => Err(failure.into()),
            }
        });
        match made {
            Ok(id) => {
                context.created(&resource.with_id(&id))?;
                Ok(id)
            }
            Err(error) => {
                // Nothing was made when the only attempt was refused; a broken connection proves nothing.
                if refused_outright(&error) {
                    context.gone(&resource)?;
                }
                Err(error)
            }
        }
    }

    /// Asks the service whether it would make the copy.
    async fn try_out(&self) -> Result<(), Failure> {
        let source = &self.source.target.ecs;
        self.manager.send(source, "CopyImage", self.parameters(), &self.what()).await
    }

    async fn call(&self, parameters: &Parameters) -> Result<Imported, Failure> {
        let service = &self.source.target.ecs.service;
        service.call("CopyImage", parameters, &self.what(), &CALL).await
    }

    fn parameters(&self) -> Parameters {
        let source = &self.source.target;
        let mut parameters = pairs(&[
            ("RegionId", &source.ecs.region),
            ("ImageId", &source.image.image_id),
            ("DestinationRegionId", &self.ecs.region),
            ("DestinationImageName", self.name()),
        ]);
        let text = description(&source.image.description);
        parameters.extend(text.map(|text| ("DestinationDescription".to_owned(), text)));
        if let Some(key) = self.wish.keys.get(&self.ecs.region) {
            parameters.extend(pairs(&[("Encrypted", "true"), ("KMSKeyId", key)]));
        }
        let group = Some(&source.image.resource_group_id).filter(|group| !group.is_empty());
        parameters.extend(group.map(|group| ("ResourceGroupId".to_owned(), group.clone())));
        let mut tags = self.tags();
        tags.insert(COPY_OF.to_owned(), marks::unfinished(&self.copy_of()));
        parameters.extend(tag_parameters(&tags));
        parameters
    }

    /// Tags of the copy: those of the original, and the marks.
    fn tags(&self) -> BTreeMap<String, String> {
        let mut tags = self.source.target.image.tags();
        tags.retain(|key, _| !is_mark(key) || key == DISK);
        let mut tags = marks::with_run(&tags, &self.manager.request.run_id);
        tags.insert(COPY_OF.to_owned(), self.copy_of());
        tags
    }

    fn resource(&self) -> Resource {
        let server = self.ecs.service.endpoint.cloud();
        Resource::new(IMAGE, self.name())
            .in_region(&self.ecs.region)
            .with(ECS_CLOUD, server)
            .with("copied_from", &self.source.target.image.image_id)
            .with("run", &self.manager.request.run_id)
            .as_deliverable()
    }

    /// Gives an available copy the attributes, tags and access of its original. The mark of a finished copy is last.
    async fn finish(&self, copy: &Image) -> Result<()> {
        let differences = differences(&self.source.target.image, copy);
        if !differences.is_empty() {
            self.ecs.modify_image(&copy.image_id, &differences, &CALL).await?;
        }
        let run = copy.tag(MARK).unwrap_or(&self.manager.request.run_id);
        let mut tags = self.tags();
        tags.insert(MARK.to_owned(), run.to_owned());
        let mut of_snapshots = tags.clone();
        of_snapshots.remove(COPY_OF);
        of_snapshots.insert(IMAGE_OF.to_owned(), copy.image_id.clone());
        self.ecs.tag("snapshot", &copy.snapshots(), &of_snapshots, &CALL).await?;
        if self.wish.with_access {
            self.give_access(copy).await?;
        }
        self.ecs.tag("image", std::slice::from_ref(&copy.image_id), &tags, &CALL).await?;
        Ok(())
    }

    async fn give_access(&self, copy: &Image) -> Result<()> {
        let target = Target { ecs: Arc::clone(&self.ecs), image: copy.clone() };
        self.manager.share(&target, &self.source.shares).await?;
        if self.source.target.image.is_public && !copy.is_public {
            self.manager.set_public(&target, true).await?;
        }
        Ok(())
    }
}

/// Attributes that a copy does not inherit, as parameters of `ModifyImageAttribute`.
fn differences<'a>(original: &'a Image, copy: &Image) -> Vec<(&'static str, &'a str)> {
    let all = [
        ("Features.NvmeSupport", &original.features.nvme_support, &copy.features.nvme_support),
        ("Features.ImdsSupport", &original.features.imds_support, &copy.features.imds_support),
        ("BootMode", &original.boot_mode, &copy.boot_mode),
        ("ImageFamily", &original.image_family, &copy.image_family),
    ];
    let differ = all.into_iter().filter(|(_, of, is)| !of.is_empty() && of != is);
    differ.map(|(name, of, _)| (name, of.as_str())).collect()
}

/// Refuses a copy that will never be available.
fn check_state(copy: &Image, region: &str) -> Result<()> {
    if copy.is_being_made() || matches!(copy.status.as_str(), "Available" | "Deprecated") {
        return Ok(());
    }
    let (id, status) = (&copy.image_id, &copy.status);
    let message = format!("the copy `{id}` in {region} is in state {status}");
    Err(Error::new(ErrorKind::Conflict, message).with_hint("delete it and copy again"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_attributes_that_the_original_reports_are_set() {
        let read = |value| serde_json::from_value::<Image>(value).unwrap();
        let original = read(json!({"BootMode": "UEFI", "ImageFamily": "web",
            "Features": {"NvmeSupport": "supported"}}));
        let copy = read(
            json!({"BootMode": "UEFI", "Features": {"NvmeSupport": "unsupported", "ImdsSupport": "v1"}}),
        );
        let found = differences(&original, &copy);
        assert_eq!(found, [("Features.NvmeSupport", "supported"), ("ImageFamily", "web")]);
        assert!(differences(&original, &original).is_empty());
    }
}
