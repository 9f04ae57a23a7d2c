//! One unit: started, asked how it is, started again.

use std::fs;
use std::io;
use std::process::ExitStatus;
use std::time::Instant;

use kayak_core::chain::chain;
use kayak_core::node::{Unit, UnitStatus};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Places;
use super::backoff::Backoff;
use super::changes::{Changes, Wanted, wish};
use super::log::Log;
use super::note::Note;
use super::output::Output;
use super::process::{Process, SpawnError};
use super::pulse::Pulse;
use super::question::Question;
use super::recipe::Recipe;
use crate::status::Board;
use crate::tail;

/// How much of its log the report of a unit's end holds.
const LAST_LINES: usize = 20;

/// Why a unit did not run.
#[derive(Debug, thiserror::Error)]
enum UnitError {
    #[error("failed to make the directory of its traces")]
    Places(#[source] io::Error),
    #[error("failed to open its log")]
    Log(#[source] io::Error),
    #[error("failed to open the pipe to its log")]
    Output(#[source] io::Error),
    #[error("failed to open its side of the pipe to its log")]
    Writer(#[source] io::Error),
    #[error("failed to copy its last output into its log")]
    Finish(#[source] io::Error),
    #[error("failed to watch the files it reads")]
    Watch(#[source] io::Error),
    #[error("failed to read the files it reads")]
    Files(#[source] io::Error),
    #[error("failed to find the process that an earlier agent left")]
    Find(#[source] io::Error),
    #[error("failed to end the process that an earlier agent left")]
    Leftover(#[source] io::Error),
    #[error(transparent)]
    Spawn(SpawnError),
    #[error("failed to note its process")]
    Note(#[source] io::Error),
    #[error("failed to remove the note about its process")]
    Forget(#[source] io::Error),
    #[error("failed to wait for it")]
    Wait(#[source] io::Error),
    #[error("failed to end it")]
    End(#[source] io::Error),
}

/// How a run ended.
enum End {
    /// It was wished so.
    Stopped,
    /// It is to be started with something else, for this reason.
    Superseded(String),
    /// It was ended since it was silent, for this reason.
    Hung(String),
    /// By itself; how, only the agent that started it learns.
    ByItself(Option<ExitStatus>),
}

/// Keeps one unit running as it is wished.
pub(super) struct Keeper {
    name: String,
    wished: watch::Receiver<Option<Unit>>,
    board: Board,
    places: Places,
    status: UnitStatus,
}

impl Keeper {
    pub(super) fn new(
        name: String,
        wished: watch::Receiver<Option<Unit>>,
        board: Board,
        places: Places,
    ) -> Self {
        Self { name, wished, board, places, status: UnitStatus::default() }
    }

    /// Keeps the unit running until it is not wished any more.
    pub(super) async fn keep(mut self) {
        let mut backoff = Backoff::default();
        while let Some(unit) = wish(&mut self.wished) {
            self.tell(Some("it is starting"));
            let started = Instant::now();
            let end = match self.run(&unit).await {
                Ok(End::Stopped) => continue,
                Ok(End::Superseded(because)) => {
                    tracing::info!(unit = self.name, "{because}");
                    self.status.restarts += 1;
                    self.status.last_end = Some(format!("it was ended: {because}"));
                    continue;
                }
                Ok(End::Hung(because)) => self.describe(&unit, &format!("it was ended: {because}")),
                Ok(End::ByItself(exit)) => self.describe(&unit, &how(exit)),
                Err(error) => chain(&error),
            };
            let pause = backoff.pause_after(started.elapsed());
            tracing::warn!(unit = self.name, "{end}\nstarting it again in {pause:?}");
            self.status.restarts += 1;
            self.status.last_end = Some(end);
            self.tell(Some("it has ended"));
            // Either the pause is over or something else is wished.
            let _either = timeout(pause, self.wished.changed()).await;
        }
        self.tell(Some("it is stopped"));
    }

    fn tell(&self, because: Option<&str>) {
        let because = because.map(str::to_owned);
        self.board.unit(&self.name, &UnitStatus { ready: because.is_none(), because, ..self.status.clone() });
    }

    /// Runs the unit once; its log is complete when this returns.
    async fn run(&self, unit: &Unit) -> Result<End, UnitError> {
        fs::create_dir_all(&self.places.runs).map_err(UnitError::Places)?;
        let log = Log::open(self.places.log(unit)).map_err(UnitError::Log)?;
        let mut output = Output::open(self.places.pipe(unit), log).map_err(UnitError::Output)?;
        let end = tokio::select! {
            end = self.run_process(unit) => end,
            never = output.copy() => match never {},
        };
        output.finish().map_err(UnitError::Finish)?;
        end
    }

    async fn run_process(&self, unit: &Unit) -> Result<End, UnitError> {
        let mut changes = Changes::new(self.wished.clone(), unit).map_err(UnitError::Watch)?;
        let recipe = Recipe::of(unit).map_err(UnitError::Files)?;
        let note = Note::new(self.places.note(unit));
        let process = match self.left_by_an_earlier_agent(&note, &recipe).await? {
            Some(process) => process,
            None => self.spawn(unit)?,
        };
        note.write(&process, &recipe).map_err(UnitError::Note)?;
        let end = self.attend(&process, &recipe, &mut changes).await?;
        note.remove().map_err(UnitError::Forget)?;
        Ok(end)
    }

    /// Returns the process that an earlier agent started just as this one would; another is ended.
    async fn left_by_an_earlier_agent(
        &self,
        note: &Note,
        recipe: &Recipe,
    ) -> Result<Option<Process>, UnitError> {
        let Some((process, with)) = note.process().map_err(UnitError::Find)? else {
            return Ok(None);
        };
        let pid = process.pid();
        let Some(because) = with.difference(recipe) else {
            tracing::info!(unit = self.name, pid, "it runs already");
            return Ok(Some(process));
        };
        tracing::info!(unit = self.name, pid, "{because}");
        process.end().await.map_err(UnitError::Leftover)?;
        Ok(None)
    }

    fn spawn(&self, unit: &Unit) -> Result<Process, UnitError> {
        let writer = Output::writer(&self.places.pipe(unit)).map_err(UnitError::Writer)?;
        Process::spawn(unit, writer).map_err(UnitError::Spawn)
    }

    /// Watches over the process until it has ended, by itself or because something else is wanted.
    async fn attend(
        &self,
        process: &Process,
        recipe: &Recipe,
        changes: &mut Changes,
    ) -> Result<End, UnitError> {
        loop {
            let wanted = tokio::select! {
                exit = process.ended() => return exit.map(End::ByItself).map_err(UnitError::Wait),
                because = self.tell_health(&recipe.unit) => {
                    process.end().await.map_err(UnitError::End)?;
                    return Ok(End::Hung(because));
                }
                wanted = changes.differ(recipe) => wanted.map_err(UnitError::Files)?,
            };
            if let Wanted::Other(because) = &wanted {
                self.tell(Some(because));
                tokio::select! {
                    exit = process.ended() => return exit.map(End::ByItself).map_err(UnitError::Wait),
                    settled = changes.settle() => settled.map_err(UnitError::Files)?,
                }
            }
            let end = match changes.wanted(recipe).map_err(UnitError::Files)? {
                Wanted::Same => continue,
                Wanted::Other(because) => End::Superseded(because),
                Wanted::Stop => End::Stopped,
            };
            process.end().await.map_err(UnitError::End)?;
            return Ok(end);
        }
    }

    /// Tells whether the unit is ready; returns why it is not when it has not been for too long.
    async fn tell_health(&self, unit: &Unit) -> String {
        let Some(health) = unit.health.clone() else {
            self.tell(None);
            return std::future::pending().await;
        };
        let mut question = Question::new(health);
        let mut pulse = Pulse::new(Instant::now());
        loop {
            let verdict = pulse.judge(question.ask().await, Instant::now());
            self.tell(verdict.because.as_deref());
            if let (true, Some(because)) = (verdict.hangs, verdict.because) {
                return because;
            }
            sleep(verdict.pause).await;
        }
    }

    fn describe(&self, unit: &Unit, end: &str) -> String {
        match tail::last_lines(&self.places.log(unit), LAST_LINES) {
            Ok(lines) => format!("{end}; its last lines:\n{}", lines.join("\n")),
            Err(error) => format!("{end}; its log cannot be read: {error}"),
        }
    }
}

fn how(exit: Option<ExitStatus>) -> String {
    exit.map_or_else(|| "it ended".into(), |exit| format!("it ended with {exit}"))
}

#[cfg(test)]
mod tests;
