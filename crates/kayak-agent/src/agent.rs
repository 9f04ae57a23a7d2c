//! The agent: everything a node does by itself, from what is on its disk.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kayak_core::chain::chain;
use kayak_core::component::apiserver;
use kayak_core::node::{Front, NodeConfig};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::api_address::{self, ApiAddress};
use crate::content::{self, Contents};
use crate::controllers::{self, Controllers};
use crate::part::Part;
use crate::status::{Board, StatusError};
use crate::supervise::Supervisor;
use crate::vip::Vip;
use crate::{
    address, approver, checkpoint, etcd, front, kubelet_certificate, leases, pod_network, prepare, status,
    vip,
};

const OPEN_FILES: u64 = 65_536;
const SUBJECT: &str = "configuration";
const PREPARE_RETRY: Duration = Duration::from_secs(1);
/// How long the agent's end may wait for what is given back to others.
const LET_GO: Duration = Duration::from_secs(3);

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
    /// Changes of its configuration cannot be noticed.
    #[error("failed to watch the node's configuration")]
    Watch(#[source] io::Error),
    /// What it depends on cannot be read.
    #[error("failed to read the files that the agent depends on")]
    Inputs(#[source] io::Error),
}

/// Runs the agent until SIGTERM or SIGINT.
pub fn run(config_path: &Path) -> Result<(), AgentError> {
    allow_many_connections().map_err(AgentError::OpenFiles)?;
    // One thread: the agent mostly waits, and each thread would have its own memory arena.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AgentError::Runtime)?;
    runtime.block_on(serve(config_path))
}

pub(crate) fn read(path: &Path) -> Result<NodeConfig, AgentError> {
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

async fn serve(config_path: &Path) -> Result<(), AgentError> {
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
    let mut parts = Parts::new(&board);
    tokio::select! {
        ended = follow(config_path, &board, &mut parts) => match ended? {},
        () = stopped => {}
    }
    parts.end().await;
    Ok(())
}

/// Keeps the agent's parts as the configuration says, now and whenever it changes.
async fn follow(path: &Path, board: &Board, parts: &mut Parts) -> Result<Infallible, AgentError> {
    let mut config = read(path)?;
    loop {
        let files = inputs(path, &config);
        let watch = content::Watch::new(&files).map_err(AgentError::Watch)?;
        match read(path) {
            Ok(now) if now == config => board.mended(SUBJECT),
            Ok(now) => {
                config = now;
                continue; // it may name other files
            }
            Err(error) => {
                let because = chain(&error);
                board.trouble(SUBJECT, &format!("The node goes on as configured before: {because}."));
            }
        }
        let held = content::of(&files).map_err(AgentError::Inputs)?;
        tokio::select! {
            never = parts.apply(&config, &held) => match never {},
            changed = change(&watch, &files, &held) => changed?,
        }
        tracing::info!("the node's configuration changed");
    }
}

/// What the agent itself reads.
fn inputs(path: &Path, config: &NodeConfig) -> Vec<String> {
    let pod_network = config.pod_network.iter().map(|network| network.kubeconfig.clone());
    [path.display().to_string(), config.kubeconfig.clone()].into_iter().chain(pod_network).collect()
}

async fn change(watch: &content::Watch, files: &[String], held: &Contents) -> Result<(), AgentError> {
    while content::of(files).map_err(AgentError::Inputs)? == *held {
        watch.event().await.map_err(AgentError::Watch)?;
    }
    Ok(())
}

/// What the agent consists of. A part whose input stays the same goes on when the rest changes.
struct Parts {
    board: Board,
    api_address: Part<ApiAddress>,
    /// Where other nodes' API servers are: fronts go on when that changes.
    controllers: Controllers,
    learning: Part<(String, Option<String>)>,
    fronts: Part<Vec<Front>>,
    address: Part<(IpAddr, Option<String>)>,
    pod_network: Part<(NodeConfig, Option<String>)>,
    kubelet_certificate: Part<()>,
    /// What controllers do for the cluster.
    controller: Part<(NodeConfig, Option<String>)>,
    vip: Part<(Option<Vip>, Option<String>)>,
    /// Whether the agent ends in order.
    ending: watch::Sender<bool>,
    units: Supervisor,
}

impl Parts {
    fn new(board: &Board) -> Self {
        Self {
            board: board.clone(),
            api_address: Part::new(),
            controllers: Controllers::kept(controllers::PATH.as_ref(), board),
            learning: Part::new(),
            fronts: Part::new(),
            address: Part::new(),
            pod_network: Part::new(),
            kubelet_certificate: Part::new(),
            controller: Part::new(),
            vip: Part::new(),
            ending: watch::Sender::new(false),
            units: Supervisor::new(board.clone()),
        }
    }

    /// Makes all parts be as configured. May be given up anywhere for another configuration.
    async fn apply(&mut self, config: &NodeConfig, held: &Contents) -> Infallible {
        let board = &self.board;
        let held = |file: &String| held.get(file).cloned().flatten();
        // Before anything else: from here on a client of the API waits instead of being refused.
        self.api_address
            .ensure(ApiAddress::of(config), |wanted, tasks| api_address::start(wanted, board, tasks));
        self.controllers.configure(config);
        let controllers = self.controllers.subscribe();
        self.fronts.ensure(fronts(config), |fronts, tasks| front::start(fronts, &controllers, board, tasks));
        prepare(config, board).await;
        // Before the kubelet starts, which without an API takes back nothing that it has begun with.
        checkpoint::at_boot(config, board);
        self.address.ensure((config.address, config.interface.clone()), |(address, link), tasks| {
            tasks.spawn(watch_address(*address, link.clone(), board.clone()));
        });
        let kubeconfig = config.pod_network.as_ref().and_then(|network| held(&network.kubeconfig));
        self.pod_network.ensure((config.clone(), kubeconfig), |(config, _), tasks| {
            tasks.spawn(pod_network::keep(config.clone(), board.clone()));
        });
        self.kubelet_certificate.ensure((), |(), tasks| {
            tasks.spawn(kubelet_certificate::run(board.clone()));
        });
        let kubeconfig = held(&config.kubeconfig);
        self.learning.ensure((config.kubeconfig.clone(), kubeconfig.clone()), |(path, _), tasks| {
            tasks.spawn(controllers::run(path.clone(), self.controllers.clone()));
        });
        self.vip.ensure((Vip::of(config), kubeconfig.clone()), |(vip, _), tasks| {
            if let Some(vip) = vip {
                tasks.spawn(vip::run(vip.clone(), board.clone(), self.ending.subscribe()));
            }
        });
        self.controller.ensure((config.clone(), kubeconfig), |(config, _), tasks| {
            if let Some(controller) = &config.controller {
                let watch = etcd::Watch::new(&config.name, &controller.etcd);
                tasks.spawn(etcd::watch(watch, board.clone()));
                tasks.spawn(approver::run(config.kubeconfig.clone(), board.clone()));
                tasks.spawn(leases::run(config.kubeconfig.clone(), config.name.clone(), board.clone()));
                tasks.spawn(checkpoint::run(config.clone(), board.clone()));
            } else {
                board.no_checkpoints();
                board.etcd(None);
            }
        });
        // Units would take another address, or end.
        if let Err(error) = address::appears(config.address).await {
            tracing::error!("starting the units without waiting for the address: {}", chain(&error));
        }
        self.units.apply(&config.units).await;
        std::future::pending().await
    }

    /// Ends what has to be ended in order.
    async fn end(mut self) {
        self.ending.send_replace(true);
        // While there is an API server: then another controller has the address at once.
        if timeout(LET_GO, self.vip.ended()).await.is_err() {
            tracing::warn!("the virtual address was not given back in time");
        }
        self.units.stop().await;
    }
}

/// What the fronts are started for: not the other controllers, which they are told of while they run.
fn fronts(config: &NodeConfig) -> Vec<Front> {
    let mut fronts = config.fronts.clone();
    for front in fronts.iter_mut().filter(|front| front.component == apiserver::NAME) {
        front.peers.clear();
    }
    fronts
}

async fn watch_address(address: IpAddr, link: Option<String>, board: Board) {
    let Err(error) = address::follow(address, link.as_deref(), &board).await;
    board.trouble("address", &format!("Whether the node has its address is unknown: {}.", chain(&error)));
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
