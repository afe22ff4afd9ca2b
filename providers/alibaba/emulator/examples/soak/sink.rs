//! Measures the machine's upper bound: as many connections and bytes as in the measurement of parts, received
//! and written to a file by a simple loop.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Failure;

const SENDERS: u64 = 4;
const BUFFER: usize = 1 << 20;

/// Receives on one connection and writes from `offset` on.
fn receive(mut stream: TcpStream, file: &File, mut offset: u64) -> Result<(), Failure> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        file.write_all_at(&buffer[..length], offset)?;
        offset += length as u64;
    }
}

fn send(address: std::net::SocketAddr, bytes: u64) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(address)?;
    let body = vec![0x5a; BUFFER];
    let mut left = bytes;
    while left > 0 {
        let length = usize::try_from(left.min(BUFFER as u64))?;
        stream.write_all(&body[..length])?;
        left -= length as u64;
    }
    Ok(())
}

/// Duration of receiving and writing `bytes`.
pub(crate) fn measure(path: &Path, bytes: u64) -> Result<Duration, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let file = File::create(path)?;
    let share = bytes / SENDERS;
    let begun = Instant::now();
    std::thread::scope(|scope| -> Result<(), Failure> {
        let senders: Vec<_> =
            (0..SENDERS).map(|_| scope.spawn(move || send(address, share))).collect();
        let mut receivers = Vec::new();
        for number in 0..SENDERS {
            let (stream, _) = listener.accept()?;
            let file = &file;
            receivers.push(scope.spawn(move || receive(stream, file, number * share)));
        }
        for thread in senders.into_iter().chain(receivers) {
            thread.join().map_err(|_| Failure::from("a thread of the sink panicked"))??;
        }
        Ok(())
    })?;
    let took = begun.elapsed();
    std::fs::remove_file(path)?;
    Ok(took)
}
