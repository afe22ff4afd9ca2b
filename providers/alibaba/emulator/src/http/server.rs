//! Implements the listener: binds, accepts, passes each request to the service, and shuts down cleanly. It
//! has its own runtime, so that it can be started from a test, a program, or another runtime alike.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use build_image_loopback_tls::TlsError;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::tls::Tls;
use crate::clock;
use crate::config::{Config, StateDir};
use crate::control;
use crate::ecs;
use crate::faults::{FaultError, Faults};
use crate::identity::{metadata, role};
use crate::log::Log;
use crate::service::{Service, respond};
use crate::state::{Bucket, StateError, Store};

/// Large reads result in few, long writes of parts.
const BUFFER: usize = 1 << 20;
/// Time that open requests have to finish at a shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// The reason why the emulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is not loopback, which was not explicitly permitted.
    #[error(
        "`{0}` is not a loopback address and the emulator has no permissions: whoever knows a key \
         pair may do everything; listen on `127.0.0.1`, or pass `--listen-anywhere-insecure`"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The requested address.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// No threads can be started.
    #[error("cannot start threads")]
    Runtime(#[source] io::Error),
    /// No temporary directory can be created.
    #[error("cannot make a temporary directory")]
    Temporary(#[source] io::Error),
    /// The state directory is unusable.
    #[error("the state directory is unusable")]
    State(#[from] StateError),
    /// The fault rules are unusable.
    #[error("the fault rules are unusable")]
    Faults(#[from] FaultError),
    /// The CA or a certificate is missing.
    #[error("TLS cannot be served")]
    Tls(#[from] TlsError),
}

/// A running emulator. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    tls: Option<Tls>,
    service: Arc<Service>,
    stop: watch::Sender<bool>,
    runtime: Option<Runtime>,
    accepting: Option<tokio::task::JoinHandle<()>>,
    temporary: Option<TempDir>,
}

impl Running {
    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a URL without a path: `https://127.0.0.1:PORT`, or `http://…` without TLS.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The address of the web page, which is served to this machine only; `None` if this machine reaches the emulator by
    /// an address that is not loopback.
    #[must_use]
    pub fn page(&self) -> Option<String> {
        let mut address = self.address;
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            ip if !ip.is_loopback() => return None,
            _ => {}
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Some(format!("{scheme}://{address}{}", control::PAGE))
    }

    /// The file with the CA certificate that clients have to trust; `None` without TLS.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.tls.as_ref().map(|tls| tls.ca_file.as_path())
    }

    /// Its state directory.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        self.service.store.root()
    }

    /// Replaces the fault rules with those in a JSON list.
    ///
    /// # Errors
    /// States which rule is wrong; the active rules stay.
    pub fn set_faults(&self, rules: &str) -> Result<(), FaultError> {
        self.service.faults.set(rules)
    }

    /// Waits until a fault has struck, at most for the given time; returns whether one has.
    #[must_use]
    pub fn wait_for_fault(&self, most: Duration) -> bool {
        self.service.faults.wait(most)
    }

    /// The numbers of buckets, objects, open uploads, images, snapshots, and tasks.
    #[must_use]
    pub fn status(&self) -> serde_json::Value {
        self.service.store.world().counts()
    }

    /// Stops accepting, lets open requests end (at most five seconds), then ends.
    pub fn shutdown(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.stop.send(true);
        let (Some(runtime), Some(accepting)) = (self.runtime.take(), self.accepting.take()) else {
            return;
        };
        // Blocking on a runtime inside another one is not possible, hence the thread.
        let ending = std::thread::spawn(move || {
            let _ = runtime.block_on(async { tokio::time::timeout(GRACE, accepting).await });
            runtime.shutdown_timeout(GRACE);
        });
        let _ = ending.join();
        self.temporary.take();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn open_store(config: &Config) -> Result<(Store, Option<TempDir>), StartError> {
    let (store, temporary) = match &config.state {
        StateDir::Kept(path) => (Store::open(path)?, None),
        StateDir::Temporary => {
            let directory = tempfile::Builder::new()
                .prefix("emulator-alibaba-")
                .tempdir()
                .map_err(StartError::Temporary)?;
            (Store::open(directory.path())?, Some(directory))
        }
    };
    for seed in &config.buckets {
        let mut world = store.world();
        if world.buckets.get(&seed.name).is_none() {
            let region = seed.region.clone().unwrap_or_else(|| config.region.clone());
            let name = seed.name.clone();
            let bucket = Bucket {
                name,
                region,
                created: clock::now(),
                encryption: None,
                acceleration: None,
                owner: crate::service::ACCOUNT_ID.to_owned(),
            };
            world.buckets.put(bucket)?;
        }
    }
    role::seed(&mut store.world(), config)?;
    Ok((store, temporary))
}

/// Starts the emulator; it serves until the result is shut down or dropped.
///
/// # Errors
/// States why it cannot listen, or what is wrong with the state directory, the fault rules, or the TLS files.
pub fn start(config: Config) -> Result<Running, StartError> {
    if !config.listen.ip().is_loopback() && !config.listen_anywhere {
        return Err(StartError::NotLoopback(config.listen));
    }
    let faults = Faults::default();
    if let Some(rules) = &config.faults {
        faults.set(rules)?;
    }
    let (store, temporary) = open_store(&config)?;
    let log = Log::open(config.log_requests.as_deref())?;
    let tls = Tls::prepare(&config, store.root())?;
    let listen = |source| StartError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let workers = std::thread::available_parallelism().map_or(4, |cores| (cores.get() * 2).max(4));
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("emulator")
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let guard = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener).map_err(listen)?;
    drop(guard);
    let nonces = crate::acs::Nonces::default();
    let metadata = metadata::TokenKey::new();
    let service = Arc::new(Service { config, store, faults, log, nonces, metadata });
    let resumed = Arc::clone(&service);
    runtime.spawn_blocking(move || ecs::resume(&resumed));
    let (stop, stopped) = watch::channel(false);
    let accepting = runtime.spawn(accept(Arc::clone(&service), tls.clone(), listener, stopped));
    Ok(Running {
        address,
        tls,
        service,
        stop,
        runtime: Some(runtime),
        accepting: Some(accepting),
        temporary,
    })
}

/// Returns when the emulator is asked to stop, or is dropped.
async fn stop_of(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn accept(
    service: Arc<Service>,
    tls: Option<Tls>,
    listener: tokio::net::TcpListener,
    mut stopped: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop_of(&mut stopped) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let (service, tls) = (Arc::clone(&service), tls.clone());
                    connections.spawn(connection(service, tls, stream, peer, stopped.clone()));
                }
                // Out of file descriptors, or the peer disconnected: the next connection may succeed.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(
    service: Arc<Service>,
    tls: Option<Tls>,
    stream: TcpStream,
    peer: SocketAddr,
    mut stopped: watch::Receiver<bool>,
) {
    // Answers are small, and the client waits for them.
    let _ = stream.set_nodelay(true);
    let Ok(lever) = stream.as_fd().try_clone_to_owned() else { return };
    let Some(tls) = tls else { return serve(service, stream, lever, peer, stopped).await };
    let shaken = tokio::select! {
        shaken = tls.accept(stream) => shaken,
        () = stop_of(&mut stopped) => None,
    };
    if let Some(stream) = shaken {
        serve(service, stream, lever, peer, stopped).await;
    }
}

/// Serves the requests of one connection. `lever` is its socket.
async fn serve(
    service: Arc<Service>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    lever: OwnedFd,
    peer: SocketAddr,
    mut stopped: watch::Receiver<bool>,
) {
    let lever = Arc::new(lever);
    let loopback = peer.ip().to_canonical().is_loopback();
    let handler = service_fn(|request: Request<Incoming>| {
        let service = Arc::clone(&service);
        let lever = Arc::clone(&lever);
        async move {
            let (parts, body) = request.into_parts();
            let answered = respond(&service, parts, body, loopback).await;
            if answered.is_err() {
                reset(&lever);
            }
            answered
        }
    });
    let serving =
        http1::Builder::new().max_buf_size(BUFFER).serve_connection(TokioIo::new(stream), handler);
    let mut serving = std::pin::pin!(serving);
    // Broken connections are not logged: the client sees them itself.
    tokio::select! {
        _ = serving.as_mut() => {}
        () = stop_of(&mut stopped) => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}

/// Makes the next close of the connection a reset (RST) instead of an orderly shutdown.
fn reset(socket: &OwnedFd) {
    // Without it the client sees an orderly shutdown within the answer, which is a fault as well.
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
