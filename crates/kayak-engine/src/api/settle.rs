//! What is applied of an object where others have a say in it: without the fields in conflict, and without
//! those that somebody took away since kayak applied them.

use kayak_core::applied::gone;
use kayak_core::fields::{self, Change};
use kayak_core::object::Object;
use kayak_core::plan::Edit;
use kube::api::{Api, DynamicObject, Patch};
use serde_json::Value;

use super::{Manner, conflict, params, significant};

/// What applying would make of an object, and what was taken out of it before.
pub(super) struct Settled {
    pub(super) result: Value,
    pub(super) edits: Vec<Edit>,
}

/// Takes out of an object what others have a say in, by asking the API server what applying would do.
/// `live` is the object in the cluster.
pub(super) async fn settle(
    api: &Api<DynamicObject>,
    object: &mut Object,
    live: &Value,
) -> Result<Settled, kube::Error> {
    let (name, params) = (object.id().name, params(Manner::GiveWay, true));
    let mut edits = Vec::new();
    // Once more without what was found; what is found then is new.
    loop {
        let found = match api.patch(&name, &params, &Patch::Apply(object.value())).await {
            Ok(applied) => {
                let result = significant(applied);
                let found = leave_out(object, live, &result);
                if found.is_empty() {
                    return Ok(Settled { result, edits });
                }
                found
            }
            Err(error) => {
                let found = conflict::of(&error).map(|conflict| conflict::give_way(object, conflict, live));
                match found {
                    Some(found) if !found.is_empty() => found,
                    Some(_) | None => return Err(error),
                }
            }
        };
        edits.extend(found);
    }
}

/// Takes out the fields that were taken away and would come back. What does not come back was not taken
/// away: the API server keeps no empty fields.
fn leave_out(object: &mut Object, live: &Value, result: &Value) -> Vec<Edit> {
    let secret = object.is_secret();
    let back = gone(object.value(), live).into_iter().filter(|field| fields::at(result, field).is_some());
    let taken = back.filter_map(|field| {
        let wished = fields::at(object.value(), &field)?.to_string();
        let to = Some(if secret { "(secret)".to_owned() } else { wished });
        let is_taken = object.remove(&field);
        is_taken.then_some(Edit { change: Change { field, from: None, to }, by: None })
    });
    taken.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_taken_away_stays_away_and_what_is_dropped_anyway_is_nobodys_edit() {
        let value = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "x" },
            "spec": { "hostPID": false, "priority": 1, "nodeName": "n" },
        });
        let mut object = Object::new(value).unwrap().stamped_throughout();
        let mut live = object.value().clone();
        let mut result = live.clone();
        for field in ["hostPID", "priority"] {
            live["spec"].as_object_mut().unwrap().remove(field);
        }
        result["spec"].as_object_mut().unwrap().remove("hostPID");
        let edits = leave_out(&mut object, &live, &result);
        let change = Change { field: ".spec.priority".into(), from: None, to: Some("1".into()) };
        assert_eq!(edits, [Edit { change, by: None }]);
        assert_eq!(object.value()["spec"], json!({ "hostPID": false, "nodeName": "n" }));
    }
}
