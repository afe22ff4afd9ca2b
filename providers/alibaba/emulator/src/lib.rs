//! Emulates OSS, ECS, STS, and RAM locally: the calls of an image importer to Alibaba Cloud, on loopback. It
//! is written from the vendor's documentation; it verifies signatures, enforces the rules of multipart
//! uploads, and inspects objects that are imported as images. It is not a security boundary and has no
//! permissions: every key pair has full access.
//!
//! ```
//! use build_image_emulator_alibaba::{BucketSeed, Config, start};
//!
//! let buckets = vec![BucketSeed::parse("demo").unwrap()];
//! let running = start(Config { buckets, ..Config::default() }).unwrap();
//! assert!(running.address().ip().is_loopback());
//! running.shutdown();
//! ```
#![forbid(unsafe_code)]

mod acs;
mod auth;
mod clock;
mod config;
mod control;
mod ecs;
mod faults;
mod http;
mod identity;
mod ids;
mod log;
mod oss;
mod service;
mod state;
mod stored;
mod web;

pub use build_image_loopback_tls::TlsError;
pub use config::{Account, BucketSeed, Config, StateDir, Tls};
pub use faults::FaultError;
pub use http::{Running, StartError, start};
pub use state::StateError;
pub use stored::{ExportError, Stored, StoredImage};

/// An error with all its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}
