//! Tests the documents of the contract: their JSON Schemas and an example of each are kept in `schemas/`, one
//! directory per version of the ABI. Every later version must accept old examples.
//!
//! After an intended change: `UPDATE_SCHEMAS=1 cargo test -p build-image-plugin-api --test documents`.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::{fs, path::PathBuf};

use build_image_plugin_api::{
    ABI_VERSION, Archive, Compression, Description, Disk, DiskFormat, DiskNeeds, DiskSpec, Error,
    ErrorKind, Event, GuestNeeds, LetterCase, NameRules, Ovf, OvfConfiguration, OvfNetwork,
    OvfProduct, OvfProperty, Resource, Setting, SettingKind, Status, TagRules,
    document::{
        Build, CheckReport, CheckRequest, DiscardReason, DiscardRequest, Discarded, DiskRequest,
        Finding, HostFacts, Image, RegisterRequest, Registered, Remaining, UploadRequest, Uploaded,
    },
    wire::Details,
};
use schemars::{JsonSchema, schema_for};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// A document: its name, an example with every member set, its schema, and a function that reads and writes it.
struct Document {
    name: &'static str,
    example: Value,
    schema: Value,
    again: fn(Value) -> serde_json::Result<Value>,
}

fn document<T: Serialize + DeserializeOwned + JsonSchema>(
    name: &'static str,
    example: &T,
) -> Document {
    let again = |value| serde_json::to_value(serde_json::from_value::<T>(value)?);
    Document {
        name,
        example: serde_json::to_value(example).unwrap(),
        schema: schema_for!(T).to_value(),
        again,
    }
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

fn ovf() -> Ovf {
    Ovf {
        name: "machine".into(),
        annotation: "a machine".into(),
        product: Some(OvfProduct {
            name: "product".into(),
            vendor: "vendor".into(),
            version: "1".into(),
            full_version: "1.2.3".into(),
            properties: vec![OvfProperty {
                key: "net.mgmt.addr".into(),
                label: "address".into(),
                description: "where it is reached".into(),
                category: "network".into(),
                password: true,
                ..OvfProperty::default()
            }],
            ..OvfProduct::default()
        }),
        eula: Some("terms".into()),
        hardware_version: 10,
        uefi: true,
        cpus: 2,
        memory_mib: 4096,
        networks: vec![OvfNetwork {
            name: "management".into(),
            description: "where it is reached".into(),
            ..OvfNetwork::default()
        }],
        configurations: vec![OvfConfiguration {
            id: "small".into(),
            label: "small".into(),
            description: "for a trial".into(),
            cpus: 2,
            reserved_mhz: 2000,
            memory_mib: 4096,
            default: true,
            ..OvfConfiguration::default()
        }],
        manifest_digest: "SHA256".into(),
        ..Ovf::default()
    }
}

fn spec() -> DiskSpec {
    DiskSpec {
        format: DiskFormat::Vmdk,
        variant: "stream_optimized".into(),
        compression: Compression::Zlib,
        archive: Archive::Ova,
        member: "disk.vmdk".into(),
        suffix: "ova".into(),
        ovf: Some(ovf()),
        ..DiskSpec::default()
    }
}

fn disk() -> Disk {
    Disk {
        id: 1,
        spec: spec(),
        virtual_size: 1 << 30,
        length: Some(4096),
        length_limit: 8192,
        deferred_prefix_len: 512,
        file_name: "web.ova".into(),
        identity: "abc".into(),
        ..Disk::default()
    }
}

fn resource() -> Resource {
    Resource::new("image", "web")
        .with_id("m-1")
        .in_region("eu-1")
        .with("zone", "a")
        .as_deliverable()
}

fn build() -> Build {
    Build {
        run_id: "r-1".into(),
        image_name: "web".into(),
        image_name_chosen: true,
        description: "a web server".into(),
        product: [("name".into(), "BIG-IP".into())].into(),
        architecture: "x86_64".into(),
        boot_mode: "uefi".into(),
        virtual_size: 1 << 30,
        tags: [("team".into(), "net".into())].into(),
        image_dir: Some("/images".into()),
        file_stem: "web".into(),
        disk_name: "web-disk".into(),
        ..Build::default()
    }
}

fn description() -> Description {
    Description {
        name: "acme".into(),
        version: "1.2.3".into(),
        summary: "images for Acme".into(),
        status: Status::Stub,
        homepage: "https://example.com".into(),
        license: "MIT".into(),
        settings: vec![Setting {
            key: "ACME_SIZE".into(),
            summary: "a size".into(),
            kind: SettingKind::Size,
            pattern: "[0-9]+".into(),
            choices: vec!["1".into()],
            default: Some("1".into()),
            required: true,
            secret: true,
            hidden: true,
            group: "Acme".into(),
            ..Setting::default()
        }],
        disk: DiskNeeds {
            spec: spec(),
            package: Some(spec()),
            minimum_bytes: Some(1),
            maximum_bytes: Some(2),
            multiple_of_bytes: Some(1),
            ..DiskNeeds::default()
        },
        guest: GuestNeeds {
            hypervisor: Some("acme".into()),
            minimum_version: [("BIG-IP".into(), "14.1".into())].into(),
            volumes: vec!["data".into()],
            skip_boot_fixup: true,
            wishes: [("time_zone".to_owned(), json!("UTC"))].into(),
            ..GuestNeeds::default()
        },
        image_name: Some(NameRules {
            minimum_length: 2,
            maximum_length: 128,
            pattern: "[a-z].*".into(),
            explanation: "begins with a letter".into(),
            replace: "[^a-z]".into(),
            letter_case: LetterCase::Lower,
            forbidden_prefixes: vec!["http://".into()],
            forbidden_texts: vec!["--".into()],
            ..NameRules::default()
        }),
        tags: Some(TagRules {
            maximum: 20,
            key_length: 64,
            value_length: 64,
            forbidden_key_prefixes: vec!["acs:".into()],
            forbidden_value_prefixes: vec!["aliyun".into()],
            forbidden_texts: vec!["http://".into()],
            keys_ignore_case: true,
            ..TagRules::default()
        }),
        uploads: true,
        capabilities: vec!["copy".into()],
        ..Description::default()
    }
}

fn documents() -> Vec<Document> {
    [of_the_beginning(), of_the_upload(), of_the_end()].into_iter().flatten().collect()
}

fn of_the_beginning() -> Vec<Document> {
    let error = Error::new(ErrorKind::Quota, "too many images").with_hint("delete some");
    let mut bad = Finding::error("bucket", &error);
    bad.causes = vec!["the account's limit".into()];
    let host = HostFacts { version: "1.0.0".into(), disks: vec![spec()], ..HostFacts::default() };
    vec![
        document("description", &description()),
        document(
            "check_request",
            &CheckRequest {
                build: build(),
                host,
                online: true,
                dry_run: true,
                ..CheckRequest::default()
            },
        ),
        document(
            "check_report",
            &CheckReport {
                findings: vec![bad],
                disk: Some(spec()),
                creates: vec![resource()],
                permissions: vec!["images:Create".into()],
                bytes_per_second: Some(1 << 20),
                ..CheckReport::default()
            },
        ),
        document(
            "disk_request",
            &DiskRequest {
                build: build(),
                spec: spec(),
                published: true,
                ..DiskRequest::default()
            },
        ),
        document("disk_spec", &spec()),
        document("disk", &disk()),
    ]
}

fn of_the_upload() -> Vec<Document> {
    let facts = || [("key".to_owned(), json!({"a": [1]}))].into();
    let uploaded = Uploaded {
        location: "https://example.com/web".into(),
        bytes_sent: 4096,
        facts: facts(),
        ..Uploaded::default()
    };
    let image = Image {
        id: "m-1".into(),
        name: "web".into(),
        region: Some("eu-1".into()),
        ..Image::default()
    };
    vec![
        document(
            "upload_request",
            &UploadRequest { build: build(), disk: disk(), ..UploadRequest::default() },
        ),
        document("uploaded", &uploaded),
        document(
            "register_request",
            &RegisterRequest { build: build(), uploaded, ..RegisterRequest::default() },
        ),
        document(
            "registered",
            &Registered { images: vec![image], facts: facts(), ..Registered::default() },
        ),
    ]
}

fn of_the_end() -> Vec<Document> {
    let remaining = Remaining {
        resource: resource(),
        reason: "in use".into(),
        hint: Some("stop the machine".into()),
        ..Remaining::default()
    };
    let details = Details {
        hint: Some("delete some".into()),
        context: vec![("request_id".into(), "R-1".into())],
        causes: vec!["the account's limit".into()],
    };
    vec![
        document(
            "discard_request",
            &DiscardRequest {
                run_id: "r-1".into(),
                reason: DiscardReason::Failed,
                resources: vec![resource()],
                ..DiscardRequest::default()
            },
        ),
        document(
            "discarded",
            &Discarded {
                removed: vec![resource()],
                remaining: vec![remaining],
                ..Discarded::default()
            },
        ),
        document("event", &Event::ResourceCreated { resource: resource() }),
        document(
            "event_warning",
            &Event::Warning { text: "odd".into(), hint: Some("look".into()) },
        ),
        document("error_details", &details),
    ]
}

#[test]
fn every_document_matches_its_snapshot() {
    let directory = directory().join(ABI_VERSION);
    for document in documents() {
        let texts = [
            (format!("{}.schema.json", document.name), &document.schema),
            (format!("{}.example.json", document.name), &document.example),
        ];
        for (file, value) in texts {
            let (path, text) = (directory.join(&file), format!("{value:#}\n"));
            if std::env::var_os("UPDATE_SCHEMAS").is_some() {
                fs::create_dir_all(&directory).unwrap();
                fs::write(&path, &text).unwrap();
            }
            let kept = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                kept == text,
                "{file} differs: the contract changed. When it is meant, and nothing was removed or \
                 re-used, say so in the changelog and write it anew with UPDATE_SCHEMAS=1. Now: {text}"
            );
        }
    }
}

#[test]
fn examples_have_every_member_of_their_schema() {
    for document in documents() {
        complete(&document.schema, &document.schema, &document.example, document.name);
    }
}

/// Walks schema and example in parallel.
fn complete(root: &Value, schema: &Value, example: &Value, path: &str) {
    let target = schema["$ref"].as_str().and_then(|text| root.pointer(&text[1..]));
    let schema = target.unwrap_or(schema);
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let value = example.get(name).unwrap_or_else(|| panic!("{path} is not in the example"));
        let optional = member["anyOf"].as_array().and_then(|any| any.first()).unwrap_or(member);
        match value {
            Value::Array(items) => {
                let first = items.first().unwrap_or_else(|| panic!("{path} is empty"));
                complete(root, &member["items"], first, &path);
            }
            value => complete(root, optional, value, &path),
        }
    }
}

#[test]
fn documents_of_every_version_are_understood_without_loss() {
    let today = documents();
    let mut read = 0;
    for version in fs::read_dir(directory()).unwrap() {
        let version = version.unwrap().path();
        for document in &today {
            let path = version.join(format!("{}.example.json", document.name));
            // A document of a later version than this directory's.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let old: Value = serde_json::from_str(&text).unwrap();
            let new = (document.again)(old.clone()).unwrap();
            within(&old, &new, document.name);
            let mut later = old.clone();
            later["a_member_of_a_later_version"] = json!({"a": [null]});
            assert_eq!((document.again)(later).unwrap(), new, "{}", document.name);
            if old.get("type").is_none() {
                (document.again)(json!({})).unwrap();
            }
            read += 1;
        }
    }
    assert!(read >= today.len());
}

/// Checks that `new` contains everything in `old`, with the same value.
fn within(old: &Value, new: &Value, path: &str) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in old {
                let path = format!("{path}.{name}");
                within(value, new.get(name).unwrap_or_else(|| panic!("{path} was lost")), &path);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            old.iter().zip(new).for_each(|(old, new)| within(old, new, path));
        }
        (old, new) => assert_eq!(old, new, "{path}"),
    }
}

#[test]
fn every_document_has_a_schema_and_the_member_that_keeps_its_literals_open() {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = 0;
    for file in fs::read_dir(source).unwrap() {
        let path = file.unwrap().path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for document in text.split("#[derive(").skip(1) {
            let (head, _) = document.split_once("\n}").unwrap_or((document, ""));
            let travels = head.contains("#[serde(default)]\npub struct ");
            if !travels || head.contains("struct Details") {
                continue;
            }
            let name = head.split("pub struct ").nth(1).unwrap().split(' ').next().unwrap();
            assert!(head.ends_with("_end_with_default: (),"), "{name} in {}", path.display());
            assert!(head.contains("schemars::JsonSchema"), "{name} in {}", path.display());
            found += 1;
        }
    }
    assert!(found >= 25, "{found} documents were found");
}
