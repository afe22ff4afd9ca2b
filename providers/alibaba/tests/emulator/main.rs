//! Tests the provider against the emulator, both in this process: real requests over loopback.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails here")]

mod after;
mod check;
mod codes;
mod delta;
mod delta_bench;
mod delta_resume;
mod delta_trust;
mod discard;
mod ecs;
mod elsewhere;
mod encrypted;
mod faults;
mod growing;
mod harness;
mod interrupted;
mod inventory;
mod locate;
mod manage;
mod oss;
mod preflight;
mod replace;
mod resume;
mod speed;
mod storm;
mod vhd;
mod whole;
