//! Waiting for files and sockets that others create.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use crate::descriptor;

/// Waits until `path` exists.
pub(crate) async fn of_path(path: &Path) -> io::Result<()> {
    while !path.exists() {
        // The directory may be missing too: watch the nearest ancestor there is.
        let Some(parent) = path.ancestors().skip(1).find(|dir| dir.is_dir()) else {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        };
        let watch = watch_directory(parent)?;
        // What was created between the first look and the watch gives no event.
        let next = path.ancestors().take_while(|dir| *dir != parent).last();
        if next.is_some_and(|next| !next.exists()) {
            watch.readable().await?.clear_ready();
        }
    }
    Ok(())
}

fn watch_directory(directory: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let flags = WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR;
    inotify::add_watch(&fd, directory, flags)?;
    descriptor::watch(fd)
}

/// Waits until something accepts connections on the unix socket at `path` and returns the first.
pub(crate) async fn of_listener(path: &Path) -> io::Result<UnixStream> {
    loop {
        of_path(path).await?;
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            // The file of a listener that is not there yet or not any more; nothing tells when
            // listen(2) is called.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sees_a_file_whose_directory_comes_later() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/file");
        let wait = tokio::spawn({
            let path = path.clone();
            async move { of_path(&path).await }
        });
        tokio::task::yield_now().await;
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        tokio::task::yield_now().await;
        std::fs::write(&path, "").unwrap();
        tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap().unwrap().unwrap();
    }
}
