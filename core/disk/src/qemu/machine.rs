//! Describes a guest and builds the arguments for qemu. The functions are pure: they look up and open
//! nothing.
//! Source: QEMU, "Invocation"; qemu-options for the escaping of commas.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::Accel;

/// Size of the translated code that qemu may keep, in MiB. Without a limit tcg uses half a gigabyte and is
/// not faster.
const TCG_CACHE_MIB: u32 = 64;

/// A kernel started directly, without a boot loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The file of the kernel.
    pub image: PathBuf,
    /// The file of the initrd.
    pub initrd: PathBuf,
    /// The command line of the kernel.
    pub append: String,
}

/// The boot device, when no kernel is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// The disk.
    Disk,
    /// The CD-ROM.
    Cdrom,
}

/// A guest with one disk, a serial console and no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpus: u32,
    /// How instructions are executed.
    pub accel: Accel,
    /// A raw disk, which is the first virtio disk of the guest. It is written without any sync: after a power
    /// cut its content is lost.
    pub disk: PathBuf,
    /// An ISO in the CD-ROM drive.
    pub cdrom: Option<PathBuf>,
    /// A kernel to start directly, without a boot loader.
    pub kernel: Option<Kernel>,
    /// The boot device otherwise.
    pub boot: Boot,
}

impl Machine {
    /// Returns the arguments for qemu, without the program itself. `sandbox` confines qemu with seccomp.
    pub fn argv(&self, sandbox: bool) -> Vec<OsString> {
        let mut args = Args(Vec::new());
        args.words(&["-no-user-config", "-name", "build-image", "-machine", "pc"]);
        args.pair("-accel", accel_option(self.accel));
        args.pair("-m", self.memory_mib.to_string());
        args.pair("-smp", self.cpus.to_string());
        // The console is the only input and output; a reset ends the guest like a power-off.
        args.words(&["-nographic", "-serial", "stdio", "-monitor", "none", "-nic", "none"]);
        args.words(&["-no-reboot"]);
        if sandbox {
            args.pair("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny");
        }
        // Freed and zeroed blocks become holes again, so the disk stays as small as its content. If the host
        // has no space left, qemu pauses the guest (see run.rs); other errors are reported to the guest.
        let tail =
            ",format=raw,if=virtio,cache=unsafe,discard=unmap,detect-zeroes=unmap,werror=enospc";
        args.drive(&self.disk, tail);
        if let Some(cdrom) = &self.cdrom {
            args.drive(cdrom, ",format=raw,if=ide,index=2,media=cdrom,readonly=on");
        }
        args.pair(
            "-boot",
            match self.boot {
                Boot::Disk => "c",
                Boot::Cdrom => "d",
            },
        );
        if let Some(kernel) = &self.kernel {
            args.path("-kernel", &kernel.image);
            args.path("-initrd", &kernel.initrd);
            args.pair("-append", &kernel.append);
        }
        args.0
    }
}

pub(super) fn accel_option(accel: Accel) -> String {
    match accel {
        Accel::Kvm => "kvm".to_owned(),
        Accel::Tcg => format!("tcg,tb-size={TCG_CACHE_MIB}"),
    }
}

/// Builds `file=…` for `-drive`: commas are doubled, and the path is never interpreted as a protocol such as
/// `nbd:`.
pub(super) fn drive_option(path: &Path, tail: &str) -> OsString {
    let mut option = OsString::from("file=");
    option.push(escaped(&plain(path)));
    option.push(tail);
    option
}

/// Doubles the commas of a path, as values of qemu's options need it.
pub(super) fn escaped(path: &Path) -> OsString {
    let bytes = path.as_os_str().as_bytes();
    let doubled =
        bytes.iter().flat_map(|byte| std::iter::repeat_n(*byte, if *byte == b',' { 2 } else { 1 }));
    OsString::from_vec(doubled.collect())
}

/// Prefixes a relative path with `./`, so that `a:b` or `-x` remains a file name.
fn plain(path: &Path) -> PathBuf {
    if path.is_absolute() { path.to_owned() } else { Path::new(".").join(path) }
}

struct Args(Vec<OsString>);

impl Args {
    fn words(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(OsString::from));
    }

    fn pair(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.0.extend([OsString::from(name), value.as_ref().to_owned()]);
    }

    fn path(&mut self, name: &str, path: &Path) {
        self.pair(name, plain(path));
    }

    fn drive(&mut self, path: &Path, tail: &str) {
        self.pair("-drive", drive_option(path, tail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            memory_mib: 2048,
            cpus: 1,
            accel: Accel::Tcg,
            disk: "/work dir/a,b.raw".into(),
            cdrom: None,
            kernel: None,
            boot: Boot::Disk,
        }
    }

    fn text(machine: &Machine, sandbox: bool) -> String {
        let argv = machine.argv(sandbox);
        argv.iter().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_machine_which_boots_its_disk() {
        let want = "-no-user-config\n-name\nbuild-image\n-machine\npc\n-accel\ntcg,tb-size=64\n\
            -m\n2048\n-smp\n1\n-nographic\n-serial\nstdio\n-monitor\nnone\n-nic\nnone\n-no-reboot\n\
            -drive\nfile=/work dir/a,,b.raw,format=raw,if=virtio,cache=unsafe,discard=unmap,\
            detect-zeroes=unmap,werror=enospc\n-boot\nc";
        assert_eq!(text(&machine(), false), want);
    }

    #[test]
    fn a_machine_which_installs_from_a_cdrom() {
        let kernel = Kernel {
            image: "k,1".into(),
            initrd: "/t/i".into(),
            append: "quiet console=ttyS0,115200".into(),
        };
        let machine = Machine {
            accel: Accel::Kvm,
            cdrom: Some("nbd:x.iso".into()),
            kernel: Some(kernel),
            boot: Boot::Cdrom,
            ..machine()
        };
        let text = text(&machine, true);
        assert!(text.contains("-accel\nkvm\n"), "{text}");
        assert!(text.contains("-sandbox\non,obsolete=deny"), "{text}");
        let cdrom =
            "file=./nbd:x.iso,format=raw,if=ide,index=2,media=cdrom,readonly=on\n-boot\nd\n";
        assert!(text.contains(cdrom), "{text}");
        let kernel = "-kernel\n./k,1\n-initrd\n/t/i\n-append\nquiet console=ttyS0,115200";
        assert!(text.ends_with(kernel), "{text}");
    }
}
