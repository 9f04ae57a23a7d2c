//! Which instances run, as the runtime knows it.
//!
//! The runtime's list is the truth; its events only say when to look again. containerd offers them
//! without being configured to (`internal/cri/server/container_events.go`).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kayak_core::chain::chain;
use kayak_core::node::CRI_SOCKET;
use kayak_cri::v1::{
    Container, ContainerFilter, ContainerState, ContainerStateValue, GetEventsRequest, ListContainersRequest,
};
use kayak_cri::{CONTAINER_NAME, ConnectError, POD_NAME, POD_NAMESPACE, POD_UID, RuntimeClient};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::appearance;
use crate::status::Board;

/// Events may be lost without anyone being told.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(200);

/// A running instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) uid: String,
    pub(super) pod: String,
    /// When its container was made, in nanoseconds since 1970.
    pub(super) created_at: i64,
}

impl Found {
    pub(super) fn address(&self) -> IpAddr {
        IpAddr::V4(kayak_core::instance::address(&self.uid))
    }

    /// How long it has been running, as far as the machine's clock can be trusted.
    pub(super) fn age(&self, now: SystemTime) -> Duration {
        let created = SystemTime::UNIX_EPOCH + Duration::from_nanos(self.created_at.try_into().unwrap_or(0));
        now.duration_since(created).unwrap_or_default()
    }
}

type ByComponent = BTreeMap<String, Vec<Found>>;

/// Why it is not known what runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoveryError {
    #[error("failed to wait for the runtime's socket")]
    Wait(#[source] std::io::Error),
    #[error(transparent)]
    Connect(ConnectError),
    #[error("failed to listen to the runtime's events")]
    Events(#[source] Box<tonic::Status>),
    #[error("failed to list the runtime's containers")]
    List(#[source] Box<tonic::Status>),
    #[error("the runtime stopped telling its events")]
    Ended,
}

/// Keeps `found` up to date with what runs of `components`.
///
/// While the runtime cannot be asked, the last list stands: its restart ends no pod.
pub(super) async fn run(components: Vec<String>, found: Arc<watch::Sender<ByComponent>>, board: Board) {
    loop {
        let Err(error) = follow(&components, &found, &board).await;
        let because = chain(&error);
        board.trouble("runtime", &format!("The runtime is out of reach: {because}."));
        tokio::time::sleep(RETRY).await;
    }
}

async fn follow(
    components: &[String],
    found: &watch::Sender<ByComponent>,
    board: &Board,
) -> Result<Infallible, DiscoveryError> {
    let socket = appearance::of_listener(Path::new(CRI_SOCKET)).await;
    drop(socket.map_err(DiscoveryError::Wait)?);
    let mut runtime = kayak_cri::connect(CRI_SOCKET).await.map_err(DiscoveryError::Connect)?;
    let listener = runtime.clone();
    let happened = Notify::new();
    let look = async {
        loop {
            let containers = list(&mut runtime).await?;
            board.mended("runtime");
            let now = by_component(components, &containers);
            found.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
            // Both ways of waking up lead to the same look.
            let _either = timeout(LOOK_AGAIN, happened.notified()).await;
        }
    };
    tokio::select! {
        ended = listen(listener, &happened) => ended,
        ended = look => ended,
    }
}

/// Takes in events as they come, whatever else is going on: containerd hands them out one by one
/// and starts no container while a listener does not take its own (`internal/eventq`).
async fn listen(mut runtime: RuntimeClient, happened: &Notify) -> Result<Infallible, DiscoveryError> {
    let failed = |status| DiscoveryError::Events(Box::new(status));
    // This returns only with the first event, as grpc-go answers nothing before.
    let events = runtime.get_container_events(GetEventsRequest {}).await;
    let mut events = events.map_err(failed)?.into_inner();
    happened.notify_one();
    while events.message().await.map_err(failed)?.is_some() {
        happened.notify_one();
    }
    Err(DiscoveryError::Ended)
}

/// Lists the control plane's containers that run now.
pub(crate) async fn running_containers() -> Result<Vec<Container>, DiscoveryError> {
    let mut runtime = kayak_cri::connect(CRI_SOCKET).await.map_err(DiscoveryError::Connect)?;
    list(&mut runtime).await
}

async fn list(runtime: &mut RuntimeClient) -> Result<Vec<Container>, DiscoveryError> {
    let filter = ContainerFilter {
        state: Some(ContainerStateValue { state: ContainerState::ContainerRunning.into() }),
        label_selector: [(POD_NAMESPACE.to_owned(), "kube-system".to_owned())].into(),
        ..ContainerFilter::default()
    };
    let request = ListContainersRequest { filter: Some(filter) };
    let answer = runtime.list_containers(request).await;
    let answer = answer.map_err(|status| DiscoveryError::List(Box::new(status)))?;
    Ok(answer.into_inner().containers)
}

fn by_component(components: &[String], containers: &[Container]) -> ByComponent {
    let mut found: ByComponent = components.iter().map(|component| (component.clone(), Vec::new())).collect();
    for container in containers {
        let label = |name| container.labels.get(name).cloned();
        let instances = label(CONTAINER_NAME).and_then(|name| found.get_mut(&name));
        if let (Some(instances), Some(uid)) = (instances, label(POD_UID)) {
            let pod = label(POD_NAME).unwrap_or_default();
            instances.push(Found { uid, pod, created_at: container.created_at });
        }
    }
    for instances in found.values_mut() {
        // A pod may have more than one running container of a name while one is replaced: the newest.
        instances.sort_by(|a, b| b.cmp(a));
        instances.dedup_by(|older, newer| older.uid == newer.uid);
        instances.reverse();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_found_by_their_labels() {
        let container = |name: &str, uid: &str, created_at| Container {
            created_at,
            labels: [(CONTAINER_NAME, name), (POD_UID, uid), (POD_NAME, "pod")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..Container::default()
        };
        let containers = [
            container("kube-apiserver", "2", 9),
            container("etcd", "3", 1),
            container("kube-apiserver", "1", 7),
            container("kube-apiserver", "1", 8),
            container("kube-apiserver", "1", 6),
        ];
        let components = ["kube-apiserver", "kube-scheduler"].map(str::to_owned);
        let found = by_component(&components, &containers);
        let instances: Vec<_> =
            found["kube-apiserver"].iter().map(|found| (found.uid.as_str(), found.created_at)).collect();
        assert_eq!(instances, [("1", 8), ("2", 9)]);
        assert_eq!(found["kube-scheduler"], []);
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_container_of_the_future_has_just_started() {
        let age = |created_at, now| {
            let found = Found { uid: "1".into(), pod: "pod".into(), created_at };
            found.age(SystemTime::UNIX_EPOCH + Duration::from_secs(now)).as_secs()
        };
        assert_eq!(age(3_000_000_000, 10), 7);
        assert_eq!(age(30_000_000_000, 10), 0);
    }
}
