//! Directories and files on this machine: made, replaced, linked and removed.

use std::fs::{self, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::error::LocalError;

/// Makes a directory and those above it, if they are not there.
pub(crate) fn create_directory(path: &Utf8Path, mode: u32) -> Result<(), LocalError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| LocalError::CreateDirectory { path: path.to_owned(), source })
}

/// Makes an empty directory in the place of what was there.
pub(crate) fn empty_directory(path: &Utf8Path) -> Result<(), LocalError> {
    remove(path)?;
    create_directory(path, 0o755)
}

/// Writes a file as a whole or not at all, whatever loses power meanwhile.
pub(crate) fn write(path: &Utf8Path, content: &[u8]) -> Result<(), LocalError> {
    let partial = Utf8PathBuf::from(format!("{path}.partial"));
    let written = fs::File::create(&partial).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    written.map_err(LocalError::write(path))?;
    fs::rename(&partial, path).map_err(LocalError::write(path))
}

/// Reads a file that may be absent.
pub(crate) fn read(path: &Utf8Path) -> Result<Option<Vec<u8>>, LocalError> {
    present(fs::read(path)).map_err(LocalError::read(path))
}

/// Lists the names in a directory that may be absent, sorted.
pub(crate) fn names(path: &Utf8Path) -> Result<Vec<String>, LocalError> {
    let Some(entries) = present(path.read_dir_utf8()).map_err(LocalError::read(path))? else {
        return Ok(Vec::new());
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_owned()));
    let mut names = names.collect::<io::Result<Vec<_>>>().map_err(LocalError::read(path))?;
    names.sort();
    Ok(names)
}

/// Removes a file or a directory with all that is in it, if it is there.
pub(crate) fn remove(path: &Utf8Path) -> Result<(), LocalError> {
    let removed = match present(path.symlink_metadata()) {
        Ok(Some(found)) if found.is_dir() => fs::remove_dir_all(path),
        Ok(Some(_)) => fs::remove_file(path),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    let failed = |source| LocalError::Remove { path: path.to_owned(), source };
    present(removed).map(drop).map_err(failed)
}

/// Removes a directory if nothing is in it, and nothing mounted on it.
pub(crate) fn remove_if_empty(path: &Utf8Path) -> Result<(), LocalError> {
    match fs::remove_dir(path) {
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOTEMPTY | Errno::BUSY)) => Ok(()),
        removed => {
            present(removed).map(drop).map_err(|source| LocalError::Remove { path: path.to_owned(), source })
        }
    }
}

/// Takes off whatever was mounted on a directory or below, before it is removed: kayak mounts nothing
/// there, but someone else's data must not be deleted through a mount.
pub(crate) fn unmount_below(path: &Utf8Path) -> Result<(), LocalError> {
    // The newest is on top.
    for point in mounted()?.into_iter().filter(|point| point.starts_with(path)).rev() {
        rustix::mount::unmount(point.as_std_path(), UnmountFlags::DETACH)
            .map_err(|error| LocalError::Unmount { path: point, source: error.into() })?;
    }
    Ok(())
}

/// Lists where anything is mounted, the newest last.
pub(crate) fn mounted() -> Result<Vec<Utf8PathBuf>, LocalError> {
    let table = Utf8Path::new("/proc/self/mountinfo");
    Ok(mount_points(&fs::read_to_string(table).map_err(LocalError::read(table))?).collect())
}

fn mount_points(table: &str) -> impl Iterator<Item = Utf8PathBuf> {
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    // The kernel writes these four characters as octal numbers.
    let plain = |point: &str| point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
    points.map(move |point| plain(point).replace("\\134", "\\").into())
}

/// Turns "not there" into `None`.
pub(crate) fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Links a tree: the directories are made anew, with the mode, owner, attributes and times of the
/// old ones, and every other file is a hard link to the old one. It must only be replaced, never
/// written to, from then on.
pub(crate) fn link_tree(from: &Utf8Path, to: &Utf8Path) -> Result<(), LocalError> {
    let failed = |source| LocalError::Link { path: from.to_owned(), source };
    let metadata = from.symlink_metadata().map_err(failed)?;
    fs::create_dir(to).map_err(failed)?;
    for entry in from.read_dir_utf8().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(failed)?.is_dir() {
            link_tree(from, &to)?;
        } else {
            link_or_copy(from, &to)?;
        }
    }
    // After the entries, which change the directory's times.
    copy_attributes(from, to, &metadata).map_err(failed)
}

/// Makes a hard link, or a copy where there can be none: link(2) refuses another mount, even of the
/// same file system, and an inode that has as many links as the file system knows.
fn link_or_copy(from: &Utf8Path, to: &Utf8Path) -> Result<(), LocalError> {
    let linked = fs::hard_link(from, to).or_else(|error| match Errno::from_io_error(&error) {
        Some(Errno::XDEV | Errno::MLINK | Errno::PERM) => copy(from, to),
        _ => Err(error),
    });
    linked.map_err(|source| LocalError::Link { path: from.to_owned(), source })
}

fn copy(from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
    let metadata = from.symlink_metadata()?;
    let kind = metadata.file_type();
    if kind.is_symlink() {
        std::os::unix::fs::symlink(from.read_link_utf8()?, to)?;
    } else if kind.is_file() {
        fs::copy(from, to)?;
    } else if kind.is_char_device() || kind.is_fifo() {
        let kind = rustix::fs::FileType::from_raw_mode(metadata.mode());
        rustix::fs::mknodat(CWD, to.as_std_path(), kind, metadata.mode().into(), metadata.rdev())?;
    } else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a file nor a link"));
    }
    copy_attributes(from, to, &metadata)
}

fn copy_attributes(from: &Utf8Path, to: &Utf8Path, metadata: &Metadata) -> io::Result<()> {
    std::os::unix::fs::lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    let mut names = vec![0; rustix::fs::llistxattr(from.as_std_path(), &mut [0u8; 0])?];
    let read = rustix::fs::llistxattr(from.as_std_path(), &mut names)?;
    for name in names[..read].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; rustix::fs::lgetxattr(from.as_std_path(), name, &mut [0u8; 0])?];
        let read = rustix::fs::lgetxattr(from.as_std_path(), name, &mut value)?;
        rustix::fs::lsetxattr(to.as_std_path(), name, &value[..read], XattrFlags::empty())?;
    }
    if !metadata.is_symlink() {
        // After the owner, whose change clears the set-user-ID bit.
        fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(CWD, to.as_std_path(), &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_linked_tree_shares_its_files_and_looks_the_same() {
        let scratch = tempfile::tempdir().unwrap();
        let scratch = Utf8Path::from_path(scratch.path()).unwrap();
        let (from, to) = (scratch.join("from"), scratch.join("to"));
        create_directory(&from.join("a"), 0o755).unwrap();
        write(&from.join("a/file"), b"content").unwrap();
        symlink("/nowhere", from.join("a/link")).unwrap();
        fs::set_permissions(from.join("a"), fs::Permissions::from_mode(0o2710)).unwrap();

        link_tree(&from, &to).unwrap();

        let of = |path: &str| {
            let found = [from.join(path), to.join(path)].map(|path| path.symlink_metadata().unwrap());
            found.map(|found| (found.ino(), found.mode(), found.mtime(), found.mtime_nsec()))
        };
        let [old, new] = of("a/file");
        assert_eq!(old, new);
        let [old, new] = of("a");
        assert_ne!(old.0, new.0);
        assert_eq!((old.1, old.2, old.3), (new.1, new.2, new.3));
        assert_eq!(to.join("a/link").read_link_utf8().unwrap(), "/nowhere");
    }

    #[test]
    fn a_copy_looks_like_a_link() {
        let scratch = tempfile::tempdir().unwrap();
        let scratch = Utf8Path::from_path(scratch.path()).unwrap();
        let (from, to) = (scratch.join("from"), scratch.join("to"));
        write(&from, b"content").unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o4711)).unwrap();
        copy(&from, &to).unwrap();
        let [old, new] = [from, to].map(|path| path.symlink_metadata().unwrap());
        assert_ne!(old.ino(), new.ino());
        assert_eq!((old.mode(), old.mtime_nsec()), (new.mode(), new.mtime_nsec()));
    }

    #[test]
    fn mount_points_are_unescaped() {
        let table =
            "36 35 98:0 / /srv/a\\040b rw - ext4 /dev/x rw\n37 35 98:0 / /srv/c rw - ext4 /dev/x rw\n";
        assert_eq!(mount_points(table).collect::<Vec<_>>(), ["/srv/a b", "/srv/c"]);
    }

    #[test]
    fn what_is_absent_is_removed_and_read_without_complaint() {
        let nowhere = Utf8Path::new("/nonexistent/kayak");
        assert!(remove(nowhere).is_ok());
        assert!(read(nowhere).unwrap().is_none());
        assert!(names(nowhere).unwrap().is_empty());
    }
}
