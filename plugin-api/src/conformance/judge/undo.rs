//! Judges whether a failed build removes everything that it created, and nothing else.

use std::collections::BTreeMap;

use super::{
    Judgement,
    build::{discard, ledger, whole},
    description, listed, settle, survived,
};
use crate::{
    Event, Resource,
    conformance::{
        evidence::{Reach, Undone, Unrecorded},
        table::Evidence,
    },
    document::Discarded,
};

/// What is needed to observe a cloud.
pub(super) const BLIND: &str = "nothing that it made can be seen from here: `--inventory COMMAND` must list what the test cloud contains";

pub(in crate::conformance) fn gone(evidence: &Evidence) -> Judgement {
    settle(|| {
        sound(evidence)?;
        let built = whole(evidence)?;
        let Some(first) = built.discards.first().filter(|call| call.failure.is_none()) else {
            return Ok(Judgement::Skip("see `discard`".to_owned()));
        };
        let answer: Discarded = serde_json::from_value(first.answer.clone()).unwrap_or_default();
        let reported = built.reports.events.iter().filter_map(|(step, event)| match event {
            Event::ResourceGone { resource } if step == "discard" => Some(resource),
            _ => None,
        });
        let reported: Vec<&Resource> = reported.collect();
        let mut problems = Vec::new();
        for removed in &answer.removed {
            if !reported.iter().any(|gone| gone.is(removed)) {
                problems.push(format!("{} was removed and not reported gone", removed.label()));
            }
        }
        for left in &answer.remaining {
            if reported.iter().any(|gone| gone.is(&left.resource)) {
                problems.push(format!("{} remains and was reported gone", left.resource.label()));
            }
        }
        for open in created_and_not_gone(&built.reports.events) {
            let removed = answer.removed.iter().any(|one| one.is(open));
            let remains = answer.remaining.iter().any(|left| left.resource.is(open));
            if !removed && !remains {
                problems.push(format!("`discard` did not say what became of {}", open.label()));
            }
        }
        Ok(Judgement::unless(&problems, format!("{} resources", answer.removed.len())))
    })
}

/// Returns the resources that `discard` was asked to remove.
fn created_and_not_gone(events: &[(String, Event)]) -> Vec<&Resource> {
    let mut open: Vec<&Resource> = Vec::new();
    for (_, event) in events.iter().filter(|(step, _)| step != "discard") {
        match event {
            Event::ResourcePlanned { resource } | Event::ResourceCreated { resource } => {
                open.retain(|earlier| !earlier.is(resource));
                open.push(resource);
            }
            Event::ResourceGone { resource } => open.retain(|earlier| !earlier.is(resource)),
            _ => {}
        }
    }
    open
}

pub(in crate::conformance) fn identity(evidence: &Evidence) -> Judgement {
    settle(|| {
        let built = whole(evidence)?;
        let events: Vec<&Event> = built.reports.events.iter().map(|(_, event)| event).collect();
        let problems = shared_identities(&events);
        Ok(Judgement::unless(&problems, "no two things share one"))
    })
}

/// Returns pairs of objects that the host cannot distinguish: different ids, or places that contradict each other,
/// under one kind, region and name while the first is not reported as removed.
fn shared_identities(events: &[&Event]) -> Vec<String> {
    let mut open: BTreeMap<(&str, Option<&str>, &str), Resource> = BTreeMap::new();
    let mut problems = Vec::new();
    for event in events {
        let (Event::ResourcePlanned { resource }
        | Event::ResourceCreated { resource }
        | Event::ResourceGone { resource }) = event
        else {
            continue;
        };
        let key = (resource.kind.as_str(), resource.region.as_deref(), resource.name.as_str());
        if matches!(event, Event::ResourceGone { .. }) {
            open.remove(&key);
            continue;
        }
        let mut state = resource.clone();
        if let Some(earlier) = open.remove(&key) {
            problems.extend(contradiction(&earlier, resource).map(|how| {
                let Resource { kind, name, .. } = resource;
                format!("two things are the {kind} `{name}` for the host, {how}")
            }));
            state.id = state.id.or(earlier.id);
        }
        open.insert(key, state);
    }
    problems
}

fn contradiction(earlier: &Resource, other: &Resource) -> Option<String> {
    if let (Some(one), Some(two)) = (&earlier.id, &other.id)
        && one != two
    {
        return Some(format!("with the ids `{one}` and `{two}`"));
    }
    earlier.attributes.iter().find_map(|(name, one)| {
        let two = other.attributes.get(name).filter(|two| *two != one)?;
        Some(format!("with the {name} `{one}` and `{two}`"))
    })
}

/// Undo cannot be judged when the plain build, its announcements or its removal are wrong.
pub(super) fn sound(evidence: &Evidence) -> Result<(), Judgement> {
    whole(evidence)?;
    for (id, judge) in [("ledger", ledger as fn(&Evidence) -> Judgement), ("discard", discard)] {
        if matches!(judge(evidence), Judgement::Fail(..)) {
            return Err(Judgement::Skip(format!("see `{id}`")));
        }
    }
    Ok(())
}

/// Returns the observations of the probe, unless there is nothing to undo.
fn undone(evidence: &Evidence) -> Result<Undone, Judgement> {
    sound(evidence)?;
    let undone = evidence.undone()?;
    match undone.reach {
        Reach::Whole => Ok(undone),
        Reach::Stub => Err(Judgement::Skip("it is a stub".to_owned())),
        Reach::Dry(why) => Err(Judgement::Skip(why)),
    }
}

pub(in crate::conformance) fn taken(evidence: &Evidence) -> Judgement {
    settle(|| {
        survived(&evidence.undo)?;
        let taken = undone(evidence)?.taken.unwrap_or_default();
        listed(&evidence.undo)?;
        if let Some(obstacle) = taken.obstacle {
            return Ok(Judgement::Skip(format!("the build that takes the name: {obstacle}")));
        }
        if taken.seen == 0 {
            return Ok(Judgement::Skip(BLIND.to_owned()));
        }
        let lost = taken.lost.iter().map(|what| format!("of another build, {what}"));
        let left = taken.left.iter().map(|what| format!("{what} was left behind"));
        let problems: Vec<String> = lost.chain(left).collect();
        Ok(Judgement::unless(&problems, format!("{} things of another build", taken.seen)))
    })
}

pub(in crate::conformance) fn unrecorded(evidence: &Evidence) -> Judgement {
    settle(|| {
        let all = undone(evidence)?.unrecorded;
        listed(&evidence.undo)?;
        if all.is_empty() {
            return Ok(Judgement::Skip("it reports nothing as created, see `ledger`".to_owned()));
        }
        // A file always has a mark, its inode; a cloud may have none.
        let may_keep = description(evidence)?.uploads;
        let mut problems = Vec::new();
        for (number, one) in all.iter().enumerate() {
            let moment = format!("stopped while it created thing {} of a build", number + 1);
            let found = left_behind(one, may_keep).into_iter();
            problems.extend(found.map(|problem| format!("{moment}, {problem}")));
        }
        if problems.is_empty() && !all.iter().any(|one| one.visible) {
            return Ok(Judgement::Skip(BLIND.to_owned()));
        }
        let kept = all.iter().flat_map(|one| &one.remaining);
        let kept: Vec<&str> = kept.map(|kept| kept.text.as_str()).collect();
        let mut detail = format!("{} moments", all.len());
        if !kept.is_empty() {
            let list = kept.join("; ");
            detail
                .push_str(&format!("; look for these in the test cloud, and remove them: {list}"));
        }
        Ok(Judgement::unless(&problems, detail))
    })
}

/// Returns what is wrong with the end of a build that was stopped while it created something. A provider of a cloud
/// without marks may leave the thing, if it is listed with a hint.
fn left_behind(one: &Unrecorded, may_keep: bool) -> Vec<String> {
    let mut problems: Vec<String> = one.failure.iter().cloned().collect();
    if !may_keep || one.left_count > one.remaining.len() {
        let announced = match one.announced.as_slice() {
            [] => "nothing".to_owned(),
            labels => labels.join(", "),
        };
        let left = one.left.iter();
        problems.extend(left.map(|what| format!("it left {what}; announced: {announced}")));
    }
    for kept in &one.remaining {
        if !may_keep {
            problems.push(kept.text.clone());
        } else if !kept.has_hint {
            problems.push(format!("{}, without a hint how to find and remove it", kept.text));
        } else if one.visible && one.left.is_empty() {
            problems.push(format!("{}, and it does not exist", kept.text));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::evidence::Kept;

    fn thing(name: &str) -> Resource {
        Resource::new("object", name).in_region("here")
    }

    fn planned(resource: Resource) -> Event {
        Event::ResourcePlanned { resource }
    }

    fn created(resource: Resource) -> Event {
        Event::ResourceCreated { resource }
    }

    #[test]
    fn what_a_cloud_without_marks_keeps_must_be_listed_with_a_hint() {
        let one = |left: &[&str], hints: &[bool]| Unrecorded {
            visible: true,
            left: left.iter().map(|text| (*text).to_owned()).collect(),
            left_count: left.len(),
            remaining: hints
                .iter()
                .map(|has_hint| Kept { text: "image `a`".to_owned(), has_hint: *has_hint })
                .collect(),
            ..Unrecorded::default()
        };
        for (seen, may_keep, count) in [
            (one(&[], &[]), true, 0),
            (one(&["a"], &[true]), true, 0),
            (one(&["a"], &[false]), true, 1),
            (one(&["a", "b"], &[true]), true, 2),
            (one(&["a"], &[]), true, 1),
            (one(&[], &[true]), true, 1),
            (Unrecorded { left_count: 1, ..one(&["a", "the name of a"], &[true]) }, true, 0),
            (one(&["a"], &[true]), false, 2),
            (Unrecorded { visible: false, ..one(&[], &[true]) }, true, 0),
            (Unrecorded { failure: Some("refused".to_owned()), ..one(&[], &[]) }, true, 1),
        ] {
            let problems = left_behind(&seen, may_keep);
            assert_eq!(problems.len(), count, "{seen:?}: {problems:?}");
        }
    }

    #[test]
    fn two_objects_with_one_identity_are_found() {
        let gone = Event::ResourceGone { resource: thing("a") };
        let in_bucket = |bucket: &str| thing("a").with("bucket", bucket);
        for (events, count) in [
            (vec![planned(thing("a")), created(thing("a").with_id("1"))], 0),
            (vec![created(thing("a").with_id("1")), created(thing("b").with_id("2"))], 0),
            (vec![created(thing("a").with_id("1")), gone, created(thing("a").with_id("2"))], 0),
            (vec![planned(thing("a")), planned(in_bucket("x"))], 0),
            (vec![created(thing("a").with_id("1")), created(thing("a").with_id("2"))], 1),
            (vec![planned(in_bucket("x")), planned(in_bucket("y"))], 1),
            (
                vec![
                    created(thing("a").with_id("1")),
                    planned(thing("a")),
                    created(thing("a").with_id("2")),
                ],
                1,
            ),
        ] {
            let events: Vec<&Event> = events.iter().collect();
            assert_eq!(shared_identities(&events).len(), count, "{events:?}");
        }
    }
}
