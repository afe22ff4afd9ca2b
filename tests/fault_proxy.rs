//! Runs a build through the fault proxy: connections between the provider and the cloud break, answers are lost,
//! bytes are wrong, and the image is still right.

use std::fs;

use build_image_emulator_alibaba::{Config, StateDir, Stored, Tls};
use build_image_fault_proxy::{Options, start};
use serde_json::json;

use crate::harness::{Run, Sandbox, needs, tool};

/// Faults for every request that a provider may repeat.
fn mix() -> serde_json::Value {
    json!([
        {"method": "PUT", "query": ["partNumber"], "nth": 2, "fault": "reset_after"},
        {"method": "PUT", "query": ["partNumber"], "nth": 4, "fault": {"corrupt_request": 70000}},
        {"method": "PUT", "query": ["partNumber"], "nth": 6, "fault": {"truncate_request": 50000}},
        {"method": "PUT", "query": ["partNumber"], "percent": 15, "fault": "reset_before"},
        {"method": "PUT", "query": ["partNumber"], "percent": 15, "fault": {"status": {"code": 503, "retry_after": 0}}},
        {"percent": 10, "fault": {"delay_answer_ms": 50}},
        {"header": {"x-acs-action": "Describe*"}, "nth": 1, "fault": {"status": {"code": 429, "retry_after": 0}}},
        {"fault": {"skew_seconds": 20}},
    ])
}

#[test]
fn a_build_through_a_seeded_mix_of_faults_makes_the_right_image() {
    if !needs(&["qemu-img"]) {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let kept = StateDir::Kept(state.path().to_owned());
    let sandbox = Sandbox::with_cloud_of(Config {
        state: kept,
        tls: Some(Tls::default()),
        ..Config::default()
    });
    sandbox.disk("disk.raw", 64, 40);
    let emulator = sandbox.emulator.as_ref().unwrap();
    let mut options = Options::new(emulator.url());
    options.upstream_ca = emulator.ca_file().map(ToOwned::to_owned);
    options.seed = 1;
    options.rules = Some(mix().to_string());
    let proxy = start(&options).unwrap();
    let url = proxy.url();
    let endpoints = ["ALIBABA_OSS_ENDPOINT", "ALIBABA_ECS_ENDPOINT", "ALIBABA_STS_ENDPOINT"];
    let mut changes = endpoints.map(|key| (key, url.as_str())).to_vec();
    changes.push(("ALIBABA_UPLOAD_PART_SIZE", "1048576"));
    changes.push(("ALIBABA_UPLOAD_FILE_RETRY_DELAY", "0"));
    changes.push(("ALIBABA_DISK_FORMAT", "raw"));
    sandbox.write("config.yml", &sandbox.config(&changes));
    let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];
    let mut command = sandbox.command(&args);
    command.env("SSL_CERT_FILE", proxy.ca_file().unwrap());
    command.env("F5_OUTPUT_JSON_FILE", sandbox.path().join("result.json"));
    let run = Run::of(&command.output().unwrap(), None);
    run.succeeded();
    sandbox.cloud_has_only(1);
    let requests = proxy.requests();
    for fault in [
        "reset_after",
        "reset_before",
        "corrupt_request",
        "truncate_request",
        "status",
        "delay_answer_ms",
    ] {
        let struck = requests.iter().any(|request| request.faults.contains(&fault));
        assert!(struck, "{fault} was never applied");
    }
    assert!(requests.iter().all(|request| request.error.is_none()), "{requests:?}");
    let result = fs::read(sandbox.path().join("result.json")).unwrap();
    let result: serde_json::Value = serde_json::from_slice(&result).unwrap();
    let exported = sandbox.path().join("exported.raw");
    let stored = Stored::open(state.path()).unwrap();
    stored.export(result["image_id"].as_str().unwrap(), &exported).unwrap();
    let compare = ["qemu-img", "compare", "-f", "raw", "-F", "raw", "disk.raw", "exported.raw"];
    tool(sandbox.path(), &compare);
}
