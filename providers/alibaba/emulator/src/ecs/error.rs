//! Defines errors of the RPC services (ECS, STS, RAM): a status, a code, and a message, written as JSON.
//! Codes and their spelling: the vendor's error tables.

use serde_json::{Value, json};

/// An error answer of ECS, STS or RAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AcsError {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    /// Milliseconds for `x-acs-retry-after`; only throttling has one.
    pub(crate) retry_after: Option<u64>,
}

impl AcsError {
    /// An error with this status, code and message.
    pub(crate) fn new(status: u16, code: &str, message: &str) -> Self {
        Self { status, code: code.to_owned(), message: message.to_owned(), retry_after: None }
    }

    /// 400 `MissingParameter`.
    pub(crate) fn missing(name: &str) -> Self {
        Self::new(
            400,
            "MissingParameter",
            &format!(
                "The input parameter \"{name}\" that is mandatory for processing this request is not supplied."
            ),
        )
    }

    /// The error for a call with `DryRun` that would have succeeded.
    pub(crate) fn dry_run() -> Self {
        Self::new(
            400,
            "DryRunOperation",
            "Request validation has been passed with DryRun flag set.",
        )
    }

    /// 400 `InvalidParameter`-like errors about one value.
    pub(crate) fn invalid(code: &str, name: &str) -> Self {
        Self::new(400, code, &format!("The specified parameter \"{name}\" is not valid."))
    }

    /// 400 `InvalidSecurityToken.Expired`.
    pub(crate) fn expired() -> Self {
        Self::new(400, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")
    }

    /// An internal error of the server.
    pub(crate) fn internal(cause: &dyn std::fmt::Display) -> Self {
        Self::new(500, "InternalError", &format!("The emulator failed: {cause}"))
    }

    /// The JSON document.
    pub(crate) fn to_json(&self, request_id: &str, host: &str) -> Value {
        json!({
            "RequestId": request_id,
            "HostId": host,
            "Code": self.code,
            "Message": self.message,
            "Recommend": format!("https://api.aliyun.com/troubleshoot?q={}", self.code),
        })
    }
}

impl From<crate::state::StateError> for AcsError {
    fn from(error: crate::state::StateError) -> Self {
        Self::internal(&error)
    }
}
