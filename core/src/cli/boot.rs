//! Runs `build-image boot FILE`: boots a disk image in qemu without writing it, and reports how far it came.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use build_image_disk::{facts::Facts, format::GuestReader, qemu::BootImage};
use clap::{Arg, Command, ValueHint};

use super::{args, build, command};
use crate::{
    boot_test::{BootContext, BootTested},
    error::{Error, Result, Stage},
    install::find_qemu,
    interrupt::{self, Interrupt},
    report::{OutputMode, Reporter},
    settings::{Environment, Use, rows_for},
    source::{from_disk, not_accepted},
};

/// Returns the parser of `boot`.
pub(super) fn parser() -> Command {
    let path = |id, name: &'static str| {
        Arg::new(id).long(name).value_name("PATH").value_hint(ValueHint::FilePath)
    };
    Command::new("build-image boot")
        .about(
            "Boots a disk image in qemu without writing it. Exit code 5 when it does not come up.",
        )
        .args(rows_for(Use::Boot).iter().map(command::flag).collect::<Vec<Arg>>())
        .arg(
            path("LOG", "serial-log").help(
                "file that gets the output of the serial console when the image does not boot",
            ),
        )
        .arg(
            path("SCREEN", "screen")
                .help("file that gets a picture of the screen (PNG) when the image does not boot"),
        )
        .arg(command::disk_file())
}

/// Boots a file and prints the result.
///
/// # Errors
/// When the image does not boot, or cannot be tested.
pub(super) fn run(args: &[String], environment: &Environment) -> Result<()> {
    let rows = rows_for(Use::Boot);
    let Some((matches, layers)) = args::of_verb(parser(), &rows, args, environment)? else {
        return Ok(());
    };
    let settings = layers.resolve(&rows)?;
    let text = |id: &str| matches.get_one::<String>(id);
    let file = Path::new(text("FILE").map_or("", String::as_str));
    let outputs = ["LOG", "SCREEN"].map(|id| text(id).map(PathBuf::from));
    let [log, picture] = &outputs;
    let exists = |output: &&PathBuf| output.symlink_metadata().is_ok();
    if let Some(output) = outputs.iter().flatten().find(exists) {
        let text = format!("`{}` exists already", output.display());
        return Err(Error::usage(text).hint("name another file, or remove that one"));
    }
    let source_error = |error| not_accepted(file, error);
    // It stays open, so that its format is verified, and a program that writes it is noticed.
    let disk = GuestReader::open(file).map_err(source_error)?;
    let facts = Facts::read(&disk).map_err(source_error)?;
    let qemu = find_qemu(settings.core().machine.qemu.as_deref(), environment)?;
    let interrupt = Arc::new(Interrupt::default());
    interrupt::listen(Arc::clone(&interrupt), || build::leave(&[]))?;
    let mode = OutputMode::of(&settings, environment);
    let reporter = Reporter::new(mode);
    let name = format!("`{}`", file.display());
    let context = BootContext {
        settings: &settings,
        qemu: &qemu,
        image: BootImage::File(std::path::absolute(file).unwrap_or_else(|_| file.to_owned())),
        format: disk.probe().format,
        name: &name,
        facts: Some(&facts),
        log: log.as_deref(),
        picture: picture.as_deref(),
        reporter: &reporter,
        interrupt: &interrupt,
    };
    let tested = context.run()?;
    disk.check_unchanged().map_err(|error| from_disk(Stage::Source, error))?;
    print(&tested, settings.core().output.json);
    tested.error(&name).map_or(Ok(()), Err)
}

fn print(tested: &BootTested, as_json: bool) {
    if as_json {
        let text = serde_json::to_string_pretty(tested).unwrap_or_default();
        super::print(&format!("{text}\n"));
    } else if tested.ready {
        super::print(&format!("boots: {} ({:.0} s)\n", tested.evidence, tested.seconds));
    }
}
