//! Tests the registry of images that is notified at the end of a build.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::harness::{Answer, Sandbox, Web};

#[test]
fn a_registry_is_notified_of_the_image_and_its_answer_counts() {
    for (answers, code, posts, texts) in [
        (&[503, 200][..], 0, 2, &[][..]),
        (&[404], 9, 1, &["is registered in the cloud", "404"][..]),
        (
            &[503, 503, 503],
            9,
            2,
            &["is registered in the cloud", "503", "hint: tried 2 times within 0 s"],
        ),
    ] {
        let sandbox = Sandbox::with_cloud();
        let disk = sandbox.disk("disk.raw", 4, 1);
        let count = Arc::new(AtomicUsize::new(0));
        let (counted, answers) = (Arc::clone(&count), answers.to_vec());
        let web = Web::start(move |request| {
            assert_eq!(request.path, "/images");
            let number = counted.fetch_add(1, Ordering::SeqCst);
            Answer { status: answers.get(number).copied().unwrap_or(200), ..Answer::default() }
        });
        let url = web.url("/images");
        let args = ["--disk", disk.to_str().unwrap(), "-c", "config.yml", "-p", "alibaba"];
        let more = ["--image-registration-url", &url, "--image-registration-retry-count", "2"];
        let delay = ["--image-registration-retry-delay", "0"];
        let run = sandbox.run(&[&args[..], &more, &delay].concat());
        let image = run.member("image_id").as_str().unwrap().to_owned();
        assert!(image.starts_with("m-"), "the image stays and is named: {image}");
        assert_eq!(count.load(Ordering::SeqCst), posts);
        sandbox.cloud_has_only(1);
        if code == 0 {
            run.succeeded();
            continue;
        }
        run.failed(code, texts);
        assert_eq!(run.member("result"), "FAILURE");
        // A resumed run does what is missing; nothing else is repeated.
        if texts[1] == "503" {
            count.store(9, Ordering::SeqCst);
        }
        let run = sandbox.run(&["resume"]);
        run.succeeded();
        assert_eq!(run.member("image_id"), image.as_str());
        assert_eq!(count.load(Ordering::SeqCst), if texts[1] == "503" { 10 } else { 2 });
        sandbox.cloud_has_only(1);
        assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
    }
}

#[test]
fn an_interrupt_ends_the_wait_for_the_registry_and_keeps_the_image() {
    let sandbox = Sandbox::with_cloud();
    let disk = sandbox.disk("disk.raw", 4, 1);
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let web = Web::start(move |_| {
        let _ = sender.lock().unwrap().send(());
        Answer::status(503)
    });
    let url = web.url("/images");
    let args = ["--disk", disk.to_str().unwrap(), "-c", "config.yml", "-p", "alibaba"];
    let more = ["--image-registration-url", &url, "--image-registration-retry-delay", "3600"];
    let result = sandbox.path().join("result.json");
    let mut command = sandbox.command(&[&args[..], &more].concat());
    let child = command.env("F5_OUTPUT_JSON_FILE", &result).stderr(Stdio::piped()).spawn().unwrap();
    receiver.recv().unwrap();
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("is registered in the cloud"), "{text}");
    let result: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
    assert!(result["image_id"].as_str().unwrap().starts_with("m-"), "{result:#}");
    sandbox.cloud_has_only(1);
    // The run is listed, and only its own files are removed with it.
    sandbox.run(&["gc", "--yes"]).succeeded();
    sandbox.cloud_has_only(1);
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
}
