//! Tests the page for people: its content, and that names cannot break out of it.

use crate::client::{Client, emulator};
use crate::import::{import, params};
use crate::{disks, multipart};

#[test]
fn the_page_shows_the_resources_and_the_last_requests() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put("disk.raw", &disks::raw(1 << 20));
    client.put("<script>alert(1)</script>&\"", b"x");
    let upload = multipart::initiate(&client, "open");
    multipart::part(&client, "open", &upload, "1", b"hello");
    let (image, task) = import(&client, &params("img", "disk.raw", "RAW"));
    client.get("none");
    let page = client.plain("GET", "/_emulator/", b"");
    assert!(page.header("content-type").starts_with("text/html"));
    let text = page.text();
    for cell in ["demo", "disk.raw", "1048576", &upload, "5", &image, &task, "Available", "100%"] {
        assert!(text.contains(&format!("<td>{cell}</td>")), "{cell}");
    }
    for cell in ["ImportImage", "UploadPart", "404", "NoSuchKey"] {
        assert!(text.contains(&format!("<td>{cell}</td>")), "{cell}");
    }
    assert!(text.contains("http-equiv=\"refresh\"") && text.ends_with("</html>\n"));
    assert!(!text.contains("<script>") && text.contains("&lt;script&gt;"));
    for tag in ["table", "tr", "td", "th", "section", "h2", "p"] {
        let opened =
            text.matches(&format!("<{tag}>")).count() + text.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, text.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    assert_eq!(client.plain("GET", "/_emulator", b"").header("location"), "/_emulator/");
}

#[test]
fn an_empty_page_shows_none() {
    let page = {
        let running = emulator(|config| config.buckets.clear());
        Client::of(&running).plain("GET", "/_emulator/", b"")
    };
    assert_eq!(page.text().matches("<p class=\"none\">none</p>").count(), 6);
}
