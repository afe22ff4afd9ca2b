//! Parses the command line of the proxy and runs it.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use build_image_fault_proxy::{Options, start};
use clap::Parser;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

type Failure = Box<dyn std::error::Error>;

/// A proxy on loopback that injects faults between a client and an HTTP server; prints `listening on URL` and
/// `CA certificate: FILE`, and serves until SIGTERM or SIGINT.
#[derive(Debug, Parser)]
#[command(name = "build-image-fault-proxy", version)]
struct Cli {
    /// The server: `http://HOST[:PORT]` or `https://HOST[:PORT]`
    #[arg(long, value_name = "URL")]
    upstream: String,
    /// PEM file with CA certificates to check an https server with [default: the system's, or SSL_CERT_FILE]
    #[arg(long, value_name = "FILE")]
    upstream_ca: Option<PathBuf>,
    /// Loopback address to listen on; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Serve plain HTTP instead of HTTPS
    #[arg(long)]
    plain: bool,
    /// Directory that keeps the CA across restarts; without it every start creates one
    #[arg(long, value_name = "DIR", conflicts_with = "plain")]
    ca_directory: Option<PathBuf>,
    /// Write the CA certificate to this file [default: `ca.pem` in the CA directory or in a temporary one]
    #[arg(long, value_name = "FILE", conflicts_with = "plain")]
    ca_file: Option<PathBuf>,
    /// Name to have a certificate for beside `localhost`; names below it are included; may be repeated
    #[arg(long = "tls-name", value_name = "NAME", conflicts_with = "plain")]
    tls_names: Vec<String>,
    /// JSON file with rules to start with
    #[arg(long, value_name = "FILE", conflicts_with = "rule")]
    rules: Option<PathBuf>,
    /// One rule, JSON; may be repeated
    #[arg(long, value_name = "JSON")]
    rule: Vec<String>,
    /// Seed of rules with `percent`
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Append one JSON line per request to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Write the URL to this file once listening
    #[arg(long, value_name = "FILE")]
    print_address_to: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(inner) = cause {
                text.push_str(&format!(": {inner}"));
                cause = inner.source();
            }
            // If standard error is closed too, only the exit code remains.
            let _ = writeln!(io::stderr(), "error: {text}");
            ExitCode::FAILURE
        }
    }
}

fn rules(cli: &Cli) -> Result<Option<String>, Failure> {
    if let Some(file) = &cli.rules {
        let text = fs::read_to_string(file)
            .map_err(|error| format!("cannot read the rules `{}`: {error}", file.display()))?;
        return Ok(Some(text));
    }
    let read = |text: &String| {
        serde_json::from_str::<Value>(text)
            .map_err(|error| format!("`--rule` is not JSON: `{text}`: {error}"))
    };
    let rules = cli.rule.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(serde_json::to_string(&rules)?))
}

fn run(cli: Cli) -> Result<(), Failure> {
    let rules = rules(&cli)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before the first line is printed, because its reader may send a signal at once.
    let (mut terminate, mut interrupt) = runtime.block_on(async {
        Ok::<_, io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    })?;
    let running = start(&Options {
        listen: cli.listen,
        upstream: cli.upstream,
        upstream_ca: cli.upstream_ca,
        plain: cli.plain,
        ca_directory: cli.ca_directory,
        ca_file: cli.ca_file,
        tls_names: cli.tls_names,
        rules,
        seed: cli.seed,
        log: cli.log,
    })?;
    let url = running.url();
    if let Some(file) = &cli.print_address_to {
        let beside = file.with_extension("new");
        fs::write(&beside, format!("{url}\n"))
            .and_then(|()| fs::rename(&beside, file))
            .map_err(|error| format!("cannot write `{}`: {error}", file.display()))?;
    }
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {url}")?;
    if let Some(file) = running.ca_file() {
        writeln!(out, "CA certificate: {}", file.display())?;
    }
    out.flush()?;
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    Ok(())
}
