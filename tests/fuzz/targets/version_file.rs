//! Fuzzes the text files of an installer ISO: version file, isolinux.cfg, ve.info.json, and what is derived from
//! them.
#![no_main]

use std::collections::BTreeMap;

use build_image_bigip::{
    Facts, Pass, Shape, VeInfo, compute, file_stem, iso_name, kernel_arguments, seed,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let shapes = [(false, 1), (false, 2), (true, 1), (true, 2)];
    let shapes = shapes.map(|(all_modules, slots)| Shape { all_modules, slots });
    if let Ok(facts) = Facts::parse("/BIGIP1500", &text) {
        for name in
            [iso_name(&facts), file_stem(&facts, shapes[0], "qcow2"), seed(&facts, shapes[3])]
        {
            assert!(
                !name.is_empty() && name.len() < 255 && !name.contains(['/', '\0']),
                "{name:?}"
            );
            assert!(!name.starts_with(['.', '-']), "{name:?}");
        }
        let _ = (facts.document(), facts.product_name());
    }
    for pass in [Pass::Rtm, Pass::Hotfix] {
        if let Ok(arguments) = kernel_arguments(&text, pass) {
            assert!(!arguments.contains('\n'), "one line");
        }
    }
    if let Ok(info) = VeInfo::parse(input) {
        let larger: BTreeMap<String, u64> =
            [("var".to_owned(), 1 << 26), ("log".to_owned(), 9000)].into();
        for shape in shapes {
            for overrides in [&BTreeMap::new(), &larger] {
                if let Ok(sizes) = compute(&info, shape, overrides, true) {
                    assert!(sizes.gib >= sizes.least_gib);
                }
            }
        }
    }
});
