//! Names what a run stores in a bucket.

use crate::config::Config;

/// Returns the key of the object of a run.
pub(crate) fn object_key(config: &Config, run: &str) -> String {
    format!("{}build-image-{run}.vmdk", config.prefix)
}
