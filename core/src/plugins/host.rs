//! Implements the host services for a provider during one run: the journal, the disk, secrets, progress,
//! cancellation.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use build_image_disk::{Kind, format::GuestReader, pack::Control};
use build_image_files::Identity;
use build_image_plugin_api::{
    Disk, DiskSpec, Error, ErrorKind, Event, Host, LogLevel, LogRecord, Progress, Resource, Result,
    Secret, WrittenDisk,
};
use serde_json::Value;

use super::{
    RateLimiter, Redactor, SharedImages,
    disks::{self, BaseDisk, ImageOutput, break_if},
    published::{FileDigests, ImageHandle, Published},
};
use crate::{
    artifacts::more_space,
    interrupt::Interrupt,
    journal::{Entry, Journal},
    publication::{PublishedFile, Translation},
    report::Reporter,
    settings::keys::IMAGE_DIR,
    signature::Algorithm,
};

/// The host of one run.
pub struct RunHost {
    journal: Mutex<Journal>,
    reporter: Arc<Reporter>,
    interrupt: Arc<Interrupt>,
    /// Keys of the provider's secret settings and their values.
    secrets: BTreeMap<String, Option<Secret>>,
    redactor: Redactor,
    disk: Mutex<Source>,
    /// Files that were written for the provider, and their digests.
    written: Mutex<Vec<(Identity, FileDigests)>>,
    /// Where published files are until the release: texts name their final paths.
    translation: OnceLock<Translation>,
    /// Whether the running step may record no resource.
    owns_nothing: AtomicBool,
    /// Limits the rate of uploads.
    rate: Option<Arc<RateLimiter>>,
    /// Images that targets share.
    images: Option<Arc<SharedImages>>,
    /// The target, for the log.
    span: tracing::Span,
}

/// The disk that is built, and the images of it that were handed out.
#[derive(Default)]
struct Source {
    origin: Option<BaseDisk>,
    file_stem: String,
    /// Directory of images that have to be written.
    directory: PathBuf,
    /// Whether the user sees the progress of writing them.
    watched: bool,
    /// Whether the images are published, so that no other target may have them.
    published: bool,
    made: Vec<Arc<ImageHandle>>,
}

impl RunHost {
    /// Creates the host of one run.
    #[must_use]
    pub fn new(
        journal: Journal,
        reporter: Arc<Reporter>,
        interrupt: Arc<Interrupt>,
        secrets: BTreeMap<String, Option<Secret>>,
    ) -> Self {
        let redactor = Redactor::of(&secrets);
        let journal = Mutex::new(journal);
        Self {
            journal,
            reporter,
            interrupt,
            secrets,
            redactor,
            disk: Mutex::default(),
            written: Mutex::default(),
            translation: OnceLock::new(),
            owns_nothing: AtomicBool::new(false),
            rate: None,
            images: None,
            span: tracing::Span::current(),
        }
    }

    /// Also redacts the secrets of other targets: a plugin that serves several logs through the last one.
    #[must_use]
    pub(crate) fn redacting(mut self, others: &[Secret]) -> Self {
        self.redactor = Redactor::of_all(self.secrets.values().flatten().chain(others));
        self
    }

    /// Limits the rate at which images are read.
    #[must_use]
    pub(crate) fn limited(self, rate: Option<Arc<RateLimiter>>) -> Self {
        Self { rate, ..self }
    }

    /// Shares images that have to be written.
    #[must_use]
    pub(crate) fn sharing(self, images: Option<Arc<SharedImages>>) -> Self {
        Self { images, ..self }
    }

    /// Runs a step that only looks something up: resources that it reports are refused, so that no undo removes what
    /// the run did not make.
    pub(crate) fn without_resources<T>(&self, step: impl FnOnce() -> T) -> T {
        self.owns_nothing.store(true, Ordering::SeqCst);
        let result = step();
        self.owns_nothing.store(false, Ordering::SeqCst);
        result
    }

    /// Sets how texts name the published files: they are in a staging directory, and texts name their final paths.
    pub(crate) fn set_translation(&self, translation: Translation) {
        let _ = self.translation.set(translation);
    }

    /// Replaces the paths of published files in a document with their final paths.
    #[must_use]
    pub(crate) fn translated(&self, value: Value) -> Value {
        match self.translation.get() {
            Some(translation) => translation.translate_value(value),
            None => value,
        }
    }

    /// A text for the user: secrets are redacted, and published files have their final paths.
    #[must_use]
    pub fn shown(&self, text: &str) -> String {
        let masked = self.redactor.text(text);
        match self.translation.get() {
            Some(translation) => translation.translate(&masked),
            None => masked,
        }
    }

    /// An error for the user, with the same replacements.
    #[must_use]
    pub fn shown_error(&self, error: Error) -> Error {
        let mut error = self.redactor.error(error);
        error.message = self.shown(&error.message);
        error.hint = error.hint.map(|hint| self.shown(&hint));
        error.causes = error.causes.iter().map(|cause| self.shown(cause)).collect();
        for (_, value) in &mut error.context {
            *value = self.shown(value);
        }
        error
    }

    /// Sets the disk that `make_disk` serves, and the names of its files and archives.
    pub(crate) fn set_disk(&self, origin: BaseDisk, file_stem: &str) {
        let mut source = lock(&self.disk);
        source.origin = Some(origin);
        file_stem.clone_into(&mut source.file_stem);
    }

    /// Sets the directory of images that have to be written, whether their progress is shown, and whether they are
    /// published there.
    pub(crate) fn write_images_to(&self, directory: &Path, watched: bool, published: bool) {
        let mut source = lock(&self.disk);
        source.published = published;
        directory.clone_into(&mut source.directory);
        source.watched = watched;
    }

    /// Opens the disk that is built.
    pub(crate) fn open_disk(&self) -> Result<GuestReader> {
        let origin = lock(&self.disk).origin.clone();
        origin.ok_or_else(|| Error::internal("the disk was asked for before it is there"))?.open()
    }

    /// An image that was handed out.
    pub(crate) fn made(&self, disk: u64) -> Option<Arc<ImageHandle>> {
        lock(&self.disk).made.get(usize::try_from(disk).ok()?).cloned()
    }

    /// The digests of a file that was written for the provider; absent for other files.
    pub(crate) fn digests_of(&self, path: &Path) -> Option<FileDigests> {
        let written = lock(&self.written);
        let found = written.iter().find(|(identity, _)| identity.is_at(path).unwrap_or_default());
        found.map(|(_, digests)| digests.clone())
    }

    /// Drops all images; unfinished files are removed.
    pub(crate) fn drop_images(&self) {
        let made = std::mem::take(&mut lock(&self.disk).made);
        for image in made {
            image.forget();
        }
    }

    /// The images that this host can make.
    #[must_use]
    pub fn disks() -> Vec<DiskSpec> {
        disks::images()
    }

    /// Returns whether this host can make such an image.
    #[must_use]
    pub fn can_make(spec: &DiskSpec) -> bool {
        disks::can_make(spec)
    }

    /// How images are written: cancelled by Ctrl-C, with progress when the user waits for this alone.
    fn control(&self, watched: bool) -> Control {
        let (reporter, interrupt) = (Arc::clone(&self.reporter), Arc::clone(&self.interrupt));
        Control::new().with_watch(move |progress| {
            if watched {
                let (done, total) = (progress.done, progress.total);
                reporter.progress(Progress::new(done, total));
            }
            break_if(interrupt.is_set())
        })
    }

    /// Redacts secrets in texts.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Writes an entry into the journal.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(&self, entry: Entry) -> crate::error::Result<()> {
        lock(&self.journal).append(entry)
    }

    /// Returns whether this is the run's first process.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        lock(&self.journal).is_fresh()
    }

    /// The document that an earlier process of this run recorded when it finished a step.
    #[must_use]
    pub fn step_done(&self, step: &str) -> Option<Value> {
        lock(&self.journal).step_done(step).cloned()
    }

    /// All lines of the journal.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.journal).entries().to_vec()
    }

    /// The files that were released with the image.
    #[must_use]
    pub(crate) fn released_files(&self) -> Vec<PublishedFile> {
        let journal = lock(&self.journal);
        let released = journal.entries().iter().find_map(|entry| match entry {
            Entry::ProductsReleased { files } => Some(files.clone()),
            _ => None,
        });
        released.unwrap_or_default()
    }

    /// Resources that exist now, according to the journal.
    #[must_use]
    pub fn resources(&self) -> Vec<Resource> {
        lock(&self.journal).resources()
    }
}

impl Host for RunHost {
    fn log(&self, record: LogRecord) {
        if record.may_contain_requests() {
            return;
        }
        let _target = self.span.enter();
        let (target, fields) = (record.target, self.redactor.value(record.fields));
        let text = self.redactor.text(&record.message);
        match record.level {
            LogLevel::Error => {
                tracing::error!(target: "provider", from = target, %fields, "{text}");
            }
            LogLevel::Warn => tracing::warn!(target: "provider", from = target, %fields, "{text}"),
            LogLevel::Info => tracing::info!(target: "provider", from = target, %fields, "{text}"),
            LogLevel::Debug => {
                tracing::debug!(target: "provider", from = target, %fields, "{text}");
            }
            LogLevel::Trace => {
                tracing::trace!(target: "provider", from = target, %fields, "{text}");
            }
            _ => {}
        }
    }

    fn progress(&self, progress: Progress) {
        self.reporter.progress(progress);
    }

    fn is_cancelled(&self) -> bool {
        self.interrupt.is_set()
    }

    fn wait(&self, duration: Duration) -> bool {
        self.interrupt.wait(duration)
    }

    fn event(&self, event: Event) -> Result<()> {
        match event {
            Event::ResourcePlanned { .. }
            | Event::ResourceCreated { .. }
            | Event::ResourceGone { .. } => {
                if self.owns_nothing.load(Ordering::SeqCst) {
                    return Err(Error::internal(
                        "a step that looks something up reported a resource",
                    )
                    .with_hint("report it to the author of the provider"));
                }
                self.refuse_secrets(
                    "a resource",
                    &serde_json::to_value(&event).unwrap_or_default(),
                )?;
                self.record(Entry::Resource { event }).map_err(journal_error)
            }
            Event::Milestone { text } => {
                self.reporter.milestone(&self.shown(&text));
                Ok(())
            }
            Event::Warning { text, hint } => {
                let hint = hint.map(|hint| self.shown(&hint));
                self.reporter.warning(&self.shown(&text), hint.as_deref());
                Ok(())
            }
            _ => Err(Error::unsupported(
                "this build-image does not know the event",
                "use a newer build-image",
            )),
        }
    }

    fn secret(&self, key: &str) -> Result<Option<Secret>> {
        self.secrets.get(key).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("`{key}` is no secret setting of this provider"),
            )
        })
    }

    fn checkpoint_save(&self, key: &str, document: &Value) -> Result<()> {
        self.refuse_secrets(&format!("checkpoint `{key}`"), document)?;
        let entry = Entry::Checkpoint { key: key.to_owned(), document: document.clone() };
        self.record(entry).map_err(journal_error)
    }

    fn checkpoint_load(&self, key: &str) -> Result<Option<Value>> {
        Ok(lock(&self.journal).checkpoint(key))
    }

    fn make_disk(&self, spec: &DiskSpec) -> Result<Disk> {
        let mut source = lock(&self.disk);
        let mut origin = source
            .origin
            .clone()
            .ok_or_else(|| Error::internal("the disk was asked for before it is there"))?;
        origin.published = source.published;
        let asked = spec;
        let spec = origin.ready.as_ref().map_or(asked, |ready| &ready.spec);
        let file_name = with_suffix(&source.file_stem, spec.file_suffix());
        let dest = source.directory.join(&file_name);
        let identity = origin.identity(spec)?;
        let control = self.control(source.watched);
        let shared = self.images.as_ref().filter(|_| {
            let is_written = disks::is_written(spec) && origin.ready.is_none();
            // A package has a signature of its target, and a file that is published becomes its own.
            is_written && spec.ovf.is_none() && !source.published
        });
        let form = match shared {
            Some(images) => {
                images.get(&origin, spec, &identity, |dest| origin.form(asked, dest, &control))?
            }
            None => origin.form(asked, &dest, &control)?,
        };
        let (length, length_limit, deferred_prefix_len) = match &form {
            ImageOutput::View(view) => (Some(view.len()), view.len(), 0),
            ImageOutput::File(file) => {
                let limit = file.length_limit();
                (file.length(), limit, file.deferred_prefix_len().min(limit))
            }
        };
        let mut disk = Disk::default()
            .id(source.made.len() as u64)
            .spec(spec.clone())
            .virtual_size(origin.virtual_size)
            .length_limit(length_limit)
            .deferred_prefix_len(deferred_prefix_len)
            .file_name(file_name.clone())
            .identity(identity);
        disk.length = length;
        source.made.push(Arc::new(ImageHandle::new(file_name, form, origin.published_digests())));
        Ok(disk)
    }

    fn disk_read_at(&self, disk: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let made = self.handle(disk)?;
        let count = made.read_at(buffer, offset, &|| break_if(self.interrupt.is_set()))?;
        if let Some(rate) = &self.rate {
            let pause = rate.reserve(count as u64, Instant::now());
            if !pause.is_zero() && self.interrupt.wait(pause) {
                return Err(Error::cancelled());
            }
        }
        Ok(count)
    }

    fn disk_write(&self, disk: u64, path: &Path) -> Result<WrittenDisk> {
        let made = self.handle(disk)?;
        let total = made.length_limit();
        let mut progress = |done| {
            self.reporter.progress(Progress::new(done, total));
            break_if(self.interrupt.is_set())
        };
        match made.write_to(path, &mut progress) {
            Ok(Published { length, digests, .. }) => {
                if let Ok(metadata) = fs::symlink_metadata(path) {
                    lock(&self.written).push((Identity::of(&metadata), digests.clone()));
                }
                let named = |(algorithm, hex): (Algorithm, String)| (algorithm.name(), hex);
                Ok(WrittenDisk::new(length).digests(digests.into_iter().map(named)))
            }
            Err(_) if self.interrupt.is_set() => Err(Error::cancelled()),
            Err(error) => {
                let is_full = error.kind() == Kind::NoSpace;
                let error = disk_error(error);
                Err(if is_full { error.with_hint(more_space(IMAGE_DIR)) } else { error })
            }
        }
    }
}

impl RunHost {
    fn handle(&self, disk: u64) -> Result<Arc<ImageHandle>> {
        let text = || format!("disk {disk} does not exist");
        self.made(disk).ok_or_else(|| Error::new(ErrorKind::NotFound, text()))
    }

    /// Refuses a document that contains the value of a secret setting: redacted, it would be useless later;
    /// unchanged, the secret would be written to the disk.
    fn refuse_secrets(&self, what: &str, document: &Value) -> Result<()> {
        if !self.redactor.finds(document) {
            return Ok(());
        }
        let what = self.redactor.text(&format!("{what} holds the value of a secret setting"));
        Err(Error::internal(what)
            .with_hint("this is a fault of the provider: it must save what it derived, or nothing"))
    }
}

/// Converts an error of the disk library into a provider's error.
#[expect(clippy::needless_pass_by_value, reason = "an error is converted into another one")]
pub(super) fn disk_error(error: build_image_disk::Error) -> Error {
    let mut made = Error::new(ErrorKind::Local, error.to_string());
    if let Some(source) = std::error::Error::source(&error) {
        made = made.caused_by(source);
    }
    match error.hint() {
        Some(hint) => made.with_hint(hint),
        None => made,
    }
}

/// Appends the suffix, unless the stem already ends with it.
pub(crate) fn with_suffix(stem: &str, suffix: &str) -> String {
    match stem.strip_suffix(suffix) {
        Some(before) if before.ends_with('.') => stem.to_owned(),
        _ => format!("{stem}.{suffix}"),
    }
}

fn journal_error(error: crate::error::Error) -> Error {
    let mut made = Error::new(ErrorKind::Local, error.message);
    made.causes = error.causes;
    made.hint = error.hint;
    made
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
