//! Runs builds on hosts with few resources and on networks with wrong answers: a build succeeds all the same, or
//! fails with one clear error and a hint, and leaves nothing.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener},
    process::{Command, Stdio},
    thread,
};

use build_image_emulator_alibaba::Config;

use crate::harness::{Answer, Run, Sandbox, Web, needs, tool};

/// The arguments of a build that ends in the cloud.
const BUILD: [&str; 6] = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];

/// Runs a build in a shell that first limits itself.
fn after(sandbox: &Sandbox, preparation: &str) -> Run {
    let plain = sandbox.command(&BUILD);
    let mut command = Command::new("bash");
    command
        .args(["-c", &format!("{preparation} && exec \"$0\" \"$@\"")])
        .arg(plain.get_program())
        .args(plain.get_args())
        .current_dir(sandbox.path())
        .env_clear()
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null());
    Run::of(&command.output().unwrap(), None)
}

#[test]
fn a_build_needs_little_of_its_host() {
    for (what, preparation) in [
        ("64 file descriptors", "ulimit -n 64"),
        ("256 MiB of memory", "ulimit -d 262144"),
        ("no folder for temporary files", "export TMPDIR=/nonexistent/tmp"),
        ("no home", "unset HOME"),
        ("no terminal, no standard streams to read from", "exec <&-"),
        ("files for nobody else", "umask 077"),
    ] {
        let sandbox = Sandbox::with_cloud();
        sandbox.disk("disk.raw", 256, 130);
        let run = after(&sandbox, preparation);
        assert_eq!(run.code, 0, "{what}: {}", run.stderr);
        sandbox.cloud_has_only(1);
        assert!(!sandbox.path().join("artifacts").exists(), "{what}: {:?}", sandbox.files());
    }
}

#[test]
fn directories_that_cannot_be_written_to_are_named_before_the_long_part() {
    for (key, code) in
        [("ARTIFACTS_DIR", 5), ("IMAGE_DIR", 5), ("LOG_FILE", 2), ("OUTPUT_JSON_FILE", 2)]
    {
        let sandbox = Sandbox::with_cloud();
        sandbox.disk("disk.raw", 4, 1);
        // Not even the superuser can create a directory in a file.
        let path = "disk.raw/folder/x";
        let mut command = sandbox.command(&[&BUILD[..], &["--no-upload"]].concat());
        let output = command.env(format!("F5_{key}"), path).output().unwrap();
        let run = Run::of(&output, None);
        run.failed(code, &["disk.raw/folder", "hint:"]);
        assert!(!run.stderr.contains("preparing the image"), "{key}: {}", run.stderr);
        let left: Vec<String> = sandbox.files();
        assert!(!left.iter().any(|name| name.starts_with("artifacts")), "{key}: {left:?}");
    }
}

/// A server that sends this answer on every connection, whatever the request.
fn garbage(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    address
}

/// Runs a build with these endpoints; it must fail with this code and print these texts.
#[track_caller]
fn fails(endpoint: &str, proxy: Option<&str>, code: i32, texts: &[&str]) {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 1);
    let keys = ["ALIBABA_OSS_ENDPOINT", "ALIBABA_ECS_ENDPOINT", "ALIBABA_STS_ENDPOINT"];
    // STS is not called over plain HTTP.
    let endpoints = if endpoint.starts_with("http://") { &keys[..2] } else { &keys };
    let changes: Vec<_> = endpoints.iter().map(|key| (*key, endpoint)).collect();
    sandbox.write("config.yml", &sandbox.config(&changes));
    let mut command = sandbox.command(&BUILD);
    if let Some(proxy) = proxy {
        command.env("http_proxy", proxy).env("https_proxy", proxy);
    }
    let run = Run::of(&command.output().unwrap(), None);
    run.failed(code, texts);
    sandbox.cloud_has_only(0);
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
}

#[test]
fn networks_with_wrong_answers_are_reported_once_and_leave_nothing() {
    if !needs(&["openssl"]) {
        return;
    }
    for (answer, code) in [
        (&b"no HTTP at all\r\n\r\n"[..], 7),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>log in here</html>", 6),
    ] {
        let proxy = format!("http://{}", garbage(answer));
        fails("http://oss.example.com", Some(&proxy), code, &["hint:"]);
    }
    fails("http://no-such-host.invalid", None, 7, &["no-such-host.invalid", "hint:"]);
    let directory = tempfile::tempdir().unwrap();
    let args = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 \
                 -subj /CN=someone-else -addext subjectAltName=DNS:someone-else";
    tool(directory.path(), &args.split_whitespace().collect::<Vec<&str>>());
    let (certificate, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let web = Web::start_tls(&certificate, &key, |_| Answer::status(200));
    fails(&web.url(""), None, 7, &["certificate", "hint:"]);
}

#[test]
fn an_endpoint_may_have_an_ipv6_address_only() {
    let listen = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    if TcpListener::bind(listen).is_err() {
        eprintln!("SKIPPED: this host has no IPv6 loopback");
        return;
    }
    let sandbox = Sandbox::with_cloud_of(Config { listen, ..Config::default() });
    sandbox.disk("disk.raw", 8, 3);
    sandbox.run(&BUILD).succeeded();
    sandbox.cloud_has_only(1);
}

#[test]
fn a_line_too_slow_for_the_stall_timeout_is_not_taken_for_a_dead_one() {
    let sandbox = Sandbox::with_cloud();
    // The system accepts all of the only part at once; the connection needs three times as long for it as it may
    // stand still.
    sandbox.write("config.yml", &sandbox.config(&[("ALIBABA_UPLOAD_STALL_TIMEOUT", "1")]));
    sandbox.disk("disk.raw", 8, 3);
    let rule = r#"[{"operation":"UploadPart","action":{"bandwidth":1000000}}]"#;
    sandbox.emulator.as_ref().unwrap().set_faults(rule).unwrap();
    sandbox.run(&BUILD).succeeded();
    sandbox.cloud_has_only(1);
}

#[test]
fn ten_builds_at_once_share_a_directory() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 8, 3);
    let start = || sandbox.command(&BUILD).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let children: Vec<_> = (0..10).map(|_| start().unwrap()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    sandbox.cloud_has_only(10);
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
}
