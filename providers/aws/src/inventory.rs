//! Lists what carries the marks of builds: images and snapshots of every region, objects, unfinished uploads, and imports
//! of the bucket.
//!
//! Without regions in the request, all regions that the account has enabled are read: a forgotten image costs the same
//! everywhere. That is one request for the account and one for the regions, two to four per region, and one more per object
//! and upload. The bucket of `AWS_BUCKET` is read below `AWS_S3_PREFIX`, with the imports of its region.

mod bucket;
mod region;

pub(crate) use region::deprecated_at;

use build_image_plugin_api::{
    Context, Resource, Result,
    document::{Finding, Inventory, InventoryRequest, Item, ItemKind},
    ready::inventory,
};
use futures_util::{StreamExt as _, stream};

use crate::{
    check_calls::listed_regions,
    cloud::{Cloud, Session},
    config::Config,
    discard::POLICY,
    ec2::Parameters,
    marks,
    owner::Owner,
};

/// Number of regions that are read at once, and of requests within one.
const AT_A_TIME: usize = 8;

/// The parameters of one listing.
struct Reader<'a> {
    cloud: &'a Cloud<'a>,
    request: &'a InventoryRequest,
    owner: Owner,
}

/// Lists the account.
///
/// # Errors
/// Refused credentials, or no region at all; a region that cannot be read is a finding.
pub(crate) fn inventory(
    context: &Context,
    config: &Config,
    session: &Session,
    request: &InventoryRequest,
) -> Result<Inventory> {
    context.check_cancelled()?;
    context.block_on(async {
        let cloud = Cloud::open(context, config, session).await?;
        // Resources name their account: another one that does not find them must not count them as removed.
        let owner = Owner::now(&cloud, &POLICY).await?;
        let reader = Reader { cloud: &cloud, request, owner };
        Ok(reader.read().await)
    })
}

impl Reader<'_> {
    async fn read(&self) -> Inventory {
        let mut all = Inventory::default();
        let regions = self.regions(&mut all.findings).await;
        // What the earlier answers contained is not read again.
        let done = |region: &String| inventory::is_before(region, self.request.after.as_deref());
        let regions = regions.into_iter().filter(|region| !done(region));
        let reads = stream::iter(regions).map(async |region| {
            let read = self.place(&region).await;
            (region, read)
        });
        let mut reads = reads.buffered(AT_A_TIME);
        while let Some((region, (items, findings))) = reads.next().await {
            if findings.is_empty() {
                all.regions.push(region);
            }
            all.items.extend(items);
            all.findings.extend(findings);
        }
        all.items.retain(|item| inventory::matches(self.request, item));
        inventory::cut(self.request, &mut all);
        all
    }

    /// Regions to read: those of the request, those of the objects that it names, or all that are enabled.
    async fn regions(&self, findings: &mut Vec<Finding>) -> Vec<String> {
        let mut regions = self.request.regions.clone();
        if regions.is_empty() && !self.request.items.is_empty() {
            let named = self.request.items.iter().map(|item| item.region.clone());
            regions = named.collect::<Option<Vec<String>>>().unwrap_or_default();
        }
        if regions.is_empty() {
            match listed_regions(self.cloud, &Parameters::new(), &POLICY).await {
                Ok(listed) => regions.extend(listed.into_iter().map(|region| region.region_name)),
                Err(error) => findings.push(Finding::error("regions", &error)),
            }
            regions.push(self.cloud.region.clone());
            regions.extend(self.cloud.config.copy_regions.iter().cloned());
        }
        regions.sort();
        regions.dedup();
        regions
    }

    /// Everything of a region, and what of it could not be read.
    async fn place(&self, region: &str) -> (Vec<Item>, Vec<Finding>) {
        let mut findings = Vec::new();
        let mut items = self.region(region).await.unwrap_or_else(|error| {
            findings.push(Finding::error(format!("region {region}"), &error));
            Vec::new()
        });
        if let Some(bucket) = self.cloud.config.bucket.as_deref().filter(|_| self.is_home(region)) {
            match self.bucket(bucket, region).await {
                Ok(found) => items.extend(found),
                Err(error) => findings.push(Finding::error(format!("bucket {bucket}"), &error)),
            }
        }
        (items, findings)
    }

    fn is_home(&self, region: &str) -> bool {
        region == self.cloud.region
    }

    fn wants(&self, kind: ItemKind) -> bool {
        self.request.kinds.is_empty() || self.request.kinds.contains(&kind)
    }

    /// Identifiers that the request names, of one kind and region.
    fn named(&self, kind: ItemKind, region: &str) -> Vec<String> {
        let here = |of: &Option<String>| of.as_deref().is_none_or(|of| of == region);
        let named =
            self.request.items.iter().filter(|item| item.kind == kind && here(&item.region));
        named.map(|item| item.id.clone()).collect()
    }

    /// Whether objects are named, rather than looked for by their marks.
    fn by_name(&self) -> bool {
        !self.request.items.is_empty()
    }

    /// The current time by the service's clock, in seconds since 1970-01-01 UTC.
    fn now(&self) -> u64 {
        marks::now(self.cloud.skew())
    }

    /// Adds what `discard` compares.
    fn owned(&self, resource: Resource, region: &str, run: Option<&str>) -> Resource {
        self.owner.mark(resource.in_region(region), run.unwrap_or_default())
    }
}
