//! Looks at everything a plan depends on.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8Path;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kayak_core::assets::{AssetsError, Content, is_seed};
use kayak_core::chain::chain;
use kayak_core::checkpoint::{COMPONENTS, CURRENT, DIRECTORY, FILES, RECORD};
use kayak_core::cluster::Node;
use kayak_core::component::etcd::JOINED_FILE;
use kayak_core::host::KUBELET_PKI;
use kayak_core::object::Object;
use kayak_core::plan::{ApiSeen, AssetsSeen, Check, ContainerState, Fact, NodeSeen, Observed};
use time::OffsetDateTime;

use crate::api::{self, ApiError};
use crate::asset_dir::{self, AssetDirError};
use crate::check;
use crate::cluster::ClusterHandle;
use crate::driver::DriverError;
use crate::keystore::is_expired;
use crate::rollout::Verdict;

/// How many nodes and conditions are looked at together.
const AT_ONCE: usize = 16;

/// Why looking failed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The driver could not say.
    #[error("the nodes could not be looked at")]
    Node(#[source] DriverError),
    /// The asset directory could not be read.
    #[error("the kept assets could not be looked at")]
    AssetDir(#[source] AssetDirError),
    /// The API would not take what is wished.
    #[error("the API would refuse what is wished; nothing was changed")]
    Refused(#[source] ApiError),
    /// The wished objects cannot be read.
    #[error("the manifests could not be read")]
    Assets(#[source] AssetsError),
}

/// Looks at the asset directory, nodes, objects and conditions. `issue` is what had to be issued for the
/// assets, and why; `now` decides what has expired.
pub async fn observe(
    cluster: &ClusterHandle,
    assets: &Utf8Path,
    issue: &BTreeMap<String, String>,
    now: OffsetDateTime,
) -> Result<Observed, ObserveError> {
    let assets = AssetsSeen {
        issue: issue.clone(),
        stale: asset_dir::stale(assets, &cluster.assets).map_err(ObserveError::AssetDir)?,
        edited: cluster.assets.rendered().edited(&cluster.assets.files).into_keys().collect(),
    };
    let objects = cluster.assets.objects().map_err(ObserveError::Assets)?;
    let nodes = stream::iter(&cluster.assets.cluster.nodes)
        .map(|node| async move { Ok((node.name.clone(), observe_node(cluster, node, now).await?)) })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
        .map_err(ObserveError::Node)?;
    let (surplus_nodes, surplus_down) = surplus_nodes(cluster, &nodes).await.map_err(ObserveError::Node)?;
    let guarded = cluster.driver.is_guarded(&cluster.cluster_spec()).await.map_err(ObserveError::Node)?;
    // Nothing answers where nothing runs: looking would only take time, and addresses of a bridge
    // that is not there belong to somebody else's network.
    let running = nodes.values().any(|node| node.container == ContainerState::Running);
    let api =
        if running { observe_api(cluster, &objects).await? } else { Fact::Unknown("no node runs".into()) };
    let holding = if running { observe_checks(cluster, &objects, &api).await } else { BTreeSet::new() };
    Ok(Observed { assets, guarded, nodes, surplus_nodes, surplus_down, api, holding })
}

/// Finds the nodes that are there and not wished, and whether etcd has joined there; and which do not run.
async fn surplus_nodes(
    cluster: &ClusterHandle,
    wished: &BTreeMap<String, NodeSeen>,
) -> Result<(BTreeMap<String, bool>, BTreeSet<String>), DriverError> {
    let (mut surplus, mut down) = (BTreeMap::new(), BTreeSet::new());
    for node in cluster.driver.nodes(cluster.assets.cluster.name()).await? {
        if !wished.contains_key(&node) {
            let id = cluster.node_id(&node);
            let joined = cluster.driver.get(&id, Utf8Path::new(JOINED_FILE)).await?;
            match ContainerState::from(cluster.driver.state(&id).await?) {
                ContainerState::Running => {}
                ContainerState::Absent | ContainerState::Stopped => drop(down.insert(node.clone())),
            }
            surplus.insert(node, joined.is_some());
        }
    }
    Ok((surplus, down))
}

async fn observe_node(
    cluster: &ClusterHandle,
    node: &Node,
    now: OffsetDateTime,
) -> Result<NodeSeen, DriverError> {
    let (name, id) = (node.name.as_str(), cluster.node_id(&node.name));
    let container = ContainerState::from(cluster.driver.state(&id).await?);
    let outdated = match cluster.driver.spec(&id).await? {
        Some(spec) => spec.differs_from(&cluster.node_spec(node)),
        None => Vec::new(),
    };
    let get = async |path: &str| match container {
        ContainerState::Absent => Ok(None),
        ContainerState::Stopped | ContainerState::Running => {
            cluster.driver.get(&id, Utf8Path::new(path)).await
        }
    };
    // A kubelet renews its certificate while it runs; one that slept too long needs a first one again.
    let current = get(&format!("{KUBELET_PKI}/kubelet-client-current.pem")).await?;
    let expired = current.is_some_and(|pem| is_expired(&String::from_utf8_lossy(&pem), now));
    let mut stale_files = Vec::new();
    for (path, content) in cluster.assets.node_files(name) {
        let stale = match (content, get(&path).await?) {
            (_, None) => true,
            (_, Some(_)) if is_seed(&path) => expired,
            (Content::File(wished), Some(found)) => *wished != found,
            (Content::Link(_), Some(_)) => false,
        };
        if stale {
            stale_files.push(path);
        }
    }
    let mut temporary = false;
    for (path, _) in cluster.assets.temporary_files() {
        // Its secrets count too: a run may have been cut off after the manifests went.
        temporary = temporary || get(&path).await?.is_some();
    }
    let member = get(JOINED_FILE).await?.is_some();
    let mut checkpoints = true;
    for component in COMPONENTS {
        let record = get(&format!("{DIRECTORY}/{component}/{CURRENT}/{RECORD}")).await?;
        // One that was kept too long cannot show who it is.
        let pem = get(&format!("{DIRECTORY}/{component}/{CURRENT}/{FILES}/secrets/tls.crt")).await?;
        let ended = pem.is_some_and(|pem| is_expired(&String::from_utf8_lossy(&pem), now));
        checkpoints = checkpoints && record.is_some() && !ended;
    }
    Ok(NodeSeen { container, outdated, stale_files, temporary, member, checkpoints })
}

/// An API that refuses what is wished is there: that is an error, and not an API that cannot be seen.
async fn observe_api(cluster: &ClusterHandle, objects: &[Object]) -> Result<Fact<ApiSeen>, ObserveError> {
    if let Err(because) = cluster.readyz().await {
        return Ok(Fact::Unknown(because));
    }
    // Nothing of what the API holds is a machine's that only joined.
    if cluster.assets.cluster.joined.is_some() {
        return Ok(Fact::Known(ApiSeen { objects: BTreeMap::new(), surplus: Vec::new() }));
    }
    match api::look(cluster.client(), objects).await {
        Ok(seen) => Ok(Fact::Known(seen)),
        Err(error) if error.is_refusal() => Err(ObserveError::Refused(error)),
        Err(error) => Ok(Fact::Unknown(chain(&error))),
    }
}

async fn observe_checks(cluster: &ClusterHandle, objects: &[Object], api: &Fact<ApiSeen>) -> BTreeSet<Check> {
    let mut checks = check::of_agents(&cluster.assets.cluster, objects);
    if let Fact::Known(_) = api {
        checks.extend(check::of_api(&cluster.assets.cluster, objects));
    }
    stream::iter(checks)
        .map(|check| async move { (check::look(cluster, &check).await == Verdict::Holds).then_some(check) })
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}
