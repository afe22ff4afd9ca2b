//! Passes calls through the boundary once a plugin is loaded: an instance as [`Steps`], and the host's services
//! through the ABI.

use std::{path::Path, sync::Arc, time::Duration};

use abi_stable::std_types::{ROption, RResult, RSliceMut, RStr, RString};

use super::{
    abi::{FfiError, FfiProgress, HostAbi, ProviderObject},
    convert::{guard, guarded, parse, print},
};
use crate::{
    Description, DiskSpec, Error, Event, Host, LogLevel, LogRecord, Progress, ProgressUnit, Result,
    Step, Steps, provider::step_table,
};

/// Longest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 16 << 20;

macro_rules! lend_steps {
    ($($step:ident $method:ident($request:ty) -> $answer:ty, since $minor:literal;)*) => {
        /// Calls a step through the ABI.
        fn call(
            object: &ProviderObject,
            step: Step,
            request: RStr<'_>,
        ) -> RResult<RString, FfiError> {
            match step { $(Step::$step => object.$method(request),)* }
        }
    };
}
step_table!(lend_steps);

/// An instance behind the ABI.
pub(super) struct Instance {
    pub(super) object: ProviderObject,
    pub(super) description: Description,
}

impl Steps for Instance {
    fn call(&self, step: Step, request: &str) -> Result<String> {
        step.check_built(&self.description)?;
        let answer = guard(step.name(), || {
            call(&self.object, step, request.into()).into_result().map_err(Error::from)
        })?;
        if answer.len() > ANSWER_LIMIT {
            return Err(Error::internal(format!(
                "the answer to {} has {} bytes, more than {ANSWER_LIMIT}",
                step.name(),
                answer.len()
            ))
            .with_hint("this is a bug of the provider; report it with the log file"));
        }
        Ok(answer.into_string())
    }
}

/// An instance that accepts documents as texts: for tests with documents that no host sends.
#[doc(hidden)]
pub struct RawInstance(pub(super) ProviderObject);

impl RawInstance {
    /// Calls a step by name.
    ///
    /// # Errors
    /// The code as the plugin wrote it, and the error.
    pub fn call(&self, step: &str, request: &str) -> Result<String, (String, Error)> {
        let answer = match Step::from_name(step) {
            Some(step) => call(&self.0, step, request.into()),
            None => RResult::RErr(Error::internal(format!("unknown step `{step}`")).into()),
        };
        answer
            .into_result()
            .map(RString::into_string)
            .map_err(|error| (error.code.to_string(), Error::from(error)))
    }
}

/// Adapts the host's services to the ABI.
pub(super) struct LentHost(pub(super) Arc<dyn Host>);

impl HostAbi for LentHost {
    fn log(&self, level: u32, target: RStr<'_>, message: RStr<'_>, fields_json: RStr<'_>) {
        let record = LogRecord {
            level: LogLevel::from_number(level),
            target: target.to_string(),
            message: message.to_string(),
            fields: serde_json::from_str(fields_json.as_str()).unwrap_or_default(),
        };
        // A failing log must not fail the step.
        let _ = guard("log", || {
            self.0.log(record);
            Ok(())
        });
    }

    fn progress(&self, progress: FfiProgress) {
        let unit = match progress.unit {
            1 => ProgressUnit::Percent,
            2 => ProgressUnit::Items,
            _ => ProgressUnit::Bytes,
        };
        let progress =
            Progress { task: progress.task, unit, done: progress.done, total: progress.total };
        let _ = guard("progress", || {
            self.0.progress(progress);
            Ok(())
        });
    }

    fn is_cancelled(&self) -> bool {
        guard("is_cancelled", || Ok(self.0.is_cancelled())).unwrap_or(true)
    }

    fn wait(&self, milliseconds: u64) -> bool {
        guard("wait", || Ok(self.0.wait(Duration::from_millis(milliseconds)))).unwrap_or(true)
    }

    fn event(&self, event_json: RStr<'_>) -> RResult<(), FfiError> {
        guarded("event", || self.0.event(parse::<Event>(event_json.as_str(), "event")?))
    }

    fn secret(&self, key: RStr<'_>) -> RResult<ROption<RString>, FfiError> {
        guarded("secret", || {
            let secret = self.0.secret(key.as_str())?;
            Ok(secret.map(|secret| RString::from(secret.reveal())).into())
        })
    }

    fn checkpoint_save(&self, key: RStr<'_>, document_json: RStr<'_>) -> RResult<(), FfiError> {
        guarded("checkpoint_save", || {
            self.0.checkpoint_save(key.as_str(), &parse(document_json.as_str(), "checkpoint")?)
        })
    }

    fn checkpoint_load(&self, key: RStr<'_>) -> RResult<ROption<RString>, FfiError> {
        guarded("checkpoint_load", || {
            let document = self.0.checkpoint_load(key.as_str())?;
            Ok(document.as_ref().map(print).transpose()?.into())
        })
    }

    fn make_disk(&self, spec_json: RStr<'_>) -> RResult<RString, FfiError> {
        guarded("make_disk", || {
            print(&self.0.make_disk(&parse::<DiskSpec>(spec_json.as_str(), "disk spec")?)?)
        })
    }

    fn disk_read_at(
        &self,
        disk: u64,
        offset: u64,
        mut buffer: RSliceMut<'_, u8>,
    ) -> RResult<u64, FfiError> {
        guarded("disk_read_at", || {
            self.0.disk_read_at(disk, offset, buffer.as_mut_slice()).map(|read| read as u64)
        })
    }

    fn disk_write(&self, disk: u64, path: RStr<'_>) -> RResult<RString, FfiError> {
        guarded("disk_write", || print(&self.0.disk_write(disk, Path::new(path.as_str()))?))
    }
}
