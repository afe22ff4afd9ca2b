//! Finds which word of which command is completed. Mistakes in the words before it are passed over.

use clap::{Arg, Command};

/// The place of the cursor.
pub(super) struct Place<'a> {
    /// The commands that were named, the outermost first.
    pub(super) path: Vec<&'a str>,
    /// The last of them, or the build.
    pub(super) command: &'a Command,
    /// Number of arguments of that command that are not flags.
    pub(super) positionals: usize,
    /// The last of these arguments.
    pub(super) last: Option<&'a str>,
    /// The flag whose value is completed.
    pub(super) pending: Option<&'a Arg>,
    /// Flags that were given, by their ids.
    pub(super) given: Vec<&'a str>,
    /// Whether flags may follow: no `--` was given.
    pub(super) flags: bool,
    /// Whether it is the first word.
    pub(super) is_first: bool,
}

/// Finds the place behind these words.
pub(super) fn place<'a>(root: &'a Command, words: &'a [String]) -> Place<'a> {
    let mut place = Place {
        path: Vec::new(),
        command: root,
        positionals: 0,
        last: None,
        pending: None,
        given: Vec::new(),
        flags: true,
        is_first: words.is_empty(),
    };
    for (index, word) in words.iter().enumerate() {
        if place.pending.take().is_some() {
            continue;
        }
        if place.flags && word == "--" {
            place.flags = false;
        } else if place.flags && word.starts_with('-') && word.len() > 1 {
            take_flag(&mut place, word);
        } else {
            take_word(&mut place, word, index);
        }
    }
    place
}

/// Takes a flag, or several short ones.
fn take_flag<'a>(place: &mut Place<'a>, word: &'a str) {
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) =
            long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        if let Some(arg) = by_long(place.command, name) {
            place.given.push(arg.get_id().as_str());
            place.pending = Some(arg).filter(|arg| value.is_none() && takes_next_word(arg));
        }
        return;
    }
    for (index, letter) in word.char_indices().skip(1) {
        let Some(arg) = place.command.get_arguments().find(|arg| arg.get_short() == Some(letter))
        else {
            return;
        };
        place.given.push(arg.get_id().as_str());
        if takes_next_word(arg) {
            // Otherwise the rest of the word is its value.
            let is_last = index + letter.len_utf8() == word.len();
            place.pending = Some(arg).filter(|_| is_last);
            return;
        }
    }
}

/// Takes a command or an argument. The commands of the root are recognised in the first place only.
fn take_word<'a>(place: &mut Place<'a>, word: &'a str, index: usize) {
    let may_be_command = place.positionals == 0 && (!place.path.is_empty() || index == 0);
    let command = place.command.find_subcommand(word).filter(|_| may_be_command);
    match command {
        Some(command) => {
            place.path.push(command.get_name());
            place.command = command;
        }
        None => {
            place.positionals += 1;
            place.last = Some(word);
        }
    }
}

/// Returns the flag with this long name.
pub(super) fn by_long<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| arg.get_long() == Some(name))
}

/// Whether the value of a flag is the word behind it.
fn takes_next_word(arg: &Arg) -> bool {
    arg.get_action().takes_values()
        && !arg.is_require_equals_set()
        && arg.get_num_args().is_none_or(|range| range.takes_values())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> (String, usize, String, bool) {
        let mut root = crate::cli::tree::whole(&[]);
        root.build();
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let place = place(&root, &words);
        let pending = place.pending.map(|arg| arg.get_id().to_string()).unwrap_or_default();
        (place.path.join(" "), place.positionals, pending, place.flags)
    }

    #[test]
    fn the_place_follows_commands_flags_and_arguments() {
        for (line, path, positionals, pending, flags) in [
            ("", "", 0, "", true),
            ("plan", "plan", 0, "", true),
            ("plan -p", "plan", 0, "PLATFORM", true),
            ("plan -px", "plan", 0, "", true),
            ("plan -qp", "plan", 0, "PLATFORM", true),
            ("plan -p x --disk", "plan", 0, "DISK", true),
            ("plan --disk=x", "plan", 0, "", true),
            ("plan --json", "plan", 0, "", true),
            ("plan --check --unknown -Z", "plan", 0, "", true),
            ("--disk plan", "", 0, "", true),
            ("-p x runs", "", 1, "", true),
            ("help settings", "help", 1, "", true),
            ("help settings X", "help", 2, "", true),
            ("providers --json inspect", "providers inspect", 0, "", true),
            ("providers inspect x", "providers inspect", 1, "", true),
            ("providers inspect list", "providers inspect", 1, "", true),
            ("resume -- -p", "resume", 1, "", false),
            ("gc --adopt", "gc", 0, "ADOPT", true),
            ("- -", "", 2, "", true),
        ] {
            let expected = (path.to_owned(), positionals, pending.to_owned(), flags);
            assert_eq!(found(line), expected, "{line}");
        }
    }
}
