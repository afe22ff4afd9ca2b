//! Chooses how progress is reported: for people at a terminal, for people who read a log, for programs, or not
//! at all.

use std::io::IsTerminal as _;

use crate::settings::{Environment, ProgressMode, Resolved};

/// The format of everything on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputMode {
    /// Lines, and a progress bar.
    Terminal {
        /// Whether important words are coloured (<https://no-color.org>).
        color: bool,
    },
    /// Lines only, with a heartbeat during a step.
    #[default]
    Plain,
    /// One JSON document per line; `docs/progress.md` describes them.
    Json,
    /// Warnings and errors only.
    None,
}

impl OutputMode {
    /// The mode that the settings request.
    #[must_use]
    pub fn of(settings: &Resolved, environment: &Environment) -> Self {
        let set = &settings.core().output;
        match set.progress {
            ProgressMode::Json => Self::Json,
            ProgressMode::None => Self::None,
            _ if set.quiet => Self::None,
            ProgressMode::Plain => Self::Plain,
            ProgressMode::Auto => Self::of_stderr(environment),
        }
    }

    /// The mode that suits standard error.
    #[must_use]
    pub fn of_stderr(environment: &Environment) -> Self {
        let able = environment.get("TERM").is_some_and(|kind| kind != "dumb");
        if able && std::io::stderr().is_terminal() {
            Self::Terminal { color: environment.get("NO_COLOR").is_none() }
        } else {
            Self::Plain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Layers, Use, rows_for};

    #[test]
    fn settings_decide_the_output_mode() {
        let none = Environment::default();
        for (typed, mode) in [
            (&[("PROGRESS", "json")][..], OutputMode::Json),
            (&[("PROGRESS", "json"), ("QUIET", "true")], OutputMode::Json),
            (&[("PROGRESS", "plain")], OutputMode::Plain),
            (&[("PROGRESS", "plain"), ("QUIET", "true")], OutputMode::None),
            (&[("PROGRESS", "none")], OutputMode::None),
            (&[("QUIET", "true")], OutputMode::None),
            // Without TERM, standard error is not treated as a terminal.
            (&[], OutputMode::Plain),
            (&[("PROGRESS", "auto")], OutputMode::Plain),
        ] {
            let typed = typed.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
            let layers = Layers { command_line: typed.collect(), ..Layers::default() };
            let settings = layers.resolve(&rows_for(Use::Report)).unwrap();
            assert_eq!(OutputMode::of(&settings, &none), mode, "{layers:?}");
        }
    }
}
