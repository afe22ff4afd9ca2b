//! Chooses what the page shows of the state and of the request log.

use std::collections::BTreeSet;

use serde_json::Value;

use super::table::{Cell, Table};
use crate::clock::{self, Millis};
use crate::ecs::{describe, task};
use crate::http::Head;
use crate::oss::xml::escape;
use crate::state::{Bucket, Image, Object, Task, Upload, World};

/// Which of the last requests are shown.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// Part of the operation's name, in any case.
    pub(super) operation: String,
    pub(super) failed: bool,
}

impl Filter {
    pub(super) fn of(head: &Head) -> Self {
        let operation = head.given("operation").unwrap_or_default().trim().to_owned();
        Self { operation, failed: head.given("failed").is_some() }
    }

    fn is_set(&self) -> bool {
        self.failed || !self.operation.is_empty()
    }

    fn takes(&self, entry: &Value) -> bool {
        let wanted = self.operation.to_ascii_lowercase();
        word(entry, "operation").to_ascii_lowercase().contains(&wanted)
            && (!self.failed || Result::of(entry) == Result::Failed)
    }
}

/// How a request ended, as the page shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Result {
    Good,
    /// It was to be checked, not done; the answer is what was found.
    DryRun,
    Failed,
}

/// Beginnings of the codes with which a call is refused before it is checked, also with `DryRun`.
const UNCHECKED: [&str; 7] = [
    "Forbidden",
    "Incomplete",
    "InvalidAccessKeyId",
    "InvalidSecurityToken",
    "InvalidTimeStamp",
    "Signature",
    "Throttling",
];

impl Result {
    fn of(entry: &Value) -> Self {
        let code = word(entry, "code");
        match entry["status"].as_u64().unwrap_or_default() {
            100..400 if is_dry_run(entry) => Self::DryRun,
            100..400 => Self::Good,
            400..500 if is_dry_run(entry) && !UNCHECKED.iter().any(|it| code.starts_with(it)) => {
                Self::DryRun
            }
            _ => Self::Failed,
        }
    }
}

fn is_dry_run(entry: &Value) -> bool {
    entry["dry_run"].as_bool().unwrap_or_default()
}

fn word<'a>(entry: &'a Value, name: &str) -> &'a str {
    entry[name].as_str().unwrap_or_default()
}

fn number(entry: &Value, name: &str) -> u64 {
    entry[name].as_u64().unwrap_or_default()
}

/// The operations of the last requests, as suggestions for the filter.
pub(super) fn operations(recent: &[Value]) -> String {
    let names: BTreeSet<&str> = recent.iter().map(|entry| word(entry, "operation")).collect();
    let options: String =
        names.iter().map(|name| format!("<option value=\"{}\"></option>", escape(name))).collect();
    format!("<datalist id=\"operations\" data-part>{options}</datalist>\n")
}

pub(super) fn requests(recent: &[Value], filter: &Filter) -> Table {
    let taken = recent.iter().filter(|entry| filter.takes(entry));
    Table {
        id: "requests",
        title: "Last requests",
        columns: &[
            "Time",
            "Service",
            "Operation",
            "Result",
            ">In",
            ">Out",
            ">Took",
            "Object",
            "Faults",
        ],
        rows: taken.map(request).collect(),
        of: filter.is_set().then_some(recent.len()),
    }
}

fn request(entry: &Value) -> Vec<Cell> {
    let faults = entry["faults"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let object = match (word(entry, "bucket"), word(entry, "key")) {
        (bucket, "") => bucket.to_owned(),
        (bucket, key) => format!("{bucket}/{key}"),
    };
    let object = match entry["part_number"].as_u64() {
        Some(part) => format!("{object}, part {part}"),
        None => object,
    };
    vec![
        Cell::text(word(entry, "time")),
        Cell::text(word(entry, "service")),
        Cell::text(word(entry, "operation")),
        result(entry),
        Cell::bytes(number(entry, "bytes_in")),
        Cell::bytes(number(entry, "bytes_out")),
        Cell::number(format!("{} ms", number(entry, "milliseconds"))),
        Cell::name(object),
        Cell::text(faults.collect::<Vec<&str>>().join(", ")),
    ]
}

fn result(entry: &Value) -> Cell {
    let (status, code) = (number(entry, "status"), word(entry, "code"));
    let answer = match (status, code) {
        (0, code) => format!("connection reset ({code})"),
        (status, "") => status.to_string(),
        (status, code) => format!("{status} {code}"),
    };
    match Result::of(entry) {
        Result::Good => Cell::text(answer),
        Result::DryRun => Cell::dry_run(format!("dry run: {answer}")),
        Result::Failed if is_dry_run(entry) => Cell::failed(format!("dry run failed: {answer}")),
        Result::Failed => Cell::failed(answer),
    }
}

/// The tables of the state: what builds are working on and what they made, and what there is besides.
pub(super) fn resources(world: &World, now: Millis) -> ([Table; 3], [Table; 2]) {
    ([uploads(world), tasks(world, now), images(world, now)], [objects(world), buckets(world)])
}

fn table(
    id: &'static str,
    title: &'static str,
    columns: &'static [&'static str],
    rows: impl Iterator<Item = Vec<Cell>>,
) -> Table {
    Table { id, title, columns, rows: rows.collect(), of: None }
}

fn buckets(world: &World) -> Table {
    let row = |bucket: &Bucket| {
        let cells = [&bucket.name, &bucket.region, &clock::iso(bucket.created)];
        cells.map(Cell::text).into()
    };
    table("buckets", "Buckets", &["Name", "Region", "Created"], world.buckets.iter().map(row))
}

fn objects(world: &World) -> Table {
    let row = |object: &Object| {
        vec![
            Cell::text(&object.bucket),
            Cell::name(&object.name),
            Cell::bytes(object.length),
            Cell::text(&object.object_type),
            Cell::text(clock::iso(object.modified)),
        ]
    };
    let columns = &["Bucket", "Key", ">Size", "Type", "Modified"];
    table("objects", "Objects", columns, world.objects.iter().map(row))
}

/// The uploads with what was received of them. How many parts an upload will have is known when it is completed.
fn uploads(world: &World) -> Table {
    let row = |upload: &Upload| {
        let (mut parts, mut bytes, mut latest) = (0_u32, 0_u64, upload.initiated);
        for part in world.parts_of(&upload.id) {
            parts += 1;
            bytes += part.segment.length;
            latest = latest.max(part.modified);
        }
        vec![
            Cell::text(&upload.bucket),
            Cell::name(&upload.name),
            Cell::number(parts.to_string()),
            Cell::bytes(bytes),
            Cell::text(clock::iso(upload.initiated)),
            Cell::text(clock::iso(latest)),
            Cell::text(&upload.id),
        ]
    };
    let columns = &["Bucket", "Key", ">Parts", ">Received", "Started", "Last part", "Upload id"];
    table("uploads", "Open uploads", columns, world.uploads.iter().map(row))
}

fn tasks(world: &World, now: Millis) -> Table {
    let row = |found: &Task| {
        let view = task::view(found, now);
        let failure = view.failure.map(|(code, message)| format!("{code}: {message}"));
        vec![
            Cell::text(&found.id),
            Cell::text(&found.image),
            Cell::text(view.status),
            Cell::number(format!("{}%", view.percent)),
            failure.map_or_else(Cell::default, Cell::failed),
        ]
    };
    let columns = &["Task", "Image", "Status", ">Progress", "Failure"];
    table("tasks", "Tasks", columns, world.tasks.iter().map(row))
}

fn images(world: &World, now: Millis) -> Table {
    let row = |image: &Image| {
        let (status, progress) = describe::state(world, image, now);
        let size = image.disks.first().map_or(0, |disk| disk.size);
        vec![
            Cell::text(&image.id),
            Cell::text(&image.region),
            Cell::name(&image.name),
            Cell::text(status),
            Cell::number(format!("{progress}%")),
            Cell::number(format!("{size} GiB")),
        ]
    };
    let columns = &["Image", "Region", "Name", "Status", ">Progress", ">Size"];
    table("images", "Images", columns, world.images.iter().map(row))
}
