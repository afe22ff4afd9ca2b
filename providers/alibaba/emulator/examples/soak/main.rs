//! Runs the emulator for a long time: many clients at once, its memory usage, its throughput for parts
//! compared to a sink that only writes them to a file, and noise for the requested time. Not part of the
//! tests; `cargo run --release --example soak -- --help`. Ends with exit code 1 when a result is out of
//! bounds. Deliberately uses no client library: plain sockets and a separate signer.
#![forbid(unsafe_code)]

mod client;
mod load;
mod noise;
mod program;
mod sink;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Maximum memory usage of the emulator, in bytes.
const MAX_MEMORY: u64 = 150 << 20;

/// Soak, throughput and noise test of the emulator.
#[derive(Debug, Clone, Parser)]
struct Settings {
    /// The emulator [default: beside the directory of this program]
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Directory for the emulator's state and the sink's file [default: a temporary one]
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Clients at once
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Requests of all clients together, at least
    #[arg(long, default_value_t = 20_000)]
    requests: usize,
    /// Bytes of all objects together, at least
    #[arg(long, default_value_t = 10_000_000_000)]
    bytes: u64,
    /// Bytes to send for measuring throughput; 0 leaves it out
    #[arg(long, default_value_t = 4 << 30)]
    throughput_bytes: u64,
    /// How long to send noise, in seconds; 0 leaves it out
    #[arg(long, default_value_t = 600)]
    noise_seconds: u64,
    /// Where the noise begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Any error that ends the run.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Prints one line.
fn say(line: &str) {
    // If standard output is closed, the exit code still reports the result.
    let _ = writeln!(io::stdout(), "{line}");
}

fn run(settings: &Settings) -> Result<(), Failure> {
    let directory = tempfile::Builder::new().prefix("soak-").tempdir()?;
    let directory = settings.directory.clone().unwrap_or_else(|| directory.path().to_path_buf());
    std::fs::create_dir_all(&directory)?;
    let binary = program::binary(settings.binary.as_ref())?;
    load_phase(settings, &binary, &directory)?;
    if settings.throughput_bytes > 0 {
        throughput_phase(settings, &binary, &directory)?;
    }
    if settings.noise_seconds > 0 {
        noise_phase(settings, &binary, &directory)?;
    }
    Ok(())
}

fn load_phase(
    settings: &Settings,
    binary: &std::path::Path,
    directory: &std::path::Path,
) -> Result<(), Failure> {
    let emulator = program::Emulator::start(binary, &directory.join("load"), &[])?;
    let done = load::run(emulator.address, settings.clients, settings.requests, settings.bytes)?;
    let memory = emulator.peak_memory()?;
    say(&format!(
        "load: {} clients, {} requests, {} objects, {:.2} GB in {:.1} s, {:.0} requests/s; \
         memory at most {:.1} MiB",
        settings.clients,
        done.requests,
        done.objects,
        mega(done.bytes) / 1000.0,
        done.time.as_secs_f64(),
        rate(done.requests as u64, done.time),
        mega(memory) / 1.048_576,
    ));
    let status = emulator.status()?;
    for (name, expected) in [("objects", done.objects), ("open_uploads", 0), ("parts", 0)] {
        if status[name] != expected {
            return Err(format!("{name}: {} instead of {expected}", status[name]).into());
        }
    }
    let logged = emulator.end()?;
    if logged != done.requests {
        return Err(format!("{logged} requests in the log, {} sent", done.requests).into());
    }
    if memory > MAX_MEMORY {
        return Err(format!("{memory} bytes of memory, more than {MAX_MEMORY}").into());
    }
    std::fs::remove_dir_all(directory.join("load"))?;
    Ok(())
}

fn throughput_phase(
    settings: &Settings,
    binary: &std::path::Path,
    directory: &std::path::Path,
) -> Result<(), Failure> {
    let bytes = settings.throughput_bytes;
    let plain = sink::measure(&directory.join("sink"), bytes)?;
    let mut results = vec![format!("plain sink {:.0} MB/s", per_second(bytes, plain))];
    for (name, arguments) in [("MD5", &[][..]), ("--fast-etags", &["--fast-etags"][..])] {
        let state = directory.join("throughput");
        let emulator = program::Emulator::start(binary, &state, arguments)?;
        let took = load::parts(emulator.address, bytes)?;
        emulator.end()?;
        std::fs::remove_dir_all(&state)?;
        results.push(format!(
            "{name} {:.0} MB/s ({:.2} of the sink)",
            per_second(bytes, took),
            plain.as_secs_f64() / took.as_secs_f64()
        ));
    }
    say(&format!("parts of {} MiB: {}", load::BIG_PART >> 20, results.join(", ")));
    Ok(())
}

fn noise_phase(
    settings: &Settings,
    binary: &std::path::Path,
    directory: &std::path::Path,
) -> Result<(), Failure> {
    let emulator = program::Emulator::start(binary, &directory.join("noise"), &[])?;
    let time = Duration::from_secs(settings.noise_seconds);
    let done = noise::run(emulator.address, time, settings.seed)?;
    let memory = emulator.peak_memory()?;
    let complaints = emulator.complaints()?;
    emulator.end()?;
    say(&format!(
        "noise: {} requests in {} s: {}; memory at most {:.1} MiB",
        done.requests,
        settings.noise_seconds,
        done.summary(),
        mega(memory) / 1.048_576
    ));
    if !complaints.is_empty() {
        return Err(format!("the emulator complained: {complaints}").into());
    }
    Ok(())
}

/// In millions.
fn mega(bytes: u64) -> f64 {
    // A display of at most four digits.
    Duration::from_micros(bytes).as_secs_f64()
}

fn rate(count: u64, time: Duration) -> f64 {
    mega(count) * 1_000_000.0 / time.as_secs_f64()
}

fn per_second(bytes: u64, time: Duration) -> f64 {
    mega(bytes) / time.as_secs_f64()
}

fn main() -> ExitCode {
    match run(&Settings::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
