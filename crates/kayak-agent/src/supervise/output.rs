//! What a unit writes, on its way into the unit's log.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, mkfifoat};
use tokio::net::unix::pipe;

use super::log::Log;

/// A named pipe that units write to, and the log that follows.
///
/// Named, so that the next agent reads on where this one ended. A unit has it open for reading too:
/// whoever writes to a pipe that nobody reads is killed (SIGPIPE), and without an agent nobody would.
pub(super) struct Output {
    path: PathBuf,
    pipe: pipe::Receiver,
    log: Log,
}

impl Output {
    pub(super) fn open(path: PathBuf, log: Log) -> io::Result<Self> {
        match mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR) {
            Err(error) if error != rustix::io::Errno::EXIST => return Err(error.into()),
            _ => {}
        }
        let pipe = pipe::OpenOptions::new().read_write(true).open_receiver(&path)?;
        Ok(Self { path, pipe, log })
    }

    /// The unit's side.
    pub(super) fn writer(path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(path)
    }

    /// Copies what comes, for ever.
    pub(super) async fn copy(&mut self) -> Infallible {
        loop {
            if let Err(error) = self.pipe.readable().await {
                return self.give_up(&error).await;
            }
            if let Err(error) = self.copy_what_is_there() {
                return self.give_up(&error).await;
            }
        }
    }

    /// Copies what an ended unit has left in the pipe.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.copy_what_is_there()
    }

    fn copy_what_is_there(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4 << 10];
        loop {
            match self.pipe.try_read(&mut buffer) {
                // Go on reading on a full disk: a unit that cannot write its log would hang.
                Ok(count) => {
                    if let Err(error) = self.log.append(&buffer[..count]) {
                        tracing::error!("failed to write `{}`: {error}", self.log.path().display());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn give_up(&self, error: &io::Error) -> Infallible {
        tracing::error!("failed to read `{}`: {error}", self.path.display());
        std::future::pending().await
    }
}
