//! Makes a static pod of a pod that runs: every reference to an object of the API becomes a file or a text.
//!
//! What a kubelet refuses in a static pod is listed in Kubernetes' `pkg/api/pod/util.go` (`HasAPIObjectReference`).

mod environment;
mod volumes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::{CHECKPOINT, uid};

/// Seconds after which the kubelet asks whether the instance lives: it is not asked while it starts.
const FIRST_QUESTION: u64 = 60;
/// Seconds between SIGTERM and SIGKILL: a checkpoint ends when its successor is ready.
const GRACE: u64 = 5;

/// A kind of object whose data a pod may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

/// The data of objects, as bytes. It may be secret, and so has no `Debug`.
pub type Data = BTreeMap<String, Vec<u8>>;

/// What objects hold that a pod refers to.
#[derive(Clone, Default)]
pub struct Sources(BTreeMap<(Kind, String), Data>);

impl Sources {
    /// Takes in an object as the API gives it.
    pub fn add(&mut self, kind: Kind, name: &str, object: &Value) -> Result<(), Refusal> {
        let fields = |field: &str| object[field].as_object().into_iter().flatten();
        let broken = |key: &str| Refusal::Broken { kind: kind.name(), name: name.into(), key: key.into() };
        let mut data = Data::new();
        let encoded = match kind {
            Kind::Secret => "data",
            Kind::ConfigMap => "binaryData",
        };
        for (key, value) in fields(encoded) {
            let bytes = value.as_str().and_then(|text| BASE64.decode(text).ok());
            data.insert(key.clone(), bytes.ok_or_else(|| broken(key))?);
        }
        if kind == Kind::ConfigMap {
            for (key, value) in fields("data") {
                let text = value.as_str().ok_or_else(|| broken(key))?;
                data.insert(key.clone(), text.as_bytes().to_vec());
            }
        }
        self.0.insert((kind, name.to_owned()), data);
        Ok(())
    }

    /// Finds an object's data; nothing for one that is not there and need not be.
    fn object(&self, kind: Kind, reference: &Value) -> Result<Option<&Data>, Refusal> {
        let name = text(reference, "name").or_else(|| text(reference, "secretName")).unwrap_or_default();
        match self.0.get(&(kind, name.to_owned())) {
            Some(data) => Ok(Some(data)),
            None if reference["optional"] == true => Ok(None),
            None => Err(Refusal::Lacks { kind: kind.name(), name: name.into() }),
        }
    }

    /// Finds the value of one key.
    fn value(&self, kind: Kind, reference: &Value) -> Result<Option<&Vec<u8>>, Refusal> {
        let Some(data) = self.object(kind, reference)? else { return Ok(None) };
        let key = text(reference, "key").unwrap_or_default();
        match data.get(key) {
            Some(value) => Ok(Some(value)),
            None if reference["optional"] == true => Ok(None),
            None => Err(Refusal::LacksKey {
                kind: kind.name(),
                name: text(reference, "name").unwrap_or_default().into(),
                key: key.into(),
            }),
        }
    }
}

/// Why a pod can have no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It uses something that dies with its object, or cannot be had without an API.
    #[error("the volume `{volume}` is a {kind}, which there is none of without an API")]
    Volume {
        /// Which one.
        volume: String,
        /// Its kind, as it is called in a pod.
        kind: String,
    },
    /// It asks for something that only the API can give.
    #[error("`{0}` cannot be had without an API")]
    Field(&'static str),
    /// An object that it refers to is not there.
    #[error("the {kind} `{name}`, to which it refers, is not there")]
    Lacks {
        /// The object's kind.
        kind: &'static str,
        /// The object's name.
        name: String,
    },
    /// An object that it refers to has not what it refers to.
    #[error("the {kind} `{name}` has no `{key}`, to which it refers")]
    LacksKey {
        /// The object's kind.
        kind: &'static str,
        /// The object's name.
        name: String,
        /// The key.
        key: String,
    },
    /// What an object holds cannot be understood, or not be put where it belongs.
    #[error("`{key}` of the {kind} `{name}` cannot be used")]
    Broken {
        /// The object's kind.
        kind: &'static str,
        /// The object's name.
        name: String,
        /// The key.
        key: String,
    },
    /// A file would lie outside its volume.
    #[error("`{path}` in the volume `{volume}` leads out of it")]
    Path {
        /// The volume.
        volume: String,
        /// The path.
        path: String,
    },
    /// It is no pod.
    #[error("it has no `{0}`")]
    NoPod(&'static str),
}

/// One file of a volume. It may be secret, and so has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// What it holds.
    pub content: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
}

/// A static pod, and the files it mounts by their paths in its directory.
#[derive(Clone, PartialEq)]
pub struct Resolved {
    /// The pod; environment variables in it may be secret.
    pub pod: Value,
    /// The files.
    pub files: BTreeMap<String, File>,
}

/// Returns the objects whose data a pod uses.
pub fn references(pod: &Value) -> BTreeSet<(Kind, String)> {
    let mut found = BTreeSet::new();
    let mut add = |kind, reference: &Value, field: &str| {
        found.extend(text(reference, field).map(|name| (kind, name.to_owned())));
    };
    for container in containers(pod) {
        for source in list(container, "envFrom") {
            add(Kind::Secret, &source["secretRef"], "name");
            add(Kind::ConfigMap, &source["configMapRef"], "name");
        }
        for variable in list(container, "env") {
            add(Kind::Secret, &variable["valueFrom"]["secretKeyRef"], "name");
            add(Kind::ConfigMap, &variable["valueFrom"]["configMapKeyRef"], "name");
        }
    }
    for volume in list(&pod["spec"], "volumes") {
        add(Kind::Secret, &volume["secret"], "secretName");
        add(Kind::ConfigMap, &volume["configMap"], "name");
        for source in list(&volume["projected"], "sources") {
            add(Kind::Secret, &source["secret"], "name");
            add(Kind::ConfigMap, &source["configMap"], "name");
        }
    }
    found
}

/// Makes a checkpoint of a pod of `component` on `node`: a static pod whose volumes are below `directory`.
pub fn resolve(
    pod: &Value,
    component: &str,
    node: &str,
    directory: &str,
    sources: &Sources,
) -> Result<Resolved, Refusal> {
    let spec = pod["spec"].as_object().ok_or(Refusal::NoPod("spec"))?;
    let namespace = pod["metadata"]["namespace"].as_str().ok_or(Refusal::NoPod("metadata.namespace"))?;
    for field in ["resourceClaims", "runtimeClassName"] {
        if spec.get(field).is_some_and(|value| !value.is_null() && *value != json!([])) {
            return Err(Refusal::Field(field));
        }
    }
    let name = format!("{CHECKPOINT}{component}");
    let (volumes, files) =
        volumes::resolve(&list(&pod["spec"], "volumes").collect::<Vec<_>>(), directory, sources)?;
    let mut spec: serde_json::Map<_, _> = spec
        .iter()
        .filter(|(field, _)| KEPT.contains(&field.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    for field in ["initContainers", "containers"] {
        if let Some(Value::Array(containers)) = spec.get_mut(field) {
            for one in containers {
                container(one, &volumes, sources)?;
            }
        }
    }
    spec.insert("volumes".into(), volumes.into_iter().map(|volume| volume.value).collect());
    // It is what makes the node ready again, and takes the place of no other pod: it requests nothing.
    spec.insert("priorityClassName".into(), json!("system-node-critical"));
    spec.insert("tolerations".into(), json!([{ "operator": "Exists" }]));
    spec.insert("enableServiceLinks".into(), json!(false));
    spec.insert("terminationGracePeriodSeconds".into(), json!(GRACE));
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid(component, node),
            // Of the pod's own none stays: no workload, Service or budget may take it for one of theirs.
            "labels": { "app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "kayak" },
            "annotations": { "kayak/checkpoint-of": pod["metadata"]["name"] },
        },
        "spec": spec,
    });
    Ok(Resolved { pod, files })
}

/// What of a pod's specification stays: all that says how it runs, and nothing that says where, for whom and
/// at whose expense.
const KEPT: [&str; 17] = [
    "activeDeadlineSeconds",
    "containers",
    "dnsConfig",
    "dnsPolicy",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostUsers",
    "hostname",
    "initContainers",
    "os",
    "restartPolicy",
    "securityContext",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "subdomain",
];

/// Rewrites one container in place.
fn container(container: &mut Value, volumes: &[volumes::Volume], sources: &Sources) -> Result<(), Refusal> {
    let env = environment::resolve(container, sources)?;
    let Some(fields) = container.as_object_mut() else { return Err(Refusal::NoPod("container")) };
    // Whoever starts would wait for the kubelet's questions; that it answers is seen by the agent.
    for field in ["envFrom", "resources", "resizePolicy", "startupProbe", "readinessProbe"] {
        fields.remove(field);
    }
    fields.insert("env".into(), Value::Array(env));
    if fields.get("imagePullPolicy").is_some_and(|policy| policy == "Always") {
        // There may be nobody to ask for a newer one.
        fields.insert("imagePullPolicy".into(), json!("IfNotPresent"));
    }
    if let Some(Value::Object(probe)) = fields.get_mut("livenessProbe") {
        let own = probe.get("initialDelaySeconds").and_then(Value::as_u64).unwrap_or(0);
        probe.insert("initialDelaySeconds".into(), json!(own.max(FIRST_QUESTION)));
    }
    if let Some(Value::Array(mounts)) = fields.get_mut("volumeMounts") {
        for mount in mounts {
            let of_files = volumes.iter().any(|volume| volume.is_files && mount["name"] == *volume.name);
            if of_files {
                mount["readOnly"] = json!(true);
            }
        }
    }
    Ok(())
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().flat_map(|field| list(&pod["spec"], field))
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value[field].as_str()
}
