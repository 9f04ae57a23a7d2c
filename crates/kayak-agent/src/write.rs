//! Writing files so that a reader never sees half of one.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Replaces `path` by a file with this content; after a power loss it is the old or the new one.
pub(crate) fn atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, 0o644)
}

/// The same for a file that root alone may read.
pub(crate) fn privately(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, 0o600)
}

fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let temporary = sibling(path);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    // It may have been left by a run that was cut off, with other permissions.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// Writes into the file that is there, unless it holds the content already.
///
/// Docker binds `/etc/hosts` and its like from outside: such a file cannot be replaced by another.
pub(crate) fn in_place(path: &Path, content: &[u8]) -> io::Result<()> {
    match fs::read(path) {
        Ok(current) if current == content => Ok(()),
        _ => fs::write(path, content),
    }
}

/// Returns a name beside `path` that nothing else uses and no reader of the directory takes up.
pub(crate) fn sibling(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_and_leaves_nothing_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        atomically(&path, b"one").unwrap();
        atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
        privately(&path, b"three").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
