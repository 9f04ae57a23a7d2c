//! Files in a node's persistent directories, written and read from outside.

use std::fs::{File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;

use camino::Utf8Path;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, renameat, symlinkat, unlinkat};
use rustix::io::Errno;

use crate::driver::FileContent;

/// A persistent directory. The node's links are followed only inside of it: what a link of the node
/// means is the node's business, and must not lead to a file of this machine.
pub(crate) struct Directory {
    fd: OwnedFd,
}

/// What a file is called until it is whole.
const PARTIAL: &str = ".kayak-partial";

impl Directory {
    pub(crate) fn open(path: &Utf8Path) -> io::Result<Self> {
        let fd = openat(CWD, path.as_std_path(), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { fd })
    }

    fn inside(&self, path: &Utf8Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path == "" { Utf8Path::new(".") } else { path };
        openat2(&self.fd, path.as_std_path(), flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    /// Reads a file, `None` if it is not there.
    pub(crate) fn read(&self, path: &Utf8Path) -> io::Result<Option<Vec<u8>>> {
        let file = match self.inside(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Puts a file in its place once all of it is on the disk, and makes the directories above it.
    pub(crate) fn write(&self, path: &Utf8Path, content: &FileContent) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidFilename.into());
        };
        let parent = self.make(parent)?;
        match unlinkat(&parent, PARTIAL, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        match content {
            FileContent::Link(target) => symlinkat(target.as_std_path(), &parent, PARTIAL)?,
            FileContent::Regular { bytes, mode } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut file = File::from(openat(&parent, PARTIAL, flags, Mode::RUSR | Mode::WUSR)?);
                file.write_all(bytes)?;
                // Whatever the umask says.
                file.set_permissions(Permissions::from_mode(*mode))?;
                file.sync_data()?;
            }
        }
        Ok(renameat(&parent, PARTIAL, &parent, name)?)
    }

    fn make(&self, path: &Utf8Path) -> io::Result<OwnedFd> {
        match self.inside(path, OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(Errno::NOENT.into());
                };
                match mkdirat(self.make(parent)?, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => Ok(self.inside(path, OFlags::DIRECTORY)?),
                    Err(error) => Err(error.into()),
                }
            }
            found => Ok(found?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_are_replaced_whole_with_their_mode() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(scratch.path()).unwrap();
        let directory = Directory::open(root).unwrap();
        let path = Utf8Path::new("a/b/key");
        for bytes in ["long content", "short"] {
            directory.write(path, &FileContent::Regular { bytes: bytes.into(), mode: 0o600 }).unwrap();
            assert_eq!(directory.read(path).unwrap().unwrap(), bytes.as_bytes());
        }
        assert_eq!(root.join(path).metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        directory.write("a/current".into(), &FileContent::Link("b/key".into())).unwrap();
        assert_eq!(directory.read("a/current".into()).unwrap().unwrap(), b"short");
        assert_eq!(directory.read("a/absent".into()).unwrap(), None);
        assert_eq!(root.join("a").read_dir().unwrap().count(), 2);
    }

    #[test]
    fn links_do_not_lead_out() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(scratch.path()).unwrap();
        let directory = Directory::open(root).unwrap();
        symlink("/etc", root.join("out")).unwrap();
        assert_eq!(directory.read("out/passwd".into()).unwrap(), None);
        assert_eq!(directory.read("../../../../etc/passwd".into()).unwrap(), None);
    }
}
