//! Computes request signatures as pure functions: no clock, no network, no settings.

pub(crate) mod acs3;
mod digest;
pub(crate) mod encode;
pub(crate) mod oss_v4;
