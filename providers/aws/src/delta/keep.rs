//! Keeps the manifest of a complete snapshot for the next build, and removes those of runs.

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result, document::Build, retry::Policy,
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{
    COUNT, DIGEST, HINT, Kept, LINEAGE, MANIFEST_OF, Manifest,
    earlier::{digest_of, mark},
};
use crate::{
    blocks::BLOCK,
    client::CALL,
    cloud::Cloud,
    config::Config,
    discard::LATE,
    ebs::{EbsDirect, Start, is_sealed},
    ec2::Ec2,
    image::Snapshot,
    marks::{self, MARK, TAGS_OF_RESOURCE},
    refusal::refused_outright,
    snapshot::{self, Started, remove_marked},
    state::{MANIFEST, SNAPSHOT_STATE, token},
};

/// GiB of the volume: the smallest one.
const VOLUME: u64 = 1;

/// Keeps the manifest of the run's snapshot.
pub(crate) struct Keeper<'a> {
    pub(crate) context: &'a Context,
    pub(crate) cloud: &'a Cloud<'a>,
    pub(crate) direct: &'a EbsDirect,
    pub(crate) ec2: &'a Ec2,
    pub(crate) build: &'a Build,
}

impl Keeper<'_> {
    /// Writes the manifest of a complete snapshot. One that cannot be written is not an error of the build.
    ///
    /// # Errors
    /// When the build is cancelled, or nothing can be recorded.
    pub(crate) async fn keep(&self, started: &mut Started, manifest: &Manifest) -> Result<()> {
        let of = started.id.clone().unwrap_or_default();
        let Some(document) = manifest.write(&of, started.gib) else {
            return self.without("the disk has too many blocks for a manifest");
        };
        let resource = self.resource(started, &document);
        match self.try_keep(started, &resource, &document).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind == ErrorKind::Cancelled => Err(error),
            Err(error) => {
                self.context.check_cancelled()?;
                self.give_up(started, &resource).await?;
                self.without(&error.to_string())
            }
        }
    }

    fn without(&self, why: &str) -> Result<()> {
        let text = format!("the next build has to send the whole disk: {why}");
        self.context.warning(text, HINT)
    }

    /// The resource of the manifest; a deliverable once it is complete.
    fn resource(&self, started: &Started, document: &[u8]) -> Resource {
        let of = started.id.as_deref().unwrap_or_default();
        let name = token(&[&self.build.run_id, of, &digest_of(document)]);
        let resource = Resource::new(MANIFEST, name).in_region(&started.region);
        started.owner.mark(resource, &self.build.run_id).with(MANIFEST_OF, of)
    }

    async fn try_keep(
        &self,
        started: &mut Started,
        resource: &Resource,
        document: &[u8],
    ) -> Result<()> {
        let known = match &started.manifest {
            Some(kept) => self.ec2.snapshot(&kept.id, &CALL).await?,
            None => None,
        };
        let state = known.map(|known| known.status).unwrap_or_default();
        if !["pending", "completed"].contains(&state.as_str()) {
            self.start(started, resource, document).await?;
        }
        let id = started.manifest.as_ref().map(|kept| kept.id.clone()).unwrap_or_default();
        if state != "completed" {
            self.fill(started, &id, document).await?;
            snapshot::completed(self.ec2, &id, self.cloud.config.import).await?;
        }
        self.context.created(&resource.clone().with_id(&id).as_deliverable())
    }

    async fn start(
        &self,
        started: &mut Started,
        resource: &Resource,
        document: &[u8],
    ) -> Result<()> {
        let Config { encrypted, kms_key, snapshot_minutes, .. } = self.cloud.config;
        let of = started.id.clone().unwrap_or_default();
        self.context.check_cancelled()?;
        self.context.will_create(resource)?;
        let mut tags = marks::tags([
            (MANIFEST_OF, &of),
            (DIGEST, &digest_of(document)),
            (LINEAGE, &mark(self.build)),
            (MARK, &self.build.run_id),
        ]);
        // The user's tags are there for policies; they must leave room for the marks.
        if self.build.tags.len() + COUNT <= TAGS_OF_RESOURCE {
            let own = tags.clone();
            tags.extend(self.build.tags.clone());
            tags.extend(own);
        }
        let start = Start {
            token: &resource.name,
            gib: VOLUME,
            description: format!("manifest of {of}"),
            minutes: *snapshot_minutes,
            encrypted: *encrypted,
            kms_key: kms_key.as_deref(),
            parent: None,
            tags,
        };
        match self.context.until_answered(self.direct.start(&start)).await {
            Ok(id) => {
                self.context.created(&resource.clone().with_id(&id))?;
                started.manifest = Some(Kept { id, sealed: false });
                self.context.save(SNAPSHOT_STATE, started)
            }
            Err(failure) => {
                if refused_outright(&failure) {
                    self.context.gone(resource)?;
                }
                Err(failure.into())
            }
        }
    }

    /// Sends the blocks of the manifest, and seals it. One that an earlier attempt has sealed is only waited for.
    async fn fill(&self, started: &mut Started, id: &str, document: &[u8]) -> Result<()> {
        let was_sealed = started.manifest.as_ref().is_some_and(|kept| kept.sealed);
        let mut all = Sha256::new();
        let size = usize::try_from(BLOCK).unwrap_or(usize::MAX);
        for (number, block) in (0..).zip(document.chunks(size)) {
            let digest = Sha256::digest(block).into();
            all.update(digest);
            if !was_sealed {
                let data = Bytes::copy_from_slice(block);
                self.direct.put_patiently(id, number, data, &digest, &CALL).await?;
            }
        }
        started.manifest = Some(Kept { id: id.to_owned(), sealed: true });
        self.context.save(SNAPSHOT_STATE, started)?;
        let count = (document.len() / size) as u64;
        match self.direct.complete(id, count, &all.finalize().into()).await {
            Err(failure) if !is_sealed(&failure, was_sealed) => Err(failure.into()),
            _ => Ok(()),
        }
    }

    /// Removes what was begun; what cannot be removed stays recorded as an intermediate, and is removed with those.
    async fn give_up(&self, started: &mut Started, resource: &Resource) -> Result<()> {
        let run = &self.build.run_id;
        let mut begun = resource.clone();
        begun.id = started.manifest.as_ref().map(|kept| kept.id.clone());
        match remove(self.ec2, &begun, run, &Policy::BRIEF).await {
            Ok(()) => {
                started.manifest = None;
                self.context.gone(&begun)
            }
            Err(error) => {
                tracing::warn!(%error, "an unfinished manifest was not removed yet");
                self.context.created(&begun)
            }
        }
    }
}

/// Deletes a manifest of a run. One whose id was not confirmed is found by its marks.
///
/// # Errors
/// Refusals; a conflict for a snapshot that is not of the run.
pub(crate) async fn remove(
    ec2: &Ec2,
    resource: &Resource,
    run: &str,
    policy: &Policy,
) -> Result<()> {
    if let Some(id) = &resource.id {
        remove_marked(ec2, id, run, policy).await?;
        return Ok(());
    }
    let find = async || {
        let found = ec2.snapshots_tagged(MARK, run, policy).await?;
        let is_ours = |one: &Snapshot| one.is_of(run) && one.tag(MANIFEST_OF).is_some();
        Ok::<Vec<Snapshot>, Error>(found.into_iter().filter(is_ours).collect())
    };
    let mut found = find().await?;
    if found.is_empty() {
        tokio::time::sleep(LATE).await;
        found = find().await?;
    }
    for snapshot in found {
        ec2.delete_unused(&snapshot.snapshot_id, policy).await?;
    }
    Ok(())
}
