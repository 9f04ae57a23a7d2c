//! Empties a node: nothing new comes, and what runs there is evicted, which budgets for disruption may delay.

use std::collections::BTreeMap;
use std::time::Duration;

use kayak_core::chain::chain;
use kayak_core::drain::{Lot, lot};
use kayak_core::plan::node_id;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::api::{self, ApiError, FIELD_MANAGER, handle};
use crate::cluster::ClusterHandle;
use crate::event::{Event, Listener};

/// How often those that are left are asked to go: a budget has room again when another pod is ready somewhere,
/// of which nothing tells whoever wants to evict.
const AGAIN: Duration = Duration::from_secs(1);
/// How many pods an error names.
const NAMED: usize = 5;

/// Why a node is not empty.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// There is no way to the API.
    #[error(transparent)]
    Client(ApiError),
    /// The API would not have it.
    #[error("failed to keep new pods from node `{node}`")]
    Cordon {
        /// Which node.
        node: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The pods are not known.
    #[error("failed to list the pods of node `{node}`")]
    List {
        /// Which node.
        node: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// Some would not go.
    #[error("node `{node}` is not empty after {seconds} s: {because}")]
    NotEmpty {
        /// Which node.
        node: String,
        /// How long they were given.
        seconds: u64,
        /// Who stays, and why.
        because: String,
    },
}

/// Keeps new pods from a node and evicts what runs there. Those that come all the same tolerate that, and stay.
/// A node that the API does not know is empty.
pub async fn drain(
    cluster: &ClusterHandle,
    node: &str,
    patience: Duration,
    tell: Listener<'_>,
) -> Result<(), DrainError> {
    let client = api::client_that_hears_refusals(&cluster.assets.kubeconfig()).await;
    let client = &client.map_err(DrainError::Client)?;
    if !cordon(client, node).await? {
        return Ok(());
    }
    let start = Instant::now();
    let mut going = BTreeMap::new();
    for pod in pods(client, node).await? {
        if let Lot::Goes { loses } = lot(&pod.object) {
            tell(Event::Evicts { node: node.into(), pod: pod.name(), loses });
            going.insert(pod.uid(), pod);
        }
    }
    while !going.is_empty() {
        let mut because = Vec::new();
        for pod in going.values() {
            because.extend(evict(client, pod).await.map(|why| format!("{}: {why}", pod.name())));
        }
        because.truncate(NAMED);
        let because = because.join("; ");
        if start.elapsed() >= patience {
            let names: Vec<_> = going.values().map(Pod::name).take(NAMED).collect();
            let because =
                if because.is_empty() { format!("{} still ends", names.join(", ")) } else { because };
            return Err(DrainError::NotEmpty { node: node.into(), seconds: patience.as_secs(), because });
        }
        if !because.is_empty() {
            tell(Event::Draining { node: node.into(), because });
        }
        sleep(AGAIN).await;
        let there: Vec<_> = pods(client, node).await?.iter().map(Pod::uid).collect();
        going.retain(|uid, _| there.contains(uid));
    }
    Ok(())
}

/// Has no new pods come to a node; says whether there is one.
async fn cordon(client: &kube::Client, node: &str) -> Result<bool, DrainError> {
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({ "spec": { "unschedulable": true } }));
    match handle(client, &node_id(node)).patch(node, &params, &patch).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(source) => Err(DrainError::Cordon { node: node.into(), source: Box::new(source) }),
    }
}

/// A pod as the API tells it.
struct Pod {
    object: Value,
}

impl Pod {
    fn field(&self, name: &str) -> &str {
        self.object["metadata"][name].as_str().unwrap_or_default()
    }

    fn uid(&self) -> String {
        self.field("uid").to_owned()
    }

    fn name(&self) -> String {
        format!("{}/{}", self.field("namespace"), self.field("name"))
    }
}

async fn pods(client: &kube::Client, node: &str) -> Result<Vec<Pod>, DrainError> {
    let fail = |source| DrainError::List { node: node.into(), source: Box::new(source) };
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}");
    let request = http::Request::get(path).body(Vec::new()).map_err(|e| fail(kube::Error::HttpError(e)))?;
    let mut list: Value = client.request(request).await.map_err(fail)?;
    let items = list["items"].take();
    let items = if let Value::Array(items) = items { items } else { Vec::new() };
    Ok(items.into_iter().map(|object| Pod { object }).collect())
}

/// Asks for a pod's eviction; returns why it is not granted now.
async fn evict(client: &kube::Client, pod: &Pod) -> Option<String> {
    if pod.object["metadata"].get("deletionTimestamp").is_some() {
        return None;
    }
    let (namespace, name) = (pod.field("namespace"), pod.field("name"));
    // With this pod's UID: another one of the same name may be elsewhere already.
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": { "name": name, "namespace": namespace },
        "deleteOptions": { "preconditions": { "uid": pod.uid() } },
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
    let request = http::Request::post(path).header(http::header::CONTENT_TYPE, "application/json");
    let request = match request.body(eviction.to_string().into_bytes()) {
        Ok(request) => request,
        Err(error) => return Some(error.to_string()),
    };
    match client.request::<Value>(request).await {
        Ok(_) => None,
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => None,
        Err(kube::Error::Api(status)) => {
            let causes = status.details.iter().flat_map(|details| &details.causes);
            let causes: Vec<_> = causes.map(|cause| cause.message.clone()).collect();
            Some(if causes.is_empty() { status.message.clone() } else { causes.join(", ") })
        }
        Err(error) => Some(chain(&error)),
    }
}
