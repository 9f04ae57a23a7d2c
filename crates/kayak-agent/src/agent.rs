//! The agent: everything a node does by itself, from what is on its disk.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kayak_core::chain::chain;
use kayak_core::node::NodeConfig;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::front::FrontError;
use crate::status::{Board, StatusError};
use crate::{approver, front, pod_network, prepare, status, supervise};

const OPEN_FILES: u64 = 65_536;
const PREPARE_RETRY: Duration = Duration::from_secs(1);

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The configuration is not there.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The configuration is not one.
    #[error("failed to parse `{}`", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// There may not be enough connections.
    #[error("failed to raise the limit of open files")]
    OpenFiles(#[source] rustix::io::Errno),
    /// There is no event loop.
    #[error("failed to start the runtime")]
    Runtime(#[source] io::Error),
    /// Signals cannot be received.
    #[error("failed to listen to signals")]
    Signals(#[source] io::Error),
    /// The status cannot be told.
    #[error("failed to tell the node's status")]
    Status(#[source] StatusError),
    /// A front is badly configured.
    #[error("failed to set up the fronts")]
    Front(#[source] FrontError),
}

/// Runs the agent until SIGTERM or SIGINT.
pub fn run(config_path: &Path) -> Result<(), AgentError> {
    let config = read(config_path)?;
    allow_many_connections().map_err(AgentError::OpenFiles)?;
    // One thread: the agent mostly waits, and each thread would have its own memory arena.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AgentError::Runtime)?;
    runtime.block_on(serve(config))
}

fn read(path: &Path) -> Result<NodeConfig, AgentError> {
    let text = std::fs::read(path).map_err(|source| AgentError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| AgentError::Parse { path: path.to_owned(), source })
}

/// Each connection of a client takes two descriptors, and the usual limit is 1024. No more than
/// this: units inherit it, and so do pods, some of which go through all possible descriptors.
fn allow_many_connections() -> rustix::io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(())
}

async fn serve(config: NodeConfig) -> Result<(), AgentError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Signals)?;
    let stopped = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let board = Board::new();
    status::serve(&board).map_err(AgentError::Status)?;
    // Before anything else: from here on a client of the API waits instead of being refused.
    front::start(&config.fronts, &board).map_err(AgentError::Front)?;
    tokio::pin!(stopped);
    tokio::select! {
        () = prepare(&config, &board) => {}
        () = &mut stopped => return Ok(()),
    }
    tokio::spawn(pod_network::run(config.clone(), board.clone()));
    if let Some(kubeconfig) = config.approver_kubeconfig.clone() {
        tokio::spawn(approver::run(kubeconfig, board.clone()));
    }
    supervise::run(&config.units, &board, stopped).await;
    Ok(())
}

/// Prepares the node; while that fails, the status says why.
async fn prepare(config: &NodeConfig, board: &Board) {
    while let Err(error) = prepare::run(config) {
        let because = chain(&error);
        board.trouble("prepare", &format!("The node cannot be prepared: {because}."));
        tokio::time::sleep(PREPARE_RETRY).await;
    }
    board.mended("prepare");
}
