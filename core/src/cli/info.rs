//! `--info`: small facts about this program and its host, for bug reports and scripts.

use build_image_disk::qemu::Qemu;
use serde_json::{Value, json};

use crate::settings::{Environment, Resolved};

/// File in which a Linux system says what it is.
const OS_RELEASE: &str = "/etc/os-release";

/// The facts as pretty JSON.
pub(super) fn text(settings: &Resolved, environment: &Environment) -> String {
    let system = std::fs::read_to_string(OS_RELEASE).unwrap_or_default();
    let given = settings.path("QEMU");
    let qemu = match Qemu::find(given.as_deref(), &environment.for_children()) {
        Ok(qemu) => json!({"path": qemu.path(), "version": qemu.version()}),
        Err(_) => Value::Null,
    };
    let facts = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "platform": {"os": pretty_name(&system), "architecture": std::env::consts::ARCH},
        "qemu": qemu,
    });
    format!("{facts:#}\n")
}

fn pretty_name(os_release: &str) -> Option<&str> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim().trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_its_name_with_or_without_quotes() {
        for text in ["ID=x\nPRETTY_NAME=\"A Linux 1\"\n", "PRETTY_NAME='A Linux 1'"] {
            assert_eq!(pretty_name(text), Some("A Linux 1"));
        }
        assert_eq!(pretty_name("NAME=x"), None);
    }
}
