//! Tests hostile names: whatever a key, an upload id, or a token contains, nothing outside the state
//! directory is touched, and the emulator continues to serve.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use build_image_emulator_alibaba::StateDir;

use crate::client::{Call, Client, emulator};
use crate::multipart;

fn files(directory: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        }
        found.insert(path);
    }
}

fn keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "..",
        ".",
        "../../escaped",
        "a/../../../../escaped",
        "bodies/../../escaped",
        "..\\..\\escaped",
        "nul\0nul",
        "new\nline\r\n",
        "%2e%2e%2fescaped",
        "ключ/钥匙/🗝",
        "con:aux|*?<>\"",
        " ",
        "x.json",
        "_emulator/status",
        "latest/meta-data",
    ]
    .map(str::to_owned)
    .to_vec();
    keys.push("k".repeat(1023));
    keys.push("é".repeat(511));
    keys.push("../".repeat(341));
    keys
}

#[test]
fn hostile_keys_stay_inside_the_state_directory() {
    let around = tempfile::tempdir().unwrap();
    let state = around.path().join("a/b/c/state");
    std::fs::create_dir_all(&state).unwrap();
    let running = emulator(|config| config.state = StateDir::Kept(state.clone()));
    let client = Client::of(&running);
    for key in keys() {
        let body = key.as_bytes();
        assert_eq!(client.put(&key, body).status, 200, "{key:?}");
        assert_eq!(client.get(&key).body, body, "{key:?}");
        let upload = multipart::initiate(&client, &key);
        assert_eq!(multipart::part(&client, &key, &upload, "1", body).status, 200, "{key:?}");
        let gone = multipart::part(&client, &key, &key, "1", body);
        assert_eq!(gone.error(), (404, "NoSuchUpload".to_owned()), "{key:?}");
        assert_eq!(client.ecs("DescribeTaskAttribute", &[("TaskId", &key)]).status, 404);
    }
    assert_eq!(running.status()["objects"], keys().len());
    let list = Call { method: "GET", bucket: "demo", ..Call::default() };
    assert_eq!(client.oss(&list).status, 200);
    running.shutdown();

    let running = emulator(|config| config.state = StateDir::Kept(state.clone()));
    for key in keys() {
        assert_eq!(Client::of(&running).get(&key).body, key.as_bytes(), "{key:?}");
    }
    running.shutdown();
    let mut found = BTreeSet::new();
    files(around.path(), &mut found);
    let outside: Vec<_> =
        found.iter().filter(|path| !path.starts_with(&state) && !state.starts_with(path)).collect();
    assert_eq!(outside, Vec::<&PathBuf>::new());
    for path in found.iter().filter(|path| path.is_file()) {
        let depth = path.strip_prefix(&state).unwrap().components().count();
        assert!(depth <= 2, "{}", path.display());
    }
}

#[test]
fn keys_and_buckets_beyond_the_rules_are_refused() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    for key in ["/rooted", "\\rooted", &"k".repeat(1024)] {
        assert_eq!(client.put(key, b"x").error(), (400, "InvalidObjectName".to_owned()), "{key}");
    }
    for bucket in ["..", "a", "UPPER", "dot.dot", "-x-"] {
        let put = Call { method: "PUT", bucket, ..Call::default() };
        assert_eq!(client.oss(&put).error(), (400, "InvalidBucketName".to_owned()), "{bucket}");
    }
    assert_eq!(client.plain("GET", "/demo/%ff", b"").status, 400);
    assert_eq!(client.plain("GET", "/demo?prefix=%ff", b"").status, 400);
}
