//! The process of a unit, started by this agent or by the one before.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use kayak_core::node::Unit;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use crate::descriptor;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long a unit may take to stop. init waits for the agent longer than for two of these.
pub(super) const GRACE: Duration = Duration::from_millis(2500);

/// Why a unit has no process.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpawnError {
    #[error("it has no command")]
    NoCommand,
    #[error("failed to hand over its output")]
    Output(#[source] io::Error),
    #[error("failed to start `{program}`")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to hold its process")]
    Hold(#[source] io::Error),
}

/// A process that cannot be mistaken for another one with the same id.
pub(super) struct Process {
    pid: u32,
    handle: AsyncFd<OwnedFd>,
}

impl Process {
    /// Starts the unit, which writes to `output`.
    pub(super) fn spawn(unit: &Unit, output: File) -> Result<Self, SpawnError> {
        let (program, arguments) = unit.command.split_first().ok_or(SpawnError::NoCommand)?;
        let errors = output.try_clone().map_err(SpawnError::Output)?;
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .envs(&unit.env)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // A signal to the agent's group is not for the units.
            .process_group(0)
            .spawn()
            .map_err(|source| SpawnError::Start { program: program.clone(), source })?;
        // Whoever has ended is still there until it is waited for.
        let held = Self::open(child.id()).map_err(SpawnError::Hold)?;
        held.ok_or_else(|| SpawnError::Hold(ErrorKind::NotFound.into()))
    }

    /// Takes hold of a process, if there is one with this id.
    pub(super) fn open(pid: u32) -> io::Result<Option<Self>> {
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        match pidfd_open(raw, PidfdFlags::NONBLOCK) {
            Ok(handle) => Ok(Some(Self { pid, handle: descriptor::watch(handle)? })),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end; how it ended is told to the agent that started it only.
    pub(super) async fn ended(&self) -> io::Result<Option<ExitStatus>> {
        // The handle of a process becomes readable when it ends.
        self.handle.readable().await?.retain_ready();
        match waitid(WaitId::PidFd(self.handle.get_ref().as_fd()), WaitIdOptions::EXITED) {
            Ok(status) => Ok(status.and_then(|status| {
                // The two halves of what wait(2) tells.
                let code = status.exit_status().map(|code| code << 8);
                code.or(status.terminating_signal()).map(ExitStatus::from_raw)
            })),
            Err(Errno::CHILD) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends it: asks first, then makes it.
    pub(super) async fn end(&self) -> io::Result<()> {
        for signal in [Signal::TERM, Signal::KILL] {
            match pidfd_send_signal(self.handle.get_ref(), signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
            if let Ok(ended) = timeout(GRACE, self.ended()).await {
                return ended.map(drop);
            }
        }
        Err(ErrorKind::TimedOut.into())
    }
}
