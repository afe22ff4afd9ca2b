//! Reads sizes of volumes from the ISO's `ve.info.json`, with built-in tables for ISOs without one.

use serde::{Deserialize, Serialize};

/// Sizes of one volume set, in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// The part of `ve.info.json` that determines the disk's size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VeInfo {
    /// Maintenance system, MiB.
    pub mos: u64,
    /// Full-size set.
    pub default: Volumes,
    /// Smallest set, for `ltm`.
    pub micro: Volumes,
    /// appdata of a full one-slot image, MiB.
    pub all_1slot_appdata: u64,
}

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
    all_1slot: serde_json::Map<String, serde_json::Value>,
}

const DEFAULT_KEYS: [&str; 10] =
    ["appdata", "boot", "config", "log", "root", "shared", "swap", "usr", "var", "waagent"];
const MICRO_KEYS: [&str; 7] = ["appdata", "config", "log", "root", "shared", "usr", "var"];

impl VeInfo {
    /// Parses the text of a `ve.info.json`.
    ///
    /// # Errors
    /// The size that is missing or malformed.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let tmos = document.tmos;
        let one_slot = volumes("all_1slot_volume_size_MiB", &tmos.all_1slot, &["appdata"])?;
        Ok(Self {
            mos: tmos.mos,
            default: volumes("default_volume_size_MiB", &tmos.default, &DEFAULT_KEYS)?,
            micro: volumes("micro_volume_size_MiB", &tmos.micro, &MICRO_KEYS)?,
            all_1slot_appdata: one_slot.appdata,
        })
    }

    /// The sizes for ISOs without the file: those of version 14.1.0.
    #[must_use]
    pub fn built_in() -> Self {
        let common = Volumes { boot: 200, root: 440, swap: 1000, usr: 5274, ..Volumes::default() };
        let default = Volumes {
            appdata: 25_514,
            config: 2219,
            log: 3000,
            shared: 15_360,
            var: 3072,
            waagent: 1024,
            ..common
        };
        let micro = Volumes { appdata: 30, config: 489, log: 500, shared: 500, var: 950, ..common };
        Self { mos: 300, default, micro, all_1slot_appdata: 21_409 }
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
        for (one_slot, error) in [
            (
                r#","all_1slot_volume_size_MiB":{}"#,
                "`tmos.all_1slot_volume_size_MiB.appdata` is missing",
            ),
            (
                r#","all_1slot_volume_size_MiB":{"appdata":1}"#,
                "`tmos.default_volume_size_MiB.boot` is missing",
            ),
        ] {
            let text = format!(
                r#"{{"tmos":{{"mos_size_MiB":300,"default_volume_size_MiB":{{"appdata":1}},"micro_volume_size_MiB":{{}}{one_slot}}}}}"#
            );
            assert_eq!(VeInfo::parse(text.as_bytes()).unwrap_err(), error);
        }
        let text = br#"{"tmos":{"mos_size_MiB":300,"default_volume_size_MiB":{},"micro_volume_size_MiB":{}}}"#;
        assert!(VeInfo::parse(text).unwrap_err().contains("all_1slot"));
    }
}
