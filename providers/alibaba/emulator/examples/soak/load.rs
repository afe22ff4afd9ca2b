//! Runs many clients at once, each of which puts objects, whole and in parts, and reads them back; and a few
//! that send large parts as fast as they can.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::client::{Client, Reply};

/// Requests of one round of a client; see [`round`].
const PER_ROUND: usize = PARTS + 6;
const PARTS: usize = 10;
const MIN_PART: u64 = 100 << 10;
/// Length in bytes of a part when throughput is measured.
pub(crate) const BIG_PART: u64 = 32 << 20;
const SENDERS: u64 = 4;

/// Counts of completed work.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) requests: usize,
    pub(crate) objects: usize,
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
}

fn good(what: &str, reply: Reply) -> Result<Reply, Failure> {
    if (200..300).contains(&reply.status) {
        return Ok(reply);
    }
    let text = String::from_utf8_lossy(&reply.body);
    Err(format!("{what}: {} {text}", reply.status).into())
}

/// One round: an object in parts, inspected and partly read back, and one that is created and deleted.
fn round(client: &mut Client, number: usize, body: &[u8]) -> Result<(), Failure> {
    let key = format!("soak/{number:06}.raw");
    let begun = good("initiate", client.oss("POST", &key, &[("uploads", "")], &[], b"")?)?;
    let upload = begun.xml("UploadId");
    let mut list = String::from("<CompleteMultipartUpload>");
    for part in 1..=PARTS {
        let part = part.to_string();
        let query = [("uploadId", upload.as_str()), ("partNumber", &part)];
        let sent = good("part", client.oss("PUT", &key, &query, &[], body)?)?;
        let etag = sent.etag;
        list.push_str(&format!("<Part><PartNumber>{part}</PartNumber><ETag>{etag}</ETag></Part>"));
    }
    list.push_str("</CompleteMultipartUpload>");
    let query = [("uploadId", upload.as_str())];
    good("complete", client.oss("POST", &key, &query, &[], list.as_bytes())?)?;
    let part = body.len();
    let range = format!("bytes={}-{}", part * 3 - 8, part * 3 + 7);
    let read = good("get", client.oss("GET", &key, &[], &[("range", &range)], b"")?)?;
    if read.body[..8] != body[part - 8..] || read.body[8..] != body[..8] {
        return Err(format!("`{key}` came back as something else").into());
    }
    good("head", client.oss("HEAD", &key, &[], &[], b"")?)?;
    let brief = format!("brief/{number}");
    good("put", client.oss("PUT", &brief, &[], &[], b"x")?)?;
    good("delete", client.oss("DELETE", &brief, &[], &[], b"")?)?;
    Ok(())
}

/// Runs `clients` at once until `requests` and `bytes` are reached.
pub(crate) fn run(
    address: SocketAddr,
    clients: usize,
    requests: usize,
    bytes: u64,
) -> Result<Done, Failure> {
    let rounds = requests.div_ceil(PER_ROUND);
    let part = (bytes / (rounds * PARTS) as u64).max(MIN_PART) + 1;
    let body: Vec<u8> =
        (0..part).map(|index| u8::try_from(index % 251)).collect::<Result<_, _>>()?;
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let work = || -> Result<usize, Failure> {
        let mut client = Client::connect(address)?;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= rounds {
                return Ok(client.requests);
            }
            round(&mut client, number, &body)?;
        }
    };
    let counts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| Failure::from("a client panicked"))?)
            .collect::<Result<Vec<usize>, Failure>>()
    })?;
    Ok(Done {
        requests: counts.iter().sum(),
        objects: rounds,
        bytes: (rounds * PARTS) as u64 * part,
        time: begun.elapsed(),
    })
}

/// Sends `bytes` as parts of one upload over a few connections.
pub(crate) fn parts(address: SocketAddr, bytes: u64) -> Result<Duration, Failure> {
    let mut first = Client::connect(address)?;
    let begun = good("initiate", first.oss("POST", "big", &[("uploads", "")], &[], b"")?)?;
    let upload = begun.xml("UploadId");
    let body = vec![0x5a; usize::try_from(BIG_PART)?];
    let count = bytes.div_ceil(BIG_PART);
    let started = Instant::now();
    let send = |sender: u64| -> Result<(), Failure> {
        let mut client = Client::connect(address)?;
        for number in (1..=count).filter(|number| number % SENDERS == sender) {
            let number = number.to_string();
            let query = [("uploadId", upload.as_str()), ("partNumber", &number)];
            good("part", client.oss("PUT", "big", &query, &[], &body)?)?;
        }
        Ok(())
    };
    let send = &send;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..SENDERS).map(|sender| scope.spawn(move || send(sender))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| Failure::from("a sender panicked"))?)
    })?;
    Ok(started.elapsed())
}
