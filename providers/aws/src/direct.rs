//! Uploads the disk with the EBS direct APIs: starts a snapshot, sends its blocks, seals it, waits, and compares the
//! list of blocks.

use build_image_plugin_api::{
    Context, Error, ErrorKind, Result,
    document::{UploadRequest, Uploaded},
};
use serde_json::json;

use crate::{
    client::CALL,
    cloud::Cloud,
    ebs::{self, EbsDirect},
    ec2::Ec2,
    owner::Owner,
    snapshot::{self, Started, Wanted},
    state::{BLOCKS_STATE, SNAPSHOT_STATE},
    transfer::{Content, Recorded, Transfer},
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
    let disk = &request.disk;
    let wanted = Wanted {
        context,
        cloud,
        build: &request.build,
        owner: &owner,
        disk: &disk.identity,
        bytes: disk.virtual_size.max(disk.length.unwrap_or_default()),
    };
    let direct = EbsDirect::open(cloud, &cloud.region)?;
    let mut started = wanted.obtain(&direct).await?;
    let mut sent = 0;
    let claim = async |started: &Started| {
        snapshot::claim(cloud, &started.region, &id_of(started)?, wanted.bytes).await
    };
    claim(&started).await?;
    while !started.verified {
        let id = id_of(&started)?;
        let upload = Upload { context, cloud, request, direct: &direct, id: &id, sent: 0 };
        let (finished, bytes) = upload.run(&mut started).await;
        sent += bytes;
        match finished {
            Ok(()) => {}
            // It was deleted, or given up by the service.
            Err(error) if error.kind == ErrorKind::NotFound => {
                tracing::warn!(%error, "starting another snapshot");
                started = wanted.another(&direct, &started).await?;
                claim(&started).await?;
            }
            Err(error) => return Err(error),
        }
    }
    let id = id_of(&started)?;
    let facts = [("snapshot_id", json!(id)), ("gib", json!(started.gib))];
    Ok(Uploaded::new(format!("{}/{id}", cloud.region)).bytes_sent(sent).facts(facts))
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
    id: &'a str,
    sent: u64,
}

impl Upload<'_> {
    /// Returns the bytes that were sent as well, whatever the outcome.
    async fn run(mut self, started: &mut Started) -> (Result<()>, u64) {
        let outcome = self.try_run(started).await;
        (outcome, self.sent)
    }

    async fn try_run(&mut self, started: &mut Started) -> Result<()> {
        let Self { context, cloud, id, .. } = *self;
        let ec2 = Ec2::open(cloud, &started.region)?;
        let before = ec2.snapshot(id, &CALL).await?;
        let complete = started.sealed && before.is_some_and(|before| before.status == "completed");
        let content = self.send(started).await?;
        if !complete {
            self.seal(started, &content).await?;
        }
        context.milestone(format!(
            "sent {} blocks of snapshot `{id}`, waiting until it is complete",
            content.blocks.len()
        ))?;
        snapshot::completed(&ec2, id, cloud.config.import).await?;
        self.verify(&content).await?;
        started.verified = true;
        context.save(SNAPSHOT_STATE, &*started)
    }

    /// Sends the blocks that the service does not have.
    async fn send(&mut self, started: &Started) -> Result<Content> {
        let recorded = self.context.load::<Recorded>(BLOCKS_STATE)?;
        let recorded = recorded.filter(|recorded| recorded.token == started.token);
        let recorded = recorded
            .unwrap_or_else(|| Recorded { token: started.token.clone(), ..Recorded::default() });
        let concurrency = self.cloud.config.concurrency;
        let transfer = Transfer::new(
            self.context,
            self.direct,
            &self.request.disk,
            self.id,
            recorded,
            concurrency,
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
        let sealed = self.direct.complete(self.id, content.blocks.len(), &content.digest).await;
        match sealed {
            // An earlier call was answered, or its answer was lost; the state shows how it ends.
            Err(failure)
                if (again || failure.error.context("attempts").is_some())
                    && failure.status.is_some_and(|status| status == 400 || status == 409) =>
            {
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
        match content.blocks.first_difference(&listed) {
            None => Ok(()),
            Some(block) => {
                let message = format!(
                    "snapshot `{}` has {} blocks, and {} were sent; the first difference is block {block}",
                    self.id,
                    listed.len(),
                    content.blocks.len()
                );
                Err(Error::new(ErrorKind::Provider, message)
                    .with_hint("build again; the snapshot is removed"))
            }
        }
    }
}
