//! What applying would change, and what somebody else has changed.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kayak_core::fields::{self, Change};
use kayak_core::object::{APPLIED, FIELDS, MANAGED_BY, Object, ObjectId};
use kayak_core::plan::{ApiSeen, Edit, ObjectSeen};
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::Value;

use super::settle::{Settled, settle};
use super::{ApiError, PARALLEL, handle, resource, significant, taints};

/// Looks at every wished object, and for those that kayak made once and that are no longer wished.
pub async fn look(client: &kube::Client, objects: &[Object]) -> Result<ApiSeen, ApiError> {
    let wished = stream::iter(objects).map(|object| look_at(client, object)).buffer_unordered(PARALLEL);
    let (wished, surplus) =
        tokio::try_join!(wished.try_collect::<BTreeMap<_, _>>(), surplus(client, objects))?;
    Ok(ApiSeen { objects: wished, surplus })
}

async fn look_at(client: &kube::Client, wished: &Object) -> Result<(ObjectId, ObjectSeen), ApiError> {
    let id = wished.id();
    let api = handle(client, &id);
    let fail = |source| ApiError::Look { id: id.clone(), source: Box::new(source) };
    let Some(live) = api.get_opt(&id.name).await.map_err(fail)? else {
        return Ok((id, ObjectSeen::Missing));
    };
    let live = significant(live);
    let (mut object, taints) = taints::split(wished);
    let Settled { result, mut edits } = settle(&api, &mut object, &live).await.map_err(fail)?;
    let mut changes = fields::changes(&live, &result, wished.is_secret());
    changes.extend(taints::change(&live, &taints));
    edits.extend(taints::edit(&live, &taints));
    Ok((id, judge(wished, &live, changes, edits)))
}

/// While kayak would write the same as the last time, whatever else differs was taken away by somebody:
/// a field that is not there has no owner who could be in conflict.
fn judge(wished: &Object, live: &Value, mut changes: Vec<Change>, mut edits: Vec<Edit>) -> ObjectSeen {
    // They follow from the rest, and are applied with it; one that was applied by hand goes without.
    let fields = format!(".metadata.annotations.{FIELDS}");
    changes.retain(|change| change.field != fields);
    if Object::stamp(live) == Object::stamp(wished.value()) {
        edits.extend(changes.into_iter().map(|change| Edit { change, by: None }));
        return ObjectSeen::Present { changes: Vec::new(), edits };
    }
    let stamp = format!(".metadata.annotations.{APPLIED}");
    let (stamps, mut changes): (Vec<_>, Vec<_>) = changes.into_iter().partition(|c| c.field == stamp);
    if changes.is_empty() {
        changes = stamps;
    }
    ObjectSeen::Present { changes, edits }
}

/// Lists what carries kayak's label and is not wished, among the kinds that kayak makes.
async fn surplus(client: &kube::Client, objects: &[Object]) -> Result<Vec<ObjectId>, ApiError> {
    let wished: BTreeSet<_> = objects.iter().map(Object::id).collect();
    let managed = |object: &&Object| {
        object.value().pointer("/metadata/labels").is_some_and(|l| !l[MANAGED_BY].is_null())
    };
    let kinds: BTreeSet<_> =
        objects.iter().filter(managed).map(Object::id).map(|id| (id.api_version, id.kind)).collect();
    let found: Vec<Vec<ObjectId>> = stream::iter(kinds)
        .map(|(api_version, kind)| list(client, api_version, kind))
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    let mut surplus: Vec<_> = found.into_iter().flatten().filter(|id| !wished.contains(id)).collect();
    surplus.sort();
    Ok(surplus)
}

async fn list(client: &kube::Client, api_version: String, kind: String) -> Result<Vec<ObjectId>, ApiError> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(&api_version, &kind));
    let labelled = ListParams::default().labels(&format!("{MANAGED_BY}=kayak"));
    let listed = api
        .list_metadata(&labelled)
        .await
        .map_err(|source| ApiError::List { kind: kind.clone(), source: Box::new(source) })?;
    let id = |metadata: kube::core::ObjectMeta| ObjectId {
        api_version: api_version.clone(),
        kind: kind.clone(),
        namespace: metadata.namespace,
        name: metadata.name.unwrap_or_default(),
    };
    // What another object owns, such as a Deployment's ReplicaSet, goes with that.
    let own = listed.items.into_iter().filter(|item| item.metadata.owner_references.is_none());
    Ok(own.map(|item| id(item.metadata)).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(data: &str) -> Object {
        let value = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "x" }, "data": { "a": data } });
        Object::new(value).unwrap().stamped()
    }

    #[test]
    fn what_differs_is_kayaks_only_if_it_would_write_something_new() {
        let change = Change { field: ".data.a".into(), from: None, to: Some("1".into()) };
        let seen = judge(&object("1"), object("1").value(), vec![change.clone()], Vec::new());
        let edit = Edit { change: change.clone(), by: None };
        assert_eq!(seen, ObjectSeen::Present { changes: vec![], edits: vec![edit] });
        let seen = judge(&object("1"), object("0").value(), vec![change.clone()], Vec::new());
        assert_eq!(seen, ObjectSeen::Present { changes: vec![change], edits: vec![] });
    }

    #[test]
    fn a_new_stamp_is_told_only_where_nothing_else_is() {
        let stamp = Change { field: ".metadata.annotations.kayak/applied".into(), from: None, to: None };
        let other = Change { field: ".data.a".into(), from: None, to: None };
        let both = judge(&object("1"), object("0").value(), vec![stamp.clone(), other.clone()], vec![]);
        assert_eq!(both, ObjectSeen::Present { changes: vec![other], edits: vec![] });
        let alone = judge(&object("1"), object("0").value(), vec![stamp.clone()], vec![]);
        assert_eq!(alone, ObjectSeen::Present { changes: vec![stamp], edits: vec![] });
    }
}
