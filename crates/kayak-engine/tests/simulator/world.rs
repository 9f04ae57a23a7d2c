//! The simulated machine: one node, what lies on its disk, and what runs in it.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::form::{TEMPORARY, TEMPORARY_SECRETS};
use kayak_core::host::MANIFEST_DIR;
use kayak_core::node::{InstanceStatus, MemberStatus, Status, UnitStatus};
use kayak_engine::driver::{FileContent, NodeSpec};

use crate::objects::{Etcd, Key};

/// The components that stand behind the agent's fronts.
pub(crate) const FRONTED: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// Everything there is.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    /// Whether the bridge is there.
    pub(crate) network: bool,
    pub(crate) node: Option<Node>,
    /// Whether the API answers, and nobody has stopped the node since: then it may not go away.
    api_answered: bool,
    /// What must never happen, and did.
    pub(crate) violations: Vec<String>,
}

/// A node: all of it but `running` is on the disk.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) spec: NodeSpec,
    pub(crate) files: BTreeMap<Utf8PathBuf, FileContent>,
    pub(crate) etcd: Etcd,
    /// Pods that a scheduler has given to the node.
    pub(crate) bound: Vec<Pod>,
    pub(crate) running: Option<Running>,
}

/// A pod of a workload.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) workload: Key,
    pub(crate) name: String,
    /// The template that it was made from.
    pub(crate) form: String,
}

/// A node container.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    /// What it was started as.
    pub(crate) spec: NodeSpec,
    /// For how many ticks.
    pub(crate) age: u32,
    /// Whether containerd and the kubelet run.
    pub(crate) units_ready: bool,
    /// By the pod's name.
    pub(crate) processes: BTreeMap<String, Process>,
}

/// What runs of a pod.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) component: String,
    /// Whether it was started from a file.
    pub(crate) is_static: bool,
    pub(crate) age: u32,
    pub(crate) ready: bool,
    /// For how many ticks it has been ending.
    pub(crate) ending: Option<u32>,
}

impl World {
    /// The node stops without having been asked, and the bridge goes with it.
    pub(crate) fn lose_power(&mut self) {
        self.network = false;
        self.stop();
    }

    /// Ends the node's container.
    pub(crate) fn stop(&mut self) {
        self.api_answered = false;
        if let Some(node) = &mut self.node {
            node.running = None;
        }
    }

    /// Whether a client gets an answer.
    pub(crate) fn api_answers(&self) -> bool {
        self.node.as_ref().is_some_and(Node::api_answers)
    }

    /// Writes down if the API went away although nobody stopped the node.
    pub(crate) fn watch_over_api(&mut self) {
        let answers = self.api_answers();
        if self.api_answered && !answers {
            self.violations.push("the API went away while the node ran".into());
        }
        self.api_answered = answers;
    }

    /// What the agent tells, if one runs.
    pub(crate) fn status(&self) -> Option<Status> {
        let node = self.node.as_ref()?;
        let running = node.running.as_ref()?;
        if running.age == 0 {
            return Some(Status::default());
        }
        let unit = UnitStatus { ready: running.units_ready, restarts: 0, last_end: None, because: None };
        let units = ["containerd", "kubelet"].map(|name| (name.to_owned(), unit.clone()));
        let instances = |component: &str| {
            let of_it = running.processes.iter().filter(|(_, process)| process.component == component);
            of_it.map(|(pod, process)| instance(pod, process)).collect()
        };
        Some(Status {
            units: units.into(),
            fronts: FRONTED.map(|component| (component.to_owned(), instances(component))).into(),
            etcd: Some(MemberStatus { healthy: node.serves("etcd"), ..MemberStatus::default() }),
            ..Status::default()
        })
    }
}

fn instance(pod: &str, process: &Process) -> InstanceStatus {
    InstanceStatus {
        uid: pod.into(),
        pod: pod.into(),
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        node: None,
        ready: process.serves(),
        because: (!process.serves()).then(|| "it does not answer".into()),
    }
}

impl Process {
    /// Whether it is given new connections.
    pub(crate) fn serves(&self) -> bool {
        self.ready && self.ending.is_none()
    }
}

impl Node {
    /// A node that was just created.
    pub(crate) fn new(spec: NodeSpec) -> Self {
        Self { spec, files: BTreeMap::new(), etcd: Etcd::default(), bound: Vec::new(), running: None }
    }

    /// Reads a file, through a link.
    pub(crate) fn read(&self, path: &Utf8Path) -> Option<&[u8]> {
        match self.files.get(path)? {
            FileContent::Regular { bytes, .. } => Some(bytes),
            FileContent::Link(target) => self.read(&path.parent()?.join(target)),
        }
    }

    /// Whether an instance of a component answers.
    pub(crate) fn serves(&self, component: &str) -> bool {
        let mut processes = self.running.iter().flat_map(|running| running.processes.values());
        processes.any(|process| process.component == component && process.serves())
    }

    pub(crate) fn api_answers(&self) -> bool {
        self.serves("etcd") && self.serves("kube-apiserver")
    }

    /// What is left of a temporary control plane: files, and pods.
    pub(crate) fn temporary(&self) -> Vec<String> {
        let is_file = |path: &&Utf8PathBuf| {
            path.starts_with(TEMPORARY_SECRETS)
                || path.as_str().starts_with(&format!("{MANIFEST_DIR}/{TEMPORARY}"))
        };
        let files = self.files.keys().filter(is_file).map(ToString::to_string);
        let running = self.running.iter().flat_map(|running| running.processes.keys());
        let pods = running.chain(self.etcd.objects.keys().map(|key| &key.name));
        files.chain(pods.filter(|name| name.starts_with(TEMPORARY)).cloned()).collect()
    }
}
