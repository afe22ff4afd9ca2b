//! Holds all tables under one lock, and the body files they refer to. A body file exists as long as a row
//! refers to it; it is removed with the last row that refers to it, or at the next start.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::blobs::{Blobs, Segment};
use super::identity::{Role, Session};
use super::model::{Bucket, Image, Object, Part, Snapshot, Task, Token, Upload, Verdict};
use super::table::{StateError, Table};

/// Every table.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) buckets: Table<Bucket>,
    pub(crate) objects: Table<Object>,
    pub(crate) uploads: Table<Upload>,
    pub(crate) parts: Table<Part>,
    pub(crate) images: Table<Image>,
    pub(crate) snapshots: Table<Snapshot>,
    pub(crate) tasks: Table<Task>,
    pub(crate) tokens: Table<Token>,
    pub(crate) roles: Table<Role>,
    pub(crate) sessions: Table<Session>,
    blobs: Blobs,
    /// Body files being written; no row refers to them yet.
    pub(super) pending: BTreeSet<String>,
    /// Places in shared body files being written, named by part.
    pub(super) slots: BTreeSet<String>,
}

impl World {
    fn load(root: &Path, blobs: Blobs) -> Result<Self, StateError> {
        Ok(Self {
            buckets: Table::load(root)?,
            objects: Table::load(root)?,
            uploads: Table::load(root)?,
            parts: Table::load(root)?,
            images: Table::load(root)?,
            snapshots: Table::load(root)?,
            tasks: Table::load(root)?,
            tokens: Table::load(root)?,
            roles: Table::load(root)?,
            sessions: Table::load(root)?,
            blobs,
            pending: BTreeSet::new(),
            slots: BTreeSet::new(),
        })
    }

    fn is_used(&self, blob: &str) -> bool {
        let within = |segments: &[Segment]| segments.iter().any(|segment| segment.blob == blob);
        self.pending.contains(blob)
            || self.uploads.iter().any(|upload| upload.blob == blob)
            || self.parts.iter().any(|part| part.segment.blob == blob)
            || self.objects.iter().any(|object| within(&object.segments))
            || self.images.iter().flat_map(|image| &image.disks).any(|disk| within(&disk.segments))
    }

    /// Finished parts of an upload in the order of their numbers.
    pub(crate) fn parts_of(&self, upload: &str) -> impl Iterator<Item = &Part> + use<'_> {
        self.parts.with_prefix(&format!("{upload}-"))
    }

    /// Removes those of the named body files that no row refers to.
    pub(crate) fn sweep<'a>(
        &self,
        blobs: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), StateError> {
        let distinct: BTreeSet<&str> = blobs.into_iter().collect();
        for blob in distinct {
            if !self.is_used(blob) {
                self.blobs.remove(blob)?;
            }
        }
        Ok(())
    }

    /// Stores an object and removes the bytes of the one it replaces.
    pub(crate) fn put_object(&mut self, object: Object) -> Result<(), StateError> {
        if let Some(old) = self.objects.put(object)? {
            self.sweep(old.segments.iter().map(|segment| segment.blob.as_str()))?;
        }
        Ok(())
    }

    /// Removes an object; its bytes remain while an image uses them.
    pub(crate) fn remove_object(&mut self, key: &str) -> Result<(), StateError> {
        if let Some(old) = self.objects.remove(key)? {
            self.sweep(old.segments.iter().map(|segment| segment.blob.as_str()))?;
        }
        Ok(())
    }

    /// Removes an upload with all its parts, and the bytes that no object uses.
    pub(crate) fn remove_upload(&mut self, id: &str) -> Result<(), StateError> {
        let parts: Vec<Part> = self.parts_of(id).cloned().collect();
        let mut blobs: BTreeSet<String> = BTreeSet::new();
        for part in parts {
            self.parts.remove(&super::part_key(id, part.number))?;
            blobs.insert(part.segment.blob);
        }
        if let Some(upload) = self.uploads.remove(id)? {
            blobs.insert(upload.blob);
        }
        self.sweep(blobs.iter().map(String::as_str))
    }

    /// Removes an image and its bytes; its snapshots remain, as in the real service.
    pub(crate) fn remove_image(&mut self, id: &str) -> Result<(), StateError> {
        if let Some(image) = self.images.remove(id)? {
            let segments = image.disks.iter().flat_map(|disk| &disk.segments);
            self.sweep(segments.map(|segment| segment.blob.as_str()))?;
        }
        Ok(())
    }

    /// Removes the snapshots of an image.
    pub(crate) fn remove_snapshots_of(&mut self, image: &str) -> Result<(), StateError> {
        let ids: Vec<String> = self
            .snapshots
            .iter()
            .filter(|snapshot| snapshot.image == image)
            .map(|snapshot| snapshot.id.clone())
            .collect();
        for id in ids {
            self.snapshots.remove(&id)?;
        }
        Ok(())
    }

    /// Replaces an image's scattered segments with joined ones, and those of the source object if it is still
    /// the same.
    pub(crate) fn replace_segments(
        &mut self,
        image: &str,
        index: usize,
        (bucket, name): (&str, &str),
        joined: &[Segment],
    ) -> Result<(), StateError> {
        let Some(mut image) = self.images.get(image).cloned() else { return Ok(()) };
        let Some(disk) = image.disks.get_mut(index) else { return Ok(()) };
        let scattered = std::mem::replace(&mut disk.segments, joined.to_vec());
        self.images.put(image)?;
        let object = self.objects.get(&super::object_key(bucket, name));
        if let Some(mut object) = object.filter(|found| found.segments == scattered).cloned() {
            object.segments = joined.to_vec();
            self.objects.put(object)?;
        }
        self.sweep(scattered.iter().map(|segment| segment.blob.as_str()))
    }

    /// Records the result of inspecting a task's object, unless it is already decided. A refused import
    /// leaves no snapshots. `sizes` are in GiB, for disks that did not specify theirs.
    pub(crate) fn decide(
        &mut self,
        task: &str,
        verdict: &Verdict,
        sizes: &[u64],
    ) -> Result<(), StateError> {
        let Some(mut task) = self.tasks.get(task).cloned() else { return Ok(()) };
        if let Some(mut image) = self.images.get(&task.image).cloned() {
            for (disk, size) in image.disks.iter_mut().zip(sizes).filter(|(disk, _)| disk.size == 0)
            {
                disk.size = *size;
            }
            if let (Verdict::Good { format, .. }, Some(disk)) = (verdict, image.disks.first_mut()) {
                disk.format.clone_from(format);
            }
            self.images.put(image)?;
        }
        let verdict = task.verdict.get_or_insert_with(|| verdict.clone()).clone();
        if matches!(verdict, Verdict::Bad { .. }) {
            self.remove_snapshots_of(&task.image)?;
        }
        self.tasks.put(task)?;
        Ok(())
    }

    /// The number of resources of each kind.
    pub(crate) fn counts(&self) -> Value {
        json!({
            "buckets": self.buckets.len(),
            "objects": self.objects.len(),
            "open_uploads": self.uploads.len(),
            "parts": self.parts.len(),
            "images": self.images.len(),
            "snapshots": self.snapshots.len(),
            "tasks": self.tasks.len(),
        })
    }
}

/// The state directory, opened.
#[derive(Debug)]
pub(crate) struct Store {
    world: Mutex<World>,
    root: PathBuf,
    blobs: Blobs,
    /// Held while the emulator runs; `None` for a reader.
    _lock: Option<File>,
}

impl Store {
    /// Opens the directory for a server: takes its lock and removes leftovers of a crash.
    pub(crate) fn open(root: &Path) -> Result<Self, StateError> {
        fs::create_dir_all(root).map_err(StateError::io("make directory", root))?;
        let path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(StateError::io("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StateError::Busy { path: root.to_path_buf() });
            }
            Err(TryLockError::Error(source)) => {
                return Err(StateError::Io { doing: "lock", path, source });
            }
        }
        let store = Self::load(root, Some(lock))?;
        let names = store.blobs.names()?;
        store.world().sweep(names.iter().map(String::as_str))?;
        Ok(store)
    }

    /// Opens the directory for reading only; an emulator may be running on it.
    pub(crate) fn look(root: &Path) -> Result<Self, StateError> {
        // The lock file distinguishes a state directory from any other; a read must not create files in
        // another directory.
        let lock = root.join("lock");
        fs::metadata(&lock).map_err(StateError::io("find the state directory of", &lock))?;
        Self::load(root, None)
    }

    fn load(root: &Path, lock: Option<File>) -> Result<Self, StateError> {
        let blobs = Blobs::open(root)?;
        let world = World::load(root, blobs.clone())?;
        Ok(Self { world: Mutex::new(world), root: root.to_path_buf(), blobs, _lock: lock })
    }

    /// The tables. Never held across an await.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body files.
    pub(crate) fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// The directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}
