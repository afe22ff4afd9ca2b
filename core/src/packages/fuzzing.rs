//! Gives the fuzz targets the readers of what a publisher, a mirror or a registry sends. Not part of the interface.

use std::path::Path;

use super::{
    index::{is_url, parsed},
    origin::{members_of, prefix_of},
    registry::{layers_of, parameter},
    select::{Host, Wanted, choose},
};

/// Parses an index as after its signature was verified, and chooses each of its providers. Returns the locations of the
/// files; `None` when it is refused.
///
/// # Panics
/// When a location leads out of the directory of the index.
#[must_use]
pub fn index(bytes: &[u8]) -> Option<Vec<String>> {
    let index = parsed(bytes, "the index").ok()?;
    let targets = index.packages.iter().flat_map(|release| &release.targets);
    let locations: Vec<String> = targets.map(|target| target.url.clone()).collect();
    for location in locations.iter().filter(|location| !is_url(location)) {
        let is_inside = |part: &str| !part.is_empty() && part != "." && part != "..";
        assert!(location.split('/').all(is_inside), "{location}");
    }
    for release in &index.packages {
        let wanted = Wanted { name: release.name.clone(), version: None };
        if let Ok(choice) = choose(&index, &wanted, &Host::this()) {
            assert!(choice.name == release.name && locations.contains(&choice.target.url));
        }
    }
    Some(locations)
}

/// Reads a tar archive of a mirror. Returns the name and length of each member, and the first bytes of its content;
/// `None` when the archive is refused.
#[must_use]
pub fn archive(path: &Path) -> Option<Vec<(String, u64, Vec<u8>)>> {
    let file = std::fs::File::open(path).ok()?;
    let members = members_of(&file).ok()?;
    members.iter().map(|member| prefix_of(&file, member, 1 << 10)).collect()
}

/// Parses a manifest of a registry. Returns the digests of the files; `None` when it is refused.
#[must_use]
pub fn manifest(bytes: &[u8]) -> Option<Vec<String>> {
    layers_of(bytes).ok().map(|layers| layers.into_iter().map(|layer| layer.digest).collect())
}

/// Parses the challenge of a registry. Returns its token server, service, and scope.
#[must_use]
pub fn challenge(text: &str) -> [Option<&str>; 3] {
    ["realm", "service", "scope"].map(|name| parameter(text, name))
}
