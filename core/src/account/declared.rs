//! Parses the file that declares how the images of an account must be, and says what an image must have by it.
//!
//! The file is YAML: `version: 1` and a list `images`. Each entry names images by `name`, in which `*` stands for any text,
//! and declares some of `regions`, `accounts`, `tags`, `audience`, `deprecated`, `encrypted`, and `keys`. What an entry does not declare is not
//! compared for the image, and copied from it for its copies.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use build_image_plugin_api::document::{Audience, Item, ItemKind, ItemState};
use regex::Regex;
use serde_json::{Map, Value};

use super::drift::{ENCRYPTED, KEY};
use crate::{
    error::{Error, Result, Stage},
    settings::yaml_with_lines,
};

/// The version of the file that this program reads.
const VERSION: u64 = 1;
/// Members of an entry.
const MEMBERS: [&str; 9] = [
    "name",
    "newest",
    "regions",
    "accounts",
    "tags",
    "audience",
    "deprecated",
    "encrypted",
    "keys",
];
/// What an error advises.
const HINT: &str = "see the documentation of images, where the members of the file are listed";

/// How some images must be.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Line of the entry in its file, from 1.
    pub line: usize,
    /// Their names, in which `*` stands for any text.
    pub name: String,
    pattern: Regex,
    /// Only this many of the newest.
    newest: Option<usize>,
    /// Exactly the regions that have them.
    pub regions: Option<Vec<String>>,
    accounts: Option<BTreeSet<String>>,
    tags: BTreeMap<String, String>,
    audience: Option<Audience>,
    deprecated: Option<bool>,
    encrypted: Option<bool>,
    /// Keys that encrypt the image, by region.
    pub keys: BTreeMap<String, String>,
}

/// Reads a file of declarations.
///
/// # Errors
/// When it cannot be read, or is not one; with the line.
pub fn declarations(path: &Path) -> Result<Vec<Declared>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(Stage::Settings, format!("cannot read `{}`", path.display()))
            .caused_by(&error)
            .hint("give an existing YAML file with --file")
    })?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Vec<Declared>> {
    let (document, lines) = yaml_with_lines(path, text).map_err(|error| error.hint(HINT))?;
    let reader = Reader { path, lines };
    let top = reader.map(&document, "")?;
    reader.only(top, "", &["version", "images"])?;
    match top.get("version") {
        Some(version) if version.as_u64() == Some(VERSION) => {}
        Some(_) => return Err(reader.wrong("/version", "`version` must be 1")),
        None => return Err(reader.wrong("", "`version` is missing, it must be 1")),
    }
    let entries = top.get("images").and_then(Value::as_array);
    let entries = entries.ok_or_else(|| reader.wrong("/images", "`images` is not a list"))?;
    if entries.is_empty() {
        return Err(reader.wrong("/images", "`images` is empty"));
    }
    let numbered = entries.iter().enumerate();
    numbered.map(|(at, entry)| reader.entry(&format!("/images/{at}"), entry)).collect()
}

struct Reader<'a> {
    path: &'a Path,
    /// Lines by JSON pointer.
    lines: BTreeMap<String, usize>,
}

impl Reader<'_> {
    fn line(&self, pointer: &str) -> usize {
        self.lines.get(pointer).copied().unwrap_or(1)
    }

    fn wrong(&self, pointer: &str, what: &str) -> Error {
        let text = format!("{}, line {}: {what}", self.path.display(), self.line(pointer));
        Error::new(Stage::Settings, text).hint(HINT)
    }

    fn map<'v>(&self, value: &'v Value, pointer: &str) -> Result<&'v Map<String, Value>> {
        value.as_object().ok_or_else(|| self.wrong(pointer, "a map of keys and values is expected"))
    }

    /// Refuses keys that have no meaning: what they ask for would silently not be done.
    fn only(&self, map: &Map<String, Value>, pointer: &str, known: &[&str]) -> Result<()> {
        let unknown = map.keys().find(|key| !known.contains(&key.as_str()));
        unknown.map_or(Ok(()), |key| {
            let text = format!("`{key}` is not known here, only {}", known.join(", "));
            Err(self.wrong(&format!("{pointer}/{key}"), &text))
        })
    }

    fn entry(&self, at: &str, entry: &Value) -> Result<Declared> {
        let map = self.map(entry, at)?;
        self.only(map, at, &MEMBERS)?;
        let wrong = |key: &str, what: &str| self.wrong(&format!("{at}/{key}"), what);
        let name = map.get("name").and_then(text).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| self.wrong(at, "`name` is missing"))?;
        let parts: Vec<String> = name.split('*').map(regex::escape).collect();
        let pattern = Regex::new(&format!("^{}$", parts.join(".*")))
            .map_err(|_| wrong("name", "`name` is too long"))?;
        let newest = match map.get("newest") {
            None => None,
            Some(number) => match number.as_u64().and_then(|number| usize::try_from(number).ok()) {
                Some(number) if number > 0 => Some(number),
                _ => return Err(wrong("newest", "`newest` is not a number above 0")),
            },
        };
        let audience = match map.get("audience").map(|value| value.as_str().unwrap_or_default()) {
            None => None,
            Some("private") => Some(Audience::Private),
            Some("community") => Some(Audience::Community),
            Some("public") => Some(Audience::Public),
            Some(_) => {
                return Err(wrong("audience", "`audience` is one of private, community, public"));
            }
        };
        let flag = |key: &str| match map.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(wrong(key, &format!("`{key}` is true or false"))),
        };
        let texts = |key: &str| match map.get(key) {
            None => Ok(BTreeMap::new()),
            Some(values) => self.tags(&format!("{at}/{key}"), values),
        };
        let (keys, encrypted) = (texts("keys")?, flag("encrypted")?);
        if !keys.is_empty() && encrypted == Some(false) {
            return Err(wrong("keys", "`keys` encrypt images that `encrypted` says are not"));
        }
        let regions = self.texts(map, at, "regions")?;
        if regions.as_ref().is_some_and(Vec::is_empty) {
            return Err(wrong("regions", "`regions` is empty; build-image images delete deletes"));
        }
        Ok(Declared {
            line: self.line(at),
            name,
            pattern,
            newest,
            regions,
            accounts: self.texts(map, at, "accounts")?.map(|list| list.into_iter().collect()),
            tags: texts("tags")?,
            audience,
            deprecated: flag("deprecated")?,
            encrypted,
            keys,
        })
    }

    /// Reads a map of texts: tags, or keys by region.
    fn tags(&self, at: &str, tags: &Value) -> Result<BTreeMap<String, String>> {
        let read = |(key, value): (&String, &Value)| {
            let wrong =
                || self.wrong(&format!("{at}/{key}"), &format!("`{key}` has no plain text"));
            Ok((key.clone(), text(value).ok_or_else(wrong)?))
        };
        self.map(tags, at)?.iter().map(read).collect()
    }

    fn texts(&self, map: &Map<String, Value>, at: &str, key: &str) -> Result<Option<Vec<String>>> {
        let Some(value) = map.get(key) else { return Ok(None) };
        let wrong =
            || self.wrong(&format!("{at}/{key}"), &format!("`{key}` is not a list of texts"));
        let list = value.as_array().ok_or_else(wrong)?;
        list.iter().map(|item| text(item).ok_or_else(wrong)).collect::<Result<_>>().map(Some)
    }
}

/// A scalar as a text: account numbers are numbers for YAML.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

impl Declared {
    /// Returns the images that the entry names: complete ones that builds made and that are not copies; with `newest`
    /// only the newest of each region.
    #[must_use]
    pub fn images<'a>(&self, items: &'a [Item]) -> Vec<&'a Item> {
        let is_named = |item: &&Item| {
            item.kind == ItemKind::Image
                && item.run_id.is_some()
                && item.copied_from.is_none()
                && item.resource.deliverable
                && is_complete(item)
                && self.pattern.is_match(&item.name)
        };
        let mut found: Vec<&Item> = items.iter().filter(is_named).collect();
        found.sort_by_key(|item| (std::cmp::Reverse(item.created), item.id.clone()));
        let mut regions: BTreeMap<Option<&str>, usize> = BTreeMap::new();
        found.retain(|item| {
            let count = regions.entry(item.region.as_deref()).or_default();
            *count += 1;
            self.newest.is_none_or(|newest| *count <= newest)
        });
        found
    }

    /// Returns what an image, or a copy of it, must be like: `item` is the one that is compared.
    #[must_use]
    pub fn wanted(&self, image: &Item, item: &Item) -> Item {
        let mut wanted = image.clone();
        wanted.tags.extend(self.tags.clone());
        if let Some(audience) = self.audience {
            wanted.audience = audience;
        }
        if let Some(accounts) = &self.accounts {
            wanted.shared_with = Some(accounts.iter().cloned().collect());
        }
        self.encrypt(&mut wanted, item);
        let is_deprecated = item.state == ItemState::Deprecated || item.deprecated_at.is_some();
        match self.deprecated {
            // Since when does not matter.
            Some(true) if is_deprecated => {
                (wanted.state, wanted.deprecated_at) = (item.state, item.deprecated_at);
            }
            Some(true) => (wanted.state, wanted.deprecated_at) = (ItemState::Deprecated, None),
            Some(false) => (wanted.state, wanted.deprecated_at) = (ItemState::Available, None),
            None => {}
        }
        wanted
    }

    /// Sets the encryption that is declared for the region of `item`.
    fn encrypt(&self, wanted: &mut Item, item: &Item) {
        let key = item.region.as_ref().and_then(|region| self.keys.get(region));
        let is_encrypted = self.encrypted.or(key.map(|_| true));
        let Some(is_encrypted) = is_encrypted else { return };
        wanted.region.clone_from(&item.region);
        let word = if is_encrypted { "yes" } else { "no" };
        wanted.attributes.insert(ENCRYPTED.to_owned(), word.to_owned());
        // Without a key that is declared, any encrypts it.
        match key.or_else(|| item.attributes.get(KEY).filter(|_| is_encrypted)) {
            Some(key) => wanted.attributes.insert(KEY.to_owned(), key.clone()),
            None => wanted.attributes.remove(KEY),
        };
    }
}

fn is_complete(item: &Item) -> bool {
    matches!(item.state, ItemState::Available | ItemState::Deprecated | ItemState::Disabled)
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::Resource;

    use super::*;
    use crate::account::compare;

    fn read(text: &str) -> Result<Vec<Declared>> {
        parse(Path::new("images.yml"), text)
    }

    fn image(id: &str, name: &str, created: u64) -> Item {
        let resource = Resource::new("image", id).as_deliverable();
        Item::new(ItemKind::Image, id, resource)
            .name(name)
            .region("a")
            .run_id("r")
            .created(created)
            .state(ItemState::Available)
            .audience(Audience::Private)
            .shared_with(vec!["1".to_owned()])
    }

    #[test]
    fn a_file_that_is_not_understood_has_one_error_with_its_line() {
        for (text, line, what) in [
            ("", 1, "map"),
            ("- a\n", 1, "map"),
            ("images: []\n", 1, "`version` is missing"),
            ("version: 2\nimages: [{name: a}]\n", 1, "must be 1"),
            ("version: 1\n", 1, "`images` is not a list"),
            ("version: 1\nimages: []\n", 2, "`images` is empty"),
            ("version: 1\nimages: {}\n", 2, "not a list"),
            ("version: 1\nmore: 1\nimages: [{name: a}]\n", 2, "`more` is not known"),
            ("version: 1\nimages:\n  - regions: [a]\n", 3, "`name` is missing"),
            ("version: 1\nimages:\n  - name: ''\n", 3, "`name` is missing"),
            ("version: 1\nimages:\n  - name: a\n    region: x\n", 4, "`region` is not known"),
            ("version: 1\nimages:\n  - name: a\n    regions: x\n", 4, "`regions` is not a list"),
            ("version: 1\nimages:\n  - name: a\n    regions: []\n", 4, "`regions` is empty"),
            ("version: 1\nimages:\n  - name: a\n    newest: 0\n", 4, "`newest`"),
            ("version: 1\nimages:\n  - name: a\n    accounts: [[1]]\n", 4, "`accounts`"),
            ("version: 1\nimages:\n  - name: a\n    tags:\n      b: [1]\n", 5, "`b` has no"),
            ("version: 1\nimages:\n  - name: a\n    encrypted: 1\n", 4, "`encrypted`"),
            ("version: 1\nimages:\n  - name: a\n    keys: [k]\n", 4, "map"),
            ("version: 1\nimages:\n  - {name: a, encrypted: false, keys: {r: k}}\n", 3, "`keys`"),
            ("version: 1\nimages:\n  - name: a\n    audience: all\n", 4, "`audience`"),
            ("version: 1\nimages:\n  - name: a\n    deprecated: soon\n", 4, "`deprecated`"),
            ("version: 1\nimages:\n  - name: a\n    name: b\n", 4, "given twice"),
            ("version: 1\nimages: [\n", 2, "not YAML"),
        ] {
            let error = read(text).unwrap_err();
            let message = &error.message;
            assert!(message.starts_with("images.yml, line "), "{text:?}: {message}");
            let exact = what == "not YAML" || message.contains(&format!("line {line}:"));
            assert!(exact && message.contains(what), "{text:?}: {message}");
            assert_eq!(error.hint.as_deref(), Some(HINT), "{text:?}");
        }
    }

    #[test]
    fn names_stand_for_images_that_builds_made() {
        let mut copy = image("c", "web-1", 9);
        copy.copied_from = Some(image("a", "web-1", 1).reference());
        let mut foreign = image("f", "web-2", 9);
        foreign.run_id = None;
        let failed = image("x", "web-3", 9).state(ItemState::Failed);
        let mut away = image("w", "web-0", 1);
        away.region = Some("b".to_owned());
        let all = [
            image("a", "web-1", 1),
            image("b", "web-2", 2),
            image("d", "my-web-1", 3),
            image("e", "web.1", 4),
            copy,
            foreign,
            failed,
            away,
        ];
        for (entry, ids) in [
            ("name: web-1", &["a"][..]),
            ("name: web-*", &["b", "a", "w"]),
            ("name: '*web-1'", &["d", "a"]),
            ("name: web.1", &["e"]),
            ("name: '*'\n    newest: 1", &["e", "w"]),
            ("name: db", &[]),
        ] {
            let text = format!("version: 1\nimages:\n  - {entry}\n");
            let declared = read(&text).unwrap();
            let found: Vec<&str> =
                declared[0].images(&all).iter().map(|item| item.id.as_str()).collect();
            assert_eq!(found, ids, "{entry}");
        }
    }

    #[test]
    fn only_what_is_declared_differs() {
        let mut old = image("o", "web-1", 1).state(ItemState::Deprecated);
        old.deprecated_at = Some(7);
        let plain = image("a", "web-1", 1);
        let mut secret = plain.clone();
        secret.attributes = [(ENCRYPTED, "yes"), (KEY, "k")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let mut tagged = plain.clone();
        tagged.tags = [("owner".to_owned(), "us".to_owned())].into();
        for (entry, item, subjects) in [
            ("newest: 1", &plain, &[][..]),
            ("accounts: [1]", &plain, &[]),
            ("accounts: [1, 2]", &plain, &["accounts"]),
            ("accounts: [2]", &plain, &["accounts", "accounts"]),
            ("accounts: []", &plain, &["accounts"]),
            ("tags: {owner: us}", &plain, &["tag owner"]),
            ("tags: {owner: us}", &tagged, &[]),
            ("tags: {owner: we}", &tagged, &["tag owner"]),
            ("tags: {more: 1}", &tagged, &["tag more"]),
            ("audience: private", &plain, &[]),
            ("audience: public", &plain, &["audience"]),
            ("deprecated: true", &plain, &["deprecated"]),
            ("deprecated: true", &old, &[]),
            ("deprecated: false", &old, &["deprecated"]),
            ("deprecated: false", &plain, &[]),
            ("encrypted: true", &plain, &["attribute encrypted"]),
            ("encrypted: false", &plain, &["attribute encrypted"]),
            ("keys: {a: k}", &plain, &["attribute encrypted", "attribute kms_key"]),
            ("keys: {b: k}", &plain, &[]),
            ("encrypted: true", &secret, &[]),
            ("encrypted: false", &secret, &["attribute encrypted", "attribute kms_key"]),
            ("keys: {a: k}", &secret, &[]),
            ("keys: {a: other}", &secret, &["attribute kms_key"]),
        ] {
            let text = format!("version: 1\nimages:\n  - name: web-1\n    {entry}\n");
            let declared = &read(&text).unwrap()[0];
            let found = compare(&declared.wanted(item, item), item);
            let found: Vec<&str> = found.iter().map(|one| one.subject.as_str()).collect();
            assert_eq!(found, subjects, "{entry}");
        }
    }
}
