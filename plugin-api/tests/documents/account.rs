//! Examples of the documents of the optional steps.

use std::collections::BTreeMap;

use build_image_plugin_api::{
    Error, ErrorDocument, ErrorKind,
    document::{
        Action, Audience, Change, Finding, Inventory, InventoryRequest, Item, ItemKind, ItemState,
        ManageOutcome, ManageRequest, Managed, Reference,
    },
};

use super::{Document, document, image, resource};

/// Returns the documents of the optional steps.
pub(super) fn documents() -> Vec<Document> {
    [inventory(), manage()].into_iter().flatten().collect()
}

fn tags() -> BTreeMap<String, String> {
    [("owner".to_owned(), "us".to_owned())].into()
}

fn reference(id: &str) -> Reference {
    Reference::image(id).in_region("eu-1")
}

fn inventory() -> Vec<Document> {
    let request = InventoryRequest {
        run_id: Some("r-1".into()),
        kinds: vec![ItemKind::Image],
        regions: vec!["eu-1".into()],
        names: vec!["web".into()],
        tags: tags(),
        items: vec![reference("m-1")],
        created_since: Some(1_700_000_000),
        created_before: Some(1_800_000_000),
        details: true,
        limit: 100,
        after: Some("m-0".into()),
        ..InventoryRequest::default()
    };
    let item = Item {
        kind: ItemKind::Image,
        id: "m-1".into(),
        name: "web".into(),
        region: Some("eu-1".into()),
        run_id: Some("r-1".into()),
        created: Some(1_750_000_000),
        state: ItemState::Available,
        size_bytes: Some(1 << 30),
        percent: Some(100),
        tags: tags(),
        belongs_to: Some(reference("m-1")),
        copied_from: Some(reference("m-0")),
        disk_digest: Some("sha256:9f86d081884c7d65".into()),
        leased_until: Some(1_750_003_600),
        owner: Some("123".into()),
        audience: Audience::Private,
        shared_with: Some(vec!["456".into()]),
        deprecated_at: Some(1_760_000_000),
        replacement: Some(reference("m-2")),
        attributes: [("boot_mode".to_owned(), "uefi".to_owned())].into(),
        resource: resource(),
        ..Item::default()
    };
    let error = Error::new(ErrorKind::Auth, "region `us-1` may not be read").with_hint("allow it");
    let mut finding = Finding::error("us-1", &error);
    finding.causes = vec!["the account's policy".into()];
    let inventory = Inventory {
        items: vec![item],
        regions: vec!["eu-1".into()],
        truncated: true,
        next: Some("m-1".into()),
        findings: vec![finding],
        ..Inventory::default()
    };
    vec![document("inventory_request", &request), document("inventory", &inventory)]
}

fn manage() -> Vec<Document> {
    let keys = [("eu-2".to_owned(), "key-1".to_owned())].into();
    let (regions, name) = (vec!["eu-2".into()], Some("web".into()));
    let request = ManageRequest {
        run_id: "m-1".into(),
        images: vec![reference("m-1")],
        action: Action::Copy { regions, name, with_access: true, keys },
        dry_run: true,
        ..ManageRequest::default()
    };
    let error = Error::new(ErrorKind::Throttled, "the cloud asks to slow down")
        .with_hint("lower the rate")
        .with_context("request_id", "R-1")
        .exhausted(7, std::time::Duration::from_secs(95));
    let mut error = ErrorDocument::from(&error);
    error.causes = vec!["the account's limit".into()];
    let refused = Managed {
        image: reference("m-1"),
        change: Change::Refused,
        summary: "copied to eu-2".into(),
        copy: Some(image()),
        error: Some(error),
        ..Managed::default()
    };
    let outcome = ManageOutcome { results: vec![refused], ..ManageOutcome::default() };
    vec![document("manage_request", &request), document("manage_outcome", &outcome)]
}
