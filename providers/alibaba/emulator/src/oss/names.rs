//! Checks the names of buckets and objects. Source: the vendor's naming conventions.

use super::error::OssError;

/// 3 to 63 of `a-z 0-9 -`, no `-` at the ends.
pub(crate) fn is_bucket_name(name: &str) -> bool {
    (3..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Refuses a bucket name that breaks the rules.
pub(crate) fn check_bucket(name: &str) -> Result<(), OssError> {
    if is_bucket_name(name) {
        return Ok(());
    }
    Err(OssError::new(400, "InvalidBucketName", "The specified bucket is not valid.")
        .with("BucketName", name))
}

/// Refuses an object key that breaks the rules: 1 to 1023 bytes, not starting with `/` or `\`.
pub(crate) fn check_key(key: &str) -> Result<(), OssError> {
    let ec = if key.is_empty() || key.len() > 1023 {
        "0016-00000001"
    } else if key.starts_with('/') {
        "0016-00000002"
    } else if key.starts_with('\\') {
        "0016-00000005"
    } else {
        return Ok(());
    };
    Err(OssError::new(400, "InvalidObjectName", "The specified object is not valid.")
        .ec(ec)
        .with("ObjectName", key))
}

#[cfg(test)]
mod tests {
    use super::{check_bucket, check_key, is_bucket_name};

    #[test]
    fn names_are_held_to_the_vendors_rules() {
        for good in ["abc", "a-1", "123"] {
            assert!(is_bucket_name(good), "{good}");
        }
        for bad in ["ab", "-ab", "ab-", "Abc", "a_b", &"a".repeat(64)] {
            assert_eq!(check_bucket(bad).unwrap_err().code, "InvalidBucketName");
        }
        assert!(check_key("dir/a b+.qcow2").is_ok());
        for bad in ["", "/a", "\\a", &"a".repeat(1024)] {
            assert_eq!(check_key(bad).unwrap_err().status, 400);
        }
    }
}
