//! The Kubernetes API of the simulated node, behind a real client.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use kayak_core::object::Object;
use kube::client::Body;
use serde_json::{Value, json};

use crate::objects::{Conflict, Key, Stored};
use crate::sim::Sim;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Makes a client of the API that runs on the simulated node, if one does.
pub(crate) fn client(sim: &Arc<Sim>) -> kube::Client {
    let sim = Arc::clone(sim);
    kube::Client::new(tower::service_fn(move |request| serve(Arc::clone(&sim), request)), "default")
}

/// What a path names.
enum Place {
    Object(Key),
    /// All of a kind, by the key of one without a name.
    Collection(Key),
}

fn place(path: &str) -> Place {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (api_version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ((*version).to_owned(), rest),
        ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
        _ => panic!("the simulated API does not serve `{path}`"),
    };
    let key = |plural: &str, namespace: Option<&str>, name: &str| Key {
        api_version: api_version.clone(),
        plural: plural.into(),
        namespace: namespace.map(str::to_owned),
        name: name.into(),
    };
    match rest {
        ["namespaces", namespace, plural, name] => Place::Object(key(plural, Some(namespace), name)),
        ["namespaces", namespace, plural] => Place::Collection(key(plural, Some(namespace), "")),
        [plural, name] => Place::Object(key(plural, None, name)),
        [plural] => Place::Collection(key(plural, None, "")),
        _ => panic!("the simulated API does not serve `{path}`"),
    }
}

/// The parameters of a request.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(request: &Request<Body>) -> Self {
        let text = request.uri().query().unwrap_or_default();
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        // The only characters that kayak's own parameters hold and that are escaped.
        let plain =
            |text: &str| text.replace("%3D", "=").replace("%2F", "/").replace('+', " ").replace("%2C", ",");
        Self(pairs.map(|(name, value)| (name.to_owned(), plain(value))).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

async fn serve(sim: Arc<Sim>, request: Request<Body>) -> Result<Response<Body>, Failure> {
    connect(&sim)?;
    if request.uri().path() == "/readyz" {
        return Ok(Response::new(Body::from(b"ok".to_vec())));
    }
    let (query, place) = (Query::of(&request), place(request.uri().path()));
    match (request.method().clone(), place) {
        (Method::GET, Place::Object(key)) => {
            let found = sim.etcd(|etcd| etcd.objects.get(&key).map(Stored::value));
            Ok(found.map_or_else(not_found, |value| answer(StatusCode::OK, &value)))
        }
        (Method::GET, Place::Collection(key)) if query.get("watch").is_some() => {
            watch(&sim, &only(&query, key), &query).await
        }
        (Method::GET, Place::Collection(key)) => Ok(list(&sim, &key, &query)),
        (Method::PATCH, Place::Object(key)) => {
            let wished: Value = serde_json::from_slice(&request.into_body().collect_bytes().await?)?;
            apply(&sim, &key, wished, &query).await
        }
        (Method::DELETE, Place::Object(key)) => {
            sim.effect(&format!("delete {key:?}")).await;
            connect(&sim)?;
            let gone = sim.change_etcd(|etcd| etcd.delete(&key));
            let success = json!({ "kind": "Status", "apiVersion": "v1", "status": "Success", "code": 200 });
            Ok(if gone { answer(StatusCode::OK, &success) } else { not_found() })
        }
        (method, _) => panic!("the simulated API does not serve {method} {}", request.uri()),
    }
}

/// A client gets through only while an API server answers.
fn connect(sim: &Sim) -> Result<(), Failure> {
    if sim.world().api_answers() { Ok(()) } else { Err("connection refused".into()) }
}

async fn apply(sim: &Sim, key: &Key, wished: Value, query: &Query) -> Result<Response<Body>, Failure> {
    let id = Object::new(wished.clone())?.id();
    assert_eq!(*key, Key::of(&id), "an object is applied where it belongs");
    let dry_run = query.get("dryRun").is_some();
    if !dry_run {
        sim.effect(&format!("apply {id}")).await;
        connect(sim)?;
    }
    let manager = query.get("fieldManager").unwrap_or_default();
    let force = query.get("force") == Some("true");
    Ok(sim.change_etcd(|etcd| {
        if let Some(namespace) = &id.namespace
            && !etcd.objects.keys().any(|key| key.plural == "namespaces" && key.name == *namespace)
        {
            return not_found();
        }
        let mut next = etcd.objects.get(key).cloned().unwrap_or_else(|| Stored::new(&id));
        match next.apply(manager, &wished, force) {
            Err(conflicts) => answer(StatusCode::CONFLICT, &refusal(&conflicts, &id.api_version)),
            Ok(()) if dry_run => answer(StatusCode::OK, &next.value()),
            Ok(()) => {
                etcd.change(&id, |stored| *stored = next);
                answer(StatusCode::OK, &etcd.objects[key].value())
            }
        }
    }))
}

fn refusal(conflicts: &[Conflict], api_version: &str) -> Value {
    let cause = |conflict: &Conflict| {
        let message = format!("conflict with \"{}\" using {api_version}", conflict.manager);
        json!({ "reason": "FieldManagerConflict", "message": message, "field": conflict.field })
    };
    let causes: Vec<_> = conflicts.iter().map(cause).collect();
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409, "reason": "Conflict",
        "message": format!("Apply failed with {} conflicts", causes.len()), "details": { "causes": causes },
    })
}

fn list(sim: &Sim, key: &Key, query: &Query) -> Response<Body> {
    let label = query.get("labelSelector").and_then(|selector| selector.split_once('='));
    let field = query.get("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
    sim.etcd(|etcd| {
        let of_kind = etcd.objects.iter().filter(|(k, _)| {
            k.api_version == key.api_version
                && k.plural == key.plural
                && key.namespace.as_ref().is_none_or(|namespace| k.namespace.as_ref() == Some(namespace))
                && field.is_none_or(|name| k.name == name)
        });
        let items: Vec<_> = of_kind
            .map(|(_, stored)| stored.value())
            .filter(|item| label.is_none_or(|(name, value)| item["metadata"]["labels"][name] == value))
            .collect();
        let version = json!({ "resourceVersion": etcd.version.to_string() });
        answer(
            StatusCode::OK,
            &json!({ "kind": "List", "apiVersion": "v1", "metadata": version, "items": items }),
        )
    })
}

/// The key of the only object that a watch is for.
fn only(query: &Query, mut key: Key) -> Key {
    let selector = query.get("fieldSelector").and_then(|s| s.strip_prefix("metadata.name="));
    selector.expect("watches are for one object").clone_into(&mut key.name);
    key
}

/// Waits for the next change, tells it, and ends: clients go on from there.
async fn watch(sim: &Sim, key: &Key, query: &Query) -> Result<Response<Body>, Failure> {
    let since = query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
    let mut changes = sim.changes();
    loop {
        changes.borrow_and_update();
        connect(sim)?;
        if let Some(event) = sim.etcd(|etcd| etcd.event_since(key, since)) {
            return Ok(Response::new(Body::from(format!("{event}\n").into_bytes())));
        }
        changes.changed().await?;
    }
}

fn not_found() -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound",
        "message": "it is not there",
    });
    answer(StatusCode::NOT_FOUND, &status)
}

fn answer(code: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string().into_bytes()));
    *response.status_mut() = code;
    response
}
