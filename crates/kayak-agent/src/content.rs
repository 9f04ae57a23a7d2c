//! What files hold, and when that may have changed.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use sha2::{Digest, Sha256};
use tokio::io::unix::AsyncFd;

use crate::descriptor;

/// The digest of what each file holds; nothing for one that is not there.
pub(crate) type Contents = BTreeMap<String, Option<String>>;

/// Returns what the files hold now.
pub(crate) fn of(files: &[String]) -> io::Result<Contents> {
    let of_file = |file: &String| match std::fs::read(file) {
        Ok(content) => Ok(Some(digest(&content))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    files.iter().map(|file| Ok((file.clone(), of_file(file)?))).collect()
}

/// The digest of a content, in hexadecimal digits.
pub(crate) fn digest(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a text cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

/// Tells when something happens where the files are: their directories are watched, or the nearest
/// there are above them, because a file is replaced by renaming another over it.
pub(crate) struct Watch {
    inotify: AsyncFd<OwnedFd>,
    files: Vec<PathBuf>,
}

impl Watch {
    /// Watches from now on: what happened before must be looked at after this.
    pub(crate) fn new(files: impl IntoIterator<Item = impl Into<PathBuf>>) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let files = files.into_iter().map(Into::into).collect();
        let watch = Self { inotify: descriptor::watch(inotify)?, files };
        watch.watch_directories()?;
        Ok(watch)
    }

    /// Waits until something happened. Nothing is said about what: look at the files.
    pub(crate) async fn event(&self) -> io::Result<()> {
        let mut ready = self.inotify.readable().await?;
        let mut events = [0; 4096];
        while rustix::io::read(&self.inotify, &mut events).is_ok() {}
        ready.clear_ready();
        // A directory may have come, or gone and come back.
        self.watch_directories()
    }

    fn watch_directories(&self) -> io::Result<()> {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        for file in &self.files {
            let mut watched = None;
            // A directory that comes between the look and the watch gives no event.
            while watched.as_deref() != nearest_directory(file) {
                let nearest = nearest_directory(file).ok_or(ErrorKind::NotFound)?;
                inotify::add_watch(&self.inotify, nearest, flags)?;
                watched = Some(nearest.to_owned());
            }
        }
        Ok(())
    }
}

fn nearest_directory(file: &Path) -> Option<&Path> {
    file.ancestors().skip(1).find(|directory| directory.is_dir())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_file_that_is_replaced_or_comes_with_its_directory_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name).display().to_string();
        let files = [path("config"), path("later/config")];
        std::fs::write(&files[0], "one").unwrap();
        let watch = Watch::new(&files).unwrap();
        let mut seen = of(&files).unwrap();
        assert!(seen[&files[0]].is_some() && seen[&files[1]].is_none());

        let changes: [&dyn Fn(); 3] = [
            &|| {
                std::fs::write(path("new"), "two").unwrap();
                std::fs::rename(path("new"), &files[0]).unwrap();
            },
            &|| {
                std::fs::create_dir(path("later")).unwrap();
                std::fs::write(&files[1], "one").unwrap();
            },
            &|| std::fs::write(&files[1], "two").unwrap(),
        ];
        for change in changes {
            change();
            let noticed = async {
                while of(&files).unwrap() == seen {
                    watch.event().await.unwrap();
                }
            };
            tokio::time::timeout(Duration::from_secs(5), noticed).await.unwrap();
            seen = of(&files).unwrap();
        }
        // The same content in another file is no change.
        std::fs::write(path("new"), "two").unwrap();
        std::fs::rename(path("new"), &files[0]).unwrap();
        watch.event().await.unwrap();
        assert_eq!(of(&files).unwrap(), seen);
    }
}
