//! Parses the Range header as OSS does: without `x-oss-range-behavior: standard` a range that is not
//! completely inside the object is ignored; with it the end is cut and a start beyond the end refused.

use hyper::header::HeaderValue;

use super::error::OssError;
use crate::http::Head;

/// First byte and length to send, or `None` for the whole object.
pub(crate) fn read(head: &Head, size: u64) -> Result<Option<(u64, u64)>, OssError> {
    let Some(text) = head.header("range").and_then(|text| text.strip_prefix("bytes=")) else {
        return Ok(None);
    };
    let standard = head
        .header("x-oss-range-behavior")
        .is_some_and(|behaviour| behaviour.eq_ignore_ascii_case("standard"));
    let Some((first, last)) = text.split_once('-') else { return Ok(None) };
    let (first, last) = match (first.trim(), last.trim()) {
        ("", suffix) => match suffix.parse::<u64>() {
            Ok(0) | Err(_) => return Ok(None),
            Ok(length) if length > size && !standard => return Ok(None),
            Ok(length) => (size.saturating_sub(length), size.saturating_sub(1)),
        },
        (first, "") => match first.parse::<u64>() {
            Ok(first) => (first, size.saturating_sub(1).max(first)),
            Err(_) => return Ok(None),
        },
        (first, last) => match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) if first <= last => (first, last),
            _ => return Ok(None),
        },
    };
    if first >= size {
        return if standard { Err(beyond(size, text)) } else { Ok(None) };
    }
    if last >= size && !standard {
        return Ok(None);
    }
    Ok(Some((first, last.min(size - 1) - first + 1)))
}

/// First byte and length of `bytes=…` if that is completely inside, otherwise `None`.
pub(super) fn inside(text: &str, size: u64) -> Option<(u64, u64)> {
    let mut head = Head::default();
    head.headers.insert("range", HeaderValue::from_str(text).ok()?);
    read(&head, size).ok().flatten()
}

fn beyond(size: u64, text: &str) -> OssError {
    OssError::new(416, "InvalidRange", "The requested range cannot be satisfied")
        .with("ActualObjectSize", &size.to_string())
        .with("RangeRequested", text)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::read;
    use crate::http::Head;

    fn head(range: &str, standard: bool) -> Head {
        let mut head = Head::default();
        head.headers.insert("range", HeaderValue::from_str(range).unwrap());
        if standard {
            head.headers.insert("x-oss-range-behavior", HeaderValue::from_static("standard"));
        }
        head
    }

    #[test]
    fn ranges_follow_the_two_behaviours() {
        for (range, size, plain, standard) in [
            ("bytes=0-3", 10, Some((0, 4)), Ok(Some((0, 4)))),
            ("bytes=4-", 10, Some((4, 6)), Ok(Some((4, 6)))),
            ("bytes=-5", 10, Some((5, 5)), Ok(Some((5, 5)))),
            ("bytes=-50", 10, None, Ok(Some((0, 10)))),
            ("bytes=8-20", 10, None, Ok(Some((8, 2)))),
            ("bytes=10-20", 10, None, Err(416)),
            ("bytes=10-", 10, None, Err(416)),
            ("bytes=0-", 0, None, Err(416)),
            ("bytes=5-4", 10, None, Ok(None)),
            ("lines=1-2", 10, None, Ok(None)),
        ] {
            assert_eq!(read(&head(range, false), size).unwrap(), plain, "{range}");
            let read = read(&head(range, true), size).map_err(|error| error.status);
            assert_eq!(read, standard, "{range}");
        }
    }
}
