//! The node's pods and containers as the runtime knows them, with or without an API server.

use std::path::Path;

use kayak_core::node::CRI_SOCKET;
use kayak_core::pods::{ContainerRow, Exit, PodRow, State};
use kayak_cri::v1::{
    Container, ContainerState, ContainerStatus, ContainerStatusRequest, ListContainersRequest,
    ListPodSandboxRequest, PodSandbox, PodSandboxState,
};
use kayak_cri::{ConnectError, RESTART_COUNT, RuntimeClient};
use time::{Duration, OffsetDateTime};

use crate::tail::last_lines;

/// Why pods cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum PodsError {
    /// There is no runtime.
    #[error(transparent)]
    Connect(ConnectError),
    /// The runtime does not tell its pods.
    #[error("failed to list the runtime's pods")]
    Pods(#[source] Box<tonic::Status>),
    /// The runtime does not tell its containers.
    #[error("failed to list the runtime's containers")]
    Containers(#[source] Box<tonic::Status>),
    /// The runtime does not tell more about a container.
    #[error("failed to get the status of the container `{id}`")]
    Status {
        /// The container.
        id: String,
        /// Why.
        #[source]
        source: Box<tonic::Status>,
    },
}

/// Lists the node's pods by namespace and name, with the last `tail` lines of each container's log.
pub async fn list(tail: usize) -> Result<Vec<PodRow>, PodsError> {
    let mut runtime = kayak_cri::connect(CRI_SOCKET).await.map_err(PodsError::Connect)?;
    let pods = runtime.list_pod_sandbox(ListPodSandboxRequest::default());
    let pods = pods.await.map_err(|e| PodsError::Pods(Box::new(e)))?;
    let containers = runtime.list_containers(ListContainersRequest::default());
    let containers =
        containers.await.map_err(|e| PodsError::Containers(Box::new(e)))?.into_inner().containers;
    let now = OffsetDateTime::now_utc();
    let mut rows = Vec::new();
    for pod in pods.into_inner().items {
        let mut row = pod_row(&pod, now);
        for container in newest_attempts(&pod, &containers) {
            row.containers.push(container_row(&mut runtime, container, now, tail).await?);
        }
        rows.push(row);
    }
    rows.sort_by(|a, b| {
        // A pod's newest sandbox first.
        let key = |row: &PodRow| (row.namespace.clone(), row.name.clone(), row.age_seconds);
        key(a).cmp(&key(b))
    });
    Ok(rows)
}

fn pod_row(pod: &PodSandbox, now: OffsetDateTime) -> PodRow {
    let metadata = pod.metadata.clone().unwrap_or_default();
    PodRow {
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        running: pod.state() == PodSandboxState::SandboxReady,
        age_seconds: age(pod.created_at, now),
        containers: Vec::new(),
    }
}

/// The runtime keeps a container's earlier attempts for their logs; only the last one counts.
fn newest_attempts<'a>(pod: &PodSandbox, containers: &'a [Container]) -> Vec<&'a Container> {
    let mut newest: Vec<&Container> = Vec::new();
    let of_pod = containers.iter().filter(|c| c.pod_sandbox_id == pod.id);
    for container in of_pod {
        match newest.iter_mut().find(|known| name(known) == name(container)) {
            Some(known) if known.created_at < container.created_at => *known = container,
            Some(_) => {}
            None => newest.push(container),
        }
    }
    newest.sort_by_key(|container| name(container));
    newest
}

fn name(container: &Container) -> &str {
    container.metadata.as_ref().map_or("", |metadata| &metadata.name)
}

async fn container_row(
    runtime: &mut RuntimeClient,
    container: &Container,
    now: OffsetDateTime,
    tail: usize,
) -> Result<ContainerRow, PodsError> {
    let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
    let status = runtime.container_status(request).await;
    let status =
        status.map_err(|source| PodsError::Status { id: container.id.clone(), source: Box::new(source) })?;
    let status = status.into_inner().status.unwrap_or_default();
    let restarts = status.annotations.get(RESTART_COUNT);
    Ok(ContainerRow {
        name: name(container).to_owned(),
        id: container.id.clone(),
        state: state(container.state()),
        restarts: restarts.and_then(|count| count.parse().ok()).unwrap_or(0),
        age_seconds: age(container.created_at, now),
        image: image(&status),
        exit: (container.state() == ContainerState::ContainerExited).then(|| Exit {
            code: status.exit_code,
            reason: status.reason.clone(),
            message: status.message.clone(),
        }),
        log: log(Path::new(&status.log_path), tail),
    })
}

fn state(state: ContainerState) -> State {
    match state {
        ContainerState::ContainerCreated => State::Created,
        ContainerState::ContainerRunning => State::Running,
        ContainerState::ContainerExited => State::Exited,
        ContainerState::ContainerUnknown => State::Unknown,
    }
}

/// The name the image was asked for by, rather than its digest.
fn image(status: &ContainerStatus) -> String {
    let image = status.image.clone().unwrap_or_default();
    [image.user_specified_image, image.image, status.image_ref.clone()]
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or_default()
}

fn age(created_at: i64, now: OffsetDateTime) -> u64 {
    let created = OffsetDateTime::UNIX_EPOCH + Duration::nanoseconds(created_at);
    (now - created).whole_seconds().try_into().unwrap_or(0)
}

/// A log that cannot be read is told in its place: the rest of the list is still of use.
fn log(path: &Path, tail: usize) -> Vec<String> {
    if tail == 0 {
        return Vec::new();
    }
    match last_lines(path, tail) {
        Ok(lines) => lines.iter().map(|line| message(line).to_owned()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => vec![format!("failed to read `{}`: {error}", path.display())],
    }
}

/// Returns what a container wrote, out of a line `TIME STREAM TAG MESSAGE` of its log.
fn message(line: &str) -> &str {
    line.splitn(4, ' ').nth(3).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use kayak_cri::v1::ContainerMetadata;

    use super::*;

    #[test]
    fn a_log_line_is_stripped_of_time_and_stream() {
        let line = "2026-11-21T08:00:00.123456789Z stderr F it broke, twice";
        assert_eq!(message(line), "it broke, twice");
        assert_eq!(message("half a line"), "half a line");
    }

    #[test]
    fn only_the_newest_attempt_of_a_pods_containers_counts() {
        let container = |pod: &str, name: &str, created_at| Container {
            pod_sandbox_id: pod.into(),
            metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
            created_at,
            ..Container::default()
        };
        let containers = [
            container("a", "web", 2),
            container("a", "web", 3),
            container("b", "web", 9),
            container("a", "db", 1),
        ];
        let pod = PodSandbox { id: "a".into(), ..PodSandbox::default() };
        let newest = newest_attempts(&pod, &containers);
        let newest: Vec<_> = newest.iter().map(|c| (name(c), c.created_at)).collect();
        assert_eq!(newest, [("db", 1), ("web", 3)]);
    }
}
