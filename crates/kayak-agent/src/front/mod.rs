//! The addresses the agent owns in front of the instances of control-plane components.
//!
//! Every instance listens on an address of its own, and only the agent knows which of them are
//! ready. Clients see one address: while an instance may become ready, their connections are held.
//!
//! Behind a front's `shared` addresses stand other nodes' instances too, by those nodes' `own`
//! addresses, at which an agent hands out its node's instances only: so nobody forwards in a circle.
//!
//! ```text
//! discovery ──instances that run─▶ front ──one prober each──▶ Pool ◀──pick── listener ▶ relay
//! controllers ──other nodes─────────┘
//! ```

mod discovery;
mod health;
mod listener;
mod pool;
mod prober;
mod relay;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kayak_core::chain::chain;
use kayak_core::component::apiserver;
use kayak_core::node::{Front, InstanceStatus};
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::status::{Board, FRONT};
use discovery::Found;
pub(crate) use discovery::{DiscoveryError, running_containers};
use health::{HERE, Manner, PEER};
use pool::{Among, Instance, Pool};
use prober::{Prober, Trust};

/// Why a front cannot be.
#[derive(Debug, thiserror::Error)]
enum FrontError {
    #[error("failed to use `{name}` as the name in the certificates of `{component}`")]
    ServerName {
        component: String,
        name: String,
        #[source]
        source: InvalidDnsNameError,
    },
}

/// Where other nodes' agents hand out their instances of one component, and which nodes these are.
pub(crate) type Peers = BTreeMap<SocketAddr, String>;

/// Starts to listen and to look for instances. Connections outlive the tasks that took them.
///
/// Where other nodes' API servers are is told by `controllers`, now and later: they come and go without
/// anything being started anew.
pub(crate) fn start(
    fronts: &[Front],
    controllers: &watch::Receiver<Peers>,
    board: &Board,
    tasks: &mut JoinSet<()>,
) {
    board.no_fronts();
    if let Err(error) = try_start(fronts, controllers, board, tasks) {
        board.trouble(FRONT, &format!("The fronts cannot be set up: {}.", chain(&error)));
    }
}

fn try_start(
    fronts: &[Front],
    controllers: &watch::Receiver<Peers>,
    board: &Board,
    tasks: &mut JoinSet<()>,
) -> Result<(), FrontError> {
    let components = fronts.iter().map(|front| front.component.clone()).collect();
    let (found, _) = watch::channel(BTreeMap::new());
    let found = Arc::new(found);
    for front in fronts {
        let peers = if front.component == apiserver::NAME {
            controllers.clone()
        } else {
            watch::channel(peers(front)).1
        };
        serve(front, Pool::new(), found.subscribe(), peers, board, tasks)?;
    }
    if !fronts.is_empty() {
        tasks.spawn(discovery::run(components, found, board.clone()));
    }
    Ok(())
}

/// Serves one component's clients by what is found on this node and what other nodes have.
fn serve(
    front: &Front,
    pool: Pool,
    found: watch::Receiver<BTreeMap<String, Vec<Found>>>,
    peers: watch::Receiver<Peers>,
    board: &Board,
    tasks: &mut JoinSet<()>,
) -> Result<(), FrontError> {
    let server_name = ServerName::try_from(front.server_name.clone()).map_err(|source| {
        FrontError::ServerName { component: front.component.clone(), name: front.server_name.clone(), source }
    })?;
    for (among, addresses) in [(Among::Own, &front.own), (Among::All, &front.shared)] {
        for address in addresses {
            tasks.spawn(listener::run(*address, among, pool.clone(), board.clone()));
        }
    }
    let prober = Prober {
        server_name,
        path: front.ready_path.clone(),
        trust: Trust::new(front.ca_file.clone().into()),
    };
    let instances = Instances::new(front, prober, pool.clone());
    tasks.spawn(instances.follow(found, peers));
    tasks.spawn(follow_checkpoint(front.component.clone(), pool.clone(), board.clone()));
    tasks.spawn(tell(front.component.clone(), pool, board.clone()));
    Ok(())
}

/// The instances of one component and those who probe them.
struct Instances {
    component: String,
    port: u16,
    prober: Arc<Prober>,
    pool: Pool,
    /// This node's by UID: when the container was made, and who probes it.
    here: BTreeMap<String, (i64, JoinHandle<()>)>,
    /// Other nodes' fronts.
    peers: BTreeMap<SocketAddr, (String, JoinHandle<()>)>,
}

impl Instances {
    fn new(front: &Front, prober: Prober, pool: Pool) -> Self {
        Self {
            component: front.component.clone(),
            port: front.port,
            prober: Arc::new(prober),
            pool,
            here: BTreeMap::new(),
            peers: BTreeMap::new(),
        }
    }

    async fn follow(
        mut self,
        mut found: watch::Receiver<BTreeMap<String, Vec<Found>>>,
        mut peers: watch::Receiver<Peers>,
    ) {
        loop {
            self.update_peers(&peers.borrow_and_update());
            tokio::select! {
                changed = found.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let running = found.borrow_and_update().get(&self.component).cloned();
                    self.update(&running.unwrap_or_default());
                }
                // If nobody tells any more, those known stay.
                Ok(()) = peers.changed() => {}
            }
        }
    }

    fn update(&mut self, running: &[Found]) {
        let first = self.pool.looked();
        self.here.retain(|uid, (_, prober)| {
            let runs = running.iter().any(|found| found.uid == *uid);
            if !runs {
                prober.abort();
                self.pool.remove(uid);
            }
            runs
        });
        for found in running {
            if let Some((created_at, _)) = self.here.get_mut(&found.uid) {
                if std::mem::replace(created_at, found.created_at) != found.created_at {
                    self.pool.restarted(&found.uid);
                }
                continue;
            }
            // What comes while the agent looks has just started, whatever the machine's clock says.
            let age = if first { found.age(SystemTime::now()) } else { Duration::ZERO };
            let address = SocketAddr::new(found.address(), self.port);
            let prober = self.probe(Instance::here(&found.uid, &found.pod, address, age), HERE);
            self.here.insert(found.uid.clone(), (found.created_at, prober));
        }
    }

    fn update_peers(&mut self, peers: &Peers) {
        self.peers.retain(|address, (node, prober)| {
            let stays = peers.get(address) == Some(node);
            if !stays {
                prober.abort();
                self.pool.remove(&address.to_string());
            }
            stays
        });
        for (address, node) in peers {
            if !self.peers.contains_key(address) {
                let prober = self.probe(Instance::of_peer(node, *address), PEER);
                self.peers.insert(*address, (node.clone(), prober));
            }
        }
    }

    /// Adds an instance, and probes it from now on.
    fn probe(&self, instance: Instance, manner: Manner) -> JoinHandle<()> {
        let target = instance.target(manner);
        self.pool.add(instance);
        tokio::spawn(prober::run(Arc::clone(&self.prober), self.pool.clone(), target))
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        self.here.values().for_each(|(_, prober)| prober.abort());
        self.peers.values().for_each(|(_, prober)| prober.abort());
    }
}

/// The other nodes that a node's configuration names.
pub(crate) fn peers(front: &Front) -> Peers {
    front.peers.iter().map(|(node, address)| (*address, node.clone())).collect()
}

/// Tells a pool whether a checkpoint stands in for its component.
async fn follow_checkpoint(component: String, pool: Pool, board: Board) {
    for active in [true, false].into_iter().cycle() {
        board.checkpoint_is(&component, active).await;
        pool.set_checkpoint(active);
    }
}

/// Puts the instances of a pool on the board whenever they change.
async fn tell(component: String, pool: Pool, board: Board) {
    let mut changes = pool.subscribe();
    loop {
        // Before the first look there is nothing to tell: none seen is not none there.
        let instances: Option<Vec<InstanceStatus>> =
            changes.borrow_and_update().seen().map(|seen| seen.iter().map(Instance::status).collect());
        if let Some(instances) = instances {
            board.front(&component, instances);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
