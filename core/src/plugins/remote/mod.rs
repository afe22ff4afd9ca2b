//! Runs providers in separate processes: programs in any language, and isolated libraries. Both speak the
//! `exec` protocol: JSON-RPC 2.0, one message per line, with the same documents as the ABI.
//!
//! ```text
//!  steps ──▶ session ══ stdin, stdout ══▶ a program           session.rs   one process, its streams, its end
//!              │                          or child.rs         service.rs   serves its requests to the host
//!              ▼                             │                steps.rs     the provider's steps; a new process undoes
//!           service ──▶ Host                 ▼                link.rs      the host, as child.rs sees it
//!              ╚═══════ buffer (memory) ══▶ Library           message.rs   the messages
//! ```
//!
//! The protocol is specified in docs/plugins.md.

mod buffer;
mod child;
mod launch;
mod link;
pub(super) mod message;
mod outbox;
mod service;
mod session;
mod slots;
mod status;
mod steps;
mod workers;

pub use child::run as run_child;
pub(super) use launch::Launch;
pub use message::is_message;
pub(super) use steps::{create, create_raw, describe, describe_raw};

/// Versions of the protocol that this program speaks, best first.
const PROTOCOLS: [&str; 1] = ["1.0"];
/// The hidden command that runs a library for another process.
pub const CHILD_VERB: &str = "provider-child";
