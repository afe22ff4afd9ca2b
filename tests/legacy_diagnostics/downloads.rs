//! Lists URLs that return nothing useful.

use super::{Mistake, check, judge, words};
use crate::harness::{Answer, Request, Sandbox, Web};

/// The behaviour of a server, and the expected outcome.
struct Served {
    /// What the old tool printed or did.
    old: &'static str,
    path: &'static str,
    answer: fn(&Request, &[u8]) -> Answer,
    code: i32,
    says: &'static [&'static str],
}

macro_rules! served {
    ($old:literal, $path:literal, $code:literal, $says:expr, $answer:expr) => {
        Served { old: $old, path: $path, answer: $answer, code: $code, says: &$says }
    };
}

const BUILD: &str = "-p qcow2 --reuse --download-retries 2 --download-timeout 1s --disk";

const SERVED: [Served; 11] = [
    served!(
        "neither a file nor a valid URL",
        "/d.raw",
        4,
        ["answers 404", "check the address"],
        |_, _| Answer::status(404)
    ),
    served!(
        "neither a file nor a valid URL",
        "/d.raw",
        4,
        ["answers 401", "USER:PASSWORD@"],
        |_, _| Answer::status(401)
    ),
    served!(
        "prints the whole address with its signature",
        "/d.raw?Signature=abc",
        4,
        ["/d.raw?…`", "answers 403"],
        |_, _| Answer::status(403)
    ),
    served!(
        "neither a file nor a valid URL",
        "/d.raw",
        7,
        ["answers 503", "attempts: 3"],
        |_, _| Answer::status(503)
    ),
    served!(
        "takes 302 for an answer, and wget gives up after 20",
        "/d.raw",
        4,
        ["redirects more than 10 times"],
        |request, _| Answer::redirect(&request.path)
    ),
    served!(
        "takes 302 for an answer",
        "/d.raw",
        4,
        ["redirects to an address that is none"],
        |_, _| Answer::redirect("ftp://h/x")
    ),
    served!(
        "begins again at the first byte, next time",
        "/d.raw",
        7,
        ["the connection broke"],
        |request, body| Answer { cut: Some(0), ..Answer::file(request, body) }
    ),
    served!(
        "fills the disk",
        "/d.raw",
        5,
        ["900000000000000000 bytes are to come", "free", "ARTIFACTS_DIR"],
        |_, _| {
            let headers = vec![("content-length", "900000000000000000".to_owned())];
            Answer { status: 200, headers, ..Answer::default() }
        }
    ),
    served!(
        "waits for 15 minutes",
        "/d.raw",
        7,
        ["nothing arrived for 1 s", "DOWNLOAD_TIMEOUT"],
        |_, body| { Answer { stall: Some(0), ..Answer::file(&Request::default(), body) } }
    ),
    served!(
        "takes a page for a disk",
        "/d.raw",
        4,
        ["is a web page", "downloaded from: http://"],
        |request, _| Answer::file(request, b"<html>Log in first</html>")
    ),
    served!("takes nothing for a disk", "/d.raw", 4, ["downloaded from: http://"], |request, _| {
        Answer::file(request, b"")
    }),
];

const ADDRESSES: [Mistake; 3] = [
    Mistake {
        old: "neither a file nor a valid URL",
        // The port of a server that has ended has no listener.
        made: |_| served_at(&Web::start(|_| Answer::status(200)).url("/d.raw")),
        code: 7,
        says: &["no connection", "attempts: 3"],
    },
    Mistake {
        old: "neither a file nor a valid URL",
        made: |_| served_at("ftp://host/d.raw"),
        code: 4,
        says: &["neither a file nor an http or https URL"],
    },
    Mistake {
        old: "neither a file nor a valid URL",
        made: |_| served_at("http://"),
        code: 4,
        says: &["is no usable URL"],
    },
];

fn served_at(url: &str) -> Vec<String> {
    [words(BUILD), vec![url.to_owned()]].concat()
}

#[test]
fn what_cannot_be_downloaded_says_why_and_leaves_nothing() {
    let disk = Sandbox::new();
    let content = std::fs::read(disk.disk("x", 4, 3)).unwrap();
    let mut wrong = String::new();
    for Served { old, path, answer, code, says } in SERVED {
        let content = content.clone();
        let web = Web::start(move |request| answer(request, &content));
        let sandbox = Sandbox::new();
        let words = served_at(&web.url(path));
        wrong.push_str(&judge(&sandbox, old, &words, code, says));
        let result = std::fs::read_to_string(sandbox.path().join("result.json")).unwrap();
        assert!(!result.contains("Signature"), "{result}");
    }
    assert!(wrong.is_empty(), "{wrong}");
    check(&ADDRESSES);
}
