//! Serves an image, read-only, to one program on this machine: an NBD server on a Unix socket. So qemu reads an
//! image that exists only as a view, with its own driver for the image's format.
//!
//! A maintained crate for NBD servers was not found, and what qemu needs of the protocol is small: the fixed newstyle
//! negotiation without TLS, and simple replies.
//! Source: NBD protocol (NetworkBlockDevice/nbd, doc/proto.md), sections "Fixed newstyle negotiation", "Option
//! haggling", "Option types", "Simple reply message", "Request types", and "Error values".

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::error::Error;
use crate::view::View;

const MAGIC: u64 = 0x4e42_444d_4147_4943; // "NBDMAGIC"
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054; // "IHAVEOPT"
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

/// Handshake flags: fixed newstyle, no zeros after the answer to `EXPORT_NAME`.
const HANDSHAKE: u16 = 1 | 2;
/// Transmission flags: the flags are valid, read-only, several connections see the same.
const TRANSMISSION: u16 = 1 | 2 | 1 << 8;

const OPT_EXPORT_NAME: u32 = 1;
const OPT_ABORT: u32 = 2;
const OPT_INFO: u32 = 6;
const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_ERR_UNSUPPORTED: u32 = 1 << 31 | 1;
/// `NBD_INFO_EXPORT`: size and transmission flags follow.
const INFO_EXPORT: u16 = 0;

const CMD_READ: u16 = 0;
const CMD_WRITE: u16 = 1;
const CMD_DISCONNECT: u16 = 2;
const CMD_FLUSH: u16 = 3;

const EPERM: u32 = 1;
const EIO: u32 = 5;
const EINVAL: u32 = 22;

/// Longest data of an option or a request that is accepted, in bytes: the protocol's default maximum.
const LONGEST: u32 = 32 << 20;
/// Longest option that is accepted, in bytes: a name of 4096 bytes and what surrounds it.
const LONGEST_OPTION: u32 = 8 << 10;

/// An image that a server reads.
pub trait Export: Send + Sync {
    /// Returns the length in bytes, which is constant.
    fn len(&self) -> u64;

    /// Fills `buf` from byte `offset`; returns fewer bytes only at the end.
    ///
    /// # Errors
    /// When the image cannot be read; the client then gets an I/O error.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error>;

    /// Returns whether the image is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: View + ?Sized> Export for Arc<T> {
    fn len(&self) -> u64 {
        View::len(self.as_ref())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        View::read_at(self.as_ref(), buf, offset)
    }
}

/// A running server. Dropping it ends it and removes its socket; then nothing reads the image any more.
#[derive(Debug)]
pub struct NbdServer {
    socket: PathBuf,
    shared: Arc<Shared>,
    /// Accepts connections, and returns those that it has accepted.
    acceptor: Option<JoinHandle<Vec<Connection>>>,
}

/// A connection and the thread that serves it.
#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    /// The first error of reading the image.
    failed: Mutex<Option<Error>>,
}

impl NbdServer {
    /// Serves the image at a path that does not exist yet. Who can enter its directory can read the image, so the
    /// directory must be private.
    ///
    /// # Errors
    /// When the socket cannot be created; its path has at most 107 bytes (unix(7)).
    pub fn start(image: Arc<dyn Export>, socket: &Path) -> Result<Self, Error> {
        let listener = UnixListener::bind(socket)
            .map_err(|source| Error::io("cannot listen at", socket, source))?;
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        let acceptor = Some(thread::spawn(move || accept(&listener, &image, &ours)));
        Ok(Self { socket: socket.to_owned(), shared, acceptor })
    }

    /// Returns the first error of reading the image, if there was one.
    #[must_use]
    pub fn take_error(&self) -> Option<Error> {
        self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections. If that fails, another process removed the socket, and the
        // thread ends with this process.
        let woken = UnixStream::connect(&self.socket).is_ok();
        let _ = std::fs::remove_file(&self.socket);
        let accepted = self.acceptor.take().filter(|_| woken).map(JoinHandle::join);
        for Connection { stream, thread } in accepted.and_then(Result::ok).into_iter().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
            let _ = thread.join();
        }
    }
}

fn accept(
    listener: &UnixListener,
    image: &Arc<dyn Export>,
    shared: &Arc<Shared>,
) -> Vec<Connection> {
    let mut connections = Vec::new();
    for stream in listener.incoming() {
        if shared.over.load(Ordering::Relaxed) {
            break;
        }
        let Ok((stream, ours)) = stream.and_then(|stream| Ok((stream.try_clone()?, stream))) else {
            continue;
        };
        let (image, shared) = (Arc::clone(image), Arc::clone(shared));
        let thread = thread::spawn(move || {
            // A client that leaves or breaks the protocol ends its own connection.
            if let Err(error) = serve(&ours, image.as_ref(), &shared) {
                tracing::debug!(%error, "an NBD connection ended");
            }
            // The other descriptor of the connection stays open until the server is dropped.
            let _ = ours.shutdown(Shutdown::Both);
        });
        connections.push(Connection { stream, thread });
    }
    connections
}

fn serve(mut stream: &UnixStream, image: &dyn Export, shared: &Shared) -> io::Result<()> {
    let mut hello = Vec::new();
    hello.extend(MAGIC.to_be_bytes());
    hello.extend(OPTION_MAGIC.to_be_bytes());
    hello.extend(HANDSHAKE.to_be_bytes());
    stream.write_all(&hello)?;
    let client = u32_of(&mut stream)?;
    if negotiate(stream, image, client & 2 != 0)? {
        transmit(stream, image, shared)?;
    }
    Ok(())
}

/// Answers options; returns whether the transmission phase begins.
fn negotiate(mut stream: &UnixStream, image: &dyn Export, no_zeros: bool) -> io::Result<bool> {
    loop {
        let [magic_high, magic_low, option, length] = [(); 4].map(|()| u32_of(&mut stream));
        let magic = u64::from(magic_high?) << 32 | u64::from(magic_low?);
        let (option, length) = (option?, length?);
        if magic != OPTION_MAGIC || length > LONGEST_OPTION {
            return Err(broken("the client sent no valid option"));
        }
        discard(&mut stream, length)?;
        // Every name of an export is accepted: there is only one.
        match option {
            OPT_EXPORT_NAME => {
                let mut answer = export(image);
                answer.extend(vec![0; if no_zeros { 0 } else { 124 }]);
                stream.write_all(&answer)?;
                return Ok(true);
            }
            OPT_ABORT => {
                reply_to_option(stream, option, REP_ACK, &[])?;
                return Ok(false);
            }
            OPT_INFO | OPT_GO => {
                let mut info = INFO_EXPORT.to_be_bytes().to_vec();
                info.extend(export(image));
                reply_to_option(stream, option, REP_INFO, &info)?;
                reply_to_option(stream, option, REP_ACK, &[])?;
                if option == OPT_GO {
                    return Ok(true);
                }
            }
            _ => reply_to_option(stream, option, REP_ERR_UNSUPPORTED, &[])?,
        }
    }
}

/// Returns size and transmission flags.
fn export(image: &dyn Export) -> Vec<u8> {
    let mut bytes = image.len().to_be_bytes().to_vec();
    bytes.extend(TRANSMISSION.to_be_bytes());
    bytes
}

fn reply_to_option(mut stream: &UnixStream, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut reply = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    let length = u32::try_from(data.len()).map_err(|_| broken("a reply is too long"))?;
    for number in [option, kind, length] {
        reply.extend(number.to_be_bytes());
    }
    reply.extend(data);
    stream.write_all(&reply)
}

fn transmit(mut stream: &UnixStream, image: &dyn Export, shared: &Shared) -> io::Result<()> {
    let mut reply = Vec::new();
    loop {
        let mut request = [0; 28];
        stream.read_exact(&mut request)?;
        let request = Request::parse(&request)?;
        reply.clear();
        reply.extend(REPLY_MAGIC.to_be_bytes());
        let error = match request.kind {
            CMD_DISCONNECT => return Ok(()),
            CMD_FLUSH => 0,
            CMD_READ if !request.is_inside(image.len()) => EINVAL,
            CMD_READ => {
                reply.resize(16 + request.length as usize, 0);
                match read_exactly(image, &mut reply[16..], request.offset) {
                    Ok(()) => 0,
                    Err(error) => {
                        let mut failed =
                            shared.failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.get_or_insert(error);
                        EIO
                    }
                }
            }
            CMD_WRITE => {
                discard(&mut stream, request.length)?;
                EPERM
            }
            _ => EINVAL,
        };
        if error != 0 || request.kind != CMD_READ {
            reply.resize(16, 0);
        }
        reply[4..8].copy_from_slice(&error.to_be_bytes());
        reply[8..16].copy_from_slice(&request.cookie);
        stream.write_all(&reply)?;
    }
}

/// A request of the transmission phase.
struct Request {
    kind: u16,
    cookie: [u8; 8],
    offset: u64,
    length: u32,
}

impl Request {
    /// Parses the 28 bytes: magic, flags, type, cookie, offset, length.
    fn parse(bytes: &[u8; 28]) -> io::Result<Self> {
        let mut rest = &bytes[..];
        let magic = u32_of(&mut rest)?;
        let [_, _, high, low] = u32_of(&mut rest)?.to_be_bytes();
        let mut cookie = [0; 8];
        rest.read_exact(&mut cookie)?;
        let [offset_high, offset_low, length] = [(); 3].map(|()| u32_of(&mut rest));
        let offset = u64::from(offset_high?) << 32 | u64::from(offset_low?);
        let (kind, length) = (u16::from_be_bytes([high, low]), length?);
        if magic != REQUEST_MAGIC || (kind == CMD_WRITE && length > LONGEST) {
            return Err(broken("the client sent no valid request"));
        }
        Ok(Self { kind, cookie, offset, length })
    }

    /// Returns whether all its bytes are bytes of the image.
    fn is_inside(&self, image: u64) -> bool {
        let end = self.offset.checked_add(u64::from(self.length));
        self.length <= LONGEST && end.is_some_and(|end| end <= image)
    }
}

fn read_exactly(image: &dyn Export, mut buf: &mut [u8], mut offset: u64) -> Result<(), Error> {
    while !buf.is_empty() {
        let len = image.read_at(buf, offset)?;
        if len == 0 {
            let text = "an image is shorter than its length";
            return Err(Error::new(crate::Kind::Truncated, text).at_offset(offset));
        }
        buf = &mut buf[len..];
        offset += len as u64;
    }
    Ok(())
}

fn discard(stream: &mut impl Read, length: u32) -> io::Result<()> {
    let copied = io::copy(&mut stream.take(u64::from(length)), &mut io::sink())?;
    if copied < u64::from(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn u32_of(stream: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests;
