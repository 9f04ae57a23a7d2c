//! An OCI image layout on disk: <https://github.com/opencontainers/image-spec>, only what kayak
//! writes itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufWriter, Write};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hashing};
use crate::files::{self, FileError};

pub(crate) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// The annotation by which containerd names an imported image.
pub(crate) const NAME: &str = "io.containerd.image.name";
/// The annotation by which other tools do; it holds the tag alone.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation that holds the licences of what is in an image.
pub(crate) const LICENSES: &str = "org.opencontainers.image.licenses";
/// The annotation that says from what an image was built, so that it is not built again.
pub(crate) const KEY: &str = "local.kayak.key";

/// Names a blob, and says what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
}

/// What an image runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
}

/// `index.json`: the images of a layout.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    pub(crate) media_type: String,
    pub(crate) manifests: Vec<Descriptor>,
}

impl Index {
    pub(crate) fn new(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: INDEX_TYPE.to_owned(), manifests }
    }
}

/// The blobs of one image.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// How containers of an image are run, and what its layers unpack to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ImageConfig {
    #[serde(flatten)]
    pub(crate) platform: Platform,
    pub(crate) config: RunConfig,
    pub(crate) rootfs: RootFs,
}

/// The defaults for a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RunConfig {
    pub(crate) env: Vec<String>,
    pub(crate) entrypoint: Vec<String>,
}

/// The digests of the uncompressed layers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) diff_ids: Vec<Digest>,
}

/// The content of the file `oci-layout`.
pub(crate) const MARKER: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// A directory that holds an image layout.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    directory: Utf8PathBuf,
}

impl Layout {
    pub(crate) fn at(directory: &Utf8Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub(crate) fn index_path(&self) -> Utf8PathBuf {
        self.directory.join("index.json")
    }

    pub(crate) fn blob_path(&self, blob: &Digest) -> Utf8PathBuf {
        self.blobs().join(blob.hex())
    }

    fn blobs(&self) -> Utf8PathBuf {
        self.directory.join("blobs/sha256")
    }

    /// Makes the directories and the file that mark a layout.
    pub(crate) fn create(&self) -> Result<(), FileError> {
        files::create_directory(&self.blobs())?;
        files::replace(&self.directory.join("oci-layout"), MARKER.as_bytes())
    }

    /// Adds a small blob.
    pub(crate) fn add(&self, media_type: &str, content: &[u8]) -> Result<Descriptor, FileError> {
        self.add_with(media_type, |blob| blob.write_all(content))
    }

    /// Adds a blob that `write` writes.
    pub(crate) fn add_with(
        &self,
        media_type: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Descriptor, FileError> {
        let unfinished = self.blobs().join("unfinished");
        let mut blob = Hashing::new(BufWriter::new(files::create(&unfinished)?));
        write(&mut blob)
            .and_then(|()| blob.flush())
            .map_err(|source| FileError::Write { path: unfinished.clone(), source })?;
        let (digest, size) = blob.finish();
        let path = self.blob_path(&digest);
        fs::rename(&unfinished, &path).map_err(|source| FileError::Commit { path, source })?;
        Ok(Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            annotations: BTreeMap::new(),
            platform: None,
        })
    }

    /// Makes `index` the layout's, after everything it names is on the disk.
    pub(crate) fn commit(&self, index: &Index) -> Result<(), FileError> {
        let path = self.index_path();
        let failed = |source| FileError::Commit { path: path.clone(), source };
        rustix::fs::syncfs(files::open(&self.directory)?).map_err(|error| failed(error.into()))?;
        let content = serde_json::to_vec_pretty(index).map_err(|error| failed(error.into()))?;
        files::replace(&path, &content)
    }

    /// Removes every blob but these.
    pub(crate) fn remove_blobs_except(&self, kept: &BTreeSet<Digest>) -> Result<(), FileError> {
        for name in files::list(&self.blobs())? {
            if !kept.iter().any(|digest| digest.hex() == name) {
                files::remove(&self.blobs().join(name))?;
            }
        }
        Ok(())
    }
}
