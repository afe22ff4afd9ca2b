//! Tests the page for people: its content, that names cannot break out of it, and who is sent to it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::client::{Call, Client, Reply, emulator};
use crate::import::{import, params};
use crate::{disks, multipart};

const HOSTILE: &str = "<script>alert(1)</script>&\"'><img src=x>";

/// Text of the cells of each row below a section, by the labels of their columns.
fn rows(page: &str, section: &str) -> Vec<Vec<(String, String)>> {
    let start = page.find(&format!("<section id=\"{section}\"")).unwrap();
    let text = page[start..].split("</section>").next().unwrap();
    let cell = |cell: &str| {
        let label = cell.split("data-label=\"").nth(1).unwrap().split('"').next().unwrap();
        let text = cell.split_once('>').unwrap().1.split("</td>").next().unwrap();
        (label.to_owned(), text.to_owned())
    };
    let row = |row: &str| row.split("<td").skip(1).map(cell).collect();
    text.split("<tr>").skip(1).map(row).filter(|row: &Vec<_>| !row.is_empty()).collect()
}

fn column(page: &str, section: &str, label: &str) -> Vec<String> {
    let rows = rows(page, section).into_iter().flatten();
    rows.filter(|(name, _)| name == label).map(|(_, text)| text).collect()
}

fn assert_balanced(text: &str) {
    for tag in ["table", "thead", "tbody", "tr", "td", "th", "section", "h2", "p", "div", "form"] {
        let opened =
            text.matches(&format!("<{tag}>")).count() + text.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, text.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn the_page_shows_the_resources_and_the_last_requests() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put("disk.raw", &disks::raw(1 << 20));
    let upload = multipart::initiate(&client, "open");
    multipart::part(&client, "open", &upload, "1", &[7; 102_400]);
    multipart::part(&client, "open", &upload, "2", b"hello");
    let (image, task) = import(&client, &params("img", "disk.raw", "RAW"));
    client.get("none");
    let page = client.plain("GET", "/_emulator/", b"");
    assert!(page.header("content-type").starts_with("text/html"));
    let text = page.text();
    assert_balanced(text);
    assert!(text.ends_with("</html>\n"));
    assert_eq!(column(text, "objects", "Key"), ["disk.raw"]);
    assert_eq!(column(text, "objects", "Size"), ["1.0 MiB"]);
    assert!(text.contains("title=\"1048576 bytes\""));
    assert_eq!(column(text, "uploads", "Parts"), ["2"]);
    assert_eq!(column(text, "uploads", "Received"), ["100.0 KiB"]);
    assert_eq!(column(text, "uploads", "Upload id"), [upload]);
    assert_eq!(column(text, "tasks", "Task"), [task]);
    assert_eq!(column(text, "images", "Image"), [image]);
    assert_eq!(column(text, "images", "Status"), ["Available"]);
    assert_eq!(
        column(text, "requests", "Operation"),
        [
            "GetObject",
            "ImportImage",
            "UploadPart",
            "UploadPart",
            "InitiateMultipartUpload",
            "PutObject"
        ]
    );
    assert_eq!(column(text, "requests", "Object")[..3], ["demo/none", "", "demo/open, part 2"]);
    assert_eq!(column(text, "requests", "In")[5], "1.0 MiB");
    assert!(text.contains("<td data-label=\"Result\" class=\"bad\">404 NoSuchKey</td>"));
    assert!(text.contains("<th scope=\"col\" class=\"num\">In</th>"));
}

#[test]
fn an_empty_page_shows_none() {
    let page = {
        let running = emulator(|config| config.buckets.clear());
        Client::of(&running).plain("GET", "/_emulator/", b"")
    };
    assert_eq!(page.text().matches("<p class=\"none\">none</p>").count(), 6);
}

#[test]
fn names_and_filters_cannot_break_out_of_the_page() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put(HOSTILE, b"x");
    multipart::initiate(&client, HOSTILE);
    client.get(&format!("none{HOSTILE}"));
    let escaped = "&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;'&gt;&lt;img src=x&gt;";
    for target in ["/_emulator/", "/_emulator/sections"] {
        let filter = "?operation=%22%3E%3Cscript%3Ealert(1)%3C/script%3E";
        for target in [target.to_owned(), format!("{target}{filter}")] {
            let page = client.plain("GET", &target, b"");
            let text = page.text();
            assert!(text.contains(escaped), "{target}");
            assert!(!text.contains("<script>alert") && !text.contains("<img"), "{target}");
            assert_balanced(text);
        }
    }
}

/// The digests in the policy are those of the only style and the only script of the page.
#[test]
fn the_policy_permits_the_pages_own_style_and_script_only() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let page = client.plain("GET", "/_emulator/", b"");
    let policy = page.header("content-security-policy");
    let text = page.text();
    for (tag, directive) in [("style", "style-src"), ("script", "script-src")] {
        let open = format!("<{tag}>");
        assert_eq!(text.matches(&format!("<{tag}")).count(), 1, "{tag}");
        let inner = text.split(&open).nth(1).unwrap();
        let inner = inner.split(&format!("</{tag}>")).next().unwrap();
        let digest = STANDARD.encode(Sha256::digest(inner));
        assert!(policy.contains(&format!("{directive} 'sha256-{digest}';")), "{policy}");
    }
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    // Attributes would need `unsafe-inline`.
    for attribute in [" style=", " onclick=", " onload=", " oninput=", "javascript:"] {
        assert!(!text.contains(attribute), "{attribute}");
    }
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("cache-control"), "no-store");
}

#[test]
fn without_scripts_the_page_reloads_and_filters() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put("there", b"x");
    client.get("there");
    client.get("gone");
    let page = |query: &str| client.plain("GET", &format!("/_emulator/{query}"), b"");
    let results = |reply: &Reply| column(reply.text(), "requests", "Operation");
    assert!(page("").text().contains("<noscript><meta http-equiv=\"refresh\""));
    assert_eq!(results(&page("")), ["GetObject", "GetObject", "PutObject"]);
    assert_eq!(results(&page("?operation=putob")), ["PutObject"]);
    assert_eq!(results(&page("?operation=&failed=1")), ["GetObject"]);
    let filtered = page("?operation=Get&failed=1");
    assert_eq!(column(filtered.text(), "requests", "Result"), ["404 NoSuchKey"]);
    assert!(filtered.text().contains("<h2>Last requests (1 of 3)</h2>"));
    assert!(filtered.text().contains("value=\"Get\"") && filtered.text().contains(" checked>"));
}

/// The script asks for the sections with the filters, and gets what the page has.
#[test]
fn the_sections_are_those_of_the_page() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put("there", b"x");
    let page = client.plain("GET", "/_emulator/", b"");
    let sections = client.plain("GET", "/_emulator/sections", b"");
    for id in ["now", "operations", "requests", "uploads", "tasks", "images", "objects", "buckets"]
    {
        let part = format!("id=\"{id}\" data-part>");
        assert!(page.text().contains(&part) && sections.text().contains(&part), "{id}");
    }
    assert!(!sections.text().contains("<script") && !sections.text().contains("<form"));
    let none = client.plain("GET", "/_emulator/sections?operation=Abort", b"");
    assert!(none.text().contains("<h2>Last requests (0 of 1)</h2>"));
}

/// A dry run that answers is not a failure, whatever it found; one that was refused unchecked is.
#[test]
fn dry_runs_are_labelled_and_are_no_failures() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put("disk.raw", &disks::raw(1 << 20));
    for (object, id) in
        [("disk.raw", "emulator-id"), ("gone", "emulator-id"), ("disk.raw", "stranger")]
    {
        let mut params = params("img", object, "RAW");
        params.push(("DryRun", "true"));
        let client = Client { id: id.to_owned(), ..client.clone() };
        client.ecs("ImportImage", &params);
    }
    let page = client.plain("GET", "/_emulator/?operation=ImportImage", b"");
    let results = column(page.text(), "requests", "Result");
    assert!(results[0].starts_with("dry run failed: 40"), "{results:?}");
    assert_eq!(results[1], "dry run: 400 InvalidOSSObject.NotFound");
    assert_eq!(results[2], "dry run: 400 DryRunOperation");
    assert_eq!(page.text().matches("class=\"dry\"").count(), 2);
    assert_eq!(page.text().matches("class=\"bad\">dry run failed").count(), 1);
    let failed = client.plain("GET", "/_emulator/?operation=ImportImage&failed=1", b"");
    assert_eq!(column(failed.text(), "requests", "Result"), results[..1]);
}

/// Browsers only: whatever looks like a client of the services gets what it asked for.
#[test]
fn the_root_sends_browsers_to_the_page_and_no_clients() {
    const BROWSER: &str = "accept: text/html,application/xhtml+xml,*/*;q=0.8";
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let address = client.address.to_string();
    for (method, target, host, headers, is_sent) in [
        ("GET", "/", &*address, BROWSER, true),
        ("GET", "/", "localhost:1", "Accept: Text/HTML;q=0.9", true),
        ("GET", "/_emulator", &address, "accept: */*", true),
        ("GET", "/", &address, "accept: */*", false),
        ("GET", "/", &address, "accept: application/json", false),
        ("GET", "/", &address, "accept: text/htmlx, application/xml", false),
        ("GET", "/?prefix=a", &address, BROWSER, false),
        ("GET", "/demo", &address, BROWSER, false),
        ("HEAD", "/", &address, BROWSER, false),
        ("GET", "/", "demo.localhost", BROWSER, false),
        ("GET", "/", "oss-cn-hangzhou.aliyuncs.com", BROWSER, false),
        ("GET", "/", &address, "accept: text/html\r\nx-oss-date: 20260101T000000Z", false),
        ("GET", "/", &address, "accept: text/html\r\nauthorization: OSS a:b", false),
        ("GET", "/", &address, "accept: text/html\r\nx-acs-action: DescribeRegions", false),
    ] {
        let reply = client.raw(method, target, host, headers);
        let found = (reply.status == 302, reply.header("location"));
        let expected = (is_sent, if is_sent { "/_emulator/" } else { "" });
        assert_eq!(found, expected, "{method} {target} {host} {headers}");
        assert!(is_sent || reply.status >= 400, "{method} {target} {host} {headers}");
    }
    let buckets =
        client.oss(&Call { method: "GET", headers: &[("accept", "text/html")], ..Call::default() });
    assert_eq!((buckets.status, buckets.all("Name")), (200, vec!["demo".into(), "far".into()]));
}
