//! Tests descriptors by reading them with Python's XML parser and xmllint.

use std::fs;

use super::{Appliance, DiskFile, ManifestDigest, Network, Product, Property, Size};
use crate::Kind;
use crate::testing::{program, run};

const DISK: DiskFile<'_> =
    DiskFile { name: "x & y-disk1.vmdk", length: 123, capacity: 1 << 30, populated: 1 << 20 };

fn product() -> Product {
    Product {
        name: "Thing <&\"'> Ω".into(),
        vendor: "A & B".into(),
        version: "1.2".into(),
        full_version: "1.2-0.3".into(),
    }
}

fn size(id: &str, cpus: u32, default: bool) -> Size {
    Size {
        id: id.into(),
        label: format!("{cpus} CPUs"),
        description: format!("{cpus} CPUs and {} MB", cpus * 2048),
        cpus,
        memory_mib: cpus * 2048,
        cpu_reservation_mhz: cpus * 2000,
        default,
    }
}

fn property(key: &str, password: bool) -> Property {
    Property {
        key: key.into(),
        category: if password { "Users" } else { "Network" }.into(),
        label: format!("label of {key}"),
        description: "with\nline ends\tand <tags>".into(),
        password,
    }
}

fn full() -> Appliance {
    Appliance {
        annotation: "text ]]> <!-- more".into(),
        eula: Some("You & we\n\nagree.".into()),
        uefi: true,
        sizes: vec![size("singlecpu", 1, false), size("dualcpu", 2, true)],
        properties: vec![
            property("net.mgmt.addr", false),
            property("net.mgmt.addr6", false),
            property("user.root.pwd", true),
        ],
        ..Appliance::new("x & y", product())
    }
}

#[test]
fn what_goes_in_comes_out_of_another_parser() {
    let Some(python) = program("python3") else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.ovf");
    fs::write(&path, full().descriptor(DISK).unwrap()).unwrap();
    let script = r#"
import sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
O = '{http://schemas.dmtf.org/ovf/envelope/1}'
R = '{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}'
V = '{http://www.vmware.com/schema/ovf}'
assert root.tag == O + 'Envelope'
sections = [e.tag.replace(O, '') for e in root]
assert sections == ['References', 'DiskSection', 'NetworkSection', 'DeploymentOptionSection', 'VirtualSystem'], sections
file = root.find(O + 'References/' + O + 'File')
assert file.get(O + 'href') == 'x & y-disk1.vmdk' and file.get(O + 'size') == '123'
disk = root.find(O + 'DiskSection/' + O + 'Disk')
assert disk.get(O + 'capacity') == str(1 << 30) and disk.get(O + 'fileRef') == file.get(O + 'id')
assert disk.get(O + 'format').endswith('#streamOptimized')
networks = [e.get(O + 'name') for e in root.iter(O + 'Network')]
assert networks == ['Management', 'Internal', 'External', 'HA'], networks
sizes = [(e.get(O + 'id'), e.get(O + 'default')) for e in root.iter(O + 'Configuration')]
assert sizes == [('singlecpu', None), ('dualcpu', 'true')], sizes
system = root.find(O + 'VirtualSystem')
assert system.get(O + 'id') == 'x & y'
text = lambda path: system.find('/'.join(O + part for part in path.split('/'))).text
assert text('AnnotationSection/Annotation') == 'text ]]> <!-- more'
assert text('EulaSection/License') == 'You & we\n\nagree.'
assert text('ProductSection/Product') == 'Thing <&"\'> Ω'
assert text('ProductSection/FullVersion') == '1.2-0.3'
os = system.find(O + 'OperatingSystemSection')
assert os.get(O + 'id') == '100' and os.get(V + 'osType') == 'other3xLinux64Guest'
product = [(e.tag.replace(O, ''), e.get(O + 'key'), e.get(O + 'password')) for e in system.find(O + 'ProductSection')][5:]
assert product == [('Category', None, None), ('Property', 'net.mgmt.addr', None), ('Property', 'net.mgmt.addr6', None),
    ('Category', None, None), ('Property', 'user.root.pwd', 'true')], product
assert all(e.get(O + 'userConfigurable') == 'true' for e in system.iter(O + 'Property'))
hardware = system.find(O + 'VirtualHardwareSection')
assert hardware.get(O + 'transport') == 'com.vmware.guestInfo'
item = lambda e, name: e.findtext(R + name)
items = [(e.get(O + 'configuration'), item(e, 'ResourceType'), item(e, 'VirtualQuantity'), item(e, 'Reservation'))
    for e in hardware.iter(O + 'Item')]
assert items == [('singlecpu', '3', '1', '2000'), ('singlecpu', '4', '2048', '2048'),
    ('dualcpu', '3', '2', '4000'), ('dualcpu', '4', '4096', '4096'),
    (None, '6', None, None), (None, '17', None, None)] + [(None, '10', None, None)] * 4, items
assert [item(e, 'ResourceSubType') for e in hardware.iter(O + 'Item') if item(e, 'ResourceSubType')] == ['lsilogic'] + ['VmxNet3'] * 4
assert [item(e, 'Connection') for e in hardware.iter(O + 'Item') if item(e, 'Connection')] == networks
for e in hardware.iter(O + 'Item'):
    names = [c.tag for c in e]
    assert names == sorted(names), names
ids = [item(e, 'InstanceID') for e in hardware.iter(O + 'Item')]
assert ids == ['1', '2', '1', '2', '3', '4', '5', '6', '7', '8'], ids
config = {e.get(V + 'key'): e.get(V + 'value') for e in hardware.iter(V + 'Config')}
assert len(config) == 5 and config['firmware'] == 'efi' and config['tools.afterPowerOn'] == 'true', config
"#;
    run(&python, &[&"-c", &script, &path]);
}

#[test]
fn descriptors_are_well_formed() {
    let Some(xmllint) = program("xmllint") else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.ovf");
    for appliance in [full(), Appliance::new("plain", Product::default())] {
        fs::write(&path, appliance.descriptor(DISK).unwrap()).unwrap();
        run(&xmllint, &[&"--noout", &path]);
    }
}

#[test]
fn without_sizes_nothing_is_reserved_and_no_choice_is_offered() {
    let text = Appliance::new("plain", product()).descriptor(DISK).unwrap();
    let text = String::from_utf8(text).unwrap();
    for absent in ["Reservation", "DeploymentOption", "configuration", "Eula", "efi", "Property "] {
        assert!(!text.contains(absent), "{absent}");
    }
    assert!(text.contains("<rasd:VirtualQuantity>4096</rasd:VirtualQuantity>"));
    assert!(text.contains("vmx-10"));
}

#[test]
fn what_no_descriptor_may_hold_is_refused() {
    let mut two = full();
    two.sizes[0].default = true;
    let mut none = full();
    none.sizes[1].default = false;
    let mut same = full();
    same.networks.push(Network { name: "HA".into(), description: String::new() });
    let mut nameless = full();
    nameless.properties[0].key.clear();
    let mut control = full();
    control.product.vendor = "bell \u{7}".into();
    let mut none_character = full();
    none_character.eula = Some("\u{ffff}".into());
    for (what, appliance) in [
        ("two defaults", two),
        ("no default", none),
        ("two networks", same),
        ("no name", nameless),
        ("control character", control),
        ("no character", none_character),
    ] {
        assert_eq!(appliance.descriptor(DISK).unwrap_err().kind(), Kind::Unsupported, "{what}");
    }
}

/// Source: the example in DSP0243 1.1.0, section 5.1.
#[test]
fn manifests_look_as_in_the_specification() {
    let got = ManifestDigest::Sha1.manifest(&[
        ("package.ovf", "237de026fb285b85528901da058475e56034da95"),
        ("vmdisk1.vmdk", "393a66df214e192ffbfedb78528b5be75cc9e1c3"),
    ]);
    let want = "SHA1(package.ovf)= 237de026fb285b85528901da058475e56034da95\n\
                SHA1(vmdisk1.vmdk)= 393a66df214e192ffbfedb78528b5be75cc9e1c3\n";
    assert_eq!(String::from_utf8(got).unwrap(), want);
    assert!(ManifestDigest::Sha256.manifest(&[("a", "b")]).starts_with(b"SHA256(a)= b"));
}
