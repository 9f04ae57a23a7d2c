//! A tree of files, written as a layer: the same tree gives the same bytes, whenever and wherever
//! it is written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use camino::{Utf8Path, Utf8PathBuf};
use tar::{EntryType, Header};

/// Files by their path, which has no leading slash.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    entries: BTreeMap<Utf8PathBuf, Entry>,
}

/// A file, directory or symbolic link.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) kind: Kind,
}

/// What an entry is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Directory,
    File(Content),
    Symlink(Utf8PathBuf),
}

/// Where the content of a file is.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// A part of a file, so that what is large never is in memory.
    Part {
        path: Utf8PathBuf,
        offset: u64,
        size: u64,
    },
}

impl Entry {
    pub(crate) fn directory(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0, kind: Kind::Directory }
    }

    pub(crate) fn file(mode: u32, content: Content) -> Self {
        Self { mode, uid: 0, gid: 0, kind: Kind::File(content) }
    }

    pub(crate) fn symlink(target: impl Into<Utf8PathBuf>) -> Self {
        Self { mode: 0o777, uid: 0, gid: 0, kind: Kind::Symlink(target.into()) }
    }
}

impl Content {
    /// Returns the whole of a file.
    pub(crate) fn whole(path: &Utf8Path) -> io::Result<Self> {
        Ok(Self::Part { path: path.to_owned(), offset: 0, size: path.metadata()?.len() })
    }

    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Part { size, .. } => *size,
        }
    }

    pub(crate) fn reader(&self) -> io::Result<Box<dyn Read + '_>> {
        match self {
            Self::Bytes(bytes) => Ok(Box::new(bytes.as_slice())),
            Self::Part { path, offset, size } => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(*offset))?;
                Ok(Box::new(file.take(*size)))
            }
        }
    }
}

impl Tree {
    /// Puts an entry at a path, in the place of what was there, and makes the directories above it.
    pub(crate) fn insert(&mut self, path: impl AsRef<Utf8Path>, entry: Entry) {
        let path = path.as_ref();
        let path = path.strip_prefix("/").unwrap_or(path);
        for parent in path.ancestors().skip(1).filter(|parent| *parent != "") {
            self.entries.entry(parent.to_owned()).or_insert_with(|| Entry::directory(0o755));
        }
        self.entries.insert(path.to_owned(), entry);
    }

    pub(crate) fn get(&self, path: impl AsRef<Utf8Path>) -> Option<&Entry> {
        self.entries.get(path.as_ref())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Utf8Path, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_path(), entry))
    }

    /// Writes the tree as a tar archive: sorted, without times, so that nothing but the tree
    /// decides the bytes.
    pub(crate) fn write(&self, out: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        for (path, entry) in &self.entries {
            let mut header = Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(entry.uid);
            header.set_gid(entry.gid);
            header.set_mtime(0);
            header.set_size(0);
            match &entry.kind {
                Kind::Directory => {
                    header.set_entry_type(EntryType::Directory);
                    archive.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Kind::Symlink(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    archive.append_link(&mut header, path, target)?;
                }
                Kind::File(content) => {
                    header.set_entry_type(EntryType::Regular);
                    header.set_size(content.size());
                    archive.append_data(&mut header, path, content.reader()?)?;
                }
            }
        }
        archive.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn written(tree: &Tree) -> Vec<u8> {
        let mut bytes = Vec::new();
        tree.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_order_of_insertion_does_not_matter() {
        let file = |content: &str| Entry::file(0o644, Content::Bytes(content.into()));
        let (mut one, mut other) = (Tree::default(), Tree::default());
        one.insert("/a/b", file("x"));
        one.insert("a-b", Entry::symlink("a/b"));
        other.insert("a-b", Entry::symlink("a/b"));
        other.insert("a", Entry::directory(0o755));
        other.insert("a/b", file("x"));
        assert_eq!(Digest::of(&written(&one)), Digest::of(&written(&other)));
    }

    #[test]
    fn neither_time_nor_place_of_the_sources_matters() {
        let layers = [1, 2].map(|seconds| {
            let scratch = tempfile::tempdir().unwrap();
            let source = Utf8Path::from_path(scratch.path()).unwrap().join("program");
            std::fs::write(&source, "content").unwrap();
            let touched = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            File::options().write(true).open(&source).unwrap().set_modified(touched).unwrap();
            let mut tree = Tree::default();
            tree.insert("bin/program", Entry::file(0o755, Content::whole(&source).unwrap()));
            written(&tree)
        });
        assert_eq!(layers[0], layers[1]);
    }

    #[test]
    fn a_long_path_survives() {
        let path = format!("{}file", "directory/".repeat(20));
        let mut tree = Tree::default();
        tree.insert(&path, Entry::file(0o600, Content::Bytes(b"x".to_vec())));
        let bytes = written(&tree);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let last = archive.entries().unwrap().last().unwrap().unwrap();
        assert_eq!(last.path().unwrap().to_str(), Some(path.as_str()));
    }
}
