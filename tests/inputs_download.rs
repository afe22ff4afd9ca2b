//! Checks sources by URL: cut, stalled, redirected, refused, and resumed.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use crate::{
    concurrent_builds::is_equal,
    harness::{
        Answer, PATIENCE, Request, Run, Sandbox, TinyIso, Web, needs, needs_qemu, sandbox_walk,
        stand_in_qemu, tool, until,
    },
};

const MIB: usize = 1 << 20;

/// A raw disk as a server holds it.
fn image() -> Vec<u8> {
    let sandbox = Sandbox::new();
    fs::read(sandbox.disk("x", 4, 3)).unwrap()
}

/// Builds a disk by URL and keeps the downloads.
fn build(sandbox: &Sandbox, url: &str, more: &[&str]) -> Run {
    let args = ["--disk", url, "-p", "qcow2", "--reuse", "--download-retries", "2"];
    sandbox.run(&[&args, more].concat())
}

/// The download that was stored under a name.
fn downloaded(sandbox: &Sandbox, name: &str) -> Option<PathBuf> {
    let mut found = None;
    let directory = sandbox.path().join("artifacts/downloads");
    if directory.is_dir() {
        sandbox_walk(&directory, &mut |path| {
            if path.file_name().is_some_and(|other| other == name) {
                found = Some(path.to_owned());
            }
        });
    }
    found
}

#[test]
fn a_disk_by_url_is_fetched_once_and_removed_when_the_build_is_done() {
    let disk = image();
    let content = disk.clone();
    let web = Web::start(move |request| Answer::file(request, &content));
    let sandbox = Sandbox::new();
    let url = web.url("/images/some%20disk.raw?x=1");
    build(&sandbox, &url, &[]).succeeded();
    let path = downloaded(&sandbox, "some-disk.raw").expect("it is kept with --reuse");
    assert!(fs::read(&path).unwrap() == disk);
    let again = build(&sandbox, &url, &[]);
    again.succeeded();
    assert!(again.stderr.contains("has not changed"), "{}", again.stderr);
    assert!(web.requests()[1].header("if-none-match").is_some());
    sandbox.run(&["--disk", &url, "-p", "qcow2", "--package", "none"]).succeeded();
    assert!(!sandbox.path().join("artifacts/downloads").exists(), "without --reuse it goes");
    assert!(sandbox.files().contains(&"images/some-disk.qcow2".to_owned()));
}

/// The answer of a server, from the number of the request and the request.
type Behaviour = fn(usize, &Request, &[u8]) -> Answer;
/// What breaks, how, and the first byte of each request that follows.
type Break = (&'static str, Behaviour, &'static [usize]);

fn cut(request: &Request, body: &[u8], at: usize) -> Answer {
    Answer { cut: Some(at), ..Answer::file(request, body) }
}

fn without_tag(answer: Answer) -> Answer {
    let headers = answer.headers.into_iter().filter(|(name, _)| *name != "etag").collect();
    Answer { headers, ..answer }
}

const BREAKS: [Break; 10] = [
    (
        "a length nobody tells",
        |n, request, body| {
            if n == 0 { cut(request, body, MIB).chunked() } else { Answer::file(request, body) }
        },
        &[0, MIB],
    ),
    (
        "a length nobody tells, whole at once",
        |_, request, body| Answer::file(request, body).chunked(),
        &[0],
    ),
    (
        "cut twice",
        |n, request, body| {
            if n < 2 { cut(request, body, MIB) } else { Answer::file(request, body) }
        },
        &[0, MIB, 2 * MIB],
    ),
    (
        "a server that knows no ranges",
        |n, request, body| {
            let whole = Request::default();
            if n == 0 { cut(request, body, MIB) } else { Answer::file(&whole, body) }
        },
        &[0, MIB],
    ),
    (
        "another file by now",
        |n, request, body| {
            let old = vec![7; 5 * MIB];
            if n == 0 { cut(request, &old, MIB) } else { Answer::file(request, body) }
        },
        &[0, MIB],
    ),
    (
        "nothing that tells files apart",
        |n, request, body| {
            without_tag(if n == 0 { cut(request, body, MIB) } else { Answer::file(request, body) })
        },
        &[0, 0],
    ),
    (
        "unavailable for a moment",
        |n, request, body| {
            if n == 0 { Answer::status(503) } else { Answer::file(request, body) }
        },
        &[0, 0],
    ),
    (
        "another part than asked for",
        |n, request, body| match n {
            0 => cut(request, body, MIB),
            1 => {
                let headers = vec![("content-range", format!("bytes 5-9/{}", body.len()))];
                Answer { status: 206, headers, body: vec![0; 5], ..Answer::default() }
            }
            _ => Answer::file(request, body),
        },
        &[0, MIB, 0],
    ),
    (
        "a part it cannot give",
        |n, request, body| match n {
            0 => cut(request, body, MIB),
            1 => Answer::status(416),
            _ => Answer::file(request, body),
        },
        &[0, MIB, 0],
    ),
    (
        "a redirect",
        |n, request, body| {
            if n == 0 {
                Answer::redirect("../elsewhere/d.raw")
            } else {
                Answer::file(request, body)
            }
        },
        &[0, 0],
    ),
];

#[test]
fn broken_downloads_are_resumed_where_they_broke() {
    let disk = image();
    for (what, behaviour, starts) in BREAKS {
        let (content, count) = (disk.clone(), AtomicUsize::new(0));
        let web = Web::start(move |request| {
            behaviour(count.fetch_add(1, Ordering::Relaxed), request, &content)
        });
        let sandbox = Sandbox::new();
        let run = build(&sandbox, &web.url("/some/d.raw"), &[]);
        assert_eq!(run.code, 0, "{what}: {}", run.stderr);
        let offsets: Vec<usize> = web.requests().iter().map(Request::from).collect();
        assert_eq!(offsets, starts, "{what}");
        assert!(fs::read(downloaded(&sandbox, "d.raw").unwrap()).unwrap() == disk, "{what}");
    }
}

#[test]
fn an_interrupted_download_is_kept_and_resumed_and_leaks_no_password() {
    let disk = image();
    let content = disk.clone();
    let count = AtomicUsize::new(0);
    let web = Web::start(move |request| {
        let stall = (count.fetch_add(1, Ordering::Relaxed) == 0).then_some(MIB);
        Answer { stall, ..Answer::file(request, &content) }
    });
    let sandbox = Sandbox::new();
    let url = web.url("/d.raw").replace("http://", "http://me:pass-word@");
    let args = ["--disk", &url, "-p", "qcow2", "--reuse"];
    let mut child = sandbox.command(&args).stderr(Stdio::piped()).spawn().unwrap();
    let half = || downloaded(&sandbox, "partial").and_then(|path| path.metadata().ok());
    until("the download begins", || half().is_some_and(|file| file.len() >= MIB as u64));
    let interrupted = Instant::now();
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(interrupted.elapsed() < PATIENCE);
    build(&sandbox, &url, &[]).succeeded();
    let requests = web.requests();
    assert_eq!(requests[1].from(), MIB);
    assert_eq!(requests[1].header("authorization"), Some("Basic bWU6cGFzcy13b3Jk"));
    assert!(fs::read(downloaded(&sandbox, "d.raw").unwrap()).unwrap() == disk);
    // Nor does a failed build whose journal is kept, or a plan.
    sandbox.run(&["plan", "--disk", &url, "-p", "qcow2"]);
    sandbox.write("full/d.qcow2/x", "a folder in the way");
    let args = ["--disk", &url, "-p", "qcow2", "--on-failure", "keep", "--image-dir", "full"];
    // A directory blocks the path of the image.
    let run = sandbox.run(&[&args[..], &["--log-level", "trace", "--package", "none"]].concat());
    assert_ne!(run.code, 0);
    assert!(sandbox.files().iter().any(|name| name.contains("runs/")), "{:?}", sandbox.files());
    assert!(!run.stderr.contains("pass-word"));
    sandbox_walk(sandbox.path(), &mut |path| {
        if path.is_file() && path.metadata().unwrap().len() < MIB as u64 {
            let text = fs::read(path).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains("pass-word"), "{}", path.display());
        }
    });
}

#[test]
fn two_builds_share_one_download() {
    let disk = image();
    let web = Web::start(move |request| Answer::file(request, &disk));
    let sandbox = Sandbox::new();
    let url = web.url("/d.raw");
    let args = ["--disk", &url, "-p", "qcow2", "--reuse", "--image-dir"];
    let start = |images: &str| {
        let mut command = sandbox.command(&[&args, &[images][..]].concat());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    for mut child in ["a", "b", "c"].map(start) {
        assert!(child.wait().unwrap().success());
    }
    let whole =
        web.requests().iter().filter(|request| request.header("if-none-match").is_none()).count();
    assert_eq!((whole, web.requests().len()), (1, 3));
}

#[test]
fn files_for_the_image_that_cannot_be_fetched_stop_the_build_before_a_guest_is_started() {
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::new();
    TinyIso::base().write(&sandbox.path().join("base.iso"));
    let web = Web::start(|request| match request.path.as_str() {
        "/there" => Answer::file(request, b"content"),
        _ => Answer::status(404),
    });
    let entries = |path: &str| {
        let one = |path| format!(r#"{{"source": "{}", "destination": "/x"}}"#, web.url(path));
        format!("[{}, {}]", one("/there"), one(path))
    };
    let args = ["-i", "base.iso", "-p", "qcow2", "-m", "ltm", "-b", "1", "--update-image-files"];
    let run = |path: &str| sandbox.run(&[&args[..], &[&entries(path)]].concat());
    run("/absent").failed(4, &["UPDATE_IMAGE_FILES, entry 2", "/absent`", "answers 404"]);
    // The kernel of the ISO does not start: everything before it succeeded.
    run("/there").failed(5, &["qemu"]);
    let left = sandbox.files();
    assert!(!left.iter().any(|name| name.contains("injected") || name.contains("tmp")), "{left:?}");
    assert_eq!(web.requests().len(), 4);
}

#[test]
fn too_little_space_is_reported_before_anything_is_done() {
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path().join("images")).unwrap();
    TinyIso::base().write(&sandbox.path().join("base.iso"));
    let args = ["-i", "base.iso", "-p", "qcow2", "-m", "ltm", "-b", "1"];
    let much = ["--min-free-disk-storage-mb", "18446744073709551615"];
    let texts = [
        "too little free space",
        "artifacts/base/qcow2/ltm_1slot` ",
        "images` ",
        "ARTIFACTS_DIR or IMAGE_DIR",
    ];
    sandbox.run(&[&args[..], &much].concat()).failed(5, &texts);
    let run = sandbox.run(&[&["plan"], &args[..], &much].concat());
    run.failed(5, &texts);
    let run = sandbox.run(&[&["plan"], &args[..]].concat());
    run.succeeded();
    // Three small items and 2 GiB.
    assert!(run.stdout.contains("\nwrites    about 2.00 GiB in "), "{}", run.stdout);
    assert!(!sandbox.path().join("artifacts").exists());
}

#[test]
fn leftover_downloads_are_listed_and_removed_by_gc() {
    let disk = image();
    let web = Web::start(move |request| Answer::file(request, &disk));
    let sandbox = Sandbox::new();
    build(&sandbox, &web.url("/d.raw"), &[]).succeeded();
    let run = sandbox.run(&["gc"]);
    assert!(run.stdout.contains("/d.raw"), "{}", run.stdout);
    assert!(downloaded(&sandbox, "d.raw").is_some(), "only said");
    sandbox.run(&["gc", "--yes"]).succeeded();
    assert!(!sandbox.path().join("artifacts/downloads").exists());
}

#[test]
fn a_download_that_was_retried_in_vain_states_what_was_tried() {
    let web = Web::start(|_| Answer::status(503));
    let url = web.url("/d.raw");
    for (retries, tried) in [("0", None), ("2", Some(3))] {
        let sandbox = Sandbox::new();
        let args = ["--disk", &url, "-p", "qcow2", "--download-retries", retries];
        let run = sandbox.run(&args);
        run.failed(7, &["the server answers 503", "use a mirror"]);
        assert_eq!(run.stderr.contains("without success"), tried.is_some(), "{}", run.stderr);
        if let Some(tried) = tried {
            run.failed(7, &[&format!("hint: tried {tried} times within ")]);
            assert_eq!(run.member("error")["exhausted"]["attempts"], tried);
        }
    }
}

#[test]
fn proxies_are_used_as_the_environment_says() {
    let disk = image();
    let proxy = Web::start(move |request| Answer::file(request, &disk));
    let sandbox = Sandbox::new();
    let args = ["--disk", "http://files.invalid/d.raw", "-p", "qcow2", "--download-retries", "0"];
    let run = |name: &str, except: &str| {
        let mut command = sandbox.command(&args);
        let output = command.env(name, proxy.url("")).env("NO_PROXY", except).output().unwrap();
        Run::of(&output, None)
    };
    run("http_proxy", "").succeeded();
    assert_eq!(proxy.requests()[0].path, "http://files.invalid/d.raw");
    run("http_proxy", "files.invalid").failed(7, &["no connection"]);
    run("https_proxy", "").failed(7, &["no connection"]);
}

/// A CA and a certificate of it for 127.0.0.1, created by openssl: `ca.pem`, `cert.pem`, `key.pem`.
fn certificates(sandbox: &Sandbox) {
    sandbox.write("ext", "subjectAltName=IP:127.0.0.1\n");
    for args in [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
        "req -newkey rsa:2048 -nodes -keyout key.pem -out request -subj /CN=server",
        "x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem",
    ] {
        let output = Command::new("openssl")
            .args(args.split(' '))
            .current_dir(sandbox.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn certificates_are_checked_unless_that_is_switched_off() {
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::new();
    certificates(&sandbox);
    let disk = image();
    let file = |name: &str| sandbox.path().join(name);
    let web = Web::start_tls(&file("cert.pem"), &file("key.pem"), move |request| {
        match request.path.as_str() {
            "/down" => Answer::redirect("http://127.0.0.1:1/x"),
            _ => Answer::file(request, &disk),
        }
    });
    let url = web.url("/d.raw");
    let run = |url: &str, authority: Option<&str>, more: &[&str]| {
        let args = ["--disk", url, "-p", "qcow2"];
        let mut command = sandbox.command(&[&args, more].concat());
        if let Some(name) = authority {
            command.env("SSL_CERT_FILE", file(name));
        }
        Run::of(&command.output().unwrap(), None)
    };
    run(&url, None, &[]).failed(4, &["no trustworthy TLS connection", "IGNORE_DOWNLOAD_URL_TLS"]);
    run(&url, None, &["--ignore-download-url-tls=no"]).failed(4, &["no trustworthy TLS"]);
    run(&url, Some("ca.pem"), &[]).succeeded();
    let other = url.replace("127.0.0.1", "localhost");
    run(&other, Some("ca.pem"), &[]).failed(4, &["no trustworthy TLS"]);
    let loud = run(&url, None, &["--ignore-download-url-tls"]);
    loud.succeeded();
    assert!(loud.stderr.contains("warning: IGNORE_DOWNLOAD_URL_TLS is on"), "{}", loud.stderr);
    run(&web.url("/down"), Some("ca.pem"), &[]).failed(4, &["from https to http"]);
}

#[test]
fn isos_by_url_get_the_names_of_what_they_install() {
    if !needs(&["xorriso", "dd", "mkfifo"]) {
        return;
    }
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path().join("images")).unwrap();
    let base = fs::read(TinyIso::base().write(&sandbox.path().join("b"))).unwrap();
    let fix = fs::read(TinyIso::hotfix().write(&sandbox.path().join("f"))).unwrap();
    let other =
        TinyIso::hotfix().with("VERSION.LTM", &TinyIso::version_file("15.0.0", "1", "0.0.1"));
    let other = fs::read(other.write(&sandbox.path().join("o"))).unwrap();
    let web = Web::start(move |request| match request.path.as_str() {
        "/get?file=7" => Answer::file(request, &base),
        "/fix" => Answer::file(request, &fix),
        "/other" => Answer::file(request, &other),
        _ => Answer::file(request, b"<html>"),
    });
    stand_in_qemu(&sandbox);
    let build = |base: &str, fix: &str| {
        let sources = ["-i", &web.url(base), "-e", &web.url(fix)];
        let more = ["-p", "qcow2", "-m", "ltm", "-b", "1", "--qemu", "./qemu"];
        sandbox.run(&[&sources[..], &more, &["--on-failure", "keep"]].concat())
    };
    // The tiny hotfix has no installer; its download remains.
    build("/get?file=7", "/fix").failed(4, &["initrd.img"]);
    let files = sandbox.files();
    let has = |end: &str| files.iter().any(|name| name.ends_with(end));
    assert!(has("/BIGIP-15.0.0-0.0.39.iso") && has("/Hotfix-BIGIP-15.0.0-0.0.44.iso"), "{files:?}");
    assert!(has("artifacts/BIGIP-15.0.0-0.0.39/qcow2/ltm_1slot"), "{files:?}");
    build("/get?file=7", "/other").failed(4, &["for build `0.0.1`", "downloaded from: http://"]);
    build("/page", "/fix").failed(4, &["no ISO 9660 volume", "/page"]);
    let left: Vec<String> =
        sandbox.files().into_iter().filter(|name| name.ends_with(".iso")).collect();
    assert_eq!(left.len(), 2, "what was wrong is not kept: {left:?}");
}

#[test]
fn a_missing_shape_is_reported_before_anything_is_fetched() {
    let web = Web::start(|_| Answer::status(404));
    let sandbox = Sandbox::new();
    let run = sandbox.run(&["-i", &web.url("/x.iso"), "-p", "qcow2"]);
    run.failed(2, &["MODULES is not set"]);
    let args = ["-i", &web.url("/x.iso"), "-p", "qcow2", "-m", "ltm", "-b", "1"];
    let key = sandbox.write("key", "no key").display().to_string();
    let run = sandbox.run(&[&args[..], &["--iso-sig-verification-public-key", &key]].concat());
    run.failed(2, &["ISO_SIG_VERIFICATION_PUBLIC_KEY", "no PEM key"]);
    assert!(web.requests().is_empty());
}

#[test]
fn a_compressed_disk_that_is_served_with_its_coding_is_stored_as_it_is_sent() {
    if !needs(&["gzip"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("given.raw", 4, 1);
    tool(sandbox.path(), &["gzip", "-k", "given.raw"]);
    let packed = fs::read(sandbox.path().join("given.raw.gz")).unwrap();
    let web = Web::start(move |request| {
        let mut answer = Answer::file(request, &packed);
        answer.headers.push(("content-encoding", "gzip".to_owned()));
        answer
    });
    let run = build(&sandbox, &web.url("/d.raw.gz"), &["--package", "none"]);
    run.succeeded();
    let made = PathBuf::from(run.member("file").as_str().unwrap());
    assert!(is_equal(&disk, &(made, "qcow2")));
}
