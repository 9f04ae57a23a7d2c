//! Where clusters and images are kept: room, mount, and whether overlays work there.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::plan::Fact;
use kayak_core::preflight::{Directory, Share};
use rustix::fs::{Mode, mkdirat, statvfs};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use super::{fact, is_root, mount_of};

/// Looks at a directory, or at the one that it will be made in.
pub(super) fn look(path: &Utf8Path, mounts: &io::Result<String>) -> Fact<Directory> {
    let looked = mounts.as_ref().map_err(|error| io::Error::other(error.to_string()));
    fact(looked.and_then(|mounts| directory(path, mounts)))
}

fn directory(path: &Utf8Path, mounts: &str) -> io::Result<Directory> {
    let there = path.ancestors().map(here).find(|path| path.exists());
    let there = there.unwrap_or_else(|| "/".into()).canonicalize_utf8()?;
    let room = statvfs(there.as_std_path())?;
    let (kind, options) = mount_of(mounts, &there).unwrap_or_default();
    Ok(Directory {
        path: path.to_owned(),
        device: there.metadata()?.dev(),
        kind,
        options,
        bytes: Share { total: room.f_blocks * room.f_frsize, free: room.f_bavail * room.f_frsize },
        inodes: Share { total: room.f_files, free: room.f_favail },
        overlay: overlay(&there),
    })
}

/// The last of a relative path's ancestors is empty.
fn here(path: &Utf8Path) -> Utf8PathBuf {
    if path.as_str().is_empty() { ".".into() } else { path.to_owned() }
}

/// Tries to write to an overlay in a directory. It is never in a mount table: the kernel takes it
/// away when its descriptor is closed, and the files go with the scratch directory.
fn overlay(within: &Utf8Path) -> Fact<Result<(), String>> {
    if !is_root() {
        return Fact::Unknown("only root may mount".into());
    }
    let scratch = tempfile::Builder::new().prefix(".kayak-preflight-").tempdir_in(within);
    let scratch = match scratch.as_ref().map(|scratch| Utf8Path::from_path(scratch.path())) {
        Ok(Some(path)) => path,
        Ok(None) => return Fact::Unknown("its path is not text".into()),
        Err(error) => return Fact::Unknown(format!("nothing can be written there: {error}")),
    };
    let directories = ["lower", "upper", "work"].map(|name| scratch.join(name));
    if let Some(error) = directories.iter().find_map(|path| fs::create_dir(path).err()) {
        return Fact::Unknown(error.to_string());
    }
    match fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(overlay) => Fact::Known(write_to(&overlay, &directories)),
        Err(Errno::NOSYS) => Fact::Unknown("the kernel is older than the way of asking".into()),
        Err(Errno::NODEV) => Fact::Known(Err("the kernel has no overlay".into())),
        Err(error) => Fact::Known(Err(error.to_string())),
    }
}

fn write_to(overlay: &OwnedFd, directories: &[Utf8PathBuf; 3]) -> Result<(), String> {
    let mount = || {
        for (option, path) in ["lowerdir", "upperdir", "workdir"].iter().zip(directories) {
            fsconfig_set_string(overlay, *option, path.as_str())?;
        }
        // Spares waiting until all that others have written is on the disk. Older kernels do not
        // know it, and wait.
        let _ = fsconfig_set_flag(overlay, "volatile");
        fsconfig_create(overlay)?;
        let root = fsmount(overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        // Where the upper directory cannot hold what an overlay needs, it is there, but read-only.
        mkdirat(&root, "written", Mode::RWXU)
    };
    mount().map_err(|error: Errno| said(overlay).unwrap_or_else(|| error.to_string()))
}

/// Returns what the kernel says about a mount that failed, which is more than the error's number.
fn said(overlay: &OwnedFd) -> Option<String> {
    let mut buffer = [0; 512];
    let length = rustix::io::read(overlay, &mut buffer).ok()?;
    // It begins with the kind of message.
    let text = String::from_utf8_lossy(&buffer[..length]);
    text.strip_prefix("e ").map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_is_tried_and_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(scratch.path()).unwrap();
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let tried = overlay(path);
        assert_eq!(matches!(tried, Fact::Known(_)), is_root(), "{tried:?}");
        assert_eq!(fs::read_dir(path).unwrap().count(), 0);
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    }

    #[test]
    fn a_directory_that_is_to_be_made_is_judged_by_the_one_above() {
        let scratch = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(scratch.path()).unwrap().join("state/below");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let found = directory(&path, &mounts).unwrap();
        assert_eq!((found.path, found.device), (path, scratch.path().metadata().unwrap().dev()));
        assert!(found.bytes.total > 0 && !found.kind.is_empty());
    }
}
