//! Checks each kind of fault: what the client sees, what the server has done, and what the log records.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Pair, content, reqwest};

const MOST: Duration = Duration::from_secs(20);

/// A rule for the first PUT or GET of `/bytes/…`.
fn first(method: &str, fault: &Value) -> Value {
    json!([{"method": method, "path": "/bytes/*", "nth": 1, "fault": fault}])
}

#[test]
fn resets_and_lost_answers_differ_in_what_the_server_has_done() {
    // Python's TLS reports a reset as an early end; without TLS it is the error of the operating system.
    let seen = [
        (false, ["RemoteDisconnected", "SSLEOFError", "ConnectionResetError"]),
        (true, ["ConnectionResetError", "BrokenPipeError", ""]),
    ];
    let faults = [("reset_before", 1), ("reset_after", 2)];
    for ((plain, errors), (fault, done)) in seen.iter().flat_map(|seen| faults.map(|f| (*seen, f)))
    {
        let pair = Pair::with(&first("PUT", &json!(fault)), |options| options.plain = plain);
        let answers = pair.python(&[("PUT", "/bytes/9", 70_000), ("PUT", "/bytes/9", 70_000)]);
        let exception = answers[0]["exception"].as_str().unwrap();
        assert!(errors.contains(&exception), "{fault}: {answers:?}");
        assert_eq!(answers[1]["status"], 200, "{fault}");
        assert_eq!(pair.done("/bytes/9"), done, "{fault}");
        let entry = pair.proxy.requests().remove(0);
        assert_eq!((entry.faults, entry.rules, entry.status), (vec![fault], vec![1], None));
        assert_eq!(entry.request_bytes, if done == 2 { 70_000 } else { 0 });
    }
}

#[test]
fn statuses_are_answered_without_the_server() {
    let status =
        json!({"status": {"code": 429, "retry_after": 3, "body": "{}", "content_type": "a/b"}});
    let pair = Pair::new(&first("PUT", &status));
    let answers = pair.python(&[("PUT", "/bytes/9", 70_000), ("PUT", "/bytes/9", 9)]);
    let headers = &answers[0]["headers"];
    assert_eq!((&answers[0]["status"], &answers[0]["text"]), (&json!(429), &json!("{}")));
    assert_eq!((&headers["retry-after"], &headers["content-type"]), (&json!("3"), &json!("a/b")));
    assert_eq!(answers[1]["status"], 200);
    assert_eq!(answers[0]["port"], answers[1]["port"], "the connection stays");
    assert_eq!(pair.done("/bytes/9"), 1);
}

#[test]
fn bodies_are_cut_changed_and_stalled_where_it_is_planned() {
    let good = content(5000);
    let pair = Pair::new(&json!([]));
    let (client, runtime) = reqwest(&pair.proxy);
    let url = format!("{}/bytes/5000", pair.proxy.url());
    let get = |fault: Value| {
        pair.proxy.set_rules(&first("GET", &fault).to_string()).unwrap();
        runtime.block_on(async {
            let mut answer = client.get(&url).send().await.unwrap();
            assert_eq!(answer.content_length(), Some(5000));
            let mut body = Vec::new();
            loop {
                let next = tokio::time::timeout(Duration::from_secs(2), answer.chunk()).await;
                match next {
                    Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
                    Ok(Ok(None)) => return (body, "whole"),
                    Ok(Err(_)) => return (body, "broken"),
                    Err(_) => return (body, "stalled"),
                }
            }
        })
    };
    let (body, end) = get(json!({"truncate_answer": 1234}));
    assert_eq!((body.len(), end), (1234, "broken"));
    let (body, end) = get(json!({"stall_answer": 1234}));
    assert_eq!((body.len(), end), (1234, "stalled"));
    let (body, end) = get(json!({"corrupt_answer": 4321}));
    let wrong: Vec<usize> = (0..5000).filter(|at| body[*at] != good[*at]).collect();
    assert_eq!((wrong, end, body[4321] ^ good[4321]), (vec![4321], "whole", 1));
    // A body that is too short for the position is not changed, and the log does not claim it.
    let (body, end) = get(json!({"corrupt_answer": 5000}));
    assert_eq!((body, end), (good.clone(), "whole"));
    let (body, end) = get(json!({"truncate_answer": 5000}));
    assert_eq!((body, end), (good, "whole"));
    drop((client, runtime));
    assert!(pair.proxy.wait_for_requests(5, MOST));
    let faults: Vec<_> = pair.proxy.requests().into_iter().map(|entry| entry.faults).collect();
    for name in ["truncate_answer", "stall_answer", "corrupt_answer"] {
        assert_eq!(faults.iter().filter(|found| **found == [name]).count(), 1, "{faults:?}");
    }
}

#[test]
fn requests_are_cut_and_changed_on_their_way_to_the_server() {
    let pair = Pair::new(&first("PUT", &json!({"corrupt_request": 69_999})));
    let answers = pair.python(&[("PUT", "/bytes/1", 70_000), ("PUT", "/bytes/1", 70_000)]);
    let digest = |answer: &Value| {
        let report: Value = serde_json::from_str(answer["text"].as_str().unwrap()).unwrap();
        assert_eq!(report["length"], 70_000);
        report["sha256"].clone()
    };
    assert_ne!(digest(&answers[0]), digest(&answers[1]));
    pair.proxy.set_rules(&first("PUT", &json!({"truncate_request": 50_000})).to_string()).unwrap();
    let answers = pair.python(&[("PUT", "/bytes/2", 70_000), ("PUT", "/bytes/2", 70_000)]);
    let broken = ["ConnectionResetError", "RemoteDisconnected", "BrokenPipeError", "SSLEOFError"];
    assert!(broken.contains(&answers[0]["exception"].as_str().unwrap()), "{answers:?}");
    assert_eq!(answers[1]["status"], 200);
    assert_eq!(pair.done("/bytes/2"), 1, "the server got a part of the first one");
    let cut = pair.proxy.requests().into_iter().find(|entry| entry.path == "/bytes/2").unwrap();
    assert_eq!((cut.faults, cut.request_bytes), (vec!["truncate_request"], 50_000));
}

#[test]
fn delays_last_as_planned() {
    let pair = Pair::new(&first("GET", &json!({"slow": 4000})));
    let seconds = |answers: &[Value]| answers[0]["seconds"].as_f64().unwrap();
    let slow = pair.python(&[("GET", "/bytes/4000", 0)]);
    assert_eq!(slow[0]["length"], 4000);
    assert!(seconds(&slow) > 0.9, "{slow:?}");
    pair.proxy.set_rules(&first("GET", &json!({"delay_answer_ms": 700})).to_string()).unwrap();
    let late = pair.python(&[("GET", "/bytes/1", 0), ("GET", "/bytes/1", 0)]);
    assert!(seconds(&late) > 0.7 && seconds(&late[1..]) < 0.7, "{late:?}");
    // The client's own timeout ends it after five seconds; the server saw nothing.
    pair.proxy.set_rules(&first("GET", &json!("stall")).to_string()).unwrap();
    let stalled = pair.python(&[("GET", "/bytes/77", 0)]);
    assert_eq!(stalled[0]["exception"], "TimeoutError");
    assert_eq!(pair.done("/bytes/77"), 0);
}

#[test]
fn the_servers_clock_is_wrong() {
    let pair = Pair::new(&first("GET", &json!({"skew_seconds": -86_400})));
    let answers = pair.python(&[("GET", "/bytes/1", 0), ("GET", "/bytes/1", 0)]);
    let date = |answer: &Value| {
        let text = answer["headers"]["date"].as_str().unwrap();
        assert!(text.ends_with(" GMT"), "{text}");
        jiff::fmt::rfc2822::parse(text).unwrap().timestamp().as_second()
    };
    let behind = date(&answers[1]) - date(&answers[0]);
    assert!((86_399..86_420).contains(&behind), "{behind}");
}

#[test]
fn connections_are_refused_for_a_time_and_accepted_again() {
    let rules = first("GET", &json!({"refuse_ms": 1500}));
    let pair = Pair::with(&rules, |options| options.plain = true);
    let paths: Vec<_> = (0..300).map(|_| ("GET", "/bytes/1", 0)).collect();
    let answers = pair.python(&paths[..2]);
    assert_eq!(answers[0]["exception"], "ConnectionResetError");
    assert_eq!(answers[1]["exception"], "ConnectionRefusedError");
    let begun = std::time::Instant::now();
    let mut tries = 0;
    while pair.python(&paths[..1])[0]["status"] != 200 {
        tries += 1;
        assert!(begun.elapsed() < MOST, "refused for ever, {tries} tries");
    }
    assert_eq!(pair.done("/bytes/1"), 1);
}
