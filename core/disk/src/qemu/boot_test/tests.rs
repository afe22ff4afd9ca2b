//! Boots disks of one sector in the real qemu under tcg: each does what a stage of a boot does.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::format::{Format, GuestReader};
use crate::nbd::Export;
use crate::qemu::Accel;
use crate::qemu::tests::real;
use crate::testing::noise;
use crate::view::{Qcow2View, RawView, VhdKind, VhdView, View};

/// cli; hlt
const STOP: [u8; 2] = [0xfa, 0xf4];
/// mov dx, 0x604; mov ax, 0x2000; out dx, ax: the power management of this machine switches off.
const SWITCH_OFF: [u8; 7] = [0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef];

/// Returns a disk whose boot sector prints a text on the serial port, and then does something.
fn disk(text: &str, then: &[u8]) -> Vec<u8> {
    #[rustfmt::skip]
    let mut sector = vec![
        0xfc, 0x31, 0xc0, 0x8e, 0xd8,   // cld; xor ax, ax; mov ds, ax
        0xbe, 0x40, 0x7c,               // mov si, 0x7c40
        0xba, 0xf8, 0x03,               // mov dx, 0x3f8
        0xac, 0x84, 0xc0, 0x74, 0x03,   // next: lodsb; test al, al; jz done
        0xee, 0xeb, 0xf8,               // out dx, al; jmp next
    ];
    sector.extend_from_slice(then);
    assert!(sector.len() <= 0x40);
    sector.resize(0x40, 0);
    sector.extend_from_slice(text.as_bytes());
    assert!(sector.len() < 510);
    sector.resize(510, 0);
    sector.extend_from_slice(&[0x55, 0xaa]);
    sector.extend(noise(7, 3 << 20));
    sector.resize(4 << 20, 0);
    sector
}

fn machine(format: Format) -> TargetMachine {
    TargetMachine {
        memory_mib: 64,
        cpus: 1,
        accel: Accel::Tcg,
        firmware: Firmware::Bios,
        bus: DiskBus::Virtio,
        nic: Nic::None,
        format,
    }
}

struct Options<'a> {
    machine: TargetMachine,
    image: BootImage,
    silence: Duration,
    picture: Option<&'a Path>,
    cancelled: &'a dyn Fn() -> bool,
}

fn boot(options: Options<'_>) -> Option<Result<BootReport, Error>> {
    Some(real()?.boot_test(BootTest {
        machine: &options.machine,
        image: options.image,
        marker: None,
        total_timeout: Duration::from_secs(60),
        silence_timeout: options.silence,
        hang_timeout: None,
        log: None,
        picture: options.picture,
        on_line: &mut |_| {},
        cancelled: options.cancelled,
    }))
}

fn file(path: &Path, text: &str, then: &[u8], silence: u64) -> Option<BootReport> {
    fs::write(path, disk(text, then)).unwrap();
    let before = fs::read(path).unwrap();
    let report = boot(Options {
        machine: machine(Format::Raw),
        image: BootImage::File(path.to_owned()),
        silence: Duration::from_secs(silence),
        picture: None,
        cancelled: &|| false,
    })?;
    assert!(fs::read(path).unwrap() == before, "the disk was written to");
    Some(report.unwrap())
}

#[test]
fn every_end_is_recognised_on_the_console() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    for (text, then, silence, want) in [
        ("Debian GNU/Linux 12 debian ttyS0\r\n\r\ndebian login: ", &STOP[..], 60, BootEnd::Ready),
        ("", &STOP, 5, BootEnd::Silent),
        ("GRUB loading.\r\n", &STOP, 5, BootEnd::TimedOut(BootStage::BootLoader)),
        ("grub rescue> ", &STOP, 60, BootEnd::Failed(BootStage::BootLoader)),
        (
            "[    0.000000] Linux version 6\r\n",
            &SWITCH_OFF,
            60,
            BootEnd::PoweredOff(BootStage::Kernel),
        ),
        ("Kernel panic - not syncing: VFS: no root\r\n", &STOP, 60, BootEnd::Panic),
    ] {
        let Some(report) = file(&path, text, then, silence) else { return };
        assert_eq!(report.end, want, "{text}: {report:?}");
        assert_eq!(report.is_ready(), want == BootEnd::Ready);
        assert!(report.took < Duration::from_secs(60), "{report:?}");
    }
}

#[test]
fn a_disk_that_the_firmware_does_not_start_is_named_with_a_picture_of_the_screen() {
    let directory = tempfile::tempdir().unwrap();
    let (path, picture) = (directory.path().join("empty.raw"), directory.path().join("screen.png"));
    fs::write(&path, vec![0; 1 << 20]).unwrap();
    let Some(report) = boot(Options {
        machine: machine(Format::Raw),
        image: BootImage::File(path),
        silence: Duration::from_secs(60),
        picture: Some(&picture),
        cancelled: &|| false,
    }) else {
        return;
    };
    let report = report.unwrap();
    assert_eq!(report.end, BootEnd::Failed(BootStage::Firmware), "{report:?}");
    assert!(report.evidence.contains("No bootable device"), "{report:?}");
    assert!(
        report.last_lines.iter().any(|line| line.contains("not a bootable disk")),
        "{report:?}"
    );
    assert!(report.has_picture);
    let bytes = fs::read(&picture).unwrap();
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"), "{:?}", &bytes[..8]);
}

#[test]
fn a_view_boots_from_every_bus_without_being_written_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    fs::write(&path, disk("debian login: ", &STOP)).unwrap();
    let reader = GuestReader::open_raw(&path).unwrap();
    let stamp = crate::view::Stamp::new("disk".to_owned(), 0);
    let views: [Arc<dyn View>; 4] = [
        Arc::new(RawView::of(reader.clone())),
        Arc::new(Qcow2View::of(reader.clone()).unwrap()),
        Arc::new(VhdView::of(reader.clone(), VhdKind::Fixed, 1 << 20, &stamp).unwrap()),
        Arc::new(VhdView::of(reader, VhdKind::Dynamic, 1 << 20, &stamp).unwrap()),
    ];
    let buses = [DiskBus::Virtio, DiskBus::Nvme, DiskBus::Scsi, DiskBus::Sata];
    let nics = [Nic::None, Nic::Virtio, Nic::E1000, Nic::None];
    for ((view, bus), nic) in views.into_iter().zip(buses).zip(nics) {
        let machine = TargetMachine { bus, nic, ..machine(view.format()) };
        let Some(report) = boot(Options {
            machine,
            image: BootImage::Export(Arc::new(view)),
            silence: Duration::from_secs(60),
            picture: None,
            cancelled: &|| false,
        }) else {
            return;
        };
        assert!(report.as_ref().unwrap().is_ready(), "{bus:?}: {report:?}");
    }
}

/// An image whose first sector can be read, and no other.
struct Broken(Vec<u8>);

impl Export for Broken {
    fn len(&self) -> u64 {
        1 << 20
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        if offset > 0 || buf.len() > 4096 {
            return Err(Error::new(Kind::Io, "the disk under the view is broken"));
        }
        buf.copy_from_slice(&self.0[..buf.len()]);
        Ok(buf.len())
    }
}

#[test]
fn an_image_that_cannot_be_read_is_an_error_and_not_a_verdict() {
    // int 13h: reads the second sector to 0x7e00.
    let read =
        [0xb8, 0x01, 0x02, 0xb9, 0x02, 0x00, 0xba, 0x80, 0x00, 0xbb, 0x00, 0x7e, 0xcd, 0x13, 0xf4];
    let image = Broken(disk("Kernel panic - not syncing: no disk\r\n", &read));
    let Some(report) = boot(Options {
        machine: machine(Format::Raw),
        image: BootImage::Export(Arc::new(image)),
        silence: Duration::from_secs(60),
        picture: None,
        cancelled: &|| false,
    }) else {
        return;
    };
    let error = report.unwrap_err();
    assert!(error.to_string().contains("under the view is broken"), "{error}");
}

#[test]
fn a_cancelled_test_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    fs::write(&path, disk("GRUB loading.\r\n", &STOP)).unwrap();
    let calls = Cell::new(0);
    let cancelled = || {
        calls.set(calls.get() + 1);
        calls.get() > 10
    };
    let Some(report) = boot(Options {
        machine: machine(Format::Raw),
        image: BootImage::File(path),
        silence: Duration::from_secs(60),
        picture: None,
        cancelled: &cancelled,
    }) else {
        return;
    };
    assert_eq!(report.unwrap_err().kind(), Kind::Cancelled);
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
