//! Providers in a process of their own: programs in any language, and libraries that are isolated. Both
//! speak the `exec` protocol: JSON-RPC 2.0, one message per line, the same documents as the ABI.
//!
//! ```text
//!  steps ──▶ session ══ stdin, stdout ══▶ a program           session.rs   one child, its streams, its death
//!              │                          or child.rs         service.rs   what it asks of the host
//!              ▼                             │                steps.rs     the provider's steps; a fresh child undoes
//!           service ──▶ Host                 ▼                link.rs      the host, seen from inside child.rs
//!              ╚═══════ buffer (memory) ══▶ Library           message.rs   the lines
//! ```
//!
//! The protocol is written down in docs/plugins.md.

mod buffer;
mod child;
mod launch;
mod link;
mod message;
mod outbox;
mod service;
mod session;
mod slots;
mod status;
mod steps;
mod trace;
mod workers;

pub use child::run as run_child;
pub(super) use launch::Launch;
pub(super) use steps::{create, create_raw, describe, describe_raw};
pub(crate) use trace::{VARIABLE as TRACE_VARIABLE, begin as begin_trace};

/// Versions of the protocol this program speaks, best first.
const PROTOCOLS: [&str; 1] = ["1.0"];
/// The hidden verb of the program that runs a library for another process.
pub const CHILD_VERB: &str = "provider-child";
