//! A bundle on disk: which images it holds, and whether they are whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::catalog::Catalog;
use crate::digest::{Digest, Hashing};
use crate::files::{self, FileError};
use crate::layout::{Descriptor, Index, LICENSES, Layout, MANIFEST_TYPE, Manifest, NAME};

/// An opened bundle. Its index and manifests were read and fit each other; [`Bundle::verify`]
/// checks the rest.
#[derive(Debug)]
pub struct Bundle {
    pub(crate) layout: Layout,
    directory: Utf8PathBuf,
    images: Vec<Image>,
}

/// One image of a bundle.
#[derive(Clone, Debug)]
pub struct Image {
    reference: String,
    pub(crate) descriptor: Descriptor,
    pub(crate) config: Descriptor,
    pub(crate) layer: Descriptor,
}

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none, or its files cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its index is not one.
    #[error("failed to understand the index `{path}`")]
    Index {
        /// The index.
        path: Utf8PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A manifest is not one.
    #[error("failed to understand the manifest `{digest}` of `{image}`")]
    Manifest {
        /// The image's reference.
        image: String,
        /// The manifest.
        digest: Digest,
        /// Why.
        source: serde_json::Error,
    },
    /// A manifest is not the one that the index names.
    #[error("the manifest `{digest}` of `{image}` is damaged")]
    DamagedManifest {
        /// The image's reference.
        image: String,
        /// The manifest.
        digest: Digest,
    },
    /// An image is not of the form kayak builds.
    #[error("image `{image}` is not one that kayak built: it has {problem}")]
    Foreign {
        /// The image's reference, or its digest if it has none.
        image: String,
        /// What is different.
        problem: &'static str,
    },
}

/// A blob that is not what its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The blob.
    pub blob: Digest,
    /// The references of the images that need it.
    pub images: Vec<String>,
    /// What is wrong with it.
    pub kind: DamageKind,
}

/// What can be wrong with a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// It is not there.
    Missing,
    /// It has another size.
    Size {
        /// The size it should have.
        expected: u64,
        /// The size it has.
        found: u64,
    },
    /// Its bytes changed.
    Content,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blob `{}` of {} ", self.blob, self.images.join(", "))?;
        match self.kind {
            DamageKind::Missing => write!(f, "is missing"),
            DamageKind::Size { expected, found } => {
                write!(f, "has {found} bytes instead of {expected}")
            }
            DamageKind::Content => write!(f, "has other content"),
        }
    }
}

impl Bundle {
    /// Opens the bundle in a directory.
    pub fn open(directory: &Utf8Path) -> Result<Self, OpenError> {
        let layout = Layout::at(directory);
        let path = layout.index_path();
        let index: Index = serde_json::from_slice(&files::read(&path)?)
            .map_err(|source| OpenError::Index { path, source })?;
        let images = index
            .manifests
            .into_iter()
            .map(|descriptor| Image::open(&layout, descriptor))
            .collect::<Result<_, _>>()?;
        Ok(Self { layout, directory: directory.to_owned(), images })
    }

    /// Returns the directory it is in.
    pub fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    /// Returns its images.
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// Returns the image of a reference.
    pub fn image(&self, reference: &str) -> Option<&Image> {
        self.images.iter().find(|image| image.reference == reference)
    }

    /// Returns the references of the images that a catalog names and this bundle does not have.
    pub fn lacks(&self, catalog: &Catalog) -> Vec<String> {
        let wanted = catalog.images().map(|(owner, image)| owner.reference(image));
        wanted.filter(|reference| self.image(reference).is_none()).collect()
    }

    /// Returns its identity: that of all its images and their names.
    pub fn digest(&self) -> Digest {
        let images: BTreeMap<_, _> =
            self.images.iter().map(|image| (image.reference.clone(), image.digest().to_string())).collect();
        Digest::of_all(images.into_iter().flat_map(|(reference, digest)| [reference, digest]))
    }

    /// Returns how many bytes its images take on the disk.
    pub fn size(&self) -> u64 {
        let blobs: BTreeMap<_, _> = self.blobs().map(|blob| (&blob.digest, blob.size)).collect();
        blobs.values().sum()
    }

    /// Reads every byte of it, and returns what is damaged.
    pub fn verify(&self) -> Result<Vec<Damage>, FileError> {
        let mut seen = BTreeSet::new();
        let mut damages = Vec::new();
        for blob in self.blobs().filter(|blob| seen.insert(&blob.digest)) {
            if let Some(kind) = self.damage_of(blob)? {
                let needs = |image: &&Image| image.blobs().any(|used| used.digest == blob.digest);
                let images = self.images.iter().filter(needs).map(|image| image.reference.clone());
                damages.push(Damage { blob: blob.digest.clone(), images: images.collect(), kind });
            }
        }
        Ok(damages)
    }

    /// Removes damaged blobs, so that the next build makes their images again.
    pub fn discard(&self, damages: &[Damage]) -> Result<(), FileError> {
        damages.iter().try_for_each(|damage| files::remove(&self.layout.blob_path(&damage.blob)))
    }

    fn damage_of(&self, blob: &Descriptor) -> Result<Option<DamageKind>, FileError> {
        let path = self.layout.blob_path(&blob.digest);
        let Some(found) = size_of(&path)? else {
            return Ok(Some(DamageKind::Missing));
        };
        if found != blob.size {
            return Ok(Some(DamageKind::Size { expected: blob.size, found }));
        }
        let mut content = Hashing::new(files::open(&path)?);
        io::copy(&mut content, &mut io::sink()).map_err(|source| FileError::Read { path, source })?;
        Ok((content.finish().0 != blob.digest).then_some(DamageKind::Content))
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.images.iter().flat_map(Image::blobs)
    }

    /// Returns the index entries of the images all of whose blobs are there, judged by their sizes.
    pub(crate) fn into_whole_images(self) -> Vec<Descriptor> {
        let is_there = |blob: &Descriptor| {
            size_of(&self.layout.blob_path(&blob.digest)).is_ok_and(|found| found == Some(blob.size))
        };
        let whole = self.images.iter().filter(|image| image.blobs().all(is_there));
        whole.map(|image| image.descriptor.clone()).collect()
    }
}

impl Image {
    fn open(layout: &Layout, descriptor: Descriptor) -> Result<Self, OpenError> {
        let foreign = |problem| OpenError::Foreign {
            image: descriptor.annotations.get(NAME).unwrap_or(&descriptor.digest.to_string()).clone(),
            problem,
        };
        let reference = descriptor.annotations.get(NAME).ok_or_else(|| foreign("no name"))?.clone();
        if descriptor.media_type != MANIFEST_TYPE {
            return Err(foreign("no manifest"));
        }
        let content = files::read(&layout.blob_path(&descriptor.digest))?;
        let digest = descriptor.digest.clone();
        if Digest::of(&content) != digest {
            return Err(OpenError::DamagedManifest { image: reference, digest });
        }
        let manifest: Manifest = serde_json::from_slice(&content).map_err(|source| OpenError::Manifest {
            image: reference.clone(),
            digest,
            source,
        })?;
        let layer: Result<[Descriptor; 1], _> = manifest.layers.try_into();
        let [layer] = layer.map_err(|_| foreign("more or less than one layer"))?;
        Ok(Self { reference, descriptor, config: manifest.config, layer })
    }

    /// Returns its full reference.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// Returns the digest of its manifest, by which runtimes know it.
    pub fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    /// Returns how many bytes it unpacks to.
    pub fn size(&self) -> u64 {
        self.layer.size
    }

    /// Returns the licences of what it holds, as an SPDX expression.
    pub fn licenses(&self) -> &str {
        self.descriptor.annotations.get(LICENSES).map_or("", String::as_str)
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        [&self.descriptor, &self.config, &self.layer].into_iter()
    }
}

fn size_of(path: &Utf8Path) -> Result<Option<u64>, FileError> {
    match path.metadata() {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;
