//! Runs `build-image upload` and `build-image register`, the two halves of a build: for accounts of which one may only
//! write objects and the other one may only register, and for objects that other tools uploaded. Both are builds, so that
//! `resume`, `runs`, and `gc` treat them as any other.

use build_image_plugin_api::{ErrorKind, document::Purpose};
use clap::{Arg, Command};

use super::publish;
use crate::{
    error::{Error, Result, Stage},
    plugins::Plugin,
    settings::{Environment, IfSame, Key, Resolved, keys, rows_of},
};

/// Returns the parser of `upload`, without the settings of a build.
pub(super) fn upload_parser() -> Command {
    Command::new("build-image upload").about("Makes the image as a build does, uploads it, and keeps it there without registering it. Prints what build-image register takes. With --check it only prints what it would do, and what the cloud finds.")
}

/// Returns the parser of `register`, without the settings of a build.
pub(super) fn register_parser() -> Command {
    Command::new("build-image register")
        .about("Registers an image from an object that is in the cloud already. The object is never changed or removed. With --check it only prints what it would do, and what the cloud finds.")
        .arg(Arg::new("OBJECT").help("the object, as build-image upload prints it"))
}

/// Uploads an image; returns the exit code.
pub(super) fn upload(args: &[String], environment: &Environment) -> u8 {
    publish::start(args, environment, upload_parser(), words_of_upload)
}

/// Registers an uploaded object; returns the exit code.
pub(super) fn register(args: &[String], environment: &Environment) -> u8 {
    publish::start(args, environment, register_parser(), words_of_register)
}

fn flag(key: Key) -> String {
    let row = rows_of(&[key]);
    format!("--{}", row.first().map(crate::settings::Row::long).unwrap_or_default())
}

fn words_of_upload(args: &[String]) -> Result<Vec<String>> {
    if let Some(word) = args.first().filter(|word| !word.starts_with('-')) {
        return Err(Error::usage(format!(
            "build-image upload takes flags, and `{word}` is not one"
        ))
        .hint(
            "give a disk with --disk, an installer ISO with -i, or a bundle with --from-bundle",
        ));
    }
    Ok(std::iter::once(flag(keys::UPLOAD_ONLY)).chain(args.iter().cloned()).collect())
}

/// Returns the arguments of the build: the object becomes a setting.
fn words_of_register(args: &[String]) -> Result<Vec<String>> {
    let missing = || {
        Error::usage("build-image register needs an object")
            .hint("build-image register OBJECT -p PROVIDER -c CONFIG_FILE")
    };
    let (object, rest) = args.split_first().ok_or_else(missing)?;
    if object.starts_with('-') || object.is_empty() {
        return Err(missing());
    }
    let setting = format!("{}={object}", flag(keys::FROM_OBJECT));
    Ok(std::iter::once(setting).chain(rest.iter().cloned()).collect())
}

/// Refuses halves of a build that the provider does not support, and settings that contradict them.
///
/// # Errors
/// Names the setting or the provider, with what to do instead.
pub(super) fn check(plugin: &Plugin, settings: &Resolved) -> Result<()> {
    let set = settings.core();
    let (purpose, instead) = match (&set.source.object, set.run.upload_only) {
        (None, false) => return Ok(()),
        (Some(_), _) => {
            let instead = "build the image with `build-image` or `build-image publish`, or register the object with the cloud's own tools";
            (Purpose::Register, instead)
        }
        (None, true) => {
            refuse_no_upload(settings)?;
            let instead = "leave `upload` out: the build registers what it uploads; a bundle (--no-upload --bundle FILE) is uploaded and registered later, by `build-image publish`";
            (Purpose::Upload, instead)
        }
    };
    if set.run.if_same == Some(IfSame::Skip) {
        let key = keys::IF_SAME;
        let text = format!("{key} is `skip`, which is for whole builds");
        return Err(Error::new(Stage::Settings, text).hint(format!("leave {key} out")));
    }
    let description = plugin.description();
    let name = &plugin.name;
    let unsupported = |text: String, hint: &str| {
        Err(Error::new(Stage::Provider(ErrorKind::Unsupported), text).hint(hint))
    };
    if !description.uploads {
        let text = format!("provider `{name}` writes files, it uploads and registers nothing");
        return unsupported(text, "build with it, and copy the file that it writes");
    }
    let is_declared = purpose
        .capability()
        .is_none_or(|word| description.capabilities.iter().any(|one| one == word));
    if is_declared {
        return Ok(());
    }
    let what = match purpose {
        Purpose::Upload => "does not keep an upload without its image",
        _ => "does not register objects that are there already",
    };
    unsupported(format!("provider `{name}` {what}"), instead)
}

fn refuse_no_upload(settings: &Resolved) -> Result<()> {
    let set = settings.core();
    let other = [(keys::NO_UPLOAD, set.run.no_upload), (keys::BUNDLE, set.bundle.file.is_some())];
    match other.into_iter().find(|(_, is_set)| *is_set) {
        None => Ok(()),
        Some((key, _)) => {
            let text = format!("{key} is set, but build-image upload is to upload the image");
            Err(Error::new(Stage::Settings, text)
                .hint(format!("leave {key} out, or build without `upload`")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_flag_is_an_object_of_one_verb_and_refused_by_the_other() {
        let words =
            |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
        assert_eq!(
            words_of_upload(&words("--disk a -p x")).unwrap(),
            words("--upload-only --disk a -p x")
        );
        assert_eq!(words_of_upload(&[]).unwrap(), ["--upload-only"]);
        let error = words_of_upload(&words("a.raw -p x")).unwrap_err();
        assert!(error.message.contains("`a.raw`") && error.hint.unwrap().contains("--disk"));
        let object = words_of_register(&words("acme://a/b -p x")).unwrap();
        assert_eq!(object, words("--from-object=acme://a/b -p x"));
        for line in ["", "-p x", "--from-object a"] {
            let error = words_of_register(&words(line)).unwrap_err();
            assert!(error.hint.unwrap().contains("register OBJECT"), "{line}");
        }
    }
}
