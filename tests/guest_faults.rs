//! Plants faults in a Debian disk, one each, and checks that a plan names the fault and nothing else that is new.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    build_debian::{TOOLS, debian},
    harness::{Sandbox, needs, target_directory, tool},
};

/// Settings that a plan without a network needs.
const CONFIG: &str = "ALIBABA_ACCESS_KEY_ID: id\nALIBABA_ACCESS_KEY_SECRET: key\nALIBABA_BUCKET: demo\n\
    ALIBABA_REGION: cn-hangzhou\nOPENSTACK_AUTH_URL: http://localhost:1/v3\nOPENSTACK_USERNAME: user\n\
    OPENSTACK_PASSWORD: key\nOPENSTACK_PROJECT_NAME: project\nOCI_REFERENCE: localhost/a:b\n";
/// Text of planted secrets, which no output may contain.
const SECRET: &str = "S3CRET";

/// A fault: its name, the provider with settings, the commands that plant it, and what is found that the disk without
/// the fault does not have, as `severity id`. `E` changes the root file system, `C` replaces the line of the boot
/// loader's configuration that begins with its first argument.
struct Fault {
    name: &'static str,
    provider: &'static [&'static str],
    plant: &'static str,
    want: &'static [&'static str],
}

const fn fault(
    name: &'static str,
    provider: &'static [&'static str],
    plant: &'static str,
    want: &'static [&'static str],
) -> Fault {
    Fault { name, provider, plant, want }
}

const ALIBABA: &[&str] = &["alibaba"];
const OPENSTACK: &[&str] = &["openstack"];

const SHELL: &str = r#"PATH=$PATH:/sbin:/usr/sbin
E() { printf '%s\n' "$@" | debugfs -w -f - 'disk.raw?offset=135266304' >/dev/null 2>&1; }
C() { mcopy -n -o -i disk.raw@@1M ::syslinux.cfg c; sed -i "s|^  $1.*|  $2|" c; mcopy -o -i disk.raw@@1M c ::syslinux.cfg; }
W() { printf "$2" >w; E "rm $1" "write w $1"; }
"#;

const FAULTS: [Fault; 28] = [
    fault("none", ALIBABA, "true", &[]),
    fault("none", OPENSTACK, "true", &[]),
    fault("none", &["oci"], "true", &[]),
    fault(
        "no driver for the bus that a setting chooses",
        &["openstack", "--openstack-disk-bus", "sata"],
        "true",
        &["error disk-driver-missing", "error root-device-unstable"],
    ),
    fault(
        "no driver for the network that a setting chooses",
        &["openstack", "--openstack-vif-model", "rtl8139"],
        "true",
        &["error network-driver-missing"],
    ),
    fault(
        "firmware that a setting chooses",
        &["openstack", "--openstack-firmware", "uefi"],
        "true",
        &["error no-esp"],
    ),
    fault(
        "no driver of the platform",
        &["vmware"],
        "true",
        &["error disk-driver-missing", "error root-device-unstable"],
    ),
    fault("machines without virtio", &["aws"], "true", &["error root-device-unstable"]),
    fault(
        "no boot record",
        ALIBABA,
        "dd if=/dev/zero of=disk.raw bs=440 count=1 conv=notrunc status=none",
        &["error no-bios-loader", "error no-esp"],
    ),
    fault(
        "no active partition",
        ALIBABA,
        "printf '\\0' | dd of=disk.raw bs=1 seek=446 conv=notrunc status=none",
        &["error bios-loader-broken", "error no-esp"],
    ),
    fault(
        "no configuration of the boot loader",
        ALIBABA,
        "mdel -i disk.raw@@1M ::syslinux.cfg",
        &["error no-boot-entry"],
    ),
    fault("no kernel", ALIBABA, "mdel -i disk.raw@@1M ::vmlinuz", &["error kernel-missing"]),
    fault("no initramfs", ALIBABA, "mdel -i disk.raw@@1M ::initrd", &["error initramfs-missing"]),
    fault(
        "half of an initramfs",
        ALIBABA,
        "mcopy -i disk.raw@@1M ::initrd i; truncate -s $(($(stat -c %s i) / 2)) i; mcopy -o -i disk.raw@@1M i ::initrd",
        &["error initramfs-damaged"],
    ),
    fault(
        "an unknown root",
        ALIBABA,
        "C APPEND 'APPEND root=UUID=deadbeef-dead-4bee-8fde-adbeefdeadbe ro console=ttyS0'",
        &["error root-device-unknown"],
    ),
    fault("no root", ALIBABA, "C APPEND 'APPEND ro console=ttyS0'", &["error no-root-device"]),
    fault(
        "no console, and secrets in the arguments of the kernel",
        ALIBABA,
        "C APPEND 'APPEND root=/dev/vda2 ro db_password=S3CRET url=https://me:S3CRET@localhost/'",
        &["warning no-console"],
    ),
    fault(
        "an unknown file system in fstab, and a password",
        ALIBABA,
        "W /etc/fstab '/dev/vda2 / ext4 defaults 0 1\\nUUID=0000-0000 /data ext4 defaults,password=S3CRET 0 2\\n'",
        &["error fstab-device-unknown"],
    ),
    fault(
        "/dev/sdb in fstab",
        ALIBABA,
        "W /etc/fstab '/dev/vda2 / ext4 defaults 0 1\\n/dev/sdb1 /data ext4 defaults 0 2\\n'",
        &["error fstab-device-unstable"],
    ),
    fault(
        "another type in fstab",
        ALIBABA,
        "W /etc/fstab '/dev/disk/by-label/root / xfs defaults 0 1\\n'",
        &["warning fstab-type"],
    ),
    fault(
        "host keys",
        ALIBABA,
        "E 'mkdir /etc/ssh'; W /etc/ssh/ssh_host_ed25519_key S3CRET",
        &["warning host-keys"],
    ),
    fault(
        "an identity",
        ALIBABA,
        "W /etc/machine-id '0123456789abcdef0123456789abcdef\\n'",
        &["warning machine-id"],
    ),
    fault(
        "a history",
        ALIBABA,
        "W /root/.bash_history 'mysql -pS3CRET\\n'",
        &["warning shell-history"],
    ),
    fault(
        "authorized keys",
        ALIBABA,
        "E 'mkdir /root/.ssh'; W /root/.ssh/authorized_keys 'ssh-ed25519 S3CRET x\\n'",
        &["warning authorized-keys"],
    ),
    fault(
        "a private key",
        ALIBABA,
        "E 'mkdir /root/.ssh'; W /root/.ssh/id_ed25519 S3CRET",
        &["warning private-keys"],
    ),
    fault(
        "names by MAC address",
        ALIBABA,
        "W /etc/udev/rules.d/70-persistent-net.rules 'ATTR{address}==\"52:54:00:12:34:56\"\\n'",
        &["warning udev-net-rules"],
    ),
    fault(
        "a network for one MAC address",
        ALIBABA,
        "W /etc/systemd/network/10-a.network '[Match]\\nMACAddress=52:54:00:12:34:56\\n[Network]\\nDHCP=yes\\n'",
        &["warning network-mac"],
    ),
    fault(
        "a damaged root file system",
        ALIBABA,
        "dd if=/dev/urandom of=disk.raw bs=512 count=1 seek=$((264192 + 8)) conv=notrunc status=none",
        &["warning not-inspected"],
    ),
];

/// Copies the disk and plants a fault.
pub(crate) fn planted(directory: &Path, plant: &str) -> PathBuf {
    let disk = debian();
    tool(directory, &["cp", "--sparse=always", disk.to_str().unwrap(), "disk.raw"]);
    tool(directory, &["sh", "-e", "-c", &format!("{SHELL}{plant}")]);
    directory.join("disk.raw")
}

/// Plans a build; returns the findings as `severity id`, and the document.
fn found(sandbox: &Sandbox, disk: &Path, provider: &[&str]) -> (Vec<String>, Value) {
    let args = ["plan", "--json", "-c", "config.yml", "--disk", disk.to_str().unwrap(), "-p"];
    let run = sandbox.run(&[&args[..], provider].concat());
    // A plan with errors is printed too, and then it fails.
    let document: Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{}", run.stderr));
    let findings = document["guest"]["findings"].as_array().unwrap();
    for finding in findings {
        let has = |name: &str| !finding[name].as_str().unwrap().is_empty();
        assert!(has("message") && has("remedy"), "{finding}");
        assert!(!finding["evidence"].as_array().unwrap().is_empty(), "{finding}");
    }
    assert!(!run.stdout.contains(SECRET) && !run.stderr.contains(SECRET), "{provider:?}");
    let text = |finding: &Value| {
        format!("{} {}", finding["severity"].as_str().unwrap(), finding["id"].as_str().unwrap())
    };
    (findings.iter().map(text).collect(), document)
}

#[test]
fn every_planted_fault_is_in_the_plan_and_nothing_else() {
    if !needs(&TOOLS) || !needs(&["debugfs"]) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("config.yml", CONFIG);
    // The Debian of the tests names its root by the device of virtio, and has no network: that is always found.
    let mut usual: Option<Vec<String>> = None;
    let mut wrong = Vec::new();
    for Fault { name, provider, plant, want } in FAULTS {
        let directory = tempfile::tempdir_in(target_directory()).unwrap();
        let disk = planted(directory.path(), plant);
        let (findings, document) = found(&sandbox, &disk, provider);
        let usual = usual.get_or_insert_with(|| findings.clone());
        let mut new: Vec<&String> = findings.iter().filter(|one| !usual.contains(one)).collect();
        new.sort();
        if new != want {
            wrong.push(format!("{name} ({provider:?}): {:#}", document["guest"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What was found is in no file of the run either.
#[test]
fn secrets_inside_the_disk_are_in_no_output_of_a_build() {
    if !needs(&TOOLS) || !needs(&["debugfs"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let directory = tempfile::tempdir_in(target_directory()).unwrap();
    let plant = "W /root/.bash_history 'mysql -pS3CRET\\n'; E 'mkdir /etc/ssh'; W /etc/ssh/ssh_host_rsa_key S3CRET; \
        W /etc/fstab 'UUID=0-0 /data ext4 password=S3CRET 0 2\\n'; \
        C APPEND 'APPEND root=/dev/vda9 ro db_password=S3CRET'";
    let disk = planted(directory.path(), plant);
    let args = ["--disk", disk.to_str().unwrap(), "-p", "vmware", "--log-level", "trace"];
    let run = sandbox.run(&[&args[..], &["--guest-check", "require"]].concat());
    run.failed(6, &["/etc/fstab", "does not work on machines of `vmware`"]);
    assert!(!run.stderr.contains(SECRET) && !run.stdout.contains(SECRET), "{}", run.stderr);
    let document = run.result.as_ref().unwrap().to_string();
    assert!(document.contains("shell-history") && !document.contains(SECRET), "{document}");
    for file in sandbox.files() {
        let content = fs::read(sandbox.path().join(&file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&content);
        assert!(!text.contains(SECRET), "{file:?}: {text}");
    }
}
