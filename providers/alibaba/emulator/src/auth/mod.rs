//! Authenticates requests: identifies the caller and verifies the signature.

pub(crate) mod acs3;
pub(crate) mod encode;
pub(crate) mod mac;
pub(crate) mod oss_v1;
pub(crate) mod oss_v4;
pub(crate) mod rpc_v1;
#[cfg(test)]
mod vectors;
