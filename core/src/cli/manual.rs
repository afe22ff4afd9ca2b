//! Renders the manual pages: one per command, in the format of man(7).

use std::{io, path::Path};

use clap::Command;
use clap_mangen::Man;

use crate::error::{Error, Result, Stage};

/// Heading of the examples in the text behind the flags.
const EXAMPLES: &str = "Examples:\n";

/// Writes the pages of all commands into a directory.
///
/// # Errors
/// When a page cannot be written.
pub(super) fn write_all(root: Command, directory: &Path) -> Result<()> {
    let mut pages = Vec::new();
    collect(built(root), &["build-image"], &mut pages);
    pages
        .iter()
        .try_for_each(|(command, words)| write(directory, &words.join("-"), &page(command, words)?))
}

/// Returns the page of the program.
///
/// # Errors
/// Never in practice: pages are written to memory.
pub(super) fn main_page(root: Command) -> Result<String> {
    page(&built(root), &["build-image".to_owned()])
}

/// Returns the command with the flags that commands below it inherit.
fn built(mut root: Command) -> Command {
    root.build();
    root
}

/// Lists a command and the commands below it, each with the words that call it.
fn collect(command: Command, words: &[&str], pages: &mut Vec<(Command, Vec<String>)>) {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        collect(below.clone(), &[words, &[below.get_name()]].concat(), pages);
    }
    pages.push((command, words.iter().map(|word| (*word).to_owned()).collect()));
}

/// Renders the page of the command that these words call.
fn page(command: &Command, words: &[String]) -> Result<String> {
    let name = words.join("-");
    let built = command.clone().name(name.clone()).display_name(name.clone());
    let behind = built.get_after_help().map(ToString::to_string).unwrap_or_default();
    let man = Man::new(built.clone())
        .manual("build-image manual")
        .source(concat!("build-image ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    let mut render = || {
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        page.extend_from_slice(synopsis(&built, &words.join(" ")).as_bytes());
        man.render_description_section(&mut page)?;
        if built.get_arguments().any(|arg| !arg.is_hide_set()) {
            man.render_options_section(&mut page)?;
        }
        page.extend_from_slice(commands(&built, &name).as_bytes());
        page.extend_from_slice(examples(&behind).as_bytes());
        page.extend_from_slice(see_also(&built, words).as_bytes());
        Ok(())
    };
    render().map_err(|error: io::Error| {
        Error::new(Stage::Bug, "cannot make a manual page").caused_by(&error)
    })?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn synopsis(command: &Command, words: &str) -> String {
    let words = escaped(words);
    let mut text = format!(".SH SYNOPSIS\n\\fB{words}\\fR [OPTIONS]");
    for arg in command.get_positionals().filter(|arg| !arg.is_hide_set()) {
        let range = arg.get_num_args().unwrap_or_default();
        let several = if range.max_values() > 1 { "..." } else { "" };
        let id = escaped(arg.get_id().as_str());
        let (before, after) = if arg.is_required_set() { ("", "") } else { ("[", "]") };
        text.push_str(&format!(" {before}\\fI{id}\\fR{several}{after}"));
    }
    if command.is_subcommand_required_set() {
        text.push_str(" COMMAND");
    } else if command.has_subcommands() {
        text.push_str(&format!("\n.br\n\\fB{words}\\fR COMMAND [ARGUMENTS]"));
    }
    text.push('\n');
    text
}

/// Returns the section of the commands below, each with the name of its page.
fn commands(command: &Command, name: &str) -> String {
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    let lines: String = below
        .map(|below| {
            let about = below.get_about().map(ToString::to_string).unwrap_or_default();
            let page = escaped(&format!("{name}-{}", below.get_name()));
            format!(".TP\n\\fB{page}\\fR(1)\n{}\n", escaped(&about))
        })
        .collect();
    if lines.is_empty() { lines } else { format!(".SH COMMANDS\n{lines}") }
}

/// Returns the sections of the text behind the flags: its examples as they are, and the rest.
fn examples(text: &str) -> String {
    let (examples, notes) = match text.strip_prefix(EXAMPLES) {
        Some(rest) => rest.split_once("\n\n").unwrap_or((rest, "")),
        None => ("", text),
    };
    let section = |name: &str, text: &str| {
        let lines: String = text.lines().map(|line| escaped(line) + "\n").collect();
        if lines.is_empty() { lines } else { format!(".SH {name}\n.nf\n{lines}.fi\n") }
    };
    section("EXAMPLES", examples.trim_end()) + &section("NOTES", notes.trim())
}

/// Returns the section that names the pages of the command above and of those below.
fn see_also(command: &Command, words: &[String]) -> String {
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    let below = below.map(|below| format!("{}-{}", words.join("-"), below.get_name()));
    let above = words.split_last().filter(|(_, above)| !above.is_empty());
    let pages = above.map(|(_, above)| above.join("-")).into_iter().chain(below);
    let pages: Vec<String> = pages.map(|page| format!("\\fB{}\\fR(1)", escaped(&page))).collect();
    if pages.is_empty() {
        return String::new();
    }
    format!(".SH SEE ALSO\n{}\n", pages.join(",\n"))
}

/// Escapes a line of text for roff: backslashes, hyphens, and control characters at its beginning.
fn escaped(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

fn write(directory: &Path, name: &str, page: &str) -> Result<()> {
    let path = directory.join(format!("{name}.1"));
    std::fs::write(&path, page).map_err(|error| {
        Error::new(Stage::Settings, format!("cannot write `{}`", path.display()))
            .caused_by(&error)
            .hint("give a directory that exists and that you may write to")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_is_no_request_to_the_formatter() {
        for (line, text) in [
            (".so /etc/passwd", "\\&.so /etc/passwd"),
            ("'br", "\\&'br"),
            ("a\\fBb --c", "a\\efBb \\-\\-c"),
            ("plain", "plain"),
        ] {
            assert_eq!(escaped(line), text);
        }
    }

    #[test]
    fn examples_are_kept_as_they_are() {
        let text = examples("Examples:\n  a --b\n  c\n\nOne.\nTwo.");
        assert_eq!(
            text,
            ".SH EXAMPLES\n.nf\n  a \\-\\-b\n  c\n.fi\n.SH NOTES\n.nf\nOne.\nTwo.\n.fi\n"
        );
        assert_eq!(examples("One."), ".SH NOTES\n.nf\nOne.\n.fi\n");
        assert_eq!(examples(""), "");
    }
}
