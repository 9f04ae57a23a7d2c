//! PID 1 of a node: keeps the agent running, reaps orphans, ends everything on a stop.
//!
//! It is no more than that, and apart from the agent, so that an agent can be updated or crash
//! without the node, its pods and their connections to each other going down with it.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kayak_core::node::{BINARY, LOG_DIR};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, wait as wait_any};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

use crate::supervise::{Backoff, Log};

/// How long the agent may take to stop its units.
const AGENT_GRACE: Duration = Duration::from_secs(6);
/// How long pods may take to end after that; then they are killed.
const POD_GRACE: Duration = Duration::from_secs(4);

/// Why init cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// It was started by hand, where its last act would be to kill every process of the machine.
    #[error("init must be the first process of a node, not process {0}")]
    NotFirst(i32),
    /// Signals cannot be received.
    #[error("failed to listen to signals")]
    Signals(#[source] io::Error),
    /// Children cannot be waited for.
    #[error("failed to wait for children")]
    Wait(#[source] rustix::io::Errno),
}

/// Runs kayak with `agent_args` until SIGTERM or SIGINT, then ends every process.
pub fn run(agent_args: &[String]) -> Result<(), InitError> {
    if getpid() != Pid::INIT {
        return Err(InitError::NotFirst(getpid().as_raw_nonzero().get()));
    }
    let mut signals = Signals::listen().map_err(InitError::Signals)?;
    keep_agent(agent_args, &mut signals)?;
    end_everything(&mut signals)
}

/// Wakes up at SIGCHLD, SIGTERM and SIGINT and remembers whether one of the last two came.
struct Signals {
    wake: UnixStream,
    stop: Arc<AtomicBool>,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let (wake, notify) = UnixStream::pair()?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT, SIGCHLD] {
            // The flag before the pipe: whoever is woken must see it.
            if signal != SIGCHLD {
                signal_hook::flag::register(signal, Arc::clone(&stop))?;
            }
            signal_hook::low_level::pipe::register(signal, notify.try_clone()?)?;
        }
        Ok(Self { wake, stop })
    }

    fn stop_wanted(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Sleeps until a signal comes or `until` is reached.
    fn wait(&mut self, until: Option<Instant>) -> Result<(), InitError> {
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            left.max(Duration::from_millis(1)) // zero is refused
        });
        self.wake.set_read_timeout(timeout).map_err(InitError::Signals)?;
        // What was read means nothing: that something came is all.
        let woken = self.wake.read(&mut [0; 64]).map(drop);
        match woken.map_err(|error| (error.kind(), error)) {
            Err((io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted, _)) | Ok(()) => Ok(()),
            Err((_, error)) => Err(InitError::Signals(error)),
        }
    }
}

/// Returns once a stop is wanted and the agent has ended or had its time.
fn keep_agent(args: &[String], signals: &mut Signals) -> Result<(), InitError> {
    let mut backoff = Backoff::default();
    let mut agent: Option<(Child, Instant)> = None;
    let mut start_at = Instant::now();
    let mut give_up_at = None;
    loop {
        let (ended, _) = reap(agent.as_ref().map(|(child, _)| child.id()))?;
        if ended && let Some((_, started)) = agent.take() {
            start_at = Instant::now() + backoff.pause_after(started.elapsed());
            if !signals.stop_wanted() {
                tracing::warn!("the agent ended; it is started again");
            }
        }
        if signals.stop_wanted() {
            let Some((child, _)) = &agent else {
                return Ok(());
            };
            match give_up_at {
                None => {
                    terminate(child);
                    give_up_at = Some(Instant::now() + AGENT_GRACE);
                }
                Some(at) if Instant::now() >= at => return Ok(()),
                Some(_) => {}
            }
        } else if agent.is_none() && Instant::now() >= start_at {
            match start_agent(args) {
                Ok(child) => agent = Some((child, Instant::now())),
                Err(error) => {
                    tracing::error!("failed to start the agent: {error}");
                    start_at = Instant::now() + backoff.pause_after(Duration::ZERO);
                }
            }
        }
        signals.wait(give_up_at.or(agent.is_none().then_some(start_at)))?;
    }
}

/// Starts the agent, which logs beside its units; what ends it early is said there too.
fn start_agent(args: &[String]) -> io::Result<Child> {
    std::fs::create_dir_all(LOG_DIR)?;
    let log = Log::open(Path::new(LOG_DIR).join("agent.log"))?.into_file()?;
    Command::new(BINARY).args(args).stdout(log.try_clone()?).stderr(log).spawn()
}

fn terminate(agent: &Child) {
    let pid = i32::try_from(agent.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = kill_process(pid, Signal::TERM)
    {
        tracing::warn!("failed to signal the agent: {error}");
    }
}

/// Takes in every child that ended; tells whether `watched` was among them and whether any is left.
fn reap(watched: Option<u32>) -> Result<(bool, bool), InitError> {
    let mut seen = false;
    loop {
        match wait_any(WaitOptions::NOHANG) {
            Ok(Some((pid, _))) => {
                let pid = u32::try_from(pid.as_raw_nonzero().get()).ok();
                seen |= pid.is_some() && pid == watched;
            }
            Ok(None) => return Ok((seen, true)),
            Err(rustix::io::Errno::CHILD) => return Ok((seen, false)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(InitError::Wait(error)),
        }
    }
}

/// Asks all processes to end, then makes them.
///
/// The end of PID 1 would kill them too, but at once: etcd and databases deserve the chance to
/// write what they hold.
fn end_everything(signals: &mut Signals) -> Result<(), InitError> {
    signal_all(Signal::TERM);
    let deadline = Instant::now() + POD_GRACE;
    while reap(None)?.1 && Instant::now() < deadline {
        signals.wait(Some(deadline))?;
    }
    signal_all(Signal::KILL);
    Ok(())
}

/// Signals every process of the node; `kill(2)` spares the first process, which is this one.
fn signal_all(signal: Signal) {
    match kill_process_group(Pid::INIT, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => tracing::warn!("failed to signal the node's processes: {error}"),
    }
}
