//! Judges properties of the file that are readable without loading it.

use super::Judgement;
use crate::{conformance::table::Evidence, wire::linkage::Linkage};

/// The symbol that a plugin exports.
const SYMBOL: &str = "_1as_0lib_1header_0root_bmodule_bloader";
/// A symbol that every Rust library that unwinds imports from the C compiler's runtime.
const UNWIND: &str = "_Unwind_RaiseException";
/// Libraries of every system, by the prefix of their names.
const SYSTEM: [&str; 7] =
    ["libc.so", "libm.so", "libgcc_s.so", "ld-linux", "libdl.so", "libpthread.so", "librt.so"];

fn with(evidence: &Evidence, judge: impl FnOnce(&Linkage) -> Judgement) -> Judgement {
    evidence.linkage.as_ref().map_or_else(|| Judgement::Skip("it is a program".to_owned()), judge)
}

pub(in crate::conformance) fn symbols(evidence: &Evidence) -> Judgement {
    with(evidence, |linkage| {
        let others = linkage.exports.iter().filter(|name| *name != SYMBOL);
        let problems: Vec<String> =
            others.map(|name| format!("it exports `{name}` as well")).collect();
        if linkage.exports.len() == problems.len() {
            return Judgement::fail("it does not export the entry symbol");
        }
        Judgement::unless(&problems, "one symbol")
    })
}

pub(in crate::conformance) fn libraries(evidence: &Evidence) -> Judgement {
    with(evidence, |linkage| {
        let others = linkage
            .needed
            .iter()
            .filter(|name| !SYSTEM.iter().any(|system| name.starts_with(system)));
        let problems: Vec<String> = others.map(|name| format!("it needs `{name}`")).collect();
        Judgement::unless(&problems, linkage.needed.join(", "))
    })
}

pub(in crate::conformance) fn unwind(evidence: &Evidence) -> Judgement {
    with(evidence, |linkage| {
        if linkage.imports.iter().any(|name| name == UNWIND) {
            Judgement::pass("it unwinds")
        } else {
            Judgement::fail("it cannot unwind: a panic in it would end the host")
        }
    })
}
