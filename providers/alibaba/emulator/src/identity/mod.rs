//! Implements identities: roles (RAM), temporary keys for them (STS, the credentials address, the metadata
//! service of an instance).

pub(crate) mod metadata;
pub(crate) mod ram;
pub(crate) mod role;
pub(crate) mod session;
pub(crate) mod sts;
