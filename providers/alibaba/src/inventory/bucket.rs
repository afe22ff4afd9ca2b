//! Lists the objects and the unfinished uploads of the bucket.

use build_image_plugin_api::{
    Result,
    document::{Item, ItemKind, ItemState},
};
use futures_util::{StreamExt as _, stream};

use super::{AT_A_TIME, LEASE, Reader, lease, now};
use crate::{
    discard::POLICY,
    listing::{ObjectDetails, OpenUpload, seconds},
    marks::{self, OBJECT_KEPT, OBJECT_RUN, PREFIX, is_key_of, run_of_key},
    oss::Oss,
    owner::OSS_CLOUD,
    state::{MULTIPART, OBJECT, in_bucket},
    tagging::MARK,
};

/// The name of an object: the end of its key.
fn name_of(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

impl Reader<'_> {
    /// Objects and unfinished uploads of the bucket.
    pub(super) async fn bucket(&self, bucket: &str, region: &str) -> Result<Vec<Item>> {
        let place = self.config.place_of(bucket, region)?;
        let oss = Oss::open(&place, std::sync::Arc::clone(self.credentials))?;
        let mut items = Vec::new();
        if self.wants(ItemKind::Object) {
            items.extend(self.objects(&oss, region).await?);
        }
        if self.wants(ItemKind::Upload) {
            items.extend(self.uploads(&oss, region).await?);
        }
        Ok(items)
    }

    /// What keys of the wanted runs begin with.
    fn start(&self) -> String {
        let run = self.request.run_id.as_deref().unwrap_or_default();
        format!("{}{PREFIX}{run}", self.config.prefix)
    }

    /// The run of a key that this provider gave.
    fn run<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        let prefix = &self.config.prefix;
        match self.request.run_id.as_deref() {
            Some(run) => is_key_of(prefix, key, run).then_some(run),
            None => run_of_key(prefix, key),
        }
    }

    async fn objects(&self, oss: &Oss, region: &str) -> Result<Vec<Item>> {
        let keys: Vec<String> = if self.by_name() {
            let named = self.named(ItemKind::Object, region).into_iter();
            let here = named.filter_map(|id| {
                let (bucket, key) = id.split_once('/')?;
                (bucket == oss.bucket).then(|| key.to_owned())
            });
            here.collect()
        } else {
            let listed = oss.keys(&self.start(), &POLICY).await?.into_iter();
            listed.filter(|key| self.run(key).is_some()).collect()
        };
        let reads = stream::iter(keys).map(async |key| {
            let details = oss.details(&key, &POLICY).await;
            (key, details)
        });
        let mut reads = reads.buffered(AT_A_TIME);
        let mut items = Vec::new();
        while let Some((key, details)) = reads.next().await {
            // An object that was removed in the meantime is not an error.
            items.extend(details?.map(|details| self.object(oss, region, &key, &details)));
        }
        Ok(items)
    }

    fn object(&self, oss: &Oss, region: &str, key: &str, details: &ObjectDetails) -> Item {
        let run = details.metadata.get(OBJECT_RUN);
        // The mark must fit the key: an object that someone copied is someone's.
        let run = run.filter(|run| is_key_of(&self.config.prefix, key, run));
        let created = seconds(&details.last_modified);
        let mut resource = in_bucket(OBJECT, &oss.bucket, key, region);
        resource = self.in_cloud(resource, OSS_CLOUD, oss.cloud());
        resource.deliverable = details.metadata.contains_key(OBJECT_KEPT);
        let mut item = Item::new(ItemKind::Object, format!("{}/{key}", oss.bucket), resource)
            .name(name_of(key))
            .region(region)
            .state(ItemState::Available)
            .size_bytes(details.size);
        item.created = created;
        item.leased_until = run.and_then(|_| lease(created, now(&oss.http), LEASE));
        item.tags = run.map(|run| marks::tags([(MARK, run)])).unwrap_or_default();
        item.run_id = run.cloned();
        item
    }

    async fn uploads(&self, oss: &Oss, region: &str) -> Result<Vec<Item>> {
        let uploads: Vec<OpenUpload> = if self.by_name() {
            let named = self.named(ItemKind::Upload, region);
            if named.is_empty() {
                return Ok(Vec::new());
            }
            let all = oss.open_uploads("", &POLICY).await?.into_iter();
            all.filter(|upload| named.contains(&upload.upload_id)).collect()
        } else {
            let all = oss.open_uploads(&self.start(), &POLICY).await?.into_iter();
            all.filter(|upload| self.run(&upload.key).is_some()).collect()
        };
        let reads = stream::iter(uploads).map(async |upload| {
            let parts = oss.list_parts(&upload.key, &upload.upload_id, &POLICY).await;
            (upload, parts)
        });
        let mut reads = reads.buffered(AT_A_TIME);
        let mut items = Vec::new();
        while let Some((upload, parts)) = reads.next().await {
            let parts = match parts {
                // It was completed or aborted in the meantime.
                Err(failure) if failure.has_code(&["NoSuchUpload"]) => continue,
                parts => parts?,
            };
            let created = seconds(&upload.initiated);
            let newest = parts.iter().filter_map(|part| seconds(&part.last_modified)).max();
            let mut resource = in_bucket(MULTIPART, &oss.bucket, &upload.key, region);
            resource = self.in_cloud(resource, OSS_CLOUD, oss.cloud()).with_id(&upload.upload_id);
            let run = self.run(&upload.key);
            let mut item = Item::new(ItemKind::Upload, &upload.upload_id, resource)
                .name(name_of(&upload.key))
                .region(region)
                .state(ItemState::Pending)
                .size_bytes(parts.iter().map(|part| part.size).sum());
            item.created = created;
            item.leased_until = run.and_then(|_| lease(newest.max(created), now(&oss.http), LEASE));
            item.tags = run.map(|run| marks::tags([(MARK, run)])).unwrap_or_default();
            item.run_id = run.map(str::to_owned);
            items.push(item);
        }
        Ok(items)
    }
}
