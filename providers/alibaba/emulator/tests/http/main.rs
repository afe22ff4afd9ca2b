//! The emulator over real HTTP on loopback, spoken to by a small client of its own that signs
//! independently of the code under test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
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
