//! Composes the names of files, and the start of the image's name, from facts and shape.

use crate::{Facts, Shape};

/// Last part of the artifacts directory: `ltm_1slot`.
#[must_use]
pub(crate) fn directory(modules: &str, slots: &str) -> String {
    format!("{modules}_{slots}slot")
}

/// The module set and slots in names: `LTM_1SLOT`, `LTM`, `ALL_1SLOT`, `ALL`.
fn sizing(shape: Shape) -> String {
    let modules = if shape.all_modules { "ALL" } else { "LTM" };
    if shape.slots == 1 { format!("{modules}_1SLOT") } else { modules.to_owned() }
}

fn product(facts: &Facts) -> String {
    let prefix = if facts.hotfix { "Hotfix-" } else { "" };
    format!("{prefix}{}", internal_name(facts))
}

/// Name of the disk inside a package: `BIGIP-15.0.0-0.0.39`.
#[must_use]
pub fn internal_name(facts: &Facts) -> String {
    let project = facts.project.as_ref().map(|project| format!("-{project}")).unwrap_or_default();
    format!("{}{project}-{}-{}", facts.product_name(), facts.version, facts.build)
}

/// File name of a downloaded ISO: `BIGIP-15.0.0-0.0.39.iso`.
#[must_use]
pub fn iso_name(facts: &Facts) -> String {
    format!("{}.iso", product(facts))
}

/// File name without suffix: `BIGIP-15.0.0-0.0.39.LTM_1SLOT.acme`, with the prefix `Hotfix-` for a hotfix.
#[must_use]
pub fn file_stem(facts: &Facts, shape: Shape, platform: &str) -> String {
    format!("{}.{}.{platform}", product(facts), sizing(shape))
}

/// Start of a composed image name: `F5-BIGIP-15.0.0-0.0.39-BYOL-ltm-1slot`.
#[must_use]
pub fn seed(facts: &Facts, shape: Shape) -> String {
    let modules = if shape.all_modules { "all" } else { "ltm" };
    format!("F5-{}-BYOL-{modules}-{}slot", product(facts), shape.slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_products_contain_project_and_hotfix() {
        let base = Facts {
            directory: "/BIGIP1414".into(),
            hotfix: false,
            product: "BIG-IP".into(),
            version: "14.1.4.4".into(),
            build: "0.27.4".into(),
            base_build: "0.0.4".into(),
            project: None,
            number: crate::Version::of(14_010_404),
            lines: Vec::new(),
        };
        let special = Facts { project: Some("x86".into()), ..base.clone() };
        let hotfix = Facts { hotfix: true, ..base.clone() };
        let all = Shape { all_modules: true, slots: 2 };
        let ltm = Shape { all_modules: false, slots: 1 };
        for (facts, shape, stem, start) in [
            (
                &base,
                ltm,
                "BIGIP-14.1.4.4-0.27.4.LTM_1SLOT.acme",
                "F5-BIGIP-14.1.4.4-0.27.4-BYOL-ltm-1slot",
            ),
            (
                &special,
                ltm,
                "BIGIP-x86-14.1.4.4-0.27.4.LTM_1SLOT.acme",
                "F5-BIGIP-x86-14.1.4.4-0.27.4-BYOL-ltm-1slot",
            ),
            (
                &hotfix,
                all,
                "Hotfix-BIGIP-14.1.4.4-0.27.4.ALL.acme",
                "F5-Hotfix-BIGIP-14.1.4.4-0.27.4-BYOL-all-2slot",
            ),
        ] {
            assert_eq!(file_stem(facts, shape, "acme"), stem);
            assert_eq!(seed(facts, shape), start);
        }
    }
}
