//! What becomes of a pod when its node is to be empty.

use serde_json::Value;

/// What a pod gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lot {
    /// It stays: it is the node's own, or has ended.
    Stays,
    /// It is evicted.
    Goes {
        /// What is lost by that, in words.
        loses: Option<String>,
    },
}

/// Says what becomes of a pod. A DaemonSet would place its pods again, and a static pod is the kubelet's.
pub fn lot(pod: &Value) -> Lot {
    let is_mirror = pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some();
    let has_ended = ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase);
    let owner = list(&pod["metadata"]["ownerReferences"]).find(|owner| owner["controller"] == true);
    if is_mirror || has_ended || owner.is_some_and(|owner| owner["kind"] == "DaemonSet") {
        return Lot::Stays;
    }
    let volumes = list(&pod["spec"]["volumes"]).filter(|volume| volume.get("emptyDir").is_some());
    let volumes: Vec<_> = volumes.filter_map(|volume| volume["name"].as_str()).collect();
    let data = (!volumes.is_empty()).then(|| format!("what its emptyDir {} holds", volumes.join(", ")));
    let itself = owner.is_none().then(|| "the pod itself, which nobody makes again".to_owned());
    let loses: Vec<_> = itself.into_iter().chain(data).collect();
    Lot::Goes { loses: (!loses.is_empty()).then(|| loses.join(", and ")) }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owned_by(kind: &str) -> Value {
        json!({ "metadata": { "ownerReferences": [{ "kind": kind, "controller": true }] } })
    }

    fn loses(pod: &Value) -> String {
        match lot(pod) {
            Lot::Stays => panic!("it stays"),
            Lot::Goes { loses } => loses.unwrap_or_default(),
        }
    }

    #[test]
    fn the_nodes_own_pods_stay_and_so_do_those_that_have_ended() {
        let mut ended = owned_by("Job");
        ended["status"] = json!({ "phase": "Succeeded" });
        let mirror = json!({ "metadata": { "annotations": { "kubernetes.io/config.mirror": "x" } } });
        for pod in [owned_by("DaemonSet"), ended, mirror] {
            assert_eq!(lot(&pod), Lot::Stays, "{pod}");
        }
    }

    #[test]
    fn what_is_lost_is_told() {
        let mut pod = owned_by("ReplicaSet");
        assert_eq!(loses(&pod), "");
        pod["spec"] = json!({ "volumes": [
            { "name": "cache", "emptyDir": {} }, { "name": "x", "configMap": {} }, { "name": "tmp", "emptyDir": {} },
        ] });
        assert_eq!(loses(&pod), "what its emptyDir cache, tmp holds");
        pod["metadata"] = json!({});
        assert!(loses(&pod).starts_with("the pod itself, which nobody makes again, and what"));
    }
}
