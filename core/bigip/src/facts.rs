//! Reads facts from the version file of a BIG-IP ISO.

use std::{collections::BTreeMap, path::Path};

use build_image_disk::{Kind, installer::Refusal, iso::Iso};
use serde::{Deserialize, Serialize};

use crate::{Result, Version};

/// Largest version file that is read, in bytes.
const LIMIT: u64 = 64 << 10;

/// Longest value that becomes part of file names, in bytes; several of them and a suffix must fit into 255 bytes.
const LONGEST: usize = 40;

/// What an ISO installs, according to its version file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Top-level directory of the product, such as `/BIGIP1500`; empty for a hotfix.
    pub directory: String,
    /// Whether these are the facts of a hotfix.
    pub hotfix: bool,
    /// `BIG-IP`, as in the version file.
    pub product: String,
    /// `15.0.0`.
    pub version: String,
    /// `0.0.39`.
    pub build: String,
    /// Build the hotfix is for; equals `build` in a base ISO.
    pub base_build: String,
    /// Special build, if any.
    pub project: Option<String>,
    /// The version as a number.
    pub number: Version,
    /// Every line as `version_<key>`, in the file's order.
    pub lines: Vec<(String, String)>,
}

/// Returns the top-level directory of the product, if the ISO has one.
#[must_use]
pub(crate) fn product_directory(iso: &Iso) -> Option<String> {
    let names = iso.joliet_root_names().ok()?;
    names.into_iter().find(|name| is_product_directory(name))
}

/// Reads the facts of a base ISO.
///
/// # Errors
/// When the product directory or its version file is missing or malformed.
pub fn read_facts(iso: &Iso, path: &Path) -> Result<Facts> {
    let iso_error = |what: String| {
        Refusal::source(format!("`{}`: {what}", path.display()))
            .hint("give a BIG-IP installer ISO with -i, or a disk image with --disk")
    };
    let names = iso.joliet_root_names().map_err(|error| Refusal::unreadable(path, error))?;
    let mut directories = names.iter().filter(|name| is_product_directory(name));
    let directory = directories.next().ok_or_else(|| {
        iso_error("no product folder (`BIGIP…`) at its top; this is no BIG-IP installer".to_owned())
    })?;
    if let Some(second) = directories.next() {
        return Err(iso_error(format!("two product folders, `{directory}` and `{second}`")));
    }
    let directory = format!("/{directory}");
    let name = format!("{directory}/VERSION");
    let bytes = iso.read(&name, LIMIT).map_err(|error| Refusal::unreadable(path, error))?;
    Facts::parse(&directory, &String::from_utf8_lossy(&bytes))
        .map_err(|what| iso_error(format!("its version file `{name}`: {what}")))
}

/// Version file of a hotfix ISO.
const HOTFIX_FILE: &str = "/VERSION.LTM";

/// Reads the facts of a hotfix ISO and checks that it is for this base.
///
/// # Errors
/// When its version file is missing or malformed, or the hotfix is for another base.
pub fn read_hotfix_facts(iso: &Iso, path: &Path, base: &Facts) -> Result<Facts> {
    let hotfix_error = |what: String| {
        Refusal::source(format!("hotfix `{}`: {what}", path.display()))
            .hint("give the hotfix ISO that was made for the base ISO with -e")
    };
    let bytes = iso.read(HOTFIX_FILE, LIMIT).map_err(|error| {
        if error.kind() == Kind::NotFound {
            return hotfix_error(format!("it has no `{HOTFIX_FILE}`; this is no hotfix ISO"));
        }
        Refusal::unreadable(path, error)
    })?;
    let facts = Facts::parse("", &String::from_utf8_lossy(&bytes))
        .map_err(|what| hotfix_error(format!("its version file `{HOTFIX_FILE}`: {what}")))?;
    let facts = Facts { hotfix: true, ..facts };
    match facts.misfit(base) {
        Some(what) => Err(hotfix_error(what)),
        None => Ok(facts),
    }
}

/// Returns whether a name has the form `BIGIP1410`, `BIGIQ…`: letters, then digits only.
fn is_product_directory(name: &str) -> bool {
    let digits = name.strip_prefix("BIGIP").or_else(|| name.strip_prefix("BIGIQ"));
    digits.is_some_and(|digits| digits.chars().all(|letter| letter.is_ascii_digit()))
}

/// Checks a value of the file that becomes part of file names.
fn name_part(key: &str, value: String) -> Result<String, String> {
    let legal = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if value.len() > LONGEST {
        return Err(format!("the line `{key}: …` is too long: {} characters", value.len()));
    }
    if value.chars().all(legal) && value.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Ok(value);
    }
    Err(format!(
        "the line `{key}: …` has `{}`; only letters, digits, `.`, `_` and `-` make file names, and a letter or digit at their start",
        value.escape_debug()
    ))
}

impl Facts {
    /// Parses the text of a version file in `directory`, such as `/BIGIP1500`.
    ///
    /// # Errors
    /// Which line is missing or malformed.
    pub fn parse(directory: &str, text: &str) -> Result<Self, String> {
        let mut lines = Vec::new();
        for (position, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() {
                continue;
            }
            let (key, value) = line
                .split_once(": ")
                .ok_or_else(|| format!("line {} is not `Key: value`", position + 1))?;
            lines.push((key.to_owned(), value.trim().to_owned()));
        }
        let first_word = |key: &str| {
            let value = lines.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
            value.and_then(|value| value.split_whitespace().next()).map(str::to_owned)
        };
        let optional = |key: &str| first_word(key).map(|word| name_part(key, word)).transpose();
        let needed =
            |key: &str| optional(key)?.ok_or_else(|| format!("the line `{key}: …` is missing"));
        let version = needed("Version")?;
        Ok(Self {
            directory: directory.to_owned(),
            hotfix: false,
            product: needed("Product")?,
            number: Version::parse(&version)?,
            version,
            build: needed("Build")?,
            base_build: needed("BaseBuild")?,
            project: optional("Project")?,
            lines: lines
                .into_iter()
                .map(|(key, value)| (format!("version_{}", key.to_lowercase()), value))
                .collect(),
        })
    }

    /// Refuses versions that this program does not install.
    ///
    /// # Errors
    /// When the version is too old; `path` is the ISO.
    pub fn check_age(&self, path: &Path) -> Result<()> {
        if self.number >= Version::OLDEST {
            return Ok(());
        }
        let text = format!(
            "`{}` installs {} {}, but versions before 14.1 are not supported",
            path.display(),
            self.product,
            self.version
        );
        Err(Refusal::source(text).hint(
            "use the ISO of 14.1 or newer; older ones need version 1.13 of the F5 BIG-IP Image Generator",
        ))
    }

    /// Returns why the hotfix with these facts does not fit a base ISO.
    fn misfit(&self, base: &Self) -> Option<String> {
        let rows = [
            ("product", &self.product, &base.product),
            ("version", &self.version, &base.version),
            ("build", &self.base_build, &base.build),
        ];
        let (what, expected, found) =
            rows.into_iter().find(|(_, expected, found)| expected != found)?;
        Some(format!("it is for {what} `{expected}`, but the base ISO has {what} `{found}`"))
    }

    /// The product without its dash: `BIGIP`.
    #[must_use]
    pub fn product_name(&self) -> String {
        self.product.replace('-', "")
    }

    /// The facts as members of documents.
    #[must_use]
    pub fn document(&self) -> BTreeMap<String, String> {
        let mut document: BTreeMap<String, String> = self.lines.iter().cloned().collect();
        document.insert("name".to_owned(), self.product.clone());
        document.insert("version".to_owned(), self.version.clone());
        document.insert("build".to_owned(), self.build.clone());
        document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "Product: BIG-IP\nVersion: 15.0.0\nBuild: 0.0.39\nSequence: 1\nBaseBuild: 0.0.39\nEdition: Final\nDate: Tue May  7\n";

    #[test]
    fn the_version_file_becomes_facts() {
        let facts = Facts::parse("/BIGIP1500", FILE).unwrap();
        assert_eq!(facts.product_name(), "BIGIP");
        assert_eq!((facts.version.as_str(), facts.build.as_str()), ("15.0.0", "0.0.39"));
        assert_eq!(facts.number, Version::of(15_000_000));
        assert!(facts.lines.contains(&("version_date".into(), "Tue May  7".into())));
    }

    #[test]
    fn missing_or_malformed_lines_are_reported() {
        for (text, what) in [
            (FILE.replace("Build: 0.0.39\nSeq", "Seq"), "`Build: …`"),
            (FILE.replace("15.0.0", "15.x"), "15.x"),
            (FILE.replace("Sequence: 1", "Sequence"), "line 4"),
            (FILE.replace("Build: 0.0.39", "Build: ../../etc"), "`Build: …` has `../../etc`"),
            (FILE.replace("15.0.0", "15.0.0.0./x"), "`Version: …`"),
            (FILE.replace("BIG-IP", "BIG\u{1b}[2J"), r"`BIG\u{1b}[2J`"),
            (format!("{FILE}Project: .hidden\n"), "`Project: …`"),
        ] {
            let error = Facts::parse("/BIGIP1500", &text).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn a_hotfix_goes_onto_its_own_base_only() {
        let base = Facts::parse("/BIGIP1500", FILE).unwrap();
        let hotfix = |from: &str, to: &str| Facts::parse("", &FILE.replace(from, to)).unwrap();
        assert_eq!(hotfix("Build: 0.0.39\nSeq", "Build: 0.0.44\nSeq").misfit(&base), None);
        for (from, to, part) in [
            ("BIG-IP", "BIG-IQ", "product `BIG-IQ`"),
            ("15.0.0", "15.0.1", "version `15.0.1`"),
            ("BaseBuild: 0.0.39", "BaseBuild: 0.0.38", "build `0.0.38`"),
        ] {
            let what = hotfix(from, to).misfit(&base).unwrap();
            assert!(what.contains(part), "{what}");
        }
    }

    #[test]
    fn versions_before_14_1_are_refused_by_name() {
        for (version, taken) in [
            ("13.1.0.2", false),
            ("14.0.1.1", false),
            ("14.1.0", true),
            ("14.1.0.3", true),
            ("21.0.0", true),
        ] {
            let facts = Facts::parse("/BIGIP", &FILE.replace("15.0.0", version)).unwrap();
            let checked = facts.check_age(Path::new("x.iso"));
            assert_eq!(checked.is_ok(), taken, "{version}");
            if let Err(error) = checked {
                let text = format!("`x.iso` installs BIG-IP {version},");
                assert!(error.message.starts_with(&text), "{error}");
                assert!(error.hint.unwrap().contains("14.1 or newer"));
            }
        }
    }

    #[test]
    fn product_directories_are_letters_then_digits() {
        for (name, yes) in [
            ("BIGIP1500", true),
            ("BIGIQ", true),
            ("BIGIP13107", true),
            ("BIGIP-x", false),
            ("isolinux", false),
        ] {
            assert_eq!(is_product_directory(name), yes, "{name}");
        }
    }
}
