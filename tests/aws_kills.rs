//! Kills builds for AWS where it matters which blocks are sent again, resumes and collects them beside images and
//! credentials of others, and runs builds of one name at once. `seams` kills at every line of the journal.

use std::process::Stdio;

use build_image_fault_proxy::{Options, start};
use serde_json::{Value, json};

use crate::{
    build_aws::{BUILD, HOME, foreign, id_of, puts, sandbox},
    harness::{Aws, Run, Sandbox, until},
};

fn runs(sandbox: &Sandbox) -> Vec<Value> {
    let listed = sandbox.command(&["runs", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    listed["runs"].as_array().unwrap().clone()
}

fn first_run(sandbox: &Sandbox) -> String {
    runs(sandbox)[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_killed_upload_sends_at_most_the_blocks_in_flight_again() {
    let Some(server) = Aws::shared() else { return };
    let mut options = Options::new(server.url());
    options.plain = true;
    let proxy = start(&options).unwrap();
    // The answers take time, so that the upload is killed in its middle.
    let slow = json!([{"method": "PUT", "fault": {"delay_answer_ms": 30}}]);
    for concurrency in [1_u64, 8] {
        proxy.set_rules(&slow.to_string()).unwrap();
        let account = server.account(&json!({}));
        let number = concurrency.to_string();
        let url = proxy.url();
        let settings = [("AWS_ENDPOINT_URL", url.as_str()), ("AWS_UPLOAD_CONCURRENCY", &number)];
        let sandbox = sandbox(&account, &settings);
        sandbox.disk("disk.raw", 80, 60);
        let mut again = 0;
        let mut args = BUILD.map(str::to_owned).to_vec();
        for part in [30, 70] {
            let words: Vec<&str> = args.iter().map(String::as_str).collect();
            let mut command = sandbox.command(&words);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            until("blocks of the upload", || {
                puts(&account).len() >= part || child.try_wait().unwrap().is_some()
            });
            assert!(child.try_wait().unwrap().is_none(), "the upload was not killed");
            child.kill().unwrap();
            child.wait().unwrap();
            args = vec!["resume".to_owned(), first_run(&sandbox)];
            again += concurrency;
        }
        proxy.set_rules("[]").unwrap();
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        let resumed = sandbox.run(&words);
        resumed.succeeded();
        account.has_only(1);
        account.holds(&id_of(&resumed), HOME, &sandbox.path().join("disk.raw"));
        let puts = puts(&account);
        let repeated: u64 = puts.values().map(|times| times - 1).sum();
        assert_eq!(puts.len(), 120);
        assert!(repeated <= again, "{repeated} blocks were sent again, {again} were in flight");
        println!("{concurrency} in flight, two kills: {repeated} of 120 blocks were sent again");
        let operation = |name: &str| {
            account.requests().iter().filter(|request| request["operation"] == name).count()
        };
        assert_eq!((operation("CompleteSnapshot"), operation("RegisterImage") > 0), (1, true));
    }
}

#[test]
fn a_snapshot_that_was_lost_is_replaced_by_another_one() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({}));
    let sandbox = sandbox(&account, &[]);
    let mut command = sandbox.command(&BUILD);
    let killed = command.env("BUILD_IMAGE_FAILPOINT", r#"after:"blocks""#).output().unwrap();
    assert!(!killed.status.success(), "{}", String::from_utf8_lossy(&killed.stderr));
    let lost = account.owned("snapshots")[0]["id"].clone();
    let gone = account.call("ec2", "DeleteSnapshot", &json!({"SnapshotId": lost}), HOME);
    assert_eq!(gone, json!({}));
    let resumed = sandbox.run(&["resume", &first_run(&sandbox)]);
    resumed.succeeded();
    account.has_only(1);
    account.holds(&id_of(&resumed), HOME, &sandbox.path().join("disk.raw"));
}

#[test]
fn another_account_neither_resumes_nor_collects_a_run() {
    let Some(server) = Aws::shared() else { return };
    let (account, other) = (server.account(&json!({})), server.account(&json!({})));
    let sandbox = sandbox(&account, &[]);
    let mut command = sandbox.command(&BUILD);
    let killed = command.env("BUILD_IMAGE_FAILPOINT", "after:resource_created").output().unwrap();
    assert!(!killed.status.success());
    let id = first_run(&sandbox);
    let before = account.owned("snapshots");
    assert_eq!(before.len(), 1);
    sandbox.write("config.yml", &other.config(&[]));
    let gc = Run::of(&sandbox.command(&["gc", "--yes"]).output().unwrap(), None);
    let shown = format!("{}{}", gc.stdout, gc.stderr);
    assert!(gc.code == 8 && shown.contains("belongs to"), "{}: {shown}", gc.code);
    let resume = Run::of(&sandbox.command(&["resume", &id]).output().unwrap(), None);
    assert_ne!(resume.code, 0, "{}", resume.stderr);
    assert_eq!(account.owned("snapshots"), before);
    sandbox.write("config.yml", &account.config(&[]));
    let gc = Run::of(&sandbox.command(&["gc", "--yes"]).output().unwrap(), None);
    assert_eq!(gc.code, 0, "{}{}", gc.stdout, gc.stderr);
    account.has_only(0);
    other.has_only(0);
}

#[test]
fn builds_of_one_name_at_once_leave_one_image_and_name_the_other() {
    let Some(server) = Aws::shared() else { return };
    for if_exists in ["fail", "replace"] {
        let account = server.account(&json!({"polls": 1}));
        let settings = [("AWS_IF_EXISTS", if_exists), ("AWS_CREATE_IMAGE_RETRY_COUNT", "5")];
        let sandboxes = [(); 3].map(|()| sandbox(&account, &settings));
        if if_exists == "replace" {
            foreign(&account, "at-once");
        }
        let children = sandboxes.each_ref().map(|sandbox| {
            let mut command =
                sandbox.command(&[&BUILD[..], &["--cloud-image-name", "at-once"]].concat());
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        });
        let ended = children.map(|child| Run::of(&child.wait_with_output().unwrap(), None));
        let done = ended.iter().filter(|run| run.code == 0).count();
        assert!(done >= 1 && (if_exists == "replace" || done == 1), "{if_exists}: {done}");
        for run in ended.iter().filter(|run| run.code != 0) {
            let errors = run.stderr.lines().filter(|line| line.starts_with("error: ")).count();
            assert_eq!(errors, 1, "{}", run.stderr);
            // The image that was replaced first cannot get its name back: that is listed.
            let is_listed = run.stderr.contains("left behind: ");
            assert_eq!(run.code, if is_listed { 8 } else { 6 }, "{}", run.stderr);
        }
        let images = account.owned("images");
        assert_eq!(images.len(), 1, "{images:#?}");
        let used = &images[0]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"];
        let is_left = |snapshot: &&Value| snapshot["id"] != *used;
        let snapshots = account.owned("snapshots");
        let left = snapshots.iter().filter(is_left);
        // Nothing is left, but snapshots of a replaced image that could not be registered again: its build lists it.
        let errors: String = ended.iter().map(|run| run.stderr.as_str()).collect();
        for snapshot in left.filter(|snapshot| snapshot["tags"]["of"] != "others") {
            let image = snapshot["tags"]["build-image-image"].as_str().unwrap_or("unmarked");
            let is_left = |line: &str| line.contains("left behind: ") && line.contains(image);
            assert!(errors.lines().any(is_left), "{snapshot:#}\n{errors}");
        }
        let id = images[0]["id"].as_str().unwrap();
        account.holds(id, HOME, &sandboxes[0].path().join("disk.raw"));
        // What is listed is still in the journal of its run.
        for (sandbox, run) in sandboxes.iter().zip(&ended) {
            let is_kept = sandbox.path().join("artifacts").exists();
            assert_eq!(is_kept, run.code == 8, "{:?}", sandbox.files());
        }
    }
}

#[test]
fn an_interrupted_replacement_registers_the_old_image_again() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({}));
    let made = json!({"name": "replaced", "tags": {"of": "others"}, "users": ["123456789012"],
        "more": {"BootMode": "uefi", "UefiData": "QU1aTlVFRkk="}});
    account.control("POST", "images", made);
    let before = account.owned("images").remove(0);
    let sandbox = sandbox(&account, &[("AWS_IF_EXISTS", "replace")]);
    let mut command = sandbox.command(&[&BUILD[..], &["--cloud-image-name", "replaced"]].concat());
    // The old image has just been deregistered; the new one is refused for as long as the build tries.
    account.rules(&json!([{"operation": "RegisterImage", "nth": 2, "count": 1,
        "code": "InvalidParameterValue", "status": 400}]));
    let run = Run::of(&command.output().unwrap(), None);
    let struck = account.struck();
    account.rules(&json!([]));
    assert_eq!((run.code, struck), (2, vec![1]), "{}", run.stderr);
    account.has_only(1);
    let after = account.owned("images").remove(0);
    for name in [
        "name",
        "tags",
        "permissions",
        "BlockDeviceMappings",
        "RootDeviceName",
        "BootMode",
        "uefi_data",
    ] {
        assert_eq!(after[name], before[name], "{name}");
    }
}

/// Ctrl-C ends the wait for an answer, but not the request: it may be served when the undo has begun.
#[test]
fn a_deregistration_that_is_served_late_is_undone() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({}));
    account.control("POST", "images", json!({"name": "replaced", "tags": {"of": "others"}}));
    let sandbox = sandbox(&account, &[("AWS_IF_EXISTS", "replace")]);
    let mut command = sandbox.command(&[&BUILD[..], &["--cloud-image-name", "replaced"]].concat());
    // The first one is a dry run.
    account.rules(&json!([{"operation": "DeregisterImage", "nth": 2, "until": "DescribeImages"}]));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("the request", || account.struck() == [1] || child.try_wait().unwrap().is_some());
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let run = Run::of(&child.wait_with_output().unwrap(), None);
    account.rules(&json!([]));
    assert_eq!(run.code, 130, "{}", run.stderr);
    account.has_only(1);
    let image = account.owned("images").remove(0);
    assert_eq!((&image["name"], &image["tags"]["of"]), (&json!("replaced"), &json!("others")));
}
