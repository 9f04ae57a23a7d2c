//! The configuration that a cluster was last brought up with: it lives in the cluster and on the
//! controllers' disks.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use kayak_core::access::{CONFIG_KEY, configuration};
use kayak_core::assets::{CLUSTER_FILE, KUBECONFIG};
use kayak_core::host::CLUSTER_CONFIG;
use serde_json::Value;

use crate::api::{self, ApiError};
use crate::asset_dir::{self, AssetDirError};
use crate::driver::{Driver, DriverError, NodeId, NodeState};

/// How long the cluster may take to answer; its controllers' disks hold the same, unless somebody has
/// edited the one in the cluster.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why the configuration could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// The nodes could not be asked.
    #[error("the nodes could not be asked for the cluster's configuration")]
    Node(#[source] DriverError),
    /// The kept assets cannot be read.
    #[error("the kept assets could not be asked for the cluster's configuration")]
    Assets(#[source] AssetDirError),
}

/// A configuration that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The text of `cluster.yaml`.
    pub text: String,
    /// Where it was found.
    pub place: String,
}

/// Finds a cluster's configuration: in the cluster, else on a controller's disk, else among the assets that
/// are kept on this machine.
pub async fn configuration_of(
    driver: &Arc<dyn Driver>,
    cluster: &str,
    assets: &Utf8Path,
) -> Result<Option<Stored>, StoredError> {
    let mut on_disk = None;
    let mut running = false;
    for name in driver.nodes(cluster).await.map_err(StoredError::Node)? {
        let node = NodeId::new(cluster, &name);
        let text = driver.get(&node, CLUSTER_CONFIG.into()).await.map_err(StoredError::Node)?;
        let state = driver.state(&node).await.map_err(StoredError::Node)?;
        running |= matches!(state, NodeState::Running { .. });
        let place = || format!("the disk of `{name}`");
        let found = text.and_then(|text| String::from_utf8(text).ok());
        on_disk = on_disk.or_else(|| found.map(|text| Stored { text, place: place() }));
    }
    if running {
        match tokio::time::timeout(PATIENCE, in_cluster(assets)).await {
            Ok(Ok(Some(text))) => return Ok(Some(Stored { text, place: "the cluster".into() })),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::debug!("the cluster cannot tell its configuration: {error}"),
            Err(_) => tracing::debug!("the cluster does not tell its configuration in time"),
        }
    }
    if on_disk.is_some() || !assets.join(CLUSTER_FILE).exists() {
        return Ok(on_disk);
    }
    let kept = asset_dir::read(assets).map_err(StoredError::Assets)?;
    Ok(Some(Stored { text: kept.cluster.source, place: "the assets kept on this machine".into() }))
}

async fn in_cluster(assets: &Utf8Path) -> Result<Option<String>, ApiError> {
    let Ok(kubeconfig) = std::fs::read_to_string(assets.join(KUBECONFIG)) else { return Ok(None) };
    let client = api::client(&kubeconfig).await?;
    let id = configuration();
    let object = api::handle(&client, &id).get_opt(&id.name).await;
    let object = object.map_err(|source| ApiError::Look { id, source: Box::new(source) })?;
    let text = object.as_ref().and_then(|object| object.data["data"].get(CONFIG_KEY)).and_then(Value::as_str);
    Ok(text.map(str::to_owned))
}
