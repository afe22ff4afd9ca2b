//! Faults on order: rules that make chosen calls go wrong, and what they make of a call.

mod action;
mod rules;

pub(crate) use action::{CheckItem, Plan};
pub use rules::FaultError;
pub(crate) use rules::Faults;
