//! Runs `build-image doctor`: checks whether builds can work on this host, and prints remedies where they cannot.
//!
//! ```text
//! checks.rs    the checks and their verdicts            ca_certificates.rs  one of the checks
//! packages.rs  which package provides what              install.rs      --install
//! ```

mod ca_certificates;
mod checks;
mod install;
mod packages;

use clap::{Arg, ArgAction, Command};
use serde_json::{Value, json};

use super::{args, build, command};
use crate::{
    error::Result,
    exit,
    install::find_qemu,
    report::{OutputMode, Reporter, columns, hung},
    settings::{Environment, Use, rows_for},
};
use checks::{CHECKS, Finding, Host, Verdict};
use install::{Ending, Installation};

/// Returns the parser of `doctor`.
pub(super) fn parser() -> Command {
    let switch = |id, name| Arg::new(id).long(name).action(ArgAction::SetTrue);
    let refresh = switch("REFRESH", "refresh");
    let install = switch("INSTALL", "install");
    let yes = switch("YES", "yes").short('y').requires("INSTALL");
    Command::new("build-image doctor")
        .about("Looks whether builds can work on this host. Exit code 1 when something keeps them from it.")
        .args(rows_for(Use::Doctor).iter().map(command::flag).collect::<Vec<Arg>>())
        .arg(refresh.help("try the acceleration again instead of believing what is remembered"))
        .arg(install.help("install what is missing with the system's package manager (apt-get, dnf, apk), after asking"))
        .arg(yes.help("install without asking"))
}

/// Columns of a subject, and of what precedes a message.
const SUBJECT: usize = 15;
const INDENT: usize = 5 + 1 + SUBJECT;

/// A finding on one subject.
type Found = (&'static str, Finding);

/// Runs all checks and prints what they found; returns the exit code.
///
/// # Errors
/// Usage errors and invalid settings.
pub(super) fn run(args: &[String], environment: &Environment) -> Result<u8> {
    let rows = rows_for(Use::Doctor);
    let Some((matches, layers)) = args::of_verb(parser(), &rows, args, environment)? else {
        return Ok(exit::DONE);
    };
    let settings = layers.resolve(&rows)?;
    let qemu = || find_qemu(settings.core().machine.qemu.as_deref(), environment);
    let loader = build::loader(&layers.resolve(&rows_for(Use::Selection))?, environment)?;
    let mut host = Host { settings: &settings, environment, loader, qemu: qemu() };
    if let Some(qemu) = host.qemu.as_ref().ok().filter(|_| matches.get_flag("REFRESH")) {
        qemu.forget_verdict();
    }
    let as_json = settings.core().output.json;
    let show = |text: &str| {
        if !as_json {
            super::print(text);
        }
    };
    let mut found = run_checks(&host);
    show(&text(&found, columns(std::io::stdout())));
    let installation = matches.get_flag("INSTALL").then(|| {
        install::run(&host, matches.get_flag("YES"), |command| {
            show(&format!("{:<5} {:<SUBJECT$} {command}\n", "", "install"));
        })
    });
    if let Some(Installation { ending, .. }) = &installation {
        match ending {
            Ok(Ending::Installed) => {
                host.qemu = qemu();
                found = run_checks(&host);
                show(&text(&found, columns(std::io::stdout())));
            }
            Ok(Ending::NothingMissing) => {
                show(&format!(
                    "{:<5} {:<SUBJECT$} nothing is missing that a package brings\n",
                    "", "install"
                ));
            }
            Ok(Ending::Declined) => show(&format!("{:<INDENT$} nothing was installed\n", "")),
            Err(error) => {
                Reporter::new(OutputMode::of_stderr(environment)).error(error, exit::NOT_READY);
            }
        }
    }
    let is_ready = !found.iter().any(|(_, finding)| finding.verdict == Verdict::Fail);
    if as_json {
        super::print(&document(is_ready, &found, installation.as_ref()));
    }
    let went_wrong = installation.is_some_and(|installation| match installation.ending {
        // A package manager may report success without having installed what is needed.
        Ok(Ending::Installed) => !packages::missing(&host).is_empty(),
        ending => ending.is_err(),
    });
    Ok(if is_ready && !went_wrong { exit::DONE } else { exit::NOT_READY })
}

fn run_checks(host: &Host<'_>) -> Vec<Found> {
    let run_check = |(subject, check): &(&'static str, checks::Check)| {
        let subject = *subject;
        check(host).into_iter().map(move |finding| (subject, finding))
    };
    CHECKS.iter().flat_map(run_check).collect()
}

fn text(found: &[Found], width: Option<usize>) -> String {
    let mut text = String::new();
    for (subject, finding) in found {
        let start = format!("{:<5} {subject:<SUBJECT$} ", finding.verdict.word());
        text.push_str(&hung(&start, &finding.message, width));
        text.push('\n');
        if let Some(remedy) = &finding.remedy {
            let start = format!("{:<INDENT$} remedy: ", "");
            text.push_str(&hung(&start, remedy, width));
            text.push('\n');
        }
    }
    text
}

fn document(is_ready: bool, found: &[Found], installation: Option<&Installation>) -> String {
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
    let mut document = json!({"ready": is_ready, "checks": checks});
    if let (Some(installation), Value::Object(members)) = (installation, &mut document) {
        let ending = installation.ending.as_ref().map_or("failed", |ending| ending.word());
        let value = json!({"command": installation.command, "ending": ending});
        members.insert("installation".to_owned(), value);
    }
    format!("{document:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_a_table_with_remedies_below() {
        let finding = |verdict, message: &str, remedy: Option<&str>| Finding {
            verdict,
            message: message.to_owned(),
            remedy: remedy.map(str::to_owned),
        };
        let found = [
            ("qemu", finding(Verdict::Ok, "/usr/bin/qemu 9.9", None)),
            ("acceleration", finding(Verdict::Warn, "tcg: slow", Some("use kvm"))),
            ("disk space", finding(Verdict::Fail, "0.1 GiB free", Some("free some"))),
        ];
        let expected = "\
ok    qemu            /usr/bin/qemu 9.9
warn  acceleration    tcg: slow
                      remedy: use kvm
fail  disk space      0.1 GiB free
                      remedy: free some
";
        assert_eq!(text(&found, None), expected);
        let ending = Ok(Ending::Installed);
        let installation = Installation { command: "a b".to_owned(), ending };
        let report: Value =
            serde_json::from_str(&document(false, &found, Some(&installation))).unwrap();
        assert_eq!(report["installation"], json!({"command": "a b", "ending": "installed"}));
        assert_eq!(report["checks"][2]["verdict"], "fail");
    }
}
