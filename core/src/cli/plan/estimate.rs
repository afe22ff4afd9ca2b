//! Estimates bytes and time of a plan without doing anything, from bounds that hold, a configured limit, or a former
//! build. Without such a source a value is omitted.

use std::path::PathBuf;

use build_image_plugin_api::{Archive, Compression, DiskSpec, document::CheckReport};
use serde::Serialize;

use crate::{
    clock,
    journal::Key,
    plan::Plan,
    plugins::BaseDisk,
    runs::{self, State},
};

/// The estimates of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Estimate {
    /// Length of the image, bytes; absent when it is known only after it was written.
    pub(super) image_bytes: Option<u64>,
    /// Maximum of bytes that are sent; absent when nothing leaves this machine.
    pub(super) sends_at_most: Option<u64>,
    /// A file with the image that is written before or during the upload, and removed afterwards.
    pub(super) temporary: Option<Temporary>,
    /// Maximum of bytes per second of the upload, when a setting limits it.
    pub(super) bytes_per_second: Option<u64>,
    /// Seconds that the maximum of bytes needs at that rate.
    pub(super) seconds_at_that_rate: Option<u64>,
    /// The latest build of the same source whose journal is kept on this host.
    pub(super) former_build: Option<FormerBuild>,
}

/// A temporary file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Temporary {
    /// Its directory.
    pub(super) directory: PathBuf,
    /// Its maximum size, bytes.
    pub(super) at_most: u64,
}

/// A finished build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct FormerBuild {
    /// Its run.
    pub(super) run: String,
    /// Its duration in seconds, from the first journal line to the last.
    pub(super) seconds: u64,
}

impl Estimate {
    /// Estimates a plan whose provider has answered.
    pub(super) fn of(plan: &Plan, spec: &DiskSpec, report: &CheckReport, key: &Key) -> Self {
        // An unknown size has no bound.
        let is_known = plan.build.virtual_size > 0;
        let most = most(plan.build.virtual_size);
        let sends_at_most = (plan.upload && is_known).then_some(most);
        let is_written = spec.compression != Compression::None || spec.archive != Archive::None;
        let temporary = (plan.upload && is_written && is_known)
            .then(|| Temporary { directory: plan.base.join("runs"), at_most: most });
        let image_bytes = plan.disk.as_ref().and_then(|disk| {
            let base = BaseDisk { given: Some(disk.reader.clone()), ..BaseDisk::default() };
            base.known_length(spec)
        });
        let bytes_per_second = report.bytes_per_second.filter(|&rate| rate > 0 && plan.upload);
        Self {
            image_bytes,
            sends_at_most,
            temporary,
            bytes_per_second,
            seconds_at_that_rate: bytes_per_second
                .filter(|_| is_known)
                .map(|rate| image_bytes.unwrap_or(most).div_ceil(rate)),
            former_build: former(plan, key),
        }
    }
}

/// Maximum size of an image of a disk, bytes: its content and its tables, which are far smaller than what is added
/// here, in every format without an archive.
fn most(virtual_size: u64) -> u64 {
    virtual_size.saturating_add(virtual_size / 4096).saturating_add(1 << 20)
}

/// Finds the latest build of the same source for the same provider; journals of finished builds are kept with REUSE
/// only.
fn former(plan: &Plan, key: &Key) -> Option<FormerBuild> {
    let same = |run: &runs::Run| {
        run.state == State::Done
            && run.platform == plan.platform
            && run.build.file_stem == plan.build.file_stem
            && run.build.virtual_size == plan.build.virtual_size
    };
    let run = runs::list(&plan.base, key).into_iter().rfind(same)?;
    let seconds = clock::seconds_since(&run.started).saturating_sub(run.idle_seconds);
    Some(FormerBuild { run: run.id, seconds })
}
