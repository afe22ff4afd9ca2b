//! Fuzzes databases of rpm: SQLite with its write-ahead log, ndb, and the hash of Berkeley DB; and a header alone.
//!
//! The first two bytes have the length of the database; what follows it is the log, whose checksums are made valid.
#![no_main]

use std::time::Duration;

use build_image_fuzz::checksum;
use build_image_guest::Limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((len, rest)) = input.split_first_chunk() else { return };
    let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
    let (database, log) = rest.split_at(len);
    let mut log = log.to_vec();
    checksum::write_ahead_log(&mut log);
    let limits = Limits { time: Duration::from_secs(9), ..Limits::default() };
    for found in build_image_guest::fuzzing::rpm(database, &log, limits).into_iter().flatten() {
        // A package needs more bytes than it has tags.
        assert!(found <= input.len());
    }
});
