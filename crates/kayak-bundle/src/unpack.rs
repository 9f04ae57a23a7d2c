//! Taking files out of a bundle: whole images, or single programs for the machine itself.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use tar::EntryType;

use crate::bundle::{Bundle, Image};
use crate::digest::{Digest, Hashing};
use crate::files::{self, FileError, Lock};

/// How many links from one file to the next are followed before they must be a circle.
const MAX_LINKS: usize = 8;

/// Why something could not be taken out of a bundle.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The bundle has no such image.
    #[error("the bundle has no image `{image}`")]
    NoImage {
        /// The reference.
        image: String,
    },
    /// The image has no such file.
    #[error("image `{image}` has no file `{path}`")]
    NoFile {
        /// The image's reference.
        image: String,
        /// The file.
        path: Utf8PathBuf,
    },
    /// The layer could not be unpacked.
    #[error("failed to unpack `{image}` to `{destination}`")]
    Unpack {
        /// The image's reference.
        image: String,
        /// The directory.
        destination: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The layer is not what its name says. Nothing was put in place.
    #[error("the layer `{layer}` of `{image}` is damaged")]
    Damaged {
        /// The image's reference.
        image: String,
        /// The layer.
        layer: Digest,
    },
    /// A file could not be copied out of the layer.
    #[error("failed to extract `{path}` of `{image}`")]
    Extract {
        /// The image's reference.
        image: String,
        /// The file in the image.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An unpacked image could not be compared with the bundle.
    #[error("failed to compare `{directory}` with `{image}`")]
    Compare {
        /// The image's reference.
        image: String,
        /// The directory it was unpacked to.
        directory: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the bundle or of the destination could not be handled.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Bundle {
    /// Unpacks an image with modes, owners, links and extended attributes, for which it must run as
    /// root. The directory appears when all of it is on the disk; if it is there already, it is
    /// left as it is.
    pub fn unpack(&self, image: &str, destination: &Utf8Path) -> Result<(), UnpackError> {
        let image = self.named(image)?;
        let _lock = Lock::beside(destination, || ())?;
        if destination.is_dir() {
            return Ok(());
        }
        let unfinished = Utf8PathBuf::from(format!("{destination}.unfinished"));
        files::create_empty_directory(&unfinished)?;
        let mut layer = Hashing::new(self.layer(image)?);
        unpack_layer(&mut layer, &unfinished).map_err(|source| UnpackError::Unpack {
            image: image.reference().to_owned(),
            destination: destination.to_owned(),
            source,
        })?;
        if layer.finish().0 != image.layer.digest {
            files::remove(&unfinished)?;
            let (image, layer) = (image.reference().to_owned(), image.layer.digest.clone());
            return Err(UnpackError::Damaged { image, layer });
        }
        Ok(files::commit_directory(&unfinished, destination)?)
    }

    /// Compares an unpacked image with the bundle, and returns the paths in it that were changed or
    /// removed. Files that were added are not looked for.
    pub fn changed_since_unpacked(
        &self,
        image: &str,
        directory: &Utf8Path,
    ) -> Result<Vec<Utf8PathBuf>, UnpackError> {
        let image = self.named(image)?;
        changed_files(self.layer(image)?, directory).map_err(|source| UnpackError::Compare {
            image: image.reference().to_owned(),
            directory: directory.to_owned(),
            source,
        })
    }

    /// Copies one file of an image to `destination`, following links within the image.
    pub fn extract_file(
        &self,
        image: &str,
        path: &Utf8Path,
        destination: &Utf8Path,
    ) -> Result<(), UnpackError> {
        let image = self.named(image)?;
        let absent = || UnpackError::NoFile { image: image.reference().to_owned(), path: path.to_owned() };
        let failed = |source| UnpackError::Extract {
            image: image.reference().to_owned(),
            path: path.to_owned(),
            source,
        };
        let mut wanted = absolute(path);
        for _ in 0..MAX_LINKS {
            match copy_file(self.layer(image)?, &wanted, destination).map_err(failed)? {
                Found::File => return Ok(()),
                Found::LinkTo(target) => wanted = target,
                Found::Nothing => return Err(absent()),
            }
        }
        Err(absent())
    }

    pub(crate) fn named(&self, reference: &str) -> Result<&Image, UnpackError> {
        self.image(reference).ok_or_else(|| UnpackError::NoImage { image: reference.to_owned() })
    }

    fn layer(&self, image: &Image) -> Result<File, FileError> {
        files::open(&self.layout.blob_path(&image.layer.digest))
    }
}

fn unpack_layer(layer: &mut impl Read, directory: &Utf8Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(&mut *layer);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_unpack_xattrs(true);
    archive.unpack(directory)?;
    // What pads the archive's end is part of the digest too.
    io::copy(layer, &mut io::sink()).map(drop)
}

fn changed_files(layer: File, directory: &Utf8Path) -> io::Result<Vec<Utf8PathBuf>> {
    let mut changed = Vec::new();
    for entry in tar::Archive::new(layer).entries()? {
        let mut entry = entry?;
        let path = utf8(&entry.path()?)?;
        if !is_same(&mut entry, &directory.join(&path))? {
            changed.push(path);
        }
    }
    Ok(changed)
}

fn is_same(entry: &mut tar::Entry<'_, File>, path: &Utf8Path) -> io::Result<bool> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match entry.header().entry_type() {
        EntryType::Symlink => {
            let target = entry.link_name()?;
            Ok(found.is_symlink() && fs::read_link(path)? == target.unwrap_or_default())
        }
        EntryType::Directory => Ok(found.is_dir()),
        _ if !found.is_file() || found.len() != entry.size() => Ok(false),
        _ if found.mode() & 0o7777 != entry.header().mode()? => Ok(false),
        _ => is_equal(entry, File::open(path)?),
    }
}

fn is_equal(one: &mut impl Read, mut other: impl Read) -> io::Result<bool> {
    let (mut here, mut there) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let read = one.read(&mut here)?;
        if read == 0 {
            return Ok(other.read(&mut there)? == 0);
        }
        match other.read_exact(&mut there[..read]) {
            Ok(()) if here[..read] == there[..read] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// What lies at a path of an image.
enum Found {
    File,
    LinkTo(Utf8PathBuf),
    Nothing,
}

fn copy_file(layer: File, wanted: &Utf8Path, destination: &Utf8Path) -> io::Result<Found> {
    for entry in tar::Archive::new(layer).entries_with_seek()? {
        let mut entry = entry?;
        let path = absolute(&utf8(&entry.path()?)?);
        match entry.header().entry_type() {
            EntryType::Regular if path == wanted => {
                let mode = fs::Permissions::from_mode(entry.header().mode()?);
                write_file(&mut entry, mode, destination)?;
                return Ok(Found::File);
            }
            // The link may be the file itself, or a directory on the way to it.
            EntryType::Symlink => {
                if let Ok(rest) = wanted.strip_prefix(&path) {
                    let target = utf8(&entry.link_name()?.unwrap_or_default())?;
                    let from = path.parent().unwrap_or(&path);
                    return Ok(Found::LinkTo(absolute(&from.join(target).join(rest))));
                }
            }
            _ => {}
        }
    }
    Ok(Found::Nothing)
}

fn write_file(content: &mut impl Read, mode: fs::Permissions, destination: &Utf8Path) -> io::Result<()> {
    let parent = files::parent(destination);
    fs::create_dir_all(parent)?;
    let mut file = tempfile::Builder::new().permissions(mode.clone()).tempfile_in(parent)?;
    io::copy(content, &mut file)?;
    file.flush()?;
    file.as_file().set_permissions(mode)?;
    file.as_file().sync_all()?;
    file.persist(destination)?;
    Ok(())
}

/// Returns a path from the root of an image, without `.` and `..`.
fn absolute(path: &Utf8Path) -> Utf8PathBuf {
    let mut absolute = Utf8PathBuf::from("/");
    for part in path.components() {
        match part {
            Utf8Component::Normal(name) => absolute.push(name),
            Utf8Component::ParentDir => {
                absolute.pop();
            }
            _ => {}
        }
    }
    absolute
}

fn utf8(path: &std::path::Path) -> io::Result<Utf8PathBuf> {
    Utf8PathBuf::try_from(path.to_owned()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
