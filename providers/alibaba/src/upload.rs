//! Uploads the disk to the bucket, by multipart upload. Every step is recorded before it is performed, so
//! that a later attempt of the same run finds the upload and sends only the missing parts. Nothing is aborted
//! on failure: that would prevent resuming; `discard` removes what the host does not keep.

use std::sync::Arc;

use crate::{
    client::CALL,
    config::Config,
    credentials::Credentials,
    delta::{Copying, Keeper, Prepared, prepare},
    locate,
    marks::{OBJECT_DISK, OBJECT_KEPT, OBJECT_RUN},
    meter::Meter,
    multipart::ListedPart,
    nearby::nearby,
    oss::{ObjectHead, Oss},
    owner::Owner,
    parts::Plan,
    reader::Reader,
    refusal::refused_outright,
    stale,
    state::{UPLOAD, UploadState},
    transfer::{Transfer, Transferred, part_policy},
};
use build_image_plugin_api::{
    Context, Error, ErrorKind, Result,
    document::{UploadRequest, Uploaded},
    retry::{Failure, retry},
};

/// Number of times an upload that vanished is started again.
const RESTARTS: u32 = 2;
/// Code of the failure of an object whose checksum is not that of the disk.
const DIFFERS: &str = "ContentDiffers";

/// One upload.
struct Upload<'a> {
    context: &'a Context,
    config: &'a Config,
    request: &'a UploadRequest,
    oss: Oss,
    plan: Plan,
    /// An earlier attempt of the run exists.
    resumed: bool,
    state: UploadState,
}

/// Uploads the disk.
///
/// # Errors
/// Any failure that keeps it from arriving complete.
pub(crate) fn upload(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
    request: &UploadRequest,
) -> Result<Uploaded> {
    let length = request.disk.length.unwrap_or(request.disk.length_limit);
    let place = nearby(context, config, config.place()?)?;
    let oss = Oss::open(&place, Arc::clone(credentials))?;
    let saved: Option<UploadState> = context.load(UPLOAD)?;
    let owner = Owner::now(context, &place)?;
    if let Some(saved) = &saved {
        owner.may_continue(&saved.owner)?;
    }
    let usable = saved.as_ref().filter(|saved| {
        (&saved.bucket, &saved.region, saved.length) == (&place.bucket, &place.region, length)
    });
    let wanted = usable.map_or(config.upload.part_size, |saved| saved.part_size);
    let plan = Plan::new(length, wanted)?;
    let fresh = || UploadState::fresh(config, request, &place, &plan, owner);
    let resumed = usable.is_some();
    let state = usable.cloned().unwrap_or_else(fresh);
    let stale = saved.filter(|_| !resumed);
    let mut upload = Upload { context, config, request, oss, plan, resumed, state };
    context.block_on(async {
        if let Some(stale) = stale {
            stale::drop_upload(context, config, credentials, &stale).await?;
        }
        upload.run().await
    })
}

impl Upload<'_> {
    async fn run(&mut self) -> Result<Uploaded> {
        let reader = self.prepare().await?;
        if self.is_there().await? {
            // The setting that keeps the object may have changed since it was recorded.
            self.context.created(&self.state.object(self.config.keep_object))?;
            self.keep_manifest(&reader).await?;
            self.context.milestone(format!("`{}` is there already", self.state.key))?;
            return Ok(self.answer(0));
        }
        if let Some(crc) = self.same_object(&reader).await? {
            self.forget_upload(true).await?;
            self.finish(crc, &reader).await?;
            self.context.milestone(format!("`{}` is there already", self.state.key))?;
            return Ok(self.answer(0));
        }
        let mut bytes_sent = 0;
        // The last round is for an upload whose copied parts were wrong.
        for round in 0..=RESTARTS + 1 {
            let listed = self.begin().await?;
            let meter = Meter::new(self.context, self.request.disk.length);
            let arrived = self.bring(listed, &reader, &meter).await;
            bytes_sent += meter.sent();
            match arrived {
                Ok(crc) => {
                    self.finish(crc, &reader).await?;
                    return Ok(self.answer(bytes_sent));
                }
                Err(failure) if failure.has_code(&[DIFFERS]) && self.has_base() => {
                    self.continue_without_base().await?;
                }
                Err(failure)
                    if failure.has_code(&["NoSuchUpload", "InvalidPart"]) && round < RESTARTS =>
                {
                    tracing::warn!(error = %failure.error, "the upload is begun anew");
                    self.forget_upload(failure.has_code(&["InvalidPart"])).await?;
                }
                Err(failure) => return Err(*failure.error),
            }
        }
        Err(Error::internal("the rounds of an upload ended without an answer"))
    }

    /// Finds out what an earlier object has of the disk, and divides the disk into parts.
    async fn prepare(&mut self) -> Result<Reader> {
        let known = (self.plan.clone(), &self.state);
        let Self { context, config, request, oss, resumed, .. } = &*self;
        let prepared = prepare(context, config, request, oss, known, *resumed);
        let Prepared { reader, plan, delta } = prepared.await?;
        self.state.part_size = plan.part_size;
        self.state.delta = delta;
        self.plan = plan;
        Ok(reader)
    }

    /// Whether parts come from an earlier object.
    fn has_base(&self) -> bool {
        self.state.delta.as_ref().is_some_and(crate::delta::DeltaState::has_base)
    }

    /// Continues with an upload of the whole disk: what was copied is not what is on the disk.
    async fn continue_without_base(&mut self) -> Result<()> {
        let base = self.state.delta.as_mut().and_then(|delta| delta.forget_base());
        let text = format!(
            "what was copied from `{}` is not what is on the disk",
            base.unwrap_or_default()
        );
        let hint = "the whole disk is sent; delete the manifest of that object";
        self.context.warning(text, hint)?;
        self.plan = Plan::new(self.plan.length, self.plan.part_size)?;
        self.forget_upload(false).await
    }

    async fn keep_manifest(&mut self, reader: &Reader) -> Result<()> {
        let Self { context, config, request, oss, state, .. } = self;
        Keeper { context, config, request, oss }.settle(state, reader).await
    }

    /// Whether an earlier attempt completed the object and it is still the same.
    async fn is_there(&mut self) -> Result<bool> {
        let Some(crc) = self.state.crc.take() else { return Ok(false) };
        if self.state.identity != self.request.disk.identity || self.state.identity.is_empty() {
            return Ok(false);
        }
        let head = self.oss.head(&self.state.key, &CALL).await?;
        let same = head.is_some_and(|head| self.matches(&head, crc));
        self.state.crc = same.then_some(crc);
        Ok(same)
    }

    /// Whether an earlier attempt completed the object without receiving the answer: then its size and CRC-64
    /// are those of the disk.
    async fn same_object(&mut self, reader: &Reader) -> Result<Option<u64>> {
        if !self.resumed {
            return Ok(None);
        }
        let head = self.oss.head(&self.state.key, &CALL).await?;
        let Some(ObjectHead { size, crc: Some(theirs) }) = head else { return Ok(None) };
        let same = reader.ends_at(size).await? && reader.checksum(0, size).await? == theirs;
        self.state.size = same.then_some(size);
        Ok(same.then_some(theirs))
    }

    fn size(&self) -> u64 {
        self.state.size.unwrap_or(self.plan.length)
    }

    fn matches(&self, head: &ObjectHead, crc: u64) -> bool {
        head.size == self.size() && head.crc.map_or(!self.has_base(), |theirs| theirs == crc)
    }

    /// Finds the upload of an earlier attempt, or starts one. Returns the parts that the service has.
    async fn begin(&mut self) -> Result<Vec<ListedPart>> {
        if let Some(id) = self.state.upload_id.clone() {
            match self.oss.list_parts(&self.state.key, &id, &CALL).await {
                Ok(parts) => return Ok(parts),
                Err(failure) if failure.has_code(&["NoSuchUpload"]) => {
                    self.forget_upload(false).await?;
                }
                Err(failure) => return Err(*failure.error),
            }
        }
        // Nothing is created after the build was cancelled.
        self.context.check_cancelled()?;
        self.context.will_create(&self.state.object(self.config.keep_object))?;
        self.context.will_create(&self.state.multipart())?;
        self.context.save(UPLOAD, &self.state)?;
        if self.resumed {
            self.abort_strays().await?;
        }
        let headers = self.object_headers();
        let call = self.oss.initiate(&self.state.key, &headers, &CALL);
        let initiated = self.context.until_answered(call).await;
        let id = match initiated.map_err(Error::from) {
            Ok(id) => id,
            Err(error) => {
                if !self.resumed && refused_outright(&error) {
                    self.context.gone(&self.state.multipart())?;
                    self.context.gone(&self.state.object(self.config.keep_object))?;
                }
                return Err(error);
            }
        };
        self.state.upload_id = Some(id);
        if let Some(manifest) = &mut self.state.manifest {
            // It describes the object that this upload replaces.
            manifest.is_written = false;
        }
        self.context.save(UPLOAD, &self.state)?;
        self.context.created(&self.state.multipart())?;
        Ok(Vec::new())
    }

    fn object_headers(&self) -> Vec<(String, String)> {
        let plain = |text: &str| text.chars().filter(char::is_ascii_graphic).collect::<String>();
        let kept = if self.config.keep_object { "yes" } else { "" };
        let headers = [
            ("content-type".to_owned(), "application/octet-stream".to_owned()),
            (OBJECT_RUN.to_owned(), plain(&self.request.build.run_id)),
            (OBJECT_KEPT.to_owned(), kept.to_owned()),
            (OBJECT_DISK.to_owned(), locate::mark_of(self.request)),
            ("x-oss-meta-build-image-disk".to_owned(), plain(&self.request.disk.identity)),
            ("x-oss-meta-build-image-version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ];
        headers.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }

    /// Aborts uploads of our key whose ids are unknown.
    async fn abort_strays(&self) -> Result<(), Failure> {
        for id in self.oss.list_uploads(&self.state.key, &CALL).await? {
            self.oss.abort(&self.state.key, &id, &CALL).await?;
        }
        Ok(())
    }

    /// Forgets the known upload id; with `abort` the service may still have the upload, which is aborted.
    async fn forget_upload(&mut self, abort: bool) -> Result<()> {
        if let Some(id) = &self.state.upload_id
            && abort
        {
            self.oss.abort(&self.state.key, id, &CALL).await?;
        }
        self.context.gone(&self.state.multipart())?;
        self.state.upload_id = None;
        self.context.save(UPLOAD, &self.state)
    }

    /// Sends all parts and completes the upload. Returns the object's CRC-64.
    async fn bring(
        &mut self,
        listed: Vec<ListedPart>,
        reader: &Reader,
        meter: &Arc<Meter>,
    ) -> Result<u64, Failure> {
        let id = self.state.upload_id.clone().unwrap_or_default();
        let upload = (self.state.key.as_str(), id.as_str());
        let tuning = &self.config.upload;
        let copying = Copying::of(self.state.delta.as_ref(), self.config);
        let plan = self.plan.clone();
        let transfer = Transfer::new(&self.oss, upload, (plan, copying), reader, meter, tuning);
        let transferred = transfer.run(listed).await?;
        if transferred.kept > 0 {
            let (kept, all) = (transferred.kept, transferred.parts.len());
            self.context.milestone(format!("{kept} of {all} parts were there already"))?;
        }
        self.state.size = Some(transferred.length);
        self.complete(&id, &transferred).await?;
        Ok(transferred.crc)
    }

    /// Completes the object. After a lost answer, its state is looked up: the service continues without the
    /// client.
    async fn complete(&self, id: &str, transferred: &Transferred) -> Result<(), Failure> {
        let key = &self.state.key;
        let policy = part_policy(&self.config.upload);
        retry(&policy, async || {
            let failure = match self.oss.complete(key, id, &transferred.parts).await {
                Ok(Some(theirs)) if theirs != transferred.crc => {
                    return Err(self.failed_proof(theirs, transferred.crc));
                }
                Ok(None) if self.has_base() => {
                    let head = self.oss.head(key, &CALL).await?;
                    if head.as_ref().is_some_and(|head| self.matches(head, transferred.crc)) {
                        return Ok(());
                    }
                    let theirs = head.and_then(|head| head.crc).unwrap_or_default();
                    return Err(self.failed_proof(theirs, transferred.crc));
                }
                Ok(_) => return Ok(()),
                Err(failure) => failure,
            };
            if failure.error.retryable || failure.has_code(&["NoSuchUpload"]) {
                let head = self.oss.head(key, &CALL).await?;
                if head.is_some_and(|head| self.matches(&head, transferred.crc)) {
                    return Ok(());
                }
            }
            Err(failure)
        })
        .await
    }

    fn failed_proof(&self, theirs: u64, ours: u64) -> Failure {
        let mut failure = Failure::stop(self.differs(theirs, ours));
        DIFFERS.clone_into(&mut failure.code);
        failure
    }

    fn differs(&self, theirs: u64, ours: u64) -> Error {
        let message = format!("`{}` was stored with other content than was sent", self.state.key);
        Error::new(ErrorKind::Provider, message)
            .with_context("crc64_here", format!("{ours:016x}"))
            .with_context("crc64_there", format!("{theirs:016x}"))
            .with_hint("upload again in a new run")
    }

    /// Verifies the object and records that it exists.
    async fn finish(&mut self, crc: u64, reader: &Reader) -> Result<()> {
        let key = &self.state.key;
        match self.oss.head(key, &CALL).await? {
            Some(head) if self.matches(&head, crc) => {}
            Some(head) => {
                return Err(self
                    .differs(head.crc.unwrap_or_default(), crc)
                    .with_context("bytes_here", self.size())
                    .with_context("bytes_there", head.size));
            }
            None => {
                let message = format!("`{key}` is not there after its upload");
                return Err(Error::new(ErrorKind::NotFound, message)
                    .with_hint("check the bucket's lifecycle rules"));
            }
        }
        // A lost answer to `InitiateMultipartUpload` named another upload.
        match self.abort_strays().await {
            Err(failure) if failure.error.kind == ErrorKind::Auth => {
                tracing::warn!(error = %failure.error, "further uploads cannot be looked for");
            }
            aborted => aborted?,
        }
        self.context.gone(&self.state.multipart())?;
        self.state.upload_id = None;
        self.state.crc = Some(crc);
        self.context.save(UPLOAD, &self.state)?;
        self.context.created(&self.state.object(self.config.keep_object))?;
        self.keep_manifest(reader).await
    }

    fn answer(&self, bytes_sent: u64) -> Uploaded {
        let state = &self.state;
        let place = (state.bucket.as_str(), state.region.as_str());
        let (crc, format) = (state.crc.unwrap_or_default(), self.request.disk.spec.format);
        let facts = locate::facts(place, &state.key, self.size(), crc, format);
        Uploaded::new(self.oss.object_url(&state.key))
            .id(locate::id_of(&state.bucket, &state.key))
            .bytes_sent(bytes_sent)
            .facts(facts)
    }
}
