//! Approves the serving certificates that kubelets ask for, which nothing in Kubernetes does, and the first
//! client certificates of machines that join, by a tighter rule than Kubernetes' own.
//!
//! Every controller's agent does it: approving twice is approving once.

mod admission;
mod admit;
mod rule;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::ConfigMap;
use kayak_core::access::NODES_CONFIG_MAP;
use kayak_core::chain::chain;
use kayak_core::join::{JOINED_CONFIG_MAP, records};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;

use crate::cluster::{self, ApiError, ClusterError};
use crate::status::Board;
use rule::Decision;

const SERVING: &str = "kubernetes.io/kubelet-serving";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const RETRY: Duration = Duration::from_secs(1);
const SUBJECT: &str = "approver";

/// Why requests are not looked at.
#[derive(Debug, thiserror::Error)]
enum ApproverError {
    #[error(transparent)]
    Cluster(ClusterError),
    #[error("failed to watch certificate signing requests")]
    Requests(#[source] ApiError),
    #[error("failed to watch the ConfigMap `{name}`")]
    Map {
        name: &'static str,
        #[source]
        source: ApiError,
    },
    #[error("failed to decide on the request `{name}`")]
    Decide {
        name: String,
        #[source]
        source: ApiError,
    },
    #[error("the watch ended")]
    Ended,
}

impl ApproverError {
    fn is_passing(&self) -> bool {
        match self {
            Self::Requests(error) | Self::Map { source: error, .. } | Self::Decide { source: error, .. } => {
                error.is_passing()
            }
            Self::Cluster(_) | Self::Ended => false,
        }
    }
}

/// Approves for ever.
pub(crate) async fn run(kubeconfig: String, board: Board) {
    loop {
        let Err(error) = follow(&kubeconfig, &board).await;
        let because = chain(&error);
        let sentence = format!("Certificates of kubelets cannot be approved: {because}.");
        if error.is_passing() {
            board.passing_trouble(SUBJECT, &sentence);
        } else {
            board.trouble(SUBJECT, &sentence);
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn follow(kubeconfig: &str, board: &Board) -> Result<Infallible, ApproverError> {
    let client = cluster::client(kubeconfig).await.map_err(ApproverError::Cluster)?;
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let mut incoming = pin!(watcher(requests.clone(), watcher::Config::default()));
    // Not the Node's own list of addresses: that is the kubelet's to write, and proves nothing.
    let mut nodes = pin!(watcher::watch_object(maps.clone(), NODES_CONFIG_MAP));
    let mut joined = pin!(watcher::watch_object(maps, JOINED_CONFIG_MAP));
    let mut desk =
        Desk { client, requests, board, pending: BTreeMap::new(), listed: false, nodes: None, joined: None };
    loop {
        tokio::select! {
            event = incoming.next() => {
                let event = event.ok_or(ApproverError::Ended)?;
                match event.map_err(ApiError::from) {
                    Ok(event) => desk.take_in(event),
                    Err(error) if error.is_expired() => tracing::debug!("{}", chain(&error)),
                    Err(error) => return Err(ApproverError::Requests(error)),
                }
            }
            map = nodes.next() => desk.nodes = data(NODES_CONFIG_MAP, map)?.or(desk.nodes),
            map = joined.next() => desk.joined = data(JOINED_CONFIG_MAP, map)?.or(desk.joined),
        }
        desk.decide().await?;
    }
}

/// What a ConfigMap holds now: nothing where it is not there. `None` says that the watch begins anew.
fn data(
    name: &'static str,
    seen: Option<Result<Option<ConfigMap>, watcher::Error>>,
) -> Result<Option<BTreeMap<String, String>>, ApproverError> {
    match seen.ok_or(ApproverError::Ended)?.map_err(ApiError::from) {
        Ok(map) => Ok(Some(map.and_then(|map| map.data).unwrap_or_default())),
        Err(error) if error.is_expired() => {
            tracing::debug!("{}", chain(&error));
            Ok(None)
        }
        Err(source) => Err(ApproverError::Map { name, source }),
    }
}

/// What waits for a decision, and what it is decided by.
struct Desk<'a> {
    client: Client,
    requests: Api<CertificateSigningRequest>,
    board: &'a Board,
    pending: BTreeMap<String, CertificateSigningRequest>,
    listed: bool,
    nodes: Option<BTreeMap<String, String>>,
    joined: Option<BTreeMap<String, String>>,
}

impl Desk<'_> {
    fn take_in(&mut self, event: Event<CertificateSigningRequest>) {
        match event {
            Event::Apply(request) | Event::InitApply(request) => {
                let Some(name) = request.metadata.name.clone() else {
                    return;
                };
                if concerns(&request) && is_pending(&request) {
                    self.pending.insert(name, request);
                } else {
                    self.settle(&name);
                }
            }
            Event::Delete(request) => {
                if let Some(name) = &request.metadata.name {
                    self.settle(name);
                }
            }
            Event::Init => {
                for name in std::mem::take(&mut self.pending).into_keys() {
                    self.board.mended(&subject(&name));
                }
            }
            Event::InitDone => self.listed = true,
        }
    }

    fn settle(&mut self, name: &str) {
        self.pending.remove(name);
        self.board.mended(&subject(name));
    }

    async fn decide(&mut self) -> Result<(), ApproverError> {
        let (Some(nodes), Some(joined), true) = (&self.nodes, &self.joined, self.listed) else {
            return Ok(()); // not all is known yet
        };
        let known = known(nodes, joined);
        let mut settled = Vec::new();
        for (name, request) in &self.pending {
            let decision = if request.spec.signer_name == CLIENT {
                admit::decide(&self.client, request, nodes)
                    .await
                    .map_err(|source| ApproverError::Decide { name: name.clone(), source: source.into() })?
            } else {
                rule::decide(&request.spec, &known)
            };
            let (kind, reason, message) = match decision {
                Decision::Wait(because) => {
                    self.board.trouble(&subject(name), &because);
                    continue;
                }
                Decision::Approve => {
                    ("Approved", "NodeMatches", "node, names and addresses match".to_owned())
                }
                Decision::Deny(because) => ("Denied", "NodeDiffers", because),
            };
            tracing::info!(request = name, kind, "{message}");
            conclude(&self.requests, name, kind, reason, &message).await?;
            settled.push(name.clone());
        }
        for name in settled {
            self.settle(&name);
        }
        self.board.mended(SUBJECT);
        Ok(())
    }
}

/// Every node with its names and addresses: those that joined have one of each.
fn known(nodes: &BTreeMap<String, String>, joined: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let joined = records(joined).into_iter();
    let joined = joined.map(|(node, record)| (node.clone(), format!("{node},{}", record.address)));
    // What the configuration says counts.
    joined.chain(nodes.clone()).collect()
}

/// Whether a request is the agents' to decide on.
fn concerns(request: &CertificateSigningRequest) -> bool {
    match request.spec.signer_name.as_str() {
        SERVING => true,
        CLIENT => admission::is_by_token(request),
        _ => false,
    }
}

fn subject(request: &str) -> String {
    format!("request {request}")
}

fn is_pending(request: &CertificateSigningRequest) -> bool {
    let conditions = request.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.is_none_or(|conditions| {
        let decided = |kind: &str| kind == "Approved" || kind == "Denied";
        !conditions.iter().any(|condition| decided(&condition.type_))
    })
}

async fn conclude(
    requests: &Api<CertificateSigningRequest>,
    name: &str,
    kind: &str,
    reason: &str,
    message: &str,
) -> Result<(), ApproverError> {
    let condition = json!({ "type": kind, "status": "True", "reason": reason, "message": message });
    let patch = Patch::Strategic(json!({ "status": { "conditions": [condition] } }));
    let concluded = requests.patch_approval(name, &PatchParams::default(), &patch).await;
    match concluded {
        Ok(_) => Ok(()),
        // Withdrawn, or decided by another controller's agent in between.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(()),
        Err(source) => Err(ApproverError::Decide { name: name.to_owned(), source: source.into() }),
    }
}
