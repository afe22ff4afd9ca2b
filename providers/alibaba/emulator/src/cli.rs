//! Parses the arguments and runs the commands. Results go to standard output, errors to standard error.

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use build_image_emulator_alibaba::{
    Account, BucketSeed, Config, Running, StateDir, Stored, Tls, chain, start,
};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

type Failure = Box<dyn std::error::Error>;

/// A local OSS + ECS + STS + RAM for demos and tests.
#[derive(Debug, Parser)]
#[command(name = "build-image-emulator-alibaba", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT; prints `listening on http://ADDRESS`, with --tls
    /// `listening on https://ADDRESS` and `CA certificate: FILE`; then the address of its web page
    Serve(Box<Serve>),
    /// List the images in a state directory, one JSON object per line
    Images(StateArgument),
    /// Write an image's system disk as a sparse raw disk
    ExportImage {
        /// Image id (m-…)
        id: String,
        /// File to write; replaced when it exists
        dest: PathBuf,
        #[command(flatten)]
        state: StateArgument,
    },
    /// Print how many objects, open uploads, images, snapshots and tasks there are, as JSON
    Status(StateArgument),
}

#[derive(Debug, Args)]
struct StateArgument {
    /// State directory of the emulator
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
}

#[derive(Debug, Args)]
struct Serve {
    /// Address to listen on; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Listen on this port of 127.0.0.1; 0 lets the kernel choose
    #[arg(long, value_name = "N", conflicts_with = "listen")]
    port: Option<u16>,
    /// Serve HTTPS with a new CA; clients trust the file that is printed
    #[arg(long)]
    tls: bool,
    /// Write the CA certificate to this file [default: `ca.pem` in the state directory]
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca_file: Option<PathBuf>,
    /// Name to have a certificate for, beside `localhost`, 127.0.0.1, `::1` and names below `localhost`; names
    /// below it are included; may be repeated
    #[arg(long = "tls-name", value_name = "NAME", requires = "tls")]
    tls_names: Vec<String>,
    /// Permit an address that is not loopback: whoever knows a key pair may do everything
    #[arg(long)]
    listen_anywhere_insecure: bool,
    /// Directory for state that survives a restart
    #[arg(long, value_name = "DIR", required_unless_present = "in_memory")]
    state: Option<PathBuf>,
    /// Keep state in a temporary directory, removed at the end
    #[arg(long, conflicts_with = "state")]
    in_memory: bool,
    /// Region of buckets that name none
    #[arg(long, value_name = "REGION", default_value = "cn-hangzhou")]
    region: String,
    /// Bucket to have from the start; may be repeated
    #[arg(long = "bucket", value_name = "NAME[:REGION]", value_parser = BucketSeed::parse)]
    buckets: Vec<BucketSeed>,
    /// Key pair that may call; may be repeated [default: emulator-id:emulator-secret]
    #[arg(long = "access-key", value_name = "ID:SECRET[:TOKEN]", value_parser = Account::parse)]
    access_keys: Vec<Account>,
    /// How long an image import takes; 0: finished when ImportImage answers
    #[arg(long, value_name = "N", default_value_t = 0)]
    import_seconds: u32,
    /// The role that lets ECS read buckets does not exist
    #[arg(long)]
    no_import_role: bool,
    /// How long a policy attached to a role takes to be in force
    #[arg(long, value_name = "N", default_value_t = 0)]
    role_seconds: u32,
    /// Longest time temporary keys are good for, whatever was asked
    #[arg(long, value_name = "N")]
    session_seconds: Option<u32>,
    /// The metadata service wants a token (its version 2 only)
    #[arg(long)]
    no_metadata_v1: bool,
    /// Most images per region
    #[arg(long, value_name = "N", default_value_t = 100)]
    image_quota: usize,
    /// Refuse OSS V1 signatures, as the real service does for new accounts
    #[arg(long)]
    refuse_v1: bool,
    /// Make the ETags of parts of CRC-64 and length instead of MD5, which is slow to take
    #[arg(long)]
    fast_etags: bool,
    /// Write the URL, `http://ADDRESS` or `https://ADDRESS`, to this file once listening
    #[arg(long, value_name = "FILE")]
    print_address_to: Option<PathBuf>,
    /// Append one JSON line per request to this file
    #[arg(long, value_name = "FILE")]
    log_requests: Option<PathBuf>,
    /// Fault rules (a JSON list) to start with
    #[arg(long, value_name = "FILE")]
    fault: Option<PathBuf>,
    /// One fault rule (a JSON object) to start with, after those of the file; may be repeated
    #[arg(long = "fault-rule", value_name = "JSON")]
    fault_rules: Vec<String>,
}

/// Parses the arguments, runs the command, and reports errors.
pub(crate) fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(arguments) => serve(*arguments),
        Command::Images(argument) => images(&argument),
        Command::ExportImage { id, dest, state } => Stored::open(&state.state)
            .map_err(Failure::from)
            .and_then(|stored| stored.export(&id, &dest).map_err(Failure::from)),
        Command::Status(argument) => Stored::open(&argument.state)
            .map_err(Failure::from)
            .and_then(|stored| say(&stored.status().to_string())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed as well, only the exit code reports the failure.
            let _ = writeln!(io::stderr(), "error: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes())?;
    out.flush()?;
    Ok(())
}

fn images(argument: &StateArgument) -> Result<(), Failure> {
    for image in Stored::open(&argument.state)?.images() {
        say(&serde_json::to_string(&image)?)?;
    }
    Ok(())
}

fn read_rules(path: &PathBuf) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| {
        format!("cannot read the fault rules `{}`: {error}", path.display()).into()
    })
}

/// The rules of the file and those of the command line, as one list.
fn all_rules(file: Option<&PathBuf>, more: &[String]) -> Result<Option<String>, Failure> {
    let text = file.map(read_rules).transpose()?;
    if more.is_empty() {
        return Ok(text);
    }
    let text = text.unwrap_or_else(|| "[]".to_owned());
    let mut rules: Vec<serde_json::Value> = serde_json::from_str(&text)
        .map_err(|error| format!("the fault rules are not a JSON list of rules: {error}"))?;
    for rule in more {
        let rule = serde_json::from_str(rule)
            .map_err(|error| format!("`--fault-rule` is no JSON object: `{rule}`: {error}"))?;
        rules.push(rule);
    }
    Ok(Some(serde_json::to_string(&rules)?))
}

fn config(arguments: Serve) -> Result<Config, Failure> {
    let defaults = Config::default();
    let seconds = |count: u32| Duration::from_secs(count.into());
    Ok(Config {
        listen: arguments.port.map_or(arguments.listen, |port| ([127, 0, 0, 1], port).into()),
        listen_anywhere: arguments.listen_anywhere_insecure,
        tls: arguments
            .tls
            .then_some(Tls { ca_file: arguments.ca_file, names: arguments.tls_names }),
        state: arguments.state.map_or(StateDir::Temporary, StateDir::Kept),
        region: arguments.region,
        buckets: arguments.buckets,
        accounts: if arguments.access_keys.is_empty() {
            defaults.accounts
        } else {
            arguments.access_keys
        },
        other_accounts: defaults.other_accounts,
        import_time: seconds(arguments.import_seconds),
        import_role: !arguments.no_import_role,
        role_time: seconds(arguments.role_seconds),
        session_time: arguments.session_seconds.map(seconds),
        metadata_v1: !arguments.no_metadata_v1,
        image_quota: arguments.image_quota,
        allow_v1: !arguments.refuse_v1,
        fast_etags: arguments.fast_etags,
        log_requests: arguments.log_requests,
        faults: all_rules(arguments.fault.as_ref(), &arguments.fault_rules)?,
    })
}

fn serve(arguments: Serve) -> Result<(), Failure> {
    let address_file = arguments.print_address_to.clone();
    let config = config(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before the first line is printed: its reader may send a signal at once.
    let (mut terminate, mut interrupt) = runtime.block_on(async {
        Ok::<_, io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    })?;
    let running = start(config)?;
    announce(&running, address_file.as_ref())?;
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    running.shutdown();
    Ok(())
}

fn announce(running: &Running, file: Option<&PathBuf>) -> Result<(), Failure> {
    let address = running.url();
    if !running.address().ip().is_loopback() {
        writeln!(
            io::stderr(),
            "warning: `{}` can be reached from other machines, and this program has no \
             permissions{}: whoever knows a key pair may do everything",
            running.address(),
            if running.ca_file().is_some() { "" } else { " and no TLS" }
        )?;
    }
    if let Some(file) = file {
        let beside = file.with_extension("new");
        fs::write(&beside, format!("{address}\n"))
            .and_then(|()| fs::rename(&beside, file))
            .map_err(|error| format!("cannot write `{}`: {error}", file.display()))?;
    }
    let mut lines = vec![format!("listening on {address}")];
    lines.extend(running.ca_file().map(|file| format!("CA certificate: {}", file.display())));
    lines.extend(running.page().map(|page| format!("web page: {page}")));
    // In one write: a reader of the first line may close the pipe then.
    say(&lines.join("\n"))
}
