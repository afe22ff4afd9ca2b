//! Checks that the plugin contract does not change unnoticed: the ABI and the schemas of its documents have a
//! fingerprint that the changelog records in the section of their version.

use std::{collections::BTreeMap, fs};

use build_image_plugin_api::ABI_VERSION;
use sha2::{Digest as _, Sha256};

use crate::harness::root;

/// The ABI and every schema, by path.
fn contract() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut take = |path: String| {
        files.insert(path.clone(), fs::read(root().join(path)).unwrap());
    };
    take("plugin-api/src/wire/abi.rs".to_owned());
    for entry in fs::read_dir(root().join("plugin-api/schemas").join(ABI_VERSION)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        take(format!("plugin-api/schemas/{ABI_VERSION}/{name}"));
    }
    files
}

fn fingerprint() -> String {
    let mut digest = Sha256::new();
    for (path, content) in contract() {
        digest.update(format!("{path}\0{}\0", content.len()));
        digest.update(content);
    }
    digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_changelog_knows_the_contract_as_it_is() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let sections = changelog.split("## Plugin API").nth(1).expect("a part about the plugin API");
    let heading = format!("### [{ABI_VERSION}.");
    let section = sections.split("### ").map(|text| format!("### {text}"));
    let section = section.into_iter().find(|text| text.starts_with(&heading));
    let section = section.unwrap_or_else(|| panic!("no section `{heading}…` in CHANGELOG.md"));
    let expected = format!("Fingerprint of the contract: `{}`", fingerprint());
    assert!(
        section.contains(&expected),
        "wire/abi.rs or a schema changed: say what in the section `{heading}…` of \"Plugin API\" in \
         CHANGELOG.md, with this line:\n- {expected}"
    );
}
