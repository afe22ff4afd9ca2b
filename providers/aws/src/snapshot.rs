//! The snapshot of a run that is written directly: recorded before it is started, found again by its token or by the
//! mark of the run, and removed only with that mark.

use std::time::{Duration, Instant};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result,
    document::Build,
    retry::{Backoff, Failure, Policy},
};
use serde::{Deserialize, Serialize};

use crate::{
    attributes::{GIB, description},
    client::CALL,
    cloud::Cloud,
    config::{Config, Polls},
    delta::{self, Kept, Parent},
    ebs::{EbsDirect, Start},
    ec2::Ec2,
    image::Snapshot,
    marks,
    owner::Owner,
    refusal::refused_outright,
    state::{self, SNAPSHOT, SNAPSHOT_STATE},
};

/// Number of snapshots of a run after which the upload gives up.
pub(crate) const MOST_SNAPSHOTS: u32 = 3;

/// A new snapshot may be unknown for a moment; one that is unknown for longer was deleted.
const UNKNOWN: Duration = Duration::from_secs(30);

/// A snapshot of the run, as the checkpoint stores it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) token: String,
    pub(crate) id: Option<String>,
    pub(crate) region: String,
    pub(crate) owner: Owner,
    /// Identity of the disk that is sent.
    pub(crate) disk: String,
    /// Size of the volume.
    pub(crate) gib: u64,
    /// Number of the snapshot within the run.
    number: u32,
    /// Everything was sent, and the service was asked to seal the snapshot.
    pub(crate) sealed: bool,
    /// The snapshot is complete and was compared.
    pub(crate) verified: bool,
    /// The snapshot that it is an increment of.
    #[serde(default)]
    pub(crate) parent: Option<Parent>,
    /// The snapshot with its manifest.
    #[serde(default)]
    pub(crate) manifest: Option<Kept>,
}

/// What a build needs of its snapshot.
pub(crate) struct Wanted<'a> {
    pub(crate) context: &'a Context,
    pub(crate) cloud: &'a Cloud<'a>,
    pub(crate) build: &'a Build,
    pub(crate) owner: &'a Owner,
    /// Identity of the disk.
    pub(crate) disk: &'a str,
    pub(crate) bytes: u64,
    /// The snapshot to begin with.
    pub(crate) parent: Option<Parent>,
}

/// Returns the resource of a snapshot.
pub(crate) fn resource(owner: &Owner, region: &str, name: &str, run: &str) -> Resource {
    owner.mark(Resource::new(SNAPSHOT, name).in_region(region), run).as_deliverable()
}

impl Started {
    /// Returns the resource for the journal.
    pub(crate) fn resource(&self, run: &str) -> Resource {
        let resource = resource(&self.owner, &self.region, &self.token, run);
        match &self.id {
            Some(id) => resource.with_id(id),
            None => resource,
        }
    }
}

impl Wanted<'_> {
    /// Returns the size of the volume.
    pub(crate) fn gib(&self) -> u64 {
        self.bytes.div_ceil(GIB).max(1)
    }

    fn token(&self, number: u32, parent: Option<&Parent>) -> String {
        let Config { encrypted, kms_key, snapshot_minutes, .. } = self.cloud.config;
        let tags = serde_json::to_string(&self.build.tags).unwrap_or_default();
        state::token(&[
            &self.build.run_id,
            &number.to_string(),
            &self.cloud.region,
            &self.gib().to_string(),
            &format!("{encrypted} {snapshot_minutes}"),
            kms_key.as_deref().unwrap_or_default(),
            &description(self.build),
            &tags,
            self.disk,
            parent.map_or("", |parent| &parent.snapshot),
        ])
    }

    /// Returns the snapshot that an earlier attempt started, or starts one. One that these settings cannot use is
    /// removed before.
    ///
    /// # Errors
    /// Refusals; config error for a run of another account.
    pub(crate) async fn obtain(&self, ebs: &EbsDirect) -> Result<Started> {
        let Some(earlier) = self.context.load::<Started>(SNAPSHOT_STATE)? else {
            return self.start(ebs, 1).await;
        };
        let what =
            format!("snapshot `{}` of this run", earlier.id.as_ref().unwrap_or(&earlier.token));
        self.owner.may_use(&what, &earlier.owner)?;
        if earlier.token != self.token(earlier.number, self.parent.as_ref()) {
            return self.another(ebs, &earlier).await;
        }
        match &earlier.id {
            // The answer was lost, or never awaited: the same token returns the same snapshot.
            None => self.start(ebs, earlier.number).await,
            Some(id) => {
                let ec2 = Ec2::open(self.cloud, &earlier.region)?;
                let found = ec2.snapshot(id, &CALL).await?;
                if found.is_none_or(|found| found.status == "error") {
                    return self.another(ebs, &earlier).await;
                }
                // This process continues with it.
                self.context.will_create(&earlier.resource(&self.build.run_id))?;
                Ok(earlier)
            }
        }
    }

    /// Starts another snapshot after removing one that cannot be used.
    ///
    /// # Errors
    /// Refusals; a conflict when that happened too often.
    pub(crate) async fn another(&self, ebs: &EbsDirect, old: &Started) -> Result<Started> {
        if old.number >= MOST_SNAPSHOTS {
            let message = format!(
                "snapshot `{}` cannot be used: snapshots of this run were removed or failed repeatedly",
                old.id.as_ref().unwrap_or(&old.token)
            );
            return Err(Error::new(ErrorKind::Conflict, message)
                .with_hint("look for a program that deletes snapshots of the account"));
        }
        let run = &self.build.run_id;
        if let Some(id) = &old.id {
            remove_marked(&Ec2::open(self.cloud, &old.region)?, id, run, &CALL).await?;
        }
        self.context.gone(&old.resource(run))?;
        self.start(ebs, old.number + 1).await
    }

    /// Starts a snapshot. One whose parent the service refuses is started without it.
    async fn start(&self, ebs: &EbsDirect, number: u32) -> Result<Started> {
        let failure = match self.try_start(ebs, number, self.parent.as_ref()).await? {
            Ok(started) => return Ok(started),
            Err(failure) => failure,
        };
        let Some(parent) = self.parent.as_ref().filter(|_| refused_outright(&failure)) else {
            return Err(failure.into());
        };
        let text = format!(
            "the whole disk is sent: snapshot `{}` is refused as a base: {}",
            parent.snapshot, failure.error
        );
        self.context.warning(text, delta::HINT)?;
        Ok(self.try_start(ebs, number, None).await??)
    }

    async fn try_start(
        &self,
        ebs: &EbsDirect,
        number: u32,
        parent: Option<&Parent>,
    ) -> Result<Result<Started, Failure>> {
        let Config { encrypted, kms_key, snapshot_minutes, .. } = self.cloud.config;
        let mut started = Started {
            token: self.token(number, parent),
            region: self.cloud.region.clone(),
            owner: self.owner.clone(),
            disk: self.disk.to_owned(),
            gib: self.gib(),
            number,
            parent: parent.cloned(),
            ..Started::default()
        };
        let resource = started.resource(&self.build.run_id);
        self.context.check_cancelled()?;
        self.context.will_create(&resource)?;
        self.context.save(SNAPSHOT_STATE, &started)?;
        let start = Start {
            token: &started.token,
            gib: started.gib,
            description: description(self.build),
            minutes: *snapshot_minutes,
            encrypted: *encrypted,
            kms_key: kms_key.as_deref(),
            parent: parent.map(|parent| parent.snapshot.as_str()),
            tags: marks::of(self.build),
        };
        match self.context.until_answered(ebs.start(&start)).await {
            Ok(id) => started.id = Some(id),
            Err(failure) => {
                if refused_outright(&failure) {
                    self.context.gone(&resource)?;
                }
                return Ok(Err(failure));
            }
        }
        self.context.created(&started.resource(&self.build.run_id))?;
        self.context.save(SNAPSHOT_STATE, &started)?;
        Ok(Ok(started))
    }
}

/// Deletes a snapshot that carries the mark of a run, unless an image uses it; returns whether it is gone.
///
/// # Errors
/// Refusals; a conflict for a snapshot without the mark.
pub(crate) async fn remove_marked(ec2: &Ec2, id: &str, run: &str, policy: &Policy) -> Result<bool> {
    let Some(found) = ec2.snapshot(id, policy).await? else { return Ok(true) };
    if !found.is_of(run) {
        return Err(foreign("snapshot", id));
    }
    ec2.delete_unused(id, policy).await
}

/// Claims a snapshot for this process: nothing removes it before the slowest upload has ended. A user who may not tag it is
/// protected by the age of the snapshot alone.
pub(crate) async fn claim(cloud: &Cloud<'_>, region: &str, id: &str, bytes: u64) -> Result<()> {
    let ec2 = Ec2::open(cloud, region)?;
    let tagged = ec2.tag(&[id], &marks::claim(bytes, cloud.skew()), &CALL).await;
    if let Err(failure) = tagged {
        tracing::warn!(error = %failure.error, snapshot = id, "the snapshot is not claimed");
    }
    Ok(())
}

/// The error for something that does not carry the mark of the run.
pub(crate) fn foreign(kind: &str, id: &str) -> Error {
    let message =
        format!("{kind} `{id}` is not that of this run: its tag `{}` differs", marks::MARK);
    Error::new(ErrorKind::Conflict, message)
        .with_hint("leave it alone, or remove it with the console when it is yours")
}

/// Looks at something until it changes, with pauses that grow.
pub(crate) struct Looks {
    polls: Polls,
    begun: Instant,
    made: u64,
}

impl Looks {
    pub(crate) fn begin(polls: Polls) -> Self {
        Self { polls, begun: Instant::now(), made: 0 }
    }

    /// Waits before the next look. Returns false when the limit has passed.
    pub(crate) async fn wait(&mut self) -> bool {
        if self.begun.elapsed() >= self.polls.limit {
            return false;
        }
        self.made += 1;
        let longest = self.polls.delay.max(Duration::from_millis(100));
        let pauses = Backoff::new(Duration::from_millis(200), longest);
        tokio::time::sleep(pauses.pause(self.made, None)).await;
        true
    }

    /// Whether something that is still unknown does not exist.
    pub(crate) fn is_gone(&self) -> bool {
        self.begun.elapsed() >= UNKNOWN
    }

    /// The error when the limit has passed.
    pub(crate) fn too_late(&self, what: &str) -> Error {
        let (seconds, setting) = (self.polls.limit.as_secs(), self.polls.setting);
        Error::new(ErrorKind::Timeout, format!("{what} after {seconds} s"))
            .with_hint(format!(
                "resume the run, and raise AWS_{setting}_RETRY_COUNT for a longer wait"
            ))
            .retryable()
    }
}

/// Waits until a snapshot is complete.
///
/// # Errors
/// A snapshot that failed or was deleted; a time-out.
pub(crate) async fn completed(ec2: &Ec2, id: &str, polls: Polls) -> Result<Snapshot> {
    let mut looks = Looks::begin(polls);
    loop {
        let found = ec2.snapshot(id, &CALL).await?;
        if found.is_none() && looks.is_gone() {
            let message = format!("snapshot `{id}` was deleted before it was complete");
            return Err(Error::new(ErrorKind::NotFound, message)
                .with_hint("look for a program that deletes snapshots of the account"));
        }
        let found = found.unwrap_or_default();
        match found.status.as_str() {
            "completed" => return Ok(found),
            "error" => {
                let message = format!("snapshot `{id}` failed");
                let mut error = Error::new(ErrorKind::Provider, message)
                    .with_hint("check that the KMS key is enabled, and build again");
                error.causes.extend(found.status_message);
                return Err(error);
            }
            _ => {}
        }
        if !looks.wait().await {
            let what = format!("snapshot `{id}` is {} % complete", found.percent());
            return Err(looks.too_late(&what));
        }
    }
}
