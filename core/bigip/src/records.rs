//! Describes the records of an installation for programs that read those of the previous tool: their names and
//! members. The engine writes them; nothing in this program reads them.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use build_image_disk::installer::{Record, RecordContext};
use serde_json::{Map, Value, json};

use crate::{prepared::Prepared, rows::EHF_ISO};

/// Lines of the version file.
const VERSION: &str = "VersionFile.json";
/// UPDATE_LV_SIZES.
const LARGER: &str = "lv_sizes_patch.json";
/// The planned disk.
const PLANNED: &str = "create_raw_disk.json";
/// The installed disk.
const INSTALLED: &str = "prepare_raw_disk.json";
/// All of them.
pub(crate) const FILES: [&str; 4] = [VERSION, LARGER, PLANNED, INSTALLED];

/// Returns the records of the planned disk.
pub(crate) fn of_start(prepared: &Prepared, context: &RecordContext<'_>) -> Vec<Record> {
    let lines = prepared.facts.lines.iter();
    let mut version: Map<String, Value> =
        lines.map(|(key, value)| (key.clone(), json!(value))).collect();
    version.insert("build_source".to_owned(), json!("VersionFile"));
    let plain = |file: &str, members| Record { file: file.to_owned(), step: None, members };
    let mut records = vec![plain(VERSION, version.into())];
    records.extend(prepared.larger.clone().map(|sizes| plain(LARGER, sizes)));
    records.push(Record {
        file: PLANNED.to_owned(),
        step: Some("create_raw_disk".to_owned()),
        members: planned(prepared, context),
    });
    records
}

fn planned(prepared: &Prepared, context: &RecordContext<'_>) -> Value {
    let (sizes, volumes) = (&prepared.sizes, &prepared.sizes.volumes);
    let attributes: Map<String, Value> = [
        ("fix_config_mib", volumes.config),
        ("fix_root_mib", volumes.root),
        ("fix_usr_mib", volumes.usr),
        ("fix_var_mib", volumes.var),
        ("fix_boot_mib", volumes.boot),
        ("fix_swap_mib", sizes.swap_partition),
        ("fix_swapvol_mib", volumes.swap),
        ("fix_share_mib", volumes.shared),
        ("fix_appdata_mib", volumes.appdata),
        ("fix_log_mib", volumes.log),
    ]
    .into_iter()
    .map(|(name, mib): (&str, u64)| (name.to_owned(), json!(mib.to_string())))
    .collect();
    json!({
        "description": "raw disk of the planned size",
        "is_cloud": if context.is_cloud { "1" } else { "0" },
        "input": (context.shown)("ISO"),
        "output": file_name(context.raw_disk),
        "status": "success",
        "image_size": format!("{}GiB", context.virtual_size >> 30),
        "attributes": Value::from(attributes),
    })
}

/// Returns the record of the installed disk.
pub(crate) fn of_end(prepared: &Prepared, context: &RecordContext<'_>) -> Vec<Record> {
    let raw = context.raw_disk;
    // Allocated size, KiB, as `du` prints it.
    let allocated = raw.metadata().map_or(0, |metadata| metadata.blocks().div_ceil(2));
    let larger = if prepared.larger.is_some() { LARGER } else { "" };
    let members = json!({
        "description": "raw disk",
        "bigip_iso": (context.shown)("ISO"),
        "hotfix_iso": (context.shown)(EHF_ISO),
        "input_json": PLANNED,
        "lv_sizes_patch_json": larger,
        "output": file_name(raw),
        "output_size": allocated.to_string(),
        "status": "success",
    });
    let step = Some("prepare_raw_disk".to_owned());
    vec![Record { file: INSTALLED.to_owned(), step, members }]
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
