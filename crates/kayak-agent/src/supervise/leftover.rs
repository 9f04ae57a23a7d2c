//! Units that outlived the agent that started them.
//!
//! They are ended rather than adopted: nobody reads what they write any more, and pods do not mind
//! a restart of the runtime or the kubelet.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::descriptor;

const GRACE: Duration = Duration::from_secs(3);

/// The note about one unit's process: its id and when it was started, since ids are used again.
pub(super) struct Note {
    path: PathBuf,
}

impl Note {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn write(&self, pid: u32) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&self.path, format!("{pid} {}", start_time(pid)?))
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Ends the process the note speaks of, if it is still that one.
    pub(super) async fn end_process(&self) -> io::Result<()> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if let Some(process) = open(&text)? {
            end(process).await?;
        }
        self.remove()
    }
}

/// Returns a handle to the noted process, or nothing if it has ended.
fn open(note: &str) -> io::Result<Option<OwnedFd>> {
    let noted = note.split_once(' ').and_then(|(pid, start)| {
        let pid: u32 = pid.parse().ok()?;
        Some((pid, start, Pid::from_raw(i32::try_from(pid).ok()?)?))
    });
    let Some((pid, start, handle)) = noted else {
        return Ok(None); // cut off while it was written
    };
    let process = match pidfd_open(handle, PidfdFlags::NONBLOCK) {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Compared once the handle is held: from here on it cannot become another process.
    Ok(start_time(pid).is_ok_and(|now| now == start).then_some(process))
}

async fn end(process: OwnedFd) -> io::Result<()> {
    let process = descriptor::watch(process)?;
    for signal in [Signal::TERM, Signal::KILL] {
        match pidfd_send_signal(process.get_ref(), signal) {
            Ok(()) => {}
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        // The handle of a process becomes readable when it ends.
        if let Ok(ended) = tokio::time::timeout(GRACE, process.readable()).await {
            return ended.map(drop);
        }
    }
    Err(io::Error::from(ErrorKind::TimedOut))
}

/// Returns when a process was started, in ticks since boot.
fn start_time(pid: u32) -> io::Result<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field, the name in parentheses, may hold spaces and parentheses itself; the start
    // is the 22nd (proc_pid_stat(5)).
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().nth(19);
    ticks.map(str::to_owned).ok_or_else(|| io::Error::from(ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn only_the_very_process_is_ended() {
        let root = tempfile::tempdir().unwrap();
        let note = Note::new(root.path().join("unit"));
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        // An id that was used again.
        fs::write(&note.path, format!("{} 1", child.id())).unwrap();
        note.end_process().await.unwrap();
        assert!(child.try_wait().unwrap().is_none());

        let start = start_time(child.id()).unwrap();
        fs::write(&note.path, format!("{} {start}", child.id())).unwrap();
        note.end_process().await.unwrap();
        assert!(!child.wait().unwrap().success());
        note.end_process().await.unwrap();
    }
}
