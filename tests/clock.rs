//! Runs builds on hosts whose clock is wrong or is set during a build: only signatures depend on the time, and
//! they use the service's time after it refused a request.

use std::{process::Stdio, time::Duration};

use serde_json::Value;

use crate::harness::{Clock, Run, Sandbox, needs, until};

const BUILD: [&str; 6] = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];
const HOUR: i64 = 3600;

fn sandbox() -> (Sandbox, Clock) {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 100, 50);
    let clock = Clock::new(sandbox.path().join("clock"));
    (sandbox, clock)
}

fn run(sandbox: &Sandbox, clock: &Clock, args: &[&str]) -> Run {
    Run::of(&clock.rules(&mut sandbox.command(args)).output().unwrap(), None)
}

#[track_caller]
fn is_done(sandbox: &Sandbox, run: &Run) {
    run.succeeded();
    sandbox.cloud_has_only(1);
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
}

#[test]
fn a_clock_that_is_wrong_by_an_hour_is_reported_and_corrected() {
    if !needs(&["cc"]) {
        return;
    }
    for (ahead, direction) in [(HOUR, "ahead"), (-HOUR, "behind")] {
        let (sandbox, clock) = sandbox();
        clock.jump(ahead);
        let run = run(&sandbox, &clock, &BUILD);
        is_done(&sandbox, &run);
        let warning = run.stderr.lines().find(|line| line.contains("this machine's clock is"));
        assert!(warning.is_some_and(|line| line.contains(direction)), "{}", run.stderr);
    }
}

/// Starts a build, and runs the closure while its second part waits to be sent.
fn at_second_part(
    sandbox: &Sandbox,
    clock: &Clock,
    wait_ms: u64,
    act: impl FnOnce(&mut std::process::Child),
) -> Run {
    let emulator = sandbox.emulator.as_ref().unwrap();
    let rule = format!(
        r#"[{{"operation":"UploadPart","part_number":2,"nth":1,"action":{{"stall_ms":{wait_ms}}}}}]"#
    );
    emulator.set_faults(&rule).unwrap();
    let mut command = sandbox.command(&BUILD);
    clock.rules(&mut command).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    until("the second part", || emulator.wait_for_fault(Duration::from_millis(1)));
    act(&mut child);
    let output = child.wait_with_output().unwrap();
    emulator.set_faults("[]").unwrap();
    Run::of(&output, None)
}

#[test]
fn a_clock_that_jumps_in_the_midst_of_a_build_does_it_no_harm() {
    if !needs(&["cc"]) {
        return;
    }
    for ahead in [HOUR, -HOUR] {
        let (sandbox, clock) = sandbox();
        let run = at_second_part(&sandbox, &clock, 500, |_| clock.jump(ahead));
        is_done(&sandbox, &run);
    }
}

#[test]
fn a_clock_that_jumps_between_a_build_and_what_follows_does_it_no_harm() {
    if !needs(&["cc"]) {
        return;
    }
    for (ahead, idle) in [(HOUR, 3600..7200), (-HOUR, 0..1)] {
        for resumed in [true, false] {
            let (sandbox, clock) = sandbox();
            let killed = at_second_part(&sandbox, &clock, 600_000, |child| child.kill().unwrap());
            assert_eq!(killed.code, -1);
            clock.jump(ahead);
            let listed: Value =
                serde_json::from_str(&run(&sandbox, &clock, &["runs", "--json"]).stdout).unwrap();
            let found = &listed["runs"][0];
            assert_eq!(found["state"], "dead", "{found}");
            let seconds = found["idle_seconds"].as_u64().unwrap();
            assert!(idle.contains(&seconds), "{ahead}: idle for {seconds} s");
            let printed = run(&sandbox, &clock, &["runs"]);
            assert!(printed.succeeded().stdout.contains(" ago; "), "{}", printed.stdout);
            if resumed {
                let id = found["id"].as_str().unwrap();
                is_done(&sandbox, &run(&sandbox, &clock, &["resume", id]));
            } else {
                run(&sandbox, &clock, &["gc", "--yes"]).succeeded();
                sandbox.cloud_has_only(0);
                assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
            }
        }
    }
}
