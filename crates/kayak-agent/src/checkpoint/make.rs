//! Makes a checkpoint of a pod that runs here, with what the API says of it.
//!
//! The kubelet's credentials are used: the API shows a node its own pods, and the Secrets and ConfigMaps that they
//! refer to, and nothing else. No right of the agent's own could be as narrow.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kayak_core::checkpoint::culprit::{self, Culprit};
use kayak_core::checkpoint::pod::{Kind, Refusal, Resolved, Sources, references, resolve};
use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::store::Origin;
use crate::cluster::{self, ApiError, ClusterError};

const NAMESPACE: &str = "kube-system";

/// Why there is no checkpoint of a pod.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    #[error(transparent)]
    Cluster(ClusterError),
    #[error("failed to list the pods of this node")]
    List(#[source] ApiError),
    #[error("failed to get the {kind} `{name}`")]
    Get {
        kind: &'static str,
        name: String,
        #[source]
        source: ApiError,
    },
    #[error("failed to read the {kind} `{name}`")]
    Read {
        kind: &'static str,
        name: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the API does not know the pod `{0}` as it runs here")]
    Other(String),
    #[error(transparent)]
    Refused(Refusal),
}

impl MakeError {
    /// Whether that happens whenever a control plane comes or goes.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::List(error) | Self::Get { source: error, .. } => error.is_passing(),
            Self::Other(_) => true,
            Self::Cluster(_) | Self::Read { .. } | Self::Refused(_) => false,
        }
    }
}

/// Makes a static pod of `component` out of the pod that it runs in, with its files below `directory`.
pub(super) async fn make(
    kubeconfig: &str,
    component: &str,
    node: &str,
    of: &Origin,
    directory: &str,
) -> Result<Resolved, MakeError> {
    let client = cluster::client(kubeconfig).await.map_err(MakeError::Cluster)?;
    let pod: Value = get::<Pod>(&client, "Pod", &of.pod).await?;
    if pod["metadata"]["uid"] != *of.uid {
        return Err(MakeError::Other(of.pod.clone()));
    }
    let mut sources = Sources::default();
    for (kind, name) in references(&pod) {
        let object = match kind {
            Kind::Secret => get::<Secret>(&client, "Secret", &name).await,
            Kind::ConfigMap => get::<ConfigMap>(&client, "ConfigMap", &name).await,
        };
        match object {
            Ok(object) => sources.add(kind, &name, &object).map_err(MakeError::Refused)?,
            // Whether it may be missing is said where it is used.
            Err(MakeError::Get { source: ApiError::Refused { code: 404, .. }, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    resolve(&pod, component, node, directory, &sources).map_err(MakeError::Refused)
}

/// Reads an object anew from etcd, as every `get` without a version does.
async fn get<K>(client: &Client, kind: &'static str, name: &str) -> Result<Value, MakeError>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    let object = api.get(name).await;
    let object =
        object.map_err(|source| MakeError::Get { kind, name: name.into(), source: source.into() })?;
    serde_json::to_value(object).map_err(|source| MakeError::Read { kind, name: name.into(), source })
}

/// Whether the API has a pod for this node that would run the component, and has not been told to end it.
pub(super) async fn is_bound(kubeconfig: &str, component: &str, node: &str) -> Result<bool, MakeError> {
    Ok(pods_here(kubeconfig, node).await?.iter().any(|pod| is_to_run(pod, component)))
}

/// Finds out why the component's pod on this node does not serve.
pub(super) async fn culprit(kubeconfig: &str, component: &str, node: &str) -> Result<Culprit, MakeError> {
    let pods = pods_here(kubeconfig, node).await?;
    let read = |pod| serde_json::to_value(pod);
    let pods: Vec<_> = pods.iter().map(read).collect::<Result<_, _>>().map_err(|source| MakeError::Read {
        kind: "Pod",
        name: component.into(),
        source,
    })?;
    Ok(culprit::find(component, &pods))
}

async fn pods_here(kubeconfig: &str, node: &str) -> Result<Vec<Pod>, MakeError> {
    let client = cluster::client(kubeconfig).await.map_err(MakeError::Cluster)?;
    let pods: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let here = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let pods = pods.list(&here).await.map_err(|source| MakeError::List(source.into()))?;
    Ok(pods.items)
}

fn is_to_run(pod: &Pod, component: &str) -> bool {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get("app.kubernetes.io/name"));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let has_ended = matches!(phase, Some("Succeeded" | "Failed"));
    // Checkpoints and the temporary control plane have labels of their own.
    label.is_some_and(|label| label == component) && pod.metadata.deletion_timestamp.is_none() && !has_ended
}
