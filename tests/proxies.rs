//! Checks which requests are sent through a proxy, against curl: NO_PROXY of downloads, and of a provider.

use std::process::Command;

use crate::harness::{Answer, Sandbox, Web, needs};

/// Variables and the host of a URL. No request leaves this machine: names do not exist, addresses are of loopback.
const CASES: [(&[(&str, &str)], &str); 35] = [
    (&[], "files.invalid"),
    (&[("no_proxy", "*")], "files.invalid"),
    (&[("no_proxy", "*")], "127.9.8.7"),
    (&[("no_proxy", "*")], "[::1]"),
    (&[("NO_PROXY", "*")], "127.9.8.7"),
    (&[("no_proxy", " *")], "files.invalid"),
    (&[("no_proxy", "*,x")], "files.invalid"),
    (&[("no_proxy", "*.invalid")], "files.invalid"),
    (&[("no_proxy", "invalid")], "files.invalid"),
    (&[("no_proxy", ".invalid")], "files.invalid"),
    (&[("no_proxy", "les.invalid")], "files.invalid"),
    (&[("no_proxy", "FILES.Invalid")], "files.invalid"),
    (&[("no_proxy", "files.invalid.")], "files.invalid"),
    (&[("no_proxy", "files.invalid")], "files.invalid."),
    (&[("no_proxy", "files.invalid:9")], "files.invalid"),
    (&[("no_proxy", "a,,files.invalid")], "files.invalid"),
    (&[("no_proxy", "a , files.invalid ")], "files.invalid"),
    (&[("no_proxy", "a\tfiles.invalid")], "files.invalid"),
    (&[("no_proxy", "a;files.invalid")], "files.invalid"),
    (&[("no_proxy", "127.9.8.7")], "127.9.8.7"),
    (&[("no_proxy", "127.9.8.7:9")], "127.9.8.7"),
    (&[("no_proxy", "9.8.7")], "127.9.8.7"),
    (&[("no_proxy", "127.0.0.0/8")], "127.9.8.7"),
    (&[("no_proxy", "127.128.0.0/9")], "127.9.8.7"),
    (&[("no_proxy", "127.9.8.6/31")], "127.9.8.7"),
    (&[("no_proxy", "127.9.8.6/32")], "127.9.8.7"),
    (&[("no_proxy", "127.9.8.7/33")], "127.9.8.7"),
    (&[("no_proxy", "0.0.0.0/0")], "127.9.8.7"),
    (&[("no_proxy", "::1")], "[::1]"),
    (&[("no_proxy", "[::1]")], "[::1]"),
    (&[("no_proxy", "localhost")], "127.0.0.1"),
    (&[("NO_PROXY", "files.invalid")], "files.invalid"),
    (&[("no_proxy", ""), ("NO_PROXY", "files.invalid")], "files.invalid"),
    (&[("no_proxy", "x"), ("NO_PROXY", "files.invalid")], "files.invalid"),
    (&[("No_Proxy", "files.invalid")], "files.invalid"),
];

/// Whether the proxy receives a request of a command.
fn is_proxied(proxy: &Web, command: &mut Command, variables: &[(&str, &str)]) -> bool {
    let before = proxy.requests().len();
    command.env("http_proxy", proxy.url("")).envs(variables.iter().copied());
    command.output().unwrap();
    proxy.requests().len() > before
}

#[test]
fn downloads_are_sent_through_the_proxy_whenever_curl_sends_them_there() {
    if !needs(&["curl"]) {
        return;
    }
    let proxy = Web::start(|_| Answer::status(404));
    let sandbox = Sandbox::new();
    let mut proxied = 0;
    for (variables, host) in CASES {
        // Nothing listens on the discard port.
        let url = format!("http://{host}:9/d.raw");
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "20", &url]).env_clear();
        curl.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let args = ["--disk", &url, "-p", "qcow2", "--download-retries", "0"];
        let expected = is_proxied(&proxy, &mut curl, variables);
        let found = is_proxied(&proxy, &mut sandbox.command(&args), variables);
        assert_eq!(found, expected, "{variables:?} {host}: curl is right");
        proxied += u32::from(found);
    }
    assert!(proxied > 10 && proxied < 25, "both happen: {proxied}");
}

#[test]
fn requests_of_providers_follow_the_same_rules() {
    let proxy = Web::start(|_| Answer::status(404));
    let sandbox = Sandbox::with_plain_cloud();
    sandbox.disk("disk.raw", 4, 1);
    let oss = ("ALIBABA_OSS_ENDPOINT", "http://stack.invalid");
    sandbox.write("config.yml", &sandbox.config(&[oss]));
    let args = ["plan", "--check", "--disk", "disk.raw", "-p", "alibaba", "-c", "config.yml"];
    for (variables, expected) in [
        (&[][..], true),
        (&[("NO_PROXY", "*")], false),
        (&[("NO_PROXY", "x,*")], true),
        (&[("no_proxy", ".invalid")], false),
        (&[("no_proxy", "x"), ("NO_PROXY", "invalid")], true),
    ] {
        let found = is_proxied(&proxy, &mut sandbox.command(&args), variables);
        assert_eq!(found, expected, "{variables:?}");
    }
}

/// Nothing is sent to anyone: a build that needs no network sends no request, whatever proxies there are.
#[test]
fn a_local_build_sends_no_request() {
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 4, 1);
    let web = Web::start(|_| Answer::status(200));
    for args in [
        &["--disk", "disk.raw", "-p", "qcow2"][..],
        &["plan", "--check", "--disk", "disk.raw", "-p", "vhd"],
    ] {
        let mut command = sandbox.command(args);
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env(name, web.url(""));
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let paths: Vec<String> = web.requests().into_iter().map(|request| request.path).collect();
    assert!(paths.is_empty(), "{paths:?}");
}
