//! Uploads the disk: creates the record, sends the data, waits until the service has processed it, and compares the
//! hash. What comes next follows from the status of the image, so that a resumed run continues like a broken one.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use build_image_plugin_api::{
    Context, Disk, Error, ErrorKind, Result,
    document::{UploadRequest, Uploaded},
    retry::{Backoff, Failure, Policy, RetryAction},
};
use serde_json::json;

use crate::{
    cloud::{Cloud, Session},
    config::{Config, UploadMethod},
    digest,
    image::Image,
    record::{self, STARTED, Started},
    stream::Sent,
    transfer::{Looks, Transfer},
};

/// How long the service may take to notice that an upload broke.
const SETTLE: Duration = Duration::from_secs(60);
/// Pauses between attempts to send the disk.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// A token that ends within this time is renewed before the disk is sent.
const FRESH: Duration = Duration::from_secs(900);
/// Conflicts in a row after which another record is created.
const MOST_CONFLICTS: u32 = 5;
/// Name of the import method for staged data.
pub(crate) const DIRECT: &str = "glance-direct";

/// Uploads the disk of a build.
///
/// # Errors
/// Refusals, broken connections after several attempts, a hash that differs.
pub(crate) fn upload(
    context: &Context,
    config: &Config,
    session: &Arc<Session>,
    request: &UploadRequest,
) -> Result<Uploaded> {
    context.check_cancelled()?;
    context.block_on(async {
        let cloud = Cloud::open(context, config, session, Policy::call(config.retry_time)).await?;
        let by_import = by_import(&cloud, config).await?;
        let transfer = Transfer {
            context,
            cloud: &cloud,
            config,
            disk: &request.disk,
            total: AtomicU64::default(),
            whole: Mutex::default(),
            shown: Arc::default(),
        };
        Job { context, cloud: &cloud, config, request, by_import, transfer, renewals: 0 }
            .run()
            .await
    })
}

/// Whether the data is staged and imported.
///
/// # Errors
/// `unsupported` when the settings request an import that the service does not offer.
async fn by_import(cloud: &Cloud, config: &Config) -> Result<bool, Failure> {
    if config.method == UploadMethod::Put {
        return Ok(false);
    }
    let offered = cloud.import_methods().await?.iter().any(|method| method == DIRECT);
    if config.method == UploadMethod::Import && !offered {
        return Err(Failure::stop(Error::unsupported(
            format!(
                "the image service `{}` does not offer the import method `{DIRECT}`",
                cloud.endpoint
            ),
            "set OPENSTACK_UPLOAD_METHOD=put, or unset it",
        )));
    }
    Ok(offered)
}

/// The upload of a build.
struct Job<'a> {
    context: &'a Context,
    cloud: &'a Cloud,
    config: &'a Config,
    request: &'a UploadRequest,
    by_import: bool,
    transfer: Transfer<'a>,
    /// Number of records that were created because an earlier one could not be used.
    renewals: u32,
}

/// What was tried with the present record.
#[derive(Default)]
struct Tried {
    /// When the first attempt began.
    begun: Option<Instant>,
    attempts: u32,
    /// Number of times that the state of the image did not permit an upload.
    conflicts: u32,
    last: Option<Failure>,
    imported: bool,
}

impl Tried {
    /// Continues with another record.
    fn renewed(self) -> Self {
        Self { conflicts: 0, imported: false, ..self }
    }

    /// Returns the error of the last attempt, when no other is made.
    fn give_up(&mut self) -> Option<Error> {
        let last = self.last.take()?;
        let error = last.error.with_context("attempts", self.attempts);
        // Only waiting was in vain; a refused new token was one correction.
        if last.action != RetryAction::Backoff {
            return Some(error);
        }
        let elapsed = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        Some(error.exhausted(self.attempts.into(), elapsed))
    }
}

impl Job<'_> {
    async fn run(mut self) -> Result<Uploaded> {
        let earlier = Started::earlier(self.context, self.cloud)?;
        let mut started = match earlier {
            Some(earlier)
                if earlier.disk == self.disk().identity
                    && earlier.name == self.request.build.image_name =>
            {
                // The record is announced again: this process continues with it.
                let resource = earlier.resource(self.cloud, self.run_id());
                self.context.will_create(&resource)?;
                earlier
            }
            Some(other) => self.another(&other).await?,
            None => self.create().await?,
        };
        let (mut tried, mut looks) = (Tried::default(), Looks::begin());
        let mut status = String::new();
        loop {
            let Some(image) = self.cloud.image(&started.id).await? else {
                // Deleted, or never created because the process was killed before.
                started = self.another(&started).await?;
                continue;
            };
            if !image.belongs_to(self.run_id(), &self.cloud.project()) {
                return Err(record::foreign(&image));
            }
            if image.status() != status {
                (status, looks) = (image.status().to_owned(), Looks::begin());
            }
            let reached = match image.status() {
                "active" if started.sent.is_none() && !self.is_whole(&image) => false,
                "active" if !image.is_importing() => return self.verify(&started, &image).await,
                "queued" => self.queued(&mut started, &mut tried).await?,
                "uploading" if started.sent.is_some() && !tried.imported => {
                    self.import(&started).await?;
                    tried.imported = true;
                    true
                }
                "active" => self.processing(&started, &image, &mut looks).await?,
                "importing" | "uploading" if tried.imported || started.sent.is_some() => {
                    self.processing(&started, &image, &mut looks).await?
                }
                "uploading" if image.size().is_some() => {
                    self.staged_unanswered(&mut started, &image).await?
                }
                "saving" | "uploading" | "importing" => {
                    // Data of a connection that broke; the service notices that by itself.
                    !looks.wait(SETTLE.min(self.config.import_timeout)).await
                }
                _ => false,
            };
            if !reached {
                if self.renewals >= self.config.attempts
                    && let Some(error) = tried.give_up()
                {
                    return Err(error);
                }
                started = self.another(&started).await?;
                tried = tried.renewed();
            }
        }
    }

    fn disk(&self) -> &Disk {
        &self.request.disk
    }

    fn run_id(&self) -> &str {
        &self.request.build.run_id
    }

    async fn create(&self) -> Result<Started> {
        record::create(
            self.context,
            self.cloud,
            self.config,
            &self.request.build,
            &self.disk().identity,
        )
        .await
    }

    /// Returns what the last attempt has sent, if that was the whole disk.
    fn whole(&self) -> Option<Sent> {
        self.transfer.whole.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the image has as many bytes as the disk, as far as that is known: a service may take the part that
    /// arrived before a connection broke for everything.
    fn is_whole(&self, image: &Image) -> bool {
        let expected = self.whole().map(|sent| sent.bytes).or(self.disk().length);
        expected.is_none() || image.size() == expected
    }

    /// Continues with data that was staged completely, although its answer was lost: the service sets the size at the
    /// end. Returns false for data of another length.
    async fn staged_unanswered(&self, started: &mut Started, image: &Image) -> Result<bool> {
        if !self.is_whole(image) {
            return Ok(false);
        }
        let read = match self.whole() {
            Some(sent) => Some((sent.sha512, sent.bytes)),
            None => self.read_again(digest::SENT).await?,
        };
        let Some((sha512, bytes)) = read.filter(|(_, bytes)| image.size() == Some(*bytes)) else {
            return Ok(false);
        };
        started.sent = Some(Sent { sha512, bytes });
        self.context.save(STARTED, started)?;
        Ok(true)
    }

    /// Creates another record after removing one that cannot be used.
    async fn another(&mut self, old: &Started) -> Result<Started> {
        self.renewals += 1;
        if self.renewals > self.config.attempts {
            let message = format!(
                "image `{}` cannot be used: it was removed or left unfinished repeatedly",
                old.id
            );
            return Err(Error::new(ErrorKind::Conflict, message)
                .with_hint("look for another program that deletes images of the project"));
        }
        record::abandon(self.context, self.cloud, old, self.run_id()).await?;
        self.create().await
    }

    /// Sends the disk to an image without data. Returns false when the image cannot receive it.
    async fn queued(&self, started: &mut Started, tried: &mut Tried) -> Result<bool> {
        if tried.imported {
            return Err(self.import_failed(&started.id, "").await);
        }
        if started.sent.take().is_some() {
            self.context.save(STARTED, started)?;
        }
        if tried.attempts > 0 {
            if tried.attempts >= self.config.attempts {
                return Err(tried
                    .give_up()
                    .unwrap_or_else(|| Error::internal("an upload ended without a cause")));
            }
            let requested = tried.last.as_ref().and_then(|last| last.pause);
            tokio::time::sleep(BACKOFF.pause(tried.attempts.into(), requested)).await;
        }
        tried.begun.get_or_insert_with(Instant::now);
        tried.attempts += 1;
        self.renew_old_token().await?;
        let target = if self.by_import { "stage" } else { "file" };
        match self.transfer.send(&started.id, target).await {
            Ok(sent) => {
                started.sent = Some(sent);
                self.context.save(STARTED, started)?;
                self.context.milestone(format!("uploaded image `{}`", started.id))?;
            }
            // The service is still busy with an attempt that broke: its status decides what comes next.
            Err(failure) if failure.has_status(409) => {
                tried.attempts -= 1;
                tried.conflicts += 1;
                if tried.conflicts > MOST_CONFLICTS {
                    return Ok(false);
                }
                tokio::time::sleep(BACKOFF.pause(tried.conflicts.into(), failure.pause)).await;
            }
            Err(failure) if failure.action == RetryAction::GiveUp => return Err(failure.into()),
            Err(failure) => {
                tracing::warn!(error = %failure.error, attempt = tried.attempts, "the upload broke");
                tried.last = Some(failure);
            }
        }
        Ok(true)
    }

    /// Renews a token that would end during the upload.
    async fn renew_old_token(&self) -> Result<()> {
        let token = self.cloud.token();
        let left = token.expires.map(|end| end.as_second() - jiff::Timestamp::now().as_second());
        let fresh = i64::try_from(FRESH.as_secs()).unwrap_or(i64::MAX);
        if left.is_some_and(|left| left < fresh)
            && !matches!(self.cloud.login.method, crate::login::Method::Token(_))
        {
            self.cloud.renew(&token).await?;
        }
        Ok(())
    }

    async fn import(&self, started: &Started) -> Result<()> {
        let stores: Vec<String> = self.config.store.iter().cloned().collect();
        match self.cloud.import(&started.id, DIRECT, &stores).await {
            Ok(()) => Ok(()),
            // An earlier attempt was answered, but the answer was lost; the status shows how it ends.
            Err(failure) if failure.has_status(409) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Waits while the service processes the data. Returns true.
    async fn processing(
        &self,
        started: &Started,
        image: &Image,
        looks: &mut Looks,
    ) -> Result<bool> {
        if let Some(message) = self.cloud.failed_task(&started.id).await {
            return Err(self.import_failed(&started.id, &message).await);
        }
        if looks.wait(self.config.import_timeout).await {
            let limit = self.config.import_timeout.as_secs();
            let id = &started.id;
            let message = if image.status() == "active" {
                format!("the import of image `{id}` had not ended {limit} s after it became active")
            } else {
                format!("image `{id}` was not active {limit} s after the upload")
            };
            return Err(Error::new(ErrorKind::Timeout, message)
                .with_hint("set OPENSTACK_IMPORT_TIMEOUT to a longer time")
                .retryable());
        }
        Ok(true)
    }

    async fn import_failed(&self, id: &str, message: &str) -> Error {
        let message = if message.is_empty() {
            self.cloud.failed_task(id).await.unwrap_or_default()
        } else {
            message.to_owned()
        };
        let mut error = Error::new(ErrorKind::InvalidImage, format!("image `{id}` was not imported"))
            .with_hint("the service may refuse the format or its content: try another OPENSTACK_DISK_FORMAT, or OPENSTACK_UPLOAD_METHOD=put");
        if !message.is_empty() {
            error.causes.push(message);
        }
        error
    }

    /// Compares the hash of an active image with what was sent.
    async fn verify(&self, started: &Started, image: &Image) -> Result<Uploaded> {
        let (algorithm, found) = match image.text("os_hash_algo") {
            "" => ("md5", image.text("checksum")),
            algorithm => (algorithm, image.text("os_hash_value")),
        };
        let expected = match &started.sent {
            Some(sent) if algorithm == digest::SENT => Some((sent.sha512.clone(), sent.bytes)),
            _ => self.read_again(algorithm).await?,
        };
        let id = image.id();
        match &expected {
            Some((hash, bytes)) if !found.is_empty() => {
                if hash != found || image.size().is_some_and(|size| size != *bytes) {
                    return Err(self.altered(image, algorithm));
                }
            }
            _ => self.context.warning(
                format!("image `{id}` could not be verified: the service shows no hash that can be compared"),
                "download the image and compare it",
            )?,
        }
        let hash = expected.as_ref().map_or("", |(hash, _)| hash);
        let bytes_sent = self.transfer.total.load(Ordering::Relaxed);
        let facts = [
            ("image_id", json!(id)),
            ("hash_algorithm", json!(algorithm)),
            ("hash", json!(hash)),
            ("size", json!(image.size())),
        ];
        let location = format!("{}/v2/images/{id}", self.cloud.endpoint);
        Ok(Uploaded::new(location).bytes_sent(bytes_sent).facts(facts))
    }

    async fn read_again(&self, algorithm: &str) -> Result<Option<(String, u64)>> {
        let (context, disk, algorithm) =
            (self.context.clone(), self.disk().clone(), algorithm.to_owned());
        let read =
            tokio::task::spawn_blocking(move || digest::of_disk(&context, &disk, &algorithm)).await;
        read.map_err(|error| {
            Error::internal("the thread that reads the disk ended").caused_by(&error)
        })?
    }

    fn altered(&self, image: &Image, algorithm: &str) -> Error {
        let id = image.id();
        let sent = crate::disk::word(&self.config.disk);
        if image.text("disk_format") != sent {
            let message = format!(
                "image `{id}` is {} now, and {sent} was sent: the service converts imported images",
                image.text("disk_format")
            );
            return Error::new(ErrorKind::InvalidImage, message)
                .with_hint("set OPENSTACK_UPLOAD_METHOD=put, or OPENSTACK_DISK_FORMAT to the format that the service keeps");
        }
        Error::new(
            ErrorKind::Provider,
            format!("image `{id}` does not have the {algorithm} of what was sent"),
        )
        .with_context("size", image.size().unwrap_or_default())
        .with_hint(
            "memory, a network card, or a proxy changes data: try another machine or network",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_attempts_that_waited_are_reported_as_made_in_vain() {
        let failed = |action| Failure::refused(Error::new(ErrorKind::Network, "x"), action);
        for (action, expected) in
            [(RetryAction::Backoff, Some(3)), (RetryAction::RenewCredentials, None)]
        {
            let (begun, last) = (Some(Instant::now()), Some(failed(action)));
            let mut tried = Tried { begun, last, attempts: 3, ..Tried::default() }.renewed();
            let error = tried.give_up().unwrap();
            assert_eq!(error.exhausted.map(|tried| tried.attempts), expected, "{action:?}");
            assert_eq!((error.context("attempts"), tried.give_up().is_none()), (Some("3"), true));
        }
    }
}
