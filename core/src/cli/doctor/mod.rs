//! `build-image doctor`: whether builds can work on this host, and what to do where they cannot.

mod checks;

use clap::{Arg, ArgAction, Command};
use serde_json::json;

use super::{args, build, command};
use crate::{
    error::Result,
    exit,
    install::find_qemu,
    settings::{Environment, Layers, Row, core_rows, first_rows},
};
use checks::{CHECKS, Finding, Host, Verdict};

/// Settings that say what to look at.
const KEYS: [&str; 9] = [
    "QEMU",
    "QEMU_MEMORY",
    "ACCEL",
    "ARTIFACTS_DIR",
    "IMAGE_DIR",
    "CONFIG_FILE",
    "PROVIDER_DIR",
    "PROVIDER_FILE",
    "JSON",
];

fn rows() -> Vec<Row> {
    core_rows().into_iter().filter(|row| KEYS.contains(&row.key())).collect()
}

/// Its parser.
pub(super) fn parser() -> Command {
    let refresh = Arg::new("REFRESH").long("refresh").action(ArgAction::SetTrue);
    Command::new("build-image doctor")
        .about("Looks whether builds can work on this host. Exit code 1 when something keeps them from it.")
        .args(rows().iter().map(command::flag).collect::<Vec<Arg>>())
        .arg(refresh.help("try the acceleration again instead of believing what is remembered"))
}

/// Runs all checks and prints what they found; returns the exit code.
///
/// # Errors
/// Usage errors and settings that are not understood.
pub(super) fn run(words: &[String], environment: &Environment) -> Result<u8> {
    let words = args::normalised(words);
    let Some(matches) = command::matches(parser(), &words)? else { return Ok(exit::DONE) };
    let layers = Layers {
        command_line: command::texts(&rows(), &matches),
        ..args::first_look(&words, environment)?
    };
    let settings = layers.resolve(&rows())?;
    let qemu = find_qemu(settings.path("QEMU").as_deref(), environment);
    if let Some(qemu) = qemu.as_ref().ok().filter(|_| matches.get_flag("REFRESH")) {
        qemu.forget_verdict();
    }
    let loader = build::loader(&layers.resolve(&first_rows())?, environment)?;
    let host = Host { settings: &settings, environment, loader, qemu };
    let found: Vec<(&str, Finding)> = CHECKS
        .iter()
        .flat_map(|(subject, check)| check(&host).into_iter().map(|finding| (*subject, finding)))
        .collect();
    let ready = !found.iter().any(|(_, finding)| finding.verdict == Verdict::Fail);
    super::print(&if settings.is_on("JSON") { document(ready, &found) } else { text(&found) });
    Ok(if ready { exit::DONE } else { exit::NOT_READY })
}

fn text(found: &[(&str, Finding)]) -> String {
    let mut text = String::new();
    for (subject, finding) in found {
        text.push_str(&format!(
            "{:<5} {subject:<13} {}\n",
            finding.verdict.word(),
            finding.message
        ));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("{:<19} remedy: {remedy}\n", ""));
        }
    }
    text
}

fn document(ready: bool, found: &[(&str, Finding)]) -> String {
    let checks: Vec<_> = found
        .iter()
        .map(|(subject, finding)| {
            json!({
                "subject": subject,
                "verdict": finding.verdict.word(),
                "message": finding.message,
                "remedy": finding.remedy,
            })
        })
        .collect();
    format!("{:#}\n", json!({"ready": ready, "checks": checks}))
}
