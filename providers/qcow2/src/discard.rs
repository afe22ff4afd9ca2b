//! Removes published files, finished or not.

use std::{fs, io};

use build_image_plugin_api::{
    Context, Resource, Result,
    document::{DiscardRequest, Discarded, Remaining},
};

use crate::publish::FILE;

pub(crate) fn remove(context: &Context, request: &DiscardRequest) -> Result<Discarded> {
    let mut answer = Discarded::default();
    for resource in &request.resources {
        match remove_one(resource) {
            Ok(()) => {
                context.gone(resource)?;
                answer.removed.push(resource.clone());
            }
            Err(reason) => answer.remaining.push(Remaining {
                resource: resource.clone(),
                reason,
                hint: Some(format!("rm -f '{}'", resource.name)),
                ..Remaining::default()
            }),
        }
    }
    Ok(answer)
}

fn remove_one(resource: &Resource) -> Result<(), String> {
    if resource.kind != FILE {
        return Err(format!("this provider makes no `{}`", resource.kind));
    }
    let temporary = resource.attributes.get("temporary");
    // The finished file is ours only when this run gave it its name; an older one stays.
    let finished = resource.id.as_ref();
    for path in temporary.into_iter().chain(finished) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
