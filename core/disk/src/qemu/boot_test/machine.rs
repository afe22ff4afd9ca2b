//! Describes the machine of a boot test and builds the arguments for qemu. The functions are pure.
//! Source: QEMU, "Invocation"; QEMU, "QEMU block drivers reference manual", for NBD.

use std::ffi::OsString;
use std::path::PathBuf;

use super::firmware::Firmware;
use crate::format::Format;
use crate::qemu::Accel;
use crate::qemu::machine::{accel_option, drive_option, escaped};

/// How the guest accesses its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskBus {
    /// virtio-blk.
    #[default]
    Virtio,
    /// NVMe.
    Nvme,
    /// SCSI, by virtio-scsi.
    Scsi,
    /// SATA, or IDE on a machine with a BIOS.
    Sata,
}

/// The network card of the guest. Nothing is reachable through it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nic {
    /// No card.
    #[default]
    None,
    /// virtio-net.
    Virtio,
    /// Intel 82540EM.
    E1000,
}

/// Where qemu reads the image from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ImageSource {
    /// A file, which qemu does not write.
    File(PathBuf),
    /// The socket of an NBD server.
    Nbd(PathBuf),
}

/// A machine as the target has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetMachine {
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpus: u32,
    /// How instructions are executed.
    pub accel: Accel,
    /// The firmware.
    pub firmware: Firmware,
    /// How the guest accesses its disk.
    pub bus: DiskBus,
    /// The network card.
    pub nic: Nic,
    /// The format of the image.
    pub format: Format,
}

impl TargetMachine {
    /// Returns the arguments for qemu, without the program itself. `sandbox` confines qemu with seccomp. What the
    /// guest writes goes to a temporary file without a name.
    pub(super) fn argv(&self, image: &ImageSource, sandbox: bool) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let mut words = |text: &str| args.extend(text.split(' ').map(OsString::from));
        words("-no-user-config -nodefaults -name build-image -display none -vga std -serial stdio");
        // Without `graphics` SeaBIOS prints to the serial port too; there still is a screen.
        words(match self.firmware {
            Firmware::Bios => "-machine pc,graphics=off",
            Firmware::Uefi { .. } => "-machine q35,graphics=off",
        });
        words(&format!("-accel {}", accel_option(self.accel)));
        words(&format!("-m {} -smp {}", self.memory_mib, self.cpus));
        if sandbox {
            words("-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny");
        }
        words(match self.bus {
            DiskBus::Virtio => "-device virtio-blk-pci,drive=image,bootindex=0",
            DiskBus::Nvme => "-device nvme,drive=image,serial=image,bootindex=0",
            DiskBus::Scsi => {
                "-device virtio-scsi-pci,id=scsi -device scsi-hd,bus=scsi.0,drive=image,bootindex=0"
            }
            DiskBus::Sata => "-device ide-hd,drive=image,bootindex=0",
        });
        // Without a ROM the firmware does not try to boot from the network.
        words(match self.nic {
            Nic::None => "-nic none",
            Nic::Virtio => {
                "-netdev user,id=net,restrict=on -device virtio-net-pci,netdev=net,romfile="
            }
            Nic::E1000 => "-netdev user,id=net,restrict=on -device e1000,netdev=net,romfile=",
        });
        if let Firmware::Uefi { code, variables } = &self.firmware {
            let code = drive_option(code, ",if=pflash,unit=0,format=raw,readonly=on");
            let variables = drive_option(variables, ",if=pflash,unit=1,format=raw,snapshot=on");
            args.extend(["-drive".into(), code, "-drive".into(), variables]);
        }
        args.extend(["-drive".into(), self.drive(image)]);
        args
    }

    fn drive(&self, image: &ImageSource) -> OsString {
        let format = driver(self.format);
        let tail = "if=none,id=image,snapshot=on,cache=unsafe,werror=report";
        match image {
            ImageSource::File(path) => drive_option(path, &format!(",format={format},{tail}")),
            ImageSource::Nbd(socket) => {
                let mut option = OsString::from(format!(
                    "driver={format},file.driver=nbd,file.server.type=unix,{tail},file.server.path="
                ));
                option.push(escaped(socket));
                option
            }
        }
    }
}

/// Returns the name of qemu's driver for a format.
fn driver(format: Format) -> &'static str {
    match format {
        Format::Vhd => "vpc",
        Format::Raw | Format::Qcow2 | Format::Vhdx | Format::Vmdk | Format::Vdi => format.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> TargetMachine {
        TargetMachine {
            memory_mib: 1024,
            cpus: 2,
            accel: Accel::Tcg,
            firmware: Firmware::Bios,
            bus: DiskBus::Virtio,
            nic: Nic::None,
            format: Format::Vhd,
        }
    }

    fn file() -> ImageSource {
        ImageSource::File("/d/a,b.vhd".into())
    }

    fn text(machine: &TargetMachine, image: &ImageSource) -> String {
        let argv = machine.argv(image, true);
        argv.iter().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_image_is_never_written_and_no_network_is_reachable() {
        for bus in [DiskBus::Virtio, DiskBus::Nvme, DiskBus::Scsi, DiskBus::Sata] {
            for nic in [Nic::None, Nic::Virtio, Nic::E1000] {
                let text = text(&TargetMachine { bus, nic, ..machine() }, &file());
                assert!(text.contains("file=/d/a,,b.vhd,format=vpc,if=none,id=image,snapshot=on"));
                assert_eq!(text.matches("drive=image").count(), 1, "{text}");
                let isolated = text.contains("-nic none") || text.contains("restrict=on");
                assert!(isolated, "{text}");
            }
        }
    }

    #[test]
    fn a_view_is_read_with_the_driver_of_its_format() {
        let image = ImageSource::Nbd("/run/x,y/nbd".into());
        let text = text(&TargetMachine { format: Format::Qcow2, ..machine() }, &image);
        let drive = "driver=qcow2,file.driver=nbd,file.server.type=unix,if=none,id=image,snapshot=on,\
             cache=unsafe,werror=report,file.server.path=/run/x,,y/nbd";
        assert!(text.contains(drive), "{text}");
    }

    #[test]
    fn uefi_has_its_code_and_variables_that_are_not_written() {
        let (code, variables) = ("/f/CODE.fd".into(), "/f/VARS.fd".into());
        let firmware = Firmware::Uefi { code, variables };
        let text = text(&TargetMachine { firmware, ..machine() }, &file());
        assert!(text.contains("-machine q35"), "{text}");
        assert!(text.contains("/f/CODE.fd,if=pflash,unit=0,format=raw,readonly=on"), "{text}");
        assert!(text.contains("/f/VARS.fd,if=pflash,unit=1,format=raw,snapshot=on"), "{text}");
    }
}
