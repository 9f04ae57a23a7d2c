//! Takes the leases of elected components from holders that died on this node.
//!
//! Who ends in order gives its lease back. Who loses power does not, and the next one waits for 15 s:
//! so long pods get no addresses and Services no endpoints. The node knows better who lives here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kayak_core::access::ELECTED;
use kayak_core::chain::chain;
use kayak_core::component::apiserver;
use kayak_core::node::InstanceStatus;
use kayak_cri::CONTAINER_NAME;
use kayak_cri::v1::Container;
use kube::api::{Api, PostParams};

use crate::cluster::{self, ApiError, ClusterError};
use crate::front::{DiscoveryError, running_containers};
use crate::status::Board;

const RETRY: Duration = Duration::from_secs(1);

type Fronts = BTreeMap<String, Vec<InstanceStatus>>;

/// Why leases are not looked at.
#[derive(Debug, thiserror::Error)]
enum LeasesError {
    #[error(transparent)]
    Cluster(ClusterError),
    #[error("failed to get the lease `{name}`")]
    Get {
        name: &'static str,
        #[source]
        source: ApiError,
    },
    #[error("failed to find out which instances of `{name}` run")]
    Running {
        name: &'static str,
        #[source]
        source: DiscoveryError,
    },
    #[error("failed to clear the lease `{name}`")]
    Clear {
        name: &'static str,
        #[source]
        source: ApiError,
    },
}

/// Looks at the leases whenever an API server becomes ready, and whenever an instance comes or goes.
pub(crate) async fn run(kubeconfig: String, node: String, board: Board) {
    let mut looked = None;
    loop {
        let fronts = board.fronts(|fronts| api_is_ready(fronts) && looked != Some(instances(fronts))).await;
        match clear_dead(&kubeconfig, &node).await {
            Ok(()) => looked = Some(instances(&fronts)),
            // Mostly it is early: rights are not made yet, or the API server has just gone.
            Err(error) => {
                tracing::debug!("leases of dead holders run out by themselves: {}", chain(&error));
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn api_is_ready(fronts: &Fronts) -> bool {
    fronts.get(apiserver::NAME).is_some_and(|instances| instances.iter().any(|instance| instance.ready))
}

/// What a look depends on: this node's API servers that are ready, and its instances that run.
fn instances(fronts: &Fronts) -> BTreeSet<String> {
    let counts = |component: &str, instance: &InstanceStatus| {
        let here = instance.node.is_none();
        here && (ELECTED.contains(&component) || (component == apiserver::NAME && instance.ready))
    };
    let all = fronts.iter().flat_map(|(component, instances)| instances.iter().map(move |i| (component, i)));
    all.filter(|(component, instance)| counts(component, instance)).map(|(_, i)| i.uid.clone()).collect()
}

async fn clear_dead(kubeconfig: &str, node: &str) -> Result<(), LeasesError> {
    let client = cluster::client(kubeconfig).await.map_err(LeasesError::Cluster)?;
    let leases: Api<Lease> = Api::namespaced(client, "kube-system");
    for name in ELECTED {
        let lease = leases.get_opt(name).await;
        let lease = lease.map_err(|source| LeasesError::Get { name, source: source.into() })?;
        let Some((mut lease, spec)) = lease.and_then(|lease| Some((lease.clone(), lease.spec?))) else {
            continue;
        };
        // After the lease: whoever held it then, and lives, is among these.
        let running = running_containers().await;
        let running = running.map_err(|source| LeasesError::Running { name, source })?;
        if !is_held_by_the_dead(&spec, node, &starts(&running, name)) {
            continue;
        }
        tracing::info!(lease = name, holder = spec.holder_identity, "its holder is dead: clearing it");
        // With the version that was read: a lease that was taken meanwhile stays.
        lease.spec = Some(LeaseSpec { holder_identity: Some(String::new()), ..spec });
        match leases.replace(name, &PostParams::default(), &lease).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(source) => return Err(LeasesError::Clear { name, source: source.into() }),
        }
    }
    Ok(())
}

/// When the running instances of a component were made, in nanoseconds since 1970.
fn starts(running: &[Container], component: &str) -> Vec<i64> {
    let of_component =
        |container: &&Container| container.labels.get(CONTAINER_NAME).is_some_and(|name| name == component);
    running.iter().filter(of_component).map(|container| container.created_at).collect()
}

/// Whether the holder was an instance on this node and is none of those that run: it last renewed the
/// lease before any of them was made.
fn is_held_by_the_dead(lease: &LeaseSpec, node: &str, starts: &[i64]) -> bool {
    // Instances call themselves by host name and a random id (`HOST_ID`).
    let holder = lease.holder_identity.as_deref().and_then(|holder| holder.split_once('_'));
    let here = holder.is_some_and(|(host, _)| host == node);
    let renewed = lease.renew_time.as_ref().map(|time| time.0.as_nanosecond());
    here && starts.iter().all(|start| renewed.is_some_and(|renewed| renewed < i128::from(*start)))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    #[test]
    fn only_a_holder_of_this_node_that_cannot_be_alive_is_dead() {
        /// Holder, when it renewed, when the running instances were made; whether it is dead.
        type Row = (Option<&'static str>, Option<i64>, &'static [i64], bool);
        let table: [Row; 10] = [
            (Some("cp-1_a"), Some(10), &[], true),
            (Some("cp-1_a"), Some(10), &[11], true),
            (Some("cp-1_a"), Some(10), &[11, 12], true),
            (Some("cp-1_a"), Some(10), &[9], false),
            (Some("cp-1_a"), Some(10), &[11, 9], false),
            (Some("cp-1_a"), None, &[11], false),
            (Some("cp-10_a"), Some(10), &[], false),
            (Some("cp-1"), Some(10), &[], false),
            (Some(""), Some(10), &[], false),
            (None, Some(10), &[], false),
        ];
        for (holder, renewed, starts, dead) in table {
            let renew_time = renewed.map(|second| MicroTime(Timestamp::from_second(second).unwrap()));
            let holder_identity = holder.map(str::to_owned);
            let lease = LeaseSpec { holder_identity, renew_time, ..LeaseSpec::default() };
            let starts: Vec<_> = starts.iter().map(|second| second * 1_000_000_000).collect();
            assert_eq!(
                is_held_by_the_dead(&lease, "cp-1", &starts),
                dead,
                "{holder:?} {renewed:?} {starts:?}"
            );
        }
    }

    #[test]
    fn leases_are_looked_at_when_an_instance_comes_or_an_api_server_gets_ready() {
        let instance = |uid: &str, ready| InstanceStatus {
            uid: uid.into(),
            pod: uid.into(),
            address: [127, 64, 0, 1].into(),
            node: None,
            ready,
            because: None,
        };
        let mut fronts = Fronts::from([
            (apiserver::NAME.to_owned(), vec![instance("api", false)]),
            ("kube-scheduler".to_owned(), vec![]),
        ]);
        assert!(!api_is_ready(&fronts));
        let first = instances(&fronts);
        fronts.insert(apiserver::NAME.to_owned(), vec![instance("api", true)]);
        assert!(api_is_ready(&fronts));
        let second = instances(&fronts);
        assert_ne!(first, second);
        fronts.insert("kube-scheduler".to_owned(), vec![instance("scheduler", false)]);
        let third = instances(&fronts);
        assert_ne!(second, third);
        fronts.insert("kube-scheduler".to_owned(), vec![instance("scheduler", true)]);
        assert_eq!(third, instances(&fronts));
        let elsewhere = InstanceStatus { node: Some("cp-2".into()), ..instance("elsewhere", true) };
        fronts.insert(apiserver::NAME.to_owned(), vec![instance("api", false), elsewhere]);
        assert!(api_is_ready(&fronts), "the API can be asked");
        assert!(third.is_superset(&instances(&fronts)), "but nothing has come to this node");
    }
}
