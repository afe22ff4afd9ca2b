//! Runs `build-image providers new NAME`: creates a crate with a working provider, its tests and its conformance
//! test. The author replaces the parts that are specific to the cloud.

use std::{
    fs,
    path::{Path, PathBuf},
};

use build_image_plugin_api::plugin_file_name;
use clap::{Arg, ArgMatches, Command, value_parser};

use crate::error::{Error, Result, Stage};

/// Maximum length of a name, in characters: it is part of file names and setting keys.
const LONGEST: usize = 30;
/// The crate of the plugin contract.
const SDK: &str = "build-image-plugin-api";

/// Every file of the crate and its template.
const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("scaffold/Cargo.toml.in")),
    ("src/lib.rs", include_str!("scaffold/lib.rs.in")),
    ("tests/conformance.rs", include_str!("scaffold/conformance.rs.in")),
    ("README.md", include_str!("scaffold/README.md.in")),
    (".github/workflows/ci.yml", include_str!("scaffold/ci.yml.in")),
    (".gitignore", include_str!("scaffold/gitignore.in")),
];

/// Returns the parser of the verb.
pub(super) fn command() -> Command {
    let path = |id: &'static str, long: &'static str, help: &'static str| {
        Arg::new(id).long(long).value_name("DIR").value_parser(value_parser!(PathBuf)).help(help)
    };
    Command::new("new")
        .about("write a new provider crate that works already")
        .arg(Arg::new("NAME").required(true).help("its name, as after -p: a-z, digits and `_`"))
        .arg(path("PATH", "path", "folder the crate's folder is made in [default: .]"))
        .arg(path("SDK", "sdk", "folder of build-image-plugin-api, instead of the published crate"))
}

/// Writes the crate.
///
/// # Errors
/// When the name is invalid, the directory exists already, or `--sdk` is not the SDK crate.
pub(super) fn run(matches: &ArgMatches) -> Result<()> {
    let name = matches.get_one::<String>("NAME").map(String::as_str).unwrap_or_default();
    check_name(name)?;
    let sdk = matches.get_one::<PathBuf>("SDK").map(|path| sdk_directory(path)).transpose()?;
    let parent = matches.get_one::<PathBuf>("PATH").map_or(Path::new("."), PathBuf::as_path);
    let directory = parent.join(format!("build-image-provider-{name}"));
    write(&directory, name, sdk.as_deref())?;
    let file = plugin_file_name(name);
    super::print(&format!(
        "provider `{name}` in {}\n\
         \n\
         cd {0}\n\
         cargo test\n\
         cargo build --release\n\
         build-image --disk disk.raw --provider-file target/release/{file} -p {name}\n",
        directory.display(),
    ));
    Ok(())
}

/// Checks whether a provider may have this name.
fn check_name(name: &str) -> Result<()> {
    let legal =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    let wrong = if name.is_empty() {
        "is empty"
    } else if !name.starts_with(|letter: char| letter.is_ascii_lowercase()) {
        "does not begin with a letter from a to z"
    } else if !name.chars().all(legal) {
        "has other characters than a to z, digits and `_`"
    } else if name.len() > LONGEST {
        "is longer than 30 characters"
    } else {
        return Ok(());
    };
    let better: String = name
        .to_lowercase()
        .chars()
        .map(|letter| if legal(letter) { letter } else { '_' })
        .skip_while(|letter| !letter.is_ascii_lowercase())
        .take(LONGEST)
        .collect();
    let error = Error::usage(format!("provider name `{name}` {wrong}"));
    Err(if better.is_empty() || better == name {
        error.hint("choose a short lower-case word, such as the cloud's name")
    } else {
        error.hint(format!("build-image providers new {better}"))
    })
}

/// Returns the absolute directory of the contract's crate.
fn sdk_directory(path: &Path) -> Result<PathBuf> {
    let manifest = fs::read_to_string(path.join("Cargo.toml")).unwrap_or_default();
    let found = manifest.lines().any(|line| line.trim() == format!("name = \"{SDK}\""));
    match path.canonicalize().ok().filter(|_| found) {
        Some(directory) => Ok(directory),
        None => Err(Error::usage(format!("`{}` is not the folder of {SDK}", path.display()))
            .hint("name the folder `plugin-api` of build-image's sources, or leave --sdk out")),
    }
}

/// Writes all files, or none.
fn write(directory: &Path, name: &str, sdk: Option<&Path>) -> Result<()> {
    let cannot_write = |error: std::io::Error| {
        Error::new(Stage::Disk, format!("cannot write `{}`", directory.display())).caused_by(&error)
    };
    if directory.symlink_metadata().is_ok() {
        return Err(Error::usage(format!("`{}` exists already", directory.display()))
            .hint("choose another name or --path, or remove it; nothing was written"));
    }
    let parent = directory.parent().unwrap_or(Path::new("."));
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    fs::create_dir_all(parent).map_err(cannot_write)?;
    let part = tempfile::Builder::new().prefix(".new-provider").tempdir_in(parent);
    let part = part.map_err(cannot_write)?;
    for (path, template) in FILES {
        let path = part.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(part.path())).map_err(cannot_write)?;
        fs::write(path, render(template, name, sdk)).map_err(cannot_write)?;
    }
    fs::set_permissions(part.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(cannot_write)?;
    fs::rename(part.path(), directory).map_err(cannot_write)?;
    // The directory has its final name; nothing is left to remove.
    let _ = part.keep();
    Ok(())
}

fn render(template: &str, name: &str, sdk: Option<&Path>) -> String {
    let source = match sdk {
        Some(path) => format!("path = {:?}", path.display().to_string()),
        None => format!("version = \"{}\"", build_image_plugin_api::ABI_VERSION),
    };
    template
        .replace("{{name}}", name)
        .replace("{{NAME}}", &name.to_uppercase())
        .replace("{{file}}", &plugin_file_name(name))
        .replace("{{sdk}}", &source)
        .replace("{{version}}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_names_are_refused_with_a_suggestion() {
        for good in ["acme", "a", "my_cloud2"] {
            check_name(good).unwrap();
        }
        let long = "x".repeat(31);
        for (bad, text, hint) in [
            ("", "is empty", "choose a short"),
            ("Acme", "does not begin", "providers new acme"),
            ("2cloud", "does not begin", "providers new cloud"),
            ("my-cloud", "other characters", "providers new my_cloud"),
            ("../x", "does not begin", "providers new x"),
            ("über", "does not begin", "providers new ber"),
            (long.as_str(), "longer than 30", "providers new xxx"),
        ] {
            let error = check_name(bad).unwrap_err();
            assert!(error.message.contains(text), "{bad}: {error}");
            assert!(error.hint.unwrap().contains(hint), "{bad}");
        }
    }

    #[test]
    fn templates_are_filled_and_authors_write_few_lines() {
        for (path, template) in FILES {
            let text = render(template, "acme", Some(Path::new("/sdk")));
            assert!(!text.contains("{{"), "{path}: {text}");
        }
        let (_, source) = FILES[1];
        let own = source.split("#[cfg(test)]").next().unwrap().lines().map(str::trim);
        let own = own.filter(|line| !line.is_empty() && !line.starts_with("//")).count();
        assert!(own <= 180, "a provider takes {own} lines");
    }

    #[test]
    fn nothing_is_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("build-image-provider-acme");
        write(&directory, "acme", None).unwrap();
        fs::write(directory.join("src/lib.rs"), "mine").unwrap();
        let error = write(&directory, "acme", None).unwrap_err();
        assert!(error.message.contains("exists already"), "{error}");
        assert_eq!(fs::read_to_string(directory.join("src/lib.rs")).unwrap(), "mine");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "nothing else is left");
    }
}
