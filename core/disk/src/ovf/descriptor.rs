//! Writes the descriptor of an OVF package. Source: DMTF DSP0243 1.1.0; names in the `vmw` namespace as
//! VMware's own tools write them. The XML schemas of the DMTF are not part of this project, so tests check
//! that the descriptor is well-formed and has the expected content, not that it is valid against the schema.

use std::io;

use super::Appliance;
use super::hardware::hardware;
use super::xml::Xml;
use crate::error::{Error, Kind};

/// The XML namespaces of an envelope.
const NAMESPACES: [(&str, &str); 6] = [
    ("xmlns", "http://schemas.dmtf.org/ovf/envelope/1"),
    ("xmlns:ovf", "http://schemas.dmtf.org/ovf/envelope/1"),
    (
        "xmlns:rasd",
        "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData",
    ),
    (
        "xmlns:vssd",
        "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData",
    ),
    ("xmlns:vmw", "http://www.vmware.com/schema/ovf"),
    ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
];
/// The format of the disk.
const STREAM_OPTIMIZED: &str =
    "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";

/// The disk of a package. Sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFile<'a> {
    /// The name of its file.
    pub name: &'a str,
    /// The length of its file.
    pub length: u64,
    /// The size the guest sees.
    pub capacity: u64,
    /// The size of the disk when it is unpacked.
    pub populated: u64,
}

impl Appliance {
    /// Builds the descriptor of a package with this machine and a streamOptimized VMDK.
    ///
    /// Refuses texts that XML cannot contain, sizes without a default, and duplicate names.
    pub fn descriptor(&self, disk: DiskFile<'_>) -> Result<Vec<u8>, Error> {
        self.check()?;
        let mut xml = Xml::new();
        xml.group("Envelope", &NAMESPACES, |xml| self.envelope(xml, disk)).map_err(|source| {
            Error::new(Kind::Io, "cannot write the OVF descriptor").caused_by(source)
        })?;
        Ok(xml.finish())
    }

    fn envelope(&self, xml: &mut Xml, disk: DiskFile<'_>) -> io::Result<()> {
        let length = disk.length.to_string();
        xml.group("References", &[], |xml| {
            let file = [("ovf:href", disk.name), ("ovf:id", "file1"), ("ovf:size", &length)];
            xml.empty("File", &file)
        })?;
        xml.group("DiskSection", &[], |xml| {
            xml.text("Info", "Virtual disk information")?;
            let attributes = [
                ("ovf:capacity", disk.capacity.to_string()),
                ("ovf:capacityAllocationUnits", "byte".into()),
                ("ovf:diskId", "vmdisk1".into()),
                ("ovf:fileRef", "file1".into()),
                ("ovf:format", STREAM_OPTIMIZED.into()),
                ("ovf:populatedSize", disk.populated.to_string()),
            ];
            xml.empty("Disk", &attributes.each_ref().map(|(name, value)| (*name, value.as_str())))
        })?;
        xml.group("NetworkSection", &[], |xml| {
            xml.text("Info", "The list of logical networks")?;
            for network in &self.networks {
                xml.group("Network", &[("ovf:name", &network.name)], |xml| {
                    xml.text("Description", &network.description)
                })?;
            }
            Ok(())
        })?;
        self.deployment_options(xml)?;
        xml.group("VirtualSystem", &[("ovf:id", &self.name)], |xml| self.system(xml))
    }

    fn deployment_options(&self, xml: &mut Xml) -> io::Result<()> {
        if self.sizes.is_empty() {
            return Ok(());
        }
        xml.group("DeploymentOptionSection", &[], |xml| {
            xml.text("Info", "The list of sizes")?;
            for size in &self.sizes {
                let both = [("ovf:default", "true"), ("ovf:id", size.id.as_str())];
                let attributes = if size.default { &both[..] } else { &both[1..] };
                xml.group("Configuration", attributes, |xml| {
                    xml.text("Label", &size.label)?;
                    xml.text("Description", &size.description)
                })?;
            }
            Ok(())
        })
    }

    fn system(&self, xml: &mut Xml) -> io::Result<()> {
        xml.text("Info", "A virtual machine")?;
        xml.text("Name", &self.name)?;
        if !self.annotation.is_empty() {
            xml.group("AnnotationSection", &[], |xml| {
                xml.text("Info", "A human-readable annotation")?;
                xml.text("Annotation", &self.annotation)
            })?;
        }
        if let Some(eula) = &self.eula {
            xml.group("EulaSection", &[], |xml| {
                xml.text("Info", "An end-user licence agreement")?;
                xml.text("License", eula)
            })?;
        }
        xml.group("ProductSection", &[], |xml| self.product(xml))?;
        let linux = [("ovf:id", "100"), ("vmw:osType", "other3xLinux64Guest")];
        xml.group("OperatingSystemSection", &linux, |xml| {
            xml.text("Info", "The kind of installed guest operating system")
        })?;
        hardware(self, xml)
    }

    fn product(&self, xml: &mut Xml) -> io::Result<()> {
        let product = &self.product;
        xml.text("Info", "Information about the installed software")?;
        xml.text("Product", &product.name)?;
        xml.text("Vendor", &product.vendor)?;
        xml.text("Version", &product.version)?;
        xml.text("FullVersion", &product.full_version)?;
        let mut category = None;
        for property in &self.properties {
            if category != Some(&property.category) {
                xml.text("Category", &property.category)?;
                category = Some(&property.category);
            }
            let attributes = [
                ("ovf:key", property.key.as_str()),
                ("ovf:type", "string"),
                ("ovf:userConfigurable", "true"),
                ("ovf:password", "true"),
            ];
            let attribute_count = if property.password { 4 } else { 3 };
            xml.group("Property", &attributes[..attribute_count], |xml| {
                xml.text("Label", &property.label)?;
                xml.text("Description", &property.description)
            })?;
        }
        Ok(())
    }
}
