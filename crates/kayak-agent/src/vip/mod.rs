//! The address for clients outside that is always a living controller's.
//!
//! Whoever holds the lease has it, and nobody else says who is alive: the lease lies in etcd, and only a
//! controller whose own API server is ready asks for it. A holder that cannot renew takes the address away
//! before another one may take the lease.

mod claim;
mod lease;
mod link;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use kayak_core::chain::chain;
use kayak_core::component::apiserver;
use kayak_core::node::{InstanceStatus, NodeConfig, vip_label};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::status::Board;
use claim::{GIVE_UP, RENEW, Seen};
use lease::{Lease, Record};
use link::{Link, LinkError};

/// How long to wait before the same is tried again.
const RETRY: Duration = Duration::from_millis(200);
const SUBJECT: &str = "virtual address";

/// What a controller must know to have the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vip {
    address: IpAddr,
    label: String,
    /// The node, and its own address: the virtual one comes beside it.
    node: String,
    beside: IpAddr,
    interface: Option<String>,
    kubeconfig: String,
}

impl Vip {
    /// What the node's configuration says of it; nothing where there is none.
    pub(crate) fn of(config: &NodeConfig) -> Option<Self> {
        Some(Self {
            address: config.controller.as_ref()?.vip?,
            label: vip_label(&config.cluster),
            node: config.name.clone(),
            beside: config.address,
            interface: config.interface.clone(),
            kubeconfig: config.kubeconfig.clone(),
        })
    }
}

/// Has the address whenever it is this controller's, until `ending` says that the agent ends.
pub(crate) async fn run(vip: Vip, board: Board, mut ending: watch::Receiver<bool>) {
    let mut controller = Controller {
        lease: Lease::new(vip.kubeconfig, vip.node),
        link: Link { address: vip.address, label: vip.label, beside: vip.beside, named: vip.interface },
        board,
    };
    let ends = async {
        // It fails only where nobody is left to say it.
        drop(ending.wait_for(|ending| *ending).await);
    };
    tokio::select! {
        never = controller.serve() => match never {},
        () = ends => {}
    }
    controller.let_go().await;
}

struct Controller {
    lease: Lease,
    link: Link,
    board: Board,
}

/// The lease as it was taken or renewed, and when that was asked for.
struct Term {
    record: Record,
    renewed: Instant,
}

impl Controller {
    async fn serve(&mut self) -> Infallible {
        let mut term = self.go_on().await;
        loop {
            let held = match term.take() {
                Some(term) => term,
                None => self.acquire().await,
            };
            if let Err(error) = self.hold(held).await {
                let because = chain(&error);
                self.board.trouble(SUBJECT, &format!("The virtual address cannot be put here: {because}."));
                self.let_go().await;
                sleep(RETRY).await;
            }
        }
    }

    /// Takes away what an agent left that was killed, unless the lease is this node's still.
    async fn go_on(&mut self) -> Option<Term> {
        let renewed = Instant::now();
        let term = match self.lease.get().await {
            Ok(Some(record)) if self.lease.is_mine(&record) => self.lease.write(Some(&record)).await.ok(),
            Ok(_) | Err(_) => None,
        };
        if term.is_none()
            && let Err(error) = self.link.clear()
        {
            let because = chain(&error);
            self.board.trouble(
                SUBJECT,
                &format!("A virtual address that was left cannot be taken away: {because}."),
            );
        }
        term.map(|record| Term { record, renewed })
    }

    /// Waits until the lease is this node's, and its own API server is ready.
    async fn acquire(&mut self) -> Term {
        let mut seen = Seen::default();
        loop {
            has_api(&self.board, true).await;
            let asked = Instant::now();
            match self.lease.get().await {
                Ok(record) => {
                    let holder =
                        record.as_ref().map(|record| (record.holder.as_str(), record.version.as_str()));
                    if seen.is_free(holder, self.lease.me(), Instant::now()) {
                        let renewed = Instant::now();
                        match self.lease.write(record.as_ref()).await {
                            Ok(record) => return Term { record, renewed },
                            // Another one was faster.
                            Err(error) => tracing::debug!("the lease was not taken: {}", chain(&error)),
                        }
                    }
                }
                Err(error) => tracing::debug!("the lease is unknown: {}", chain(&error)),
            }
            sleep_until(seen.next_look(asked)).await;
        }
    }

    /// Has the address for as long as the lease is renewed and the own API server is ready.
    async fn hold(&mut self, term: Term) -> Result<(), LinkError> {
        let held = self.link.put()?;
        self.board.mended(SUBJECT);
        self.board.vip(Some(self.link.address));
        tracing::info!(address = %held.address(), "this node has the virtual address");
        let board = self.board.clone();
        let lost = tokio::select! {
            because = self.renew(term) => Some(because),
            () = has_api(&board, false) => None,
        };
        let because = lost.as_deref().unwrap_or("its API server is not ready");
        tracing::info!(address = %held.address(), "this node has the virtual address no more: {because}");
        // First the address, and then the lease.
        drop(held);
        self.board.vip(None);
        if lost.is_none() {
            self.let_go().await;
        }
        Ok(())
    }

    /// Renews until that fails for too long, and says why.
    async fn renew(&mut self, Term { mut record, mut renewed }: Term) -> String {
        loop {
            sleep_until(renewed + RENEW).await;
            let mut because = "no API server answers in time".to_owned();
            loop {
                let asked = Instant::now();
                match timeout_at(renewed + GIVE_UP, self.lease.write(Some(&record))).await {
                    Ok(Ok(now)) => {
                        (record, renewed) = (now, asked);
                        break;
                    }
                    Ok(Err(error)) => because = chain(&error),
                    Err(_) => return because,
                }
                sleep(RETRY).await;
                // Whoever else has written may be an earlier question of this node's own.
                match timeout_at(renewed + GIVE_UP, self.lease.get()).await {
                    Ok(Ok(Some(now))) if self.lease.is_mine(&now) => record = now,
                    Ok(Ok(_)) => return "another one has the lease".into(),
                    Ok(Err(_)) => {}
                    Err(_) => return because,
                }
            }
        }
    }

    /// Gives the lease back, if it can be: else it runs out.
    async fn let_go(&mut self) {
        if let Err(error) = self.lease.release().await {
            tracing::debug!("the lease runs out by itself: {}", chain(&error));
        }
    }
}

/// Waits until an API server of this node's is ready, or none is.
async fn has_api(board: &Board, wanted: bool) {
    let own_is_ready = |fronts: &BTreeMap<String, Vec<InstanceStatus>>| {
        let instances = fronts.get(apiserver::NAME).map(Vec::as_slice).unwrap_or_default();
        instances.iter().any(|instance| instance.node.is_none() && instance.ready)
    };
    drop(board.fronts(|fronts| own_is_ready(fronts) == wanted).await);
}
