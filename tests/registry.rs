//! The registry of images that is told at the end.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::harness::{Answer, Sandbox, Web};

#[test]
fn a_registry_is_told_of_the_image_and_its_answer_counts() {
    let sandbox = Sandbox::with_cloud();
    let disk = sandbox.disk("disk.raw", 4, 1);
    for (answers, code, posts, texts) in [
        (&[503, 200][..], 0, 2, &[][..]),
        (&[404], 6, 1, &["is registered in the cloud", "404"][..]),
        (&[503, 503, 503], 7, 2, &["is registered in the cloud", "503"]),
    ] {
        let count = Arc::new(AtomicUsize::new(0));
        let (counted, answers) = (Arc::clone(&count), answers.to_vec());
        let web = Web::start(move |asked| {
            assert_eq!(asked.path, "/images");
            let number = counted.fetch_add(1, Ordering::SeqCst);
            Answer { status: answers[number], ..Answer::default() }
        });
        let url = web.url("/images");
        let words = ["--disk", disk.to_str().unwrap(), "-c", "config.yml", "-p", "alibaba"];
        let more = ["--image-registration-url", &url, "--image-registration-retry-count", "2"];
        let run =
            sandbox.run(&[&words[..], &more, &["--image-registration-retry-delay", "0"]].concat());
        if code == 0 {
            run.succeeded();
        } else {
            run.failed(code, texts);
        }
        let image = run.member("image_id").as_str().unwrap();
        assert!(image.starts_with("m-"), "the image stays and is named: {image}");
        assert_eq!(count.load(Ordering::SeqCst), posts);
    }
    sandbox.cloud_has_only(3);
}
