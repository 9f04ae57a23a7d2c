//! Plans as values: dry-run text, JSON, progress and documentation are views of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Aside;
use crate::object::ObjectId;

/// The phases of `kayak up`, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseId {
    /// Keys, certificates and the asset directory.
    Assets,
    /// The nodes that hold the cluster's state, or are going to.
    Nodes,
    /// The temporary control plane.
    Temporary,
    /// The self-hosted control plane's objects.
    Inject,
    /// All other nodes.
    Join,
    /// Waiting for the self-hosted controller manager and scheduler.
    SelfHosted,
    /// Removing the temporary ones, while the self-hosted API server still starts.
    HandOver,
    /// Giving the nodes that joined their labels and taints.
    Roles,
    /// Removing the temporary control plane.
    Pivot,
    /// Starting a node anew that runs in another form than wished, while others keep the cluster going.
    Restart,
    /// Removing what is no longer wished, as far as it was named.
    Remove,
    /// Network, DNS, nodes.
    Verify,
}

impl PhaseId {
    /// All of them, in order.
    pub const ALL: [Self; 12] = [
        Self::Assets,
        Self::Nodes,
        Self::Temporary,
        Self::Inject,
        Self::Join,
        Self::SelfHosted,
        Self::HandOver,
        Self::Roles,
        Self::Pivot,
        Self::Restart,
        Self::Remove,
        Self::Verify,
    ];

    /// The name by which commands address it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Assets => "assets",
            Self::Nodes => "nodes",
            Self::Temporary => "temporary",
            Self::Inject => "inject",
            Self::Join => "join",
            Self::SelfHosted => "self-hosted",
            Self::HandOver => "hand-over",
            Self::Roles => "roles",
            Self::Pivot => "pivot",
            Self::Restart => "restart",
            Self::Verify => "verify",
            Self::Remove => "remove",
        }
    }

    /// What it does, as a line of the progress.
    pub fn title(self) -> &'static str {
        match self {
            Self::Assets => "issue certificates and render",
            Self::Nodes => "start the nodes that hold the cluster's state",
            Self::Temporary => "start the temporary control plane",
            Self::Inject => "inject the self-hosted control plane",
            Self::Join => "start the other nodes",
            Self::SelfHosted => "wait for the self-hosted control plane",
            Self::HandOver => "let its controller manager and scheduler take over",
            Self::Roles => "give the nodes that joined their roles",
            Self::Pivot => "pivot",
            Self::Restart => "start a node anew",
            Self::Verify => "verify network and DNS",
            Self::Remove => "remove what is no longer wished",
        }
    }

    /// Why it is needed, for people who learn from it.
    pub fn why(self) -> &'static str {
        match self {
            Self::Assets => {
                "Everything a cluster consists of is files: certificates from one table, manifests and \
                 nodes' settings rendered from the configuration."
            }
            Self::Nodes => {
                "Each machine gives one container. In it run an agent, containerd and the kubelet; \
                 the kubelet finds etcd's manifest on disk and starts it."
            }
            Self::Temporary => {
                "Kubernetes runs pods, but who runs Kubernetes? API server, controller manager and \
                 scheduler start once as static pods, straight from files."
            }
            Self::Inject => {
                "The same three, now as DaemonSet and Deployments, and network and DNS with them, are \
                 given to the temporary API server like any other object."
            }
            Self::Join => {
                "Now that there is an API, other nodes find it at once. A controller's etcd joins as a \
                 learner, and votes when it has caught up."
            }
            Self::SelfHosted => {
                "The temporary control plane starts its own successor. Old and new run side by side, \
                 each on a loopback address of its own."
            }
            Self::HandOver => {
                "Controller manager and scheduler have one leader each. The successors take over while the new \
                 API server, the slowest of the three, still starts."
            }
            Self::Pivot => {
                "The successor answers through the real endpoint: the temporary one is taken away, \
                 and the cluster runs itself."
            }
            Self::Roles => {
                "A kubelet registers its node, and may not say itself what the node is for. Labelled as a \
                 controller, a node gets an API server."
            }
            Self::Restart => {
                "A node in another form than wished is started anew, one at a time: etcd keeps its \
                 quorum, and clients an API server."
            }
            Self::Verify => "A cluster is of use when its nodes are ready and pods find services by name.",
            Self::Remove => "What kayak made once and no longer wishes goes, and only what was named.",
        }
    }

    /// What one would type to do the same by hand.
    pub fn by_hand(self) -> &'static [&'static str] {
        match self {
            Self::Assets => &["kayak render -o DIR"],
            Self::Nodes => &[
                "runc run NODE",
                "cp nodes/NODE/etc/kubernetes/manifests/etcd.yaml /etc/kubernetes/manifests/",
            ],
            Self::Temporary => {
                &["cp bootstrap-manifests/*.yaml /etc/kubernetes/manifests/", "kubectl get --raw /readyz"]
            }
            Self::Inject => &["kubectl apply --server-side --field-manager=kayak -f manifests/"],
            Self::SelfHosted => &[
                "kubectl -n kube-system rollout status deployment/kube-controller-manager",
                "kubectl -n kube-system rollout status deployment/kube-scheduler",
            ],
            Self::HandOver => &[
                "rm /etc/kubernetes/manifests/temporary-kube-{controller-manager,scheduler}.yaml",
                "kubectl -n kube-system rollout status daemonset/kube-apiserver",
            ],
            Self::Join => &[
                "runc run NODE",
                "etcdctl member add NODE --learner --peer-urls=https://NODE:2380",
                "etcdctl member promote ID",
            ],
            Self::Roles => &["kubectl label node NODE node-role.kubernetes.io/control-plane="],
            Self::Pivot => &["rm /etc/kubernetes/manifests/temporary-*.yaml"],
            Self::Restart => {
                &["kubectl drain NODE", "runc kill NODE", "runc run NODE", "kubectl uncordon NODE"]
            }
            Self::Verify => &[
                "kubectl wait --for=condition=Ready node --all",
                "kubectl -n kube-system rollout status deployment/coredns",
            ],
            Self::Remove => &[
                "kubectl drain NODE --ignore-daemonsets",
                "etcdctl member remove ID",
                "runc delete NODE",
                "kubectl delete KIND/NAME",
            ],
        }
    }
}

impl fmt::Display for PhaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One idempotent act, fully decided: nothing is left to choose when it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Issue these keys and certificates, and write the files of the asset directory that are stale.
    WriteAssets {
        /// Ids of keys and certificates.
        issue: Vec<String>,
        /// Paths below the asset directory.
        paths: Vec<String>,
    },
    /// Make the network that node containers share on this machine.
    PrepareNetwork,
    /// Make a node's container.
    CreateNode(String),
    /// Allow etcd on this node to begin a new cluster.
    Bootstrap(String),
    /// Write files of a node.
    WriteFiles {
        /// Which node.
        node: String,
        /// Absolute paths there.
        paths: Vec<String>,
    },
    /// Stop a node's container, to start it in another form.
    StopNode(String),
    /// Start a node's container.
    StartNode(String),
    /// Put the temporary control plane's manifests where the kubelet of this node finds them.
    PlaceTemporary(String),
    /// Apply objects server-side, in this order.
    Apply(Vec<ObjectId>),
    /// Apply objects, and take back the fields in which somebody else has edited them.
    Revert(Vec<ObjectId>),
    /// Delete objects.
    Delete(Vec<ObjectId>),
    /// Take the manifests of the temporary controller manager and scheduler from this node.
    HandOver(String),
    /// Take the temporary control plane's manifests and secrets from this node.
    RemoveTemporary(String),
    /// Keep new pods from a node, and evict those that run there.
    Drain(String),
    /// Take a node's etcd member out of the cluster.
    RemoveMember(String),
    /// Remove a node's container and all of its files.
    RemoveNode(String),
}

impl Step {
    /// The node whose container or files this is about: such steps on different nodes do not depend on
    /// each other.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::CreateNode(node)
            | Self::Bootstrap(node)
            | Self::WriteFiles { node, .. }
            | Self::StopNode(node)
            | Self::StartNode(node)
            | Self::Drain(node)
            | Self::RemoveNode(node) => Some(node),
            Self::WriteAssets { .. }
            | Self::PrepareNetwork
            | Self::PlaceTemporary(_)
            | Self::Apply(_)
            | Self::Revert(_)
            | Self::Delete(_)
            | Self::HandOver(_)
            | Self::RemoveTemporary(_)
            | Self::RemoveMember(_) => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteAssets { issue, paths } if issue.is_empty() => {
                write!(f, "write {}", some(paths, "assets"))
            }
            Self::WriteAssets { issue, .. } => write!(f, "issue {}", some(issue, "keys and certificates")),
            Self::StopNode(node) => write!(f, "stop node `{node}`"),
            Self::PrepareNetwork => f.write_str("prepare the nodes' network"),
            Self::CreateNode(node) => write!(f, "create node `{node}`"),
            Self::Bootstrap(node) => write!(f, "let etcd on `{node}` begin a new cluster"),
            Self::WriteFiles { node, paths } => write!(f, "write {} on `{node}`", some(paths, "files")),
            Self::StartNode(node) => write!(f, "start node `{node}`"),
            Self::PlaceTemporary(node) => write!(f, "place the temporary control plane on `{node}`"),
            Self::Apply(objects) => write!(f, "apply {}", some(objects, "objects")),
            Self::Revert(objects) => write!(f, "revert {}", some(objects, "objects")),
            Self::Delete(objects) => write!(f, "delete {}", some(objects, "objects")),
            Self::HandOver(node) => {
                write!(f, "remove the temporary controller manager and scheduler from `{node}`")
            }
            Self::RemoveTemporary(node) => write!(f, "remove the temporary control plane from `{node}`"),
            Self::Drain(node) => write!(f, "drain node `{node}`"),
            Self::RemoveMember(node) => write!(f, "take etcd on `{node}` out of the cluster"),
            Self::RemoveNode(node) => write!(f, "remove node `{node}` and its files"),
        }
    }
}

/// Names a few things, and counts many.
fn some<T: fmt::Display>(things: &[T], kind: &str) -> String {
    if things.len() > 4 {
        return format!("{} {kind}", things.len());
    }
    things.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A named condition: gates wait for it, `status` shows it, tests ask it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The node's agent says that its runtime and kubelet run.
    UnitsReady(String),
    /// The node's etcd member votes, and answers.
    Member(String),
    /// The API answers through the endpoint that clients use.
    ApiServes,
    /// A workload has been rolled out completely, in its newest form.
    RolledOut(ObjectId),
    /// An instance of this component that belongs to its workload is ready on this node.
    SelfHostedInstance {
        /// Which node.
        node: String,
        /// Which component.
        component: String,
    },
    /// An instance of this component that belongs to its workload answers, on whichever controller.
    Answers(String),
    /// Nothing of the temporary control plane runs on this node any more.
    TemporaryGone(String),
    /// No checkpoint stands in for anything on this node.
    CheckpointsIdle(String),
    /// The API lists this object no more.
    Absent(ObjectId),
    /// The kubelet has told the API of the node, and what there is room for.
    Registered(String),
    /// The node is Ready.
    NodeReady(String),
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnitsReady(node) => write!(f, "containerd and kubelet run on `{node}`"),
            Self::Member(node) => write!(f, "etcd on `{node}` is a voting member"),
            Self::ApiServes => f.write_str("the API answers"),
            Self::RolledOut(id) => write!(f, "{id} is rolled out"),
            Self::SelfHostedInstance { node, component } => {
                write!(f, "a self-hosted {component} is ready on `{node}`")
            }
            Self::Answers(component) => write!(f, "a self-hosted {component} answers"),
            Self::TemporaryGone(node) => write!(f, "the temporary control plane is gone from `{node}`"),
            Self::CheckpointsIdle(node) => write!(f, "no checkpoint is needed on `{node}`"),
            Self::Absent(id) => write!(f, "{id} is gone"),
            Self::Registered(node) => write!(f, "node `{node}` is registered"),
            Self::NodeReady(node) => write!(f, "node `{node}` is Ready"),
        }
    }
}

/// A stage of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Which one.
    pub id: PhaseId,
    /// What is done.
    pub steps: Vec<Step>,
    /// What must hold before the next phase begins.
    pub gate: Vec<Check>,
}

/// All that has to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In order; phases with nothing to do are left out.
    pub phases: Vec<Phase>,
    /// What is left aside; nothing where nothing is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aside: Vec<Aside>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.phases.is_empty()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "nothing to do");
        }
        for phase in &self.phases {
            writeln!(f, "{}: {}", phase.id, phase.id.title())?;
            for step in &phase.steps {
                writeln!(f, "  {step}")?;
            }
            for check in &phase.gate {
                writeln!(f, "  wait until {check}")?;
            }
        }
        for aside in &self.aside {
            writeln!(f, "this {aside}")?;
        }
        Ok(())
    }
}
