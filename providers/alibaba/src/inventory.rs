//! Lists what carries the marks of builds: images, snapshots and running imports of every region, objects and unfinished
//! uploads of the bucket.
//!
//! Without regions in the request, all regions of the vendor are read: a forgotten image costs the same everywhere. That
//! is one request each for the account and the regions, two per region, and one more per object, upload and running import; eight regions are
//! read at once. Objects are found below `ALIBABA_OSS_PREFIX`.

mod bucket;
mod region;

use std::sync::Arc;

use build_image_plugin_api::{
    Context, Error, Resource, Result,
    document::{Finding, Inventory, InventoryRequest, Item, ItemKind},
    ready::inventory,
};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use crate::{
    client::HttpClient, config::Config, credentials::Credentials, discard::POLICY, ecs::Ecs,
    owner::Guard,
};

/// Number of regions that are read at once, and of requests within one.
const AT_A_TIME: usize = 8;
/// What was active within this time is claimed by a live run, in seconds.
const LEASE: u64 = 3600;

/// The parameters of one listing.
struct Reader<'a> {
    config: &'a Config,
    credentials: &'a Arc<Credentials>,
    request: &'a InventoryRequest,
}

/// Lists the account.
///
/// # Errors
/// When no region is known at all; a region that cannot be read is a finding.
pub(crate) fn inventory(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
    request: &InventoryRequest,
) -> Result<Inventory> {
    let reader = Reader { config, credentials, request };
    context.block_on(async { reader.read().await })
}

impl Reader<'_> {
    async fn read(&self) -> Result<Inventory> {
        let mut all = Inventory::default();
        // Resources name their account: another one that does not find them must not count them as removed.
        Guard { config: self.config, credentials: self.credentials, account: None }.learn().await;
        let regions = self.regions(&mut all.findings).await?;
        // What the earlier answers contained is not read again.
        let done = |region: &String| inventory::is_before(region, self.request.after.as_deref());
        let regions = regions.into_iter().filter(|region| !done(region));
        let reads = stream::iter(regions).map(async |region| {
            let read = self.place(&region).await;
            (region, read)
        });
        let mut reads = reads.buffered(AT_A_TIME);
        while let Some((region, read)) = reads.next().await {
            let (items, findings) = read;
            if findings.is_empty() {
                all.regions.push(region);
            }
            all.items.extend(items);
            all.findings.extend(findings);
        }
        all.items.retain(|item| inventory::matches(self.request, item));
        inventory::cut(self.request, &mut all);
        Ok(all)
    }

    /// Regions to read: those of the request, those of the objects that it names, or all.
    async fn regions(&self, findings: &mut Vec<Finding>) -> Result<Vec<String>> {
        let mut regions = self.request.regions.clone();
        if regions.is_empty() && !self.request.items.is_empty() {
            let named = self.request.items.iter().map(|item| item.region.clone());
            regions = named.collect::<Option<Vec<String>>>().unwrap_or_default();
        }
        if regions.is_empty() {
            let home = self.config.home().1.map(str::to_owned);
            let home = home.ok_or_else(|| {
                Error::config("`ALIBABA_REGION` is not set")
                    .with_hint("set it, or name the regions to read")
            })?;
            let ecs = Ecs::of_region(self.config, &home, self.credentials)?;
            regions = match ecs.regions(&POLICY).await {
                Ok(regions) => regions,
                Err(failure) => {
                    let error = Error::from(failure);
                    findings.push(Finding::error("regions", &error));
                    Vec::new()
                }
            };
            regions.push(home);
            regions.extend(self.config.copy_regions.iter().cloned());
        }
        regions.sort();
        regions.dedup();
        Ok(regions)
    }

    /// Everything of a region, and what of it could not be read.
    async fn place(&self, region: &str) -> (Vec<Item>, Vec<Finding>) {
        let mut findings = Vec::new();
        let mut items = self.region(region).await.unwrap_or_else(|error| {
            findings.push(Finding::error(format!("region {region}"), &error));
            Vec::new()
        });
        if let (Some(bucket), Some(home)) = self.config.home()
            && home == region
            && (self.wants(ItemKind::Object) || self.wants(ItemKind::Upload))
        {
            match self.bucket(bucket, region).await {
                Ok(found) => items.extend(found),
                Err(error) => findings.push(Finding::error(format!("bucket {bucket}"), &error)),
            }
        }
        (items, findings)
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

    /// Adds the cloud that a resource is in, as `discard` compares it.
    fn in_cloud(&self, resource: Resource, name: &str, cloud: &str) -> Resource {
        let resource = resource.with(name, cloud);
        match self.credentials.account() {
            Some(account) => resource.with(crate::owner::ACCOUNT_ID, account),
            None => resource,
        }
    }
}

/// The current time by the service's clock, in seconds since 1970-01-01 UTC.
fn now(http: &HttpClient) -> u64 {
    let now = Timestamp::now().as_second().saturating_add(http.clock.skew());
    u64::try_from(now).unwrap_or_default()
}

/// Until when activity at `latest` claims an object; `None` when that is over.
fn lease(latest: Option<u64>, now: u64, lasts: u64) -> Option<u64> {
    latest.map(|latest| latest.saturating_add(lasts)).filter(|until| *until > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activity_claims_an_object_for_an_hour() {
        for (latest, expected) in [
            (Some(10_000), Some(13_600)),
            (Some(6_401), Some(10_001)),
            (Some(6_400), None),
            (Some(u64::MAX), Some(u64::MAX)),
            (None, None),
        ] {
            assert_eq!(lease(latest, 10_000, LEASE), expected, "{latest:?}");
        }
    }
}
