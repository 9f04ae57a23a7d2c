//! Taints of nodes. To the API all taints of a node are one field, and the node controller adds and
//! takes away its own there all the time: whoever applied the field would own all of them or be in
//! conflict over it. So each wished taint is added beside those of others.

use kayak_core::fields::Change;
use kayak_core::object::Object;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{FIELD_MANAGER, Manner, conflict, params};

const FIELD: &str = ".spec.taints";

/// Parts an object into what is applied, and the taints that are added beside it.
pub(super) fn split(object: &Object) -> (Object, Vec<Value>) {
    let taints = if object.id().kind == "Node" { there(object.value()) } else { Vec::new() };
    let mut applied = object.clone();
    if !taints.is_empty() {
        applied.remove(FIELD);
    }
    (applied, taints)
}

/// Says what adding the wished taints would change.
pub(super) fn change(live: &Value, wished: &[Value]) -> Option<Change> {
    let text = |taints: Vec<Value>| Some(Value::Array(taints).to_string());
    let change = || Change { field: FIELD.into(), from: text(there(live)), to: text(complete(live, wished)) };
    lacks(live, wished).then(change)
}

fn lacks(live: &Value, wished: &[Value]) -> bool {
    let there = there(live);
    wished.iter().any(|taint| !there.contains(taint))
}

/// Makes sure that a node has the wished taints; makes the node if there is none yet. Whoever changes it
/// all the time keeps kayak from it until the deadline and no longer.
pub(super) async fn ensure(
    api: &Api<DynamicObject>,
    node: &Object,
    wished: &[Value],
    deadline: Instant,
) -> Result<(), Box<kube::Error>> {
    let name = node.id().name;
    let applied = params(Manner::GiveWay, false);
    let merged = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    loop {
        let live = match api.get_opt(&name).await? {
            Some(live) => live,
            None => api.patch(&name, &applied, &Patch::Apply(node.clone().unstamped().value())).await?,
        };
        if !lacks(&live.data, wished) {
            return Ok(());
        }
        let patch = json!({
            "metadata": { "resourceVersion": live.metadata.resource_version },
            "spec": { "taints": complete(&live.data, wished) },
        });
        match api.patch(&name, &merged, &Patch::Merge(patch)).await {
            // Else it has changed since, and is looked at again.
            Err(error) if conflict::of(&error).is_none() || Instant::now() >= deadline => {
                return Err(error.into());
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// The wished taints, and what others have added.
fn complete(live: &Value, wished: &[Value]) -> Vec<Value> {
    let is_same = |a: &Value, b: &Value| a["key"] == b["key"] && a["effect"] == b["effect"];
    let others = there(live).into_iter().filter(|there| !wished.iter().any(|taint| is_same(there, taint)));
    others.chain(wished.iter().cloned()).collect()
}

fn there(live: &Value) -> Vec<Value> {
    live.pointer("/spec/taints").and_then(Value::as_array).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str, value: &str) -> Value {
        json!({ "key": key, "value": value, "effect": "NoSchedule" })
    }

    #[test]
    fn wished_taints_are_added_beside_those_of_others() {
        let live = json!({ "spec": { "taints": [taint("node.kubernetes.io/not-ready", ""), taint("mine", "old")] } });
        let wished = [taint("mine", "new")];
        assert!(lacks(&live, &wished));
        let all = complete(&live, &wished);
        assert_eq!(all, [taint("node.kubernetes.io/not-ready", ""), taint("mine", "new")]);
        assert!(!lacks(&json!({ "spec": { "taints": all } }), &wished));
        assert!(!lacks(&json!({}), &[]));
    }

    #[test]
    fn what_is_applied_of_a_node_says_nothing_of_taints() {
        let value = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" }, "spec": { "taints": [taint("a", "")] } });
        let (applied, taints) = split(&Object::new(value).unwrap());
        assert_eq!(applied.value().pointer("/spec/taints"), None);
        assert_eq!(taints, [taint("a", "")]);
    }
}
