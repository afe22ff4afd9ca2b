//! Protects body files while they are written, before any row refers to them.

use super::store::{Store, World};

/// A body file being written: it is not a leftover although no row refers to it yet. Dropping the hold
/// removes the file unless a row refers to it by then; a file that cannot be removed now is removed at the
/// next start.
#[derive(Debug)]
pub(crate) struct Hold<'a> {
    store: &'a Store,
    blob: String,
    slot: Option<String>,
}

impl Store {
    /// Holds a body file.
    pub(crate) fn hold<'a>(&'a self, world: &mut World, blob: &str) -> Hold<'a> {
        world.pending.insert(blob.to_owned());
        Hold { store: self, blob: blob.to_owned(), slot: None }
    }

    /// Holds a part's place in the shared body file; `None` when another request is writing there.
    pub(crate) fn hold_slot<'a>(
        &'a self,
        world: &mut World,
        blob: &str,
        part: &str,
    ) -> Option<Hold<'a>> {
        world.slots.insert(part.to_owned()).then(|| Hold {
            store: self,
            blob: blob.to_owned(),
            slot: Some(part.to_owned()),
        })
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut world = self.store.world();
        match &self.slot {
            Some(part) => {
                world.slots.remove(part);
            }
            None => {
                world.pending.remove(&self.blob);
            }
        }
        // If it fails, the next start removes the file.
        let _ = world.sweep([self.blob.as_str()]);
    }
}
