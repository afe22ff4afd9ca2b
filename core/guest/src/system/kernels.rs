//! Reads which modules a kernel has, from the lists that depmod writes.

use crate::fs::Kind;
use crate::initramfs::{MAX_MODULES, module};
use crate::model::Kernel;
use crate::tree::Tree;

/// Directories of modules; the second is the first one on systems without a merged /usr.
const PLACES: [&str; 2] = ["/usr/lib/modules", "/lib/modules"];
/// Maximum number of kernels.
const MAX_KERNELS: usize = 16;
/// Maximum length of a list in bytes; that of Debian's largest kernel has 600 KiB.
const MAX_LIST: usize = 4 << 20;

/// Returns the installed kernels in the order of their names.
pub(crate) fn read(tree: &Tree) -> Vec<Kernel> {
    let Some(parent) = PLACES.into_iter().find(|place| !tree.list(place).is_empty()) else {
        return Vec::new();
    };
    let versions = tree.list(parent).into_iter().filter(|entry| entry.kind == Kind::Directory);
    versions.take(MAX_KERNELS).map(|entry| kernel(tree, parent, entry.name)).collect()
}

fn kernel(tree: &Tree, parent: &str, version: String) -> Kernel {
    let directory = format!("{parent}/{version}");
    let list = |name: &str| {
        let bytes = tree.head(&format!("{directory}/{name}"), MAX_LIST)?;
        Some(String::from_utf8_lossy(&bytes).lines().filter_map(module).take(MAX_MODULES).collect())
    };
    let (builtin, modules) = (list("modules.builtin"), list("modules.dep"));
    Kernel {
        evidence: tree.evidence(&directory),
        has_lists: builtin.is_some() && modules.is_some(),
        builtin: builtin.unwrap_or_default(),
        modules: modules.unwrap_or_default(),
        version,
    }
}
