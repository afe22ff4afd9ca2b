//! Tests the emulator over real HTTP on loopback, with a small separate client that signs independently of
//! the code under test.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue has failed")]
#![forbid(unsafe_code)]

mod client;
mod copy;
mod disks;
mod ecs;
mod faults;
mod hostile;
mod identity;
mod import;
mod multipart;
mod oss;
mod restart;
mod tls;
mod web;
