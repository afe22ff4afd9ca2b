//! Reads the disk within limits. Every read counts; when a limit is reached, all later reads fail at once, so that
//! an inspection ends however hostile the disk is.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use build_image_disk::{Error, GuestReader};

/// What an inspection may use at most.
#[derive(Clone)]
pub struct Limits {
    /// Wall time.
    pub time: Duration,
    /// Bytes that are read from the disk.
    pub read: u64,
    /// Bytes that are unpacked from compressed files.
    pub unpacked: u64,
    /// Number of reads, directory entries, and archive members.
    pub steps: u64,
    /// Asked between reads; `true` ends the inspection.
    pub cancelled: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(20),
            read: 2 << 30,
            unpacked: 4 << 30,
            steps: 10_000_000,
            cancelled: Arc::new(|| false),
        }
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, read, unpacked, steps, cancelled: _ } = self;
        write!(f, "Limits({time:?}, {read} read, {unpacked} unpacked, {steps} steps)")
    }
}

/// Why something inside the disk could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not exist.
    Missing,
    /// It exists, but cannot be read; the text is the reason.
    Damaged(String),
    /// The inspection ended early; [`Source::stopped`] has the reason.
    Stopped,
}

impl Fault {
    pub(crate) fn damaged(why: impl Into<String>) -> Self {
        Self::Damaged(why.into())
    }
}

/// The reason why an inspection ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The disk could not be read.
    Failed(Error),
    /// A limit was reached; the text names it.
    Limit(String),
    /// The caller cancelled the inspection.
    Cancelled,
}

/// The disk with what has been used of the limits. Clones share both.
#[derive(Clone)]
pub(crate) struct Source(Rc<Inner>);

struct Inner {
    /// Absent when one file is read that is not on a disk.
    disk: Option<GuestReader>,
    limits: Limits,
    begun: Instant,
    read: Cell<u64>,
    unpacked: Cell<u64>,
    steps: Cell<u64>,
    stop: RefCell<Option<Stop>>,
}

impl Source {
    pub(crate) fn new(disk: Option<GuestReader>, limits: Limits) -> Self {
        let zero = || Cell::new(0);
        let (read, unpacked, steps) = (zero(), zero(), zero());
        let begun = Instant::now();
        Self(Rc::new(Inner { disk, limits, begun, read, unpacked, steps, stop: None.into() }))
    }

    /// Returns the size of the disk in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.0.disk.as_ref().map_or(0, GuestReader::virtual_size)
    }

    /// Fills `buf` from offset `at` of the disk.
    pub(crate) fn read(&self, buf: &mut [u8], at: u64) -> Result<(), Fault> {
        let (inner, len) = (&*self.0, buf.len() as u64);
        self.count(&inner.read, len, inner.limits.read, "bytes read")?;
        self.step()?;
        let Some(disk) = &inner.disk else { return Err(Fault::Missing) };
        match disk.read_at(buf, at) {
            Ok(got) if got == buf.len() => Ok(()),
            Ok(_) => Err(Fault::damaged("it refers to bytes behind the end of the disk")),
            Err(error) => Err(self.stop(Stop::Failed(error))),
        }
    }

    /// Counts unpacked bytes.
    pub(crate) fn unpacked(&self, bytes: u64) -> Result<(), Fault> {
        let inner = &*self.0;
        self.count(&inner.unpacked, bytes, inner.limits.unpacked, "bytes unpacked")?;
        self.in_time()
    }

    /// Counts one step.
    pub(crate) fn step(&self) -> Result<(), Fault> {
        let inner = &*self.0;
        self.count(&inner.steps, 1, inner.limits.steps, "steps")?;
        self.in_time()
    }

    fn in_time(&self) -> Result<(), Fault> {
        let limits = &self.0.limits;
        if self.0.begun.elapsed() > limits.time {
            let text = format!("{} seconds", limits.time.as_secs());
            return Err(self.stop(Stop::Limit(text)));
        }
        if (limits.cancelled)() {
            return Err(self.stop(Stop::Cancelled));
        }
        Ok(())
    }

    fn count(&self, used: &Cell<u64>, more: u64, limit: u64, what: &str) -> Result<(), Fault> {
        if self.0.stop.borrow().is_some() {
            return Err(Fault::Stopped);
        }
        used.set(used.get().saturating_add(more));
        if used.get() > limit {
            return Err(self.stop(Stop::Limit(format!("{limit} {what}"))));
        }
        Ok(())
    }

    fn stop(&self, why: Stop) -> Fault {
        self.0.stop.borrow_mut().get_or_insert(why);
        Fault::Stopped
    }

    /// Returns whether the inspection ended early.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.stop.borrow().is_some()
    }

    /// Takes the reason why the inspection ended early.
    pub(crate) fn take_stop(&self) -> Option<Stop> {
        self.0.stop.borrow_mut().take()
    }
}
