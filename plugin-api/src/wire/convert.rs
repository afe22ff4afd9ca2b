//! Converts between the wire's types and the author's types: errors and documents, identically on both sides.

use std::panic::{AssertUnwindSafe, catch_unwind};

use abi_stable::std_types::{RResult, RString};
use serde::{Serialize, de::DeserializeOwned};

use super::abi::FfiError;
use crate::{Error, ErrorKind, Result, error::Details};

impl From<Error> for FfiError {
    fn from(error: Error) -> Self {
        let details = Details {
            hint: error.hint,
            context: error.context,
            causes: error.causes,
            exhausted: error.exhausted,
        };
        Self {
            code: error.kind.code().into(),
            message: error.message.into(),
            retryable: error.retryable,
            details_json: serde_json::to_string(&details).unwrap_or_default().into(),
        }
    }
}

impl From<FfiError> for Error {
    fn from(error: FfiError) -> Self {
        let details: Details = serde_json::from_str(&error.details_json).unwrap_or_default();
        Self {
            kind: ErrorKind::from_code(&error.code),
            message: error.message.into(),
            hint: details.hint,
            retryable: error.retryable,
            exhausted: details.exhausted,
            context: details.context,
            causes: details.causes,
        }
    }
}

/// Parses a document; `what` names it in the error.
pub(super) fn parse<T: DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Error::internal(format!("the {what} document is malformed")).caused_by(&error)
    })
}

/// Serializes a document.
pub(crate) fn print<T: Serialize>(value: &T) -> Result<RString> {
    let text = serde_json::to_string(value).map_err(|error| {
        Error::internal("a document cannot be written as JSON").caused_by(&error)
    })?;
    Ok(text.into())
}

/// Runs `call` and turns a panic into an error, so that no panic unwinds across the boundary.
pub(super) fn guard<T>(what: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        // Dropping a foreign payload may panic again.
        std::mem::forget(payload);
        Err(Error::new(ErrorKind::Panic, format!("panic in {what}: {text}"))
            .with_hint("this is a bug of the provider; report it with the log file"))
    })
}

/// Like [`guard`], but returns the wire's result type.
pub(super) fn guarded<T>(what: &str, call: impl FnOnce() -> Result<T>) -> RResult<T, FfiError> {
    guard(what, call).map_err(FfiError::from).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_wire() {
        let error = Error::new(ErrorKind::Quota, "too many images in `cn-hangzhou`")
            .with_hint("delete some")
            .with_context("request_id", "R-1")
            .caused_by(&std::io::Error::other("inner"))
            .exhausted(7, std::time::Duration::from_secs(95));
        assert_eq!(Error::from(FfiError::from(error.clone())), error);
    }

    #[test]
    fn an_unknown_code_becomes_the_kind_provider() {
        let mut wire = FfiError::from(Error::config("x"));
        wire.code = "teapot".into();
        assert_eq!(Error::from(wire).kind, ErrorKind::Provider);
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let error = guard::<()>("upload", || panic!("boom {}", 1)).unwrap_err();
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ErrorKind::Panic, "panic in upload: boom 1")
        );
    }
}
