//! Shares preparations between the targets of a build: the source is fetched, verified and unpacked once, an ISO is
//! installed once for all targets that want the same disk, and a disk is inspected once. What targets share outlives
//! each of them; [`Shared::end`] removes or keeps it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use build_image_guest::{Inspection, sbom::Packages};
use build_image_plugin_api::Secret;
use serde::Serialize;
use serde_json::Value;

use super::once::{Made, Once};
use crate::{
    artifacts::Claim,
    error::Result,
    journal::Entry,
    plan::{Plan, Source},
    plugins::{RateLimiter, RunHost, SharedImages},
    report::Outcome,
    settings::{Resolved, core_rows, keys},
    source::Slot,
};

/// Records that a target has its image; its run is removed afterwards.
pub(crate) type OnDone = Box<dyn Fn(&str, &Outcome) -> Result<()> + Send + Sync>;
/// Records something that targets share.
pub(crate) type OnShared = Box<dyn Fn(Entry) -> Result<()> + Send + Sync>;

/// A target of a build with several targets.
#[derive(Clone)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Identifier of the build.
    pub group: String,
    /// What it shares with the others.
    pub shared: Arc<Shared>,
}

/// What the targets of a build share.
pub struct Shared {
    sources: Once<Source>,
    disks: Once<PathBuf>,
    inspections: Once<Found>,
    downloads: Mutex<Vec<Slot>>,
    claims: Mutex<Vec<Held>>,
    /// Held while an ISO is installed: one guest runs at a time.
    installing: Mutex<()>,
    /// Facts of disks that an earlier process of the build installed, by their shapes.
    installed_before: BTreeMap<String, Value>,
    pub(super) images: Arc<SharedImages>,
    pub(super) rate: Option<Arc<RateLimiter>>,
    pub(super) secrets: Vec<Secret>,
    on_done: OnDone,
    on_shared: OnShared,
}

/// What an inspection found.
pub(super) type Found = Arc<(Inspection, Packages)>;

/// The directory of an installed disk.
struct Held {
    claim: Claim,
    raw: PathBuf,
    base: PathBuf,
    is_kept: bool,
}

/// How often the targets of a build prepared something, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Preparations {
    /// Sources that were fetched, verified and unpacked.
    pub sources: usize,
    /// Disks that were installed or found installed.
    pub installations: usize,
    /// Disks that were inspected.
    pub inspections: usize,
}

/// What becomes of what the targets shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All targets are done: it is removed.
    Done,
    /// Targets are resumed later: it is kept.
    Kept,
    /// The build was undone: only logs of the installation are kept.
    Undone,
}

impl Shared {
    /// Creates the store of a build. `secrets` are those of all targets: a plugin that serves several of them may log
    /// through any.
    #[must_use]
    pub fn new(
        images: &Path,
        bytes_per_second: Option<u64>,
        secrets: Vec<Secret>,
        on_done: OnDone,
        on_shared: OnShared,
    ) -> Self {
        Self {
            sources: Once::default(),
            disks: Once::default(),
            inspections: Once::default(),
            downloads: Mutex::default(),
            claims: Mutex::default(),
            installing: Mutex::default(),
            installed_before: BTreeMap::new(),
            images: Arc::new(SharedImages::in_directory(images)),
            rate: bytes_per_second.map(|rate| Arc::new(RateLimiter::new(rate))),
            secrets,
            on_done,
            on_shared,
        }
    }

    /// Uses disks that an earlier process of the build installed.
    #[must_use]
    pub fn with_installed(self, installed_before: BTreeMap<String, Value>) -> Self {
        Self { installed_before, ..self }
    }

    /// Returns what was prepared so far.
    #[must_use]
    pub fn preparations(&self) -> Preparations {
        Preparations {
            sources: self.sources.count(),
            installations: self.disks.count(),
            inspections: self.inspections.count(),
        }
    }

    pub(super) fn source(
        &self,
        key: &str,
        on_wait: impl FnOnce(),
        open: impl FnOnce() -> Result<(Source, Vec<Slot>)>,
    ) -> Result<Source> {
        let made = self.sources.get(key, on_wait, || {
            let (source, downloads) = open()?;
            lock(&self.downloads).extend(downloads);
            Ok(source)
        });
        made.map(|made| made.value)
    }

    /// Returns the installed disk of a shape.
    pub(super) fn disk(
        &self,
        key: &str,
        on_wait: impl FnOnce(),
        install: impl FnOnce() -> Result<PathBuf>,
    ) -> Result<Made<PathBuf>> {
        self.disks.get(key, on_wait, || {
            let _one = lock(&self.installing);
            install()
        })
    }

    pub(super) fn found(
        &self,
        key: &str,
        inspect: impl FnOnce() -> Result<Found>,
    ) -> Result<Found> {
        self.inspections.get(key, || (), inspect).map(|made| made.value)
    }

    /// Records the directory of a disk that is being installed, so that it is removed with the build.
    pub(super) fn installs_in(&self, directory: &Path) -> Result<()> {
        (self.on_shared)(Entry::DirectoryShared { artifacts: directory.to_owned() })
    }

    /// Records a disk that is installed, for a later process of the build.
    pub(super) fn has_installed(&self, shape: &str, facts: Value) -> Result<()> {
        (self.on_shared)(Entry::DiskInstalled { shape: shape.to_owned(), facts })
    }

    /// Returns the facts of a disk that an earlier process of the build installed.
    pub(super) fn installed_before(&self, shape: &str) -> Option<&Value> {
        self.installed_before.get(shape)
    }

    /// Takes the directory of an installed disk over from the target that installed it.
    pub(super) fn take_over(&self, claim: Claim, raw: &Path, base: &Path, is_kept: bool) {
        let (raw, base) = (raw.to_owned(), base.to_owned());
        lock(&self.claims).push(Held { claim, raw, base, is_kept });
    }

    pub(super) fn done(&self, name: &str, outcome: &Outcome) -> Result<()> {
        (self.on_done)(name, outcome)
    }

    /// Removes or keeps what the targets shared.
    pub fn end(&self, ending: Ending) {
        for Held { claim, raw, base, is_kept } in lock(&self.claims).drain(..) {
            match ending {
                Ending::Done if !is_kept => claim.remove(&base),
                // An incomplete disk has no use, but the logs show why the build failed.
                Ending::Undone if !is_kept => drop(std::fs::remove_file(raw)),
                Ending::Done | Ending::Kept | Ending::Undone => {}
            }
        }
        let downloads = std::mem::take(&mut *lock(&self.downloads));
        if ending == Ending::Done {
            downloads.into_iter().for_each(Slot::remove);
        }
    }
}

/// Gives the host of a run what it shares with other targets, and the limit of its upload.
pub(super) fn with_shared(
    host: RunHost,
    plan: &Plan,
    settings: &Resolved,
    member: Option<&Member>,
) -> RunHost {
    let shared = member.map(|member| &member.shared);
    let own = || {
        let rate = settings.core().run.upload_rate;
        rate.map(|rate| Arc::new(RateLimiter::new(rate)))
    };
    let rate = shared.map_or_else(own, |shared| shared.rate.clone());
    let host = host
        .limited(rate.filter(|_| plan.upload))
        .sharing(shared.map(|shared| Arc::clone(&shared.images)));
    match shared {
        Some(shared) => host.redacting(&shared.secrets),
        None => host,
    }
}

/// Returns the key of the source that settings name: targets with the same key share it.
pub(super) fn source_key(settings: &Resolved) -> String {
    /// Settings that decide neither which source is used nor how it is opened.
    const OF_TARGETS: [crate::settings::Key; 22] = [
        keys::PLATFORM,
        keys::CLOUD_IMAGE_NAME,
        keys::UPLOAD_ONLY,
        keys::NO_UPLOAD,
        keys::ON_FAILURE,
        keys::IF_SAME,
        keys::GUEST_CHECK,
        keys::IMAGE_TAGS,
        keys::IMAGE_TAGS_EXCLUDE,
        keys::IMAGE_REGISTRATION_URL,
        keys::IMAGE_DIR,
        keys::FILE_IF_EXISTS,
        keys::PACKAGE,
        keys::HYPERVISOR_IMAGE_NAME,
        keys::PROVENANCE_FILE,
        keys::SBOM,
        keys::BUNDLE,
        keys::BUNDLE_EXPIRES,
        keys::BUNDLE_REGIONS,
        keys::PROVIDER_FILE,
        keys::ISOLATE,
        keys::REUSE,
    ];
    let rows = core_rows();
    let decides = rows.iter().filter(|row| !OF_TARGETS.iter().any(|key| *key == **row));
    settings.fingerprint(decides)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::{FileLayer, Layers};

    #[test]
    fn only_settings_of_the_image_and_its_target_may_differ_for_a_shared_source() {
        let key = |more: &str| {
            let text = format!("DISK: /d.raw\nDISK_SIZE: 1GiB\n{more}");
            let file = FileLayer::parse(Path::new("c.yml"), &text).ok();
            let layers = Layers { file, ..Layers::default() };
            source_key(&layers.resolve(&core_rows()).unwrap())
        };
        for same in ["PLATFORM: acme", "IMAGE_DIR: /x", "CLOUD_IMAGE_NAME: n", "GUEST_CHECK: off"] {
            assert_eq!(key(""), key(same), "{same}");
        }
        for other in [
            "DISK_MEMBER: a.raw",
            "DISK_FORMAT: raw",
            "DISK_SIG_PUBLIC_KEY: k.pem",
            "IGNORE_DOWNLOAD_URL_TLS: yes",
            "ARTIFACTS_DIR: /a",
        ] {
            assert_ne!(key(""), key(other), "{other}");
        }
    }
}
