//! Decides the size of the disk, and checks it against the provider's limits.

use std::path::Path;

use build_image_plugin_api::DiskNeeds;

use crate::error::{Error, Result, Stage};

/// Bytes per GiB.
pub(super) const GIB: u64 = 1 << 30;

/// The required size of a new disk, in bytes.
#[derive(Clone, Copy)]
pub(super) struct RequestedSize<'a> {
    /// The size including the reserve, if the image has one.
    pub(super) bytes: u64,
    /// The minimum that the content needs.
    pub(super) least: u64,
    /// The hint when a provider does not accept it.
    pub(super) smaller: &'a str,
}

/// Returns the size of a new disk, enlarged to the provider's requirements; a reserve shrinks to fit the provider's
/// maximum.
///
/// # Errors
/// When the provider does not accept a disk of that size, or has requirements that no disk can meet.
pub(super) fn of_new_disk(
    platform: &str,
    requested: RequestedSize<'_>,
    needs: &DiskNeeds,
) -> Result<u64> {
    let multiple = multiple(needs);
    let round_up = |bytes: u64| {
        let bytes = bytes.max(needs.minimum_bytes.unwrap_or(0));
        let size = bytes.checked_next_multiple_of(multiple);
        size.filter(|size| i64::try_from(*size).is_ok()).ok_or_else(|| {
            Error::new(
                Stage::Plugin,
                format!(
                    "provider `{platform}` wants a disk of at least {bytes} bytes in multiples of {multiple}, which no file can be"
                ),
            )
            .hint("this is a bug of the provider; report it to its author")
        })
    };
    let size = round_up(requested.bytes)?;
    let Some(maximum) = maximum(needs).filter(|maximum| size > *maximum) else { return Ok(size) };
    let (least, largest) = (round_up(requested.least)?, maximum - maximum % multiple);
    if least <= largest {
        return Ok(largest);
    }
    Err(Error::new(
        Stage::Settings,
        format!(
            "the image needs a disk of {} GiB, provider `{platform}` takes at most {} GiB",
            least.div_ceil(GIB),
            maximum / GIB
        ),
    )
    .hint(requested.smaller))
}

/// Checks the size of a given disk. A minimum does not apply: the disk keeps its size, and the cloud may give its
/// machines a larger one.
///
/// # Errors
/// When the provider does not accept it.
pub(super) fn check_given(platform: &str, path: &Path, size: u64, needs: &DiskNeeds) -> Result<()> {
    let display = path.display();
    if let Some(maximum) = maximum(needs).filter(|maximum| size > *maximum) {
        return Err(Error::new(
            Stage::Source,
            format!(
                "`{display}` is a disk of {} GiB, provider `{platform}` takes at most {} GiB",
                size.div_ceil(GIB),
                maximum / GIB
            ),
        )
        .hint("give a smaller disk: shrink its file systems and partitions, then the file"));
    }
    let multiple = multiple(needs);
    if size.is_multiple_of(multiple) {
        return Ok(());
    }
    let error = Error::new(
        Stage::Source,
        format!(
            "`{display}` is a disk of {size} bytes, provider `{platform}` takes multiples of {multiple} bytes only"
        ),
    );
    Err(match size.checked_next_multiple_of(multiple) {
        Some(next) => error.hint(format!("--disk-size={next} shows it with zeros behind its end")),
        None => error,
    })
}

/// Returns the maximum disk size; zero means that the provider declares none.
fn maximum(needs: &DiskNeeds) -> Option<u64> {
    needs.maximum_bytes.filter(|bytes| *bytes > 0)
}

fn multiple(needs: &DiskNeeds) -> u64 {
    needs.multiple_of_bytes.unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(minimum: Option<u64>, maximum: Option<u64>, multiple: Option<u64>) -> DiskNeeds {
        let mut needs = DiskNeeds::default();
        needs.minimum_bytes = minimum;
        needs.maximum_bytes = maximum;
        needs.multiple_of_bytes = multiple;
        needs
    }

    #[test]
    fn new_disks_grow_to_the_providers_requirements() {
        for (bytes, needs, size) in [
            (7 * GIB, needs(None, None, None), 7 * GIB),
            (7 * GIB, needs(Some(20 * GIB), Some(20 * GIB), None), 20 * GIB),
            (7 * GIB, needs(None, Some(0), Some(4 * GIB)), 8 * GIB),
            (7 * GIB, needs(None, None, Some(0)), 7 * GIB),
        ] {
            assert_eq!(of_new_disk("acme", all(bytes), &needs).unwrap(), size);
        }
    }

    /// Requirements without a reserve.
    fn all(bytes: u64) -> RequestedSize<'static> {
        RequestedSize { bytes, least: bytes, smaller: "ask for less" }
    }

    #[test]
    fn a_reserve_shrinks_to_the_providers_maximum() {
        let ceiling = needs(None, Some(127 * GIB), None);
        let odd = needs(None, Some(127 * GIB), Some(2 * GIB));
        for (bytes, least, needs, size) in [
            (126, 110, &ceiling, Some(126)),
            (128, 112, &ceiling, Some(127)),
            (146, 127, &ceiling, Some(127)),
            (146, 127, &odd, None),
            (144, 126, &odd, Some(126)),
            (147, 128, &ceiling, None),
        ] {
            let requested =
                RequestedSize { bytes: bytes * GIB, least: least * GIB, smaller: "ask for less" };
            let found = of_new_disk("acme", requested, needs);
            assert_eq!(found.ok(), size.map(|size| size * GIB), "{bytes} {least}");
        }
    }

    #[test]
    fn unacceptable_disks_are_errors_and_never_shrunk() {
        for (bytes, needs, stage, text) in [
            (
                21 * GIB,
                needs(None, Some(20 * GIB), None),
                Stage::Settings,
                "a disk of 21 GiB, provider `acme` takes at most 20 GiB",
            ),
            // Fits before rounding, but not after.
            (
                19 * GIB,
                needs(None, Some(20 * GIB), Some(16 * GIB)),
                Stage::Settings,
                "a disk of 32 GiB",
            ),
            (GIB, needs(None, None, Some(u64::MAX)), Stage::Plugin, "no file can be"),
            (GIB, needs(None, None, Some((1 << 63) + 1)), Stage::Plugin, "no file can be"),
            (GIB, needs(Some(u64::MAX), None, None), Stage::Plugin, "no file can be"),
        ] {
            let error = of_new_disk("acme", all(bytes), &needs).unwrap_err();
            assert!(error.stage == stage && error.message.contains(text), "{error}");
            assert!(error.hint.is_some());
        }
    }

    #[test]
    fn given_disks_are_accepted_unchanged_or_refused() {
        let path = Path::new("d.raw");
        let rules = needs(Some(20 * GIB), Some(2 * GIB), Some(1 << 20));
        check_given("acme", path, GIB, &rules).unwrap();
        let error = check_given("acme", path, 3 * GIB, &rules).unwrap_err();
        assert!(error.message.contains("`d.raw` is a disk of 3 GiB"), "{error}");
        let error = check_given("acme", path, GIB + 512, &rules).unwrap_err();
        assert!(error.message.contains("multiples of 1048576 bytes"), "{error}");
        assert_eq!(
            error.hint.unwrap(),
            "--disk-size=1074790400 shows it with zeros behind its end"
        );
        let huge = needs(None, None, Some(u64::MAX));
        assert!(check_given("acme", path, GIB, &huge).is_err());
    }
}
