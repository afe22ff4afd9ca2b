//! Lists the objects and the unfinished uploads of the bucket, and the imports from it.

use build_image_plugin_api::{
    Resource, Result,
    document::{Item, ItemKind, ItemState},
    retry::Failure,
};
use futures_util::{StreamExt as _, stream};

use super::{AT_A_TIME, Reader};
use crate::{
    discard::POLICY,
    ec2::{Ec2, Parameters},
    import::Task,
    marks::{self, MARK, PREFIX, QUIET, is_key_of, lease, run_of_key, seconds},
    s3::Bucket,
    s3_list::{ObjectDetails, OpenUpload},
    state::{IMPORT, MULTIPART, OBJECT},
};

/// The name of an object: the end of its key.
fn name_of(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

impl Reader<'_> {
    /// Objects, unfinished uploads, and imports of the bucket.
    pub(super) async fn bucket(&self, bucket: &str, region: &str) -> Result<Vec<Item>> {
        let bucket = Bucket::open(self.cloud, bucket, region)?;
        let mut items = Vec::new();
        if self.wants(ItemKind::Object) {
            items.extend(self.objects(&bucket, region).await?);
        }
        if self.wants(ItemKind::Upload) {
            items.extend(self.uploads(&bucket, region).await?);
        }
        if self.wants(ItemKind::Task) || self.wants(ItemKind::Snapshot) {
            items.extend(self.imports(&bucket, region).await?);
        }
        Ok(items)
    }

    /// What keys of the wanted runs begin with.
    fn start(&self) -> String {
        let run = self.request.run_id.as_deref().unwrap_or_default();
        format!("{}{PREFIX}{run}", self.cloud.config.prefix)
    }

    /// The run of a key that this provider gave.
    fn run<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        let prefix = &self.cloud.config.prefix;
        match self.request.run_id.as_deref() {
            Some(run) => is_key_of(prefix, key, run).then_some(run),
            None => run_of_key(prefix, key),
        }
    }

    fn stored(
        &self,
        kind: &str,
        (bucket, key): (&Bucket, &str),
        region: &str,
        run: Option<&str>,
    ) -> Resource {
        self.owned(Resource::new(kind, format!("{}/{key}", bucket.name)), region, run)
    }

    async fn objects(&self, bucket: &Bucket, region: &str) -> Result<Vec<Item>> {
        let keys: Vec<String> = if self.by_name() {
            let named = self.named(ItemKind::Object, region).into_iter();
            let here = named.filter_map(|id| {
                let (name, key) = id.split_once('/')?;
                (name == bucket.name).then(|| key.to_owned())
            });
            here.collect()
        } else {
            let listed = bucket.keys(&self.start(), &POLICY).await?.into_iter();
            listed.filter(|key| self.run(key).is_some()).collect()
        };
        let reads = stream::iter(keys).map(async |key| {
            let details = bucket.details(&key, &POLICY).await;
            (key, details)
        });
        let mut reads = reads.buffered(AT_A_TIME);
        let mut items = Vec::new();
        while let Some((key, details)) = reads.next().await {
            // An object that was removed in the meantime is not an error.
            items.extend(details?.map(|details| self.object((bucket, &key), region, &details)));
        }
        Ok(items)
    }

    fn object(
        &self,
        (bucket, key): (&Bucket, &str),
        region: &str,
        details: &ObjectDetails,
    ) -> Item {
        // The mark must fit the key: an object that someone copied is someone's.
        let run = details.run.as_deref();
        let run = run.filter(|run| is_key_of(&self.cloud.config.prefix, key, run));
        let created = seconds(&details.last_modified);
        let mut resource = self.stored(OBJECT, (bucket, key), region, run);
        resource.deliverable = details.kept;
        let mut item = Item::new(ItemKind::Object, format!("{}/{key}", bucket.name), resource)
            .name(name_of(key))
            .region(region)
            .state(ItemState::Available)
            .size_bytes(details.size);
        item.created = created;
        item.leased_until = run.and_then(|_| lease(created, self.now(), QUIET));
        item.tags = run.map(|run| marks::tags([(MARK, run)])).unwrap_or_default();
        item.run_id = run.map(str::to_owned);
        item
    }

    async fn uploads(&self, bucket: &Bucket, region: &str) -> Result<Vec<Item>> {
        let uploads: Vec<OpenUpload> = if self.by_name() {
            let named = self.named(ItemKind::Upload, region);
            if named.is_empty() {
                return Ok(Vec::new());
            }
            let all = bucket.open_uploads("", &POLICY).await?.into_iter();
            all.filter(|upload| named.contains(&upload.upload_id)).collect()
        } else {
            let all = bucket.open_uploads(&self.start(), &POLICY).await?.into_iter();
            all.filter(|upload| self.run(&upload.key).is_some()).collect()
        };
        let reads = stream::iter(uploads).map(async |upload| {
            let parts = bucket.parts(&upload.key, &upload.upload_id, &POLICY).await;
            (upload, parts)
        });
        let mut reads = reads.buffered(AT_A_TIME);
        let mut items = Vec::new();
        while let Some((upload, parts)) = reads.next().await {
            // It was completed or aborted in the meantime.
            let Some(parts) = parts? else { continue };
            let (created, run) = (seconds(&upload.initiated), self.run(&upload.key));
            let newest = parts.iter().filter_map(|part| seconds(&part.last_modified)).max();
            let resource = self.stored(MULTIPART, (bucket, &upload.key), region, run);
            let resource = resource.with_id(&upload.upload_id);
            let mut item = Item::new(ItemKind::Upload, &upload.upload_id, resource)
                .name(name_of(&upload.key))
                .region(region)
                .state(ItemState::Pending)
                .size_bytes(parts.iter().map(|part| part.size).sum());
            item.created = created;
            item.leased_until = run.and_then(|_| lease(newest.max(created), self.now(), QUIET));
            item.tags = run.map(|run| marks::tags([(MARK, run)])).unwrap_or_default();
            item.run_id = run.map(str::to_owned);
            items.push(item);
        }
        Ok(items)
    }

    /// The imports that run, and the snapshots of those that ended before the build could mark them.
    async fn imports(&self, bucket: &Bucket, region: &str) -> Result<Vec<Item>> {
        let ec2 = Ec2::open(self.cloud, region)?;
        let tasks = ec2.imports(&Parameters::new(), &POLICY).await?.into_iter();
        let named = self.named(ItemKind::Task, region);
        let wanted = tasks.filter(|task| match self.request.run_id.as_deref() {
            _ if self.by_name() => named.contains(&task.import_task_id),
            Some(run) => task.run().as_deref() == Some(run),
            None => task.run().is_some(),
        });
        let (mut items, mut ended) = (Vec::new(), Vec::new());
        for task in wanted {
            let detail = &task.snapshot_task_detail;
            match (detail.status.as_str(), &detail.snapshot_id) {
                ("deleted" | "deleting", _) => {}
                ("completed", Some(id)) => ended.push((id.clone(), task.run())),
                _ => items.push(self.task(&ec2, bucket, &task).await?),
            }
        }
        let ids: Vec<String> = ended.iter().map(|(id, _)| id.clone()).collect();
        for snapshot in ec2.snapshots_of(&ids, &POLICY).await? {
            let run = ended.iter().find(|(id, _)| *id == snapshot.snapshot_id);
            let Some(run) = run.and_then(|(_, run)| run.as_deref()) else { continue };
            if snapshot.tag(MARK).is_some() {
                continue;
            }
            let id = &snapshot.snapshot_id;
            let resource = self.owned(Resource::new(IMPORT, format!("of {id}")), region, Some(run));
            let mut item = Item::new(ItemKind::Snapshot, id, resource)
                .region(region)
                .state(ItemState::Available);
            item.created = snapshot.start_time.as_deref().and_then(seconds);
            item.leased_until = lease(item.created, self.now(), QUIET);
            item.run_id = Some(run.to_owned());
            item.tags = snapshot.tags();
            items.push(item);
        }
        Ok(items)
    }

    /// The item of a running import; removing it cancels the import. The service does not show when it began: after its
    /// object was complete.
    async fn task(&self, ec2: &Ec2, bucket: &Bucket, task: &Task) -> Result<Item, Failure> {
        let (run, detail) = (task.run(), &task.snapshot_task_detail);
        let from = &detail.user_bucket;
        let object = match from.s3_bucket == bucket.name {
            true => bucket.details(&from.s3_key, &POLICY).await?,
            false => None,
        };
        let created = object.and_then(|object| seconds(&object.last_modified));
        let resource = Resource::new(IMPORT, &task.import_task_id).with_id(&task.import_task_id);
        let resource = self.owned(resource, &ec2.region, run.as_deref());
        let mut item = Item::new(ItemKind::Task, &task.import_task_id, resource)
            .name(name_of(&from.s3_key))
            .region(&ec2.region)
            .state(ItemState::Pending);
        item.created = created;
        item.percent = detail.progress.as_deref().and_then(|text| text.parse().ok());
        let lasts = QUIET.max(self.cloud.config.import.limit.as_secs());
        item.leased_until = run.as_ref().and_then(|_| lease(created, self.now(), lasts));
        item.tags = crate::image::map(&task.tag_set);
        item.run_id = run;
        Ok(item)
    }
}
