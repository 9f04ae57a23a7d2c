//! Approves the serving certificates that kubelets ask for; nothing in Kubernetes does.
//!
//! Every controller's agent does it: approving twice is approving once.

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
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;

use crate::cluster::{self, ApiError, ClusterError};
use crate::status::Board;
use rule::Decision;

const SIGNER: &str = "kubernetes.io/kubelet-serving";
const RETRY: Duration = Duration::from_secs(1);
const SUBJECT: &str = "approver";

/// Why requests are not looked at.
#[derive(Debug, thiserror::Error)]
enum ApproverError {
    #[error(transparent)]
    Cluster(ClusterError),
    #[error("failed to watch certificate signing requests")]
    Requests(#[source] ApiError),
    #[error("failed to watch the ConfigMap `{NODES_CONFIG_MAP}`")]
    Nodes(#[source] ApiError),
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
            Self::Requests(error) | Self::Nodes(error) | Self::Decide { source: error, .. } => {
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
        let sentence = format!("Serving certificates of kubelets cannot be approved: {because}.");
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
    let maps: Api<ConfigMap> = Api::namespaced(client, "kube-system");
    let of_kubelets = watcher::Config::default().fields(&format!("spec.signerName={SIGNER}"));
    let mut incoming = pin!(watcher(requests.clone(), of_kubelets));
    // Not the Node's own list of addresses: that is the kubelet's to write, and proves nothing.
    let mut maps = pin!(watcher::watch_object(maps, NODES_CONFIG_MAP));
    let mut desk = Desk { requests, board, pending: BTreeMap::new(), listed: false, nodes: None };
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
            map = maps.next() => {
                let map = map.ok_or(ApproverError::Ended)?;
                match map.map_err(ApiError::from) {
                    Ok(map) => desk.nodes = Some(map.and_then(|map| map.data).unwrap_or_default()),
                    Err(error) if error.is_expired() => tracing::debug!("{}", chain(&error)),
                    Err(error) => return Err(ApproverError::Nodes(error)),
                }
            }
        }
        desk.decide().await?;
    }
}

/// What waits for a decision, and what it is decided by.
struct Desk<'a> {
    requests: Api<CertificateSigningRequest>,
    board: &'a Board,
    pending: BTreeMap<String, CertificateSigningRequest>,
    listed: bool,
    nodes: Option<BTreeMap<String, String>>,
}

impl Desk<'_> {
    fn take_in(&mut self, event: Event<CertificateSigningRequest>) {
        match event {
            Event::Apply(request) | Event::InitApply(request) => {
                let Some(name) = request.metadata.name.clone() else {
                    return;
                };
                if is_pending(&request) {
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
        let Some(nodes) = self.nodes.as_ref().filter(|_| self.listed) else {
            return Ok(()); // not all is known yet
        };
        let mut settled = Vec::new();
        for (name, request) in &self.pending {
            let (kind, reason, message) = match rule::decide(&request.spec, nodes) {
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
