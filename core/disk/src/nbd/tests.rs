//! Tests the server with qemu-img, and with a client that breaks the protocol.

use super::*;
use crate::testing::{program, run};

/// Bytes that differ everywhere; the last ones cannot be read.
struct Image {
    len: u64,
    readable: u64,
}

impl Export for Image {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        if offset + buf.len() as u64 > self.readable {
            return Err(Error::new(crate::Kind::Io, "a broken disk"));
        }
        // Short reads must be continued.
        let len = buf.len().min(7000);
        for (number, byte) in (offset..).zip(&mut buf[..len]) {
            *byte = byte_at(number);
        }
        Ok(len)
    }
}

fn byte_at(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9) >> 16).to_le_bytes()[0]
}

fn start(len: u64, readable: u64) -> (tempfile::TempDir, PathBuf, NbdServer) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nbd");
    let server = NbdServer::start(Arc::new(Image { len, readable }), &socket).unwrap();
    (directory, socket, server)
}

#[test]
fn qemu_reads_the_same_bytes() {
    let Some(qemu_img) = program("qemu-img") else { return };
    // Not a multiple of anything.
    let len = (3 << 20) + 12_345 * 512;
    let (directory, socket, server) = start(len, len);
    let copy = directory.path().join("copy");
    let url = format!("nbd+unix:///?socket={}", socket.display());
    run(&qemu_img, &[&"convert", &"-f", &"raw", &"-O", &"raw", &url, &copy]);
    let copied = std::fs::read(copy).unwrap();
    assert_eq!(copied.len() as u64, len);
    assert!((0..).zip(&copied).all(|(offset, byte)| *byte == byte_at(offset)));
    assert!(server.take_error().is_none());
    drop(server);
    assert!(!socket.exists());
}

/// A client that does only what a test asks for.
struct Client {
    stream: UnixStream,
}

impl Client {
    fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        let mut client = Self { stream };
        let hello = client.bytes(18);
        assert_eq!(hello[..8], *b"NBDMAGIC");
        client.send(&[&3_u32.to_be_bytes()]);
        client
    }

    fn send(&mut self, parts: &[&[u8]]) {
        self.stream.write_all(&parts.concat()).unwrap();
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Sends an option without data; returns the type of the reply and its data.
    fn option(&mut self, option: u32) -> (u32, Vec<u8>) {
        self.send(&[b"IHAVEOPT", &option.to_be_bytes(), &[0; 4]]);
        self.option_reply()
    }

    fn option_reply(&mut self) -> (u32, Vec<u8>) {
        let head = self.bytes(20);
        let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        let data = self.bytes(number(16) as usize);
        (number(12), data)
    }

    /// Sends a request; returns the error of the reply.
    fn request(&mut self, kind: u16, offset: u64, length: u32, data: &[u8]) -> u32 {
        let head = [&REQUEST_MAGIC.to_be_bytes()[..], &[0; 2], &kind.to_be_bytes()].concat();
        self.send(&[&head, b"a cookie", &offset.to_be_bytes(), &length.to_be_bytes(), data]);
        let reply = self.bytes(16);
        assert_eq!(reply[8..], *b"a cookie");
        u32::from_be_bytes(reply[4..8].try_into().unwrap())
    }
}

#[test]
fn options_are_answered_and_unknown_ones_refused() {
    let (_directory, socket, _server) = start(1 << 20, 1 << 20);
    let mut client = Client::connect(&socket);
    // Structured replies, TLS, and an unknown one.
    for option in [8, 5, 99] {
        assert_eq!(client.option(option), (REP_ERR_UNSUPPORTED, vec![]), "{option}");
    }
    let (kind, info) = client.option(OPT_INFO);
    assert_eq!((kind, info[2..10].to_vec()), (REP_INFO, (1_u64 << 20).to_be_bytes().to_vec()));
    assert_eq!(info[11] & 2, 2, "read-only");
    assert_eq!(client.option_reply().0, REP_ACK);
    assert_eq!(client.option(OPT_ABORT).0, REP_ACK);
    assert_eq!(client.stream.read(&mut [0]).unwrap(), 0, "the server has left");
}

#[test]
fn nothing_is_written_and_nothing_outside_of_the_image_is_read() {
    let (len, readable) = (1 << 20, 1 << 19);
    let (_directory, socket, server) = start(len, readable);
    let mut client = Client::connect(&socket);
    assert_eq!(client.option(OPT_GO).0, REP_INFO);
    assert_eq!(client.option_reply().0, REP_ACK);
    assert_eq!(client.request(CMD_WRITE, 0, 512, &[1; 512]), EPERM);
    assert_eq!(client.request(4, 0, 512, &[]), EINVAL, "trim");
    assert_eq!(client.request(CMD_FLUSH, 0, 0, &[]), 0);
    for (offset, length) in [(len, 1), (len - 1, 2), (u64::MAX, 2), (0, LONGEST + 1)] {
        assert_eq!(client.request(CMD_READ, offset, length, &[]), EINVAL, "{offset}");
    }
    assert!(server.take_error().is_none());
    assert_eq!(client.request(CMD_READ, readable, 512, &[]), EIO);
    assert!(server.take_error().unwrap().to_string().contains("a broken disk"));
    // The connection is still usable.
    assert_eq!(client.request(CMD_READ, 77, 20_000, &[]), 0);
    let bytes = client.bytes(20_000);
    assert!((77..).zip(&bytes).all(|(offset, byte)| *byte == byte_at(offset)));
}

#[test]
fn a_dropped_server_reads_nothing_any_more() {
    let image = Arc::new(Image { len: 1 << 20, readable: 1 << 20 });
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nbd");
    let server = NbdServer::start(Arc::clone(&image) as Arc<dyn Export>, &socket).unwrap();
    let mut client = Client::connect(&socket);
    assert_eq!(client.option(OPT_GO).0, REP_INFO);
    drop(server);
    assert_eq!(Arc::strong_count(&image), 1);
}

#[test]
fn a_client_that_breaks_the_protocol_loses_its_connection_only() {
    let (_directory, socket, _server) = start(1 << 20, 1 << 20);
    let mut client = Client::connect(&socket);
    client.send(&[b"IHAVEOPT", &7_u32.to_be_bytes(), &u32::MAX.to_be_bytes()]);
    assert_eq!(client.stream.read(&mut [0]).unwrap(), 0);
    let mut client = Client::connect(&socket);
    client.send(&[b"GET / HTTP/1.1\r\n"]);
    assert_eq!(client.stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(Client::connect(&socket).option(OPT_INFO).0, REP_INFO);
}
