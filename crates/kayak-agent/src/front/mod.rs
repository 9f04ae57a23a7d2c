//! The addresses the agent owns in front of the instances of control-plane components.
//!
//! Every instance listens on an address of its own, and only the agent knows which of them are
//! ready. Clients see one address: while an instance may become ready, their connections are held.
//!
//! ```text
//! discovery ──instances that run──▶ front ──one prober each──▶ Pool ◀──pick── listener ▶ relay
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

use kayak_core::chain::chain;
use kayak_core::node::{Front, InstanceStatus};
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::status::{Board, FRONT};
use discovery::Found;
pub(crate) use discovery::{DiscoveryError, running_containers};
use pool::Pool;
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

/// Starts to listen and to look for instances. Connections outlive the tasks that took them.
pub(crate) fn start(fronts: &[Front], board: &Board, tasks: &mut JoinSet<()>) {
    board.no_fronts();
    if let Err(error) = try_start(fronts, board, tasks) {
        board.trouble(FRONT, &format!("The fronts cannot be set up: {}.", chain(&error)));
    }
}

fn try_start(fronts: &[Front], board: &Board, tasks: &mut JoinSet<()>) -> Result<(), FrontError> {
    let components = fronts.iter().map(|front| front.component.clone()).collect();
    let (found, _) = watch::channel(BTreeMap::new());
    let found = Arc::new(found);
    for front in fronts {
        let server_name =
            ServerName::try_from(front.server_name.clone()).map_err(|source| FrontError::ServerName {
                component: front.component.clone(),
                name: front.server_name.clone(),
                source,
            })?;
        let pool = Pool::new();
        for address in front.own.iter().chain(&front.shared) {
            tasks.spawn(listener::run(*address, pool.clone(), board.clone()));
        }
        let prober = Prober {
            server_name,
            path: front.ready_path.clone(),
            trust: Trust::new(front.ca_file.clone().into()),
        };
        let known = Known::new(front.clone(), prober, pool.clone());
        tasks.spawn(known.follow(found.subscribe()));
        tasks.spawn(tell(front.component.clone(), pool, board.clone()));
    }
    if !fronts.is_empty() {
        tasks.spawn(discovery::run(components, found, board.clone()));
    }
    Ok(())
}

/// The instances of one component and those who probe them.
struct Known {
    front: Front,
    prober: Arc<Prober>,
    pool: Pool,
    probing: BTreeMap<String, JoinHandle<()>>,
}

impl Known {
    fn new(front: Front, prober: Prober, pool: Pool) -> Self {
        Self { front, prober: Arc::new(prober), pool, probing: BTreeMap::new() }
    }

    async fn follow(mut self, mut found: watch::Receiver<BTreeMap<String, Vec<Found>>>) {
        while found.changed().await.is_ok() {
            let running = found.borrow_and_update().get(&self.front.component).cloned();
            self.update(&running.unwrap_or_default());
        }
    }

    fn update(&mut self, running: &[Found]) {
        self.pool.looked();
        self.probing.retain(|uid, prober| {
            let runs = running.iter().any(|found| found.uid == *uid);
            if !runs {
                prober.abort();
                self.pool.remove(uid);
            }
            runs
        });
        for found in running {
            if !self.probing.contains_key(&found.uid) {
                let address = SocketAddr::new(found.address(), self.front.port);
                self.pool.add(&found.uid, &found.pod, address);
                let (prober, pool) = (Arc::clone(&self.prober), self.pool.clone());
                let probe = prober::run(prober, pool, found.uid.clone(), address);
                self.probing.insert(found.uid.clone(), tokio::spawn(probe));
            }
        }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.probing.values().for_each(JoinHandle::abort);
    }
}

/// Puts the instances of a pool on the board whenever they change.
async fn tell(component: String, pool: Pool, board: Board) {
    let mut changes = pool.subscribe();
    loop {
        // Before the first look there is nothing to tell: none seen is not none there.
        let instances: Option<Vec<InstanceStatus>> = {
            let known = changes.borrow_and_update();
            known.running.as_ref().map(|running| running.iter().map(pool::Instance::status).collect())
        };
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
