//! Injects requested faults: rules that make selected calls fail, and the plan they result in for a call.

mod action;
mod rules;

pub(crate) use action::{CheckItem, Plan};
pub use rules::FaultError;
pub(crate) use rules::Faults;
