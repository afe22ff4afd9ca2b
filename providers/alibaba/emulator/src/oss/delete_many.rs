//! Implements DeleteMultipleObjects: up to 1000 keys in one call; missing ones count as deleted.

use md5::{Digest as _, Md5};

use super::error::OssError;
use super::list::Listing;
use super::read_xml::{elements, malformed};
use super::xml::Xml;
use super::{names, receive};
use crate::http::{Answer, Head, RequestBody};
use crate::service::Context;
use crate::state::object_key;

const MAX_KEYS: usize = 1000;
const MAX_BODY: u64 = 2 << 20;

/// Keys to delete, and whether the answer names them.
pub(super) fn read(text: &[u8]) -> Result<(Vec<String>, bool), OssError> {
    let (mut keys, mut quiet) = (Vec::new(), false);
    for element in elements(text)? {
        match element.path.as_str() {
            "Delete/Object/Key" => keys.push(element.text),
            "Delete/Quiet" => quiet = element.text.trim().eq_ignore_ascii_case("true"),
            "Delete/Object/VersionId" => {
                return Err(malformed("this bucket has no versions"));
            }
            _ => {}
        }
    }
    if keys.is_empty() || keys.len() > MAX_KEYS {
        return Err(malformed("1 to 1000 keys are deleted at once"));
    }
    Ok((keys, quiet))
}

/// DeleteMultipleObjects.
pub(super) async fn delete(
    context: &Context<'_>,
    head: &Head,
    bucket: &str,
    body: &mut RequestBody,
) -> Result<Answer, OssError> {
    let listing = Listing::read(head)?;
    let text = body.whole(MAX_BODY).await?;
    let claimed = receive::claimed_md5(head)?;
    receive::check_md5(head, claimed, Some(Md5::digest(&text).into()))?;
    let (keys, quiet) = read(&text)?;
    for key in &keys {
        names::check_key(key)?;
    }
    let mut world = context.store.world();
    for key in &keys {
        world.remove_object(&object_key(bucket, key))?;
    }
    drop(world);
    let mut xml = Xml::new("DeleteResult");
    listing.tell(&mut xml);
    if !quiet {
        for key in &keys {
            xml.node("Deleted", |node| {
                node.leaf("Key", &listing.name(key));
            });
        }
    }
    Ok(Answer::text(200, "application/xml", xml.finish()))
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn keys_keep_their_blanks_and_are_counted() {
        let text = "<Delete><Quiet>true</Quiet><Object><Key> a&amp;b </Key></Object></Delete>";
        assert_eq!(read(text.as_bytes()).unwrap(), (vec![" a&b ".to_owned()], true));
        let many = "<Object><Key>k</Key></Object>".repeat(1001);
        assert!(read(format!("<Delete>{many}</Delete>").as_bytes()).is_err());
        assert!(read(b"<Delete></Delete>").is_err());
    }
}
