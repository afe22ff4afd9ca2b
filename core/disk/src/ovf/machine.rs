//! Reads OVF descriptors of any writer: the disks in the package and the machine that they belong to. Source: DMTF
//! DSP0243 1.1.0; the firmware is an extension of VMware's (`vmw:Config`), and of others that follow it.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::error::{Error, Kind};

/// The machine of a descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Machine {
    /// File names of the disks, in the order of the disk section.
    pub disks: Vec<String>,
    /// Whether the firmware is UEFI; `None` when the descriptor does not say.
    pub uefi: Option<bool>,
    /// Number of processors.
    pub cpus: Option<u64>,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// Disk controllers and network adapters, such as `SCSI VirtualSCSI` and `Ethernet VmxNet3`.
    pub devices: Vec<String>,
    /// The guest operating system, as the descriptor words it.
    pub system: Option<String>,
}

/// Deepest nesting of elements; descriptors have about six levels.
const MOST_DEPTH: usize = 64;

/// Resource types of CIM that name devices.
const DEVICES: [(&str, &str); 4] =
    [("5", "IDE"), ("6", "SCSI"), ("10", "Ethernet"), ("20", "SATA")];

/// A hardware item that is being read.
#[derive(Default)]
struct Item {
    kind: String,
    subtype: String,
    quantity: String,
    units: String,
}

#[derive(Default)]
struct Reading {
    machine: Machine,
    /// Local names of the open elements.
    open: Vec<String>,
    /// References: identifier and file name.
    files: Vec<(String, String)>,
    /// References of the disks.
    disks: Vec<String>,
    item: Item,
    text: String,
    is_envelope: bool,
}

impl Machine {
    /// Parses a descriptor.
    ///
    /// # Errors
    /// [`Kind::Malformed`] when it is not XML or not a descriptor, [`Kind::Unsupported`] for disks in several files.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let malformed =
            |what: &str| Error::new(Kind::Malformed, format!("the OVF descriptor {what}, in"));
        let text = std::str::from_utf8(text)
            .map_err(|error| malformed("is not UTF-8").caused_by(error))?;
        let mut reader = Reader::from_str(text);
        let mut reading = Reading::default();
        loop {
            let event =
                reader.read_event().map_err(|error| malformed("is not XML").caused_by(error))?;
            match event {
                Event::Start(element) => {
                    reading.start(&element)?;
                    if reading.open.len() > MOST_DEPTH {
                        return Err(malformed("is nested too deeply"));
                    }
                }
                Event::Empty(element) => {
                    reading.start(&element)?;
                    reading.end();
                }
                Event::Text(text) => reading.text.push_str(&text),
                Event::End(_) => reading.end(),
                Event::Eof => break,
                _ => {}
            }
        }
        if !reading.is_envelope || !reading.open.is_empty() {
            return Err(malformed("has no complete envelope"));
        }
        reading.finish()
    }

    /// Describes the machine in a few words; empty when the descriptor says nothing.
    #[must_use]
    pub fn summary(&self) -> String {
        let firmware = self.uefi.map(|uefi| if uefi { "UEFI" } else { "BIOS" }.to_owned());
        let cpus = self.cpus.map(|count| format!("{count} CPUs"));
        let memory = self.memory_mib.map(|mib| format!("{mib} MiB"));
        let words = [firmware, cpus, memory].into_iter().flatten();
        words.chain(self.devices.iter().cloned()).collect::<Vec<_>>().join(", ")
    }
}

impl Reading {
    fn start(&mut self, element: &BytesStart<'_>) -> Result<(), Error> {
        let name = element.local_name().as_ref().to_owned();
        let attribute = |wanted: &str| {
            let found = element.attributes().flatten();
            let mut found = found.filter(|found| found.key.local_name().as_ref() == wanted);
            found.next().map(|found| found.value.into_owned())
        };
        match name.as_str() {
            "Envelope" if self.open.is_empty() => self.is_envelope = true,
            "File" => {
                if attribute("chunkSize").is_some() {
                    let message =
                        "the disk is split into several files, according to the OVF descriptor in";
                    return Err(Error::new(Kind::Unsupported, message)
                        .with_hint("export the machine again without chunks"));
                }
                if let (Some(id), Some(href)) = (attribute("id"), attribute("href")) {
                    self.files.push((id, href));
                }
            }
            "Disk" => self.disks.extend(attribute("fileRef")),
            "Item" | "StorageItem" | "EthernetPortItem" => self.item = Item::default(),
            "Config" | "ExtraConfig"
                if attribute("key").is_some_and(|key| key.eq_ignore_ascii_case("firmware")) =>
            {
                self.machine.uefi =
                    attribute("value").map(|value| value.eq_ignore_ascii_case("efi"));
            }
            _ => {}
        }
        self.open.push(name);
        self.text.clear();
        Ok(())
    }

    fn end(&mut self) {
        let Some(name) = self.open.pop() else { return };
        let text = std::mem::take(&mut self.text).trim().to_owned();
        let parent = self.open.last().map(String::as_str).unwrap_or_default();
        match (parent, name.as_str()) {
            ("Item" | "StorageItem" | "EthernetPortItem", field) => match field {
                "ResourceType" => self.item.kind = text,
                "ResourceSubType" => self.item.subtype = text,
                "VirtualQuantity" => self.item.quantity = text,
                "AllocationUnits" => self.item.units = text,
                _ => {}
            },
            ("OperatingSystemSection", "Description") => self.machine.system = Some(text),
            (_, "Item" | "StorageItem" | "EthernetPortItem") => self.take_item(),
            _ => {}
        }
    }

    fn take_item(&mut self) {
        let item = std::mem::take(&mut self.item);
        let quantity = item.quantity.parse().ok();
        match item.kind.as_str() {
            // The first counts: further ones belong to other configurations.
            "3" => self.machine.cpus = self.machine.cpus.or(quantity),
            "4" => {
                let mib = quantity.and_then(|quantity| mib(quantity, &item.units));
                self.machine.memory_mib = self.machine.memory_mib.or(mib);
            }
            kind => {
                if let Some((_, name)) = DEVICES.iter().find(|(number, _)| *number == kind) {
                    let device = format!("{name} {}", item.subtype).trim_end().to_owned();
                    if !self.machine.devices.contains(&device) {
                        self.machine.devices.push(device);
                    }
                }
            }
        }
    }

    fn finish(self) -> Result<Machine, Error> {
        let mut machine = self.machine;
        for reference in self.disks {
            let file = self.files.iter().find(|(id, _)| *id == reference);
            let Some((_, href)) = file else {
                let message =
                    format!("the OVF descriptor names no file for disk `{reference}`, in");
                return Err(Error::new(Kind::Malformed, message));
            };
            machine.disks.push(href.clone());
        }
        Ok(machine)
    }
}

/// Converts an amount of memory; units are those of DSP0004 (`byte * 2^20`) or older words (`MegaBytes`).
fn mib(quantity: u64, units: &str) -> Option<u64> {
    let bytes = match units.replace(' ', "").as_str() {
        "byte*2^20" | "MegaBytes" | "MB" | "" => return Some(quantity),
        "byte*2^30" | "GigaBytes" | "GB" => quantity.checked_mul(1 << 30)?,
        "byte*2^10" | "KiloBytes" => quantity.checked_mul(1 << 10)?,
        "byte" => quantity,
        _ => return None,
    };
    Some(bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTOR: &str = r#"<?xml version="1.0"?>
<ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="r" xmlns:vmw="v">
  <ovf:References><ovf:File ovf:href="b.vmdk" ovf:id="f2"/><ovf:File ovf:href="a.vmdk" ovf:id="f1"/>
    <ovf:File ovf:href="a.nvram" ovf:id="f3"/></ovf:References>
  <ovf:DiskSection><ovf:Disk ovf:diskId="d1" ovf:fileRef="f1"/><ovf:Disk ovf:diskId="empty"/></ovf:DiskSection>
  <ovf:VirtualSystem ovf:id="vm"><ovf:OperatingSystemSection ovf:id="94"><ovf:Description>Ubuntu 64-bit</ovf:Description>
    </ovf:OperatingSystemSection>
    <ovf:VirtualHardwareSection>
      <ovf:Item><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></ovf:Item>
      <ovf:Item><rasd:AllocationUnits>byte * 2^30</rasd:AllocationUnits><rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>4</rasd:VirtualQuantity></ovf:Item>
      <ovf:Item><rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></ovf:Item>
      <ovf:Item><rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></ovf:Item>
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
    </ovf:VirtualHardwareSection></ovf:VirtualSystem></ovf:Envelope>"#;

    #[test]
    fn disks_and_hardware_of_a_descriptor_are_read() {
        let machine = Machine::parse(DESCRIPTOR.as_bytes()).unwrap();
        assert_eq!(machine.disks, ["a.vmdk"]);
        assert_eq!(
            (machine.uefi, machine.cpus, machine.memory_mib),
            (Some(true), Some(2), Some(4096))
        );
        assert_eq!(machine.system.as_deref(), Some("Ubuntu 64-bit"));
        assert_eq!(machine.summary(), "UEFI, 2 CPUs, 4096 MiB, SCSI VirtualSCSI, Ethernet VmxNet3");
    }

    #[test]
    fn what_is_not_a_descriptor_is_refused() {
        let chunks = DESCRIPTOR.replace("ovf:id=\"f1\"", "ovf:id=\"f1\" ovf:chunkSize=\"9\"");
        let missing = DESCRIPTOR.replace("fileRef=\"f1\"", "fileRef=\"f9\"");
        let deep = "<a>".repeat(100);
        for (text, part) in [
            ("", "no complete envelope"),
            ("<html></html>", "no complete envelope"),
            (&DESCRIPTOR[..900], "the OVF descriptor"),
            ("<Envelope><", "is not XML"),
            (&chunks, "several files"),
            (&missing, "no file for disk"),
            (&deep, "nested too deeply"),
        ] {
            let error = Machine::parse(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
}
