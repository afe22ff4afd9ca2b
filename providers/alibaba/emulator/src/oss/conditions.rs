//! Evaluates conditional requests: `If-Match` and its relatives on an object, and the same conditions on the
//! source of a copy. Dates are compared to the second; a date that cannot be parsed is ignored.

use super::error::OssError;
use crate::clock;
use crate::http::Head;
use crate::state::Object;

/// Names of the four headers.
#[derive(Debug)]
pub(super) struct Names {
    same: &'static str,
    other: &'static str,
    newer: &'static str,
    older: &'static str,
}

/// On the object itself.
pub(super) const OBJECT: Names = Names {
    same: "if-match",
    other: "if-none-match",
    newer: "if-modified-since",
    older: "if-unmodified-since",
};
/// On the source of a copy.
pub(super) const SOURCE: Names = Names {
    same: "x-oss-copy-source-if-match",
    other: "x-oss-copy-source-if-none-match",
    newer: "x-oss-copy-source-if-modified-since",
    older: "x-oss-copy-source-if-unmodified-since",
};

fn names_etag(list: &str, etag: &str) -> bool {
    list.split(',')
        .map(|item| item.trim().trim_matches('"'))
        .any(|item| item == "*" || item.eq_ignore_ascii_case(etag))
}

/// Refuses a call whose conditions do not hold: 412, or 304 if the client already has the object.
pub(super) fn check(head: &Head, object: &Object, names: &Names) -> Result<(), OssError> {
    let modified = object.modified / 1000;
    let date = |name| head.header(name).and_then(clock::parse_rfc1123).map(|at| at / 1000);
    if head.header(names.same).is_some_and(|list| !names_etag(list, &object.etag)) {
        return Err(failed("If-Match"));
    }
    if date(names.older).is_some_and(|at| modified > at) {
        return Err(failed("If-Unmodified-Since"));
    }
    let known = head.header(names.other).is_some_and(|list| names_etag(list, &object.etag));
    if known || date(names.newer).is_some_and(|at| modified <= at) {
        return Err(OssError::new(304, "NotModified", "Not Modified"));
    }
    Ok(())
}

fn failed(condition: &str) -> OssError {
    OssError::new(
        412,
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold.",
    )
    .with("Condition", condition)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hyper::header::{HeaderName, HeaderValue};

    use super::{OBJECT, check};
    use crate::http::Head;
    use crate::state::Object;

    #[test]
    fn conditions_hold_or_answer_304_or_412() {
        let object = Object {
            bucket: "b".into(),
            name: "k".into(),
            length: 0,
            crc64: 0,
            etag: "AB12".into(),
            modified: 1_702_743_657_900,
            object_type: "Normal".into(),
            headers: BTreeMap::new(),
            segments: Vec::new(),
        };
        let at = "Sat, 16 Dec 2023 16:20:57 GMT";
        let before = "Sat, 16 Dec 2023 16:20:56 GMT";
        for (name, value, status) in [
            ("if-match", "\"AB12\"", 200),
            ("if-match", "ab12", 200),
            ("if-match", "*", 200),
            ("if-match", "\"X\"", 412),
            ("if-none-match", "\"X\", \"AB12\"", 304),
            ("if-none-match", "X", 200),
            ("if-modified-since", at, 304),
            ("if-modified-since", before, 200),
            ("if-modified-since", "yesterday", 200),
            ("if-unmodified-since", at, 200),
            ("if-unmodified-since", before, 412),
        ] {
            let mut head = Head::default();
            let name = HeaderName::from_static(name);
            head.headers.insert(name.clone(), HeaderValue::from_static(value));
            let found = check(&head, &object, &OBJECT).map_or_else(|error| error.status, |()| 200);
            assert_eq!(found, status, "{name}: {value}");
        }
    }
}
