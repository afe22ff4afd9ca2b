//! Defines the virtual machine in the OVA: sizes to choose from, and values to set at deployment.

use std::ops::RangeInclusive;

use build_image_plugin_api::{
    Error, Ovf, OvfConfiguration, OvfProperty, Result, Settings,
    document::Build,
    ready::appliance::{machine, version_of},
};

use crate::describe::{CPUS, HARDWARE, MEMORY, PROPERTIES};

/// Sizes: id, label, processors, memory in MiB, reserved processor time in MHz.
const SIZES: [(&str, &str, u32, u32, u32); 4] = [
    ("singlecpu", "1 CPU, 2 GB", 1, 2048, 2000),
    ("dualcpu", "2 CPUs, 4 GB", 2, 4096, 4000),
    ("quadcpu", "4 CPUs, 8 GB", 4, 8192, 8000),
    ("octalcpu", "8 CPUs, 16 GB", 8, 16384, 16000),
];
/// Size that is used when the user does not choose.
const DEFAULT_SIZE: &str = "dualcpu";

/// Properties: key, label, description, category, whether it is a password.
const PROPERTY_ROWS: [(&str, &str, &str, &str, bool); 6] = [
    (
        "net.mgmt.addr",
        "Management address",
        "IPv4 address with prefix length, such as 192.0.2.10/24",
        "Network",
        false,
    ),
    ("net.mgmt.gw", "Management gateway", "IPv4 address of the default gateway", "Network", false),
    (
        "net.mgmt.addr6",
        "Management address (IPv6)",
        "IPv6 address with prefix length, such as 2001:db8::10/64",
        "Network",
        false,
    ),
    (
        "net.mgmt.gw6",
        "Management gateway (IPv6)",
        "IPv6 address of the default gateway",
        "Network",
        false,
    ),
    ("user.root.pwd", "Password of root", "Password, or its hash", "Users", true),
    ("user.admin.pwd", "Password of admin", "Password, or its hash", "Users", true),
];
/// Suffix of the keys for IPv6.
const IPV6: char = '6';

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;
/// Hardware version of a machine for any system: ESXi 6.5 (VMware, "Virtual machine hardware versions", KB 1003746).
const HARDWARE_VERSION: u32 = 13;

/// What the settings say about the machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    cpus: Option<u32>,
    memory_mib: Option<u32>,
    hardware_version: Option<u32>,
}

impl Machine {
    /// Reads the settings.
    ///
    /// # Errors
    /// When a value is none that VMware supports (VMware Configuration Maximums, ESXi 8.0).
    pub(crate) fn of(settings: &Settings) -> Result<Self> {
        let mib = settings.integer(MEMORY);
        if let Some(bytes) = mib.filter(|bytes| !bytes.is_multiple_of(4 * MIB)) {
            return Err(Error::config(format!(
                "{MEMORY}: {bytes} bytes are not a multiple of 4 MiB"
            ))
            .with_hint("round it, for example to 4GiB"));
        }
        Ok(Self {
            cpus: within(CPUS, settings.integer(CPUS), 1..=768, "")?,
            memory_mib: within(MEMORY, mib.map(|bytes| bytes / MIB), 4..=24 << 20, " MiB")?,
            hardware_version: within(HARDWARE, settings.integer(HARDWARE), 7..=22, "")?,
        })
    }

    /// Whether the machine has a size, so that there is none to choose at the deployment.
    fn has_size(&self) -> bool {
        self.cpus.is_some() || self.memory_mib.is_some()
    }
}

fn within(
    key: &str,
    value: Option<u64>,
    range: RangeInclusive<u32>,
    unit: &str,
) -> Result<Option<u32>> {
    let Some(value) = value else { return Ok(None) };
    let (first, last) = (range.start(), range.end());
    u32::try_from(value).ok().filter(|value| range.contains(value)).map(Some).ok_or_else(|| {
        Error::config(format!("{key}: {value}{unit} is not from {first} to {last}{unit}"))
            .with_hint(format!("choose another value for {key}"))
    })
}

/// Returns the machine of a build, with its licence and, if requested, its properties.
///
/// # Errors
/// When the product's version does not support properties.
pub(crate) fn ovf(
    build: &Build,
    own: &Machine,
    eula: Option<String>,
    properties: bool,
) -> Result<Ovf> {
    let mut ovf = machine(build);
    let is_product = !build.product.is_empty();
    ovf.configurations = if is_product && !own.has_size() { sizes() } else { Vec::new() };
    ovf.cpus = own.cpus.unwrap_or(ovf.cpus);
    ovf.memory_mib = own.memory_mib.unwrap_or(ovf.memory_mib);
    let usual = if is_product { ovf.hardware_version } else { HARDWARE_VERSION };
    ovf.hardware_version = own.hardware_version.unwrap_or(usual);
    ovf.eula = eula;
    if let (true, Some(product)) = (properties, &mut ovf.product) {
        product.properties = properties_of(build)?;
    }
    Ok(ovf)
}

/// Returns the sizes of a BIG-IP, which wants its processor time and memory for itself.
fn sizes() -> Vec<OvfConfiguration> {
    SIZES
        .map(|(id, label, cpus, memory_mib, reserved_mhz)| {
            OvfConfiguration::new(id.to_owned(), label.to_owned())
                .description(format!("{label} of memory, all of it reserved"))
                .cpus(cpus)
                .reserved_mhz(reserved_mhz)
                .memory_mib(memory_mib)
                .used_by_default(id == DEFAULT_SIZE)
        })
        .to_vec()
}

/// Returns the properties that the guest supports. An unknown product gets those that every version with
/// properties supports.
pub(crate) fn properties_of(build: &Build) -> Result<Vec<OvfProperty>> {
    let version = version_of(build);
    if let Some(14_010_301..14_010_401 | 15_010_100..15_010_300 | 16_000_100..16_000_102) = version
    {
        let text = build.product.get("version").map(String::as_str).unwrap_or_default();
        return Err(Error::config(format!("{PROPERTIES}: version {text} cannot take properties"))
            .with_hint(format!(
                "leave {PROPERTIES} out, or use 14.1.4.1, 15.1.3, 16.0.1.2 or newer"
            )));
    }
    let ipv6 = matches!(
        version,
        Some(14_010_401..15_000_000 | 15_010_300..16_000_000 | 16_000_102..17_000_000)
    );
    let rows = PROPERTY_ROWS.into_iter().filter(|(key, ..)| ipv6 || !key.ends_with(IPV6));
    let property =
        |(key, label, description, category, password): (&str, &str, &str, &str, bool)| {
            OvfProperty::new(key.to_owned(), label.to_owned())
                .description(description.to_owned())
                .category(category.to_owned())
                .password(password)
        };
    Ok(rows.map(property).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn build(version: &str) -> Build {
        let product = [("name", "BIG-IP"), ("version", version), ("build", "0.0.1")];
        Build::default().disk_name("disk").product(product)
    }

    #[test]
    fn properties_are_those_the_version_understands() {
        for (version, count) in [
            ("14.1.0.3", Some(4)),
            ("14.1.3", Some(4)),
            ("14.1.3.1", None),
            ("14.1.4", None),
            ("14.1.4.1", Some(6)),
            ("15.0.0", Some(4)),
            ("15.1.0.5", Some(4)),
            ("15.1.1", None),
            ("15.1.2.1", None),
            ("15.1.3", Some(6)),
            ("16.0.0", Some(4)),
            ("16.0.1", None),
            ("16.0.1.1", None),
            ("16.0.1.2", Some(6)),
            ("16.1.4", Some(6)),
            ("17.0.0", Some(4)),
        ] {
            let found = properties_of(&build(version));
            assert_eq!(found.as_ref().ok().map(Vec::len), count, "{version}: {found:?}");
            if let Err(error) = found {
                assert!(error.message.contains(version) && error.hint.is_some(), "{error}");
            }
        }
        assert_eq!(properties_of(&Build::default()).map(|rows| rows.len()), Ok(4));
    }

    #[test]
    fn passwords_are_not_shown_and_there_is_one_default_size() {
        let own = Machine::default();
        let ovf = ovf(&build("16.1.4"), &own, Some("text".into()), true).unwrap();
        let sizes: Vec<&str> =
            ovf.configurations.iter().filter(|size| size.default).map(|size| &*size.id).collect();
        assert_eq!(sizes, ["dualcpu"]);
        let properties = ovf.product.unwrap().properties;
        let dark: Vec<&str> = properties
            .iter()
            .filter(|property| property.password)
            .map(|property| &*property.key)
            .collect();
        assert_eq!(dark, ["user.root.pwd", "user.admin.pwd"]);
        assert_eq!(ovf.eula.as_deref(), Some("text"));
    }

    #[test]
    fn the_machine_is_that_of_the_settings_and_a_foreign_system_reserves_nothing() {
        let big_ip = build("16.1.4");
        let foreign = Build::default().disk_name("disk");
        for (settings, build, expected) in [
            (json!({}), &big_ip, Some((4, 2, 4096, 13))),
            (json!({CPUS: 8}), &big_ip, Some((0, 8, 4096, 13))),
            (json!({HARDWARE: 19}), &big_ip, Some((4, 2, 4096, 19))),
            (json!({}), &foreign, Some((0, 2, 4096, 13))),
            (json!({CPUS: 1, MEMORY: 512 * MIB, HARDWARE: 10}), &foreign, Some((0, 1, 512, 10))),
            (json!({CPUS: 0}), &foreign, None),
            (json!({CPUS: 769}), &foreign, None),
            (json!({MEMORY: 4 * MIB + 1}), &foreign, None),
            (json!({MEMORY: 0}), &foreign, None),
            (json!({HARDWARE: 6}), &foreign, None),
        ] {
            let case = settings.to_string();
            let values = settings.as_object().unwrap().clone();
            let own = Machine::of(&Settings::from_values(values.into_iter().collect()));
            let made = own.and_then(|own| ovf(build, &own, None, false));
            let found = made.as_ref().ok().map(|ovf| {
                (ovf.configurations.len(), ovf.cpus, ovf.memory_mib, ovf.hardware_version)
            });
            assert_eq!(found, expected, "{case}");
            if let Err(error) = made {
                assert!(error.message.contains("OVA_") && error.hint.is_some(), "{error}");
            }
        }
    }
}
