//! The deeds.

use std::{
    fs, fs::File, io, io::Write as _, os::unix::fs::MetadataExt as _, path::Path, time::Duration,
};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Progress, Resource, Result,
    document::{Build, CheckReport, Finding, UploadRequest},
};

/// Deeds that can be done in every method: `upload-panic`, `drop-hang`…
pub(crate) fn anywhere(method: &str, deed: &str) {
    match deed.strip_prefix(method).and_then(|rest| rest.strip_prefix('-')) {
        Some("panic") => panic!("on purpose, in {method}"),
        Some("exit") => std::process::exit(0),
        Some("vanish") => vanish(),
        Some("abort") => std::process::abort(),
        Some("segfault") => touch_nothing(),
        Some("hang") => {
            // Tests wait for this file.
            let _ = std::fs::write("hanging", method);
            loop {
                std::thread::park();
            }
        }
        Some("prints") => println!("hello from {method}"),
        Some("complains") => eprintln!("warning from {method}"),
        _ => {}
    }
}

/// Ends the process without a word to anybody in it.
fn vanish() {
    unsafe extern "C" {
        fn _exit(code: i32) -> !;
    }
    // SAFETY: as declared by POSIX.
    unsafe { _exit(0) }
}

/// Reads where nothing is.
fn touch_nothing() {
    // SAFETY: there is none; that is the point.
    let byte = unsafe { std::ptr::without_provenance::<u8>(8).read_volatile() };
    println!("{byte}");
}

pub(crate) fn change_variable() {
    // SAFETY: unsound with other threads about, which is why a provider must not.
    unsafe { std::env::set_var("HOSTILE_WAS_HERE", "yes") }
}

pub(crate) fn leave_a_thread() {
    std::thread::spawn(|| {
        loop {
            std::thread::park();
        }
    });
}

/// Deeds before the upload's first byte.
pub(crate) fn during_upload(
    deed: &str,
    context: &Context,
    request: &UploadRequest,
    secret: &str,
) -> Result<()> {
    match deed {
        "secret-error" => {
            let text = format!("the cloud refuses the key {secret}");
            return Err(Error::new(ErrorKind::Auth, text));
        }
        "secret-checkpoint" => context.save("session", &format!("signed in with {secret}"))?,
        "secret-resource" => context.will_create(&Resource::new("session", secret))?,
        "task-panic" => {
            return context.block_on(async {
                let task = tokio::spawn(async { panic!("on purpose, in a task") });
                task.await.map_err(|error| Error::internal("the task ended").caused_by(&error))
            });
        }
        "block-on-panic" => return context.block_on(async { panic!("on purpose, in a future") }),
        "many-threads" => std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for number in 0..500_u32 {
                        tracing::debug!(number, "from a thread");
                        let _ = context.milestone("from a thread");
                        let _ = context.is_cancelled();
                        let _ = context.read_disk(&request.disk, 0, &mut [0; 512]);
                        let _ = context.save("key", &number);
                    }
                });
            }
        }),
        "progress-back" => {
            context.progress_bytes(20, 100);
            context.progress_bytes(10, 100);
        }
        "progress-beyond" => context.progress_bytes(200, 100),
        _ => {}
    }
    Ok(())
}

/// The copy itself; deeds about being asked to stop.
pub(crate) fn copy(
    deed: &str,
    context: &Context,
    request: &UploadRequest,
    file: &mut File,
) -> Result<u64> {
    if !["ignores-cancel", "slow-to-stop"].contains(&deed) {
        return context.copy_disk(&request.disk, file);
    }
    let (mut done, mut buffer) = (0, vec![0; 1 << 20]);
    loop {
        let read = context.read_disk(&request.disk, done, &mut buffer)?;
        done += read as u64;
        file.write_all(&buffer[..read]).map_err(|error| Error::io("cannot write", &error))?;
        context.host().progress(Progress::new(done, request.disk.length_limit));
        if context.is_cancelled() && deed == "slow-to-stop" {
            std::thread::sleep(Duration::from_secs(3));
            return Err(Error::cancelled());
        }
        if read < buffer.len() {
            return Ok(done);
        }
    }
}

/// Tells something after the step has returned.
pub(crate) fn tell_later(context: Context) {
    std::thread::spawn(move || {
        for _ in 0..40 {
            std::thread::sleep(Duration::from_millis(5));
            let _ = context.milestone("still here");
        }
    });
}

/// Which file this is, whatever its name.
pub(crate) fn inode(path: &str) -> io::Result<String> {
    let found = fs::symlink_metadata(path)?;
    Ok(format!("{}:{}:{}.{}", found.dev(), found.ino(), found.mtime(), found.mtime_nsec()))
}

pub(crate) fn is_taken() -> Error {
    Error::new(ErrorKind::Conflict, "the name is taken").with_hint("choose another one")
}

/// Reports a name that is taken.
pub(crate) fn taken(cloud: Option<&str>, build: &Build) -> CheckReport {
    let exists = cloud.is_some_and(|cloud| Path::new(cloud).join(&build.image_name).exists());
    CheckReport::default().findings(exists.then(|| Finding::error("image name", &is_taken())))
}

/// Removes the temporary file, and the finished one when it is the one that was written.
pub(crate) fn remove(deed: &str, resource: &Resource) -> Result<()> {
    let failed = |error: io::Error| Error::io("the file cannot be removed", &error);
    let attribute = |name: &str| resource.attributes.get(name).map(String::as_str);
    let mut paths: Vec<&str> = attribute("temporary").into_iter().collect();
    let ours = inode(&resource.name).ok();
    let by_name = deed == "undo-by-name" || (deed == "forgets-the-inode" && resource.id.is_some());
    let asks = deed == "asks-for-a-look" && resource.id.is_none() && ours.is_some();
    if by_name || (!asks && ours.is_some() && ours.as_deref() == attribute("inode")) {
        paths.push(&resource.name);
    }
    for path in paths {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
    }
    if asks {
        let error = Error::new(ErrorKind::Conflict, "it may be another build's");
        return Err(error.with_hint(format!("look at it: ls -l {}", resource.name)));
    }
    Ok(())
}

/// Creates something and stops only then.
pub(crate) fn begin(context: &Context, request: &UploadRequest) -> Result<()> {
    let path = format!("{}/late", request.build.image_dir.clone().unwrap_or_default());
    context.will_create(&Resource::new("file", &path).with("temporary", &path))?;
    fs::write(&path, "late").map_err(|error| Error::io("cannot write", &error))?;
    Err(Error::cancelled())
}

/// Creates something without a word and stops then.
pub(crate) fn leave_a_file(request: &UploadRequest) -> Result<()> {
    let path = format!("{}/late", request.build.image_dir.clone().unwrap_or_default());
    fs::write(&path, "late").map_err(|error| Error::io("cannot write", &error))?;
    Err(Error::cancelled())
}
