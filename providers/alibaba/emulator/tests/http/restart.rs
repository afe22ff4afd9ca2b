//! Tests the state on disk: a restart keeps it, only one emulator at a time uses it, leftovers are removed.
//! Also tests the log.

use std::net::SocketAddr;

use build_image_emulator_alibaba::{Config, Running, StartError, StateDir, StateError, start};

use crate::client::{Client, emulator};
use crate::disks;
use crate::import::{images, import, params};
use crate::multipart;

fn on(path: &std::path::Path) -> Running {
    emulator(|config| config.state = StateDir::Kept(path.to_path_buf()))
}

#[test]
fn a_restart_keeps_objects_uploads_and_images() {
    let directory = tempfile::tempdir().unwrap();
    let running = on(directory.path());
    let client = Client::of(&running);
    client.put("disk.raw", &disks::raw(1 << 20));
    let upload = multipart::initiate(&client, "open");
    multipart::part(&client, "open", &upload, "1", b"hello ");
    let (image, _) = import(&client, &params("img", "disk.raw", "RAW"));
    let before = running.status();
    running.shutdown();
    std::fs::write(directory.path().join("bodies").join("leftover"), b"x").unwrap();

    let running = on(directory.path());
    let client = Client::of(&running);
    assert_eq!(running.status(), before);
    assert!(!directory.path().join("bodies").join("leftover").exists());
    assert_eq!(client.get("disk.raw").body, disks::raw(1 << 20));
    multipart::part(&client, "open", &upload, "2", b"world");
    let first = multipart::part(&client, "open", &upload, "1", b"hello ");
    assert_eq!(first.status, 200);
    let second = multipart::part(&client, "open", &upload, "2", b"world");
    let done = multipart::complete(&client, "open", &upload, &[(2, second.header("etag"))]);
    assert_eq!(done.status, 200);
    assert_eq!(client.get("open").text(), "world");
    assert_eq!(images(&client, &[])[0]["ImageId"], image.as_str());
}

#[test]
fn a_directory_serves_one_emulator_and_bad_documents_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let config =
        Config { state: StateDir::Kept(directory.path().to_path_buf()), ..Config::default() };
    let running = start(config.clone()).unwrap();
    let second = start(config.clone()).unwrap_err();
    assert!(matches!(second, StartError::State(StateError::Busy { .. })), "{second:?}");
    running.shutdown();
    std::fs::write(directory.path().join("images").join("m-x.json"), b"{").unwrap();
    let damaged = start(config).unwrap_err();
    let StartError::State(StateError::Damaged { path, .. }) = damaged else {
        panic!("{damaged:?}")
    };
    assert!(path.ends_with("images/m-x.json"));
}

#[test]
fn only_loopback_is_served_unless_insisted() {
    let config = Config { listen: SocketAddr::from(([0, 0, 0, 0], 0)), ..Config::default() };
    assert!(matches!(start(config), Err(StartError::NotLoopback(_))));
}

#[test]
fn every_request_is_logged() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let running = emulator(|config| config.log_requests = Some(log.clone()));
    let client = Client::of(&running);
    let upload = multipart::initiate(&client, "k");
    multipart::part(&client, "k", &upload, "3", b"hello");
    running.set_faults(r#"[{"operation":"GetObject","action":{"stall_ms":1}}]"#).unwrap();
    client.get("none");
    client.ecs("DescribeRegions", &[]);
    running.shutdown();
    let lines: Vec<serde_json::Value> = std::fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[1]["operation"], "UploadPart");
    assert_eq!((&lines[1]["part_number"], &lines[1]["bytes_in"]), (&3.into(), &5.into()));
    assert_eq!((&lines[2]["status"], &lines[2]["code"]), (&404.into(), &"NoSuchKey".into()));
    assert_eq!(lines[2]["faults"], serde_json::json!(["stall_ms"]));
    assert_eq!(lines[3]["service"], "ecs");
    assert!(lines[3].get("faults").is_none());
}

#[test]
fn the_control_endpoint_returns_the_counts() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put("k", b"x");
    let status = client.plain("GET", "/_emulator/status", b"").json();
    assert_eq!(status, running.status());
    assert_eq!((&status["objects"], &status["open_uploads"]), (&1.into(), &0.into()));
    assert_eq!(client.plain("GET", "/_emulator/none", b"").status, 404);
}
