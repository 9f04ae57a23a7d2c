//! Gives pods their network: writes the configuration that the runtime hands to the CNI plugins,
//! as soon as it is known which addresses are this node's to give.

mod conflist;
pub(crate) mod link;

use std::convert::Infallible;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use ipnet::{AddrParseError, IpNet};
use k8s_openapi::api::core::v1::Node;
use kayak_core::chain::chain;
use kayak_core::node::{CNI_CONFIG_DIR, NodeConfig, PodNetwork};
use kube::Api;
use kube::runtime::watcher;

use crate::cluster::{self, ApiError, ClusterError};
use crate::status::Board;
use crate::write;
use conflist::Conflist;

const FILE: &str = "10-kayak.conflist";
const RETRY: Duration = Duration::from_millis(500);
const SUBJECT: &str = "pod network";

/// Why the pod network is not there.
#[derive(Debug, thiserror::Error)]
enum PodNetworkError {
    #[error(transparent)]
    Cluster(ClusterError),
    #[error("failed to watch the node `{name}`")]
    Watch {
        name: String,
        #[source]
        source: ApiError,
    },
    #[error("the watch of the node `{0}` ended")]
    Ended(String),
    #[error("failed to understand the pod range `{range}` of the node")]
    Range {
        range: String,
        #[source]
        source: AddrParseError,
    },
    #[error("failed to find the link's MTU")]
    Link(#[source] link::LinkError),
    #[error("failed to write `{CNI_CONFIG_DIR}/{FILE}`")]
    Write(#[source] std::io::Error),
    #[error("failed to remove `{CNI_CONFIG_DIR}/{FILE}`")]
    Remove(#[source] std::io::Error),
}

/// Keeps the configuration up to date for ever, or out of the way where the owner's own network has one.
pub(crate) async fn keep(config: NodeConfig, board: Board) {
    match &config.pod_network {
        Some(network) => run(&config, network, &board).await,
        None => match forget(Path::new(CNI_CONFIG_DIR)) {
            Ok(()) => {
                board.mended(SUBJECT);
                board.pod_cidrs(&[]);
            }
            Err(error) => {
                let because = chain(&error);
                let sentence = format!("kayak's own pod network is in the way of the owner's: {because}.");
                board.trouble(SUBJECT, &sentence);
            }
        },
    }
}

/// Takes away what was written while the network was kayak's.
fn forget(directory: &Path) -> Result<(), PodNetworkError> {
    match std::fs::remove_file(directory.join(FILE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(PodNetworkError::Remove(error)),
        _ => Ok(()),
    }
}

/// What an earlier run wrote stays until there is news, so that a node whose API is down starts its pods.
async fn run(config: &NodeConfig, network: &PodNetwork, board: &Board) {
    if let Some(ranges) = conflist::ranges_on_disk(&Path::new(CNI_CONFIG_DIR).join(FILE)) {
        board.pod_cidrs(&ranges);
    }
    loop {
        let Err(error) = follow(config, network, board).await;
        let because = chain(&error);
        let sentence = format!("The node's pod ranges are unknown: {because}.");
        match &error {
            PodNetworkError::Watch { source, .. } if source.is_passing() => {
                board.passing_trouble(SUBJECT, &sentence);
            }
            _ => board.trouble(SUBJECT, &sentence),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn follow(
    config: &NodeConfig,
    network: &PodNetwork,
    board: &Board,
) -> Result<Infallible, PodNetworkError> {
    let client = cluster::client(&network.kubeconfig).await.map_err(PodNetworkError::Cluster)?;
    let nodes: Api<Node> = Api::all(client);
    let mut states = pin!(watcher::watch_object(nodes, &config.name));
    while let Some(state) = states.next().await {
        let node = match state.map_err(ApiError::from) {
            Ok(node) => node,
            Err(error) if error.is_expired() => {
                tracing::debug!("{}", chain(&error));
                continue;
            }
            Err(source) => return Err(PodNetworkError::Watch { name: config.name.clone(), source }),
        };
        board.mended(SUBJECT);
        let ranges = pod_ranges(node.as_ref())?;
        if !ranges.is_empty() {
            write_down(config, network, &ranges)?;
            board.pod_cidrs(&ranges);
        }
    }
    Err(PodNetworkError::Ended(config.name.clone()))
}

/// Returns none for a node that does not exist or was not given any yet.
fn pod_ranges(node: Option<&Node>) -> Result<Vec<IpNet>, PodNetworkError> {
    let spec = node.and_then(|node| node.spec.as_ref());
    let ranges = spec.and_then(|spec| spec.pod_cidrs.as_ref());
    let parse = |range: &String| {
        range.parse().map_err(|source| PodNetworkError::Range { range: range.clone(), source })
    };
    ranges.into_iter().flatten().map(parse).collect()
}

fn write_down(config: &NodeConfig, network: &PodNetwork, ranges: &[IpNet]) -> Result<(), PodNetworkError> {
    // No route need cover the address of a VPN's link.
    let mtu = match &config.interface {
        Some(link) => link::mtu_of(link),
        None => link::mtu(config.address),
    };
    let mtu = mtu.map_err(PodNetworkError::Link)?;
    let mtu = mtu.saturating_sub(network.overhead);
    let text = Conflist { ranges, mtu }.render();
    let path = Path::new(CNI_CONFIG_DIR).join(FILE);
    // The runtime reads it again at every write, and the node's status changes all the time.
    if std::fs::read(&path).is_ok_and(|current| current == text.as_bytes()) {
        return Ok(());
    }
    write::atomically(&path, text.as_bytes()).map_err(PodNetworkError::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_configuration_is_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let of_owner = directory.path().join("05-owner.conflist");
        for path in [&directory.path().join(FILE), &of_owner] {
            std::fs::write(path, "{}").unwrap();
        }
        for _ in 0..2 {
            forget(directory.path()).unwrap();
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
            assert!(of_owner.exists());
        }
    }
}
