//! Prints `--info`: short facts about this program and its host, for bug reports and scripts.

use build_image_disk::qemu::Qemu;
use serde_json::{Value, json};

use super::os_release::OsRelease;
use crate::settings::{Environment, Resolved};

/// Returns the facts as pretty-printed JSON.
pub(super) fn text(settings: &Resolved, environment: &Environment) -> String {
    let system = OsRelease::read(environment);
    let given = settings.core().machine.qemu.as_deref();
    let qemu = match Qemu::find(given, &environment.for_children()) {
        Ok(qemu) => json!({"path": qemu.path(), "version": qemu.version()}),
        Err(_) => Value::Null,
    };
    let facts = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "platform": {"os": system.pretty_name(), "architecture": std::env::consts::ARCH},
        "qemu": qemu,
    });
    format!("{facts:#}\n")
}
