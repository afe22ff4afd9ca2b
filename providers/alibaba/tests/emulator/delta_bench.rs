//! Provides a cloud with an earlier object for tests of delta uploads. It contains no tests.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use build_image_emulator_alibaba::{Config, Running};
use build_image_plugin_api::{Event, Result, document::Uploaded, testing::MockHost};
use crc_fast::{CrcAlgorithm, checksum};
use serde_json::{Value, json};

use crate::{
    harness::{Run, calls, count, emulator_with, host},
    oss::{get, keys},
};

/// Bytes of the disk; the last block is short.
pub(crate) const LENGTH: usize = (8 << 20) + 512;
/// Bytes of a disk that is large compared with its blocks.
pub(crate) const LARGE: usize = (64 << 20) + 512;
/// Bytes of a block of such a disk.
pub(crate) const BLOCK: usize = 128 << 10;

/// Bytes that do not repeat.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn disk() -> Vec<u8> {
    noise(LENGTH, 0x9e37_79b9_7f4a_7c15)
}

/// A cloud whose requests are logged.
pub(crate) struct Bench {
    pub(crate) emulator: Running,
    directory: tempfile::TempDir,
    runs: AtomicU32,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log_requests = Some(directory.path().join("requests"));
        let emulator =
            emulator_with(Config { log_requests, fast_etags: true, ..Config::default() });
        Self { emulator, directory, runs: AtomicU32::new(0) }
    }

    /// A cloud that has an object of the disk with its manifest; the log is empty.
    pub(crate) fn with_base() -> Self {
        Self::with_base_of(disk())
    }

    pub(crate) fn with_base_of(disk: Vec<u8>) -> Self {
        let bench = Self::new();
        let length = disk.len() as u64;
        bench.run(disk, &[]).upload().unwrap();
        assert_eq!(bench.sent(), length);
        assert_eq!(count(&bench.emulator, "objects"), 2);
        bench.forget_requests();
        bench
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.directory.path().join("requests")
    }

    pub(crate) fn forget_requests(&self) {
        let log = std::fs::OpenOptions::new().write(true).open(self.log()).unwrap();
        log.set_len(0).unwrap();
    }

    /// A run of a later time than all before.
    pub(crate) fn run(&self, disk: Vec<u8>, extra: &[(&str, Value)]) -> Run {
        self.run_on(host().with_disk(disk), extra)
    }

    pub(crate) fn run_on(&self, host: MockHost, extra: &[(&str, Value)]) -> Run {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let mut all = vec![
            ("ALIBABA_KEEP_OSS_OBJECT", json!(true)),
            ("ALIBABA_UPLOAD_PART_SIZE", json!(1 << 20)),
        ];
        all.extend(extra.iter().cloned());
        Run::new(&self.emulator, host, &all).called(&format!("20261129-1200{number:02}-aaaaaa"))
    }

    /// The same run in another process.
    pub(crate) fn resumed(&self, run: &Run, disk: Vec<u8>, extra: &[(&str, Value)]) -> Run {
        let host = host().with_disk(disk).with_checkpoints(run.host.checkpoints());
        self.run_on(host, extra).called(&run.build.run_id)
    }

    /// Bytes of parts that the service received.
    pub(crate) fn sent(&self) -> u64 {
        let text = std::fs::read_to_string(self.log()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let parts = lines.filter(|line| line["operation"] == "UploadPart");
        parts.map(|line| line["bytes_in"].as_u64().unwrap()).sum()
    }

    /// Number of requests that copied a part.
    pub(crate) fn copies(&self) -> usize {
        calls(&self.log(), "UploadPartCopy")
    }

    pub(crate) fn set_faults(&self, faults: &Value) {
        self.emulator.set_faults(&faults.to_string()).unwrap();
    }

    /// The manifests in the bucket, the oldest first.
    pub(crate) fn manifests(&self) -> Vec<String> {
        keys(&self.emulator).into_iter().filter(|key| key.ends_with(".json")).collect()
    }

    /// Key of the oldest object.
    pub(crate) fn base(&self) -> String {
        keys(&self.emulator).into_iter().next().unwrap()
    }

    /// Checks that an object is the disk.
    #[track_caller]
    pub(crate) fn holds(&self, uploaded: Result<Uploaded>, disk: &[u8]) -> Uploaded {
        let uploaded = uploaded.unwrap();
        let key = uploaded.facts["object"].as_str().unwrap();
        assert!(get(&self.emulator, key) == disk, "`{key}` is not the disk");
        assert_eq!(uploaded.facts["crc64"], checksum(CrcAlgorithm::Crc64Xz, disk).to_string());
        assert_eq!(count(&self.emulator, "open_uploads"), 0);
        uploaded
    }
}

pub(crate) fn warnings(run: &Run) -> Vec<String> {
    let text = |event| match event {
        Event::Warning { text, .. } => Some(text),
        _ => None,
    };
    run.host.events().into_iter().filter_map(text).collect()
}

/// Changes 1 % of the disk in five runs that begin and end inside blocks.
pub(crate) fn in_five_runs(disk: &mut [u8]) {
    let each = disk.len() / 500;
    for run in 0..5 {
        let start = disk.len() / 5 * run + 7777;
        disk[start..start + each].iter_mut().for_each(|byte| *byte ^= 0x55);
    }
}

/// The disk with a change.
pub(crate) fn disk_with(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut disk = disk();
    change(&mut disk);
    disk
}
