//! Tests HTTPS, with reqwest as the client.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use build_image_emulator_alibaba::{Config, Running, StartError, StateDir, Tls, TlsError, start};

/// Whether a GET with a host name is answered; the error includes its causes.
fn answers(running: &Running, host: &str, ca: &str) -> Result<(), String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let message = |error: reqwest::Error| build_image_emulator_alibaba::chain(&error);
    let name = host.trim_matches(['[', ']']);
    let client = reqwest::Client::builder()
        .no_proxy()
        .resolve(name, running.address())
        .tls_certs_only([reqwest::Certificate::from_pem(ca.as_bytes()).unwrap()])
        .build()
        .unwrap();
    let url = format!("https://{host}:{}/_emulator/status", running.address().port());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let answer = client.get(url).send().await.map_err(message)?;
        answer.bytes().await.map_err(message)?;
        Ok(())
    })
}

fn secure(state: StateDir, listen: &str, tls: Tls) -> Result<Running, StartError> {
    let listen = listen.parse().unwrap();
    let buckets = vec![build_image_emulator_alibaba::BucketSeed::parse("demo").unwrap()];
    start(Config { state, listen, buckets, tls: Some(tls), ..Config::default() })
}

fn ca(running: &Running) -> String {
    std::fs::read_to_string(running.ca_file().unwrap()).unwrap()
}

#[test]
fn https_has_certificates_for_the_names_clients_use_and_no_others() {
    let tls = Tls { names: vec!["aliyuncs.com".to_owned()], ..Tls::default() };
    let running = secure(StateDir::Temporary, "127.0.0.1:0", tls).unwrap();
    assert_eq!(running.url(), format!("https://{}", running.address()));
    for host in [
        "127.0.0.1",
        "localhost",
        "demo.localhost",
        "demo.oss-cn-hangzhou.aliyuncs.com",
        "aliyuncs.com",
    ] {
        assert_eq!(answers(&running, host, &ca(&running)), Ok(()), "{host}");
    }
    for host in ["example.com", "notaliyuncs.com", "localhost.example.com"] {
        let message = answers(&running, host, &ca(&running)).unwrap_err();
        assert!(message.contains("not valid for name"), "{host}: {message}");
    }
    let other = secure(StateDir::Temporary, "127.0.0.1:0", Tls::default()).unwrap();
    let message = answers(&running, "localhost", &ca(&other)).unwrap_err();
    assert!(message.contains("UnknownIssuer"), "{message}");
    if let Ok(six) = secure(StateDir::Temporary, "[::1]:0", Tls::default()) {
        assert_eq!(answers(&six, "[::1]", &ca(&six)), Ok(()));
    }
}

#[test]
fn a_state_directory_keeps_its_ca_and_the_key_is_not_in_the_file_for_clients() {
    let directory = tempfile::tempdir().unwrap();
    let kept = || StateDir::Kept(directory.path().join("state"));
    let elsewhere = directory.path().join("for clients.pem");
    let first = secure(kept(), "127.0.0.1:0", Tls::default()).unwrap();
    assert_eq!(first.ca_file(), Some(&*directory.path().join("state/ca.pem")));
    let trusted = ca(&first);
    assert!(!trusted.contains("PRIVATE KEY"), "{trusted}");
    drop(first);
    let tls = Tls { ca_file: Some(elsewhere.clone()), ..Tls::default() };
    let second = secure(kept(), "127.0.0.1:0", tls).unwrap();
    assert_eq!(second.ca_file(), Some(&*elsewhere));
    assert_eq!(ca(&second), trusted);
    assert_eq!(answers(&second, "localhost", &trusted), Ok(()));
}

#[test]
fn a_file_that_holds_something_else_is_not_replaced_by_the_ca() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.pem");
    std::fs::write(&file, "something else\n").unwrap();
    let start_error = |file: &Path| {
        let tls = Tls { ca_file: Some(file.to_owned()), ..Tls::default() };
        secure(StateDir::Temporary, "127.0.0.1:0", tls).unwrap_err()
    };
    assert!(matches!(start_error(&file), StartError::Tls(TlsError::Foreign(_))));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "something else\n");
    let nowhere = directory.path().join("missing/ca.pem");
    assert!(matches!(start_error(&nowhere), StartError::Tls(TlsError::File { .. })));
}

#[test]
fn a_reset_is_a_reset_in_tls_too_and_plain_http_gets_no_answer() {
    let running = secure(StateDir::Temporary, "127.0.0.1:0", Tls::default()).unwrap();
    // Requests without a signature count as this operation.
    let rule = r#"[{"operation":"ListBuckets","nth":1,"action":"reset_before"}]"#;
    running.set_faults(rule).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let trusted = reqwest::Certificate::from_pem(ca(&running).as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([trusted]).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let get = || runtime.block_on(client.get(running.url()).send());
    let message = build_image_emulator_alibaba::chain(&get().unwrap_err());
    assert!(message.contains("reset"), "{message}");
    assert_eq!(get().unwrap().status(), 403);
    let mut plain = TcpStream::connect(running.address()).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}
