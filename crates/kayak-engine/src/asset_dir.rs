//! Asset directories: what `kayak render` writes and `kayak start` reads, hand edits included.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::assets::{Assets, AssetsError, CLUSTER_FILE, Content, Edited, RENDERED, Rendered, is_secret};
use kayak_core::pki::{KeyStore, Pair, Secret};
use kayak_core::registry::RegistryKeys;

/// What a file is called until it is whole. It lies at the top of the directory, where nothing is taken
/// for an asset or for somebody's addition, and it is the same for all, so that the next run replaces it.
const UNFINISHED: &str = ".unfinished";

/// What can go wrong with an asset directory.
#[derive(Debug, thiserror::Error)]
pub enum AssetDirError {
    /// A file could not be read.
    #[error("failed to read `{path}`")]
    Read {
        /// Which one.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("failed to write `{path}`")]
    Write {
        /// Which one.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was read is no cluster.
    #[error("`{path}` is no asset directory")]
    Assets {
        /// Which one.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: AssetsError,
    },
}

/// One change of an asset directory.
pub struct Write {
    /// The path below the directory.
    pub path: String,
    /// What it is to hold; `None` removes it.
    pub content: Option<Content>,
}

impl Write {
    /// Makes the change, in one step: a cut-off leaves the old or the new.
    pub fn carry_out(&self, dir: &Utf8Path) -> Result<(), AssetDirError> {
        let path = dir.join(&self.path);
        let parent = path.parent().unwrap_or(dir);
        let done = create_private(parent).and_then(|()| match &self.content {
            Some(content) => write_content(dir, &path, content, is_secret(&self.path)),
            None => fs::remove_file(&path),
        });
        done.map_err(|source| AssetDirError::Write { path, source })
    }
}

/// Writes every asset that is not there as it should be; directories 0700, secrets 0600. Files of an
/// earlier rendering that are not among them any more are removed from the directories that kayak fills.
pub fn write(dir: &Utf8Path, assets: &Assets) -> Result<(), AssetDirError> {
    create_private(dir).map_err(|source| AssetDirError::Write { path: dir.to_owned(), source })?;
    writes(dir, assets)?.iter().try_for_each(|write| write.carry_out(dir))
}

/// What [`write`] does, in its order. Cut off between any two, nothing is left that would be taken for
/// somebody's edit: while one rendering takes the place of another, both are written down as rendered.
pub fn writes(dir: &Utf8Path, assets: &Assets) -> Result<Vec<Write>, AssetDirError> {
    let there = read_files(dir)?;
    let stale = stale_among(&there, assets);
    let mut writes = Vec::new();
    if stale.iter().any(|path| path != RENDERED) {
        let either = rendered(&there).or(&assets.rendered());
        let either = Content::File(serde_json::to_vec_pretty(&either).unwrap_or_default());
        writes.push(Write { path: RENDERED.into(), content: Some(either) });
    }
    let wished = |path: &str| assets.files.get(path).cloned();
    let others = stale.iter().filter(|path| *path != RENDERED);
    writes.extend(others.map(|path| Write { path: path.clone(), content: wished(path) }));
    if let Some(content) = wished(RENDERED).filter(|_| !stale.is_empty()) {
        writes.push(Write { path: RENDERED.into(), content: Some(content) });
    }
    Ok(writes)
}

/// Returns the files that [`write`] would write or remove.
pub fn stale(dir: &Utf8Path, assets: &Assets) -> Result<Vec<String>, AssetDirError> {
    Ok(stale_among(&read_files(dir)?, assets))
}

fn stale_among(there: &BTreeMap<String, Content>, assets: &Assets) -> Vec<String> {
    let surplus = there.keys().filter(|path| is_ours(path) && !assets.files.contains_key(*path));
    let differ = assets.files.iter().filter(|(path, content)| there.get(*path) != Some(*content));
    differ.map(|(path, _)| path).chain(surplus).cloned().collect()
}

/// Returns what somebody edited by hand in an asset directory.
pub fn edited(dir: &Utf8Path) -> Result<Edited, AssetDirError> {
    let there = read_files(dir)?;
    // Nothing was rendered here as far as is known: then nothing was edited either.
    Ok(if there.contains_key(RENDERED) { rendered(&there).edited(&there) } else { Edited::new() })
}

fn rendered(there: &BTreeMap<String, Content>) -> Rendered {
    match there.get(RENDERED) {
        Some(Content::File(bytes)) => serde_json::from_slice(bytes).unwrap_or_default(),
        Some(Content::Link(_)) | None => Rendered::default(),
    }
}

/// Says whether a directory is absent, empty or an earlier rendering: nothing else may be written into.
pub fn is_free(dir: &Utf8Path) -> Result<bool, AssetDirError> {
    let files = read_files(dir)?;
    Ok(files.is_empty() || files.contains_key(CLUSTER_FILE))
}

/// What a rendering may replace: whatever else lies in the directory is the owner's.
fn is_ours(path: &str) -> bool {
    ["auth/", "bootstrap-manifests/", "bootstrap-secrets/", "manifests/", "nodes/", "registries/", "tls/"]
        .iter()
        .any(|dir| path.starts_with(dir))
}

fn create_private(dir: &Utf8Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Replaces a file in one step.
fn write_content(dir: &Utf8Path, path: &Utf8Path, content: &Content, secret: bool) -> io::Result<()> {
    let temporary = dir.join(UNFINISHED);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match content {
        Content::File(bytes) => {
            let mode = if secret { 0o600 } else { 0o644 };
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        Content::Link(target) => symlink(target, &temporary)?,
    }
    fs::rename(&temporary, path)
}

/// Reads a whole asset directory.
pub fn read(dir: &Utf8Path) -> Result<Assets, AssetDirError> {
    Assets::from_files(read_files(dir)?)
        .map_err(|source| AssetDirError::Assets { path: dir.to_owned(), source })
}

/// Reads the keys and certificates of an asset directory; an absent one holds none.
pub fn read_keys(dir: &Utf8Path) -> Result<KeyStore, AssetDirError> {
    let mut texts = read_texts(&dir.join("tls"))?;
    let mut take = |name: &str| texts.remove(name);
    let account = take("service-account.pub").zip(take("service-account.key"));
    let mut store = KeyStore {
        encryption_key: take("encryption.key").map(Secret::new),
        service_account: account.map(|(certificate, key)| Pair { certificate, key: Secret::new(key) }),
        registries: read_registries(dir)?,
        ..KeyStore::default()
    };
    for (name, key) in &texts {
        let Some(id) = name.strip_suffix(".key") else { continue };
        if let Some(certificate) = texts.get(&format!("{id}.crt")) {
            let pair = Pair { certificate: certificate.clone(), key: Secret::new(key.clone()) };
            store.pairs.insert(id.to_owned(), pair);
        }
    }
    Ok(store)
}

/// What is known of the owner's registries.
fn read_registries(dir: &Utf8Path) -> Result<BTreeMap<String, RegistryKeys>, AssetDirError> {
    let mut registries: BTreeMap<String, RegistryKeys> = BTreeMap::new();
    for (file, text) in read_texts(&dir.join("registries"))? {
        if let Some(name) = file.strip_suffix(".crt") {
            registries.entry(name.to_owned()).or_default().ca = Some(text);
        } else if let Some(name) = file.strip_suffix(".key") {
            registries.entry(name.to_owned()).or_default().password = Some(Secret::new(text));
        }
    }
    Ok(registries)
}

fn read_texts(dir: &Utf8Path) -> Result<BTreeMap<String, String>, AssetDirError> {
    let texts = read_files(dir)?.into_iter().filter_map(|(name, content)| match content {
        Content::File(bytes) => Some((name, String::from_utf8_lossy(&bytes).into_owned())),
        Content::Link(_) => None,
    });
    Ok(texts.collect())
}

fn read_files(dir: &Utf8Path) -> Result<BTreeMap<String, Content>, AssetDirError> {
    let mut files = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(current) = pending.pop() {
        let fail = |source| AssetDirError::Read { path: current.clone(), source };
        let entries = match current.read_dir_utf8() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && current == dir => return Ok(files),
            entries => entries.map_err(fail)?,
        };
        for entry in entries {
            let entry = entry.map_err(fail)?;
            if entry.file_name() == UNFINISHED {
                continue;
            }
            let (path, kind) = (entry.path().to_owned(), entry.file_type().map_err(fail)?);
            let fail = |source| AssetDirError::Read { path: path.clone(), source };
            let content = if kind.is_dir() {
                pending.push(path);
                continue;
            } else if kind.is_symlink() {
                Content::Link(path.read_link_utf8().map_err(fail)?.into_string())
            } else {
                Content::File(fs::read(&path).map_err(fail)?)
            };
            let name = path.strip_prefix(dir).unwrap_or(&path).to_string();
            files.insert(name, content);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_cut_off_is_nobodys_addition() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(scratch.path()).unwrap();
        let write = |path: &str| Write { path: path.into(), content: Some(Content::File(b"whole".to_vec())) };
        write("manifests/a.yaml").carry_out(dir).unwrap();
        fs::write(dir.join(UNFINISHED), "hal").unwrap();
        assert_eq!(read_files(dir).unwrap().into_keys().collect::<Vec<_>>(), ["manifests/a.yaml"]);
        write("manifests/b.yaml").carry_out(dir).unwrap();
        assert_eq!(read_files(dir).unwrap().len(), 2);
        assert!(!dir.join(UNFINISHED).exists());
    }
}
