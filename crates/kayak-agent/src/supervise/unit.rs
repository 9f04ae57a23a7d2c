//! One unit: started, watched, started again.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use kayak_core::chain::chain;
use kayak_core::node::{Unit, UnitStatus};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Places;
use super::backoff::Backoff;
use super::leftover::Note;
use super::log::Log;
use crate::appearance;
use crate::status::Board;
use crate::tail;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long a unit may take to stop. init waits for the agent longer than for two of these.
const GRACE: Duration = Duration::from_millis(2500);
/// How much of its log the report of a unit's end holds.
const LAST_LINES: usize = 20;

/// Why a unit did not run.
#[derive(Debug, thiserror::Error)]
enum UnitError {
    #[error("failed to end the process that an earlier agent left")]
    Leftover(#[source] io::Error),
    #[error("failed to open its log")]
    Log(#[source] io::Error),
    #[error("failed to make the pipe to its log")]
    Pipe(#[source] io::Error),
    #[error("it has no command")]
    NoCommand,
    #[error("failed to start `{program}`")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to note its process")]
    Note(#[source] io::Error),
    #[error("failed to wait for it")]
    Wait(#[source] io::Error),
}

/// How a run ended.
enum End {
    Stopped,
    ByItself(ExitStatus),
}

/// A unit and what is known of it.
pub(super) struct Keeper {
    unit: Unit,
    board: Board,
    places: Places,
    status: UnitStatus,
}

impl Keeper {
    pub(super) fn new(unit: Unit, board: Board, places: Places) -> Self {
        let status = UnitStatus { ready: false, restarts: 0, last_end: None };
        Self { unit, board, places, status }
    }

    /// Keeps the unit running until a stop is wanted.
    pub(super) async fn keep(mut self, mut stop: watch::Receiver<bool>) {
        let mut backoff = Backoff::default();
        while !*stop.borrow() {
            self.board.unit(&self.unit.name, &self.status);
            let started = Instant::now();
            self.status.last_end = match self.run(&mut stop).await {
                Ok(End::Stopped) => None,
                Ok(End::ByItself(exit)) => Some(self.describe(exit)),
                Err(error) => Some(chain(&error)),
            };
            if let Some(end) = &self.status.last_end {
                self.status.restarts += 1;
                let pause = backoff.pause_after(started.elapsed());
                tracing::warn!(unit = self.unit.name, "{end}\nstarting it again in {pause:?}");
                self.board.unit(&self.unit.name, &self.status);
                // Either the pause is over or the loop ends by its condition.
                let _either = timeout(pause, wanted(&mut stop)).await;
            }
        }
        self.board.unit(&self.unit.name, &self.status);
    }

    /// Runs the unit once.
    async fn run(&self, stop: &mut watch::Receiver<bool>) -> Result<End, UnitError> {
        let note = Note::new(self.places.notes.join(&self.unit.name));
        note.end_process().await.map_err(UnitError::Leftover)?;
        let log = Log::open(self.places.log(&self.unit)).map_err(UnitError::Log)?;
        let (mut child, output) = spawn(&self.unit)?;
        if let Some(pid) = child.id() {
            note.write(pid).map_err(UnitError::Note)?;
        }
        let copying = tokio::spawn(copy(output, log, self.unit.name.clone()));
        let end = tokio::select! {
            exit = child.wait() => exit.map(End::ByItself),
            () = wanted(stop) => terminate(&mut child).await.map(|()| End::Stopped),
            never = self.tell_when_ready() => match never {},
        };
        finish_log(copying).await;
        note.remove().map_err(UnitError::Note)?;
        end.map_err(UnitError::Wait)
    }

    async fn tell_when_ready(&self) -> Infallible {
        let name = &self.unit.name;
        let listening = match &self.unit.ready_socket {
            Some(socket) => appearance::of_listener(Path::new(socket)).await.map(drop),
            None => Ok(()),
        };
        match listening {
            Ok(()) => self.board.unit(name, &UnitStatus { ready: true, ..self.status.clone() }),
            Err(error) => {
                let sentence = format!("Whether `{name}` is ready cannot be found out: {error}.");
                self.board.trouble(name, &sentence);
            }
        }
        std::future::pending().await
    }

    fn describe(&self, exit: ExitStatus) -> String {
        match tail::last_lines(&self.places.log(&self.unit), LAST_LINES) {
            Ok(lines) => format!("it ended with {exit}; its last lines:\n{}", lines.join("\n")),
            Err(error) => format!("it ended with {exit}; its log cannot be read: {error}"),
        }
    }
}

/// Waits until a stop is wanted, or nobody is left who could want one.
async fn wanted(stop: &mut watch::Receiver<bool>) {
    let _either = stop.wait_for(|stop| *stop).await.is_ok();
}

fn spawn(unit: &Unit) -> Result<(Child, pipe::Receiver), UnitError> {
    let (program, arguments) = unit.command.split_first().ok_or(UnitError::NoCommand)?;
    let (output, input) = io::pipe().map_err(UnitError::Pipe)?;
    let output = pipe::Receiver::from_owned_fd(output.into()).map_err(UnitError::Pipe)?;
    let errors = input.try_clone().map_err(UnitError::Pipe)?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .envs(&unit.env)
        .stdin(Stdio::null())
        .stdout(input)
        .stderr(errors)
        // A signal to the agent's group is not for the units.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| UnitError::Start { program: program.clone(), source })?;
    Ok((child, output))
}

async fn terminate(child: &mut Child) -> io::Result<()> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        kill_process(pid, Signal::TERM)?;
    }
    match timeout(GRACE, child.wait()).await {
        Ok(exit) => exit.map(drop),
        Err(_) => child.kill().await,
    }
}

/// Copies what the unit writes into its log.
async fn copy(output: pipe::Receiver, mut log: Log, unit: String) {
    let mut buffer = vec![0; 16 << 10];
    while output.readable().await.is_ok() {
        let count = match output.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => {
                tracing::error!(unit, "failed to read its output: {error}");
                return;
            }
        };
        // Go on reading on a full disk: a unit that cannot write its log would hang.
        if let Err(error) = log.append(&buffer[..count]) {
            let path = log.path().display();
            tracing::error!(unit, "failed to write `{path}`: {error}");
        }
    }
}

/// Waits until everything the unit wrote is in its log. A child of the unit may hold the pipe open
/// for as long as it lives, hence the limit.
async fn finish_log(mut copying: tokio::task::JoinHandle<()>) {
    let copied = timeout(Duration::from_millis(200), &mut copying).await;
    if copied.is_err() {
        copying.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a shell script as a unit; the directory holds its log.
    fn start(
        script: &str,
        board: &Board,
    ) -> (tempfile::TempDir, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let root = tempfile::tempdir().unwrap();
        let unit = Unit {
            name: "unit".into(),
            command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
            env: [("ROOT".to_owned(), root.path().display().to_string())].into(),
            ready_socket: None,
        };
        let places = Places { logs: root.path().into(), notes: root.path().into() };
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(Keeper::new(unit, board.clone(), places).keep(stopped));
        (root, stop, task)
    }

    #[tokio::test]
    async fn a_unit_that_ends_is_started_again_and_its_last_words_are_kept() {
        let board = Board::new();
        // It ends at its first start only.
        let script = "test -e $ROOT/again && exec sleep 1000; touch $ROOT/again; echo alas >&2; exit 3";
        let (_root, stop, task) = start(script, &board);
        let settled = board
            .wait(|status| status.units.get("unit").is_some_and(|unit| unit.restarts == 1 && unit.ready));
        let status = timeout(Duration::from_secs(5), settled).await.unwrap();
        let end = status.units["unit"].last_end.clone().unwrap();
        assert_eq!(end, "it ended with exit status: 3; its last lines:\nalas");
        stop.send_replace(true);
        timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_unit_that_does_not_stop_is_killed_but_what_it_started_lives_on() {
        let board = Board::new();
        let script = "trap '' TERM; sleep 30 & echo $! > $ROOT/child; while :; do wait; done";
        let (root, stop, task) = start(script, &board);
        let child = root.path().join("child");
        let pid = loop {
            match std::fs::read_to_string(&child).ok().and_then(|text| text.trim().parse().ok()) {
                Some(pid) => break Pid::from_raw(pid).unwrap(),
                None => tokio::task::yield_now().await,
            }
        };
        stop.send_replace(true);
        timeout(GRACE + Duration::from_secs(2), task).await.unwrap().unwrap();
        kill_process(pid, Signal::KILL).expect("the child still runs");
    }

    #[tokio::test]
    async fn a_unit_that_cannot_be_started_says_why() {
        let board = Board::new();
        let root = tempfile::tempdir().unwrap();
        let unit = Unit {
            name: "unit".into(),
            command: vec!["/nonexistent/program".into()],
            env: [].into(),
            ready_socket: None,
        };
        let places = Places { logs: root.path().into(), notes: root.path().into() };
        let (_stop, stopped) = watch::channel(false);
        tokio::spawn(Keeper::new(unit, board.clone(), places).keep(stopped));
        let failed = board.wait(|status| status.units.get("unit").is_some_and(|u| u.restarts > 0));
        let status = timeout(Duration::from_secs(5), failed).await.unwrap();
        let end = status.units["unit"].last_end.clone().unwrap();
        assert!(end.starts_with("failed to start `/nonexistent/program`: "), "{end}");
    }
}
