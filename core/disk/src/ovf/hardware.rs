//! Writes the virtual hardware section of a descriptor. Source: DMTF DSP0243 1.1.0, section 8, and the CIM
//! class `CIM_ResourceAllocationSettingData`, whose properties are written in alphabetical order.

use std::io;

use super::Appliance;
use super::xml::Xml;

/// The units of reserved processor time and of memory.
const MEGAHERTZ: &str = "hertz * 10^6";
const MEBIBYTES: &str = "byte * 2^20";
/// Identifiers of the fixed items; those of adapters follow.
const CPU: u32 = 1;
const MEMORY: u32 = 2;
const CONTROLLER: u32 = 3;
const DISK: u32 = 4;
const FIRST_ADAPTER: u32 = 5;
/// The address of the first adapter on its bus.
const FIRST_ADDRESS: usize = 7;

/// Writes the section, with one pair of processor and memory items for each size.
pub(super) fn hardware(appliance: &Appliance, xml: &mut Xml) -> io::Result<()> {
    let transport = [("ovf:transport", "com.vmware.guestInfo")];
    xml.group("VirtualHardwareSection", &transport, |xml| {
        xml.text("Info", "Virtual hardware requirements")?;
        xml.group("System", &[], |xml| {
            xml.text("vssd:ElementName", "Virtual Hardware Family")?;
            xml.text("vssd:InstanceID", "0")?;
            xml.text("vssd:VirtualSystemIdentifier", &appliance.name)?;
            xml.text("vssd:VirtualSystemType", &format!("vmx-{}", appliance.hardware_version))
        })?;
        if appliance.sizes.is_empty() {
            let (cpus, memory) = (appliance.cpus, appliance.memory_mib);
            amount(xml, &Amount { size: None, id: CPU, quantity: cpus, reserved: None })?;
            amount(xml, &Amount { size: None, id: MEMORY, quantity: memory, reserved: None })?;
        }
        for size in &appliance.sizes {
            let (id, quantity) = (Some(size.id.as_str()), size.cpus);
            let reserved = Some(size.cpu_reservation_mhz);
            amount(xml, &Amount { size: id, id: CPU, quantity, reserved })?;
            let (quantity, reserved) = (size.memory_mib, Some(size.memory_mib));
            amount(xml, &Amount { size: id, id: MEMORY, quantity, reserved })?;
        }
        storage(xml)?;
        adapters(appliance, xml)?;
        config(appliance, xml)
    })
}

/// The number of processors or the amount of memory.
struct Amount<'a> {
    /// The size that the item belongs to; `None` for all sizes.
    size: Option<&'a str>,
    id: u32,
    quantity: u32,
    reserved: Option<u32>,
}

fn amount(xml: &mut Xml, item: &Amount<'_>) -> io::Result<()> {
    let (units, description, name, kind) = match item.id {
        CPU => (MEGAHERTZ, "Number of virtual CPUs", "virtual CPU(s)", "3"),
        _ => (MEBIBYTES, "Memory size", "MB of memory", "4"),
    };
    let attributes: Vec<_> =
        item.size.map(|size| ("ovf:configuration", size)).into_iter().collect();
    xml.group("Item", &attributes, |xml| {
        xml.text("rasd:AllocationUnits", units)?;
        xml.text("rasd:Description", description)?;
        xml.text("rasd:ElementName", &format!("{} {name}", item.quantity))?;
        xml.text("rasd:InstanceID", &item.id.to_string())?;
        if let Some(reserved) = item.reserved {
            xml.text("rasd:Reservation", &reserved.to_string())?;
        }
        xml.text("rasd:ResourceType", kind)?;
        xml.text("rasd:VirtualQuantity", &item.quantity.to_string())
    })
}

fn storage(xml: &mut Xml) -> io::Result<()> {
    xml.group("Item", &[], |xml| {
        xml.text("rasd:Address", "0")?;
        xml.text("rasd:Description", "SCSI controller")?;
        xml.text("rasd:ElementName", "SCSI controller 0")?;
        xml.text("rasd:InstanceID", &CONTROLLER.to_string())?;
        xml.text("rasd:ResourceSubType", "lsilogic")?;
        xml.text("rasd:ResourceType", "6")
    })?;
    xml.group("Item", &[], |xml| {
        xml.text("rasd:AddressOnParent", "0")?;
        xml.text("rasd:ElementName", "Hard disk 1")?;
        xml.text("rasd:HostResource", "ovf:/disk/vmdisk1")?;
        xml.text("rasd:InstanceID", &DISK.to_string())?;
        xml.text("rasd:Parent", &CONTROLLER.to_string())?;
        xml.text("rasd:ResourceType", "17")
    })
}

fn adapters(appliance: &Appliance, xml: &mut Xml) -> io::Result<()> {
    for (number, (network, id)) in appliance.networks.iter().zip(FIRST_ADAPTER..).enumerate() {
        xml.group("Item", &[], |xml| {
            xml.text("rasd:AddressOnParent", &(FIRST_ADDRESS + number).to_string())?;
            xml.text("rasd:AutomaticAllocation", "true")?;
            xml.text("rasd:Connection", &network.name)?;
            xml.text("rasd:Description", &network.description)?;
            xml.text("rasd:ElementName", &format!("Network adapter {}", number + 1))?;
            xml.text("rasd:InstanceID", &id.to_string())?;
            xml.text("rasd:ResourceSubType", "VmxNet3")?;
            xml.text("rasd:ResourceType", "10")
        })?;
    }
    Ok(())
}

/// Writes when the guest's tools run its power scripts, and the firmware if it differs from VMware's default.
fn config(appliance: &Appliance, xml: &mut Xml) -> io::Result<()> {
    let firmware = appliance.uefi.then_some(("firmware", "efi"));
    let tools = ["afterPowerOn", "afterResume", "beforeGuestShutdown", "beforeGuestStandby"];
    let tools = tools.map(|event| format!("tools.{event}"));
    let tools = tools.iter().map(|key| (key.as_str(), "true"));
    for (key, value) in firmware.into_iter().chain(tools) {
        let attributes = [("ovf:required", "false"), ("vmw:key", key), ("vmw:value", value)];
        xml.empty("vmw:Config", &attributes)?;
    }
    Ok(())
}
