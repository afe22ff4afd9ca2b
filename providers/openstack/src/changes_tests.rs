use super::*;

const NOW: u64 = 1000;

fn image(members: &Value) -> Image {
    let mut image = json!({
        "id": "i", "status": "active", "visibility": "private", "os_hidden": false,
        "tags": ["team=images", "plain"],
    });
    image.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    Image::read(image).unwrap()
}

fn action(action: Value) -> Action {
    serde_json::from_value(action).unwrap()
}

/// What an action changes: paths of the record with their new values, and the activation.
fn changed(members: &Value, what: Value) -> Result<(Value, Option<&'static str>)> {
    let plan = plan(&image(members), &action(what), NOW, true)?;
    let operations = plan.operations.iter().map(|one| {
        (one["path"].as_str().unwrap().to_owned(), one.get("value").cloned().unwrap_or(Value::Null))
    });
    assert!(plan.is_empty() || !plan.summary.is_empty());
    Ok((Value::Object(operations.collect()), plan.activation))
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn an_action_changes_only_what_differs() {
    let hidden = json!({"os_hidden": true, DEPRECATED_AT: "5"});
    let disabled = json!({"os_hidden": true, DEPRECATED_AT: "5", "status": "deactivated"});
    let at = format!("/{DEPRECATED_AT}");
    let replacement = format!("/{REPLACEMENT}");
    for (members, what, expected, activation) in [
        (json!({}), json!({"type": "deprecate"}), json!({"/os_hidden": true, &at: "1000"}), None),
        (hidden.clone(), json!({"type": "deprecate"}), json!({}), None),
        (hidden.clone(), json!({"type": "deprecate", "at": 5}), json!({}), None),
        (hidden.clone(), json!({"type": "deprecate", "at": 6}), json!({&at: "6"}), None),
        (
            hidden.clone(),
            json!({"type": "deprecate", "replacement": {"kind": "image", "id": "new", "region": "one"}}),
            json!({&replacement: "new@one"}),
            None,
        ),
        (
            json!({"os_hidden": true, DEPRECATED_AT: "5", REPLACEMENT: "new@one"}),
            json!({"type": "deprecate"}),
            json!({&replacement: null}),
            None,
        ),
        (
            hidden.clone(),
            json!({"type": "deprecate", "disabled_at": 7}),
            json!({}),
            Some("deactivate"),
        ),
        (disabled.clone(), json!({"type": "deprecate", "disabled_at": 7}), json!({}), None),
        (json!({}), json!({"type": "restore"}), json!({}), None),
        (hidden, json!({"type": "restore"}), json!({"/os_hidden": false, &at: null}), None),
        (
            disabled,
            json!({"type": "restore"}),
            json!({"/os_hidden": false, &at: null}),
            Some("reactivate"),
        ),
        (json!({}), json!({"type": "publish", "audience": "private"}), json!({}), None),
        (
            json!({"visibility": "shared"}),
            json!({"type": "publish", "audience": "private"}),
            json!({}),
            None,
        ),
        (
            json!({"visibility": "public"}),
            json!({"type": "publish", "audience": "private"}),
            json!({"/visibility": "shared"}),
            None,
        ),
        (
            json!({}),
            json!({"type": "publish", "audience": "community"}),
            json!({"/visibility": "community"}),
            None,
        ),
        (
            json!({}),
            json!({"type": "tag", "tags": {"team": "images", "plain": ""}}),
            json!({}),
            None,
        ),
        (
            json!({}),
            json!({"type": "tag", "tags": {"team": "others", "new": "1"}}),
            json!({"/tags": ["new=1", "plain", "team=others"]}),
            None,
        ),
        (
            json!({}),
            json!({"type": "untag", "keys": ["team", "absent"]}),
            json!({"/tags": ["plain"]}),
            None,
        ),
        (json!({}), json!({"type": "untag", "keys": ["images", "tea"]}), json!({}), None),
    ] {
        let found = changed(&members, what.clone()).unwrap();
        assert_eq!(found, (expected, activation), "{what} of {members}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn what_the_service_cannot_represent_is_refused_with_what_to_do() {
    let long = "x".repeat(TAG_KEY + 1);
    for (members, what, kind, text) in [
        (
            json!({}),
            json!({"type": "deprecate", "at": NOW + 1}),
            ErrorKind::Unsupported,
            "later time",
        ),
        (
            json!({}),
            json!({"type": "deprecate", "disabled_at": NOW + 1}),
            ErrorKind::Unsupported,
            "cannot disable",
        ),
        (
            json!({"status": "saving"}),
            json!({"type": "deprecate"}),
            ErrorKind::Conflict,
            "is saving",
        ),
        (json!({"status": "queued"}), json!({"type": "restore"}), ErrorKind::Conflict, "is queued"),
        (
            json!({"os_glance_import_task": "t"}),
            json!({"type": "restore"}),
            ErrorKind::Conflict,
            "importing or copying",
        ),
        (
            json!({}),
            json!({"type": "publish", "audience": "martians"}),
            ErrorKind::Unsupported,
            "audience",
        ),
        (
            json!({}),
            json!({"type": "tag", "tags": {"build_image_run": "x"}}),
            ErrorKind::Config,
            "is a mark",
        ),
        (
            json!({}),
            json!({"type": "untag", "keys": ["plain", "build_image_run"]}),
            ErrorKind::Config,
            "is a mark",
        ),
        (
            json!({}),
            json!({"type": "tag", "tags": {"a=b": "c"}}),
            ErrorKind::Config,
            "is not a tag",
        ),
        (json!({}), json!({"type": "tag", "tags": {"": "c"}}), ErrorKind::Config, "is not a tag"),
        (
            json!({}),
            json!({"type": "tag", "tags": {"a": "b\n"}}),
            ErrorKind::Config,
            "is not a tag",
        ),
        (json!({}), json!({"type": "tag", "tags": {long: ""}}), ErrorKind::Config, "is not a tag"),
    ] {
        let error = changed(&members, what.clone()).unwrap_err();
        assert_eq!(error.kind, kind, "{what}: {error}");
        assert!(error.message.contains(text) && error.hint.is_some(), "{what}: {error:?}");
    }
    let old = plan(&image(&json!({})), &action(json!({"type": "deprecate"})), NOW, false);
    assert!(old.unwrap_err().message.contains("too old"));
}
