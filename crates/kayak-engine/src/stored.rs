//! The configuration that a cluster was last brought up with: it lives in the cluster and on the
//! controllers' disks.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use kayak_core::access::{CONFIG_KEY, configuration};
use kayak_core::assets::{CLUSTER_FILE, KUBECONFIG};
use kayak_core::host::CLUSTER_CONFIG;
use kayak_core::object::{APPLIED, Object};
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
    /// What the assets that are kept on this machine were made from, if that is another one, which the
    /// place was never given: a run that brought it in was cut off.
    pub unapplied: Option<String>,
}

/// Finds a cluster's configuration: in the cluster, else on a controller's disk, else among the assets that
/// are kept on this machine.
pub async fn configuration_of(
    driver: &Arc<dyn Driver>,
    cluster: &str,
    assets: &Utf8Path,
) -> Result<Option<Stored>, StoredError> {
    let kept = kept(assets)?;
    let mut on_disk = None;
    let mut running = false;
    for name in driver.nodes(cluster).await.map_err(StoredError::Node)? {
        let node = NodeId::new(cluster, &name);
        let text = driver.get(&node, CLUSTER_CONFIG.into()).await.map_err(StoredError::Node)?;
        let state = driver.state(&node).await.map_err(StoredError::Node)?;
        running |= matches!(state, NodeState::Running { .. });
        let place = || format!("the disk of `{name}`");
        let found = text.and_then(|text| String::from_utf8(text).ok());
        on_disk = on_disk.or_else(|| found.map(|text| (text, place())));
    }
    if running {
        match tokio::time::timeout(PATIENCE, in_cluster(assets)).await {
            Ok(Ok(Some(object))) => return Ok(Some(of_cluster(&object, kept.as_ref()))),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::debug!("the cluster cannot tell its configuration: {error}"),
            Err(_) => tracing::debug!("the cluster does not tell its configuration in time"),
        }
    }
    let source = kept.map(|kept| kept.source);
    Ok(match on_disk {
        Some((text, place)) => {
            let unapplied = source.filter(|source| *source != text);
            Some(Stored { text, place, unapplied })
        }
        None => source.map(|text| Stored {
            text,
            place: "the assets kept on this machine".into(),
            unapplied: None,
        }),
    })
}

/// What this machine keeps.
struct Kept {
    source: String,
    /// The digest of the object that would be applied.
    stamp: Option<String>,
}

fn kept(assets: &Utf8Path) -> Result<Option<Kept>, StoredError> {
    if !assets.join(CLUSTER_FILE).exists() {
        return Ok(None);
    }
    let kept = asset_dir::read(assets).map_err(StoredError::Assets)?;
    let objects = kept.objects().unwrap_or_default();
    let object = objects.iter().find(|object| object.id() == configuration());
    let stamp = object.and_then(|object| Object::stamp(object.value())).map(str::to_owned);
    Ok(Some(Kept { source: kept.cluster.source, stamp }))
}

/// Where what is kept was applied last, another text in the cluster is its owner's edit, and newer.
fn of_cluster(InCluster { text, stamp }: &InCluster, kept: Option<&Kept>) -> Stored {
    let unapplied = kept.filter(|kept| kept.source != *text && kept.stamp != *stamp);
    Stored {
        text: text.clone(),
        place: "the cluster".into(),
        unapplied: unapplied.map(|kept| kept.source.clone()),
    }
}

/// What the cluster holds.
struct InCluster {
    text: String,
    /// The digest of the object as it was applied last.
    stamp: Option<String>,
}

async fn in_cluster(assets: &Utf8Path) -> Result<Option<InCluster>, ApiError> {
    let Ok(kubeconfig) = std::fs::read_to_string(assets.join(KUBECONFIG)) else { return Ok(None) };
    let client = api::client(&kubeconfig).await?;
    let id = configuration();
    let object = api::handle(&client, &id).get_opt(&id.name).await;
    let object = object.map_err(|source| ApiError::Look { id, source: Box::new(source) })?;
    let Some(object) = object else { return Ok(None) };
    let text = object.data["data"].get(CONFIG_KEY).and_then(Value::as_str);
    let stamp = object.metadata.annotations.as_ref().and_then(|all| all.get(APPLIED).cloned());
    Ok(text.map(|text| InCluster { text: text.to_owned(), stamp }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cut_off_run_left_is_told_from_what_the_owner_edited() {
        let kept = |source: &str, stamp: &str| Kept { source: source.into(), stamp: Some(stamp.into()) };
        let unapplied = |kept: &Kept| {
            let found = InCluster { text: "old".into(), stamp: Some("of old".into()) };
            of_cluster(&found, Some(kept)).unapplied
        };
        assert_eq!(unapplied(&kept("old", "of old")), None);
        assert_eq!(unapplied(&kept("new", "of new")).as_deref(), Some("new"), "it was never applied");
        assert_eq!(unapplied(&kept("before the edit", "of old")), None, "it was, and then edited");
        assert_eq!(unapplied(&kept("old", "of another kayak")), None, "both say the same");
    }
}
