use std::io::{Read as _, Write as _};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::retry::{LONGEST_REQUESTED, RetryAction};

const HINTS: Hints =
    Hints { unreachable: "UNREACHABLE", untrusted: "UNTRUSTED", foreign: "FOREIGN" };

fn client() -> Client {
    Client::builder("test/1", HINTS).without_tls().build().unwrap()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Serves one connection; returns its address and the request's head.
fn server(
    answer: impl FnOnce(&mut std::net::TcpStream) + Send + 'static,
) -> (String, std::thread::JoinHandle<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        answer(&mut stream);
        String::from_utf8(head).unwrap()
    });
    (url, thread)
}

fn get(url: &str) -> Outgoing {
    Outgoing::new(Method::GET, url)
}

#[test]
fn a_request_arrives_with_its_headers_and_a_refusal_is_an_answer() {
    let (url, thread) = server(|stream| {
        stream
            .write_all(b"HTTP/1.1 503 X\r\nretry-after: 7\r\ncontent-length: 9\r\n\r\n{\"a\": 1}\n")
            .unwrap();
    });
    let answer =
        run(client().send(get(&url).header("x-auth-token", "secret"), "cannot x")).unwrap();
    assert_eq!((answer.status, answer.is_success()), (503, false));
    assert_eq!(answer.retry_after(), Some(Duration::from_secs(7)));
    assert_eq!(answer.json().unwrap()["a"], 1);
    assert!(thread.join().unwrap().contains("x-auth-token: secret\r\n"));
}

#[test]
fn a_pause_that_a_server_requests_has_a_bound() {
    for (text, pause) in [
        ("7", Some(Duration::from_secs(7))),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("864000000", Some(LONGEST_REQUESTED)),
        ("18446744073709551615", Some(LONGEST_REQUESTED)),
    ] {
        let headers = [(HeaderName::from_static("retry-after"), HeaderValue::from_static(text))];
        let answer = Answer::new(503, headers.into_iter().collect(), "");
        assert_eq!(answer.retry_after(), pause, "{text}");
    }
}

#[test]
fn an_answer_without_an_end_is_given_up() {
    let (url, thread) = server(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while stream.write_all(&[b'x'; 64 << 10]).is_ok() {}
    });
    let failure = run(client().send(get(&url), "cannot x")).unwrap_err();
    assert!(
        failure.error.message.starts_with("cannot x: the answer of `127.0.0.1:"),
        "{failure:?}"
    );
    assert_eq!(
        (failure.action, failure.error.hint.as_deref()),
        (RetryAction::GiveUp, Some("FOREIGN"))
    );
    thread.join().unwrap();
}

#[test]
fn broken_connections_and_silence_may_pass() {
    let (url, thread) = server(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").unwrap();
    });
    let cut = run(client().send(get(&url), "cannot x")).unwrap_err();
    thread.join().unwrap();
    let gone = run(client().send(get(&url), "cannot x")).unwrap_err();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (url, thread) = server(move |_| {
        let _ = held.recv();
    });
    let silent = run(client().call(get(&url), Duration::from_millis(50), "cannot x")).unwrap_err();
    drop(release);
    thread.join().unwrap();
    for (failure, text) in [
        (cut, "the connection broke to `127"),
        (gone, "no connection to `127"),
        (silent, "nothing happened for 1 s"),
    ] {
        assert!(failure.error.message.starts_with(&format!("cannot x: {text}")), "{failure:?}");
        assert_eq!(failure.action, RetryAction::Backoff, "{failure:?}");
        assert_eq!(failure.error.hint.as_deref(), Some("UNREACHABLE"));
    }
}

#[test]
fn a_transfer_stalls_when_nothing_moves_while_the_network_is_waited_for() {
    let limit = Duration::from_millis(4);
    let states = [Some((0, limit)), None, Some((1, limit)), Some((2, limit))];
    let mut seen = states.iter();
    let mut last = states[0];
    let found = run(stalled(|| {
        last = seen.next().copied().unwrap_or(last);
        last
    }));
    assert_eq!((found, seen.next()), (limit, None));
}

#[test]
fn only_connections_to_other_machines_are_exposed() {
    for (url, exposed) in [
        ("http://10.0.0.1:5000/v3", true),
        ("https://10.0.0.1:5000", false),
        ("http://127.0.0.1:5000", false),
        ("http://localhost/x", false),
        ("http://[::1]:1/", false),
    ] {
        assert_eq!(is_exposed(url), exposed, "{url}");
    }
}

#[test]
fn a_file_without_ca_certificates_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (path, text) in [
        (empty.to_str().unwrap(), "has no CA certificate"),
        ("/nonexistent/ca.pem", "cannot be read"),
    ] {
        let error = Client::builder("test/1", HINTS).ca_file(path).err().unwrap();
        assert!(error.message.contains(text) && error.message.contains(path), "{error}");
        assert_eq!(error.hint.as_deref(), Some("UNTRUSTED"));
    }
}

#[test]
fn a_status_means_what_http_says() {
    use RetryAction::{Backoff, GiveUp};
    for (status, kind, action) in [
        (401, ErrorKind::Auth, GiveUp),
        (404, ErrorKind::NotFound, GiveUp),
        (409, ErrorKind::Conflict, GiveUp),
        (418, ErrorKind::Provider, GiveUp),
        (429, ErrorKind::Throttled, Backoff),
        (503, ErrorKind::Provider, Backoff),
    ] {
        let headers = [(HeaderName::from_static("retry-after"), HeaderValue::from_static("7"))];
        let answer = Answer::new(status, headers.into_iter().collect(), Bytes::new());
        let failure = answer.by_status("cannot list");
        assert_eq!((failure.error.kind, failure.action), (kind, action), "{status}");
        assert_eq!(failure.error.retryable, action == Backoff, "{status}");
        assert_eq!(failure.error.message, format!("cannot list: status {status}"));
        assert_eq!((failure.status, failure.pause), (Some(status), Some(Duration::from_secs(7))));
    }
}

#[test]
fn a_document_that_ends_in_the_middle_is_asked_for_again() {
    let answer = |body: &'static str| Answer::new(200, HeaderMap::new(), body);
    assert_eq!(answer("[1]").parsed::<Vec<u8>>("cannot list").unwrap(), [1]);
    let failure = answer("[1").parsed::<Vec<u8>>("cannot list").unwrap_err();
    assert_eq!((failure.error.kind, failure.action), (ErrorKind::Network, RetryAction::Backoff));
}

#[test]
fn bodies_are_bytes_and_texts() {
    let bytes = |body: Body| match body {
        Body::Bytes(bytes) => bytes,
        _ => panic!("it is in memory"),
    };
    let all =
        [Body::from(b"x".to_vec()), "x".into(), "x".to_owned().into(), Bytes::from("x").into()];
    assert!(all.into_iter().all(|body| bytes(body) == "x"));
}

#[test]
fn a_stream_arrives_whole_and_an_error_in_it_breaks_the_connection() {
    let blocks = |last: std::io::Result<Bytes>| {
        futures_util::stream::iter([Ok(Bytes::from("first,")), last])
    };
    for (length, header, body) in [
        (Some(10), "content-length: 10\r\n", "first,last"),
        (None, "transfer-encoding: chunked\r\n", "6\r\nfirst,\r\n4\r\nlast\r\n0\r\n\r\n"),
    ] {
        for is_whole in [true, false] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let thread = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut received, mut block) = (Vec::new(), [0; 256]);
                while !received.ends_with(body.as_bytes()) {
                    match stream.read(&mut block).unwrap_or(0) {
                        0 => return String::from_utf8(received).unwrap(),
                        count => received.extend_from_slice(&block[..count]),
                    }
                }
                stream.write_all(b"HTTP/1.1 201 X\r\ncontent-length: 0\r\n\r\n").unwrap();
                String::from_utf8(received).unwrap()
            });
            let last = if is_whole { Ok("last".into()) } else { Err(std::io::Error::other("x")) };
            let request = Outgoing::put(&url).body(Body::stream(blocks(last), length));
            let sent = run(client().send(request, "cannot x"));
            assert_eq!(sent.is_ok(), is_whole, "{sent:?}");
            let received = thread.join().unwrap();
            // How much of a broken body is on its way is not determined.
            assert_eq!(received.ends_with(body), is_whole, "{received}");
            assert!(!is_whole || received.contains(header), "{received}");
        }
    }
}
