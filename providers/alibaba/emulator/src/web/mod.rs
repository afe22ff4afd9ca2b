//! Renders the page at `/_emulator/`: the current resources and the last requests. Everything is rendered here; a small
//! script requests the sections again and replaces those that differ. Without scripts the browser reloads the page. The
//! style and the script are part of the page, and its content security policy permits these two by their digests only.

mod table;
mod tables;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::clock::{self, Millis};
use crate::http::{Answer, Head};
use crate::oss::xml::escape;
use crate::service::Service;
use tables::Filter;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Seconds between reloads where scripts do not run.
const RELOAD: u32 = 5;

/// Permits the page's own style and script, and requests to this server; nothing else.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
        digest(STYLE),
        digest(SCRIPT)
    )
});

/// Whether a browser asks for the root, where clients list buckets. A client of OSS signs its requests, in a header or
/// in the query, and none of them asks for HTML.
pub(crate) fn is_browser(head: &Head) -> bool {
    let accepts_html = head.header("accept").is_some_and(|accept| {
        let mut kinds = accept.split(',').filter_map(|kind| kind.split(';').next());
        kinds.any(|kind| kind.trim().eq_ignore_ascii_case("text/html"))
    });
    let is_vendor = |name: &str| name.starts_with("x-oss-") || name.starts_with("x-acs-");
    head.method == "GET"
        && head.raw_path == "/"
        && head.query.is_empty()
        && accepts_html
        && !head.headers.contains_key("authorization")
        && !head.headers.keys().any(|name| is_vendor(name.as_str()))
}

fn html(text: String) -> Answer {
    Answer::text(200, "text/html; charset=utf-8", text)
        .with("cache-control", "no-store")
        .with("content-security-policy", &POLICY)
        .with("referrer-policy", "no-referrer")
        .with("x-content-type-options", "nosniff")
}

/// The page.
pub(crate) fn page(service: &Service, head: &Head, now: Millis) -> Answer {
    let filter = Filter::of(head);
    let checked = if filter.failed { " checked" } else { "" };
    let (before, behind) = parts(service, &filter, now);
    html(format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <noscript><meta http-equiv=\"refresh\" content=\"{RELOAD}\"></noscript>\n\
         <title>Alibaba emulator</title>\n<style>{STYLE}</style></head><body>\n\
         <header><h1>Alibaba emulator</h1>\
         <button id=\"pause\" type=\"button\" aria-pressed=\"false\" hidden>Pause</button>\
         <p id=\"trouble\" class=\"bad\" role=\"status\"></p></header>\n\
         <main>\n{before}<form method=\"get\" action=\"/_emulator/\">\
         <label>Requests of operation <input type=\"search\" name=\"operation\" list=\"operations\" \
         value=\"{}\" autocomplete=\"off\"></label>\
         <label><input type=\"checkbox\" name=\"failed\" value=\"1\"{checked}> failed only</label>\
         <noscript><button>Show</button></noscript></form>\n\
         {behind}</main>\n<script>{SCRIPT}</script></body></html>\n",
        escape(&filter.operation),
    ))
}

/// The parts of the page that change, for the script.
pub(crate) fn sections(service: &Service, head: &Head, now: Millis) -> Answer {
    let (before, behind) = parts(service, &Filter::of(head), now);
    html(before + &behind)
}

/// The parts before and behind the filter of the requests: first what changes during a build and is short.
fn parts(service: &Service, filter: &Filter, now: Millis) -> (String, String) {
    let recent = service.log.recent();
    let mut before = format!("<p id=\"now\" data-part>{}</p>\n", clock::iso(now));
    let mut behind = tables::operations(&recent);
    tables::requests(&recent, filter).write(&mut behind);
    let (of_builds, kept) = tables::resources(&service.store.world(), now);
    for table in of_builds {
        table.write(&mut before);
    }
    for table in kept {
        table.write(&mut behind);
    }
    (before, behind)
}
