//! The Kubernetes API: applying objects server-side as one field manager, and seeing what applying
//! would change.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kayak_core::object::{Object, ObjectId};
use kayak_core::plan::ObjectSeen;
use kube::api::{Api, DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

/// The name under which kayak owns fields.
pub const FIELD_MANAGER: &str = "kayak";
/// How many objects are under way at once.
const PARALLEL: usize = 12;
/// How long an object is tried while the API cannot take it yet.
const PATIENCE: Duration = Duration::from_mins(1);

/// What can go wrong with the API.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The kubeconfig cannot be used.
    #[error("the administrator's kubeconfig cannot be used")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// No client could be made from it.
    #[error("failed to make a client of the API")]
    Client(#[source] Box<kube::Error>),
    /// An object was not taken.
    #[error("failed to apply {id}")]
    Apply {
        /// Which one.
        id: ObjectId,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object could not be looked at.
    #[error("failed to look at {id}")]
    Look {
        /// Which one.
        id: ObjectId,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Makes a client from the text of a kubeconfig.
pub async fn client(kubeconfig: &str) -> Result<kube::Client, ApiError> {
    let parsed = Kubeconfig::from_yaml(kubeconfig).map_err(ApiError::Kubeconfig)?;
    let mut config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .map_err(ApiError::Kubeconfig)?;
    // A proxy of the user's environment has no business between a machine and its own nodes.
    config.proxy_url = None;
    config.connect_timeout = Some(Duration::from_secs(5));
    kube::Client::try_from(config).map_err(|e| ApiError::Client(Box::new(e)))
}

/// Returns the handle of one object.
pub fn handle(client: &kube::Client, id: &ObjectId) -> Api<DynamicObject> {
    let (group, version) = id.api_version.split_once('/').unwrap_or(("", &id.api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &id.kind));
    match &id.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Applies objects, namespaces before what lies in them, the rest in parallel. Returns those that
/// were left alone because somebody else owns a field that kayak would set otherwise.
pub async fn apply(client: &kube::Client, objects: &[&Object]) -> Result<Vec<ObjectId>, ApiError> {
    let (first, rest): (Vec<&Object>, Vec<&Object>) =
        objects.iter().partition(|o| o.id().kind == "Namespace");
    let mut left_alone = Vec::new();
    for wave in [first, rest] {
        let outcomes: Vec<Option<ObjectId>> = stream::iter(wave)
            .map(|object| apply_one(client, object))
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        left_alone.extend(outcomes.into_iter().flatten());
    }
    Ok(left_alone)
}

async fn apply_one(client: &kube::Client, object: &Object) -> Result<Option<ObjectId>, ApiError> {
    let id = object.id();
    let api = handle(client, &id);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match api.patch(&id.name, &params(false), &Patch::Apply(object.value())).await {
            Ok(_) => return Ok(None),
            Err(error) if is_conflict(&error) => return Ok(Some(id)),
            // A young API server refuses for a moment: its rights and namespaces are being made.
            Err(error) if may_pass(&error) && tokio::time::Instant::now() < deadline => {
                tracing::debug!(%id, %error, "will be tried again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(source) => return Err(ApiError::Apply { id, source: Box::new(source) }),
        }
    }
}

/// Says of each object whether applying it would change anything.
pub async fn observe(
    client: &kube::Client,
    objects: &[Object],
) -> Result<BTreeMap<ObjectId, ObjectSeen>, ApiError> {
    stream::iter(objects)
        .map(|object| observe_one(client, object))
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await
}

async fn observe_one(client: &kube::Client, object: &Object) -> Result<(ObjectId, ObjectSeen), ApiError> {
    let id = object.id();
    let api = handle(client, &id);
    let fail = |source| ApiError::Look { id: id.clone(), source: Box::new(source) };
    let Some(live) = api.get_opt(&id.name).await.map_err(fail)? else {
        return Ok((id, ObjectSeen::Missing));
    };
    match api.patch(&id.name, &params(true), &Patch::Apply(object.value())).await {
        Ok(applied) => {
            let same = significant(&live) == significant(&applied);
            Ok((id, if same { ObjectSeen::Same } else { ObjectSeen::Differs }))
        }
        Err(error) if is_conflict(&error) => Ok((id, ObjectSeen::EditedByOwner)),
        Err(source) => Err(fail(source)),
    }
}

/// The object without what every write changes.
fn significant(object: &DynamicObject) -> (Value, Value) {
    let mut metadata = serde_json::to_value(&object.metadata).unwrap_or_default();
    if let Some(fields) = metadata.as_object_mut() {
        for field in ["managedFields", "resourceVersion", "generation"] {
            fields.remove(field);
        }
    }
    let mut data = object.data.clone();
    if let Some(fields) = data.as_object_mut() {
        fields.remove("status");
    }
    (metadata, data)
}

fn params(dry_run: bool) -> PatchParams {
    PatchParams {
        dry_run,
        field_manager: Some(FIELD_MANAGER.into()),
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict")
}

fn may_pass(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 403 | 404 | 409 | 429 | 500..=599),
        kube::Error::Service(_) | kube::Error::HyperError(_) => true,
        _ => false,
    }
}
