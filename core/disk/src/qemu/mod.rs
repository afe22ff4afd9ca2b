//! Runs guests in qemu: finds it, describes a machine, runs it until it powers off, and evaluates its output.
//!
//! ```text
//! program.rs  Qemu: the program and its features     machine.rs  Machine → argv, pure
//! accel.rs    kvm proven by a probe guest, or tcg    run.rs      watchdogs, markers, outcome
//! serial.rs   the console: markers, lines            boot_sector.rs  the probe guest
//! console_log.rs  the console's log, bounded         verdict_file.rs  remembered results about kvm
//! watch.rs    looks at the processors, once a second standstill.rs   whether kvm really runs them
//! qmp.rs      the control protocol of qemu           boot_test/  boots an image to see whether it can
//! ```
//!
//! The caller specifies as data which markers mean success, and which arguments a kernel needs.

mod accel;
mod boot_sector;
mod boot_test;
mod console_log;
mod machine;
mod program;
mod qmp;
mod run;
mod serial;
mod standstill;
mod verdict_file;
mod watch;

pub use accel::{Accel, AccelWish, Verdict};
pub use boot_test::{
    BootEnd, BootImage, BootReport, BootStage, BootTest, DiskBus, Firmware, Nic, TargetMachine,
};
pub use machine::{Boot, Kernel, Machine};
pub use program::Qemu;
pub use run::{Outcome, RunOptions};
pub use standstill::KVM_HANG;
pub use verdict_file::VerdictFile;

#[cfg(test)]
mod hang_tests;
#[cfg(test)]
mod tests;
