//! How large the disk and its volumes are.

use std::collections::BTreeMap;

use super::{VeInfo, Volumes};
use crate::error::{Error, Problem, Result, Stage};

/// Swap partition outside the volume group, MiB.
const SWAP_PARTITION: u64 = 10;
/// Log volume of a two-slot `ltm` image, MiB.
const TWO_SLOT_LOG: u64 = 1000;
/// Reserve of two-slot images, percent of the whole.
const TWO_SLOT_RESERVE: u64 = 115;
/// Largest size of a volume, MiB: 64 TiB, far above every disk of a virtual machine.
const LARGEST: u64 = 64 << 20;
/// Volumes a user may enlarge.
const ADJUSTABLE: [&str; 5] = ["appdata", "config", "log", "shared", "var"];

/// Larger volumes wanted by the user, MiB by volume.
pub type Overrides = BTreeMap<String, u64>;

/// Which image is built.
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
    /// The whole disk, GiB, before any limit of the provider.
    pub gib: u64,
}

/// Computes the sizes of an image.
///
/// # Errors
/// Overrides that name no adjustable volume or do not grow it; sizes outside what is sane for the shape.
pub fn compute(info: &VeInfo, shape: Shape, overrides: &Overrides, waagent: bool) -> Result<Sizes> {
    let mut volumes = base(info, shape, waagent);
    check_largest(info.mos, &volumes)?;
    apply(&mut volumes, overrides)?;
    // No sum below can overflow: a dozen sizes of at most 2²⁶ MiB each, times two slots.
    let slot = volumes.config + volumes.root + volumes.usr + volumes.var + volumes.waagent;
    let mut total = volumes.boot
        + SWAP_PARTITION
        + volumes.swap
        + info.mos
        + shape.slots * slot
        + volumes.appdata
        + volumes.shared
        + volumes.log;
    if shape.slots != 1 {
        total = total * TWO_SLOT_RESERVE / 100;
    }
    let gib = total.div_ceil(1024);
    if overrides.is_empty() {
        check_range(shape, gib)?;
    }
    Ok(Sizes { volumes, swap_partition: SWAP_PARTITION, gib })
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
            (true, true) => info.all_1slot_appdata.unwrap_or(default.appdata),
            (true, false) => default.appdata,
            (false, _) => micro.appdata,
        },
        shared: if !shape.all_modules && one { micro.shared } else { default.shared },
        waagent: if waagent { default.waagent } else { 0 },
    }
}

/// Sizes from the ISO that no disk can have.
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
    Err(Error::new(
        Stage::Source,
        format!("the ISO asks for {size} MiB for volume `{name}`, at most {LARGEST} are possible"),
    )
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
    Err(Error::several(Stage::Settings, "volume sizes are not acceptable", problems))
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
    Err(Error::new(
        Stage::Source,
        format!(
            "the ISO asks for a disk of {gib} GiB, which is outside the sane range of {} to {} GiB for this image",
            range.start(),
            range.end()
        ),
    )
    .hint("check the ISO's ve.info.json, or set UPDATE_LV_SIZES to switch this check off"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::Version;

    fn gib(version: u32, all: bool, slots: u64, waagent: bool) -> u64 {
        let info = VeInfo::built_in(Version::of(version)).unwrap();
        let shape = Shape { all_modules: all, slots };
        compute(&info, shape, &Overrides::new(), waagent).unwrap().gib
    }

    #[test]
    fn the_built_in_tables_give_the_known_sizes() {
        for (version, all, slots, plain, with_waagent) in [
            (14_010_000, false, 1, 10, 11),
            (14_010_000, false, 2, 37, 39),
            (14_010_000, true, 1, 52, 53),
            (14_010_000, true, 2, 76, 78),
            (13_010_002, false, 1, 9, 10),
            (13_010_002, false, 2, 40, 42),
            (13_010_002, true, 1, 60, 61),
            (13_010_002, true, 2, 82, 84),
        ] {
            assert_eq!(gib(version, all, slots, false), plain, "{version} {all} {slots}");
            assert_eq!(
                gib(version, all, slots, true),
                with_waagent,
                "{version} {all} {slots} waagent"
            );
        }
    }

    #[test]
    fn overrides_grow_volumes() {
        let info = VeInfo::built_in(Version::of(14_010_000)).unwrap();
        let of = |pairs: &[(&str, u64)]| -> Overrides {
            pairs.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect()
        };
        let ltm1 = Shape { all_modules: false, slots: 1 };
        assert_eq!(compute(&info, ltm1, &of(&[("var", 1500)]), false).unwrap().gib, 11);
        let all2 = Shape { all_modules: true, slots: 2 };
        let many = of(&[
            ("appdata", 32_000),
            ("config", 3500),
            ("log", 4500),
            ("shared", 22_000),
            ("var", 5500),
        ]);
        assert_eq!(compute(&info, all2, &many, false).unwrap().gib, 101);
    }

    #[test]
    fn overrides_that_do_not_grow_or_do_not_exist_are_all_reported() {
        let info = VeInfo::built_in(Version::of(14_010_000)).unwrap();
        let wrong: Overrides = [
            ("var".to_owned(), 950),
            ("usr".to_owned(), 9000),
            ("log".to_owned(), u64::MAX),
            ("config".to_owned(), LARGEST + 1),
        ]
        .into();
        let error =
            compute(&info, Shape { all_modules: false, slots: 1 }, &wrong, false).unwrap_err();
        assert_eq!(error.problems.len(), 4);
        let largest: Overrides = ADJUSTABLE.map(|name| (name.to_owned(), LARGEST)).into();
        let sizes = compute(&info, Shape { all_modules: true, slots: 2 }, &largest, true).unwrap();
        assert!(sizes.gib > LARGEST / 1024);
    }

    #[test]
    fn a_hostile_size_in_the_iso_is_an_error_that_names_the_volume() {
        let good = VeInfo::built_in(Version::of(14_010_000)).unwrap();
        let shape = Shape { all_modules: true, slots: 2 };
        let of = |change: fn(&mut VeInfo)| {
            let mut info = good.clone();
            change(&mut info);
            compute(&info, shape, &Overrides::new(), true).unwrap_err()
        };
        for (error, name) in [
            (of(|info| info.mos = u64::MAX), "`mos`"),
            (of(|info| info.default.var = u64::MAX), "`var`"),
            (of(|info| info.default.waagent = LARGEST + 1), "`waagent`"),
        ] {
            assert!(error.message.contains(name), "{error}");
            assert_eq!(error.stage, Stage::Source);
        }
    }
}
