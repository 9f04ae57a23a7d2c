//! What is seen of a component: by the runtime, by the agent's own probes, and by the API read anew.

use std::time::Instant;

use k8s_openapi::api::coordination::v1::Lease;
use kayak_core::checkpoint::is_checkpoint;
use kayak_core::checkpoint::state::{Elsewhere, LeaseMemory, Need, Own, Seen, State};
use kayak_core::component::apiserver;
use kayak_core::form::TEMPORARY;
use kayak_core::host::KUBELET_KUBECONFIG;
use kayak_core::node::{InstanceStatus, NodeConfig, Status};
use kayak_cri::v1::Container;
use kayak_cri::{CONTAINER_NAME, POD_NAME, POD_UID};
use kube::api::Api;
use tokio::time::timeout;

use super::make;
use super::store::Origin;
use crate::cluster;
use crate::front::running_containers;
use crate::status::Board;

/// How long the API may take to answer a question about this node.
pub(super) const ANSWER: std::time::Duration = std::time::Duration::from_secs(5);

/// What runs on the node, seen once for all components.
pub(super) struct View {
    status: Status,
    /// Nothing if the runtime did not tell.
    containers: Option<Vec<Container>>,
}

impl View {
    pub(super) async fn take(board: &Board) -> Self {
        let status = board.seen();
        let containers = match running_containers().await {
            Ok(containers) if !board.is_troubled("runtime") => Some(containers),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!("what runs is not known: {}", kayak_core::chain::chain(&error));
                None
            }
        };
        Self { status, containers }
    }

    /// Whether an API server is ready, here or elsewhere.
    pub(super) fn api_serves(&self) -> bool {
        self.instances(apiserver::NAME).iter().any(|instance| instance.ready)
    }

    fn instances(&self, component: &str) -> &[InstanceStatus] {
        self.status.fronts.get(component).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether the probes have been told yet what runs.
    fn has_looked(&self, component: &str) -> bool {
        self.status.fronts.contains_key(component)
    }

    /// This node's containers of a component, and whether each serves.
    fn here<'a>(&'a self, component: &'a str) -> impl Iterator<Item = (Kind, Origin, bool)> + 'a {
        let of_component = move |container: &&Container| {
            container.labels.get(CONTAINER_NAME).is_some_and(|name| name == component)
        };
        self.containers.iter().flatten().filter(of_component).map(move |container| {
            let label = |name| container.labels.get(name).cloned().unwrap_or_default();
            let of = Origin { pod: label(POD_NAME), uid: label(POD_UID), created_at: container.created_at };
            let is_it = |instance: &&InstanceStatus| instance.node.is_none() && instance.uid == of.uid;
            let serves = self.instances(component).iter().find(is_it).is_some_and(|instance| instance.ready);
            (Kind::of(&of.pod), of, serves)
        })
    }

    /// The id of the checkpoint's container.
    pub(super) fn copy(&self, component: &str) -> Option<String> {
        let is_copy = |container: &&Container| {
            let label = |name| container.labels.get(name).map(String::as_str).unwrap_or_default();
            label(CONTAINER_NAME) == component && is_checkpoint(label(POD_NAME))
        };
        self.containers.iter().flatten().find(is_copy).map(|container| container.id.clone())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Own,
    Checkpoint,
    Temporary,
}

impl Kind {
    fn of(pod: &str) -> Self {
        if is_checkpoint(pod) {
            Self::Checkpoint
        } else if pod.starts_with(TEMPORARY) {
            Self::Temporary
        } else {
            Self::Own
        }
    }
}

/// What is kept of a component, as far as it matters here.
pub(super) struct Held<'a> {
    pub(super) state: State,
    /// Of what the newest generation was made.
    pub(super) newest: Option<&'a Origin>,
    pub(super) generations: usize,
}

/// Looks at one component; returns also what a generation would be made of.
pub(super) async fn look(
    config: &NodeConfig,
    view: &View,
    component: &str,
    need: Need,
    held: &Held<'_>,
    lease: &mut LeaseMemory,
) -> (Seen, Option<Origin>) {
    let here: Vec<_> = view.here(component).collect();
    let mut own: Vec<_> = here.iter().filter(|(kind, ..)| *kind == Kind::Own).collect();
    // While one replaces another: of the one that serves, and of those of the newest.
    own.sort_by_key(|(_, of, serves)| (*serves, of.created_at));
    let serves = |wanted| here.iter().any(|(kind, _, serves)| *kind == wanted && *serves);
    let (mut own, of) = match own.last() {
        _ if view.containers.is_none() || !view.has_looked(component) => (Own::Unknown, None),
        Some((_, of, true)) => (Own::Serving { kept: held.newest == Some(of) }, Some(of.clone())),
        Some(_) => (Own::Coming, None),
        None => (Own::Missing, None),
    };
    let mut elsewhere = match need {
        _ if serves(Kind::Temporary) => Elsewhere::Somebody,
        Need::Api => api_elsewhere(view),
        // Whoever serves here stands for election: it leads as soon as nobody else does.
        Need::Leader if of.is_some() || !view.api_serves() || held.state == State::Empty => {
            *lease = LeaseMemory::default();
            Elsewhere::Unknown
        }
        Need::Leader => leads_elsewhere(config, component, lease).await,
    };
    if need == Need::Leader
        && own == Own::Missing
        && elsewhere == Elsewhere::Nobody
        && held.state == State::Kept
    {
        match timeout(ANSWER, make::is_bound(KUBELET_KUBECONFIG, component, &config.name)).await {
            Ok(Ok(true)) => own = Own::Coming,
            Ok(Ok(false)) => {}
            // Who did not answer did not say that there is none.
            Ok(Err(_)) | Err(_) => elsewhere = Elsewhere::Unknown,
        }
    }
    let able = match need {
        Need::Api => view.status.etcd.as_ref().is_some_and(|member| member.healthy),
        Need::Leader => view.api_serves(),
    };
    let spare = held.generations > 1;
    (Seen { own, copy_serves: serves(Kind::Checkpoint), elsewhere, able, spare }, of)
}

fn api_elsewhere(view: &View) -> Elsewhere {
    let others = view.instances(apiserver::NAME).iter().filter(|instance| instance.node.is_some());
    if others.into_iter().any(|instance| instance.ready) { Elsewhere::Somebody } else { Elsewhere::Nobody }
}

/// Reads the lease anew from etcd, with the agent's own credentials, which may do that anyway.
async fn leads_elsewhere(config: &NodeConfig, component: &str, memory: &mut LeaseMemory) -> Elsewhere {
    let read = async {
        let client = cluster::client(&config.kubeconfig).await.ok()?;
        Api::<Lease>::namespaced(client, "kube-system").get_opt(component).await.ok()
    };
    let Ok(Some(lease)) = timeout(ANSWER, read).await else { return Elsewhere::Unknown };
    let spec = lease.and_then(|lease| lease.spec).unwrap_or_default();
    let renewal = format!("{:?} {:?}", spec.renew_time, spec.lease_transitions);
    memory.see(&config.name, spec.holder_identity.as_deref(), &renewal, now())
}

/// The time since the agent first asked, by a clock that only goes forward.
pub(super) fn now() -> std::time::Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
