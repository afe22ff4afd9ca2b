//! Guests under qemu: find it, describe a machine, run it until it powers off, judge what it said.
//!
//! ```text
//! program.rs  Qemu: the program and what it can      machine.rs  Machine → argv, pure
//! accel.rs    kvm proven by a probe guest, or tcg    run.rs      watchdogs, markers, outcome
//! serial.rs   the console: log, markers, lines       boot_sector.rs  the probe guest
//! ```
//!
//! Which markers mean success, which arguments a kernel wants: the caller says so, as data.

mod accel;
mod boot_sector;
mod machine;
mod program;
mod run;
mod serial;

pub use accel::{Accel, AccelWish, Verdict};
pub use machine::{Boot, Kernel, Machine};
pub use program::Qemu;
pub use run::{Outcome, RunOptions};

#[cfg(test)]
mod tests;
