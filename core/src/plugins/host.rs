//! The services lent to a provider during one run: the journal, the disk, secrets, progress, Ctrl-C.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use build_image_disk::{
    format::GuestReader,
    view::{Qcow2View, RawView, View},
};
use build_image_plugin_api::{
    Compression, Disk, DiskFormat, DiskSpec, Error, ErrorKind, Event, Host, LogLevel, LogRecord,
    Progress, Resource, Result, Secret,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Mask;
use crate::{
    interrupt::Interrupt,
    journal::{Entry, Journal},
    report::Reporter,
};

/// The host of one run.
pub struct RunHost {
    journal: Mutex<Journal>,
    reporter: Arc<Reporter>,
    interrupt: Arc<Interrupt>,
    /// Keys of the provider's secret settings and their values.
    secrets: BTreeMap<String, Option<Secret>>,
    mask: Mask,
    disk: Mutex<Source>,
}

/// The disk that is built, and the views of it that were handed out.
#[derive(Default)]
struct Source {
    path: Option<PathBuf>,
    /// Made here, hence raw whatever the guest wrote into its first sector.
    is_raw: bool,
    file_stem: String,
    views: Vec<(String, Arc<dyn View>)>,
}

impl RunHost {
    /// A host for one run.
    #[must_use]
    pub fn new(
        journal: Journal,
        reporter: Arc<Reporter>,
        interrupt: Arc<Interrupt>,
        secrets: BTreeMap<String, Option<Secret>>,
    ) -> Self {
        let mask = Mask::of(&secrets);
        let journal = Mutex::new(journal);
        Self { journal, reporter, interrupt, secrets, mask, disk: Mutex::default() }
    }

    /// From now on `make_disk` shows this disk; `is_raw` = it was made here and is raw for certain.
    pub fn set_disk(&self, path: &Path, is_raw: bool, file_stem: &str) {
        let mut source = lock(&self.disk);
        source.path = Some(path.to_owned());
        source.is_raw = is_raw;
        file_stem.clone_into(&mut source.file_stem);
    }

    /// A view that was handed out, and its file name.
    #[must_use]
    pub fn view(&self, disk: u64) -> Option<(String, Arc<dyn View>)> {
        lock(&self.disk).views.get(usize::try_from(disk).ok()?).cloned()
    }

    /// The disks this host can make.
    #[must_use]
    pub fn disks() -> Vec<DiskSpec> {
        [DiskFormat::Raw, DiskFormat::Qcow2]
            .map(|format| DiskSpec { format, ..DiskSpec::default() })
            .to_vec()
    }

    /// Takes secrets out of texts.
    #[must_use]
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// Writes a line into the journal.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(&self, entry: Entry) -> crate::error::Result<()> {
        lock(&self.journal).append(entry)
    }

    /// Whether this is the run's first process.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        lock(&self.journal).is_fresh()
    }

    /// What an earlier process of this run wrote down when it finished a step.
    #[must_use]
    pub fn step_done(&self, step: &str) -> Option<Value> {
        lock(&self.journal).step_done(step).cloned()
    }

    /// Resources that exist now, as far as the journal knows.
    #[must_use]
    pub fn resources(&self) -> Vec<Resource> {
        lock(&self.journal).resources()
    }

    fn open_view(path: &Path, is_raw: bool, spec: &DiskSpec) -> Result<(Arc<dyn View>, String)> {
        let disk = if is_raw { GuestReader::open_raw(path) } else { GuestReader::open(path) };
        let disk = disk.map_err(disk_error)?;
        let identity = identity(&disk, spec)?;
        let view = match (spec.format, spec.compression, spec.variant.as_str()) {
            (DiskFormat::Raw, Compression::None, "") => {
                Ok(Arc::new(RawView::of(disk)) as Arc<dyn View>)
            }
            (DiskFormat::Qcow2, Compression::None, "") => {
                Qcow2View::of(disk).map(|view| Arc::new(view) as Arc<dyn View>)
            }
            _ => {
                return Err(Error::unsupported(
                    format!("this build-image makes no {spec} images"),
                    "ask for raw or uncompressed qcow2",
                ));
            }
        };
        Ok((view.map_err(disk_error)?, identity))
    }
}

impl Host for RunHost {
    fn log(&self, record: LogRecord) {
        // Connection libraries see raw requests: their chatter stays out of the log.
        let noisy = ["hyper", "reqwest", "rustls", "h2"]
            .iter()
            .any(|crate_name| record.target.starts_with(crate_name));
        if noisy && record.level > LogLevel::Warn {
            return;
        }
        let (target, fields) = (record.target, self.mask.value(record.fields));
        let text = self.mask.text(&record.message);
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
                self.record(Entry::Resource { event }).map_err(journal_error)
            }
            Event::Milestone { text } => {
                self.reporter.milestone(&self.mask.text(&text));
                Ok(())
            }
            Event::Warning { text, hint } => {
                let hint = hint.map(|hint| self.mask.text(&hint));
                self.reporter.warning(&self.mask.text(&text), hint.as_deref());
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
        let entry =
            Entry::Checkpoint { key: key.to_owned(), document: self.mask.value(document.clone()) };
        self.record(entry).map_err(journal_error)
    }

    fn checkpoint_load(&self, key: &str) -> Result<Option<Value>> {
        Ok(lock(&self.journal).checkpoint(key))
    }

    fn make_disk(&self, spec: &DiskSpec) -> Result<Disk> {
        let mut source = lock(&self.disk);
        let path = source
            .path
            .clone()
            .ok_or_else(|| Error::internal("the disk was asked for before it is there"))?;
        let (view, identity) = Self::open_view(&path, source.is_raw, spec)?;
        let file_name = format!("{}.{}", source.file_stem, spec.format.word());
        let disk = Disk {
            id: source.views.len() as u64,
            spec: spec.clone(),
            virtual_size: view.virtual_size(),
            length: Some(view.len()),
            length_limit: view.len(),
            late_head: 0,
            file_name: file_name.clone(),
            identity,
            ..Disk::default()
        };
        source.views.push((file_name, view));
        Ok(disk)
    }

    fn disk_read_at(&self, disk: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let (_, view) = self
            .view(disk)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no disk {disk}")))?;
        view.read_at(buffer, offset).map_err(disk_error)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an error turns into another one")]
fn disk_error(error: build_image_disk::Error) -> Error {
    let mut made = Error::new(ErrorKind::Local, error.to_string());
    if let Some(source) = std::error::Error::source(&error) {
        made = made.because(source);
    }
    match error.hint() {
        Some(hint) => made.with_hint(hint),
        None => made,
    }
}

/// Names a disk's content and the form it is shown in: which files it is, when they were last changed.
fn identity(disk: &GuestReader, spec: &DiskSpec) -> Result<String> {
    let mut facts = String::new();
    for path in disk.files() {
        let metadata = path.metadata().map_err(|error| {
            Error::new(ErrorKind::Local, format!("cannot read `{}`", path.display()))
                .because(&error)
        })?;
        facts += &format!(
            "{} {} {} {} {} ",
            metadata.dev(),
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        );
    }
    facts += &format!("{spec:?}");
    Ok(Sha256::digest(facts).iter().map(|byte| format!("{byte:02x}")).collect())
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
