//! Checks providers with `build-image providers check --faults`: a proxy between them and their server refuses requests,
//! breaks connections and loses answers. The suite finds each mistake of a client, and none in the providers of this
//! repository.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    harness::{Sandbox, needs_python, root},
    provider_check::{plugin, report, with_verdict},
};

/// A cloud over HTTP that keeps images in memory.
struct HttpCloud {
    server: Child,
    url: String,
}

impl HttpCloud {
    fn start() -> Self {
        let serve = root().join("tests/http-cloud/serve");
        let mut server = Command::new(serve).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { server, url: url.trim().to_owned() }
    }

    /// A command that lists everything.
    fn listing(&self) -> String {
        let read = format!("urllib.request.urlopen('{}/list').read().decode()", self.url);
        format!("python3 -c \"import urllib.request; print({read})\"")
    }
}

impl Drop for HttpCloud {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Checks a client with this mistake, with faults.
fn checked(mistake: &str, more: &[&str]) -> Value {
    let (sandbox, cloud) = (Sandbox::new(), HttpCloud::start());
    let config = format!(
        "HTTPCLOUD_URL: {}\nHTTPCLOUD_KEY: not-a-real-key\nHTTPCLOUD_MISTAKE: {mistake}\n",
        cloud.url
    );
    sandbox.write("config.yml", &config);
    let file = root().join("tests/http-cloud/build-image-provider-httpcloud");
    let listing = cloud.listing();
    let args = [file.to_str().unwrap(), "--config", "config.yml", "--time-limit", "60"];
    let listed = ["--inventory", listing.as_str()];
    report(&sandbox, &[&args[..], &listed, more].concat(), &[]).1
}

/// Mistakes of a client, and the checks that find each.
const MISTAKES: [(&str, &[&str]); 11] = [
    ("none", &[]),
    // It fails at once, and leaves nothing: that is permitted.
    ("tries-once", &[]),
    ("hammers", &["fault-throttled"]),
    ("no-client-token", &["fault-truncated", "fault-lost"]),
    ("announces-late", &["fault-truncated", "fault-lost"]),
    ("believes-halves", &["fault-truncated"]),
    ("believes-5xx", &["fault-5xx"]),
    ("impatient", &["fault-truncated", "fault-lost", "fault-slow"]),
    ("trusts-the-clock", &["fault-skew"]),
    ("breaks-on-401", &["fault-expired"]),
    ("ignores-tags", &["tags"]),
];

const FAULTS: [&str; 8] = [
    "fault-throttled",
    "fault-5xx",
    "fault-reset",
    "fault-truncated",
    "fault-lost",
    "fault-slow",
    "fault-skew",
    "fault-expired",
];

#[test]
fn every_mistake_of_a_client_fails_its_checks_and_no_other() {
    if !needs_python() {
        return;
    }
    let faults = ["--faults", "HTTPCLOUD_URL"];
    // Some at a time: a check waits more than it computes.
    for some in MISTAKES.chunks(4) {
        std::thread::scope(|scope| {
            for (mistake, expected) in some {
                scope.spawn(move || {
                    let report = checked(mistake, &faults);
                    assert_eq!(with_verdict(&report, "fail"), *expected, "{mistake}: {report:#}");
                    let passed = with_verdict(&report, "pass");
                    let faults = FAULTS.iter().filter(|id| !expected.contains(id));
                    for id in faults {
                        assert!(passed.contains(&(*id).to_owned()), "{mistake} {id}: {report:#}");
                    }
                });
            }
        });
    }
}
