//! Chooses how progress is reported: for people at a terminal, for people who read a log, for programs, or not
//! at all.

use std::io::IsTerminal as _;

use crate::settings::{ColorMode, Environment, ProgressMode, Resolved};

/// The format of everything on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputMode {
    /// Lines, and a progress bar.
    Terminal {
        /// Whether important words are coloured.
        color: bool,
    },
    /// Lines only, with a heartbeat during a step.
    Plain {
        /// Whether important words are coloured.
        color: bool,
    },
    /// One JSON document per line; `docs/progress.md` describes them.
    Json,
    /// Warnings and errors only.
    None,
}

impl Default for OutputMode {
    fn default() -> Self {
        Self::PLAIN
    }
}

impl OutputMode {
    /// Lines without colour.
    pub const PLAIN: Self = Self::Plain { color: false };

    /// The mode that the settings request.
    #[must_use]
    pub fn of(settings: &Resolved, environment: &Environment) -> Self {
        let set = &settings.core().output;
        match set.progress {
            ProgressMode::Json => Self::Json,
            ProgressMode::None => Self::None,
            _ if set.quiet => Self::None,
            ProgressMode::Plain => Self::Plain { color: is_colored(set.color, environment, false) },
            ProgressMode::Auto => Self::suiting(set.color, environment),
        }
    }

    /// Returns whether important words are coloured.
    #[must_use]
    pub fn has_color(self) -> bool {
        matches!(self, Self::Terminal { color: true } | Self::Plain { color: true })
    }

    /// Returns whether standard output is coloured.
    pub(crate) fn colors_stdout(settings: &Resolved, environment: &Environment) -> bool {
        let able = environment.get("TERM").is_some_and(|kind| kind != "dumb");
        let is_terminal = able && std::io::stdout().is_terminal();
        is_colored(settings.core().output.color, environment, is_terminal)
    }

    /// The mode that suits standard error.
    #[must_use]
    pub fn of_stderr(environment: &Environment) -> Self {
        Self::suiting(ColorMode::Auto, environment)
    }

    fn suiting(color: ColorMode, environment: &Environment) -> Self {
        let able = environment.get("TERM").is_some_and(|kind| kind != "dumb");
        let is_terminal = able && std::io::stderr().is_terminal();
        let color = is_colored(color, environment, is_terminal);
        if is_terminal { Self::Terminal { color } } else { Self::Plain { color } }
    }
}

/// Decides about colour; `NO_COLOR` (<https://no-color.org>) takes precedence over `CLICOLOR_FORCE`
/// (<https://bixense.com/clicolors>).
fn is_colored(mode: ColorMode, environment: &Environment, is_terminal: bool) -> bool {
    match mode {
        ColorMode::Always => true,
        ColorMode::Never => false,
        ColorMode::Auto if environment.get("NO_COLOR").is_some() => false,
        ColorMode::Auto => {
            is_terminal || environment.get("CLICOLOR_FORCE").is_some_and(|value| value != "0")
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
            (&[("PROGRESS", "plain")], OutputMode::PLAIN),
            (&[("PROGRESS", "plain"), ("QUIET", "true")], OutputMode::None),
            (&[("PROGRESS", "none")], OutputMode::None),
            (&[("QUIET", "true")], OutputMode::None),
            // Without TERM, standard error is not treated as a terminal.
            (&[], OutputMode::PLAIN),
            (&[("PROGRESS", "auto")], OutputMode::PLAIN),
        ] {
            let typed = typed.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
            let layers = Layers { command_line: typed.collect(), ..Layers::default() };
            let settings = layers.resolve(&rows_for(Use::Report)).unwrap();
            assert_eq!(OutputMode::of(&settings, &none), mode, "{layers:?}");
        }
    }

    #[test]
    fn colour_follows_the_setting_then_the_environment_then_the_terminal() {
        use ColorMode::{Always, Auto, Never};
        let (no, force) = (("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1"));
        for (mode, variables, is_terminal, expected) in [
            (Auto, [no, force], true, false),
            (Auto, [("X", "1"), force], false, true),
            (Auto, [("X", "1"), ("CLICOLOR_FORCE", "0")], false, false),
            (Auto, [("X", "1"), ("Y", "1")], true, true),
            (Auto, [("X", "1"), ("Y", "1")], false, false),
            (Always, [no, ("X", "1")], false, true),
            (Never, [force, ("X", "1")], true, false),
        ] {
            let environment = Environment::of(variables);
            let found = is_colored(mode, &environment, is_terminal);
            assert_eq!(found, expected, "{mode:?} {variables:?} {is_terminal}");
        }
    }
}
