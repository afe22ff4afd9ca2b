//! Computes the sizes of the disk and its volumes.

use std::collections::BTreeMap;

use build_image_disk::installer::{Problem, Refusal};

use crate::{Result, VeInfo, Volumes};

/// Swap partition outside the volume group, MiB.
const SWAP_PARTITION: u64 = 10;
/// Size of the log volume of a two-slot `ltm` image, MiB.
const TWO_SLOT_LOG: u64 = 1000;
/// Size of two-slot images including the reserve, in percent.
const TWO_SLOT_RESERVE: u64 = 115;
/// Largest size of a volume, MiB: 64 TiB, far more than any disk of a virtual machine.
const LARGEST: u64 = 64 << 20;
/// Volumes that a user may enlarge.
const ADJUSTABLE: [&str; 5] = ["appdata", "config", "log", "shared", "var"];

/// Larger volume sizes that the user requested, MiB by volume.
pub type Overrides = BTreeMap<String, u64>;

/// The module set and the slots of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// All modules, or `ltm` only.
    pub all_modules: bool,
    /// Install slots, 1 or 2.
    pub slots: u64,
}

/// Sizes of the volumes and the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Sizes for the installer, MiB.
    pub volumes: Volumes,
    /// Swap partition, MiB.
    pub swap_partition: u64,
    /// The whole disk, GiB, before any limit of the provider is applied.
    pub gib: u64,
    /// The smallest disk that holds everything, GiB: without the reserve of two-slot images.
    pub least_gib: u64,
}

/// Computes the sizes of an image.
///
/// # Errors
/// Overrides that name no adjustable volume or do not enlarge it; sizes outside the plausible range of the shape.
pub fn compute(info: &VeInfo, shape: Shape, overrides: &Overrides, waagent: bool) -> Result<Sizes> {
    let mut volumes = base(info, shape, waagent);
    check_largest(info.mos, &volumes)?;
    apply(&mut volumes, overrides)?;
    // No sum below can overflow: a dozen sizes of at most 2²⁶ MiB each, times two slots.
    let slot = volumes.config + volumes.root + volumes.usr + volumes.var + volumes.waagent;
    let total = volumes.boot
        + SWAP_PARTITION
        + volumes.swap
        + info.mos
        + shape.slots * slot
        + volumes.appdata
        + volumes.shared
        + volumes.log;
    let reserved = if shape.slots == 1 { total } else { total * TWO_SLOT_RESERVE / 100 };
    let gib = reserved.div_ceil(1024);
    if overrides.is_empty() {
        check_range(shape, gib)?;
    }
    Ok(Sizes { volumes, swap_partition: SWAP_PARTITION, gib, least_gib: total.div_ceil(1024) })
}

fn base(info: &VeInfo, shape: Shape, waagent: bool) -> Volumes {
    let (default, micro) = (info.default, info.micro);
    let slot = if shape.all_modules { default } else { micro };
    let one = shape.slots == 1;
    Volumes {
        boot: default.boot,
        swap: default.swap,
        root: slot.root,
        usr: slot.usr,
        config: slot.config,
        var: slot.var,
        log: match (shape.all_modules, one) {
            (true, _) => default.log,
            (false, true) => micro.log,
            (false, false) => TWO_SLOT_LOG,
        },
        appdata: match (shape.all_modules, one) {
            (true, true) => info.all_1slot_appdata,
            (true, false) => default.appdata,
            (false, _) => micro.appdata,
        },
        shared: if !shape.all_modules && one { micro.shared } else { default.shared },
        waagent: if waagent { default.waagent } else { 0 },
    }
}

/// Refuses sizes from the ISO that no disk can have.
fn check_largest(mos: u64, volumes: &Volumes) -> Result<()> {
    let Volumes { appdata, boot, config, log, root, shared, swap, usr, var, waagent } = *volumes;
    let named = [
        ("appdata", appdata),
        ("boot", boot),
        ("config", config),
        ("log", log),
        ("mos", mos),
        ("root", root),
        ("shared", shared),
        ("swap", swap),
        ("usr", usr),
        ("var", var),
        ("waagent", waagent),
    ];
    let Some((name, size)) = named.into_iter().find(|(_, size)| *size > LARGEST) else {
        return Ok(());
    };
    Err(Refusal::source(format!(
        "the ISO asks for {size} MiB for volume `{name}`, at most {LARGEST} are possible"
    ))
    .hint("the ISO's ve.info.json is damaged, use another copy of the ISO"))
}

fn apply(volumes: &mut Volumes, overrides: &Overrides) -> Result<()> {
    let mut problems = Vec::new();
    for (name, &size) in overrides {
        let volume = match name.to_lowercase().as_str() {
            "appdata" => &mut volumes.appdata,
            "config" => &mut volumes.config,
            "log" => &mut volumes.log,
            "shared" => &mut volumes.shared,
            "var" => &mut volumes.var,
            _ => {
                problems.push(
                    Problem::new(format!(
                        "UPDATE_LV_SIZES: there is no adjustable volume `{name}`"
                    ))
                    .hint(format!("adjustable are {}", ADJUSTABLE.join(", "))),
                );
                continue;
            }
        };
        if size > LARGEST {
            problems.push(
                Problem::new(format!("UPDATE_LV_SIZES: `{name}` is to be {size} MiB"))
                    .hint(format!("sizes are MiB, at most {LARGEST} (64 TiB) are possible")),
            );
        } else if size <= *volume {
            problems.push(
                Problem::new(format!(
                    "UPDATE_LV_SIZES: `{name}` is to be {size} MiB, but it has {volume} MiB already"
                ))
                .hint("volumes can only grow"),
            );
        } else {
            *volume = size;
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Refusal::settings("volume sizes are not acceptable").with_problems(problems))
}

fn check_range(shape: Shape, gib: u64) -> Result<()> {
    let range = match (shape.all_modules, shape.slots) {
        (false, 1) => 7..=20,
        (false, _) => 32..=42,
        (true, 1) => 47..=65,
        (true, _) => 70..=90,
    };
    if range.contains(&gib) {
        return Ok(());
    }
    Err(Refusal::source(format!(
            "the ISO asks for a disk of {gib} GiB, which is outside the sane range of {} to {} GiB for this image",
            range.start(),
            range.end()
        )).hint("check the ISO's ve.info.json, or set UPDATE_LV_SIZES to switch this check off"))
}

#[cfg(test)]
mod tests {
    use build_image_disk::installer::Fault;

    use super::*;

    /// Sizes of version 13.1.0.2, which had no separate size for one slot with all modules.
    fn old_sizes() -> VeInfo {
        let new = VeInfo::built_in();
        let default = Volumes { config: 3243, shared: 20_480, usr: 4102, ..new.default };
        let micro = Volumes { usr: 4102, ..new.micro };
        VeInfo { default, micro, all_1slot_appdata: default.appdata, ..new }
    }

    /// The known sizes are those of the previous tool, with the same constants.
    #[test]
    fn the_known_constants_give_the_known_sizes() {
        let new = VeInfo::built_in();
        let old = old_sizes();
        for (info, all_modules, slots, total, plain, with_waagent) in [
            (&new, false, 1, 9693, 10, 11),
            (&new, false, 2, 37_036, 37, 39),
            (&new, true, 1, 52_284, 52, 53),
            (&new, true, 2, 77_503, 76, 78),
            (&old, false, 1, 8521, 9, 10),
            (&old, false, 2, 40_229, 40, 42),
            (&old, true, 1, 61_361, 60, 61),
            (&old, true, 2, 83_050, 82, 84),
        ] {
            let shape = Shape { all_modules, slots };
            let of = |waagent| compute(info, shape, &Overrides::new(), waagent).unwrap();
            let sizes = of(false);
            assert_eq!((sizes.gib, of(true).gib), (plain, with_waagent), "{shape:?} {total}");
            let volumes = sizes.volumes;
            let slot = volumes.config + volumes.root + volumes.usr + volumes.var;
            let shared = volumes.appdata + volumes.shared + volumes.log;
            let sum = volumes.boot + 10 + volumes.swap + info.mos + slots * slot + shared;
            assert_eq!(if slots == 1 { sum } else { sum * 115 / 100 }, total, "{shape:?}");
            assert_eq!(sizes.least_gib, sum.div_ceil(1024));
        }
    }

    #[test]
    fn every_volume_comes_from_its_set() {
        let info = VeInfo::built_in();
        let of = |all_modules, slots| {
            let volumes = base(&info, Shape { all_modules, slots }, false);
            let Volumes { appdata, boot, config, log, root, shared, swap, usr, var, .. } = volumes;
            [appdata, boot, config, log, root, shared, swap, usr, var]
        };
        assert_eq!(of(false, 1), [30, 200, 489, 500, 440, 500, 1000, 5274, 950]);
        assert_eq!(of(false, 2), [30, 200, 489, 1000, 440, 15_360, 1000, 5274, 950]);
        assert_eq!(of(true, 1), [21_409, 200, 2219, 3000, 440, 15_360, 1000, 5274, 3072]);
        assert_eq!(of(true, 2), [25_514, 200, 2219, 3000, 440, 15_360, 1000, 5274, 3072]);
    }

    fn overrides(pairs: &[(&str, u64)]) -> Overrides {
        pairs.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect()
    }

    #[test]
    fn overrides_grow_volumes() {
        let info = VeInfo::built_in();
        let ltm1 = Shape { all_modules: false, slots: 1 };
        let all2 = Shape { all_modules: true, slots: 2 };
        let many = [
            ("appdata", 32_000),
            ("config", 3500),
            ("log", 4500),
            ("shared", 22_000),
            ("var", 5500),
        ];
        for (shape, requested, gib) in
            [(ltm1, &[("var", 1500)][..], 11), (ltm1, &[("VAR", 1500)], 11), (all2, &many, 101)]
        {
            let sizes = compute(&info, shape, &overrides(requested), false).unwrap();
            assert_eq!(sizes.gib, gib, "{requested:?}");
        }
        let volumes = compute(&info, all2, &overrides(&many), false).unwrap().volumes;
        let Volumes { appdata, config, log, shared, var, .. } = volumes;
        assert_eq!([appdata, config, log, shared, var], [32_000, 3500, 4500, 22_000, 5500]);
    }

    #[test]
    fn overrides_that_do_not_grow_or_do_not_exist_are_all_reported() {
        let info = VeInfo::built_in();
        let ltm1 = Shape { all_modules: false, slots: 1 };
        // One MiB more than the volume has is enough; the same size is not.
        for (name, has) in
            [("appdata", 30), ("config", 489), ("log", 500), ("shared", 500), ("var", 950)]
        {
            compute(&info, ltm1, &overrides(&[(name, has + 1)]), false).unwrap();
            let error = compute(&info, ltm1, &overrides(&[(name, has)]), false).unwrap_err();
            let problem = &error.problems[0];
            assert!(problem.message.contains(&format!("it has {has} MiB already")), "{problem:?}");
        }
        let wrong =
            overrides(&[("var", 950), ("usr", 9000), ("log", u64::MAX), ("config", LARGEST + 1)]);
        assert_eq!(compute(&info, ltm1, &wrong, false).unwrap_err().problems.len(), 4);
        let largest: Overrides = ADJUSTABLE.map(|name| (name.to_owned(), LARGEST)).into();
        let sizes = compute(&info, Shape { all_modules: true, slots: 2 }, &largest, true).unwrap();
        assert!(sizes.gib > LARGEST / 1024);
    }

    /// Tests the plausible ranges from both sides; any override disables the check.
    #[test]
    fn sizes_outside_the_plausible_range_are_refused() {
        for (all_modules, slots, least, most) in
            [(false, 1, 7, 20), (false, 2, 32, 42), (true, 1, 47, 65), (true, 2, 70, 90)]
        {
            let shape = Shape { all_modules, slots };
            for (gib, sane) in [(least - 1, false), (least, true), (most, true), (most + 1, false)]
            {
                let checked = check_range(shape, gib);
                assert_eq!(checked.is_ok(), sane, "{shape:?} {gib}");
                if let Err(error) = checked {
                    assert!(error.message.contains(&format!("{least} to {most} GiB")), "{error}");
                }
            }
        }
        let huge = VeInfo { mos: 100_000, ..VeInfo::built_in() };
        let ltm1 = Shape { all_modules: false, slots: 1 };
        compute(&huge, ltm1, &Overrides::new(), false).unwrap_err();
        compute(&huge, ltm1, &overrides(&[("var", 951)]), false).unwrap();
    }

    #[test]
    fn a_hostile_size_in_the_iso_is_an_error_that_names_the_volume() {
        let shape = Shape { all_modules: true, slots: 2 };
        let of = |change: fn(&mut VeInfo)| {
            let mut info = VeInfo::built_in();
            change(&mut info);
            compute(&info, shape, &Overrides::new(), true).unwrap_err()
        };
        for (error, name) in [
            (of(|info| info.mos = u64::MAX), "`mos`"),
            (of(|info| info.default.var = u64::MAX), "`var`"),
            (of(|info| info.default.waagent = LARGEST + 1), "`waagent`"),
        ] {
            assert!(error.message.contains(name), "{error}");
            assert!(matches!(error.fault, Fault::Source), "{error}");
        }
    }
}
