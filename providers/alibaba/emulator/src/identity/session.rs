//! Issues temporary keys and decides which of them are still valid.

use serde_json::{Value, json};

use crate::clock::{self, Millis};
use crate::config::Account;
use crate::ids;
use crate::service::Context;
use crate::state::{Session, StateError};

/// An expired key is remembered for this time, to distinguish it from an unknown one.
const MEMORY: Millis = 3_600_000;

/// Key pairs that may call: those of the configuration and the temporary ones.
pub(crate) fn accounts(context: &Context<'_>) -> Vec<Account> {
    let temporary = |session: &Session| Account {
        id: session.id.clone(),
        secret: session.secret.clone(),
        token: Some(session.token.clone()),
    };
    let world = context.store.world();
    let sessions = world.sessions.iter().map(temporary);
    let permanent = context.config.accounts.iter().chain(&context.config.other_accounts);
    permanent.cloned().chain(sessions).collect()
}

/// The temporary key of this id.
pub(crate) fn find(context: &Context<'_>, id: &str) -> Option<Session> {
    context.store.world().sessions.get(id).cloned()
}

/// Whether a key has expired. Keys of the configuration never do.
pub(crate) fn is_expired(context: &Context<'_>, id: &str) -> bool {
    find(context, id).is_some_and(|session| session.expires <= context.now)
}

/// Creates a temporary key valid for `seconds`, or for less when the configuration limits it.
pub(crate) fn issue(
    context: &Context<'_>,
    role: &str,
    name: &str,
    seconds: i64,
) -> Result<Session, StateError> {
    let wanted = seconds.saturating_mul(1000);
    let cap = context.config.session_time.map(|time| Millis::try_from(time.as_millis()));
    let lasts = cap.and_then(Result::ok).map_or(wanted, |cap| cap.min(wanted));
    let session = Session {
        id: format!("STS.{}", ids::upload()),
        secret: ids::upload(),
        token: format!("{}{}", ids::upload(), ids::upload()),
        role: role.to_owned(),
        name: name.to_owned(),
        issued: context.now,
        expires: context.now + lasts,
    };
    let mut world = context.store.world();
    let gone: Vec<String> = world
        .sessions
        .iter()
        .filter(|session| session.expires + MEMORY < context.now)
        .map(|session| session.id.clone())
        .collect();
    for id in gone {
        world.sessions.remove(&id)?;
    }
    world.sessions.put(session.clone())?;
    Ok(session)
}

/// The key issued before under this name while half of its time is left, otherwise a new one.
pub(crate) fn renew(
    context: &Context<'_>,
    role: &str,
    name: &str,
    seconds: i64,
) -> Result<Session, StateError> {
    let known = context
        .store
        .world()
        .sessions
        .iter()
        .filter(|known| known.role == role && known.name == name)
        .max_by_key(|known| known.expires)
        .cloned();
    match known {
        Some(known) if context.now * 2 < known.issued + known.expires => Ok(known),
        Some(_) | None => issue(context, role, name, seconds),
    }
}

/// The key in the form of STS.
pub(crate) fn credentials(session: &Session) -> Value {
    json!({
        "AccessKeyId": session.id,
        "AccessKeySecret": session.secret,
        "SecurityToken": session.token,
        "Expiration": clock::iso(session.expires),
    })
}

/// The key in the form of the metadata service and of a credentials address.
pub(crate) fn document(session: &Session) -> Value {
    let mut document = credentials(session);
    document["LastUpdated"] = Value::from(clock::iso(session.issued));
    document["Code"] = Value::from("Success");
    document
}
