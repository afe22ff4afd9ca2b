//! Provides the parts of end-to-end tests: a private directory, the program, an emulator, a stand-in ISO.

mod account;
mod aws;
mod console;
mod file_effects;
mod guest;
mod jumping_clock;
mod nested;
mod oci;
mod openstack;
mod publisher;
mod run;
mod sandbox;
mod stand_in_qemu;
mod tiny_iso;
mod tools;
mod web;

pub(crate) use account::{Account, call_of_child as account_call_of_child, child as account_child};
pub(crate) use aws::{Aws, AwsAccount};
pub(crate) use console::run_page;
pub(crate) use file_effects::{can_follow, killed_at_effect, struck_at_effect};
pub(crate) use guest::{Iso, Turn, needs, needs_python, needs_qemu};
pub(crate) use jumping_clock::Clock;
pub(crate) use nested::{alone, built, cargo, copy_tree, hostile, locked, nested_target};
pub(crate) use oci::OciRegistry;
pub(crate) use openstack::OpenStack;
pub(crate) use publisher::{PUBLISHER, Published, TRUST, hex, script};
pub(crate) use run::Run;
pub(crate) use sandbox::{SECRET, Sandbox, walk as sandbox_walk};
pub(crate) use stand_in_qemu::{QEMU_WROTE, stand_in_qemu};
pub(crate) use tiny_iso::TinyIso;
pub(crate) use tools::{at_terminal, limited, names, tool};
pub(crate) use web::{Answer, PATIENCE, Request, Web};

use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The directory that cargo builds into, where plugins are beside the test binary.
pub(crate) fn plugin_directory() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

/// The target directory.
pub(crate) fn target_directory() -> PathBuf {
    let deps = plugin_directory();
    deps.ancestors().nth(2).unwrap().to_owned()
}

/// Time between two evaluations of a condition.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// Waits until a condition holds; fails the test after 120 seconds.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    // Its other end stays open and sends nothing: every wait lasts its whole time, and leaves the processor to the program.
    let (_open, silent) = mpsc::channel::<()>();
    while !is_so() {
        assert!(begun.elapsed().as_secs() < 120, "in vain: {what}");
        let _ = silent.recv_timeout(BETWEEN_LOOKS);
    }
}
