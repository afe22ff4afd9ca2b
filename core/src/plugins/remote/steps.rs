//! Runs a provider's steps in a process. When the process dies, a new one removes what it created.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use build_image_plugin_api::{
    Description, Disk, DiskSpec, Error, Event, Host, LogRecord, Progress, Result, Secret, Settings,
    Steps,
    conformance::RawSteps,
    document::{
        CheckReport, CheckRequest, DiscardRequest, Discarded, DiskRequest, RegisterRequest,
        Registered, UploadRequest, Uploaded,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{launch::Launch, message::to_json, session::Session};

/// Time for a process to start and to return its description: that is pure data, but may need an interpreter on
/// a busy machine.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Reads a provider's description, in a process that ends with the answer.
///
/// # Errors
/// When the process does not start, dies, hangs, or does not answer with a description.
pub(in crate::plugins) fn describe(launch: &Launch) -> Result<Description> {
    read("describe", describe_raw(launch)?)
}

/// Reads the description as the document that the provider wrote.
///
/// # Errors
/// As [`describe`].
pub(in crate::plugins) fn describe_raw(launch: &Launch) -> Result<Value> {
    let host: Arc<dyn Host> = Arc::new(NoHost);
    let mut session = Session::start(launch, &host, Some(START_LIMIT))?;
    session.call("describe", &json!({}), Some(START_LIMIT), host.as_ref())
}

/// Creates an instance in a separate process.
///
/// # Errors
/// When the process does not start, or the provider refuses its settings.
pub(in crate::plugins) fn create(
    launch: &Launch,
    host: Arc<dyn Host>,
    settings: &Settings,
) -> Result<Box<dyn Steps>> {
    let made = RemoteSteps {
        session: Mutex::new(begin(launch, &host, settings)?),
        launch: launch.clone(),
        settings: settings.clone(),
        host,
    };
    Ok(Box::new(made))
}

/// Creates an instance that accepts documents of any shape.
///
/// # Errors
/// As [`create`].
pub(in crate::plugins) fn create_raw(
    launch: &Launch,
    host: Arc<dyn Host>,
    settings: &str,
) -> Result<Box<dyn RawSteps>> {
    let document: Value = serde_json::from_str(settings)
        .map_err(|error| Error::internal("the settings are malformed").caused_by(&error))?;
    let session = Mutex::new(begin(launch, &host, &document)?);
    Ok(Box::new(RawSession { session, host }))
}

fn begin(launch: &Launch, host: &Arc<dyn Host>, settings: &impl Serialize) -> Result<Session> {
    let mut session = Session::start(launch, host, Some(START_LIMIT))?;
    session.call("create", &json!({"settings": settings}), None, host.as_ref())?;
    Ok(session)
}

fn read<T: DeserializeOwned>(step: &str, answer: Value) -> Result<T> {
    serde_json::from_value(answer).map_err(|error| {
        Error::internal(format!("the answer to {step} is malformed")).caused_by(&error)
    })
}

struct RemoteSteps {
    session: Mutex<Session>,
    launch: Launch,
    settings: Settings,
    host: Arc<dyn Host>,
}

impl RemoteSteps {
    fn step<Q: Serialize, A: DeserializeOwned>(&self, name: &str, request: &Q) -> Result<A> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let request = to_json(request)?;
        read(name, session.call(name, &request, None, self.host.as_ref())?)
    }
}

impl Steps for RemoteSteps {
    fn check(&self, request: &CheckRequest) -> Result<CheckReport> {
        self.step("check", request)
    }

    fn create_disk(&self, request: &DiskRequest) -> Result<Disk> {
        self.step("create_disk", request)
    }

    fn upload(&self, request: &UploadRequest) -> Result<Uploaded> {
        self.step("upload", request)
    }

    fn register(&self, request: &RegisterRequest) -> Result<Registered> {
        self.step("register", request)
    }

    fn discard(&self, request: &DiscardRequest) -> Result<Discarded> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if session.is_over() {
            tracing::info!("the provider's process is gone, a fresh one removes what it created");
            *session = begin(&self.launch, &self.host, &self.settings)?;
        }
        drop(session);
        self.step("discard", request)
    }
}

/// See [`create_raw`].
struct RawSession {
    session: Mutex<Session>,
    host: Arc<dyn Host>,
}

impl RawSteps for RawSession {
    fn call(&self, step: &str, request: &str) -> Result<String, (String, Error)> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = serde_json::from_str(request)
            .map_err(|error| {
                Error::internal(format!("the request of {step} is malformed")).caused_by(&error)
            })
            .and_then(|request: Value| session.call(step, &request, None, self.host.as_ref()));
        answer
            .map(|answer| answer.to_string())
            .map_err(|error| (error.kind.code().to_owned(), error))
    }
}

/// The host while a provider only returns its description: no service is available.
struct NoHost;

fn nothing<T>() -> Result<T> {
    Err(Error::unsupported(
        "a provider has nothing to ask for while it describes itself",
        "describe is pure data; do the work in check, upload or register",
    ))
}

impl Host for NoHost {
    fn log(&self, record: LogRecord) {
        tracing::debug!(target: "provider", from = record.target, "{}", record.message);
    }

    fn progress(&self, _: Progress) {}

    fn is_cancelled(&self) -> bool {
        false
    }

    fn wait(&self, _: Duration) -> bool {
        false
    }

    fn event(&self, _: Event) -> Result<()> {
        nothing()
    }

    fn secret(&self, _: &str) -> Result<Option<Secret>> {
        nothing()
    }

    fn checkpoint_save(&self, _: &str, _: &Value) -> Result<()> {
        nothing()
    }

    fn checkpoint_load(&self, _: &str) -> Result<Option<Value>> {
        nothing()
    }

    fn make_disk(&self, _: &DiskSpec) -> Result<Disk> {
        nothing()
    }

    fn disk_read_at(&self, _: u64, _: u64, _: &mut [u8]) -> Result<usize> {
        nothing()
    }
}
