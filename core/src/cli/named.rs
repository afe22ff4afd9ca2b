//! Builds with a name, which are made once: see [`Once`].

use std::sync::Arc;

use super::{
    build::{Prepared, Resumed},
    runs,
};
use crate::{
    error::Result,
    journal::Key,
    once::{self, Before, Once},
    report::Outcome,
    runs::{Run, State},
    settings::Environment,
};

/// What a build with a name begins with.
pub(super) enum Entered {
    /// It begins, or resumes a run; the name is locked. `None`: it has no name.
    Begins(Option<Box<Once>>),
    /// A run under its name is to be resumed.
    Unfinished(Box<Run>),
    /// It is done.
    Done(Box<Outcome>),
}

/// Locks the name that the settings give, and looks for what was built under it.
///
/// # Errors
/// When another process builds under it; when it was built with other settings; when its run is not this user's, or may
/// be at work on another host.
pub(super) fn enter(
    prepared: &Prepared,
    environment: &Environment,
    resumed: Option<&Resumed>,
) -> Result<Entered> {
    let settings = &prepared.settings;
    let given = settings.core().run.once.as_ref();
    if given.is_none() && resumed.is_none() {
        return Ok(Entered::Begins(None));
    }
    let (base, key) = (runs::base(settings), Arc::new(Key::of(settings, environment)?));
    // A name that only the environment had is not among the words of the run.
    let found = resumed.and_then(|resumed| once::name_of(&base, &resumed.run.id, &key));
    let Some(name) = given.or(found.as_ref()) else { return Ok(Entered::Begins(None)) };
    let once = Box::new(Once::open(name, &base, &key)?);
    if let Some(resumed) = resumed {
        once.belongs_to(&resumed.run)?;
        return Ok(Entered::Begins(Some(once)));
    }
    let request = once::request(settings, &prepared.plugin.rows())?;
    Ok(match once.before(&base, &request, &key)? {
        Before::Nothing => Entered::Begins(Some(once)),
        Before::Done(outcome) => Entered::Done(outcome),
        Before::Unfinished(run) if run.untrusted.is_some() => return Err(run.not_trusted()),
        Before::Unfinished(run) => {
            let run = run.with_shared_locks(settings.core().publication.shared_locks);
            if run.state == State::Elsewhere {
                return Err(run.is_elsewhere());
            }
            Entered::Unfinished(Box::new(run))
        }
    })
}

/// Records which run builds under the name.
///
/// # Errors
/// When it cannot be recorded.
pub(super) fn begin(
    once: Option<Box<Once>>,
    prepared: &Prepared,
    run_id: &str,
    is_resumed: bool,
) -> Result<Option<Box<Once>>> {
    let Some(mut once) = once else { return Ok(None) };
    if !is_resumed {
        once.begin(run_id, once::request(&prepared.settings, &prepared.plugin.rows())?)?;
    }
    Ok(Some(once))
}
