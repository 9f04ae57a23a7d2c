//! Fields that somebody else has set otherwise: told by the API server when kayak would set them again.

use kayak_core::fields::{self, Change};
use kayak_core::object::Object;
use kayak_core::plan::Edit;
use kube::core::Status;
use serde_json::Value;

/// Returns the conflict in an error, if it is one.
pub(super) fn of(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict" => Some(status),
        _ => None,
    }
}

/// Takes the fields in conflict out of an object, and says what they are; `live` is the object in the
/// cluster. What is left can be applied beside them: kayak gave these fields up when they were edited,
/// so that leaving them out removes nothing.
pub(super) fn give_way(object: &mut Object, conflict: &Status, live: &Value) -> Vec<Edit> {
    let secret = object.is_secret();
    let text = |value: Option<&Value>| value.map(|v| if secret { "(secret)".into() } else { v.to_string() });
    let causes = conflict.details.iter().flat_map(|details| &details.causes);
    let mut edits = Vec::new();
    for cause in causes {
        let change = Change {
            field: cause.field.clone(),
            from: text(fields::at(live, &cause.field)),
            to: text(fields::at(object.value(), &cause.field)),
        };
        if object.remove(&cause.field) {
            edits.push(Edit { change, by: manager(&cause.message) });
        }
    }
    edits
}

/// Reads the field manager's name from `conflict with "kubectl-edit" using apps/v1`.
fn manager(message: &str) -> Option<String> {
    let mut quoted = message.split('"');
    quoted.next()?;
    quoted.next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_in_conflict_are_taken_out_and_told() {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "x" },
            "spec": { "replicas": 1, "paused": false },
        });
        let mut live = object.clone();
        live["spec"]["replicas"] = json!(3);
        let status: Status = serde_json::from_value(json!({
            "status": "Failure", "code": 409, "reason": "Conflict", "message": "",
            "details": { "causes": [
                { "reason": "FieldManagerConflict", "message": "conflict with \"kubectl\" using apps/v1", "field": ".spec.replicas" },
                { "reason": "FieldManagerConflict", "message": "", "field": ".spec.unknown" },
            ] },
        }))
        .unwrap();
        let mut object = Object::new(object).unwrap();
        let edits = give_way(&mut object, &status, &live);
        let change = Change { field: ".spec.replicas".into(), from: Some("3".into()), to: Some("1".into()) };
        assert_eq!(edits, [Edit { change, by: Some("kubectl".into()) }]);
        assert_eq!(object.value()["spec"], json!({ "paused": false }));
    }
}
