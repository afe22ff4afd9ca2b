//! Provides the time that requests are signed with: this machine's, corrected by the `Date` of a server that
//! refused it.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{Timestamp, ToSpan};

/// A `Date` before this is ignored: 2024-01-01.
const PLAUSIBLE_FROM: i64 = 1_704_067_200;

/// A clock with a correction, shared by all requests to one service.
#[derive(Default)]
pub(crate) struct Clock {
    /// Seconds added to this machine's time.
    offset: AtomicI64,
    /// Seconds the server was ahead in its last answer.
    seen: AtomicI64,
}

impl Clock {
    /// Time to sign with.
    pub(crate) fn now(&self) -> Timestamp {
        let offset = self.offset.load(Ordering::Relaxed);
        let now = Timestamp::now();
        now.checked_add(offset.seconds()).unwrap_or(now)
    }

    /// Records a `Date` header. Returns whether it was plausible.
    pub(crate) fn note(&self, date: &str) -> bool {
        let Ok(server) = jiff::fmt::rfc2822::parse(date) else { return false };
        let server = server.timestamp().as_second();
        if server < PLAUSIBLE_FROM {
            return false;
        }
        self.seen.store(server - Timestamp::now().as_second(), Ordering::Relaxed);
        true
    }

    /// Seconds the server was ahead of this machine in its last answer.
    pub(crate) fn skew(&self) -> i64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Uses the server's time from now on.
    pub(crate) fn follow(&self) {
        self.offset.store(self.skew(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_time_is_used_only_on_request() {
        let clock = Clock::default();
        let ahead = Timestamp::now().checked_add(2.hours()).unwrap();
        let date = ahead.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        assert!(clock.note(&date));
        assert!(clock.now() < ahead.checked_sub(1.hours()).unwrap());
        clock.follow();
        assert!(clock.now() > ahead.checked_sub(1.minutes()).unwrap());
    }

    #[test]
    fn an_absurd_date_is_not_believed() {
        let clock = Clock::default();
        assert!(!clock.note("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert!(!clock.note("yesterday"));
        assert_eq!(clock.skew(), 0);
    }
}
