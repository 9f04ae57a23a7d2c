//! Files in a node's persistent directories, written and read from outside.

use std::fs::{File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{
    CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::driver::FileContent;

/// A persistent directory. The node's links are followed only inside of it: what a link of the node
/// means is the node's business, and must not lead to a file of this machine.
pub(crate) struct Directory {
    fd: OwnedFd,
    /// Where the node has it: an absolute link there begins with this.
    within: Utf8PathBuf,
}

/// How many links one may lead to another.
const LINKS: usize = 8;

/// What a file is called until it is whole.
const PARTIAL: &str = ".kayak-partial";

impl Directory {
    pub(crate) fn open(path: &Utf8Path, within: &Utf8Path) -> io::Result<Self> {
        let fd = openat(CWD, path.as_std_path(), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { fd, within: within.to_owned() })
    }

    fn inside(&self, path: &Utf8Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path == "" { Utf8Path::new(".") } else { path };
        openat2(&self.fd, path.as_std_path(), flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    /// Reads a file, `None` if it is not there.
    pub(crate) fn read(&self, path: &Utf8Path) -> io::Result<Option<Vec<u8>>> {
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            // The kubelet's link to the certificate it has now is an absolute one.
            if let Some(target) = self.link(&path)?.filter(|target| target.is_absolute()) {
                let Ok(target) = target.strip_prefix(&self.within) else { return Ok(None) };
                path = target.to_owned();
                continue;
            }
            let file = match self.inside(&path, OFlags::RDONLY | OFlags::NONBLOCK) {
                Ok(file) => file,
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let mut bytes = Vec::new();
            File::from(file).read_to_end(&mut bytes)?;
            return Ok(Some(bytes));
        }
        Err(Errno::LOOP.into())
    }

    /// Where a link leads, `None` if there is none at this path.
    fn link(&self, path: &Utf8Path) -> io::Result<Option<Utf8PathBuf>> {
        let fd = match self.inside(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match readlinkat(&fd, "", Vec::new()) {
            Ok(target) => Ok(target.into_string().ok().map(Utf8PathBuf::from)),
            // The kernel's answer for what is no link.
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(error.into()),
        }
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
        let directory = Directory::open(root, "/var".into()).unwrap();
        let path = Utf8Path::new("a/b/key");
        for bytes in ["long content", "short"] {
            directory.write(path, &FileContent::Regular { bytes: bytes.into(), mode: 0o600 }).unwrap();
            assert_eq!(directory.read(path).unwrap().unwrap(), bytes.as_bytes());
        }
        assert_eq!(root.join(path).metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        directory.write("a/current".into(), &FileContent::Link("b/key".into())).unwrap();
        assert_eq!(directory.read("a/current".into()).unwrap().unwrap(), b"short");
        symlink("/var/a/b/key", root.join("a/renewed")).unwrap();
        assert_eq!(directory.read("a/renewed".into()).unwrap().unwrap(), b"short", "as the node sees it");
        assert_eq!(directory.read("a/absent".into()).unwrap(), None);
        assert_eq!(root.join("a").read_dir().unwrap().count(), 3);
    }

    #[test]
    fn links_do_not_lead_out() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(scratch.path()).unwrap();
        let directory = Directory::open(root, "/var".into()).unwrap();
        symlink("/etc", root.join("out")).unwrap();
        symlink("/etc/passwd", root.join("passwd")).unwrap();
        symlink("/var/round", root.join("round")).unwrap();
        assert_eq!(directory.read("out/passwd".into()).unwrap(), None);
        assert_eq!(directory.read("passwd".into()).unwrap(), None);
        assert!(directory.read("round".into()).is_err());
        assert_eq!(directory.read("../../../../etc/passwd".into()).unwrap(), None);
    }
}
