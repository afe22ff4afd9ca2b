//! Serves HTTP on loopback as a test requires: cuts, stalls, redirects, gives wrong answers. Uses bare sockets,
//! because no library sends broken answers.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// A request: its path with query, its header lines in lower case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// First byte that is requested.
    pub(crate) fn from(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes="));
        let start = range.and_then(|range| range.strip_suffix('-'));
        start.map_or(0, |start| start.parse().unwrap())
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes of the body after which the connection is cut.
    pub(crate) cut: Option<usize>,
    /// Bytes of the body after which nothing more is sent, while the connection stays.
    pub(crate) stall: Option<usize>,
}

impl Answer {
    /// A file whose download can be resumed; the requested range of it.
    pub(crate) fn file(request: &Request, body: &[u8]) -> Self {
        let tag = format!(
            "\"{:x}-{}\"",
            body.len(),
            body.iter().map(|byte| u64::from(*byte)).sum::<u64>()
        );
        let length = body.len();
        if request.header("if-none-match") == Some(&tag) {
            return Self { status: 304, headers: vec![("etag", tag)], ..Self::default() };
        }
        let same = request.header("if-range").is_none_or(|wanted| wanted == tag);
        let from = request.from();
        let mut headers = vec![("etag", tag), ("accept-ranges", "bytes".to_owned())];
        if from == 0 || !same {
            return Self { status: 200, headers, body: body.to_vec(), ..Self::default() };
        }
        headers.push(("content-range", format!("bytes {from}-{}/{length}", length - 1)));
        Self { status: 206, headers, body: body[from..].to_vec(), ..Self::default() }
    }

    /// The same answer in one chunk, without a declared length.
    pub(crate) fn chunked(mut self) -> Self {
        self.headers.push(("transfer-encoding", "chunked".to_owned()));
        let head = format!("{:x}\r\n", self.body.len());
        self.cut = self.cut.map(|cut| cut + head.len());
        self.body = [head.as_bytes(), &self.body, b"\r\n0\r\n\r\n"].concat();
        self
    }

    /// A status without a body.
    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// A redirect to another URL.
    pub(crate) fn redirect(location: &str) -> Self {
        let headers = vec![("location", location.to_owned())];
        Self { status: 302, headers, ..Self::default() }
    }
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// A server that runs until it is dropped.
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    requests: Arc<Mutex<Vec<Request>>>,
    over: Arc<AtomicBool>,
}

impl Web {
    /// Serves plain HTTP.
    pub(crate) fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::run(None, Arc::new(handler))
    }

    /// Serves HTTPS with a certificate and its key, PEM files.
    pub(crate) fn start_tls(
        certificate: &Path,
        key: &Path,
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Self::run(Some(Arc::new(config)), Arc::new(handler))
    }

    fn run(tls: Option<Arc<ServerConfig>>, handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let requests = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let (log, ended) = (Arc::clone(&requests), Arc::clone(&over));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let (handler, log, tls) = (Arc::clone(&handler), Arc::clone(&log), tls.clone());
                let ended = Arc::clone(&ended);
                std::thread::spawn(move || match tls {
                    None => serve(stream, &*handler, &log, &ended),
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        serve(StreamOwned::new(connection, stream), &*handler, &log, &ended);
                    }
                });
            }
        });
        Self { address, scheme, requests, over }
    }

    /// URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Handles one request with one answer, then ends the connection. Its errors are intended by the test or caused by
/// the client.
fn serve(
    mut stream: impl Read + Write,
    handler: &Handler,
    log: &Mutex<Vec<Request>>,
    over: &AtomicBool,
) {
    let Some(request) = read(&mut stream) else { return };
    log.lock().unwrap().push(request.clone());
    let answer = handler(&request);
    let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let framed =
        |(name, _): &(&str, String)| ["content-length", "transfer-encoding"].contains(name);
    if !answer.headers.iter().any(framed) && answer.status != 304 {
        head.push_str(&format!("content-length: {}\r\n", answer.body.len()));
    }
    let end = answer.cut.or(answer.stall).unwrap_or(answer.body.len()).min(answer.body.len());
    let sent = stream
        .write_all(format!("{head}\r\n").as_bytes())
        .and_then(|()| stream.write_all(&answer.body[..end]))
        .and_then(|()| stream.flush());
    while sent.is_ok() && answer.stall.is_some() && !over.load(Ordering::Relaxed) {
        // Waits until the client gives up and closes its end of the connection.
        if stream.write_all(b"").is_err() || matches!(stream.read(&mut [0]), Ok(0) | Err(_)) {
            break;
        }
    }
    let _ = stream.flush();
}

fn read(stream: &mut impl Read) -> Option<Request> {
    let mut lines = BufReader::with_capacity(1, stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let lines = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    });
    Some(Request { path, headers: headers.collect() })
}

/// Time limit for an event that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
