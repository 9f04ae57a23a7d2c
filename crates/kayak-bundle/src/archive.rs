//! A bundle as one stream: for containerd, or as a file that goes to another machine.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::thread;

use camino::{Utf8Path, Utf8PathBuf};
use tar::{EntryType, Header};

use crate::bundle::{Bundle, Image, OpenError};
use crate::digest::{Digest, Hashing};
use crate::files::{self, FileError, Lock};
use crate::layout::{Descriptor, Index, Layout, MARKER};

/// Programs compress by half; higher levels cost minutes and gain a few percent.
const COMPRESSION: i32 = 6;

/// Why a bundle could not be written as an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bundle has no such image.
    #[error("the bundle has no image `{image}`")]
    NoImage {
        /// The reference.
        image: String,
    },
    /// The archive could not be written, or the bundle read.
    #[error("failed to write the images to an archive")]
    Write {
        /// Why.
        source: io::Error,
    },
    /// The file for it could not be made.
    #[error("failed to export the bundle to `{file}`")]
    Export {
        /// Which one.
        file: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a file was not taken as a bundle. The bundle that was there before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is not an exported bundle, or is damaged.
    #[error("failed to read the bundle file `{file}`")]
    Read {
        /// Which one.
        file: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A part of the file could not be read or stored.
    #[error("failed to take the blob `{blob}` out of `{file}`")]
    Blob {
        /// The file.
        file: Utf8PathBuf,
        /// The blob.
        blob: Digest,
        /// Why.
        source: FileError,
    },
    /// What is in the file is not what its name says.
    #[error("the blob `{blob}` in `{file}` is damaged")]
    DamagedBlob {
        /// The file.
        file: Utf8PathBuf,
        /// The blob.
        blob: Digest,
    },
    /// The file holds something that bundles do not hold.
    #[error("`{file}` is not a bundle: it holds `{entry}`")]
    Foreign {
        /// The file.
        file: Utf8PathBuf,
        /// What it holds.
        entry: String,
    },
    /// The file's parts do not make a bundle.
    #[error("`{file}` does not hold a whole bundle")]
    Open {
        /// The file.
        file: Utf8PathBuf,
        /// Why.
        source: OpenError,
    },
    /// The file lacks a blob that one of its images needs.
    #[error("`{file}` does not hold a whole bundle: blob `{blob}` is missing")]
    Incomplete {
        /// The file.
        file: Utf8PathBuf,
        /// The blob.
        blob: Digest,
    },
    /// A file of the new bundle could not be handled.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Bundle {
    /// Writes some of its images as an archive of an image layout, which `ctr images import -`
    /// reads.
    pub fn archive(&self, out: impl Write, references: &[&str]) -> Result<(), ArchiveError> {
        let find = |reference: &&str| {
            self.image(reference).ok_or_else(|| ArchiveError::NoImage { image: (*reference).to_owned() })
        };
        let images = references.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        self.write_archive(out, &images).map_err(|source| ArchiveError::Write { source })
    }

    /// Writes all of it to one compressed file.
    pub fn export(&self, file: &Utf8Path) -> Result<(), ArchiveError> {
        self.write_export(file).map_err(|source| ArchiveError::Export { file: file.to_owned(), source })
    }

    fn write_export(&self, file: &Utf8Path) -> io::Result<()> {
        // A bundle holds no secrets.
        let mode = Permissions::from_mode(0o644);
        let mut unfinished = tempfile::Builder::new().permissions(mode).tempfile_in(files::parent(file))?;
        let mut encoder = zstd::Encoder::new(BufWriter::new(&mut unfinished), COMPRESSION)?;
        encoder.include_checksum(true)?;
        encoder.multithread(cores())?;
        self.write_archive(&mut encoder, &self.images().iter().collect::<Vec<_>>())?;
        encoder.finish()?.flush()?;
        unfinished.as_file().sync_all()?;
        unfinished.persist(file)?;
        Ok(())
    }

    fn write_archive(&self, out: impl Write, images: &[&Image]) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        let index = Index::new(images.iter().map(|image| image.descriptor.clone()).collect());
        let index = serde_json::to_vec_pretty(&index)?;
        append(&mut archive, "oci-layout", MARKER.len() as u64, MARKER.as_bytes())?;
        append(&mut archive, "index.json", index.len() as u64, index.as_slice())?;
        let blobs: BTreeMap<&Digest, &Descriptor> =
            images.iter().flat_map(|image| image.blobs()).map(|blob| (&blob.digest, blob)).collect();
        for (digest, blob) in blobs {
            let content = File::open(self.layout.blob_path(digest))?;
            append(&mut archive, &format!("blobs/sha256/{}", digest.hex()), blob.size, content)?;
        }
        archive.into_inner()?.flush()
    }

    /// Takes a file that [`Bundle::export`] wrote as the bundle in a directory. It takes the place
    /// of the one there as a whole, and only if every byte is right.
    pub fn import(file: &Utf8Path, directory: &Utf8Path) -> Result<Self, ImportError> {
        let _lock = Lock::beside(directory, || ())?;
        let unfinished = Utf8PathBuf::from(format!("{directory}.unfinished"));
        files::create_empty_directory(&unfinished)?;
        if let Err(error) = receive(file, &unfinished) {
            files::remove(&unfinished)?;
            return Err(error);
        }
        files::commit_directory(&unfinished, directory)?;
        Self::open(directory).map_err(|source| ImportError::Open { file: file.to_owned(), source })
    }
}

fn cores() -> u32 {
    thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    path: &str,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(size);
    // A file that is shorter or longer than it should be would spoil the rest of the archive.
    let mut content = Hashing::new(content);
    archive.append_data(&mut header, path, &mut content)?;
    let (_, copied) = content.finish();
    if copied == size {
        Ok(())
    } else {
        Err(io::Error::other(format!("`{path}` has {copied} bytes instead of {size}")))
    }
}

/// Writes what a file holds into an empty directory, and makes sure that it is a whole bundle.
fn receive(file: &Utf8Path, directory: &Utf8Path) -> Result<(), ImportError> {
    let read = |source| ImportError::Read { file: file.to_owned(), source };
    let layout = Layout::at(directory);
    layout.create()?;
    let mut received = BTreeMap::new();
    let decoder = zstd::Decoder::new(BufReader::new(files::open(file)?)).map_err(read)?;
    let mut archive = tar::Archive::new(decoder);
    for entry in archive.entries().map_err(read)? {
        let mut entry = entry.map_err(read)?;
        let path = entry.path().map_err(read)?.to_string_lossy().into_owned();
        let foreign = || ImportError::Foreign { file: file.to_owned(), entry: path.clone() };
        if let Some(hex) = path.strip_prefix("blobs/sha256/") {
            let name = Digest::try_from(format!("sha256:{hex}")).map_err(|_| foreign())?;
            let blob = layout
                .add_with("", |out| io::copy(&mut entry, out).map(drop))
                .map_err(|source| ImportError::Blob { file: file.to_owned(), blob: name.clone(), source })?;
            if blob.digest != name {
                return Err(ImportError::DamagedBlob { file: file.to_owned(), blob: name });
            }
            received.insert(blob.digest, blob.size);
        } else if path == "index.json" {
            let mut index = Vec::new();
            entry.read_to_end(&mut index).map_err(read)?;
            files::replace(&layout.index_path(), &index)?;
        } else if path != "oci-layout" {
            return Err(foreign());
        }
    }
    // Behind the archive's end are its padding and the checksum of the whole.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(read)?;
    check_whole(file, directory, &received)
}

fn check_whole(
    file: &Utf8Path,
    directory: &Utf8Path,
    received: &BTreeMap<Digest, u64>,
) -> Result<(), ImportError> {
    let bundle =
        Bundle::open(directory).map_err(|source| ImportError::Open { file: file.to_owned(), source })?;
    match bundle.blobs().find(|blob| received.get(&blob.digest) != Some(&blob.size)) {
        None => Ok(()),
        Some(blob) => {
            let (file, blob) = (file.to_owned(), blob.digest.clone());
            Err(ImportError::Incomplete { file, blob })
        }
    }
}

#[cfg(test)]
mod tests;
