//! Inspects whole Debian systems, which mmdebstrap and Debian's boot loaders make: `make soak PART=guest`. It takes
//! minutes and 3 GB, so `cargo test` skips it.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and reports what it did"
)]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use build_image_disk::GuestReader;
use build_image_disk::process::{Call, Environment};
use build_image_guest::model::Firmware::{self, Bios, Uefi};
use build_image_guest::{
    Attributes, DriverNeed, Limits, Requirements, Severity, check, inspect, inspect_with_packages,
};

/// Time limit of the builder.
const PATIENCE: Duration = Duration::from_secs(1800);

fn environment() -> Environment {
    let path = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        if name != "PATH" {
            return (name, value);
        }
        let mut path = value;
        path.push(":/usr/sbin:/sbin");
        (name, path)
    };
    Environment::keep(std::env::vars_os().map(path))
}

fn run(program: &Path, args: &[&dyn AsRef<OsStr>]) {
    let args = args.iter().map(|arg| arg.as_ref().to_owned()).collect();
    let call = Call { program: program.to_owned(), args, environment: environment() };
    let got = call.capture(PATIENCE).unwrap();
    assert!(
        got.status.success(),
        "{}: {}\n{}\n{}",
        program.display(),
        got.status,
        String::from_utf8_lossy(&got.stdout),
        String::from_utf8_lossy(&got.stderr)
    );
}

/// Runs a line of the shell; `$0` is the disk.
fn shell(disk: &Path, line: &str) {
    let line = format!("set -e -o pipefail; {line}");
    let bash = environment().find("bash").unwrap();
    run(&bash, &[&"-c", &line, &disk]);
}

/// Builds the disks; `None` if this run is not the long one.
fn zoo() -> Option<PathBuf> {
    if !std::env::vars_os().any(|(name, value)| name == "BUILD_IMAGE_SOAK_GUEST" && value == "1") {
        eprintln!("SKIPPED: `make soak PART=guest` runs this test");
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("guest-zoo");
    run(&root.join("tests/fixtures/guest-zoo/build"), &[&directory]);
    Some(directory)
}

fn needs(firmware: Firmware) -> Requirements {
    let need = |device: &str, one_of: &str, severity| DriverNeed {
        device: device.to_owned(),
        one_of: vec![one_of.to_owned()],
        severity,
    };
    Requirements {
        architectures: vec!["x86_64".to_owned()],
        firmware: vec![firmware],
        disks: vec![
            need("virtio disks", "virtio_blk", Severity::Error),
            need("NVMe disks", "nvme", Severity::Warning),
            need("Xen disks", "xen_blkfront", Severity::Warning),
            need("Hyper-V disks", "hv_storvsc", Severity::Warning),
        ],
        networks: vec![need("virtio networks", "virtio_net", Severity::Error)],
        console: Some("ttyS0".to_owned()),
        ..Requirements::default()
    }
}

fn findings(disk: &Path, firmware: Firmware) -> Vec<String> {
    let reader = GuestReader::open_raw(disk).unwrap();
    let found = inspect(&reader, Limits::default()).unwrap();
    let mut ids: Vec<String> =
        check(&found, &needs(firmware)).into_iter().map(|finding| finding.id).collect();
    ids.sort_unstable();
    ids
}

/// Disk, firmware, findings.
const HEALTHY: [(&str, Firmware, &[&str]); 6] = [
    ("bios-grub", Bios, &[]),
    ("uefi-grub", Uefi, &[]),
    ("uefi-systemd-boot", Uefi, &[]),
    ("lvm", Bios, &[]),
    // The boot file system was read, and nothing is guessed about the root.
    ("xfs", Uefi, &["not-inspected"]),
    ("btrfs", Uefi, &["not-inspected"]),
];

/// Disk, firmware, what is done to it, findings. `E` edits an ext4 file system at an offset, `ESP` is that of mtools.
const FAULTS: [(&str, Firmware, &str, &[&str]); 15] = [
    ("bios-grub", Uefi, "true", &["no-esp"]),
    ("uefi-grub", Bios, "true", &["no-bios-loader"]),
    (
        "bios-grub",
        Bios,
        "dd if=/dev/zero of=\"$0\" bs=512 seek=1 count=100 conv=notrunc status=none",
        &["bios-loader-broken"],
    ),
    (
        "bios-grub",
        Bios,
        "E \"dump $INITRD $T/i\"; truncate -s $(( $(stat -c %s $T/i) / 2 )) $T/i; E \"rm $INITRD\" \"write $T/i $INITRD\"",
        &["initramfs-damaged"],
    ),
    ("bios-grub", Bios, "E \"rm $INITRD\"", &["initramfs-missing"]),
    ("bios-grub", Bios, "E \"rm $KERNEL\"", &["kernel-missing"]),
    ("bios-grub", Bios, "E 'rm /boot/grub/i386-pc/normal.mod'", &["grub-modules"]),
    (
        "bios-grub",
        Bios,
        "echo '/dev/sda1 / ext4 defaults 0 1' >$T/f; E 'rm /etc/fstab' \"write $T/f /etc/fstab\"",
        &["fstab-device-unstable"],
    ),
    (
        "bios-grub",
        Bios,
        "E \"dump /boot/grub/grub.cfg $T/g\"; sed -i 's|root=UUID=[^ ]*|root=/dev/sda1|; s|console=ttyS0[^ ]*||' $T/g; \
         E 'rm /boot/grub/grub.cfg' \"write $T/g /boot/grub/grub.cfg\"",
        &["no-console", "root-device-unstable"],
    ),
    (
        "bios-grub",
        Bios,
        "E \"dump /boot/grub/grub.cfg $T/g\"; sed -i 's|root=UUID=6f|root=UUID=6e|' $T/g; \
         E 'rm /boot/grub/grub.cfg' \"write $T/g /boot/grub/grub.cfg\"",
        &["root-device-unknown"],
    ),
    (
        "bios-grub",
        Bios,
        "echo key >$T/k; echo 0123456789abcdef0123456789abcdef >$T/m; \
         E 'mkdir /etc/ssh' \"write $T/k /etc/ssh/ssh_host_rsa_key\" 'rm /etc/machine-id' \"write $T/m /etc/machine-id\"",
        &["host-keys", "machine-id"],
    ),
    // The modules that `MODULES=dep` would have chosen on a machine without Hyper-V and Xen.
    (
        "bios-grub",
        Bios,
        "E \"dump $INITRD $T/i\"; zstd -dcq $T/i | sed 's/\\(hv_storvsc\\|xen-blkfront\\)\\.ko/\\1.no/g' | zstd -1cq >$T/j; \
         E \"rm $INITRD\" \"write $T/j $INITRD\"",
        &["disk-driver-missing", "disk-driver-missing"],
    ),
    ("uefi-grub", Uefi, "mdel -i \"$0@@1M\" ::/EFI/BOOT/BOOTX64.EFI", &["no-fallback-loader"]),
    (
        "uefi-grub",
        Uefi,
        "mtype -i \"$0@@1M\" ::/EFI/debian/grub.cfg | sed 's/6f3a/6f3b/' >$T/c; mcopy -o -i \"$0@@1M\" $T/c ::/EFI/debian/grub.cfg",
        &["boot-search"],
    ),
    (
        "lvm",
        Bios,
        "dd if=\"$0\" of=$T/p bs=1M skip=161 count=1 status=none; sed -i 's/\"striped\"/\"mirrors\"/' $T/p; \
         dd if=$T/p of=\"$0\" bs=1M seek=161 conv=notrunc status=none",
        &["not-inspected"],
    ),
];

const TOOLS: &str = r#"T=$(mktemp -d); trap 'rm -rf $T' EXIT
E() { printf '%s\n' "$@" | debugfs -w -f - "$0?offset=1048576" >/dev/null 2>$T/log; }
"#;
/// The names of kernel and initramfs on the disk with one partition.
const NAMES: &str = r#"V=$(debugfs -R 'ls -p /boot' "$0?offset=1048576" 2>/dev/null | sed -n 's|.*/vmlinuz-\([^/]*\)/.*|\1|p')
KERNEL=/boot/vmlinuz-$V INITRD=/boot/initrd.img-$V
"#;

#[test]
fn whole_systems_are_inspected() {
    let Some(zoo) = zoo() else { return };
    for (name, firmware, want) in HEALTHY {
        let disk = zoo.join(format!("{name}.raw"));
        let begun = Instant::now();
        assert_eq!(findings(&disk, firmware), want, "{name}");
        println!("{name}: healthy, {} ms", begun.elapsed().as_millis());
    }
    packages(&zoo);
    packages_of_rpm(&zoo);
    attributes(&zoo);
    for (name, firmware, change, want) in FAULTS {
        let copy = zoo.join("fault.raw");
        let from = zoo.join(format!("{name}.raw"));
        shell(&copy, &format!("cp --reflink=auto --sparse=always \"{}\" \"$0\"", from.display()));
        let names = if name == "bios-grub" { NAMES } else { "" };
        shell(&copy, &format!("{TOOLS}{names}{change}"));
        assert_eq!(findings(&copy, firmware), want, "{name}: {change}");
        println!("{name}: {}", want.join(", "));
        fs::remove_file(&copy).unwrap();
    }
}

/// The packages are those that dpkg-query lists.
fn packages(zoo: &Path) {
    let want = fs::read_to_string(zoo.join("dpkg")).unwrap();
    let want: BTreeSet<&str> = want.lines().collect();
    for name in ["bios-grub", "uefi-systemd-boot", "lvm"] {
        let reader = GuestReader::open_raw(&zoo.join(format!("{name}.raw"))).unwrap();
        let (_, packages) = inspect_with_packages(&reader, Limits::default()).unwrap();
        let all = packages.packages.iter();
        let found: Vec<String> =
            all.map(|one| format!("{} {} {}", one.name, one.version, one.architecture)).collect();
        assert!(found.len() > 100, "{name}");
        assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), want, "{name}");
    }
}

/// A whole disk whose database is that of rpm, as it was left when rpm was killed.
fn packages_of_rpm(zoo: &Path) {
    const CHANGE: &str = "D=/usr/lib/sysimage/rpm; E 'rm /var/lib/dpkg/status' 'mkdir /usr/lib/sysimage' \"mkdir $D\" \
        \"write $0.rpm/killed/rpmdb.sqlite $D/rpmdb.sqlite\" \"write $0.rpm/killed/rpmdb.sqlite-wal $D/rpmdb.sqlite-wal\"";
    let (copy, from) = (zoo.join("packages"), zoo.join("bios-grub.raw"));
    let databases = zoo.join("packages.rpm");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let _ = fs::remove_dir_all(&databases);
    run(&root.join("tests/fixtures/rpm-databases/build"), &[&databases]);
    shell(&copy, &format!("cp --reflink=auto --sparse=always \"{}\" \"$0\"", from.display()));
    shell(&copy, &format!("{TOOLS}{CHANGE}"));
    let want = fs::read_to_string(databases.join("killed.list")).unwrap();
    let fields = |line: &str| line.split('|').take(3).collect::<Vec<_>>().join(" ");
    let want: BTreeSet<String> = want.lines().map(fields).collect();
    let reader = GuestReader::open_raw(&copy).unwrap();
    let (_, packages) = inspect_with_packages(&reader, Limits::default()).unwrap();
    let all = packages.packages.iter();
    let found = all.map(|one| format!("{} {} {}", one.name, one.version, one.architecture));
    assert_eq!(found.collect::<BTreeSet<_>>(), want);
    fs::remove_file(&copy).unwrap();
    fs::remove_dir_all(&databases).unwrap();
}

fn attributes(zoo: &Path) {
    for (name, firmware) in [("bios-grub", Bios), ("uefi-grub", Uefi), ("lvm", Bios)] {
        let reader = GuestReader::open_raw(&zoo.join(format!("{name}.raw"))).unwrap();
        let found = inspect(&reader, Limits::default()).unwrap();
        let attributes = Attributes::of(&found);
        assert_eq!(attributes.firmware, [firmware], "{name}");
        assert_eq!(attributes.architecture.as_deref(), Some("x86_64"), "{name}");
        assert_eq!(
            (attributes.os.as_deref(), attributes.nvme),
            (Some("debian"), Some(true)),
            "{name}"
        );
    }
}
