//! Holds what is specific to BIG-IP: facts from the ISO, disk sizes, names, and how its installer is driven.
//! The disk library does not depend on it, and providers receive it as plain data.

mod facts;
mod injected;
mod installer;
mod names;
mod sizing;
mod ve_info;
mod version;

pub use facts::{Facts, read_facts, read_hotfix_facts};
pub use injected::{Injected, injected};
pub use installer::{
    Added, Guest, Installer, Pass, RELABEL_MARKER, RELABEL_MARKERS, consoles, kernel_arguments,
};
pub use names::{check_name, compose_name, file_stem, internal_name, iso_name, seed};
pub use sizing::{Overrides, Shape, Sizes, compute};
pub use ve_info::{VeInfo, Volumes};
pub use version::Version;
