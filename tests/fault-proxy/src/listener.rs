//! Accepts connections, ends them as faults demand, and refuses new ones for a time.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use build_image_loopback_tls::Authority;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::exchange::{Slot, exchange};
use crate::log::{Entry, Log};
use crate::rules::{RuleError, Rules};
use crate::upstream::Upstream;
use crate::{Options, StartError};

/// Maximum number of concurrent connections; more wait.
const CONNECTIONS: usize = 512;
/// Time limit for the client's part of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Time limit for open requests at a shutdown.
const GRACE: Duration = Duration::from_secs(1);

/// How long connections are refused, and a signal that refusing has begun.
type Refusal = (Duration, oneshot::Sender<()>);

/// State shared by all connections.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) upstream: Upstream,
    pub(crate) rules: Rules,
    pub(crate) log: Arc<Log>,
    pub(crate) seed: u64,
    refusals: mpsc::UnboundedSender<Refusal>,
}

impl Shared {
    /// Refuses new connections for a time; returns when the first one would be refused.
    pub(crate) async fn refuse(&self, time: Duration) {
        let (begun, refusing) = oneshot::channel();
        // A listener that has ended refuses connections anyway.
        let _ = self.refusals.send((time, begun));
        let _ = refusing.await;
    }
}

/// A running proxy. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    plain: bool,
    ca_file: Option<PathBuf>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    runtime: Option<Runtime>,
    _temporary: Option<TempDir>,
}

impl Running {
    /// The address on which it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a URL without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.plain { "http" } else { "https" }, self.address)
    }

    /// The file with the CA certificate that clients have to trust; `None` for plain HTTP.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// Replaces the rules with those in a JSON text; counters start at zero.
    ///
    /// # Errors
    /// Names the invalid rule; the current rules stay in force.
    pub fn set_rules(&self, text: &str) -> Result<(), RuleError> {
        self.shared.rules.set(text, self.shared.seed)
    }

    /// The rules in force, each with the number of requests that it selected and struck.
    #[must_use]
    pub fn rules(&self) -> Value {
        self.shared.rules.show()
    }

    /// The requests that are over, in the order in which they ended; the last 10,000.
    #[must_use]
    pub fn requests(&self) -> Vec<Entry> {
        self.shared.log.entries()
    }

    /// Waits until this many requests are over, up to a time limit; returns whether they are.
    #[must_use]
    pub fn wait_for_requests(&self, count: u64, most: Duration) -> bool {
        self.shared.log.wait(count, most)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not be waited for from inside another one, hence the thread.
            let _ = std::thread::spawn(move || runtime.shutdown_timeout(GRACE)).join();
        }
    }
}

/// Starts the proxy; it serves until the result is dropped.
///
/// # Errors
/// When the address, the server, the rules, or a file cannot be used.
pub fn start(options: &Options) -> Result<Running, StartError> {
    if !options.listen.ip().is_loopback() {
        return Err(StartError::NotLoopback(options.listen));
    }
    let upstream = Upstream::parse(&options.upstream, options.upstream_ca.as_deref())?;
    let rules = Rules::default();
    rules.set(options.rules.as_deref().unwrap_or("[]"), options.seed)?;
    let log = options.log.as_deref().map(open_log).transpose()?;
    let (acceptor, ca_file, temporary) = prepare_tls(options)?;
    let runtime = Builder::new_multi_thread()
        .thread_name("fault-proxy")
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let guard = runtime.enter();
    let listen_error = |source| StartError::Listen { address: options.listen, source };
    let reserved = reserve(options.listen).map_err(listen_error)?;
    let address = reserved.local_addr().map_err(listen_error)?;
    let listener = listen(address).map_err(listen_error)?;
    drop(guard);
    let (refusals, refused) = mpsc::unbounded_channel();
    let log = Arc::new(Log::new(log));
    let shared = Arc::new(Shared { upstream, rules, log, seed: options.seed, refusals });
    let (stop, stopped) = watch::channel(false);
    let server = Listener { shared: Arc::clone(&shared), acceptor, reserved, address };
    runtime.spawn(server.accept(listener, refused, stopped));
    Ok(Running {
        address,
        plain: options.plain,
        ca_file,
        shared,
        stop,
        runtime: Some(runtime),
        _temporary: temporary,
    })
}

fn open_log(path: &Path) -> Result<File, StartError> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|source| StartError::File { path: path.to_owned(), source })
}

type PreparedTls = (Option<TlsAcceptor>, Option<PathBuf>, Option<TempDir>);

fn prepare_tls(options: &Options) -> Result<PreparedTls, StartError> {
    if options.plain {
        return Ok((None, None, None));
    }
    let authority = match &options.ca_directory {
        Some(directory) => Authority::open(directory)?,
        None => Authority::create()?,
    };
    let mut temporary = None;
    let file = match (&options.ca_file, &options.ca_directory) {
        (Some(file), _) => file.clone(),
        (None, Some(directory)) => directory.join("ca.pem"),
        (None, None) => {
            let made = tempfile::Builder::new().prefix("fault-proxy-").tempdir();
            temporary.insert(made.map_err(StartError::Temporary)?).path().join("ca.pem")
        }
    };
    // Clients run in other directories, so the path must be absolute.
    let file = std::path::absolute(&file).unwrap_or(file);
    authority.write_certificate(&file)?;
    let server = authority.server_config(&options.tls_names, &[options.listen.ip()])?;
    Ok((Some(TlsAcceptor::from(server)), Some(file), temporary))
}

/// A socket that reserves the port while nothing listens on it.
fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    reserve(address)?.listen(1024)
}

/// Accepts connections.
struct Listener {
    shared: Arc<Shared>,
    acceptor: Option<TlsAcceptor>,
    /// Never listens.
    reserved: TcpSocket,
    address: SocketAddr,
}

impl Listener {
    async fn accept(
        self,
        listener: TcpListener,
        mut refused: mpsc::UnboundedReceiver<Refusal>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut listener = Some(listener);
        let mut closed_until = Instant::now();
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = async {
                let permit = Arc::clone(&free).acquire_owned().await;
                match &listener {
                    Some(listener) => (listener.accept().await, permit),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => break,
                Some((time, begun)) = refused.recv() => {
                    listener = None;
                    let _ = begun.send(());
                    closed_until = closed_until.max(Instant::now() + time);
                }
                () = tokio::time::sleep_until(closed_until), if listener.is_none() => {
                    // The port is reserved, so this succeeds; if it fails, connections are refused a little
                    // longer.
                    listener = listen(self.address).ok();
                    closed_until = Instant::now() + Duration::from_millis(100);
                }
                (accepted, permit) = accepted => if let (Ok((stream, _)), Ok(permit)) = (accepted, permit) {
                    let (shared, acceptor) = (Arc::clone(&self.shared), self.acceptor.clone());
                    connections.spawn(async move {
                        connection(shared, acceptor, stream).await;
                        drop(permit);
                    });
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(self.reserved);
    }
}

async fn connection(shared: Arc<Shared>, acceptor: Option<TlsAcceptor>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let Ok(lever) = stream.as_fd().try_clone_to_owned() else { return };
    let Some(acceptor) = acceptor else { return serve(&shared, stream, &lever).await };
    let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
    if let Ok(Ok(stream)) = shaken {
        serve(&shared, stream, &lever).await;
    }
}

async fn serve(shared: &Shared, stream: impl AsyncRead + AsyncWrite + Unpin, lever: &OwnedFd) {
    let slot = Slot::default();
    let handler = service_fn(|request: Request<Incoming>| {
        let slot = &slot;
        async move {
            let answered = exchange(shared, slot, request).await;
            if answered.is_err() {
                // The close that follows sends a reset (RST) instead of an orderly end.
                let _ = rustix::net::sockopt::set_socket_linger(lever, Some(Duration::ZERO));
            }
            answered
        }
    });
    // Broken connections are not reported here; the client sees them.
    let _ = http1::Builder::new()
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(stream), handler)
        .await;
}
