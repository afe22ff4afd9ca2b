//! Judges the provider's description.

use std::collections::BTreeSet;

use super::{Judgement, settle, survived, undeclared};
use crate::{
    Description, PLUGIN_FILE_PREFIX, PLUGIN_FILE_SUFFIX,
    conformance::{evidence::Described, probe::DESCRIPTION_LIMIT, table::Evidence},
};

/// Largest number of settings that a user can be expected to search.
const MOST_SETTINGS: usize = 200;

pub(in crate::conformance) fn loads(evidence: &Evidence) -> Judgement {
    settle(|| {
        survived(&evidence.describe)?;
        evidence
            .described()
            .map(|described| Judgement::pass(format!("plugin API {}", described.api_version)))
    })
}

fn with(
    evidence: &Evidence,
    judge: impl FnOnce(&Described, &Description) -> Judgement,
) -> Judgement {
    settle(|| Ok(judge(&evidence.described()?, &super::description(evidence)?)))
}

pub(in crate::conformance) fn name(evidence: &Evidence) -> Judgement {
    with(evidence, |_, description| {
        let file = evidence.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let of_library = |name: &str| {
            let name = name.strip_prefix(PLUGIN_FILE_PREFIX)?;
            name.strip_suffix(PLUGIN_FILE_SUFFIX).map(str::to_owned)
        };
        let of_program = file.strip_prefix("build-image-provider-").map(str::to_owned);
        let Some(name) = of_library(&file).or(of_program) else {
            return Judgement::fail(format!(
                "the file is called `{file}`, a provider's `{}`",
                crate::plugin_file_name(&description.name)
            ));
        };
        if !is_name(&description.name) {
            return Judgement::fail(format!(
                "`{}` is no name of `[a-z][a-z0-9_]*`",
                description.name
            ));
        }
        if name == description.name {
            Judgement::pass(name)
        } else {
            Judgement::fail(format!(
                "it calls itself `{}`, its file name says `{name}`",
                description.name
            ))
        }
    })
}

fn is_name(name: &str) -> bool {
    let legal =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    name.starts_with(|letter: char| letter.is_ascii_lowercase()) && name.chars().all(legal)
}

fn abi(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn abi_range(description: &Description) -> Option<String> {
    let (built, requires) = (abi(&description.abi.built), abi(&description.abi.requires));
    let Some((built, requires)) = built.zip(requires) else {
        return Some(format!(
            "`{}` and `{}` are not both `major.minor`",
            description.abi.built, description.abi.requires
        ));
    };
    (built < requires).then(|| {
        format!(
            "it was built with ABI {} and requires {}",
            description.abi.built, description.abi.requires
        )
    })
}

pub(in crate::conformance) fn abi_check(evidence: &Evidence) -> Judgement {
    with(evidence, |described, description| {
        let mut problems: Vec<String> = abi_range(description).into_iter().collect();
        // A program contains no library whose version could be compared.
        let (version, built) = (&described.api_version, &description.abi.built);
        if version != built && !version.starts_with(&format!("{built}.")) {
            problems.push(format!(
                "it says it was built with ABI {}, its library says {}",
                description.abi.built, described.api_version
            ));
        }
        Judgement::unless(
            &problems,
            format!("built {}, requires {}", description.abi.built, description.abi.requires),
        )
    })
}

pub(in crate::conformance) fn description(evidence: &Evidence) -> Judgement {
    with(evidence, |described, description| {
        let mut problems = Vec::new();
        for (member, text) in [("version", &description.version), ("summary", &description.summary)]
        {
            if text.trim().is_empty() {
                problems.push(format!("`{member}` is empty"));
            }
        }
        if description.summary.ends_with('.') || description.summary.contains('\n') {
            problems.push("`summary` is one sentence without a full stop".to_owned());
        }
        let newer = abi(&description.abi.built) > abi(crate::ABI_VERSION);
        if !newer {
            let unknown = described.unknown.iter();
            problems.extend(unknown.map(|member| format!("member `{member}` is not known")));
        }
        Judgement::unless(&problems, description.summary.clone())
    })
}

pub(in crate::conformance) fn size(evidence: &Evidence) -> Judgement {
    settle(|| {
        let described = evidence.described()?;
        let count = described.document["settings"].as_array().map_or(0, Vec::len);
        let mut problems = Vec::new();
        if described.bytes > DESCRIPTION_LIMIT {
            problems.push(format!(
                "its description has {} bytes, more than {DESCRIPTION_LIMIT}",
                described.bytes
            ));
        }
        if count > MOST_SETTINGS {
            problems.push(format!("it declares {count} settings, more than {MOST_SETTINGS}"));
        }
        Ok(Judgement::unless(&problems, format!("{} bytes, {count} settings", described.bytes)))
    })
}

pub(in crate::conformance) fn pure(evidence: &Evidence) -> Judgement {
    settle(|| {
        let described = evidence.described()?;
        let mut problems = Vec::new();
        if !described.same {
            problems.push("its description differs from call to call".to_owned());
        }
        let growth = described.growth.iter();
        problems.extend(growth.map(|growth| format!("describing left {growth}")));
        Ok(Judgement::unless(&problems, "the same from four calls in three threads"))
    })
}

pub(in crate::conformance) fn settings(evidence: &Evidence) -> Judgement {
    with(evidence, |_, description| {
        if description.settings.is_empty() {
            return Judgement::Skip(undeclared("`settings`"));
        }
        let mut seen = BTreeSet::new();
        let mut problems = Vec::new();
        for row in &description.settings {
            let legal = |letter: char| {
                letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_'
            };
            let key = row.key.starts_with(|letter: char| letter.is_ascii_uppercase())
                && row.key.chars().all(legal);
            let chosen = row
                .default
                .as_ref()
                .is_none_or(|default| row.choices.is_empty() || row.choices.contains(default));
            for (holds, what) in [
                (key, "is no key of capital letters, digits and `_`"),
                (seen.insert(&row.key), "is declared twice"),
                (!row.summary.trim().is_empty(), "has no summary"),
                (!row.summary.ends_with('.'), "has a summary with a full stop"),
                (!(row.secret && row.default.is_some()), "is a secret with a default"),
                (!(row.required && row.default.is_some()), "is required and has a default"),
                (chosen, "has a default that is none of its choices"),
            ] {
                if !holds {
                    problems.push(format!("setting `{}` {what}", row.key));
                }
            }
        }
        Judgement::unless(&problems, format!("{} settings", description.settings.len()))
    })
}
