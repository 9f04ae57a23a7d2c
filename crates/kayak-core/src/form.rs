//! The forms a component is rendered in: static pod, DaemonSet, Deployment, with its Secret and ConfigMap.
//!
//! One function makes the pod for every form, so that the temporary and the self-hosted control
//! plane cannot drift; [`Form`] lists all that may differ.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::access::object;
use crate::component::{Component, Env, Probe, Workload};
use crate::config::{Quantity, Resources};
use crate::node::BINARY_DIR;
use crate::object::Object;

/// The label that a controller carries, and by which it is one.
pub const CONTROLLER_LABEL: &str = "node-role.kubernetes.io/control-plane";
/// The label of every other node, for people to see.
pub const WORKER_LABEL: &str = "node-role.kubernetes.io/worker";
/// How the temporary control plane's pods and manifests are told from any other.
pub const TEMPORARY: &str = "temporary-";

/// Seconds between SIGTERM and SIGKILL of the temporary control plane: for requests under way. The kubelet
/// gives no less.
const TEMPORARY_GRACE: u32 = 2;

/// What pods of one component may differ in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Read from a file by the kubelet until the pivot. It may refer to no other object, requests
    /// nothing, since a static pod's requests push other pods out, and is asked nothing by the kubelet:
    /// the agent does that, and each question takes time from those that are starting. It ends soon: who
    /// has a long stream through it, all of them clients that follow something, goes on at its successor.
    Temporary,
    /// Read from a file by the kubelet for good.
    Static,
    /// Made by a controller of the cluster.
    Template,
}

/// Where a node keeps the secret files of its temporary control plane.
pub const TEMPORARY_SECRETS: &str = "/etc/kubernetes/temporary";
/// Where a node keeps the secret files of its lasting static pods.
pub const STATIC_SECRETS: &str = "/etc/kubernetes/static";

/// Renders a component as a static pod of the temporary control plane.
pub fn temporary_pod(component: &Component) -> Value {
    let name = format!("{TEMPORARY}{}", component.name);
    let mut labels = labels(component);
    // No Deployment or DaemonSet may take it for its own.
    labels["app.kubernetes.io/name"] = json!(name);
    pod(&name, &labels, &pod_spec(component, Form::Temporary))
}

/// Renders a component as a static pod that stays.
pub fn static_pod(component: &Component) -> Value {
    let mut pod = pod(component.name, &labels(component), &pod_spec(component, Form::Static));
    // The kubelet starts it anew when its certificates change, as when a flag does.
    pod["metadata"]["annotations"] = json!({ "kayak/inputs": inputs(component) });
    pod
}

fn pod(name: &str, labels: &Value, spec: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": "kube-system", "labels": labels },
        "spec": spec,
    })
}

/// Renders the workload of a component that runs in the cluster; `None` for a static pod.
pub fn workload(component: &Component) -> Option<Object> {
    let metadata = json!({ "name": component.name, "namespace": "kube-system", "labels": labels(component) });
    let selector = json!({ "matchLabels": { "app.kubernetes.io/name": component.name } });
    let mut spec = pod_spec(component, Form::Template);
    let surge = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } });
    let in_place =
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 1 } });
    let (kind, rest) = match component.workload {
        Workload::ControllerDaemonSet => {
            spec["nodeSelector"] = json!({ CONTROLLER_LABEL: "" });
            ("DaemonSet", json!({ "updateStrategy": surge }))
        }
        Workload::NodeDaemonSet => ("DaemonSet", json!({ "updateStrategy": in_place })),
        Workload::ControllerDeployment(replicas) => {
            spec["nodeSelector"] = json!({ CONTROLLER_LABEL: "" });
            spec["topologySpreadConstraints"] = apart(component, replicas);
            ("Deployment", json!({ "strategy": surge, "replicas": replicas }))
        }
        Workload::Deployment(replicas) => {
            spec["topologySpreadConstraints"] = apart(component, replicas);
            ("Deployment", json!({ "strategy": surge, "replicas": replicas }))
        }
        Workload::StaticPod => return None,
    };
    let template = json!({
        "metadata": {
            "labels": labels(component),
            // Changed certificates or settings roll the pods like a changed flag does.
            "annotations": { "kayak/inputs": inputs(component) },
        },
        "spec": spec,
    });
    let mut value = json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": rest });
    value["spec"]["selector"] = selector;
    value["spec"]["template"] = template;
    value["spec"]["revisionHistoryLimit"] = json!(5);
    Some(object(value))
}

/// One a node, by a rule and not by preference: while other nodes are still joining all of them would be
/// started on the first one, and end with it. `minDomains` makes them wait for those, and what a rollout adds
/// does not count those that it replaces.
fn apart(component: &Component, nodes: u32) -> Value {
    json!([{
        "maxSkew": 1,
        "minDomains": nodes,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app.kubernetes.io/name": component.name } },
        "matchLabelKeys": ["pod-template-hash"],
    }])
}

/// Renders the component's Secret, if it has secret files.
pub fn secret(component: &Component) -> Option<Object> {
    let data: serde_json::Map<_, _> = component
        .secrets
        .iter()
        .map(|(&file, content)| (file.to_owned(), json!(BASE64.encode(content.expose()))))
        .collect();
    (!data.is_empty()).then(|| {
        object(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": component.name, "namespace": "kube-system", "labels": labels(component) },
            "type": "Opaque",
            "data": data,
        }))
    })
}

/// Renders the component's ConfigMap, if it has public files.
pub fn config_map(component: &Component) -> Option<Object> {
    (!component.config.is_empty()).then(|| {
        object(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": component.name, "namespace": "kube-system", "labels": labels(component) },
            "data": component.config,
        }))
    })
}

fn labels(component: &Component) -> Value {
    json!({ "app.kubernetes.io/name": component.name, "app.kubernetes.io/managed-by": "kayak" })
}

fn inputs(component: &Component) -> String {
    let mut hash = Sha256::new();
    for (name, content) in &component.secrets {
        hash.update(name);
        hash.update(content.expose());
    }
    for (name, content) in &component.config {
        hash.update(name);
        hash.update(content);
    }
    hash.finalize().iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn pod_spec(component: &Component, form: Form) -> Value {
    let mut spec = json!({
        "priorityClassName": priority(component),
        "hostNetwork": component.host_network,
        "terminationGracePeriodSeconds": if form == Form::Temporary { TEMPORARY_GRACE } else { component.grace },
        "enableServiceLinks": false,
        "securityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
        // Control plane and network must run on a node that is not ready, full or unreachable:
        // they are what makes it ready again.
        "tolerations": [{ "operator": "Exists" }],
        "containers": [container(component, form)],
        "volumes": volumes(component, form),
    });
    if !component.host_network {
        // The cluster's DNS itself: it must not be its own client, and it waits for a ready network.
        spec["dnsPolicy"] = json!("Default");
        spec["tolerations"] = json!([{ "key": crate::form::CONTROLLER_LABEL, "effect": "NoSchedule" }]);
    }
    if form == Form::Template {
        spec["automountServiceAccountToken"] = json!(component.service_account.is_some());
        if let Some(account) = component.service_account {
            spec["serviceAccountName"] = json!(account);
        }
    }
    spec
}

/// Everything a node needs itself is node-critical, and so is what a cluster cannot do without on
/// its only controller; DNS can be elsewhere.
fn priority(component: &Component) -> &'static str {
    if component.host_network { "system-node-critical" } else { "system-cluster-critical" }
}

fn container(component: &Component, form: Form) -> Value {
    let (command, args) = match &component.entry {
        Some(entry) => {
            let kayak = [format!("{BINARY_DIR}/kayak"), entry.command.into()];
            let words = kayak.into_iter().chain(entry.flags.clone()).chain(["--".into()]);
            (words.collect(), component.command.clone())
        }
        None => (component.command[..1].to_vec(), component.command[1..].to_vec()),
    };
    let mut container = json!({
        "name": component.name,
        "image": component.image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "args": args,
        "env": component.env.iter().map(env).collect::<Vec<_>>(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
        "volumeMounts": mounts(component),
    });
    if !component.capabilities.is_empty() {
        container["securityContext"]["capabilities"]["add"] = json!(component.capabilities);
    }
    if form != Form::Temporary {
        container["resources"] = resources(component);
    }
    if !component.ports.is_empty() {
        let port = |&(name, protocol, number): &(&str, &str, u16)| json!({ "name": name, "protocol": protocol, "containerPort": number });
        container["ports"] = component.ports.iter().map(port).collect();
    }
    if form == Form::Temporary {
        return container;
    }
    let probes = [
        ("startupProbe", &component.probes.startup, [1, 5, 300]),
        ("readinessProbe", &component.probes.ready, [2, 5, 3]),
        ("livenessProbe", &component.probes.live, [20, 10, 4]),
    ];
    for (field, probe, [period, timeout, failures]) in probes {
        if let Some(probe) = probe {
            let mut value = action(probe);
            value["periodSeconds"] = json!(period);
            value["timeoutSeconds"] = json!(timeout);
            value["failureThreshold"] = json!(failures);
            container[field] = value;
        }
    }
    container
}

fn action(probe: &Probe) -> Value {
    match probe {
        Probe::Exec(command) => json!({ "exec": { "command": command } }),
        Probe::Http(path, port, None) => json!({ "httpGet": { "path": path, "port": port } }),
        Probe::Http(path, port, Some(host)) => {
            json!({ "httpGet": { "path": path, "port": port, "host": host } })
        }
    }
}

fn env(env: &Env) -> Value {
    match env {
        Env::Field(name, path) => {
            json!({ "name": name, "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": path } } })
        }
        Env::Text(name, value) => json!({ "name": name, "value": value }),
    }
}

/// What is set apart for a component, and what it may use at most: kayak's numbers where the owner
/// says nothing. A request above its limit would be refused, so kayak's own gives way.
fn resources(component: &Component) -> Value {
    let Resources { requests, limits } = &component.resources;
    let one = |own: String, request: &Option<Quantity>, limit: &Option<Quantity>| {
        let above = |limit: &&Quantity| {
            own.parse::<Quantity>().is_ok_and(|own| own.thousandths() > limit.thousandths())
        };
        request.as_ref().or(limit.as_ref().filter(above)).map_or(own.clone(), ToString::to_string)
    };
    let mut value = json!({
        "requests": {
            "cpu": one(format!("{}m", component.cpu), &requests.cpu, &limits.cpu),
            "memory": one(format!("{}Mi", component.memory), &requests.memory, &limits.memory),
        },
    });
    for (name, limit) in [("cpu", &limits.cpu), ("memory", &limits.memory)] {
        if let Some(limit) = limit {
            value["limits"][name] = json!(limit);
        }
    }
    value
}

fn mounts(component: &Component) -> Vec<Value> {
    let mut mounts = Vec::new();
    if component.uses_kayak() {
        mounts.push(json!({ "name": "kayak", "mountPath": BINARY_DIR, "readOnly": true }));
    }
    if !component.secrets.is_empty() {
        mounts.push(json!({ "name": "secrets", "mountPath": Component::secret_dir(component.name), "readOnly": true }));
    }
    if !component.config.is_empty() {
        mounts.push(
            json!({ "name": "config", "mountPath": Component::config_dir(component.name), "readOnly": true }),
        );
    }
    for dir in &component.host_dirs {
        let mut mount = json!({ "name": dir.name, "mountPath": dir.path });
        if !dir.writable {
            mount["readOnly"] = json!(true);
        }
        mounts.push(mount);
    }
    for file in &component.host_files {
        mounts.push(json!({ "name": file.name, "mountPath": file.path, "readOnly": true }));
    }
    mounts
}

fn volumes(component: &Component, form: Form) -> Vec<Value> {
    let host_path = |name: &str, path: &str, kind: &str| json!({ "name": name, "hostPath": { "path": path, "type": kind } });
    let secret_path = |directory: &str| format!("{directory}/{}", component.name);
    let mut volumes = Vec::new();
    if component.uses_kayak() {
        volumes.push(host_path("kayak", BINARY_DIR, "Directory"));
    }
    if !component.secrets.is_empty() {
        volumes.push(match form {
            Form::Temporary => host_path("secrets", &secret_path(TEMPORARY_SECRETS), "Directory"),
            Form::Static => host_path("secrets", &secret_path(STATIC_SECRETS), "Directory"),
            Form::Template => {
                json!({ "name": "secrets", "secret": { "secretName": component.name, "defaultMode": 0o400 } })
            }
        });
    }
    if !component.config.is_empty() {
        volumes
            .push(json!({ "name": "config", "configMap": { "name": component.name, "defaultMode": 0o444 } }));
    }
    volumes.extend(component.host_dirs.iter().map(|d| host_path(d.name, d.path, "DirectoryOrCreate")));
    volumes.extend(component.host_files.iter().map(|f| host_path(f.name, f.path, "File")));
    volumes
}
