//! Taints of nodes. To the API all taints of a node are one field, and the node controller adds and
//! takes away its own there all the time: whoever applied the field would own all of them or be in
//! conflict over it. So each wished taint is added beside those of others.

use kayak_core::applied::Applied;
use kayak_core::fields::Change;
use kayak_core::object::Object;
use kayak_core::plan::Edit;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{FIELD_MANAGER, Manner, conflict, params, significant};

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

/// Says what setting the wished taints would change.
pub(super) fn change(live: &Value, wished: &[Value]) -> Option<Change> {
    differ(&there(live), &target(live, wished, Manner::GiveWay))
}

/// Says which of the wished taints somebody has taken away or set otherwise.
pub(super) fn edit(live: &Value, wished: &[Value]) -> Option<Edit> {
    let left = target(live, wished, Manner::GiveWay);
    let change = differ(&left, &target(live, wished, Manner::Insist))?;
    Some(Edit { change, by: None })
}

fn differ(from: &[Value], to: &[Value]) -> Option<Change> {
    let text = |taints: &[Value]| Some(Value::from(taints).to_string());
    (from != to).then(|| Change { field: FIELD.into(), from: text(from), to: text(to) })
}

/// Makes sure that a node has the wished taints; makes the node if there is none yet. Whoever changes it
/// all the time keeps kayak from it until the deadline and no longer.
pub(super) async fn ensure(
    api: &Api<DynamicObject>,
    node: &Object,
    wished: &[Value],
    manner: Manner,
    deadline: Instant,
) -> Result<(), Box<kube::Error>> {
    let name = node.id().name;
    let applied = params(Manner::GiveWay, false);
    let merged = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    loop {
        let live = match api.get_opt(&name).await? {
            Some(live) => live,
            None if wished.is_empty() => return Ok(()),
            None => api.patch(&name, &applied, &Patch::Apply(node.clone().unstamped().value())).await?,
        };
        let version = live.metadata.resource_version.clone();
        let live = significant(live);
        let taints = target(&live, wished, manner);
        if taints == there(&live) {
            return Ok(());
        }
        let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "taints": taints } });
        match api.patch(&name, &merged, &Patch::Merge(patch)).await {
            // Else it has changed since, and is looked at again.
            Err(error) if conflict::of(&error).is_none() || Instant::now() >= deadline => {
                return Err(error.into());
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// The wished taints, and what others have added. One that kayak set before and that is wished no more
/// goes; one that somebody has taken away or set otherwise since stays as they left it.
fn target(live: &Value, wished: &[Value], manner: Manner) -> Vec<Value> {
    let (applied, there) = (Applied::read(live), there(live));
    let is_edited =
        |taint: &Value| manner == Manner::GiveWay && applied.has(FIELD, taint) && !there.contains(taint);
    let due: Vec<_> = wished.iter().filter(|taint| !is_edited(taint)).collect();
    let is_replaced = |taint: &Value| {
        due.iter().any(|due| *due != taint && due["key"] == taint["key"] && due["effect"] == taint["effect"])
    };
    let is_stale = |taint: &Value| applied.has(FIELD, taint) && !wished.contains(taint);
    let stay = there.iter().filter(|taint| !is_stale(taint) && !is_replaced(taint));
    stay.chain(due.iter().copied().filter(|due| !there.contains(due))).cloned().collect()
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

    /// A node with these taints, to which kayak has applied those.
    fn node(there: &[Value], applied: &[Value]) -> Value {
        let node = |taints: &[Value]| json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" }, "spec": { "taints": taints } });
        let stamped = Object::new(node(applied)).unwrap().stamped_throughout();
        let mut live = node(there);
        live["metadata"] = stamped.value()["metadata"].clone();
        live
    }

    #[test]
    fn wished_taints_are_added_beside_those_of_others() {
        let others = taint("node.kubernetes.io/not-ready", "");
        let live = node(&[others.clone(), taint("mine", "old")], &[]);
        let wished = [taint("mine", "new")];
        let all = [others.clone(), taint("mine", "new")];
        assert_eq!(target(&live, &wished, Manner::GiveWay), all);
        assert_eq!(change(&node(&all, &wished), &wished), None);
        assert_eq!(edit(&node(&all, &wished), &wished), None);
        assert_eq!(target(&json!({}), &[], Manner::GiveWay), Vec::<Value>::new());
    }

    #[test]
    fn a_taint_that_is_wished_no_more_goes_and_those_of_others_stay() {
        let (old, others) = (taint("old", ""), taint("others", ""));
        let live = node(&[old.clone(), others.clone()], &[old]);
        assert_eq!(target(&live, &[], Manner::GiveWay), [others]);
        assert!(change(&live, &[]).is_some());
    }

    #[test]
    fn a_taint_that_somebody_took_away_or_changed_is_left_so_until_it_is_named() {
        let wished = [taint("gone", ""), taint("changed", "kayaks"), taint("new", "")];
        let there = [taint("changed", "owners")];
        let live = node(&there, &wished[..2]);
        assert_eq!(target(&live, &wished, Manner::GiveWay), [taint("changed", "owners"), taint("new", "")]);
        assert_eq!(target(&live, &wished, Manner::Insist), wished);
        assert!(edit(&live, &wished).is_some());
        assert_eq!(change(&node(&there, &wished[1..2]), &wished[1..2]), None);
    }

    #[test]
    fn what_is_applied_of_a_node_says_nothing_of_taints() {
        let value = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" }, "spec": { "taints": [taint("a", "")] } });
        let (applied, taints) = split(&Object::new(value).unwrap());
        assert_eq!(applied.value().pointer("/spec/taints"), None);
        assert_eq!(taints, [taint("a", "")]);
    }
}
