//! Examples of the documents of the optional steps.

use std::collections::BTreeMap;

use build_image_plugin_api::{
    Error, ErrorKind,
    document::{
        Action, Audience, Finding, Inventory, InventoryRequest, Item, ItemKind, ItemState,
        LocateRequest, Located, ManageOutcome, ManageRequest, Managed, Reference,
    },
};

use super::{Document, build, document, image, resource, uploaded};

/// Returns the documents of the optional steps.
pub(super) fn documents() -> Vec<Document> {
    [inventory(), manage(), locate()].into_iter().flatten().collect()
}

fn tags() -> BTreeMap<String, String> {
    [("owner".to_owned(), "us".to_owned())].into()
}

fn reference(id: &str) -> Reference {
    Reference::image(id).in_region("eu-1")
}

fn inventory() -> Vec<Document> {
    let request = InventoryRequest::default()
        .run_id("r-1")
        .kinds([ItemKind::Image])
        .regions(["eu-1"])
        .names(["web"])
        .tags(tags())
        .items([reference("m-1")])
        .created_since(1_700_000_000)
        .created_before(1_800_000_000)
        .details(true)
        .limit(100)
        .after("m-0");
    let item = Item::new(ItemKind::Image, "m-1", resource())
        .name("web")
        .region("eu-1")
        .run_id("r-1")
        .created(1_750_000_000)
        .state(ItemState::Available)
        .size_bytes(1 << 30)
        .percent(100)
        .tags(tags())
        .belongs_to(reference("m-1"))
        .copied_from(reference("m-0"))
        .disk_digest("sha256:9f86d081884c7d65")
        .leased_until(1_750_003_600)
        .owner("123")
        .audience(Audience::Private)
        .shared_with(vec!["456".into()])
        .deprecated_at(1_760_000_000)
        .replacement(reference("m-2"))
        .attributes([("boot_mode", "uefi".to_owned())]);
    let error = Error::new(ErrorKind::Auth, "region `us-1` may not be read").with_hint("allow it");
    let mut finding = Finding::error("us-1", &error);
    finding.causes = vec!["the account's policy".into()];
    let inventory = Inventory::default()
        .items([item])
        .regions(["eu-1"])
        .truncated(true)
        .next("m-1")
        .findings([finding]);
    vec![document("inventory_request", &request), document("inventory", &inventory)]
}

fn locate() -> Vec<Document> {
    let build = build();
    let guest = build.guest.clone().unwrap_or_default();
    let located = Located::new(uploaded().bytes_sent(0))
        .length(4096)
        .virtual_size(1 << 30)
        .architecture(build.architecture.clone())
        .boot_mode(build.boot_mode.clone())
        .guest(guest);
    let request = LocateRequest::new(build, "acme://images/web");
    vec![document("locate_request", &request), document("located", &located)]
}

fn manage() -> Vec<Document> {
    let keys = [("eu-2".to_owned(), "key-1".to_owned())].into();
    let (regions, name) = (vec!["eu-2".into()], Some("web".into()));
    let action = Action::Copy { regions, name, with_access: true, keys };
    let request = ManageRequest::new(action, [reference("m-1")]).run_id("m-1").dry_run(true);
    let error = Error::new(ErrorKind::Throttled, "the cloud asks to slow down")
        .with_hint("lower the rate")
        .with_context("request_id", "R-1")
        .exhausted(7, std::time::Duration::from_secs(95));
    let mut refused =
        Managed::refused(&reference("m-1"), &error).summary("copied to eu-2").copy(image());
    if let Some(error) = &mut refused.error {
        error.causes = vec!["the account's limit".into()];
    }
    let outcome = ManageOutcome::default().results([refused]);
    vec![document("manage_request", &request), document("manage_outcome", &outcome)]
}
