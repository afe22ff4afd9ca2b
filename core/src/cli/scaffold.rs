//! Runs `build-image providers new NAME`: creates a working provider, in Rust a crate with its tests and its conformance
//! test, in other languages a program. The author replaces the parts that are specific to the cloud.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use build_image_plugin_api::plugin_file_name;
use clap::{Arg, ArgMatches, Command, value_parser};

use crate::{
    error::{Error, Result, Stage},
    plugins::FileKind,
};

/// Maximum length of a name, in characters: it is part of file names and setting keys.
const LONGEST: usize = 30;
/// The crate of the plugin contract.
const SDK: &str = "build-image-plugin-api";

/// A language in which providers can be created.
struct Language {
    name: &'static str,
    /// Every file and its template. [`PROGRAM`] is the provider's file, which is executable.
    files: &'static [(&'static str, &'static str)],
    /// What to do next.
    next: &'static str,
}

const PROGRAM: &str = "{{file}}";
const TRY_PROGRAM: &str = "mkdir {{name}}-test\n\
    build-image providers check ./{{file}} -c test.yml \\\n    \
        --inventory 'ls -A {{name}}-test; find {{name}}-test -name image.json -exec cat {} +'\n\
    build-image --disk disk.raw --provider-file ./{{file}} -p {{name}}\n";

const LANGUAGES: [Language; 3] = [
    Language {
        name: "rust",
        files: &CRATE,
        next: "cargo test\n\
            cargo build --release\n\
            build-image --disk disk.raw --provider-file target/release/{{file}} -p {{name}}\n",
    },
    Language {
        name: "python",
        files: &[
            (PROGRAM, include_str!("scaffold/provider.python.in")),
            ("README.md", include_str!("scaffold/README-program.md.in")),
            ("test.yml", include_str!("scaffold/test.yml.in")),
        ],
        next: TRY_PROGRAM,
    },
    Language {
        name: "bash",
        files: &[
            (PROGRAM, include_str!("scaffold/provider.bash.in")),
            ("README.md", include_str!("scaffold/README-program.md.in")),
            ("test.yml", include_str!("scaffold/test.yml.in")),
        ],
        next: TRY_PROGRAM,
    },
];

/// Returns the part of the Python example that speaks the protocol.
fn python_protocol() -> String {
    let example = include_str!("../../../providers/example-python/build-image-provider-pydir");
    let end = "# ---------------------------------------------------------------- the provider";
    let begin = example.find("VERSION = ").unwrap_or_default();
    let part = example.get(begin..).unwrap_or_default();
    part.split(end).next().unwrap_or_default().replace("pydir", "{{name}}")
}

/// Every file of the crate and its template.
const CRATE: [(&str, &str); 6] = [
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
        .about("write a new provider that works already")
        .arg(Arg::new("NAME").required(true).help("its name, as after -p: a-z, digits and `_`"))
        .arg(
            Arg::new("LANGUAGE")
                .long("language")
                .value_name("LANGUAGE")
                .value_parser(LANGUAGES.map(|language| language.name))
                .default_value(LANGUAGES[0].name)
                .help("language of the provider"),
        )
        .arg(path(
            "PATH",
            "path",
            "directory in which the provider's directory is made [default: .]",
        ))
        .arg(path(
            "SDK",
            "sdk",
            "directory of build-image-plugin-api, instead of the published crate (Rust)",
        ))
}

/// Writes the crate.
///
/// # Errors
/// When the name is invalid, the directory exists already, or `--sdk` is not the SDK crate.
pub(super) fn run(matches: &ArgMatches) -> Result<()> {
    let name = matches.get_one::<String>("NAME").map(String::as_str).unwrap_or_default();
    check_name(name)?;
    let wanted = matches.get_one::<String>("LANGUAGE");
    let language =
        LANGUAGES.iter().find(|language| wanted.is_some_and(|name| name == language.name));
    let language = language.unwrap_or(&LANGUAGES[0]);
    let sdk = matches.get_one::<PathBuf>("SDK").map(|path| sdk_directory(path)).transpose()?;
    let parent = matches.get_one::<PathBuf>("PATH").map_or(Path::new("."), PathBuf::as_path);
    let directory = parent.join(format!("build-image-provider-{name}"));
    let template = Template { language, name, sdk: sdk.as_deref() };
    template.write(&directory)?;
    super::print(&format!(
        "provider `{name}` in {}\n\ncd {0}\n{}",
        directory.display(),
        template.render(language.next)
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
        None => Err(Error::usage(format!("`{}` is not the directory of {SDK}", path.display()))
            .hint("name the directory `plugin-api` of build-image's sources, or leave --sdk out")),
    }
}

/// What is written.
struct Template<'a> {
    language: &'a Language,
    name: &'a str,
    sdk: Option<&'a Path>,
}

impl Template<'_> {
    /// Writes all files, or none.
    fn write(&self, directory: &Path) -> Result<()> {
        let cannot_write = |error: std::io::Error| {
            Error::new(Stage::Disk, format!("cannot write `{}`", directory.display()))
                .caused_by(&error)
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
        for &(name, template) in self.language.files {
            let path = part.path().join(self.render(name));
            fs::create_dir_all(path.parent().unwrap_or(part.path())).map_err(cannot_write)?;
            fs::write(&path, self.render(template)).map_err(cannot_write)?;
            if name == PROGRAM {
                fs::set_permissions(&path, Permissions::from_mode(0o755)).map_err(cannot_write)?;
            }
        }
        fs::set_permissions(part.path(), Permissions::from_mode(0o755)).map_err(cannot_write)?;
        fs::rename(part.path(), directory).map_err(cannot_write)?;
        // The directory has its final name; nothing is left to remove.
        let _ = part.keep();
        Ok(())
    }

    fn render(&self, template: &str) -> String {
        let source = match self.sdk {
            Some(path) => format!("path = {:?}", path.display().to_string()),
            None => format!("version = \"{}\"", build_image_plugin_api::ABI_VERSION),
        };
        let text = template.replace("{{protocol}}", &python_protocol());
        let is_crate = self.language.files.iter().all(|(path, _)| *path != PROGRAM);
        let file = if is_crate {
            plugin_file_name(self.name)
        } else {
            FileKind::Program.file_name(self.name)
        };
        text.replace("{{name}}", self.name)
            .replace("{{NAME}}", &self.name.to_uppercase())
            .replace("{{file}}", &file)
            .replace("{{sdk}}", &source)
            .replace("{{version}}", env!("CARGO_PKG_VERSION"))
    }
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
        for language in &LANGUAGES {
            let template = Template { language, name: "acme", sdk: Some(Path::new("/sdk")) };
            for (path, text) in language.files {
                let text = template.render(text);
                let open = text.contains("{{") || text.to_lowercase().contains("pydir");
                assert!(!open, "{} {path}: {text}", language.name);
            }
        }
        let (_, source) = CRATE[1];
        let own = source.split("#[cfg(test)]").next().unwrap().lines().map(str::trim);
        let own = own.filter(|line| !line.is_empty() && !line.starts_with("//")).count();
        assert!(own <= 190, "a provider takes {own} lines");
    }

    #[test]
    fn nothing_is_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("build-image-provider-acme");
        let template = Template { language: &LANGUAGES[0], name: "acme", sdk: None };
        template.write(&directory).unwrap();
        fs::write(directory.join("src/lib.rs"), "mine").unwrap();
        let error = template.write(&directory).unwrap_err();
        assert!(error.message.contains("exists already"), "{error}");
        assert_eq!(fs::read_to_string(directory.join("src/lib.rs")).unwrap(), "mine");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "nothing else is left");
    }
}
