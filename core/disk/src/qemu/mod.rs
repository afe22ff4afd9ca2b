//! Guests under qemu: find it, describe a machine, run it until it powers off, judge what it said.
//!
//! ```text
//! program.rs  Qemu: the program and what it can      machine.rs  Machine → argv, pure
//! accel.rs    kvm proven by a probe guest, or tcg    run.rs      watchdogs, markers, outcome
//! serial.rs   the console: markers, lines            boot_sector.rs  the probe guest
//! console_log.rs  the console's log, bounded         verdict_file.rs  what is known of kvm
//! ```
//!
//! Which markers mean success, which arguments a kernel wants: the caller says so, as data.

mod accel;
mod boot_sector;
mod console_log;
mod machine;
mod program;
mod run;
mod serial;
mod verdict_file;

pub use accel::{Accel, AccelWish, Verdict};
pub use machine::{Boot, Kernel, Machine};
pub use program::Qemu;
pub use run::{Outcome, RunOptions};
pub use verdict_file::VerdictFile;

#[cfg(test)]
mod tests;
