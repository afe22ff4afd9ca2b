//! Gives a step access to the services of the host: log, progress, events, secrets, checkpoints, disks.

use std::{path::Path, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Disk, DiskSpec, Error, ErrorKind, Resource, Result, Secret, WrittenDisk,
    document::{DiscardRequest, Discarded, Remaining},
};

#[cfg(feature = "async")]
mod asynchronous;
#[cfg(feature = "async")]
mod runtime;
#[cfg(feature = "async")]
mod stop;
#[cfg(all(test, feature = "async"))]
mod tests;

/// Size of the buffer of [`Context::copy_disk`], in bytes.
const COPY_BLOCK: usize = 1 << 20;

/// Severity of a log record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u32)]
pub enum LogLevel {
    /// Something failed.
    Error = 1,
    /// Something is unusual.
    Warn = 2,
    /// Normal operation, of interest to the user.
    #[default]
    Info = 3,
    /// For debugging.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

impl LogLevel {
    /// Converts a wire number to a level; unknown numbers become the most verbose level.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Error,
            2 => Self::Warn,
            3 => Self::Info,
            4 => Self::Debug,
            _ => Self::Trace,
        }
    }
}

/// One log record of a provider.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LogRecord {
    /// Severity.
    pub level: LogLevel,
    /// Module path that logged it.
    pub target: String,
    /// Text.
    pub message: String,
    /// Named values, a JSON object.
    pub fields: Value,
}

impl LogRecord {
    /// Returns whether it is a detail of a connection library, which may contain a raw request with its secrets. Hosts
    /// do not log such records.
    #[must_use]
    pub fn may_contain_requests(&self) -> bool {
        may_contain_requests(self.level, &self.target)
    }
}

/// As [`LogRecord::may_contain_requests`], before the record exists.
pub(crate) fn may_contain_requests(level: LogLevel, target: &str) -> bool {
    let libraries = ["hyper", "reqwest", "rustls", "h2", "aws_"];
    level > LogLevel::Warn && libraries.iter().any(|name| target.starts_with(name))
}

/// Unit of a progress report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u32)]
pub enum ProgressUnit {
    /// Bytes.
    #[default]
    Bytes = 0,
    /// Percent.
    Percent = 1,
    /// Items.
    Items = 2,
}

/// Progress of a step. A later report replaces an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Number of the task when several run at once; 0 when there is only one.
    pub task: u32,
    /// Unit of `done` and `total`.
    pub unit: ProgressUnit,
    /// Done so far.
    pub done: u64,
    /// The total; 0 = unknown.
    pub total: u64,
}

/// An event that the host must record. Resource events are durable before the call returns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A resource will be created by the next call to the cloud.
    ResourcePlanned {
        /// The resource.
        resource: Resource,
    },
    /// A planned resource exists now (or its identifier became known).
    ResourceCreated {
        /// The resource, with its identifier.
        resource: Resource,
    },
    /// A resource was removed, or was never created.
    ResourceGone {
        /// The resource.
        resource: Resource,
    },
    /// A line for the user: a part of the step is complete.
    Milestone {
        /// Lower-case fragment.
        text: String,
    },
    /// A line for the user: something is unusual, but the step continues.
    Warning {
        /// Lower-case fragment.
        text: String,
        /// What to do about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// An event of a later version.
    #[serde(other)]
    Unknown,
}

/// The services that a host lends to a provider. Providers use them through [`Context`]; hosts and test doubles
/// implement them. All methods may be called from any thread. Methods that a later minor version adds have default
/// bodies, so implementations keep compiling.
pub trait Host: Send + Sync + 'static {
    /// Records a log record. Must not block.
    fn log(&self, record: LogRecord);
    /// Reports progress. Must not block.
    fn progress(&self, progress: Progress);
    /// Returns whether the running step must stop.
    fn is_cancelled(&self) -> bool;
    /// Sleeps; a cancellation ends it early. Returns whether the step was cancelled.
    fn wait(&self, duration: Duration) -> bool;
    /// Records an event; resource events are on disk when this returns.
    ///
    /// # Errors
    /// When the event could not be written; then the resource must not be created. `unsupported` for events of a
    /// later version.
    fn event(&self, event: Event) -> Result<()>;
    /// Returns the value of a secret setting.
    ///
    /// # Errors
    /// When the key is not a secret setting of this provider.
    fn secret(&self, key: &str) -> Result<Option<Secret>>;
    /// Stores a document for a later, resumed run.
    ///
    /// # Errors
    /// When it could not be written.
    fn checkpoint_save(&self, key: &str, document: &Value) -> Result<()>;
    /// Returns the document stored under `key`.
    ///
    /// # Errors
    /// When it could not be read.
    fn checkpoint_load(&self, key: &str) -> Result<Option<Value>>;
    /// Returns a view of the disk in the given image format.
    ///
    /// # Errors
    /// `unsupported` for formats that the host cannot make.
    fn make_disk(&self, spec: &DiskSpec) -> Result<Disk>;
    /// Reads bytes of a view; returns fewer than requested only at its end.
    ///
    /// # Errors
    /// When the disk cannot be read.
    fn disk_read_at(&self, disk: u64, offset: u64, buffer: &mut [u8]) -> Result<usize>;
    /// Writes a whole view to a file that does not exist yet, and makes it durable. Since 1.1.
    ///
    /// # Errors
    /// `unsupported` when the host cannot do it; then nothing happened, and the caller reads the view instead. When the
    /// disk cannot be read or the file cannot be written.
    fn disk_write(&self, disk: u64, path: &Path) -> Result<WrittenDisk> {
        let _ = (disk, path);
        Err(no_disk_write())
    }
}

/// The error of a host that does not write views to files.
pub(crate) fn no_disk_write() -> Error {
    Error::unsupported("this host writes no disks to files", "read the disk and write it")
}

/// Access of a step to the host. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    host: Arc<dyn Host>,
    #[cfg(feature = "async")]
    services: Arc<asynchronous::Services>,
}

impl Context {
    /// Creates a context over a host (for adapters and tests).
    #[must_use]
    pub fn new(host: Arc<dyn Host>) -> Self {
        Self {
            host,
            #[cfg(feature = "async")]
            services: Arc::default(),
        }
    }

    /// Returns the host's services.
    #[must_use]
    pub fn host(&self) -> &Arc<dyn Host> {
        &self.host
    }

    /// Returns whether the step must stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.host.is_cancelled()
    }

    /// Ends the step when the host asked it to stop: `context.check_cancelled()?`.
    ///
    /// # Errors
    /// [`Error::cancelled`].
    pub fn check_cancelled(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// Sleeps; Ctrl-C ends it early.
    ///
    /// # Errors
    /// [`Error::cancelled`].
    pub fn wait(&self, duration: Duration) -> Result<()> {
        if self.host.wait(duration) { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// Reports the bytes done so far.
    pub fn progress_bytes(&self, done: u64, total: u64) {
        self.host.progress(Progress::new(done, total));
    }

    /// Reports the percentage done so far.
    pub fn progress_percent(&self, percent: u64) {
        self.host.progress(Progress::percent(percent));
    }

    /// Records a resource before it is created.
    ///
    /// # Errors
    /// When it could not be recorded; do not create it then.
    pub fn will_create(&self, resource: &Resource) -> Result<()> {
        self.host.event(Event::ResourcePlanned { resource: resource.clone() })
    }

    /// Records that a planned resource exists, with its identifier.
    ///
    /// # Errors
    /// When it could not be recorded.
    pub fn created(&self, resource: &Resource) -> Result<()> {
        self.host.event(Event::ResourceCreated { resource: resource.clone() })
    }

    /// Records that a resource no longer exists.
    ///
    /// # Errors
    /// When it could not be recorded.
    pub fn gone(&self, resource: &Resource) -> Result<()> {
        self.host.event(Event::ResourceGone { resource: resource.clone() })
    }

    /// Prints a line for the user about a completed part.
    ///
    /// # Errors
    /// When the host rejects it.
    pub fn milestone(&self, text: impl Into<String>) -> Result<()> {
        self.host.event(Event::Milestone { text: text.into() })
    }

    /// Prints a warning for the user.
    ///
    /// # Errors
    /// When the host rejects it.
    pub fn warning(&self, text: impl Into<String>, hint: impl Into<String>) -> Result<()> {
        self.host.event(Event::Warning { text: text.into(), hint: Some(hint.into()) })
    }

    /// Returns the value of a secret setting; `None` when it is unset.
    ///
    /// # Errors
    /// When the key is not a secret setting of this provider.
    pub fn secret(&self, key: &str) -> Result<Option<Secret>> {
        self.host.secret(key)
    }

    /// Stores a value for a resumed run.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn save<T: Serialize>(&self, key: &str, value: &T) -> Result<()> {
        let document = serde_json::to_value(value).map_err(|error| {
            Error::internal(format!("checkpoint `{key}` cannot be written as JSON"))
                .caused_by(&error)
        })?;
        self.host.checkpoint_save(key, &document)
    }

    /// Returns the value stored by an earlier attempt of the same run. A value that no longer parses is treated as
    /// absent.
    ///
    /// # Errors
    /// When it could not be read.
    pub fn load<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        Ok(self.host.checkpoint_load(key)?.and_then(|value| serde_json::from_value(value).ok()))
    }

    /// Returns a view of the disk in the image format that the provider needs.
    ///
    /// # Errors
    /// `unsupported` for formats that the host cannot make.
    pub fn make_disk(&self, spec: &DiskSpec) -> Result<Disk> {
        self.host.make_disk(spec)
    }

    /// Fills `buffer` from `offset`; returns the number of bytes read (fewer than requested only at the end).
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn read_disk(&self, disk: &Disk, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.host.disk_read_at(disk.id, offset, buffer)
    }

    /// Lets the host write the whole disk to `path`, which must not exist, and make it durable, with progress. This is
    /// the fastest way to a file: an image that the host has written already only gets another name, and digests are
    /// computed at the same time. The disk cannot be read afterwards.
    ///
    /// # Errors
    /// `unsupported` when the host cannot do it, such as one of version 1.0, or of an isolated provider; nothing
    /// happened then: use [`Context::copy_disk`]. When the disk cannot be read or the file cannot be written;
    /// [`Error::cancelled`].
    pub fn write_disk(&self, disk: &Disk, path: &Path) -> Result<WrittenDisk> {
        self.check_cancelled()?;
        self.host.disk_write(disk.id, path)
    }

    /// Writes the whole disk to `target`, reports progress and stops when asked; returns the number of bytes
    /// written. For targets that accept a stream from start to end.
    ///
    /// # Errors
    /// When the disk cannot be read or the target cannot be written; [`Error::cancelled`].
    pub fn copy_disk(&self, disk: &Disk, target: &mut impl std::io::Write) -> Result<u64> {
        let write_error = |error| Error::io("the disk cannot be written", &error);
        let (mut copied, mut buffer) = (0, vec![0; COPY_BLOCK]);
        loop {
            self.check_cancelled()?;
            let read = self.read_disk(disk, copied, &mut buffer)?;
            target.write_all(&buffer[..read]).map_err(write_error)?;
            copied += read as u64;
            self.progress_bytes(copied, disk.length.unwrap_or_default());
            if read < buffer.len() {
                target.flush().map_err(write_error)?;
                return Ok(copied);
            }
        }
    }

    /// Removes the resources of a request one by one and builds the answer. A resource that `remove` does not find
    /// ([`ErrorKind::NotFound`]) counts as removed; its other errors are the reasons why a resource remains. A
    /// removed resource is listed in the answer even if the host could not record the removal at once: a later
    /// `discard` then requests it again.
    ///
    /// # Errors
    /// None at present.
    pub fn discard_each(
        &self,
        request: &DiscardRequest,
        mut remove: impl FnMut(&Resource) -> Result<()>,
    ) -> Result<Discarded> {
        let mut answer = Discarded::default();
        for resource in request.resources.iter().cloned() {
            match remove(&resource) {
                Err(error) if error.kind != ErrorKind::NotFound => {
                    answer.remaining.push(Remaining::because_of(resource, &error));
                }
                _ => {
                    if let Err(error) = self.gone(&resource) {
                        let label = resource.label();
                        tracing::warn!(
                            "{label} is removed, but the host could not record it: {error}"
                        );
                    }
                    answer.removed.push(resource);
                }
            }
        }
        Ok(answer)
    }

    /// Ends the threads of the instance; they do not call the host afterwards.
    pub(crate) fn end(&self) {
        #[cfg(feature = "async")]
        self.services.end();
    }
}
