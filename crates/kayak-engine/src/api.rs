//! The Kubernetes API: applying objects server-side as one field manager, and seeing what applying
//! would change.

mod conflict;
mod look;
mod settle;
mod taints;
mod way;

pub use look::look;
pub use way::detour;

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kayak_core::applied::gone;
use kayak_core::object::{Object, ObjectId};
use kayak_core::pki::API_SERVER_NAME;
use kayak_core::plan::Edit;
use kube::api::{
    Api, DeleteParams, DynamicObject, Patch, PatchParams, PropagationPolicy, ValidationDirective,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

use self::settle::settle;

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
    /// A node was not tainted.
    #[error("failed to taint {id}")]
    Taints {
        /// Which one.
        id: ObjectId,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object was not deleted.
    #[error("failed to delete {id}")]
    Delete {
        /// Which one.
        id: ObjectId,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// Objects could not be listed.
    #[error("failed to list what kayak made of the kind {kind}")]
    List {
        /// Which kind.
        kind: String,
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

impl ApiError {
    /// Whether the API has understood and will not, as with a field that cannot be changed.
    pub fn is_refusal(&self) -> bool {
        let (Self::Apply { source, .. } | Self::Look { source, .. }) = self else { return false };
        matches!(source.as_ref(), kube::Error::Api(status) if matches!(status.code, 400 | 422))
    }

    /// Whether an object was not taken since there is no such namespace.
    pub fn lacks_namespace(&self) -> bool {
        let Self::Apply { source, .. } = self else { return false };
        let kube::Error::Api(status) = source.as_ref() else { return false };
        status.code == 404 && status.details.as_ref().is_some_and(|about| about.kind == "namespaces")
    }
}

/// Makes a client from the text of a kubeconfig.
pub async fn client(kubeconfig: &str) -> Result<kube::Client, ApiError> {
    let parsed = Kubeconfig::from_yaml(kubeconfig).map_err(ApiError::Kubeconfig)?;
    let options = KubeConfigOptions { context: way::context(&parsed).await, ..KubeConfigOptions::default() };
    connect(parsed, &options, Refused::TriedAgain).await
}

/// As [`client`], but each refusal comes back at once: by itself a client tries 15 times where the API says "not
/// now", every 10 s where a budget for disruption does.
pub async fn client_that_hears_refusals(kubeconfig: &str) -> Result<kube::Client, ApiError> {
    let parsed = Kubeconfig::from_yaml(kubeconfig).map_err(ApiError::Kubeconfig)?;
    let options = KubeConfigOptions { context: way::context(&parsed).await, ..KubeConfigOptions::default() };
    connect(parsed, &options, Refused::Told).await
}

/// What becomes of a request that the API refuses for the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    TriedAgain,
    Told,
}

async fn connect(
    kubeconfig: Kubeconfig,
    options: &KubeConfigOptions,
    refused: Refused,
) -> Result<kube::Client, ApiError> {
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, options).await.map_err(ApiError::Kubeconfig)?;
    // A proxy of the user's environment has no business between a machine and its own nodes.
    config.proxy_url = None;
    config.connect_timeout = Some(Duration::from_secs(5));
    // Every API server can prove this name. Where the node's address changes, the one that still runs has a
    // certificate for the address before, until it is rolled.
    config.tls_server_name = Some(API_SERVER_NAME.into());
    config.default_retry = refused == Refused::TriedAgain;
    kube::Client::try_from(config).map_err(|e| ApiError::Client(Box::new(e)))
}

/// Returns the handle of one object.
pub fn handle(client: &kube::Client, id: &ObjectId) -> Api<DynamicObject> {
    let resource = resource(&id.api_version, &id.kind);
    match &id.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// Whose word counts where somebody else has set a field otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Theirs: the field is left alone.
    GiveWay,
    /// Kayak's.
    Insist,
}

/// Fields that were left alone, by object.
pub type LeftAlone = Vec<(ObjectId, Vec<Edit>)>;

/// Applies objects, namespaces before what lies in them, the rest in parallel. Returns what was left
/// alone because somebody else has set it otherwise.
pub async fn apply(
    client: &kube::Client,
    objects: &[&Object],
    manner: Manner,
) -> Result<LeftAlone, ApiError> {
    let (first, rest): (Vec<&Object>, Vec<&Object>) =
        objects.iter().partition(|o| o.id().kind == "Namespace");
    let mut left_alone = Vec::new();
    for wave in [first, rest] {
        let outcomes: LeftAlone = stream::iter(wave)
            .map(|object| apply_one(client, object, manner))
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        left_alone.extend(outcomes.into_iter().filter(|(_, edits)| !edits.is_empty()));
    }
    Ok(left_alone)
}

async fn apply_one(
    client: &kube::Client,
    wished: &Object,
    manner: Manner,
) -> Result<(ObjectId, Vec<Edit>), ApiError> {
    let id = wished.id();
    let api = handle(client, &id);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let (mut object, taints) = taints::split(wished);
    if id.kind == "Node" {
        // Before the stamp is: a cut-off in between must not look like somebody's edit.
        taints::ensure(&api, &object, &taints, manner, deadline)
            .await
            .map_err(|source| ApiError::Taints { id: id.clone(), source })?;
    }
    let mut edits = Vec::new();
    loop {
        let Err(error) = attempt(&api, &mut object, manner, &mut edits).await else { return Ok((id, edits)) };
        if let Some(conflict) = conflict::of(&error) {
            let live = api.get_opt(&id.name).await.ok().flatten();
            let live = live.and_then(|live| serde_json::to_value(live).ok()).unwrap_or(Value::Null);
            let found = conflict::give_way(&mut object, conflict, &live);
            if !found.is_empty() {
                edits.extend(found);
                continue;
            }
        }
        // A young API server refuses for a moment: its rights and namespaces are being made.
        if !may_pass(&error) || tokio::time::Instant::now() >= deadline {
            return Err(ApiError::Apply { id, source: Box::new(error) });
        }
        tracing::debug!(%id, %error, "will be tried again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Applies an object, without what somebody took away from it.
async fn attempt(
    api: &Api<DynamicObject>,
    object: &mut Object,
    manner: Manner,
    edits: &mut Vec<Edit>,
) -> Result<(), kube::Error> {
    let name = object.id().name;
    if manner == Manner::GiveWay
        && let Some(live) = api.get_opt(&name).await?.map(significant)
        && !gone(object.value(), &live).is_empty()
    {
        edits.extend(settle(api, object, &live).await?.edits);
    }
    api.patch(&name, &params(manner, false), &Patch::Apply(object.value())).await.map(drop)
}

/// Applies one object, once: what the API does not take is the caller's affair. Somebody else's
/// fields are taken over.
pub async fn give(client: &kube::Client, object: &Object) -> Result<(), ApiError> {
    let id = object.id();
    match handle(client, &id)
        .patch(&id.name, &params(Manner::Insist, false), &Patch::Apply(object.value()))
        .await
    {
        Ok(_) => Ok(()),
        Err(source) => Err(ApiError::Apply { id, source: Box::new(source) }),
    }
}

/// Deletes objects with what they own; those that are gone already are done. Pods are deleted at once: kayak
/// deletes only what the API still shows of pods that have ended.
pub async fn delete(client: &kube::Client, ids: &[ObjectId]) -> Result<(), ApiError> {
    for id in ids {
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            grace_period_seconds: (id.kind == "Pod").then_some(0),
            ..DeleteParams::default()
        };
        match handle(client, id).delete(&id.name, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(source) => return Err(ApiError::Delete { id: id.clone(), source: Box::new(source) }),
        }
    }
    Ok(())
}

/// The object without what every write changes.
fn significant(object: DynamicObject) -> Value {
    let mut value = object.data;
    value["metadata"] = serde_json::to_value(&object.metadata).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = value["metadata"].as_object_mut() {
        for field in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(field);
        }
    }
    value
}

fn params(manner: Manner, dry_run: bool) -> PatchParams {
    PatchParams {
        dry_run,
        force: manner == Manner::Insist,
        field_manager: Some(FIELD_MANAGER.into()),
        field_validation: Some(ValidationDirective::Strict),
    }
}

fn may_pass(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 403 | 404 | 409 | 429 | 500..=599),
        kube::Error::Service(_) | kube::Error::HyperError(_) => true,
        _ => false,
    }
}
