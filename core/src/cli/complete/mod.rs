//! Completes command lines. `build-image completions SHELL` prints a script, which contains the settings of the
//! installed providers; for each completion it runs this program with a hidden command, which runs no provider, never
//! fails, and writes nothing to standard error.
//!
//! ```text
//! line.rs    which word of which command is completed
//! offer.rs   what is offered for it
//! known.rs   runs, providers, and settings
//! script.rs  the scripts for bash, zsh, and fish
//! ```
//!
//! The command gets the words up to the cursor as arguments, and the settings of providers as JSON on standard input. The
//! first line of its output says how the lines after it are used:
//!
//! - `words`: each line is a word, a tab, and its description.
//! - `files|PREFIX|SUFFIXES` or `directories|PREFIX|`: the shell completes a path behind the prefix. The suffixes are separated
//!   by blanks; any file if there are none.

mod known;
mod line;
mod offer;
mod script;

use std::io::{IsTerminal as _, Read as _};

use build_image_plugin_api::Setting;
use serde::{Deserialize, Serialize};

use super::{args, tree};
use crate::settings::{Environment, Row};
use known::Known;
use offer::Offer;

pub(super) use script::text as script;

/// The hidden command that shells run.
pub(super) const VERB: &str = "complete-words";
/// Longest list of settings that is read, in bytes.
const LIMIT: u64 = 4 << 20;

/// A provider's settings, in the scripts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Provider {
    /// Its name.
    pub(super) name: String,
    /// Its settings, with what completions need.
    pub(super) settings: Vec<Setting>,
}

/// Prints what completes the last argument.
pub(super) fn run(args: &[String], environment: &Environment) {
    let Some((current, before)) = args.split_last() else { return };
    let before = args::normalised(before);
    let providers = providers();
    let mut root = tree::whole(&providers);
    root.build();
    let place = line::place(&root, &before);
    let rows: Vec<Row> =
        providers.into_iter().flat_map(|provider| provider.settings).map(Row::new).collect();
    let known = Known { words: &before, rows: &rows, environment };
    super::print_as_is(&text(&offer::offer(&place, current, &known)));
}

/// Reads the settings of providers; none if they cannot be read.
fn providers() -> Vec<Provider> {
    let input = std::io::stdin();
    if input.is_terminal() {
        return Vec::new();
    }
    let mut text = Vec::new();
    let read = input.lock().take(LIMIT).read_to_end(&mut text);
    read.ok().and_then(|_| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Returns the lines for the shell. Words that a shell would have to quote are left out: none of ours needs it.
fn text(offer: &Offer) -> String {
    match offer {
        Offer::Words(words) => {
            let mut text = "words\n".to_owned();
            for (word, about) in words.iter().filter(|(word, _)| is_plain(word)) {
                let about: String = about.chars().filter(|letter| !letter.is_control()).collect();
                text.push_str(&format!("{word}\t{about}\n"));
            }
            text
        }
        Offer::Files(prefix, suffixes) => format!("files|{prefix}|{}\n", suffixes.join(" ")),
        Offer::Directories(prefix) => format!("directories|{prefix}|\n"),
    }
}

/// Whether a word is the same for every shell, quoted or not.
fn is_plain(word: &str) -> bool {
    let legal = |letter: char| letter.is_ascii_alphanumeric() || "-_.,:=@/+".contains(letter);
    !word.is_empty() && word.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_shells_would_read_otherwise_are_left_out() {
        let words = ["run-1", "", "a b", "$(id)", "a\nb", "a;b", "~", "*", "-p", "x=y,z@1:/+_."];
        let offer = Offer::Words(words.map(|word| (word.to_owned(), "a\x1b[31m\tb".into())).into());
        assert_eq!(text(&offer), "words\nrun-1\ta[31mb\n-p\ta[31mb\nx=y,z@1:/+_.\ta[31mb\n");
    }
}
