//! Uploads the disk with the EBS direct APIs: starts a snapshot, sends its blocks, seals it, waits, and compares the
//! list of blocks.

use std::sync::Arc;

use build_image_plugin_api::{
    Context, Error, ErrorKind, Result,
    document::{UploadRequest, Uploaded},
};
use serde_json::json;

use crate::{
    client::CALL,
    cloud::Cloud,
    delta::{self, Finder, Keeper, Manifest, Parent},
    ebs::{self, EbsDirect},
    ec2::Ec2,
    owner::Owner,
    reader::Content,
    snapshot::{self, Started, Wanted},
    state::{BLOCKS_STATE, SNAPSHOT_STATE},
    transfer::{Recorded, Transfer},
};

/// Uploads the disk of a build.
///
/// # Errors
/// Refusals, broken connections after several attempts, a snapshot that is not as sent.
pub(crate) async fn upload(
    context: &Context,
    cloud: &Cloud<'_>,
    request: &UploadRequest,
) -> Result<Uploaded> {
    let owner = Owner::now(cloud, &CALL).await?;
    let (disk, build) = (&request.disk, &request.build);
    let mut wanted = Wanted {
        context,
        cloud,
        build,
        owner: &owner,
        disk: &disk.identity,
        bytes: disk.virtual_size.max(disk.length.unwrap_or_default()),
        parent: None,
    };
    let direct = EbsDirect::open(cloud, &cloud.region)?;
    let ec2 = Ec2::open(cloud, &cloud.region)?;
    let (finder_ec2, gib) = (ec2.clone(), wanted.gib());
    let finder = Finder { context, cloud, direct: &direct, ec2: finder_ec2, build, disk, gib };
    let mut base = Base { finder, loaded: None };
    wanted.parent = base.choose().await?;
    let mut started = wanted.obtain(&direct).await?;
    let mut sent = 0;
    let claim = async |started: &Started| {
        snapshot::claim(cloud, &started.region, &id_of(started)?, wanted.bytes).await
    };
    claim(&started).await?;
    while !started.verified {
        let id = id_of(&started)?;
        let Some(parent) = base.manifest(&started).await? else {
            wanted.parent = None;
            started = wanted.another(&direct, &started).await?;
            claim(&started).await?;
            continue;
        };
        let mut upload =
            Upload { context, cloud, request, direct: &direct, ec2: &ec2, id: &id, sent: 0 };
        let finished = upload.run(&mut started, parent).await;
        sent += upload.sent;
        match finished {
            Ok(()) => {}
            Err(error) => {
                if base.is_lost(&started, &error).await? {
                    wanted.parent = None;
                } else if error.kind != ErrorKind::NotFound {
                    return Err(error);
                }
                // It was deleted, or given up by the service.
                tracing::warn!(%error, "starting another snapshot");
                started = wanted.another(&direct, &started).await?;
                claim(&started).await?;
            }
        }
    }
    let id = id_of(&started)?;
    let facts = [("snapshot_id", json!(id)), ("gib", json!(started.gib))];
    Ok(Uploaded::new(format!("{}/{id}", cloud.region)).bytes_sent(sent).facts(facts))
}

/// The snapshot that the new one begins with.
struct Base<'a> {
    finder: Finder<'a>,
    /// The base whose manifest was read.
    loaded: Option<(Parent, Arc<Manifest>)>,
}

impl Base<'_> {
    /// Chooses a base. A resumed upload keeps that with which its snapshot was started, as long as the settings permit it.
    async fn choose(&mut self) -> Result<Option<Parent>> {
        let options = &self.finder.cloud.config.delta;
        match self.finder.context.load::<Started>(SNAPSHOT_STATE)? {
            Some(Started { verified: true, parent, .. }) => return Ok(parent),
            Some(Started { parent, .. }) if options.is_on => match parent {
                Some(parent) if options.names_other(&parent.snapshot) => {}
                kept => return Ok(kept),
            },
            Some(_) => return Ok(None),
            None if !options.is_on => return Ok(None),
            None => {}
        }
        self.loaded = self.finder.find().await?;
        Ok(self.loaded.as_ref().map(|(parent, _)| parent.clone()))
    }

    /// Returns the manifest of a snapshot's base, empty without one; `None` when it cannot be used any more.
    async fn manifest(&mut self, started: &Started) -> Result<Option<Arc<Manifest>>> {
        let Some(parent) = &started.parent else { return Ok(Some(Arc::default())) };
        if let Some((loaded, manifest)) = &self.loaded
            && loaded == parent
        {
            return Ok(Some(Arc::clone(manifest)));
        }
        match self.finder.load(parent).await? {
            Ok(manifest) => {
                self.loaded = Some((parent.clone(), Arc::clone(&manifest)));
                Ok(Some(manifest))
            }
            Err(why) => {
                self.warn(&parent.snapshot, &why)?;
                Ok(None)
            }
        }
    }

    /// Whether an upload failed because its base does not exist any more; the next one is whole then.
    async fn is_lost(&mut self, started: &Started, error: &Error) -> Result<bool> {
        let Some(parent) = &started.parent else { return Ok(false) };
        let by_network = [ErrorKind::Cancelled, ErrorKind::Network, ErrorKind::Timeout];
        if by_network.contains(&error.kind) || !self.finder.is_gone(parent).await {
            return Ok(false);
        }
        self.warn(&parent.snapshot, &format!("it does not exist any more: {error}"))?;
        Ok(true)
    }

    fn warn(&self, snapshot: &str, why: &str) -> Result<()> {
        let text = format!("the whole disk is sent: `{snapshot}` is not used as a base: {why}");
        self.finder.context.warning(text, delta::HINT)
    }
}

fn id_of(started: &Started) -> Result<String> {
    started.id.clone().ok_or_else(|| Error::internal("a snapshot was started without an id"))
}

/// The upload into one snapshot.
struct Upload<'a> {
    context: &'a Context,
    cloud: &'a Cloud<'a>,
    request: &'a UploadRequest,
    direct: &'a EbsDirect,
    ec2: &'a Ec2,
    id: &'a str,
    /// Bytes that were sent, whatever the outcome.
    sent: u64,
}

impl Upload<'_> {
    async fn run(&mut self, started: &mut Started, parent: Arc<Manifest>) -> Result<()> {
        let Self { context, cloud, ec2, id, .. } = *self;
        let before = ec2.snapshot(id, &CALL).await?;
        let complete = started.sealed && before.is_some_and(|before| before.status == "completed");
        let content = self.send(started, parent).await?;
        if !complete {
            self.seal(started, &content).await?;
        }
        context.milestone(sent_text(started, &content, id))?;
        snapshot::completed(ec2, id, cloud.config.import).await?;
        self.verify(&content).await?;
        if cloud.config.delta.is_on {
            let Self { direct, request, .. } = *self;
            let manifest = Manifest { blocks: content.present, digests: content.digests };
            let keeper = Keeper { context, cloud, direct, ec2, build: &request.build };
            keeper.keep(started, &manifest).await?;
        }
        started.verified = true;
        context.save(SNAPSHOT_STATE, &*started)
    }

    /// Sends the blocks that the service does not have.
    async fn send(&mut self, started: &Started, parent: Arc<Manifest>) -> Result<Content> {
        let recorded = self.context.load::<Recorded>(BLOCKS_STATE)?;
        let recorded = recorded.filter(|recorded| recorded.token == started.token);
        let recorded = recorded
            .unwrap_or_else(|| Recorded { token: started.token.clone(), ..Recorded::default() });
        let transfer = Transfer::new(
            self.context,
            self.direct,
            &self.request.disk,
            self.id,
            recorded,
            parent,
            self.cloud.config,
        );
        let content = transfer.run().await;
        self.sent = transfer.sent();
        content.map_err(|failure| {
            let mut error = Error::from(failure.clone());
            if ebs::is_gone(&failure) {
                error.kind = ErrorKind::NotFound;
            }
            error
        })
    }

    async fn seal(&self, started: &mut Started, content: &Content) -> Result<()> {
        let again = std::mem::replace(&mut started.sealed, true);
        self.context.save(SNAPSHOT_STATE, &*started)?;
        let sealed = self.direct.complete(self.id, content.changed, &content.digest).await;
        match sealed {
            Err(failure) if ebs::is_sealed(&failure, again) => {
                tracing::info!(error = %failure.error, "the snapshot may be sealed already");
                Ok(())
            }
            Err(failure) => Err(failure.into()),
            Ok(()) => Ok(()),
        }
    }

    /// Compares the blocks of the snapshot with those that were sent.
    async fn verify(&self, content: &Content) -> Result<()> {
        let listed = match self.direct.list(self.id, &CALL).await {
            Err(failure) if failure.error.kind == ErrorKind::Auth => {
                return self.context.warning(
                    format!("the blocks of snapshot `{}` were not compared: {}", self.id, failure.error),
                    "allow ebs:ListSnapshotBlocks; the checksum of all blocks was compared by the service",
                );
            }
            listed => listed?,
        };
        // Blocks of zeros over data of the base need not be listed.
        let expected = content.present.without(&content.zeros);
        match expected.first_difference(&listed.without(&content.zeros)) {
            None => Ok(()),
            Some(block) => {
                let message = format!(
                    "snapshot `{}` has {} blocks, and {} were expected; the first difference is block {block}",
                    self.id,
                    listed.len(),
                    content.present.len()
                );
                Err(Error::new(ErrorKind::Provider, message)
                    .with_hint("build again; the snapshot is removed"))
            }
        }
    }
}

/// The line about what was sent.
fn sent_text(started: &Started, content: &Content, id: &str) -> String {
    let (changed, all) = (content.changed, content.present.len());
    match &started.parent {
        None => format!("sent {all} blocks of snapshot `{id}`, waiting until it is complete"),
        Some(parent) => format!(
            "sent {changed} of {all} blocks of snapshot `{id}`, the others are those of `{}`; waiting until it is complete",
            parent.snapshot
        ),
    }
}
