//! Reads the installed system from its root file system.
//!
//! ```text
//! release.rs    os-release and the architecture of programs     kernels.rs   lists of modules of each kernel
//! fstab.rs      devices and mount points                        network.rs   configurations of the network
//! agents.rs     agents of clouds and hypervisors                machine_data.rs what every copy would share
//! ```

mod agents;
mod fstab;
mod kernels;
mod machine_data;
mod network;
mod release;

pub(crate) use fstab::{entries as fstab_entries, find as find_volume, is_remote};
pub(crate) use kernels::read as kernels;
pub(crate) use release::is_root;

use crate::model::{FstabEntry, System};
use crate::tree::Tree;

/// Reads the system of a tree, whose fstab was read before.
pub(crate) fn read(tree: &Tree, volume: &str, fstab: Vec<FstabEntry>) -> System {
    let (id, version, name) = release::names(tree);
    System {
        volume: volume.to_owned(),
        id,
        version,
        name,
        architecture: release::architecture(tree).map(str::to_owned),
        fstab,
        networks: network::read(tree),
        agents: agents::read(tree),
        machine_data: machine_data::read(tree),
    }
}

/// Returns ID and VERSION_ID of os-release.
pub(crate) fn os(tree: &Tree) -> (String, String) {
    let (id, version, _) = release::names(tree);
    (id, version)
}
