//! The node image, unpacked once for the machine and linked into each cluster that uses it.

use camino::Utf8Path;
use kayak_bundle::Bundle;
use kayak_core::chain::chain;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::LocalError;
use super::paths::Paths;
use super::{disk, paths as places};

/// Unpacks an image of a bundle into the cache, and returns what its directory is called.
pub(crate) fn unpack(bundle: &Bundle, cache: &Utf8Path, image: &str) -> Result<String, LocalError> {
    let Some(found) = bundle.image(image) else {
        let bundle = bundle.directory().to_owned();
        return Err(LocalError::NoImage { bundle, image: image.to_owned() });
    };
    let name = found.digest().hex().to_owned();
    let directory = places::unpacked(cache);
    disk::create_directory(&directory, 0o755)?;
    bundle
        .unpack(image, &directory.join(&name))
        .map_err(|source| LocalError::Unpack { image: image.to_owned(), source: source.into() })?;
    Ok(name)
}

/// Makes sure that a cluster has an image unpacked, and returns what its directory is called. `before` is
/// the directory of the same image that it was made with: it does where the bundle is gone.
pub(crate) fn provide(
    paths: &Paths,
    cluster: &str,
    image: &str,
    before: Option<String>,
) -> Result<String, LocalError> {
    let bundle = match (Bundle::open(&paths.cache.join("bundle")), before) {
        (Ok(bundle), _) => bundle,
        (Err(_), Some(root)) if paths.roots(cluster).join(&root).is_dir() => return Ok(root),
        (Err(source), _) => return Err(LocalError::Bundle(source)),
    };
    let name = unpack(&bundle, &paths.cache, image)?;
    let roots = paths.roots(cluster);
    let linked = roots.join(&name);
    if !linked.is_dir() {
        disk::create_directory(&roots, 0o755)?;
        let partial = roots.join(format!("{name}.partial"));
        disk::remove(&partial)?;
        disk::link_tree(&places::unpacked(&paths.cache).join(&name), &partial)?;
        std::fs::rename(&partial, &linked).map_err(|source| LocalError::Commit { path: linked, source })?;
    }
    Ok(name)
}

/// Writes down a specification, for acts that find nothing but the disk.
pub(crate) fn record(path: &Utf8Path, value: &impl Serialize) -> Result<(), LocalError> {
    let json = serde_json::to_vec_pretty(value)
        .map_err(|source| LocalError::Parse { what: path.to_string(), source })?;
    disk::write(path, &json)
}

/// Reads what was written down.
pub(crate) fn recorded<T: DeserializeOwned>(path: &Utf8Path) -> Result<Option<T>, LocalError> {
    let Some(json) = disk::read(path)? else { return Ok(None) };
    let parsed = serde_json::from_slice(&json);
    parsed.map(Some).map_err(|source| LocalError::Parse { what: path.to_string(), source })
}

/// As [`recorded`], for acts that must come to their end also where what was written down is damaged, or was
/// written by another version.
pub(crate) fn readable<T: DeserializeOwned>(path: &Utf8Path) -> Result<Option<T>, LocalError> {
    match recorded(path) {
        Err(error @ LocalError::Parse { .. }) => {
            tracing::warn!("going on without `{path}`: {}", chain(&error));
            Ok(None)
        }
        read => read,
    }
}
