//! Forwards log records and panics of a plugin to the host: a plugin has a separate copy of the standard library
//! and of `tracing`, so the host does not see them otherwise.

use std::{
    fmt::Write as _,
    sync::{Arc, Once, OnceLock, RwLock, Weak},
};

use serde_json::{Map, Value};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::{Host, LogLevel, LogRecord, context::may_contain_requests};

static HOST: OnceLock<RwLock<Weak<dyn Host>>> = OnceLock::new();

/// Sends later panics of this library to the host's log instead of standard error. Before a host exists, the error
/// that a panic becomes reports it.
pub(super) fn hook_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            send(LogLevel::Error, "panic", panic.to_string(), Map::new());
        }));
    });
}

/// Sends later log records of this library to `host`; the last instance wins.
pub(super) fn install(host: &Arc<dyn Host>) {
    hook_panics();
    let weak = Arc::downgrade(host);
    let slot = HOST.get_or_init(|| {
        // An error means that a subscriber (of a test) is already set: it is kept.
        let _ = tracing::subscriber::set_global_default(Forward);
        RwLock::new(weak.clone())
    });
    if let Ok(mut current) = slot.write() {
        *current = weak;
    }
}

fn send(level: LogLevel, target: &str, message: String, fields: Map<String, Value>) {
    let host = HOST.get().and_then(|slot| slot.read().ok().and_then(|weak| weak.upgrade()));
    if let Some(host) = host {
        let fields = Value::Object(fields);
        host.log(LogRecord { level, target: target.to_owned(), message, fields });
    }
}

/// Forwards events. Spans are not: the contract has no place for them, so they need no identity either.
struct Forward;

impl Subscriber for Forward {
    /// Details of connection libraries stay here: older hosts know fewer of these libraries, and formatting a request for
    /// a record that no host logs would cost as much as sending it.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && !may_contain_requests(level_of(metadata), metadata.target())
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = level_of(metadata);
        send(level, metadata.target(), fields.message, fields.others);
    }
}

/// Returns the level of an event in words of the contract.
fn level_of(metadata: &Metadata<'_>) -> LogLevel {
    match *metadata.level() {
        tracing::Level::ERROR => LogLevel::Error,
        tracing::Level::WARN => LogLevel::Warn,
        tracing::Level::INFO => LogLevel::Info,
        tracing::Level::DEBUG => LogLevel::Debug,
        tracing::Level::TRACE => LogLevel::Trace,
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.others.insert(field.name().to_owned(), format!("{value:?}").into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.others.insert(field.name().to_owned(), value.into());
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.others.insert(field.name().to_owned(), value.into());
    }
}
