//! Keeps the node's units running: the runtime and the kubelet.

mod backoff;
mod leftover;
mod log;
mod unit;

use std::path::PathBuf;

use kayak_core::node::{LOG_DIR, Unit};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use backoff::Backoff;
pub(crate) use log::Log;

use crate::status::Board;
use unit::Keeper;

/// Where units leave traces.
#[derive(Debug, Clone)]
struct Places {
    /// The directory of their logs.
    logs: PathBuf,
    /// The directory of the notes about their processes; gone after a restart of the node, as they
    /// are.
    notes: PathBuf,
}

impl Places {
    fn of_node() -> Self {
        Self { logs: LOG_DIR.into(), notes: "/run/kayak/units".into() }
    }

    fn log(&self, unit: &Unit) -> PathBuf {
        self.logs.join(format!("{}.log", unit.name))
    }
}

/// A unit that was started, and the way to stop it.
struct Supervised {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Runs the units, each started when the one before it is ready, until `stopped` completes; then
/// stops them, last first.
pub(crate) async fn run(units: &[Unit], board: &Board, stopped: impl Future<Output = ()>) {
    let mut running = Vec::new();
    {
        let start = async {
            for unit in units {
                running.push(start(unit.clone(), board.clone()));
                board.unit_ready(&unit.name).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = start => {},
            () = stopped => {},
        }
    }
    // The kubelet before the runtime: it would start again whatever the runtime gives up.
    while let Some(Supervised { stop, task }) = running.pop() {
        stop.send_replace(true);
        if let Err(error) = task.await {
            tracing::error!("a unit's supervisor failed: {error}");
        }
    }
}

fn start(unit: Unit, board: Board) -> Supervised {
    let (stop, stopped) = watch::channel(false);
    let keeper = Keeper::new(unit, board, Places::of_node());
    let task = tokio::spawn(keeper.keep(stopped));
    Supervised { stop, task }
}
