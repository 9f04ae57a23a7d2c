//! Reads from an object's status whether what it asks for is there.

use kayak_core::cluster::Cluster;
use kayak_core::object::ObjectId;
use serde_json::Value;

/// What looking at a condition gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not, and why.
    NotYet(String),
}

/// Counts the nodes that would run a workload, do not run themselves, and are not wished any more: what belongs
/// there is waited for in vain.
pub fn left_aside<'a>(
    cluster: &Cluster,
    workload: Option<&Value>,
    nodes: impl IntoIterator<Item = &'a Value>,
) -> i64 {
    let selector = workload.and_then(|it| it.pointer("/spec/template/spec/nodeSelector"));
    let selector: Vec<_> = selector.and_then(Value::as_object).into_iter().flatten().collect();
    let is_aside = |node: &&Value| {
        let wished = cluster.nodes.iter().any(|wished| node["metadata"]["name"] == wished.name.as_str());
        let chosen =
            selector.iter().all(|(label, value)| node["metadata"]["labels"][label.as_str()] == **value);
        !wished && chosen && ready(Some(node)) != Verdict::Holds
    };
    nodes.into_iter().filter(is_aside).map(|_| 1).sum()
}

/// Says whether a workload runs completely in its newest form, but for so many nodes that are
/// [left aside](left_aside).
pub fn rolled_out(id: &ObjectId, object: Option<&Value>, aside: i64) -> Verdict {
    let Some(object) = object else { return Verdict::NotYet("it is not there".into()) };
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return Verdict::NotYet("its controller has not seen it yet".into());
    }
    let (wished, existing, updated, available) = if id.kind == "DaemonSet" {
        let wished = number("/status/desiredNumberScheduled");
        (
            wished,
            number("/status/currentNumberScheduled"),
            number("/status/updatedNumberScheduled"),
            number("/status/numberAvailable"),
        )
    } else {
        let wished = number("/spec/replicas");
        (
            wished,
            number("/status/replicas"),
            number("/status/updatedReplicas"),
            number("/status/availableReplicas"),
        )
    };
    let wanted = wished - aside;
    if wanted <= 0 && id.kind == "DaemonSet" {
        return Verdict::NotYet("no node was chosen for it yet".into());
    }
    if updated < wanted {
        return Verdict::NotYet(format!("{updated} of {wanted} are of the newest form"));
    }
    if existing > wished {
        return Verdict::NotYet(format!("{} older ones have not ended", existing - wished));
    }
    if available < wanted {
        return Verdict::NotYet(format!("{available} of {wanted} are available"));
    }
    Verdict::Holds
}

/// Says whether the API knows what a node has room for.
pub fn registered(object: Option<&Value>) -> Verdict {
    let room = object.and_then(|o| o.pointer("/status/allocatable/pods"));
    room.map_or_else(|| Verdict::NotYet("its kubelet has not registered it yet".into()), |_| Verdict::Holds)
}

/// What a kubelet says of its node where no CNI configuration is.
const NO_NETWORK: &str = "NetworkReady=false";

/// Says whether a node is Ready, and whose affair it is where it has no network.
pub fn node_ready(cluster: &Cluster, object: Option<&Value>) -> Verdict {
    match ready(object) {
        Verdict::NotYet(because) if cluster.has_own_pod_network() && because.contains(NO_NETWORK) => {
            Verdict::NotYet(format!(
                "the owner's own pod network is missing (`network.provider: none`), and the kubelet says: {because}"
            ))
        }
        verdict => verdict,
    }
}

fn ready(object: Option<&Value>) -> Verdict {
    let conditions = object.and_then(|o| o.pointer("/status/conditions")).and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|c| c["type"] == "Ready");
    match ready {
        Some(condition) if condition["status"] == "True" => Verdict::Holds,
        Some(condition) => {
            Verdict::NotYet(condition["message"].as_str().unwrap_or("it does not say why").into())
        }
        None => Verdict::NotYet("its kubelet has not reported yet".into()),
    }
}

#[cfg(test)]
mod tests {
    use kayak_core::config::NetworkProvider;
    use serde_json::json;

    use super::*;
    use crate::status::tests::cluster;

    fn id(kind: &str) -> ObjectId {
        ObjectId {
            api_version: "apps/v1".into(),
            kind: kind.into(),
            namespace: Some("n".into()),
            name: "x".into(),
        }
    }

    fn not_yet(kind: &str, object: &Value) -> String {
        match rolled_out(&id(kind), Some(object), 0) {
            Verdict::NotYet(because) => because,
            Verdict::Holds => panic!("holds"),
        }
    }

    #[test]
    fn a_daemon_set_without_a_node_is_not_rolled_out() {
        let object = json!({ "metadata": { "generation": 1 }, "status": { "observedGeneration": 1, "desiredNumberScheduled": 0 } });
        assert_eq!(not_yet("DaemonSet", &object), "no node was chosen for it yet");
    }

    #[test]
    fn a_deployment_waits_for_the_newest_form_and_for_the_old_to_end() {
        let mut object = json!({
            "metadata": { "generation": 2 }, "spec": { "replicas": 1 },
            "status": { "observedGeneration": 1, "replicas": 1, "updatedReplicas": 0, "availableReplicas": 1 },
        });
        assert_eq!(not_yet("Deployment", &object), "its controller has not seen it yet");
        object["status"]["observedGeneration"] = json!(2);
        assert_eq!(not_yet("Deployment", &object), "0 of 1 are of the newest form");
        object["status"]["replicas"] = json!(2);
        object["status"]["updatedReplicas"] = json!(1);
        assert_eq!(not_yet("Deployment", &object), "1 older ones have not ended");
        object["status"]["replicas"] = json!(1);
        assert_eq!(rolled_out(&id("Deployment"), Some(&object), 0), Verdict::Holds);
    }

    #[test]
    fn a_node_without_a_network_waits_for_whoever_brings_it() {
        let message = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady";
        let conditions = json!([{ "type": "Ready", "status": "False", "message": message }]);
        let node = json!({ "status": { "conditions": conditions } });
        let judged = |cluster: &Cluster| match node_ready(cluster, Some(&node)) {
            Verdict::NotYet(because) => because,
            Verdict::Holds => panic!("holds"),
        };
        let mut cluster = cluster(1, 0);
        assert_eq!(judged(&cluster), message);
        cluster.config.network.provider = NetworkProvider::None;
        assert!(
            judged(&cluster).starts_with("the owner's own pod network is missing"),
            "{}",
            judged(&cluster)
        );
    }

    #[test]
    fn nodes_that_are_dead_and_not_wished_are_not_counted() {
        let node = |name: &str, ready: &str, labels: Value| {
            let conditions = json!([{ "type": "Ready", "status": ready }]);
            json!({ "metadata": { "name": name, "labels": labels }, "status": { "conditions": conditions } })
        };
        let nodes = [
            node("controller-0", "False", json!({ "role": "c" })),
            node("controller-1", "Unknown", json!({ "role": "c" })),
            node("worker-0", "Unknown", json!({})),
            node("worker-1", "True", json!({})),
        ];
        let everywhere = json!({ "spec": { "template": { "spec": {} } } });
        let somewhere = json!({ "spec": { "template": { "spec": { "nodeSelector": { "role": "c" } } } } });
        let aside = |workload: &Value| left_aside(&cluster(1, 0), Some(workload), &nodes);
        assert_eq!((aside(&everywhere), aside(&somewhere)), (2, 1));

        let object = json!({ "metadata": { "generation": 1 }, "status": {
            "observedGeneration": 1, "desiredNumberScheduled": 3, "currentNumberScheduled": 3,
            "updatedNumberScheduled": 2, "numberAvailable": 2,
        } });
        assert_eq!(not_yet("DaemonSet", &object), "2 of 3 are of the newest form");
        assert_eq!(rolled_out(&id("DaemonSet"), Some(&object), 1), Verdict::Holds);
    }
}
