//! The deeds.

use std::{fs::File, io::Write as _, time::Duration};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Progress, Result, document::UploadRequest,
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
        "task-panic" => {
            return context.block_on(async {
                let task = tokio::spawn(async { panic!("on purpose, in a task") });
                task.await.map_err(|error| Error::internal("the task ended").because(&error))
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
        context.host().progress(Progress { done, total: request.disk.length_limit, ..Progress::default() });
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
