//! Checks what must pass unchanged, which requests are struck, and the limits of the proxy.

use std::path::Path;
use std::time::Duration;

use build_image_fault_proxy::{Entry, Options, StartError, start};
use serde_json::{Value, json};

use crate::harness::{Pair, Server, content, program, python, reqwest};

#[test]
fn kept_connections_chunks_heads_and_expectations_pass() {
    for plain in [false, true] {
        let pair = Pair::with(&json!([]), |options| options.plain = plain);
        let answers = pair.python(&[
            ("GET", "/bytes/100000", 0),
            ("GET", "/chunked/100000", 0),
            ("HEAD", "/bytes/7", 0),
            ("PUT", "/x", 1_000_000),
            ("GET", "/nowhere", 0),
        ]);
        assert_eq!(answers[0]["sha256"], answers[1]["sha256"], "{answers:?}");
        assert_eq!(answers[0]["length"], 100_000);
        assert_eq!(
            (&answers[2]["length"], &answers[2]["headers"]["content-length"]),
            (&json!(0), &json!("7"))
        );
        assert!(answers[3]["text"].as_str().unwrap().contains("\"length\": 1000000"));
        assert_eq!(answers[4]["status"], 404);
        let ports: Vec<_> = answers.iter().map(|answer| &answer["port"]).collect();
        assert!(ports.windows(2).all(|pair| pair[0] == pair[1]), "one connection: {ports:?}");
        let sizes: Vec<_> =
            pair.proxy.requests().iter().map(|e| (e.request_bytes, e.answer_bytes)).collect();
        assert_eq!(sizes[..3], [(0, 100_000), (0, 100_000), (0, 0)]);
        assert_eq!(sizes[3].0, 1_000_000);
    }
}

#[test]
fn sixteen_mebibytes_stream_through_and_expect_is_answered() {
    let pair = Pair::new(&json!([]));
    let (client, runtime) = reqwest(&pair.proxy);
    let body = content(16 << 20);
    let url = format!("{}/big", pair.proxy.url());
    let answer = runtime.block_on(async {
        let sent = client.put(&url).header("expect", "100-continue").body(body.clone());
        sent.send().await.unwrap().text().await.unwrap()
    });
    let report: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&report["length"], &report["expect"]), (&json!(16 << 20), &json!("100-continue")));
    let pieces = [&body[..100], &body[100..]].map(|piece| Ok::<_, std::io::Error>(piece.to_vec()));
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let chunked = runtime.block_on(async {
        client.put(&url).body(stream).send().await.unwrap().text().await.unwrap()
    });
    let again: Value = serde_json::from_str(&chunked).unwrap();
    assert_eq!(report["sha256"], again["sha256"]);
}

#[test]
fn the_same_seed_strikes_the_same_requests() {
    let rules = json!([
        {"percent": 30, "fault": {"status": {"code": 503}}},
        {"percent": 20, "path": "/bytes/*", "fault": "reset_after"},
    ]);
    let requests: Vec<_> = (0..60).map(|_| ("GET", "/bytes/3", 0)).collect();
    let run = |seed: u64| {
        let pair = Pair::with(&rules, |options| options.seed = seed);
        pair.python(&requests);
        assert!(pair.proxy.wait_for_requests(60, Duration::from_secs(20)));
        pair.proxy.requests().into_iter().map(|entry: Entry| entry.faults).collect::<Vec<_>>()
    };
    let first = run(7);
    assert_eq!(first, run(7));
    assert_ne!(first, run(8));
    for name in ["status", "reset_after"] {
        assert!(first.iter().any(|faults| *faults == [name]), "{name} never struck");
    }
}

#[test]
fn a_server_that_speaks_tls_is_checked() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ext"), "subjectAltName=DNS:localhost\n").unwrap();
    for words in [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
        "req -newkey rsa:2048 -nodes -keyout key.pem -out request -subj /CN=server",
        "x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem",
    ] {
        let mut command = program("openssl");
        let made = command.args(words.split(' ')).current_dir(directory.path()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    let ca = directory.path().join("ca.pem");
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let server = Server::start(&[&cert, &key]);
    let ask = |host: &str, ca: &Path| {
        let mut options = Options::new(format!("https://{host}:{}", server.port));
        options.upstream_ca = Some(ca.to_owned());
        let proxy = start(&options).unwrap();
        let answer = python(&proxy, &json!([["GET", "/bytes/9", 0, {}]])).remove(0);
        (answer["status"].as_u64().unwrap(), proxy.requests().remove(0).error)
    };
    assert_eq!(ask("localhost", &ca), (200, None));
    let (status, error) = ask("127.0.0.1", &ca);
    assert_eq!(status, 502);
    assert!(error.unwrap().contains("certificate"));
    let mut options = Options::new("https://localhost:1");
    options.upstream_ca = Some(key);
    assert!(matches!(start(&options), Err(StartError::NoRoots(_))));
}

#[test]
fn what_cannot_be_served_is_refused_before_it_listens() {
    let start_error = |change: &dyn Fn(&mut Options)| {
        let mut options = Options::new("http://127.0.0.1:1");
        change(&mut options);
        start(&options).unwrap_err()
    };
    let error = start_error(&|options| options.listen = "0.0.0.0:0".parse().unwrap());
    assert!(matches!(error, StartError::NotLoopback(_)));
    for upstream in ["", "127.0.0.1:80", "ftp://x", "http://u@x", "http://x/path", "http://"] {
        let error = start_error(&|options| upstream.clone_into(&mut options.upstream));
        assert!(matches!(error, StartError::Upstream(_)), "{upstream}: {error:?}");
    }
    let error = start_error(&|options| options.rules = Some("[{}]".to_owned()));
    assert!(matches!(error, StartError::Rules(_)));
    // Nothing listens there: the client gets an error, and the log records that it was not planned.
    let proxy = start(&Options::new("http://127.0.0.1:1")).unwrap();
    let answer = python(&proxy, &json!([["GET", "/", 0, {}]])).remove(0);
    assert_eq!(answer["status"], 502);
    let entry = proxy.requests().remove(0);
    assert!(entry.faults.is_empty() && entry.error.unwrap().contains("refused"));
}
