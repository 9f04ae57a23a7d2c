//! Keeps the node's units running: the runtime and the kubelet.

mod backoff;
mod changes;
mod log;
mod note;
mod output;
mod process;
mod pulse;
mod question;
mod recipe;
mod unit;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use kayak_core::node::{LOG_DIR, Unit};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use backoff::Backoff;
pub(crate) use log::Log;

use crate::status::Board;
use note::Note;
use unit::Keeper;

/// Where units leave traces.
#[derive(Debug, Clone)]
struct Places {
    /// The directory of their logs.
    logs: PathBuf,
    /// The directory of the notes about their processes and of the pipes to their logs; gone after a
    /// restart of the node, as they are.
    runs: PathBuf,
}

impl Places {
    fn of_node() -> Self {
        Self { logs: LOG_DIR.into(), runs: kayak_core::node::UNITS_DIR.into() }
    }

    fn log(&self, unit: &Unit) -> PathBuf {
        self.logs.join(format!("{}.log", unit.name))
    }

    fn note(&self, unit: &Unit) -> PathBuf {
        self.runs.join(&unit.name)
    }

    fn pipe(&self, unit: &Unit) -> PathBuf {
        self.runs.join(format!("{}.out", unit.name))
    }
}

/// Returns the processes of the units of this node, by id.
pub(crate) fn noted() -> io::Result<BTreeMap<u32, String>> {
    let mut units = BTreeMap::new();
    let entries = match std::fs::read_dir(Places::of_node().runs) {
        Ok(entries) => entries,
        // No agent has started any yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(units),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        // Pipes lie there, too.
        if entry.file_type()?.is_file()
            && let Some((process, recipe)) = Note::new(entry.path()).process()?
        {
            units.insert(process.pid(), recipe.unit.name);
        }
    }
    Ok(units)
}

/// A unit that is kept running as wished; without a wish it is stopped.
struct Supervised {
    name: String,
    wish: watch::Sender<Option<Unit>>,
    task: JoinHandle<()>,
}

impl Supervised {
    async fn stop(&mut self) {
        self.wish.send_replace(None);
        if let Err(error) = (&mut self.task).await {
            tracing::error!("the supervisor of `{}` failed: {error}", self.name);
        }
    }
}

/// The units of this node.
pub(crate) struct Supervisor {
    board: Board,
    running: Vec<Supervised>,
}

impl Supervisor {
    pub(crate) fn new(board: Board) -> Self {
        Self { board, running: Vec::new() }
    }

    /// Makes the units be those wished, each started when the one before it is ready; one that runs
    /// as wished goes on. May be given up anywhere and begun again with another wish.
    pub(crate) async fn apply(&mut self, units: &[Unit]) {
        while let Some(at) = self.running.iter().rposition(|known| units.iter().all(|u| u.name != known.name))
        {
            self.running[at].stop().await;
            self.board.no_unit(&self.running.remove(at).name);
        }
        for unit in units {
            match self.running.iter().find(|known| known.name == unit.name) {
                Some(known) => self.wish(known, unit),
                None => self.running.push(start(unit, &self.board)),
            }
            self.board.unit_ready(&unit.name).await;
        }
    }

    fn wish(&self, known: &Supervised, unit: &Unit) {
        known.wish.send_if_modified(|wish| {
            let changed = wish.as_ref() != Some(unit);
            if changed {
                // Said here, so that the next unit waits for the restart.
                self.board.unit_not_ready(&unit.name, "the node's configuration changed");
                *wish = Some(unit.clone());
            }
            changed
        });
    }

    /// Stops all units: the kubelet before the runtime, as it would start again whatever the runtime
    /// gives up.
    pub(crate) async fn stop(mut self) {
        while let Some(mut last) = self.running.pop() {
            last.stop().await;
        }
    }
}

fn start(unit: &Unit, board: &Board) -> Supervised {
    let (wish, wished) = watch::channel(Some(unit.clone()));
    let keeper = Keeper::new(unit.name.clone(), wished, board.clone(), Places::of_node());
    Supervised { name: unit.name.clone(), wish, task: tokio::spawn(keeper.keep()) }
}
