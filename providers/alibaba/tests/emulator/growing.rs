//! Tests disks that are still being written while they are sent: their end is unknown, their head comes last.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use build_image_emulator_alibaba::{Config, Running, Stored};
use build_image_plugin_api::{
    Compression, Context, Disk, DiskFormat, DiskSpec, Error, Event, Host, LogRecord, Progress,
    Result, Secret, testing::MockHost,
};
use serde_json::{Value, json};

use crate::{
    harness::{LENGTH, PART, PARTS, Run, calls, content, count, emulator_with, host, parts},
    vhd::fixed_vhd,
};

/// Bytes the writer adds when a reader waits for some.
const STEP: u64 = 37_000;

/// Longest wait for the head before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A mock host whose disk is written while it is read: a bit more each time a reader waits for bytes behind
/// the head. A reader of the head waits until others have waited for everything else.
struct Growing {
    mock: Arc<MockHost>,
    content: Vec<u8>,
    limit: u64,
    deferred_prefix_len: u64,
    written: Mutex<u64>,
    changed: Condvar,
    /// Cancels the run when this many bytes are written.
    cancel_at: Option<u64>,
    /// The spec that was requested.
    requested: Mutex<DiskSpec>,
}

impl Growing {
    fn end(&self) -> u64 {
        self.content.len() as u64
    }

    /// Waits until the bytes from `offset` to `end` can be read, or do not exist.
    fn wait_for(&self, offset: u64, end: u64) -> Result<()> {
        let mut written = self.written.lock().unwrap();
        while *written < self.end() && (offset < self.deferred_prefix_len || *written < end) {
            if self.mock.is_cancelled() {
                return Err(Error::cancelled());
            }
            if offset < self.deferred_prefix_len {
                let (guard, late) = self.changed.wait_timeout(written, PATIENCE).unwrap();
                written = guard;
                if late.timed_out() {
                    return Err(Error::internal("the head was waited for with nothing else to do"));
                }
                continue;
            }
            *written = (*written + STEP).min(self.end());
            self.changed.notify_all();
            if self.cancel_at.is_some_and(|at| *written >= at) {
                self.mock.cancel();
            }
        }
        Ok(())
    }
}

impl Host for Growing {
    fn log(&self, record: LogRecord) {
        self.mock.log(record);
    }
    fn progress(&self, progress: Progress) {
        self.mock.progress(progress);
    }
    fn is_cancelled(&self) -> bool {
        self.mock.is_cancelled()
    }
    fn wait(&self, duration: Duration) -> bool {
        self.mock.wait(duration)
    }
    fn event(&self, event: Event) -> Result<()> {
        self.mock.event(event)
    }
    fn secret(&self, key: &str) -> Result<Option<Secret>> {
        self.mock.secret(key)
    }
    fn checkpoint_save(&self, key: &str, document: &Value) -> Result<()> {
        self.mock.checkpoint_save(key, document)
    }
    fn checkpoint_load(&self, key: &str) -> Result<Option<Value>> {
        self.mock.checkpoint_load(key)
    }

    fn make_disk(&self, spec: &DiskSpec) -> Result<Disk> {
        *self.requested.lock().unwrap() = spec.clone();
        let mut disk = self.mock.make_disk(spec)?;
        disk.length = None;
        Ok(disk.length_limit(self.limit).deferred_prefix_len(self.deferred_prefix_len))
    }

    fn disk_read_at(&self, _disk: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.wait_for(offset, offset + buffer.len() as u64)?;
        let start = usize::try_from(offset).unwrap().min(self.content.len());
        let count = buffer.len().min(self.content.len() - start);
        buffer[..count].copy_from_slice(&self.content[start..start + count]);
        Ok(count)
    }
}

fn growing(mock: MockHost, content: &[u8], limit: u64, deferred_prefix_len: u64) -> Growing {
    Growing {
        mock: Arc::new(mock),
        content: content.to_vec(),
        limit,
        deferred_prefix_len,
        written: Mutex::new(0),
        changed: Condvar::new(),
        cancel_at: None,
        requested: Mutex::default(),
    }
}

fn run(emulator: &Running, disk: &Arc<Growing>, extra: &[(&str, Value)]) -> Run {
    let context = Context::new(Arc::clone(disk) as Arc<dyn Host>);
    Run::over(emulator, Arc::clone(&disk.mock), context, extra)
}

fn crc(bytes: &[u8]) -> Value {
    json!(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Xz, bytes).to_string())
}

fn logging(directory: &tempfile::TempDir) -> (Running, std::path::PathBuf) {
    let log = directory.path().join("requests");
    (emulator_with(Config { log_requests: Some(log.clone()), ..Config::default() }), log)
}

#[test]
fn an_image_is_sent_while_it_is_written_wherever_it_ends() {
    let whole = content();
    let part = usize::try_from(PART).unwrap();
    for (length, deferred_prefix_len) in [
        (whole.len(), 0),
        (whole.len(), 70_000),
        (3 * part, PART + 1),
        (3 * part + 1, 512),
        (part, 0),
        (1, 1),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (emulator, log) = logging(&directory);
        let bytes = &whole[..length];
        let disk = Arc::new(growing(host(), bytes, 4 * LENGTH, deferred_prefix_len));
        let uploaded = run(&emulator, &disk, &[]).upload().unwrap();
        let length = length as u64;
        assert_eq!(
            (&uploaded.facts["size"], &uploaded.facts["crc64"]),
            (&json!(length), &crc(bytes))
        );
        assert_eq!(uploaded.bytes_sent, length);
        let sent = u64::try_from(calls(&log, "UploadPart")).unwrap();
        assert_eq!(sent, length.div_ceil(PART), "{length} bytes, late head {deferred_prefix_len}");
        assert_eq!((count(&emulator, "objects"), count(&emulator, "open_uploads")), (1, 0));
        let reports = disk.mock.progress_reports();
        assert!(reports.iter().all(|one| one.total == 0 || one.total == length), "{reports:?}");
        assert_eq!(reports.iter().map(|one| one.done).max(), Some(length));
    }
}

#[test]
fn the_parts_of_a_late_head_are_sent_last() {
    let directory = tempfile::tempdir().unwrap();
    let (emulator, log) = logging(&directory);
    let disk = Arc::new(growing(host(), &content(), 2 * LENGTH, PART + 1));
    run(&emulator, &disk, &[("ALIBABA_THREAD_COUNT", json!(1))]).upload().unwrap();
    let order: Vec<u64> = (3..=PARTS).chain([1, 2]).collect();
    assert_eq!(parts(&log), order);
}

#[test]
fn an_interrupted_upload_of_a_growing_image_sends_only_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let (emulator, log) = logging(&directory);
    let whole = content();
    let interrupted =
        Arc::new(Growing { cancel_at: Some(6 * PART), ..growing(host(), &whole, 2 * LENGTH, 512) });
    let first = run(&emulator, &interrupted, &[]);
    first.upload().unwrap_err();
    let before = calls(&log, "UploadPart");
    assert!(before >= 2, "{before}");
    let again = host().with_checkpoints(first.host.checkpoints());
    let disk = Arc::new(growing(again, &whole, 2 * LENGTH, 512));
    let uploaded = run(&emulator, &disk, &[]).upload().unwrap();
    assert_eq!(uploaded.facts["crc64"], crc(&whole));
    assert!(uploaded.bytes_sent <= LENGTH - PART, "{}", uploaded.bytes_sent);
    assert_eq!((count(&emulator, "objects"), count(&emulator, "open_uploads")), (1, 0));
}

#[test]
fn a_growing_image_that_was_completed_unnoticed_is_not_sent_again() {
    let directory = tempfile::tempdir().unwrap();
    let (emulator, _) = logging(&directory);
    let whole = content();
    let disk = Arc::new(growing(host(), &whole, 2 * LENGTH, 512));
    let first = run(&emulator, &disk, &[]);
    let uploaded = first.upload().unwrap();
    let mut checkpoints = first.host.checkpoints();
    // Known to be complete: the disk is not read at all.
    let known = host().with_checkpoints(checkpoints.clone());
    let disk = Arc::new(growing(known, &whole, 2 * LENGTH, 512));
    let found = run(&emulator, &disk, &[]).upload().unwrap();
    assert_eq!((found.bytes_sent, &found.facts), (0, &uploaded.facts));
    assert_eq!(*disk.written.lock().unwrap(), 0);
    // Killed before the answer was recorded.
    let state = checkpoints.get_mut("upload").unwrap();
    for member in ["crc", "size"] {
        state[member] = json!(null);
    }
    let unknown = host().with_checkpoints(checkpoints.clone());
    let disk = Arc::new(growing(unknown, &whole, 2 * LENGTH, 512));
    let found = run(&emulator, &disk, &[]).upload().unwrap();
    assert_eq!((found.bytes_sent, &found.facts), (0, &uploaded.facts));
    // A disk that ends a byte later is a different one.
    let mut longer = whole.clone();
    longer.push(7);
    let disk = Arc::new(growing(host().with_checkpoints(checkpoints), &longer, 2 * LENGTH, 512));
    let sent = run(&emulator, &disk, &[]).upload().unwrap();
    assert_eq!(sent.bytes_sent, LENGTH + 1);
    assert_eq!(sent.facts["crc64"], crc(&longer));
}

#[test]
fn an_image_without_a_byte_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (emulator, _) = logging(&directory);
    let disk = Arc::new(growing(host(), &[], LENGTH, 0));
    let error = run(&emulator, &disk, &[]).upload().unwrap_err();
    assert_eq!(error.kind.code(), "invalid_image");
    assert_eq!(count(&emulator, "objects"), 0);
}

#[test]
fn the_disk_is_requested_as_configured() {
    for (settings, spec, suffix, format) in [
        (
            [("ALIBABA_DISK_FORMAT", json!("vhd")), ("ALIBABA_DISK_COMPRESSION", json!("none"))],
            DiskSpec::new(DiskFormat::Vhd).variant("fixed"),
            ".vhd",
            Some("VHD"),
        ),
        (
            [("ALIBABA_DISK_FORMAT", json!("qcow2")), ("ALIBABA_DISK_COMPRESSION", json!("zlib"))],
            DiskSpec::default().compression(Compression::Zlib),
            ".qcow2",
            None,
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (emulator, _) = logging(&directory);
        let disk = Arc::new(growing(host(), &fixed_vhd(&content()), 2 * LENGTH, 0));
        let run = run(&emulator, &disk, &settings);
        let report = run.check_with(|request| request.online = false);
        assert_eq!(report.disk.as_ref(), Some(&spec));
        let uploaded = run.upload().unwrap();
        assert_eq!(*disk.requested.lock().unwrap(), spec);
        assert!(uploaded.facts["object"].as_str().unwrap().ends_with(suffix));
        // The emulator reads the object: its format is the one given to the import.
        let Some(format) = format else { continue };
        run.register(uploaded).unwrap();
        let stored = Stored::open(emulator.state_dir()).unwrap();
        assert_eq!(stored.images()[0].format, format);
        let copy = directory.path().join("copy.raw");
        stored.export(&stored.images()[0].id, &copy).unwrap();
        assert_eq!(std::fs::read(copy).unwrap(), content());
    }
}
