//! The services lent to a provider during one run: the journal, the disk, secrets, progress, Ctrl-C.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use build_image_disk::view::{Qcow2View, RawView, View};
use build_image_plugin_api::{
    Compression, Disk, DiskFormat, DiskSpec, Error, ErrorKind, Event, Host, LogLevel, LogRecord,
    Progress, Resource, Result, Secret,
};
use serde_json::Value;

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
    disk: Mutex<Source>,
}

/// The disk that is built, and the views of it that were handed out.
#[derive(Default)]
struct Source {
    raw: Option<PathBuf>,
    file_stem: String,
    identity: String,
    views: Vec<Arc<dyn View>>,
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
        Self { journal: Mutex::new(journal), reporter, interrupt, secrets, disk: Mutex::default() }
    }

    /// From now on `make_disk` shows this raw disk.
    pub fn set_disk(&self, raw: &Path, file_stem: &str, identity: &str) {
        let mut source = lock(&self.disk);
        source.raw = Some(raw.to_owned());
        file_stem.clone_into(&mut source.file_stem);
        identity.clone_into(&mut source.identity);
    }

    /// A view that was handed out.
    #[must_use]
    pub fn view(&self, disk: u64) -> Option<Arc<dyn View>> {
        lock(&self.disk).views.get(usize::try_from(disk).ok()?).cloned()
    }

    /// Writes a line into the journal.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(&self, entry: Entry) -> crate::error::Result<()> {
        lock(&self.journal).append(entry)
    }

    /// Resources that exist now, as far as the journal knows.
    #[must_use]
    pub fn resources(&self) -> Vec<Resource> {
        lock(&self.journal).resources()
    }

    fn open_view(raw: &Path, spec: &DiskSpec) -> Result<Arc<dyn View>> {
        let view = match (spec.format, spec.compression, spec.variant.as_str()) {
            (DiskFormat::Raw, Compression::None, "") => {
                RawView::open(raw).map(|view| Arc::new(view) as Arc<dyn View>)
            }
            (DiskFormat::Qcow2, Compression::None, "") => {
                Qcow2View::new(raw).map(|view| Arc::new(view) as Arc<dyn View>)
            }
            _ => {
                return Err(Error::unsupported(
                    format!("this host makes no {spec:?}"),
                    "ask for raw or uncompressed qcow2",
                ));
            }
        };
        view.map_err(disk_error)
    }
}

impl Host for RunHost {
    fn log(&self, record: LogRecord) {
        let (target, fields) = (record.target, record.fields);
        let text = record.message;
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
                self.reporter.milestone(&text);
                Ok(())
            }
            Event::Warning { text, hint } => {
                self.reporter.warning(&text, hint.as_deref());
                Ok(())
            }
            _ => Ok(()),
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
        let entry = Entry::Checkpoint { key: key.to_owned(), document: document.clone() };
        self.record(entry).map_err(journal_error)
    }

    fn checkpoint_load(&self, key: &str) -> Result<Option<Value>> {
        Ok(lock(&self.journal).checkpoint(key))
    }

    fn make_disk(&self, spec: &DiskSpec) -> Result<Disk> {
        let mut source = lock(&self.disk);
        let raw = source
            .raw
            .clone()
            .ok_or_else(|| Error::internal("the disk was asked for before it is there"))?;
        let view = Self::open_view(&raw, spec)?;
        let disk = Disk {
            id: source.views.len() as u64,
            spec: spec.clone(),
            virtual_size: view.virtual_size(),
            length: view.len(),
            file_name: format!("{}.{}", source.file_stem, spec.format.word()),
            identity: format!("{}-{}", source.identity, spec.format.word()),
        };
        source.views.push(view);
        Ok(disk)
    }

    fn disk_read_at(&self, disk: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let view = self
            .view(disk)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no disk {disk}")))?;
        view.read_at(buffer, offset).map_err(disk_error)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an error turns into another one")]
fn disk_error(error: build_image_disk::Error) -> Error {
    let mut made = Error::internal(error.to_string());
    if let Some(source) = std::error::Error::source(&error) {
        made = made.because(source);
    }
    match error.hint() {
        Some(hint) => made.with_hint(hint),
        None => made,
    }
}

fn journal_error(error: crate::error::Error) -> Error {
    let mut made = Error::internal(error.message);
    made.causes = error.causes;
    made.hint = error.hint;
    made
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
