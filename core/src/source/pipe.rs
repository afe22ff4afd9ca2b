//! Reads a disk from standard input. It is unpacked while it arrives, to a file without a name, which the kernel removes
//! when this process ends, however that happens.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read},
    ops::ControlFlow,
    path::Path,
    sync::Arc,
};

use build_image_disk::{
    format::GuestReader,
    packed::{Piped, read_stream},
};
use build_image_plugin_api::Progress;
use bytes::{Buf as _, Bytes};
use indicatif::HumanBytes;
use tokio::sync::mpsc::{Receiver, channel};

use super::{
    SourceContext,
    disk::{self, GivenDisk, Opened, Workplace},
    not_accepted,
    verify::{Subject, Verifier},
};
use crate::{
    error::{Error, Result, Stage},
    interrupt::Interrupt,
    plan,
    settings::{Resolved, keys},
    signature::{Algorithm, Pass},
};

/// Names standard input in messages, and the disk from it.
pub(super) const STDIN_FILE: &str = "/dev/stdin";
/// Most bytes that are read at once; pipes usually hold 64 KiB.
const PIECE: usize = 256 << 10;
/// Pieces that wait while earlier ones are unpacked.
const WAITING: usize = 16;

/// Refuses settings that need a file with a name. A plan and a build check them before anything is read.
///
/// # Errors
/// Names the setting.
pub(super) fn check_settings(settings: &Resolved) -> Result<()> {
    let set = &settings.core().signatures;
    let refused = |text: String, hint: String| Err(Error::new(Stage::Settings, text).hint(hint));
    if set.disk_sums.is_some() {
        let key = keys::DISK_SHA256SUMS;
        let text = format!("{key} is set, but a disk from standard input has no name to look up");
        return refused(text, format!("set {} instead", keys::DISK_SHA256));
    }
    if set.disk_key.is_some() && set.disk_signature.is_none() {
        let (key, signature) = (keys::DISK_SIG_PUBLIC_KEY, keys::DISK_SIG);
        let text = format!("{key} is set, but no signature is beside standard input");
        return refused(text, format!("name it with {signature}, or leave {key} out"));
    }
    Ok(())
}

/// Refuses a terminal: a disk that is typed is a mistake, and the build would wait for it forever.
///
/// # Errors
/// [`Stage::Source`].
pub(super) fn refuse_terminal() -> Result<()> {
    if !io::stdin().is_terminal() {
        return Ok(());
    }
    let text = format!("{} is `-`, but standard input is a terminal", keys::DISK);
    Err(Error::new(Stage::Source, text)
        .hint("pipe the disk into build-image, as in `curl URL | build-image --disk - ...`"))
}

/// Reads the disk, verifies what was read, and opens it.
///
/// # Errors
/// As [`disk::open`]; when standard input cannot be read, or the build is interrupted.
pub(super) fn open(context: &SourceContext<'_>, verifier: &Verifier<'_, '_>) -> Result<GivenDisk> {
    let (path, source) = (Path::new(STDIN_FILE), &context.settings.core().source);
    let workplace = Workplace::make(&plan::base_directory(context.settings)?)?;
    context.reporter.begin("unpack", "reading the disk from standard input");
    let mut algorithms = verifier.algorithms(keys::DISK_SHA256.name());
    // Identifies the disk when the run is resumed.
    algorithms.push(Algorithm::Sha256);
    let pass = Pass::new(&algorithms)?;
    let (mut done, mut digest_error) = (0, None);
    let mut seen = |piece: &[u8]| {
        done += piece.len() as u64;
        context.reporter.progress(Progress::new(done, 0));
        digest_error = pass.update(piece.to_vec()).err();
        if digest_error.is_some() || context.interrupt.is_set() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let pipe = Pipe::start(context.interrupt).map_err(|error| cannot_read(&error))?;
    let member = source.disk_member.as_deref();
    let read = read_stream(pipe, path, &workplace.directory, member, &mut seen);
    context.reporter.clear();
    context.interrupt.check()?;
    if let Some(error) = digest_error {
        return Err(error);
    }
    let Piped { wrapping, file, allocated: occupied, member, machine } =
        read.map_err(|error| disk::not_unpacked(path, error))?;
    let from = member.map(|member| format!("`{member}` of ")).unwrap_or_default();
    let summary = disk::summary(machine.as_ref());
    context.reporter.end(&format!("{from}{} read{summary}", HumanBytes(done)));
    let digests = pass.finish()?;
    let piped = digests.hex(Algorithm::Sha256);
    let (signature, sha256) = (keys::DISK_SIG.name(), keys::DISK_SHA256.name());
    verifier.check_read(&Subject { signature, sha256, path, url: None, listed: None }, digests)?;
    let reader = GuestReader::open_file(file, source.disk_format)
        .map_err(|error| not_accepted(path, error))?;
    let workplace = Some(Arc::new(workplace));
    Opened { reader, occupied, workplace, machine, piped }.judged(context, path, wrapping)
}

fn cannot_read(error: &io::Error) -> Error {
    Error::new(Stage::Source, "cannot read standard input").caused_by(error)
}

/// Standard input, whose reads end when the build is interrupted. Another thread reads it: a read of a pipe ends only when
/// its other end writes or closes it.
struct Pipe<'a> {
    interrupt: &'a Interrupt,
    runtime: tokio::runtime::Runtime,
    pieces: Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl<'a> Pipe<'a> {
    fn start(interrupt: &'a Interrupt) -> io::Result<Self> {
        let file = File::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?);
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let (sender, pieces) = channel(WAITING);
        // It is not joined: after an interrupt its read may never end.
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            loop {
                let piece = read_piece(&file);
                let is_last = !matches!(&piece, Ok(piece) if !piece.is_empty());
                if sender.blocking_send(piece).is_err() || is_last {
                    break;
                }
            }
        })?;
        Ok(Self { interrupt, runtime, pieces, piece: Bytes::new() })
    }
}

/// Reads what arrives next; an empty piece is the end.
fn read_piece(mut file: &File) -> io::Result<Bytes> {
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(len) => {
                piece.truncate(len);
                return Ok(piece.into());
            }
        }
    }
}

impl Read for Pipe<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            let (pieces, interrupt) = (&mut self.pieces, self.interrupt);
            self.piece = self.runtime.block_on(async {
                tokio::select! {
                    piece = pieces.recv() => piece.unwrap_or_else(|| Ok(Bytes::new())),
                    () = interrupt.cancelled() => Err(io::Error::other("interrupted")),
                }
            })?;
        }
        let len = self.piece.len().min(buf.len());
        self.piece.copy_to_slice(&mut buf[..len]);
        Ok(len)
    }
}
