//! Runs the loops that most of a build's time is spent in, each alone and on one fixed input, to have their
//! instructions counted: `hot_loops LOOP DIRECTORY`. Instruction counts hardly change from run to run;
//! seconds do.
//!
//! * `disk`: creates the input in DIRECTORY, for the others
//! * `read`: a disk as a qcow2 view, all of it, in the chunks of an upload, with their CRC-64
//! * `zeros`: which clusters contain data, where the file has no holes
//! * `pack`: the same disk as compressed qcow2, one thread
//! * `sign`: a thousand signatures of parts
//!
//! `tests/bench/instructions` runs it. The signer is the provider's own source, compiled in here.
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "only the signer of OSS is used here")]
#[path = "../../src/sign/mod.rs"]
mod sign;

use std::fs;
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;

use build_image_disk::pack::{Control, DigestKinds, PackedQcow2};
use build_image_disk::{GuestReader, Qcow2View, View};
use crc_fast::{CrcAlgorithm, Digest};
use sign::oss_v4::{Request, Signer, UNSIGNED_PAYLOAD, sign};

type Failure = Box<dyn std::error::Error>;

const MIB: usize = 1 << 20;
const CHUNK: usize = 256 << 10;
const DISK: &str = "disk.raw";
const ZEROS: &str = "zeros.raw";

/// Text that compresses, bytes that do not, and zeros that are stored: the same on every machine.
fn make(directory: &Path) -> Result<(), Failure> {
    let mut state = 1_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut text = Vec::with_capacity(3 * MIB);
    while text.len() < 3 * MIB {
        writeln!(text, "/usr/lib/{:x}/{} = {}", draw() % 512, draw() % 64, draw() % 100_000)?;
    }
    let noise = std::iter::repeat_with(|| draw().to_le_bytes()).take(MIB / 8);
    let noise: Vec<u8> = noise.flatten().collect();
    let bytes = [&text[..3 * MIB], &noise, &vec![0; MIB]].concat();
    fs::write(directory.join(DISK), bytes)?;
    fs::write(directory.join(ZEROS), vec![0; 16 * MIB])?;
    Ok(())
}

fn read(directory: &Path) -> Result<u64, Failure> {
    let view = Qcow2View::new(&directory.join(DISK))?;
    let (mut digest, mut buffer, mut at) = (Digest::new(CrcAlgorithm::Crc64Xz), vec![0; CHUNK], 0);
    loop {
        let count = view.read_at(&mut buffer, at)?;
        if count == 0 {
            return Ok(digest.finalize());
        }
        digest.update(&buffer[..count]);
        at += count as u64;
    }
}

fn zeros(directory: &Path) -> Result<u64, Failure> {
    Ok(Qcow2View::new(&directory.join(ZEROS))?.len())
}

fn pack(directory: &Path) -> Result<u64, Failure> {
    let disk = GuestReader::open_raw(&directory.join(DISK))?;
    let control = Control::new().with_threads(1);
    let dest = directory.join("packed.qcow2");
    let packed = PackedQcow2::of(disk)?.write(&dest, DigestKinds::NONE, &control)?.finish()?;
    fs::remove_file(dest)?;
    Ok(packed.length)
}

fn signatures() -> u64 {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let headers = [
        pair("x-oss-content-sha256", UNSIGNED_PAYLOAD),
        pair("x-oss-date", "20231216T162057Z"),
        pair("content-type", "application/octet-stream"),
    ];
    let signer = Signer { id: "ak", secret: "sk", region: "cn-hangzhou", date: "20231216T162057Z" };
    let lengths = (1..=1000).map(|number| {
        let query = [
            pair("partNumber", &number.to_string()),
            pair("uploadId", "0004B9894A22E5B1888A1E29F8236E2D"),
        ];
        let request = Request {
            method: "PUT",
            bucket: "bench",
            key: Some("images/disk.qcow2"),
            query: &query,
            headers: &headers,
            additional: &[],
        };
        sign(black_box(&request), &signer).authorization.len() as u64
    });
    lengths.sum()
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().collect();
    let [_, which, directory] = args.as_slice() else {
        return Err("usage: hot_loops LOOP FOLDER".into());
    };
    let directory = Path::new(directory);
    let result = match which.as_str() {
        "disk" => return make(directory),
        "read" => read(directory)?,
        "zeros" => zeros(directory)?,
        "pack" => pack(directory)?,
        "sign" => signatures(),
        other => return Err(format!("unknown loop `{other}`").into()),
    };
    // Also keeps the compiler from removing the work.
    writeln!(std::io::stdout(), "{result}")?;
    Ok(())
}
