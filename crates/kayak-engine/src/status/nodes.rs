//! Nodes, and what runs on them of the cluster's own.

use kayak_core::cluster::{Cluster, Node, Role};
use kayak_core::form::CONTROLLER_LABEL;
use kayak_core::plan::{ContainerState, Fact};
use kayak_core::pods::{ContainerRow, PodRow, State};
use serde::Serialize;
use serde_json::Value;

use super::ask::Answers;
use crate::rollout::{Verdict, node_ready};

/// How a node is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// What it runs.
    pub role: Role,
    /// Where it is reached.
    pub address: String,
    /// Whether it is another machine's, which joined with it.
    pub joined: bool,
    /// What there is of it, on this machine.
    pub state: Option<ContainerState>,
    /// Whether it is Ready.
    pub ready: Option<bool>,
    /// Why it is not Ready, or why that is not known.
    pub because: Option<String>,
    /// The kubelet's version.
    pub kubelet: Option<String>,
    /// containerd's version.
    pub containerd: Option<String>,
    /// What is wrong, by its agent or because nobody could be asked, each a sentence.
    pub troubles: Vec<String>,
}

/// One container of the cluster's own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComponentReport {
    /// Which component.
    pub name: String,
    /// Where it runs.
    pub node: String,
    /// In which pod.
    pub pod: String,
    /// What the runtime says of it.
    pub state: String,
    /// How often it was started again.
    pub restarts: u32,
    /// Its version, as its image says.
    pub version: String,
}

pub(super) fn report(cluster: &Cluster, node: &Node, answers: &Answers) -> NodeReport {
    let mut troubles = Vec::new();
    let state = match answers.nodes.get(&node.name).map(|node| &node.state) {
        Some(Fact::Known(state)) => Some(*state),
        Some(Fact::Unknown(because)) => {
            troubles.push(because.clone());
            None
        }
        None => None,
    };
    let object = answers.api().and_then(|api| Ok(api.nodes.known()?.get(&node.name)));
    let (ready, because) = match &object {
        Ok(object) => match node_ready(cluster, *object) {
            Verdict::Holds => (Some(true), None),
            Verdict::NotYet(because) => (Some(false), Some(because)),
        },
        Err(because) => (None, Some(because.clone())),
    };
    let (mut kubelet, mut containerd) = (None, None);
    if state == Some(ContainerState::Running) {
        let mut take = |answer: Result<&String, String>| answer.cloned().map_err(|e| troubles.push(e)).ok();
        match answers.look(&node.name) {
            Ok(look) => {
                kubelet = take(look.kubelet.known());
                // The runtime that does not tell its version tells no pods either.
                containerd = look.containerd.known().ok().cloned();
                let parts = [look.agent.known().err(), look.pods.known().err()];
                troubles.extend(parts.into_iter().flatten());
                troubles.extend(look.agent.known().into_iter().flat_map(|status| status.troubles.clone()));
            }
            Err(because) => troubles.push(because),
        }
    }
    // What a kubelet has reported once is better than nothing.
    let object = object.ok().flatten();
    let reported = |field: &str| {
        let version = object?.pointer("/status/nodeInfo")?.get(field)?;
        let version = version.as_str().filter(|version| !version.is_empty())?;
        Some(version.trim_start_matches("containerd://").to_owned())
    };
    NodeReport {
        name: node.name.clone(),
        role: node.role,
        address: node.address.to_string(),
        joined: false,
        state,
        ready,
        because,
        kubelet: kubelet.or_else(|| reported("kubeletVersion")),
        containerd: containerd.or_else(|| reported("containerRuntimeVersion")),
        troubles,
    }
}

/// The nodes that the API knows and that are not this machine's: others have joined with them.
pub(super) fn joined(cluster: &Cluster, answers: &Answers) -> Vec<NodeReport> {
    let known = answers.api().and_then(|api| api.nodes.known());
    let others =
        known.into_iter().flatten().filter(|(name, _)| !cluster.nodes.iter().any(|n| n.name == **name));
    others.map(|(name, object)| of_joined(cluster, name, object)).collect()
}

fn of_joined(cluster: &Cluster, name: &str, object: &Value) -> NodeReport {
    let (ready, because) = match node_ready(cluster, Some(object)) {
        Verdict::Holds => (true, None),
        Verdict::NotYet(because) => (false, Some(because)),
    };
    let addresses = object.pointer("/status/addresses").and_then(Value::as_array);
    let internal = addresses.into_iter().flatten().find(|address| address["type"] == "InternalIP");
    let labels = object.pointer("/metadata/labels");
    let controls = labels.is_some_and(|labels| labels.get(CONTROLLER_LABEL).is_some());
    let reported = |field: &str| {
        let version = object.pointer("/status/nodeInfo")?.get(field)?.as_str()?;
        Some(version.trim_start_matches("containerd://").to_owned())
    };
    NodeReport {
        name: name.into(),
        role: if controls { Role::Controller } else { Role::Worker },
        address: internal.and_then(|it| it["address"].as_str()).unwrap_or("?").into(),
        joined: true,
        state: None,
        ready: Some(ready),
        because: because.clone(),
        kubelet: reported("kubeletVersion"),
        containerd: reported("containerRuntimeVersion"),
        troubles: because.into_iter().collect(),
    }
}

/// Lists what a node runs of the cluster's own; nothing if that is not known, which is among its troubles.
pub(super) fn components(node: &Node, answers: &Answers) -> Vec<ComponentReport> {
    let pods = answers.pods(&node.name).map(Vec::as_slice).unwrap_or_default();
    let own = pods.iter().filter(|pod| pod.namespace == "kube-system");
    let containers = own.flat_map(|pod| living(pod).map(move |container| (pod, container)));
    containers
        .map(|(pod, container)| ComponentReport {
            name: container.name.clone(),
            node: node.name.clone(),
            pod: pod.name.clone(),
            state: container.state.to_string(),
            restarts: container.restarts,
            version: version_of_image(&container.image),
        })
        .collect()
}

/// The containers of a pod that are more than left over: of a pod whose sandbox has ended, the temporary
/// control plane's say, the runtime only keeps the logs, and what has done its work while others of its
/// pod go on was there to prepare something.
fn living(pod: &PodRow) -> impl Iterator<Item = &ContainerRow> {
    let goes_on = pod.containers.iter().any(|container| container.state == State::Running);
    let has_done_its_work = move |container: &ContainerRow| {
        goes_on && container.state == State::Exited && container.exit.as_ref().is_some_and(|it| it.code == 0)
    };
    pod.containers.iter().filter(move |container| pod.running && !has_done_its_work(container))
}

/// What stands behind a reference's name, or all of it.
fn version_of_image(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    name.split_once(':').map_or(reference, |(_, tag)| tag).to_owned()
}

#[cfg(test)]
mod tests {
    use kayak_core::node::Status;
    use kayak_core::pods::Exit;
    use serde_json::json;

    use super::super::ask::tests::answers;
    use super::super::tests::cluster;
    use super::*;

    fn node() -> Node {
        Node {
            name: "worker-0".into(),
            role: Role::Worker,
            address: [10, 0, 0, 9].into(),
            second_address: None,
        }
    }

    #[test]
    fn an_images_tag_is_its_version() {
        assert_eq!(version_of_image("kayak.local/etcd:v3.6.5"), "v3.6.5");
        assert_eq!(version_of_image("localhost:5000/a/b"), "localhost:5000/a/b");
    }

    #[test]
    fn what_is_left_over_is_no_component() {
        let container = |name: &str, state, code: Option<i32>| ContainerRow {
            name: name.into(),
            id: "1".into(),
            state,
            restarts: 0,
            age_seconds: 0,
            image: "flannel:v1".into(),
            exit: code.map(|code| Exit { code, reason: String::new(), message: String::new() }),
            log: Vec::new(),
        };
        let pod = |name: &str, running, containers| PodRow {
            namespace: "kube-system".into(),
            name: name.into(),
            uid: name.into(),
            running,
            age_seconds: 0,
            containers,
        };
        let mut answers = answers(&[("worker-0", Status::default())]);
        let Fact::Known(look) = &mut answers.nodes.get_mut("worker-0").unwrap().look else { panic!() };
        look.pods = Fact::Known(vec![
            pod("temporary-etcd", false, vec![container("etcd", State::Exited, Some(0))]),
            pod(
                "flannel",
                true,
                vec![
                    container("install", State::Exited, Some(0)),
                    container("flannel", State::Running, None),
                    container("helper", State::Exited, Some(1)),
                ],
            ),
            pod("coredns", true, vec![container("coredns", State::Exited, Some(0))]),
        ]);
        let listed: Vec<_> = components(&node(), &answers).into_iter().map(|it| it.name).collect();
        assert_eq!(listed, ["flannel", "helper", "coredns"]);
    }

    #[test]
    fn nodes_of_other_machines_are_as_the_api_tells() {
        let mut answers = answers(&[("controller-0", Status::default())]);
        let Fact::Known(nodes) = &mut answers.api.nodes else { panic!() };
        nodes.insert("controller-0".into(), json!({}));
        nodes.insert(
            "attic".into(),
            json!({ "status": {
                "addresses": [{ "type": "InternalIP", "address": "192.0.2.7" }],
                "conditions": [{ "type": "Ready", "status": "Unknown", "message": "it is silent" }],
            } }),
        );
        let found = joined(&super::super::tests::cluster(1, 0), &answers);
        let [attic] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(
            (attic.name.as_str(), attic.address.as_str(), attic.ready),
            ("attic", "192.0.2.7", Some(false))
        );
        assert_eq!(attic.because.as_deref(), Some("it is silent"));
    }

    #[test]
    fn a_node_is_unknown_for_a_reason() {
        let mut answers = answers(&[("worker-0", Status::default())]);
        let Fact::Known(nodes) = &mut answers.api.nodes else { panic!() };
        nodes.insert(
            "worker-0".into(),
            json!({ "status": {
                "conditions": [{ "type": "Ready", "status": "True" }],
                "nodeInfo": { "kubeletVersion": "v1", "containerRuntimeVersion": "containerd://2" },
            } }),
        );
        let well = report(&cluster(1, 1), &node(), &answers);
        assert_eq!((well.ready, well.kubelet.as_deref()), (Some(true), Some("v1.36.3")));
        assert!(well.troubles.is_empty() && well.because.is_none(), "{well:?}");

        let silent = Fact::Unknown("the node said nothing within 3 s".into());
        answers.nodes.get_mut("worker-0").unwrap().look = silent;
        let stopped = report(&cluster(1, 1), &node(), &answers);
        assert_eq!(stopped.troubles, ["the node said nothing within 3 s"]);
        assert_eq!((stopped.kubelet.as_deref(), stopped.containerd.as_deref()), (Some("v1"), Some("2")));

        answers.api.nodes = Fact::Unknown("the API said nothing within 3 s".into());
        let dark = report(&cluster(1, 1), &node(), &answers);
        assert_eq!((dark.ready, dark.kubelet), (None, None));
        assert_eq!(dark.because.as_deref(), Some("the API said nothing within 3 s"));
    }
}
