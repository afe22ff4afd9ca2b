//! Checks providers with `build-image providers check --faults`: a proxy between them and their server refuses requests,
//! breaks connections and loses answers. The suite finds each mistake of a client, and none in the providers of this
//! repository.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    build_aws, build_oci, build_openstack,
    harness::{Aws, AwsAccount, OciRegistry, OpenStack, Sandbox, needs, needs_python, root},
    openstack_checks,
    provider_check::{inventory, plugin, report, with_verdict},
};

/// A cloud over HTTP that keeps images in memory.
pub(crate) struct HttpCloud {
    server: Child,
    pub(crate) url: String,
}

impl HttpCloud {
    pub(crate) fn start() -> Self {
        let serve = root().join("tests/http-cloud/serve");
        let mut server = Command::new(serve).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { server, url: url.trim().to_owned() }
    }

    /// A command that lists everything.
    pub(crate) fn listing(&self) -> String {
        format!("curl -s {}/list", self.url)
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
    ("believes-5xx", &["fault-unavailable"]),
    ("impatient", &["fault-truncated", "fault-lost", "fault-slow"]),
    ("trusts-the-clock", &["fault-skew"]),
    ("breaks-on-401", &["fault-expired"]),
    ("ignores-tags", &["tags"]),
];

const FAULTS: [&str; 8] = [
    "fault-throttled",
    "fault-unavailable",
    "fault-reset",
    "fault-truncated",
    "fault-lost",
    "fault-slow",
    "fault-skew",
    "fault-expired",
];

#[test]
fn every_mistake_of_a_client_fails_its_checks_and_no_other() {
    if !needs_python() || !needs(&["curl"]) {
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

/// Checks a provider of this repository with disturbed requests.
#[track_caller]
pub(crate) fn survives(sandbox: &Sandbox, name: &str, inventory: &str, settings: &[&str]) {
    let file = plugin(name);
    let args = [file.to_str().unwrap(), "--config", "config.yml", "--inventory", inventory];
    let faults = settings.iter().flat_map(|setting| ["--faults", *setting]);
    let args: Vec<&str> = args.into_iter().chain(faults).collect();
    let (code, report) = report(sandbox, &args, &[]);
    let rows = report["checks"].as_array().unwrap().iter();
    let rows = rows.filter(|row| row["id"].as_str().unwrap().starts_with("fault-"));
    for row in rows.clone() {
        eprintln!("{name}\t{}\t{}\t{}", row["id"], row["verdict"], row["detail"]);
    }
    assert_eq!(with_verdict(&report, "fail"), [""; 0], "{report:#}");
    assert_eq!((code, rows.count()), (0, FAULTS.len()));
}

/// Whether the long tests of a cloud run: more than a hundred builds take minutes.
fn is_soak(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

#[test]
fn the_alibaba_provider_survives_faults() {
    if !needs_python() {
        return;
    }
    let sandbox = Sandbox::with_plain_cloud();
    let inventory = inventory(&sandbox);
    let endpoints = ["ALIBABA_OSS_ENDPOINT", "ALIBABA_ECS_ENDPOINT", "ALIBABA_STS_ENDPOINT"];
    survives(&sandbox, "alibaba", &inventory, &endpoints);
    sandbox.cloud_has_only(0);
}

#[test]
fn the_oci_provider_survives_faults() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    let sandbox = Sandbox::new();
    let reference = format!("{}/conformance/disk", registry.address());
    sandbox.write("config.yml", &format!("OCI_REFERENCE: {reference}\nOCI_RETRY_TIME: 5\n"));
    let inventory = build_oci::inventory(&sandbox, &registry);
    survives(&sandbox, "oci", &inventory, &["OCI_REFERENCE"]);
}

#[test]
fn the_openstack_provider_survives_faults() {
    if !is_soak("BUILD_IMAGE_SOAK_OPENSTACK") {
        return;
    }
    let Some(cloud) = OpenStack::shared() else { return };
    let image_url = cloud.text("/image_url");
    let settings = [("OPENSTACK_RETRY_TIME", "5"), ("OPENSTACK_IMAGE_ENDPOINT", image_url)];
    let sandbox = build_openstack::sandbox(cloud, &settings);
    let inventory = openstack_checks::inventory(&sandbox, cloud);
    let addresses = ["OPENSTACK_AUTH_URL", "OPENSTACK_IMAGE_ENDPOINT"];
    survives(&sandbox, "openstack", &inventory, &addresses);
}

/// A command that lists what an account owns.
fn objects(account: &AwsAccount) -> String {
    let print = "import json, sys; owned = json.load(sys.stdin); \
                 [print(kind, json.dumps(one)) for kind in ('images', 'snapshots', 'objects', 'uploads') for one in owned[kind]]";
    let (id, url) = (account.id(), account.server.url());
    let request = format!("curl -s -X GET --data '{{\"account\": \"{id}\"}}' {url}/_front/objects");
    format!("{request} | python3 -c \"{print}\"")
}

#[test]
fn the_aws_provider_survives_faults() {
    if !is_soak("BUILD_IMAGE_SOAK_AWS") || !needs(&["curl"]) {
        return;
    }
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({}));
    let sandbox = build_aws::sandbox(&account, &[]);
    survives(&sandbox, "aws", &objects(&account), &["AWS_ENDPOINT_URL"]);
    account.has_only(0);
}

#[test]
fn a_setting_that_leads_to_no_server_is_refused() {
    let sandbox = Sandbox::with_cloud();
    let file = plugin("alibaba");
    for (fault, text) in [
        ("NO_SETTING=http://127.0.0.1:1", "`NO_SETTING` is not a setting of provider `alibaba`"),
        ("ALIBABA_ACCESS_KEY_SECRET=http://127.0.0.1:1", "is not a setting of provider"),
        // The emulator of this test speaks TLS.
        ("ALIBABA_OSS_ENDPOINT", "the address for `ALIBABA_OSS_ENDPOINT` is `https://"),
        ("ALIBABA_ECS_ENDPOINT=https://127.0.0.1:1", "hint: give an address"),
    ] {
        let check = ["providers", "check", file.to_str().unwrap(), "--config", "config.yml"];
        let output =
            sandbox.command(&[&check[..], &["--faults", fault]].concat()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && errors.contains(text), "{fault}: {errors}");
    }
}
