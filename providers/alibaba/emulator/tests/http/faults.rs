//! Tests requested faults, as a client sees them.

use crate::client::{Call, Client, emulator};
use crate::disks;
use crate::import::{images, import, params, task};
use crate::multipart;

#[test]
fn chosen_answers_are_errors_and_then_are_not() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let rules = r#"[{"operation":"PutObject","count":1,"action":{"status":500,"code":"InternalError"}},
                    {"operation":"GetObject","count":1,"action":"throttle"},
                    {"operation":"DescribeRegions","count":1,"action":"throttle"}]"#;
    assert_eq!(client.plain("PUT", "/_emulator/faults", rules.as_bytes()).status, 204);
    assert_eq!(client.put("k", b"x").error(), (500, "InternalError".to_owned()));
    assert_eq!(client.put("k", b"x").status, 200);
    let throttled = client.get("k");
    assert_eq!(throttled.error(), (503, "TotalQpsLimitExceeded".to_owned()));
    assert_eq!(throttled.header("x-oss-qos-delay-time"), "200");
    assert_eq!(client.get("k").text(), "x");
    let throttled = client.ecs("DescribeRegions", &[]);
    assert_eq!(throttled.error(), (400, "Throttling.User".to_owned()));
    assert_eq!(throttled.header("x-acs-retry-after"), "200");
    assert_eq!(client.ecs("DescribeRegions", &[]).status, 200);
    let bad = client.plain("PUT", "/_emulator/faults", b"[{\"operation\":\"*\",\"action\":1}]");
    assert_eq!(bad.status, 400);
    assert!(bad.json()["error"].as_str().unwrap().contains("rule 1"));
}

#[test]
fn a_reset_before_does_nothing_and_a_reset_after_does_everything() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let put = |key| Call { method: "PUT", bucket: "demo", key, body: b"x", ..Call::default() };
    running.set_faults(r#"[{"operation":"PutObject","action":"reset_before"}]"#).unwrap();
    assert!(client.try_oss(&put("before")).is_err());
    running.set_faults(r#"[{"operation":"PutObject","action":"reset_after"}]"#).unwrap();
    assert!(client.try_oss(&put("after")).is_err());
    assert_eq!(client.get("before").status, 404);
    assert_eq!(client.get("after").status, 200);
}

#[test]
fn a_truncated_answer_is_shorter_than_its_declared_length() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put("k", &vec![7; 100_000]);
    running
        .set_faults(r#"[{"operation":"GetObject","count":1,"action":"truncate_answer"}]"#)
        .unwrap();
    let get = Call { method: "GET", bucket: "demo", key: "k", ..Call::default() };
    assert!(client.try_oss(&get).is_err());
    assert_eq!(client.get("k").body.len(), 100_000);
}

#[test]
fn a_corrupt_part_has_another_checksum() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    let rule = r#"[{"operation":"UploadPart","part_number":2,"count":1,"action":"corrupt_body"}]"#;
    running.set_faults(rule).unwrap();
    let upload = multipart::initiate(&client, "k");
    let sum = |number: &str| {
        let reply = multipart::part(&client, "k", &upload, number, b"hello world");
        reply.header("x-oss-hash-crc64ecma").to_owned()
    };
    let good = "5981764153023615706";
    assert_eq!(sum("1"), good);
    assert_ne!(sum("2"), good);
    assert_eq!(sum("2"), good);
}

#[test]
fn a_skewed_clock_refuses_and_reports_both_times() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    running.set_faults(r#"[{"operation":"*","action":{"skew_seconds":3600}}]"#).unwrap();
    let skewed = client.get("k");
    assert_eq!(skewed.error(), (403, "RequestTimeTooSkewed".to_owned()));
    assert_eq!(skewed.xml("MaxAllowedSkewMilliseconds"), "900000");
    assert!(skewed.xml("ServerTime") > skewed.xml("RequestTime"));
    assert!(!skewed.header("date").is_empty());
    let error = client.ecs("DescribeRegions", &[]).error();
    assert_eq!(error, (400, "InvalidTimeStamp.Expired".to_owned()));
}

#[test]
fn imports_fail_or_linger_on_order() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put("disk.raw", &disks::raw(1 << 20));
    let fail = r#"{"fail_task":{"code":"Ordered","message":"as ordered","finished":true}}"#;
    let rules = format!(
        r#"[{{"operation":"ImportImage","nth":1,"action":{fail}}},
            {{"operation":"ImportImage","nth":2,"action":{{"keep_creating":86400}}}}]"#
    );
    running.set_faults(&rules).unwrap();
    let (_, failed) = import(&client, &params("failing", "disk.raw", "RAW"));
    let failed = task(&client, &failed);
    assert_eq!((&failed["TaskStatus"], &failed["FailedCount"]), (&"Finished".into(), &1.into()));
    let progress = &failed["OperationProgressSet"]["OperationProgress"][0];
    assert_eq!(
        (&progress["ErrorCode"], &progress["ErrorMsg"]),
        (&"Ordered".into(), &"as ordered".into())
    );
    let (image, lingering) = import(&client, &params("lingering", "disk.raw", "RAW"));
    assert_eq!(task(&client, &lingering)["TaskStatus"], "Finished");
    assert_eq!(images(&client, &[("ImageId", &image)])[0]["Status"], "Creating");
}

#[test]
fn bodies_can_be_slow_and_rates_shared() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put("k", &vec![7; 30_000]);
    for rule in [
        r#"{"operation":"GetObject","action":{"slow_body":100000}}"#,
        r#"{"operation":"GetObject","action":{"bandwidth":100000}}"#,
    ] {
        running.set_faults(&format!("[{rule}]")).unwrap();
        let begun = std::time::Instant::now();
        assert_eq!(client.get("k").body.len(), 30_000);
        // The client waits for everything except the last twentieth of a second's worth.
        assert!(begun.elapsed().as_millis() >= 200, "{rule}");
    }
    running.set_faults(r#"[{"operation":"PutObject","action":{"slow_body":100000}}]"#).unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(client.put("k", &vec![7; 30_000]).status, 200);
    assert!(begun.elapsed().as_millis() >= 250);
}

#[test]
fn answers_can_be_wrong_tokens_expire_and_calls_be_too_many() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put("k", b"x");
    let rules = r#"[{"operation":"GetObject","count":1,"action":"corrupt_answer"},
                    {"operation":"GetObject","nth":2,"action":"expire_token"},
                    {"operation":"PutObject","action":{"qps":1}}]"#;
    running.set_faults(rules).unwrap();
    assert_eq!(client.get("k").body, [b'x' ^ 1]);
    assert_eq!(client.get("k").error(), (403, "SecurityTokenExpired".to_owned()));
    assert_eq!(client.get("k").text(), "x");
    assert_eq!(client.put("k", b"x").status, 200);
    assert_eq!(client.put("k", b"x").error().1, "UploadTrafficRateLimitExceeded");
    let report = client.plain("GET", "/_emulator/faults", b"").json();
    assert_eq!((&report[0]["struck"], &report[2]["seen"]), (&1.into(), &2.into()));
    assert_eq!(client.plain("DELETE", "/_emulator/faults", b"").status, 204);
    assert_eq!(client.put("k", b"x").status, 200);
}

#[test]
fn a_stalled_request_is_answered_late() {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    running
        .set_faults(r#"[{"operation":"PutObject","count":1,"action":{"stall_ms":300}}]"#)
        .unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(client.put("k", b"x").status, 200);
    assert!(begun.elapsed().as_millis() >= 300);
}
