//! The end of a process that holds plugins. One that calls `exit(0)` would look like a success to whoever
//! started the host: the host is asked what to say and which code to end with.

use std::{
    ffi::c_int,
    sync::{Mutex, Once, PoisonError},
};

/// What the host says of an end that is not its own; returns the exit code.
pub type Unexpected = fn() -> u8;

static UNEXPECTED: Mutex<Option<Unexpected>> = Mutex::new(None);

#[expect(unsafe_code, reason = "the C library is the only one who knows that a process ends")]
// SAFETY: as declared by POSIX.1-2024, atexit() and _exit(); both may be called at any time.
unsafe extern "C" {
    safe fn atexit(handler: extern "C" fn()) -> c_int;
    safe fn _exit(status: c_int) -> !;
}

/// From now on an end of this process by exit(3) is unexpected, until [`expect_end`] is called. Ends
/// without it (a signal, `_exit`) cannot be noticed from inside.
pub fn watch_end(unexpected: Unexpected) {
    static HANDLER: Once = Once::new();
    *UNEXPECTED.lock().unwrap_or_else(PoisonError::into_inner) = Some(unexpected);
    HANDLER.call_once(|| {
        // It fails when memory is out; the end is not watched then.
        let _ = atexit(at_exit);
    });
}

/// The host ends itself now.
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
