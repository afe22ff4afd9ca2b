//! Watches the end of a process that has loaded plugins. A plugin that calls `exit(0)` would look like a success
//! to the caller of the host: therefore the host decides the message and the exit code.

use std::{
    ffi::c_int,
    sync::{Mutex, Once, PoisonError},
};

/// Reports an exit that the host did not start; returns the exit code.
pub type Unexpected = fn() -> u8;

static UNEXPECTED: Mutex<Option<Unexpected>> = Mutex::new(None);

#[expect(unsafe_code, reason = "only the C library knows that a process ends")]
// SAFETY: as declared by POSIX.1-2024, atexit() and _exit(); both may be called at any time.
unsafe extern "C" {
    safe fn atexit(handler: extern "C" fn()) -> c_int;
    safe fn _exit(status: c_int) -> !;
}

/// Treats an end of this process by exit(3) as unexpected until [`expect_end`] is called. Ends without exit(3) (a
/// signal, `_exit`) cannot be noticed from inside the process.
pub fn watch_end(unexpected: Unexpected) {
    static HANDLER: Once = Once::new();
    *UNEXPECTED.lock().unwrap_or_else(PoisonError::into_inner) = Some(unexpected);
    HANDLER.call_once(|| {
        // Fails when memory is exhausted; then the end is not watched.
        let _ = atexit(at_exit);
    });
}

/// Declares that the host is about to exit.
pub fn expect_end() {
    UNEXPECTED.lock().unwrap_or_else(PoisonError::into_inner).take();
}

extern "C" fn at_exit() {
    let unexpected = UNEXPECTED.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(unexpected) = unexpected {
        let code = unexpected();
        _exit(c_int::from(code));
    }
}
