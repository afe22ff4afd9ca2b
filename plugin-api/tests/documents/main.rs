//! Tests the documents of the contract: their JSON Schemas and an example of each are kept in `schemas/`, one
//! directory per version of the ABI. Every later version must accept old examples.
//!
//! After an intended change: `UPDATE_SCHEMAS=1 cargo test -p build-image-plugin-api --test documents`.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod account;

use std::{fs, path::PathBuf};

use build_image_plugin_api::{
    ABI_VERSION, Architecture, Archive, BootMode, Compression, Description, Disk, DiskFormat,
    DiskNeeds, DiskSpec, DriverNeed, Error, ErrorKind, Event, Exhausted, GuestNeeds, LetterCase,
    MachineNeeds, NameRules, Ovf, OvfConfiguration, OvfNetwork, OvfProduct, OvfProperty, Resource,
    Setting, SettingKind, Status, TagRules,
    document::{
        Build, CheckReport, CheckRequest, DiscardReason, DiscardRequest, Discarded, DiskRequest,
        Finding, GuestFacts, HostFacts, Image, Purpose, Reference, RegisterRequest, Registered,
        Remaining, UploadRequest, Uploaded,
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
    Ovf::new("machine")
        .annotation("a machine")
        .product(
            OvfProduct::new("product")
                .vendor("vendor")
                .version("1")
                .full_version("1.2.3")
                .properties([OvfProperty::new("net.mgmt.addr", "address")
                    .description("where it is reached")
                    .category("network")
                    .password(true)]),
        )
        .eula("terms")
        .hardware_version(10)
        .uefi(true)
        .cpus(2)
        .memory_mib(4096)
        .networks([OvfNetwork::new("management", "where it is reached")])
        .configurations([OvfConfiguration::new("small", "small")
            .description("for a trial")
            .cpus(2)
            .reserved_mhz(2000)
            .memory_mib(4096)
            .used_by_default(true)])
        .manifest_digest("SHA256")
}

fn spec() -> DiskSpec {
    DiskSpec::new(DiskFormat::Vmdk)
        .variant("stream_optimized")
        .compression(Compression::Zlib)
        .archive(Archive::Ova)
        .member("disk.vmdk")
        .suffix("ova")
        .ovf(ovf())
}

fn disk() -> Disk {
    Disk::default()
        .id(1)
        .spec(spec())
        .virtual_size(1 << 30)
        .length(4096)
        .length_limit(8192)
        .deferred_prefix_len(512)
        .file_name("web.ova")
        .identity("abc")
}

fn resource() -> Resource {
    Resource::new("image", "web")
        .with_id("m-1")
        .in_region("eu-1")
        .with("zone", "a")
        .as_deliverable()
}

fn build() -> Build {
    Build::default()
        .run_id("r-1")
        .image_name("web")
        .image_name_chosen(true)
        .description("a web server")
        .product([("name", "BIG-IP")])
        .architecture("x86_64")
        .boot_mode("uefi")
        .virtual_size(1 << 30)
        .tags([("team", "net")])
        .image_dir("/images")
        .file_stem("web")
        .disk_name("web-disk")
        .guest(
            GuestFacts::default()
                .os("debian")
                .os_version("12")
                .os_name("Debian GNU/Linux 12 (bookworm)")
                .architecture("x86_64")
                .firmware([BootMode::Bios, BootMode::Uefi])
                .nvme(true)
                .agents(["cloud-init"]),
        )
}

fn machines() -> MachineNeeds {
    MachineNeeds::default()
        .architectures([Architecture::X86_64])
        .firmware([BootMode::Bios, BootMode::Uefi])
        .every_firmware(true)
        .schemes(["GPT"])
        .disks([DriverNeed::new("the disk", ["virtio_blk"])])
        .networks([DriverNeed::new("the network", ["e1000"]).optional(true)])
        .console("ttyS0")
        .agents(["cloud-init"])
        .secure_boot(true)
}

fn description() -> Description {
    Description::new("acme", "1.2.3")
        .summary("images for Acme")
        .status(Status::DiskOnly)
        .homepage("https://example.com")
        .license("MIT")
        .setting(
            Setting::new("ACME_SIZE", SettingKind::Size, "a size")
                .pattern("[0-9]+")
                .choices(&["1"])
                .default_value("1")
                .required()
                .secret()
                .hidden()
                .explicit_only()
                .group("Acme"),
        )
        .disk(DiskNeeds::new(spec()).package(spec()).with_every_limit(1))
        .guest(
            GuestNeeds::default()
                .hypervisor("acme")
                .minimum_version([("BIG-IP", "14.1")])
                .volumes(["data"])
                .skip_boot_fixup(true)
                .wishes([("time_zone", json!("UTC"))])
                .machines(machines()),
        )
        .image_name(
            NameRules::default()
                .minimum_length(2)
                .maximum_length(128)
                .pattern("[a-z].*")
                .explanation("begins with a letter")
                .replace("[^a-z]")
                .letter_case(LetterCase::Lower)
                .forbidden_prefixes(["http://"])
                .forbidden_texts(["--"]),
        )
        .tags(
            TagRules::default()
                .maximum(20)
                .key_length(64)
                .value_length(64)
                .forbidden_key_prefixes(["acs:"])
                .forbidden_value_prefixes(["aliyun"])
                .forbidden_texts(["http://"])
                .keys_ignore_case(true),
        )
        .uploads(true)
        .capabilities(["copy"])
}

fn documents() -> Vec<Document> {
    [of_the_beginning(), of_the_upload(), of_the_end(), account::documents()]
        .into_iter()
        .flatten()
        .collect()
}

fn of_the_beginning() -> Vec<Document> {
    let error = Error::new(ErrorKind::Quota, "too many images").with_hint("delete some");
    let mut bad = Finding::error("bucket", &error);
    bad.causes = vec!["the account's limit".into()];
    let host = HostFacts::default().version("1.0.0").disks([spec()]);
    vec![
        document("description", &description()),
        document(
            "check_request",
            &CheckRequest::new(build())
                .host(host)
                .online(true)
                .dry_run(true)
                .purpose(Purpose::Upload)
                .same([Reference::image("m-1").in_region("eu-1")]),
        ),
        document(
            "check_report",
            &CheckReport::default()
                .findings([bad])
                .disk(spec())
                .creates([resource()])
                .permissions(["images:Create"])
                .bytes_per_second(1 << 20)
                .machines(machines())
                .same(Registered::default().images([image()]).facts([("key", json!({"a": [1]}))])),
        ),
        document("disk_request", &DiskRequest::new(build(), spec()).for_image_dir(true)),
        document("disk_spec", &spec()),
        document("disk", &disk()),
    ]
}

fn image() -> Image {
    Image::new("m-1", "web").region("eu-1")
}

fn facts() -> [(&'static str, Value); 1] {
    [("key", json!({"a": [1]}))]
}

fn uploaded() -> Uploaded {
    let uploaded = Uploaded::new("https://example.com/web").id("acme://images/web");
    uploaded.bytes_sent(4096).facts(facts())
}

fn of_the_upload() -> Vec<Document> {
    vec![
        document("upload_request", &UploadRequest::new(build(), disk()).stays(true)),
        document("uploaded", &uploaded()),
        document(
            "register_request",
            &RegisterRequest::new(build(), uploaded()).disk_digest("sha256:9f86d081884c7d65"),
        ),
        document("registered", &Registered::default().images([image()]).facts(facts())),
    ]
}

fn of_the_end() -> Vec<Document> {
    let remaining = Remaining::new(resource(), "in use").hint("stop the machine");
    let details = Details {
        hint: Some("delete some".into()),
        context: vec![("request_id".into(), "R-1".into())],
        causes: vec!["the account's limit".into()],
        exhausted: Some(Exhausted::new(7, std::time::Duration::from_secs(95))),
    };
    vec![
        document(
            "discard_request",
            &DiscardRequest::new(DiscardReason::Failed, [resource()]).run_id("r-1"),
        ),
        document("discarded", &Discarded::default().removed([resource()]).remaining([remaining])),
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
fn every_document_has_a_schema_and_may_grow() {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = 0;
    let files = [source.join("document"), source].map(|directory| fs::read_dir(directory).unwrap());
    for file in files.into_iter().flatten() {
        let path = file.unwrap().path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for document in text.split("#[derive(").skip(1) {
            let (head, _) = document.split_once("\n}").unwrap_or((document, ""));
            let travels = head.contains("#[serde(default") && head.contains("pub struct ");
            if !travels || head.contains("struct Details") {
                continue;
            }
            let name = head.split("pub struct ").nth(1).unwrap().split(' ').next().unwrap();
            assert!(head.contains("#[non_exhaustive]"), "{name} in {}", path.display());
            assert!(head.contains("schemars::JsonSchema"), "{name} in {}", path.display());
            found += 1;
        }
    }
    assert!(found >= 25, "{found} documents were found");
}
