//! Continues a run of an earlier process with the same run id, names and journal. Settings that decide what is built
//! can no longer be changed.

use std::collections::BTreeMap;

use build_image_plugin_api::{Description, SettingKind};

use super::{Plan, Source};
use crate::{
    error::{Error, Problem, Result, Stage},
    pipeline::State,
    runs::{Run, State as RunState},
    settings::{OnResume, Resolved, Row, core_row, keys, names_file},
    trust::is_below,
};

/// Returns whether a run that reached a state has to keep a setting: those that decide what is built, and those whose
/// effect has ended. All others may differ in each process of a run, and the current values are used; the provider
/// compares its own settings.
fn is_kept(row: &Row, reached: State) -> bool {
    match row.on_resume {
        OnResume::Free => false,
        OnResume::Fixed => true,
        OnResume::UntilRegistered => reached >= State::Registered,
        OnResume::UntilReleased => reached >= State::Released,
    }
}

/// Returns the settings that decide what is built, or that cannot be changed later: key and value, paths absolute. A
/// bundle is named by its content: it may be elsewhere when the run is resumed.
///
/// # Errors
/// When the working directory is unknown.
pub(super) fn shape(settings: &Resolved, source: &Source) -> Result<BTreeMap<String, String>> {
    let set = settings.shown().filter_map(|(key, text, _)| Some((core_row(key)?, text)));
    set.filter(|(row, _)| is_kept(row, State::Notified))
        .map(|(row, text)| {
            let key = row.key().to_owned();
            if let (Source::Bundle(bundle), true) = (source, keys::FROM_BUNDLE == *row) {
                return Ok((key, format!("sha256:{}", bundle.identity())));
            }
            if row.setting.kind != SettingKind::Path || !names_file(&text) {
                return Ok((key, text));
            }
            Ok((key, settings.absolute(text.as_ref())?.display().to_string()))
        })
        .collect()
}

impl Plan {
    /// Continues the run of an earlier process.
    ///
    /// # Errors
    /// When the run is in use or done, or settings that decide what is built differ; each of them is named.
    pub fn resume(&mut self, run: &Run) -> Result<()> {
        match run.state {
            RunState::Running => {
                let error = cannot_resume(run, "a process is at work with it");
                return Err(Error { stage: Stage::InUse, ..error }.hint("wait until it is done"));
            }
            RunState::Done => return Err(cannot_resume(run, "it is done")),
            RunState::Untrusted => return Err(run.not_trusted()),
            // A run that may be running on another host was adopted by the user.
            RunState::Dead | RunState::Failed | RunState::Damaged | RunState::Elsewhere => {}
        }
        if run.platform != self.platform {
            let text = format!("it builds for `{}`, not for `{}`", run.platform, self.platform);
            return Err(cannot_resume(run, &text).hint("leave -p out"));
        }
        self.keeps_shape(run)?;
        self.run.clone_from(&run.directory);
        self.entries = run.entries;
        if let Some(base) = run.directory.ancestors().nth(2) {
            base.clone_into(&mut self.base);
        }
        // The journal of an adopted run may name any directory of this host.
        if let Some(artifacts) = run.artifacts.as_ref().filter(|path| is_below(path, &self.base)) {
            self.artifacts.clone_from(artifacts);
        }
        self.earlier = run.is_known.then(|| Box::new(run.build.clone()));
        self.take_over()
    }

    /// Plans again with the fetched source; the run and the random image name stay the same. Returns whether the
    /// provider's steps receive other parameters than before.
    ///
    /// # Errors
    /// As [`Plan::new`]; when an earlier process of the run had another source.
    pub fn complete(
        &mut self,
        description: &Description,
        settings: &Resolved,
        source: Source,
    ) -> Result<bool> {
        let draws = self.draws.clone();
        let mut whole = Self::new(&self.platform, description, settings, source, &draws)?;
        whole.earlier = self.earlier.take();
        whole.entries = self.entries;
        whole.run.clone_from(&self.run);
        whole.base.clone_from(&self.base);
        whole.build.guest.clone_from(&self.build.guest);
        if whole.earlier.is_some() {
            whole.artifacts.clone_from(&self.artifacts);
        }
        whole.take_over()?;
        let differs = whole.build != self.build;
        *self = whole;
        Ok(differs)
    }

    /// Uses the parameters that the provider's steps received in the earlier process.
    fn take_over(&mut self) -> Result<()> {
        let Some(before) = &self.earlier else { return Ok(()) };
        let same = (&before.file_stem, before.virtual_size)
            == (&self.build.file_stem, self.build.virtual_size);
        if !self.provisional && !same {
            let text = format!(
                "run `{}` cannot be resumed: the ISO, the disk or the settings are not those it was started with",
                before.run_id
            );
            return Err(Error::new(Stage::Settings, text)
                .hint("start a new build; build-image gc --yes removes what this run left"));
        }
        self.build = before.as_ref().clone();
        Ok(())
    }

    /// Refuses settings that would change what is built.
    fn keeps_shape(&self, run: &Run) -> Result<()> {
        let keys = run.shape.keys().chain(self.shape.keys());
        let keys: std::collections::BTreeSet<&String> = keys.collect();
        let value_or_unset = |value: Option<&String>| {
            value.map_or_else(|| "not set".to_owned(), |text| format!("`{text}`"))
        };
        let problems: Vec<Problem> = keys
            .into_iter()
            .filter(|_| !run.shape.is_empty())
            .filter(|key| core_row(key).is_some_and(|row| is_kept(row, run.reached)))
            .map(|key| (key, run.shape.get(key), self.shape.get(key)))
            .filter(|(_, before, now)| before != now)
            .map(|(key, before, now)| {
                Problem::new(format!(
                    "{key} was {}, now it is {}",
                    value_or_unset(before),
                    value_or_unset(now)
                ))
            })
            .collect();
        if problems.is_empty() {
            return Ok(());
        }
        let text =
            format!("run `{}` cannot be resumed with settings that change what it builds", run.id);
        Err(Error::several(Stage::Settings, text, problems)
            .hint("resume without them, or start a new build with them"))
    }
}

fn cannot_resume(run: &Run, what: &str) -> Error {
    Error::new(Stage::Settings, format!("run `{}` cannot be resumed: {what}", run.id))
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::Setting;

    use super::*;

    #[test]
    fn a_setting_is_kept_once_its_effect_has_ended() {
        use State::{Attested, Installed, Notified, Planned, Registered, Released, Uploaded};
        for (rule, free, kept) in [
            (OnResume::Free, &[Planned, Notified][..], &[][..]),
            (OnResume::Fixed, &[], &[Planned, Notified]),
            (OnResume::UntilRegistered, &[Planned, Installed, Uploaded], &[Registered, Notified]),
            (OnResume::UntilReleased, &[Registered, Attested], &[Released, Notified]),
        ] {
            let row = Row::new(Setting::new("A", SettingKind::Text, "a")).on_resume(rule);
            assert!(free.iter().all(|state| !is_kept(&row, *state)), "{rule:?}");
            assert!(kept.iter().all(|state| is_kept(&row, *state)), "{rule:?}");
        }
    }
}
