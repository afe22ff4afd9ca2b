//! Runs a provider's steps in a process. When the process dies, a new one removes what it created.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use build_image_plugin_api::{
    Description, Disk, DiskSpec, Error, Event, Host, LogRecord, Progress, Result, Secret, Settings,
    Step, Steps, conformance::RawSteps,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    launch::Launch,
    message::{from_json, from_text},
    session::Session,
};

/// Time for a process to start and to return its description: that is pure data, but may need an interpreter on
/// a busy machine.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Reads a provider's description, in a process that ends with the answer.
///
/// # Errors
/// When the process does not start, dies, hangs, or does not answer with a description.
pub(in crate::plugins) fn describe(launch: &Launch) -> Result<Description> {
    from_json("the answer to describe is", describe_raw(launch)?)
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
    description: &Description,
    host: Arc<dyn Host>,
    settings: &Settings,
) -> Result<Box<dyn Steps>> {
    let made = RemoteSteps {
        session: Mutex::new(begin(launch, &host, settings)?),
        description: description.clone(),
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
    let document = from_text("the settings are", settings)?;
    let session = Mutex::new(begin(launch, &host, &document)?);
    Ok(Box::new(RawSession { session, host }))
}

fn begin(launch: &Launch, host: &Arc<dyn Host>, settings: &impl Serialize) -> Result<Session> {
    let mut session = Session::start(launch, host, Some(START_LIMIT))?;
    session.call("create", &json!({"settings": settings}), None, host.as_ref())?;
    Ok(session)
}

struct RemoteSteps {
    session: Mutex<Session>,
    description: Description,
    launch: Launch,
    settings: Settings,
    host: Arc<dyn Host>,
}

impl Steps for RemoteSteps {
    fn call(&self, step: Step, request: &str) -> Result<String> {
        step.check_built(&self.description)?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if step == Step::Discard && session.is_over() {
            tracing::info!("the provider's process is gone, a fresh one removes what it created");
            *session = begin(&self.launch, &self.host, &self.settings)?;
        }
        let request = from_text(&format!("the request of {} is", step.name()), request)?;
        Ok(session.call(step.name(), &request, None, self.host.as_ref())?.to_string())
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
        let answer = from_text(&format!("the request of {step} is"), request)
            .and_then(|request| session.call(step, &request, None, self.host.as_ref()));
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
