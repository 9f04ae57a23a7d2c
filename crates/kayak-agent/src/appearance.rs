//! Waiting for files and sockets that others create.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

use crate::content;

/// Waits until `path` exists.
pub(crate) async fn of_path(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let watch = content::Watch::new([path])?;
    while !path.exists() {
        watch.event().await?;
    }
    Ok(())
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
