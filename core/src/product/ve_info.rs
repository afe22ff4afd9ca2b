//! Sizes of volumes as the ISO's `ve.info.json` gives them, with built-in tables for ISOs without one.

use serde::Deserialize;

use super::Version;

/// Sizes of one volume set, in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "names of volumes")]
pub struct Volumes {
    pub appdata: u64,
    pub boot: u64,
    pub config: u64,
    pub log: u64,
    pub root: u64,
    pub shared: u64,
    pub swap: u64,
    pub usr: u64,
    pub var: u64,
    pub waagent: u64,
}

/// The part of `ve.info.json` that decides the disk's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VeInfo {
    /// Maintenance system, MiB.
    pub mos: u64,
    /// Full-size set.
    pub default: Volumes,
    /// Smallest set, for `ltm`.
    pub micro: Volumes,
    /// appdata of a full one-slot image; from 14.1.0 on.
    pub all_1slot_appdata: Option<u64>,
}

/// From this version on images have the one-slot appdata size.
const ONE_SLOT_SIZES: Version = Version::of(14_010_000);
/// Oldest version that is known at all.
const OLDEST: Version = Version::of(13_010_002);

#[derive(Deserialize)]
struct Document {
    tmos: Tmos,
}

#[derive(Deserialize)]
struct Tmos {
    #[serde(rename = "mos_size_MiB")]
    mos: u64,
    #[serde(rename = "default_volume_size_MiB")]
    default: serde_json::Map<String, serde_json::Value>,
    #[serde(rename = "micro_volume_size_MiB")]
    micro: serde_json::Map<String, serde_json::Value>,
    #[serde(rename = "all_1slot_volume_size_MiB")]
    all_1slot: Option<serde_json::Map<String, serde_json::Value>>,
}

const DEFAULT_KEYS: [&str; 10] =
    ["appdata", "boot", "config", "log", "root", "shared", "swap", "usr", "var", "waagent"];
const MICRO_KEYS: [&str; 7] = ["appdata", "config", "log", "root", "shared", "usr", "var"];

impl VeInfo {
    /// Reads the text of a `ve.info.json`.
    ///
    /// # Errors
    /// What is missing or malformed in it.
    pub fn parse(text: &[u8], version: Version) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let tmos = document.tmos;
        let appdata = match (&tmos.all_1slot, version >= ONE_SLOT_SIZES) {
            (Some(set), _) => {
                Some(volumes("all_1slot_volume_size_MiB", set, &["appdata"])?.appdata)
            }
            (None, true) => return Err("`tmos.all_1slot_volume_size_MiB` is missing".to_owned()),
            (None, false) => None,
        };
        Ok(Self {
            mos: tmos.mos,
            default: volumes("default_volume_size_MiB", &tmos.default, &DEFAULT_KEYS)?,
            micro: volumes("micro_volume_size_MiB", &tmos.micro, &MICRO_KEYS)?,
            all_1slot_appdata: appdata,
        })
    }

    /// The sizes of images whose ISO has no file.
    #[must_use]
    pub fn built_in(version: Version) -> Option<Self> {
        let common = Volumes {
            appdata: 25_514,
            boot: 200,
            log: 3000,
            root: 440,
            swap: 1000,
            var: 3072,
            waagent: 1024,
            ..Volumes::default()
        };
        let micro = Volumes { appdata: 30, config: 489, log: 500, shared: 500, var: 950, ..common };
        if version >= ONE_SLOT_SIZES {
            Some(Self {
                mos: 300,
                default: Volumes { config: 2219, shared: 15_360, usr: 5274, ..common },
                micro: Volumes { usr: 5274, ..micro },
                all_1slot_appdata: Some(21_409),
            })
        } else if version >= OLDEST {
            Some(Self {
                mos: 300,
                default: Volumes { config: 3243, shared: 20_480, usr: 4102, ..common },
                micro: Volumes { usr: 4102, ..micro },
                all_1slot_appdata: None,
            })
        } else {
            None
        }
    }
}

fn volumes(
    set: &str,
    values: &serde_json::Map<String, serde_json::Value>,
    required: &[&str],
) -> Result<Volumes, String> {
    for key in required {
        let value = values.get(*key).ok_or_else(|| format!("`tmos.{set}.{key}` is missing"))?;
        if !value.is_u64() {
            return Err(format!("`tmos.{set}.{key}` is not a whole number: {value}"));
        }
    }
    Volumes::deserialize(serde_json::Value::Object(values.clone()))
        .map_err(|error| format!("`tmos.{set}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_size_is_named() {
        let text = br#"{"tmos":{"mos_size_MiB":300,"default_volume_size_MiB":{"appdata":1},"micro_volume_size_MiB":{}}}"#;
        let error = VeInfo::parse(text, Version::of(14_000_000)).unwrap_err();
        assert_eq!(error, "`tmos.default_volume_size_MiB.boot` is missing");
        let error = VeInfo::parse(text, Version::of(14_010_000)).unwrap_err();
        assert!(error.contains("all_1slot"), "{error}");
    }

    #[test]
    fn unknown_versions_have_no_table() {
        assert!(VeInfo::built_in(Version::of(13_010_001)).is_none());
        assert!(
            VeInfo::built_in(Version::of(13_010_002))
                .is_some_and(|info| info.all_1slot_appdata.is_none())
        );
    }
}
