//! Limits of time, bytes, and steps; cancellation; a disk that cannot be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use build_image_disk::Kind;

use super::systems::{bios_grub, fedora, needs};
use crate::model::Firmware;
use crate::{Limits, check, inspect};

#[test]
fn a_limit_that_was_reached_ends_the_inspection_with_a_remark() {
    let Some(disk) = fedora().write() else { return };
    let default = Limits::default;
    for limits in [
        Limits { read: 64 << 10, ..default() },
        Limits { read: 300 << 10, ..default() },
        Limits { steps: 3, ..default() },
        Limits { steps: 100, ..default() },
        Limits { time: Duration::ZERO, ..default() },
        Limits { unpacked: 1000, ..default() },
    ] {
        let text = format!("{limits:?}");
        let found = inspect(&disk.reader(), limits).unwrap();
        assert!(!found.complete, "{text}");
        assert!(
            found.remarks.iter().any(|remark| remark.contains("ended early")),
            "{text}: {found:#?}"
        );
        let findings = check(&found, &needs(Firmware::Uefi));
        // What was not read is not reported as missing.
        let ids: Vec<&str> = findings.iter().map(|finding| finding.id.as_str()).collect();
        assert!(ids.contains(&"not-inspected"), "{text}: {findings:#?}");
        assert!(ids.iter().all(|id| *id == "not-inspected"), "{text}: {findings:#?}");
    }
}

#[test]
fn a_cancelled_inspection_is_an_error() {
    let Some(disk) = bios_grub().write() else { return };
    let asked = Arc::new(AtomicU32::new(0));
    for after in [0, 1, 50] {
        let asked = Arc::clone(&asked);
        asked.store(0, Ordering::Relaxed);
        let cancelled = move || asked.fetch_add(1, Ordering::Relaxed) >= after;
        let limits = Limits { cancelled: Arc::new(cancelled), ..Limits::default() };
        let error = inspect(&disk.reader(), limits).unwrap_err();
        assert_eq!(error.kind(), Kind::Cancelled, "{after}");
    }
}

#[test]
fn a_disk_that_became_shorter_is_an_error() {
    let Some(disk) = bios_grub().write() else { return };
    let reader = disk.reader();
    std::fs::File::options().write(true).open(&disk.path).unwrap().set_len(3 << 20).unwrap();
    let error = inspect(&reader, Limits::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Truncated);
}
