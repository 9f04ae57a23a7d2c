//! A small Debian userland: what mmdebstrap unpacked, made into the same tree every time.
//!
//! mmdebstrap's variant `extract` only unpacks packages. None of their install scripts has run, so
//! what those would have made is made here (or listed as `links` of an image); nothing in the
//! tree has to be run for it.

use std::fs::File;
use std::io::{self, Read};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use tar::EntryType;

use crate::catalog;
use crate::tree::{Content, Entry, Kind, Tree};

/// Directories of the root that a merged `/usr` replaces by links.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// What a container has no use for, or what differs between two runs of mmdebstrap.
const LEFT_OUT: [&str; 20] = [
    "boot",
    "dev",
    "etc/apt",
    "etc/dpkg",
    "etc/fstab",
    "etc/hostname",
    "etc/machine-id",
    "etc/resolv.conf",
    "usr/games",
    "usr/include",
    "usr/share/bash-completion",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl5",
    "usr/src",
    "var/backups",
    "var/cache",
    "var/lib",
];

/// Directories that containers and their runtimes expect.
const EXPECTED: [(&str, u32); 10] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr/local", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
];

/// Returns what every image holds: enough for a container runtime and for Go's resolver.
pub(crate) fn scratch() -> Tree {
    let mut tree = Tree::default();
    for (path, mode) in EXPECTED {
        tree.insert(path, Entry::directory(mode));
    }
    for (path, content) in catalog::common_files() {
        tree.insert(path, Entry::file(0o644, Content::Bytes(content.to_vec())));
    }
    tree
}

/// Returns the tree of an archive that mmdebstrap made.
pub(crate) fn from_archive(path: &Utf8Path) -> io::Result<Tree> {
    let mut tree = Tree::default();
    let mut archive = tar::Archive::new(File::open(path)?);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let original = utf8(&entry.path()?)?;
        let place = merged(&original);
        if left_out(&place) || MERGED.contains(&place.as_str()) {
            continue;
        }
        let kind = match entry.header().entry_type() {
            EntryType::Directory => Kind::Directory,
            EntryType::Regular => Kind::File(Content::Part {
                path: path.to_owned(),
                offset: entry.raw_file_position(),
                size: entry.size(),
            }),
            EntryType::Symlink => Kind::Symlink(link_target(&original, &target(&entry)?)),
            EntryType::Link => match tree.get(merged(&target(&entry)?)) {
                Some(linked) => linked.kind.clone(),
                None => return Err(unexpected(&original)),
            },
            _ => return Err(unexpected(&original)),
        };
        // Packages made for a merged /usr may also hold the link it replaces.
        let is_link = matches!(kind, Kind::Symlink(_));
        if is_link && tree.get(&place).is_some_and(|found| matches!(found.kind, Kind::File(_))) {
            continue;
        }
        let header = entry.header();
        // All that runs in these images is root already: no program has to make it root.
        let mode = header.mode()? & 0o1777;
        tree.insert(place, Entry { mode, uid: header.uid()?, gid: header.gid()?, kind });
    }
    finish(&mut tree)?;
    Ok(tree)
}

fn finish(tree: &mut Tree) -> io::Result<()> {
    for name in MERGED {
        if tree.get(Utf8Path::new("usr").join(name)).is_some() {
            tree.insert(name, Entry::symlink(format!("usr/{name}")));
        }
    }
    let authorities = authorities(tree)?;
    if !authorities.is_empty() {
        let bundle = Entry::file(0o644, Content::Bytes(authorities));
        tree.insert("etc/ssl/certs/ca-certificates.crt", bundle);
    }
    for (path, entry) in scratch().iter() {
        tree.insert(path, entry.clone());
    }
    Ok(())
}

/// Returns what update-ca-certificates would have made: every certificate, one after the other.
fn authorities(tree: &Tree) -> io::Result<Vec<u8>> {
    let mut bundle = Vec::new();
    for (path, entry) in tree.iter().filter(|(path, _)| path.starts_with("usr/share/ca-certificates")) {
        if let (Some("crt"), Kind::File(content)) = (path.extension(), &entry.kind) {
            content.reader()?.read_to_end(&mut bundle)?;
        }
    }
    Ok(bundle)
}

/// Returns where a path lies once `/bin` and its like are links into `/usr`.
fn merged(path: &Utf8Path) -> Utf8PathBuf {
    let path: Utf8PathBuf =
        path.components().filter(|part| matches!(part, Utf8Component::Normal(_))).collect();
    match path.components().next() {
        Some(first) if first.as_str() != path && MERGED.contains(&first.as_str()) => {
            Utf8Path::new("usr").join(path)
        }
        _ => path,
    }
}

/// Returns what a link at `path` points to: a relative target that climbs is resolved, because the
/// link may lie a directory deeper than it did.
fn link_target(path: &Utf8Path, target: &Utf8Path) -> Utf8PathBuf {
    if !target.starts_with("..") {
        return target.to_owned();
    }
    let mut resolved = Utf8PathBuf::from("/");
    for part in path.parent().unwrap_or(path).join(target).components() {
        match part {
            Utf8Component::Normal(name) => resolved.push(name),
            Utf8Component::ParentDir => {
                resolved.pop();
            }
            _ => {}
        }
    }
    resolved
}

/// Licences stay: they must go with the programs.
fn left_out(path: &Utf8Path) -> bool {
    let is_document = path.starts_with("usr/share/doc") && path.file_name() != Some("copyright");
    // usr/lib/<processor>/gconv: eight megabytes of character sets.
    let is_charset = path.iter().nth(3) == Some("gconv");
    path == "" || is_document || is_charset || LEFT_OUT.iter().any(|part| path.starts_with(part))
}

fn target(entry: &tar::Entry<'_, File>) -> io::Result<Utf8PathBuf> {
    match entry.link_name()? {
        Some(target) => utf8(&target),
        None => Err(io::Error::other("a link in the archive has no target")),
    }
}

fn utf8(path: &std::path::Path) -> io::Result<Utf8PathBuf> {
    Utf8PathBuf::try_from(path.to_owned()).map_err(io::Error::other)
}

fn unexpected(path: &Utf8Path) -> io::Error {
    io::Error::other(format!("`{path}` in the archive is of a kind that packages do not hold"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_the_root_are_merged_into_usr() {
        assert_eq!(merged("./bin/mount".into()), "usr/bin/mount");
        assert_eq!(merged("lib64/ld-linux-x86-64.so.2".into()), "usr/lib64/ld-linux-x86-64.so.2");
        assert_eq!(merged("./etc/hosts".into()), "etc/hosts");
        assert_eq!(merged("./bin".into()), "bin");
    }

    #[test]
    fn a_moved_link_points_where_it_did() {
        assert_eq!(link_target("./sbin/a".into(), "../usr/bin/a".into()), "/usr/bin/a");
        assert_eq!(link_target("./usr/bin/a".into(), "a.real".into()), "a.real");
        assert_eq!(link_target("./sbin/a".into(), "/etc/a".into()), "/etc/a");
    }

    #[test]
    fn licences_stay_and_other_documents_go() {
        assert!(!left_out("usr/share/doc/bash/copyright".into()));
        assert!(left_out("usr/share/doc/bash/README".into()));
        assert!(left_out("var/cache/apt/pkgcache.bin".into()));
        assert!(!left_out("usr/bin/bash".into()));
    }
}
