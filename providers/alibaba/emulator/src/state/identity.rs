//! Defines the documents of RAM and STS: roles, and temporary keys for them.

use serde::{Deserialize, Serialize};

use super::table::Document;
use crate::clock::Millis;

/// A RAM role.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) description: String,
    /// The trust policy, which defines who may assume the role, as JSON text.
    pub(crate) trust: String,
    pub(crate) created: Millis,
    /// Maximum validity of a temporary key, in seconds.
    pub(crate) max_session: i64,
    pub(crate) policies: Vec<Attached>,
}

/// A policy attached to a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attached {
    pub(crate) name: String,
    /// `System` or `Custom`.
    pub(crate) kind: String,
    pub(crate) at: Millis,
}

impl Document for Role {
    const KIND: &'static str = "roles";
    fn key(&self) -> String {
        self.name.clone()
    }
}

/// A temporary key pair with its token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: String,
    pub(crate) role: String,
    pub(crate) name: String,
    pub(crate) issued: Millis,
    pub(crate) expires: Millis,
}

impl Document for Session {
    const KIND: &'static str = "sessions";
    fn key(&self) -> String {
        self.id.clone()
    }
}
