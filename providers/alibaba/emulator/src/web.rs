//! Renders the page at `/_emulator/`: the current resources and the last requests, rendered on the server and
//! requested again by the browser every two seconds. No script, nothing from other servers.

use serde_json::Value;

use crate::clock::{self, Millis};
use crate::ecs::{describe, task};
use crate::oss::xml::escape;
use crate::service::Service;
use crate::state::World;

/// Maximum length of a table; omitted rows are counted.
const MAX_ROWS: usize = 100;

const HEAD: &str = "<!DOCTYPE html>
<html lang=\"en\"><head><meta charset=\"utf-8\">
<meta http-equiv=\"refresh\" content=\"2\">
<title>Alibaba emulator</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff; }
h1 { font-size: 1.3em; } h2 { font-size: 1.05em; margin: 1.4em 0 .3em; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .15em .8em .15em 0; }
th { font-weight: 600; border-bottom: 1px solid #bbb; } td { border-bottom: 1px solid #eee; }
.bad { color: #b00; } p.none { color: #777; margin: 0; }
</style></head><body>
<h1>Alibaba emulator</h1>
";

/// One table under a heading.
struct Table {
    id: &'static str,
    title: &'static str,
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    fn write(&self, page: &mut String) {
        let Self { id, title, columns, rows } = self;
        page.push_str(&format!("<section id=\"{id}\"><h2>{title} ({})</h2>\n", rows.len()));
        if rows.is_empty() {
            page.push_str("<p class=\"none\">none</p></section>\n");
            return;
        }
        page.push_str("<table><tr>");
        for column in *columns {
            page.push_str(&format!("<th>{column}</th>"));
        }
        page.push_str("</tr>\n");
        for row in rows.iter().take(MAX_ROWS) {
            page.push_str("<tr>");
            for cell in row {
                page.push_str(&format!("<td>{}</td>", escape(cell)));
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</table>\n");
        if rows.len() > MAX_ROWS {
            page.push_str(&format!("<p class=\"none\">and {} more</p>\n", rows.len() - MAX_ROWS));
        }
        page.push_str("</section>\n");
    }
}

/// The page.
pub(crate) fn page(service: &Service, now: Millis) -> String {
    let mut page = HEAD.to_owned();
    let tables = {
        let world = service.store.world();
        [buckets(&world), objects(&world), uploads(&world), tasks(&world, now), images(&world, now)]
    };
    page.push_str(&format!("<p>{}</p>\n", clock::iso(now)));
    for table in tables {
        table.write(&mut page);
    }
    requests(&service.log.recent()).write(&mut page);
    page.push_str("</body></html>\n");
    page
}

fn buckets(world: &World) -> Table {
    let row = |bucket: &crate::state::Bucket| {
        vec![bucket.name.clone(), bucket.region.clone(), clock::iso(bucket.created)]
    };
    Table {
        id: "buckets",
        title: "Buckets",
        columns: &["Name", "Region", "Created"],
        rows: world.buckets.iter().map(row).collect(),
    }
}

fn objects(world: &World) -> Table {
    let row = |object: &crate::state::Object| {
        vec![
            object.bucket.clone(),
            object.name.clone(),
            object.length.to_string(),
            object.object_type.clone(),
            clock::iso(object.modified),
        ]
    };
    Table {
        id: "objects",
        title: "Objects",
        columns: &["Bucket", "Key", "Bytes", "Type", "Modified"],
        rows: world.objects.iter().map(row).collect(),
    }
}

fn uploads(world: &World) -> Table {
    let row = |upload: &crate::state::Upload| {
        let (parts, bytes) = world
            .parts_of(&upload.id)
            .fold((0_u32, 0_u64), |(parts, bytes), part| (parts + 1, bytes + part.segment.length));
        vec![
            upload.bucket.clone(),
            upload.name.clone(),
            upload.id.clone(),
            parts.to_string(),
            bytes.to_string(),
        ]
    };
    Table {
        id: "uploads",
        title: "Open uploads",
        columns: &["Bucket", "Key", "Upload id", "Parts", "Bytes"],
        rows: world.uploads.iter().map(row).collect(),
    }
}

fn tasks(world: &World, now: Millis) -> Table {
    let row = |found: &crate::state::Task| {
        let view = task::view(found, now);
        let failure = view.failure.map(|(code, message)| format!("{code}: {message}"));
        vec![
            found.id.clone(),
            found.image.clone(),
            view.status.to_owned(),
            format!("{}%", view.percent),
            failure.unwrap_or_default(),
        ]
    };
    Table {
        id: "tasks",
        title: "Tasks",
        columns: &["Task", "Image", "Status", "Progress", "Failure"],
        rows: world.tasks.iter().map(row).collect(),
    }
}

fn images(world: &World, now: Millis) -> Table {
    let row = |image: &crate::state::Image| {
        let (status, progress) = describe::state(world, image, now);
        let size = image.disks.first().map_or(0, |disk| disk.size);
        vec![
            image.id.clone(),
            image.region.clone(),
            image.name.clone(),
            status.to_owned(),
            format!("{progress}%"),
            format!("{size} GiB"),
        ]
    };
    Table {
        id: "images",
        title: "Images",
        columns: &["Image", "Region", "Name", "Status", "Progress", "Size"],
        rows: world.images.iter().map(row).collect(),
    }
}

fn requests(recent: &[Value]) -> Table {
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(words) => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            words.join(" ")
        }
        other => other.to_string(),
    };
    let fields = [
        "time",
        "service",
        "operation",
        "status",
        "code",
        "bytes_in",
        "bytes_out",
        "key",
        "faults",
    ];
    let row = |entry: &Value| fields.iter().map(|name| text(&entry[*name])).collect();
    Table {
        id: "requests",
        title: "Last requests",
        columns: &["Time", "Service", "Operation", "Status", "Code", "In", "Out", "Key", "Faults"],
        rows: recent.iter().map(row).collect(),
    }
}
