//! Checks that the schema and the document agree, that what is written is read, and that what differs is refused.

use std::{fs, ops::ControlFlow, path::Path, time::Duration};

use build_image_disk::view::View as _;
use build_image_guest::{Attributes, model::Firmware};
use build_image_plugin_api::{Compression, DiskFormat, DiskSpec, DiskVariant, document::Build};
use serde_json::{Value, json};

use super::*;

const SCHEMA: &str = include_str!("../../../docs/schemas/bundle-1.json");
const GO: fn(u64) -> ControlFlow<()> = |_| ControlFlow::Continue(());

/// A document with every member that it can have.
fn whole() -> Document {
    let build = Build::default()
        .image_name("web-1".to_owned())
        .tags([("owner".to_owned(), "team".to_owned())])
        .product([("name".to_owned(), "System".to_owned())])
        .virtual_size(5 << 20)
        .disk_name("web".to_owned())
        .file_stem("web.acme".to_owned());
    let spec = DiskSpec::new(DiskFormat::Qcow2);
    let image = BundledImage { member: "image.qcow2".to_owned(), spec };
    let entry =
        |name: &str| BundledMember { name: name.to_owned(), length: 1, sha256: "0a".repeat(32) };
    let guest = Attributes { firmware: vec![Firmware::Uefi], ..Attributes::default() };
    Document {
        regions: Some(vec!["here".to_owned()]),
        expires: Some("2100-01-01T00:00:00Z".to_owned()),
        guest: Some(guest),
        members: vec![entry(STATEMENT), entry("image.qcow2")],
        ..Document::new("acme", ImageRequest::of(&build), image)
    }
}

/// Checks a value against the parts of JSON Schema that the schema uses.
fn check(schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    let is_of = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the schema has the type {other}"),
    };
    let types = match &schema["type"] {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        Value::String(name) => vec![name.as_str()],
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|name| is_of(name)) {
        return Err(format!("{place} is not {types:?}"));
    }
    if schema.get("const").is_some_and(|expected| expected != value) {
        return Err(format!("{place} is {value}"));
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        let text = value.as_str().unwrap_or_default();
        if !regex::Regex::new(pattern).unwrap().is_match(text) {
            return Err(format!("{place} does not match {pattern}"));
        }
    }
    for item in value.as_array().into_iter().flatten() {
        check(&schema["items"], item, &format!("{place}[]"))?;
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            return Err(format!("{place} has no {name}"));
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(schema), _) => check(schema, member, &place)?,
            (None, rules) if rules.is_object() => check(rules, member, &place)?,
            _ => return Err(format!("{place} is not in the schema")),
        }
    }
    Ok(())
}

/// Calls `visit` with the path of every member of a document, as a JSON pointer.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let members = value.as_object().into_iter().flatten();
    let members = members.map(|(name, member)| (name.clone(), member));
    let items = value.as_array().into_iter().flatten().enumerate();
    let items = items.map(|(number, item)| (number.to_string(), item));
    for (name, member) in members.chain(items) {
        let at = format!("{at}/{name}");
        pointers(member, &at, found);
        found.push(at);
    }
}

#[test]
fn the_schema_and_the_document_agree() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let parse = |value: &Value| Document::parse(value.to_string().as_bytes(), Path::new("x"));
    let mut least = whole();
    (least.regions, least.expires, least.guest) = (None, None, None);
    for document in [whole(), least] {
        let value: Value = serde_json::from_str(&document.text()).unwrap();
        check(&schema, &value, "bundle").unwrap();
        assert_eq!(parse(&value).unwrap(), document);
    }
    let value: Value = serde_json::from_str(&whole().text()).unwrap();
    // Every member of the schema is one of the document.
    for object in ["", "/register", "/guest", "/image", "/image/spec", "/members/0"] {
        let inside: String = object
            .split('/')
            .skip(1)
            .map(
                |name| {
                    if name == "0" { "/items".to_owned() } else { format!("/properties/{name}") }
                },
            )
            .collect();
        let listed = schema.pointer(&format!("{inside}/properties")).unwrap();
        let has = value.pointer(object).unwrap();
        let missing: Vec<&String> =
            listed.as_object().unwrap().keys().filter(|name| has.get(*name).is_none()).collect();
        assert!(missing.is_empty(), "{object}: {missing:?}");
    }
    // Both refuse a document in which one member is missing or has another type.
    let mut all = Vec::new();
    pointers(&value, "", &mut all);
    let mut tried = 0;
    for pointer in all.iter().filter(|pointer| !pointer.contains("/spec")) {
        let mut changed = value.clone();
        *changed.pointer_mut(pointer).unwrap() = json!({"of": ["another", "type"]});
        let refused = check(&schema, &changed, "bundle").is_err();
        assert_eq!(refused, parse(&changed).is_err(), "{pointer}");
        assert!(refused, "{pointer}");
        tried += 1;
    }
    assert!(tried > 30, "{tried}");
}

#[test]
fn documents_that_contradict_themselves_are_refused() {
    for (pointer, value, part) in [
        ("/version", json!(2), "format version 2, but this build-image reads version 1"),
        ("/version", json!("1"), "format version \"1\""),
        ("/format", json!("another"), "not that of a bundle"),
        ("/image/member", json!("other.qcow2"), "lists the members"),
        ("/members/0/name", json!("image.qcow2"), "lists the members"),
        ("/members/1/sha256", json!("0A".repeat(32)), "is not one"),
        ("/register/file_stem", json!("../x"), "not a file name"),
        ("/register/file_stem", json!(".."), "not a file name"),
        ("/register/disk_name", json!("a\u{1b}b"), "disk_name is not a file name"),
    ] {
        let mut document: Value = serde_json::from_str(&whole().text()).unwrap();
        *document.pointer_mut(pointer).unwrap() = value;
        let error = Document::parse(document.to_string().as_bytes(), Path::new("x")).unwrap_err();
        assert!(error.message.contains(part), "{pointer}: {error}");
    }
}

/// Writes a bundle with this image.
fn made(directory: &Path, image: &[u8]) -> Result<u64, crate::error::Error> {
    let read = |buffer: &mut [u8], offset: u64| {
        let at = usize::try_from(offset).unwrap().min(image.len());
        let count = buffer.len().min(image.len() - at).min(700_001);
        buffer[..count].copy_from_slice(&image[at..at + count]);
        Ok(count)
    };
    let contents = Contents {
        document: whole(),
        statement: &|sha256| Ok(format!("{{\"of\":\"{sha256}\"}}\n")),
        signer: None,
        image: &read,
        length: image.len() as u64,
    };
    write(&directory.join("x.bundle.tar"), &contents, &mut |done| GO(done))
}

fn policy() -> Policy {
    Policy { provider: "acme".to_owned(), keys: Vec::new() }
}

#[test]
fn an_image_is_read_back_at_any_place_and_equal_inputs_give_equal_bundles() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.bundle.tar");
    let mut image: Vec<u8> = (0..2_600_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    image[900_000..1_400_000].fill(0);
    let length = made(directory.path(), &image).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, length);
    made(directory.path(), &image).unwrap();
    assert!(bytes == fs::read(&path).unwrap());
    let bundle = Bundle::open(&path, &policy()).unwrap();
    let view = bundle.verify(&mut |done| GO(done)).unwrap();
    assert_eq!((view.len(), view.virtual_size()), (image.len() as u64, 5 << 20));
    for (offset, count) in
        [(0, 10), (1 << 20, 1 << 20), ((1 << 20) - 3, 6), (2_599_999, 9), (0, 3_000_000)]
    {
        let mut buffer = vec![1; count];
        let found = view.read_at(&mut buffer, offset).unwrap();
        let at = usize::try_from(offset).unwrap();
        let expected = &image[at..image.len().min(at + count)];
        assert!(buffer[..found] == *expected, "{offset} {count}");
    }
    assert_eq!(view.read_at(&mut [0; 8], image.len() as u64 + 1).unwrap(), 0);
    // An empty image has a place too.
    made(directory.path(), b"").unwrap();
    let empty = Bundle::open(&path, &policy()).unwrap();
    assert_eq!(empty.verify(&mut |done| GO(done)).unwrap().len(), 0);
}

#[test]
fn a_byte_that_changes_after_the_verification_is_never_read() {
    use std::os::unix::fs::FileExt as _;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.bundle.tar");
    let image = vec![7; 40 << 20];
    made(directory.path(), &image).unwrap();
    let bundle = Bundle::open(&path, &policy()).unwrap();
    let view = bundle.verify(&mut |done| GO(done)).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    let before = file.metadata().unwrap();
    file.write_all_at(b"x", before.len() - (20 << 20)).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let read: Vec<_> = (0..40)
        .map(|number| view.read_at(&mut buffer, number << 20).map_err(|e| e.kind()))
        .collect();
    let refused = read.iter().filter(|read| read.is_err()).count();
    assert_eq!(refused, 1);
    assert!(read.contains(&Err(build_image_disk::Kind::Changed)));
    let error = Bundle::open(&path, &policy()).unwrap().verify(&mut |done| GO(done)).unwrap_err();
    assert!(error.message.contains("`image.qcow2` in"), "{error}");
}

#[test]
fn a_bundle_that_cannot_be_written_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.bundle.tar");
    fs::write(&path, "older").unwrap();
    let contents = Contents {
        document: whole(),
        statement: &|_| Ok(String::new()),
        signer: None,
        image: &|buffer, _| Ok(buffer.len()),
        length: 3 << 20,
    };
    let stopped = write(&path, &contents, &mut |_| ControlFlow::Break(())).unwrap_err();
    assert_eq!(stopped.stage, crate::error::Stage::Interrupted);
    let short = Contents { image: &|_, _| Ok(0), ..contents };
    assert!(write(&path, &short, &mut |done| GO(done)).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "older");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn regions_and_times_are_compared() {
    let (path, document) = (Path::new("x"), whole());
    check_regions(&document, ["here", "here"], path).unwrap();
    for (regions, part) in [
        (&["here", "there"][..], "for the regions here, not for there"),
        (&[], "does not report where"),
    ] {
        let error = check_regions(&document, regions.iter().copied(), path).unwrap_err();
        assert!(error.message.contains(part), "{error}");
    }
    let any = Document { regions: None, ..whole() };
    check_regions(&any, ["there"], path).unwrap();
    let policy = policy();
    policy.check(&document, path).unwrap();
    for (expires, part) in [
        (expiry(Duration::ZERO).unwrap(), "expired at"),
        ("2001-01-01T00:00:00Z".to_owned(), "expired at"),
        ("tomorrow".to_owned(), "is not a time"),
    ] {
        let document = Document { expires: Some(expires), ..whole() };
        let error = policy.check(&document, path).unwrap_err();
        assert!(error.message.contains(part), "{error}");
    }
    let later = Document { expires: Some(expiry(Duration::from_secs(60)).unwrap()), ..whole() };
    policy.check(&later, path).unwrap();
    assert!(expiry(Duration::MAX).is_err());
}

#[test]
fn only_differences_that_every_reader_of_qcow2_reads_are_accepted() {
    let qcow2 = DiskSpec::new(DiskFormat::Qcow2);
    let vhd = |variant| DiskSpec::new(DiskFormat::Vhd).variant(variant);
    for (has, asked, fits) in [
        (qcow2.clone(), qcow2.clone().compression(Compression::Zlib), true),
        (qcow2.clone().variant(DiskVariant::V2), qcow2.clone(), true),
        (qcow2.clone(), DiskSpec::new(DiskFormat::Raw), false),
        (vhd(DiskVariant::Fixed), vhd(DiskVariant::Dynamic), false),
        (vhd(DiskVariant::Fixed), vhd(DiskVariant::Fixed), true),
    ] {
        assert_eq!(is_same_image(&has, &asked), fits, "{has} {asked}");
    }
}
