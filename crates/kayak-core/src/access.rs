//! Objects that are no component: rights, namespaces' labels, and what kayak tells the cluster.

use serde_json::{Value, json};

use crate::cluster::{API_PORT, Cluster, Node, Role};
use crate::component::{controller_manager, scheduler};
use crate::form::{CONTROLLER_LABEL, WORKER_LABEL};
use crate::join::{self, JOINED_CONFIG_MAP};
use crate::object::{Object, ObjectId};

/// Builds an object from a literal of this crate, which always has what an object needs.
#[expect(
    clippy::expect_used,
    reason = "the argument is a literal in this crate, covered by the snapshot tests"
)]
pub(crate) fn object(value: Value) -> Object {
    Object::new(value).expect("literal objects have apiVersion, kind and name")
}

/// A user as the subject of a binding.
pub(crate) fn user(name: &str) -> Value {
    json!({ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name })
}

/// A group as the subject of a binding.
pub(crate) fn group(name: &str) -> Value {
    json!({ "kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": name })
}

/// A role for the whole cluster.
pub(crate) fn cluster_role(name: &str, rules: &Value) -> Object {
    object(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": name },
        "rules": rules,
    }))
}

/// Gives a role of the whole cluster to one subject.
pub(crate) fn cluster_role_binding(name: &str, role: &str, subject: &Value) -> Object {
    object(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [subject],
    }))
}

/// A service account in `kube-system` whose token is mounted only where a pod asks for it.
pub(crate) fn service_account(name: &str) -> Object {
    object(json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": name, "namespace": "kube-system" },
        "automountServiceAccountToken": false,
    }))
}

/// Pod Security: the control plane's namespace may do everything, and says so; the others that
/// Kubernetes makes for itself hold no pods at all. `default` is the owner's.
pub fn namespaces() -> Vec<Object> {
    [("kube-system", "privileged"), ("kube-public", "restricted"), ("kube-node-lease", "restricted")]
        .map(|(name, level)| {
            object(json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": { "name": name, "labels": { "pod-security.kubernetes.io/enforce": level } },
            }))
        })
        .into()
}

/// The group of all nodes' agents.
pub const AGENTS: &str = "kayak:agents";
/// The group of controllers' agents.
pub const CONTROLLER_AGENTS: &str = "kayak:controller-agents";

/// Rights of kubelets, of the API server at kubelets, and of the agents.
pub fn rights() -> Vec<Object> {
    const SELF_RENEWAL: &str = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient";
    [
        cluster_role_binding(
            "kayak:kube-apiserver-kubelet-client",
            "system:kubelet-api-admin",
            &user("kube-apiserver-kubelet-client"),
        ),
        // A kubelet renews its own client certificate. First ones of machines that join, agents approve.
        cluster_role_binding("kayak:kubelet-client-renewal", SELF_RENEWAL, &group("system:nodes")),
        cluster_role("kayak:controller-agent", &json!([
            { "apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests"], "verbs": ["get", "list", "watch"] },
            { "apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/approval"], "verbs": ["update", "patch"] },
            { "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"], "verbs": ["approve"] },
        ])),
        cluster_role_binding("kayak:controller-agent", "kayak:controller-agent", &group(CONTROLLER_AGENTS)),
    ]
    .into_iter()
    .chain(system_role(SYSTEM, "kayak:agent", &group(AGENTS), &json!([
        { "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [CONTROLLERS_CONFIG_MAP], "verbs": ["get", "list", "watch"] },
    ])))
    // The agent of a machine that joined is known as its kubelet.
    .chain(system_role(SYSTEM, "kayak:nodes", &group("system:nodes"), &json!([
        { "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [CONTROLLERS_CONFIG_MAP], "verbs": ["get", "list", "watch"] },
    ])))
    .chain(system_role("kube-node-lease", "kayak:controller-agent", &group(CONTROLLER_AGENTS), &json!([
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get"] },
    ])))
    .chain(system_role(SYSTEM, "kayak:controller-agent", &group(CONTROLLER_AGENTS), &json!([
        { "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [JOINED_CONFIG_MAP], "verbs": ["get", "list", "watch", "patch"] },
        { "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [NODES_CONFIG_MAP], "verbs": ["get", "list", "watch"] },
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [ELECTED[0], ELECTED[1], VIP_LEASE], "verbs": ["get", "update"] },
        // A name cannot restrict who makes an object.
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] },
    ])))
    .collect()
}

const SYSTEM: &str = "kube-system";

/// A role in a namespace, and its binding to one subject.
pub(crate) fn system_role(namespace: &str, name: &str, subject: &Value, rules: &Value) -> [Object; 2] {
    let metadata = json!({ "name": name, "namespace": namespace });
    let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name });
    [("Role", "rules", rules.clone()), ("RoleBinding", "subjects", json!([subject]))].map(
        |(kind, field, rest)| {
            let mut value =
                json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata });
            value[field] = rest;
            if kind == "RoleBinding" {
                value["roleRef"] = role.clone();
            }
            object(value)
        },
    )
}

/// The components of which one instance leads, by the lease in `kube-system` that has their name. An
/// agent takes it from an instance that died on its node.
pub const ELECTED: [&str; 2] = [controller_manager::NAME, scheduler::NAME];

/// The lease in `kube-system` whose holder has the address for clients outside.
pub const VIP_LEASE: &str = "kayak-vip";

/// The ConfigMap in `kube-system` that says where the controllers' agents give out connections to their API
/// servers: node name to address and port.
pub const CONTROLLERS_CONFIG_MAP: &str = "kayak-controllers";

/// The ConfigMap in `kube-system` that names every node's addresses: node name to a comma-separated list.
pub const NODES_CONFIG_MAP: &str = "kayak-nodes";

/// The ConfigMap in `kube-system` with the cluster's configuration as it was last applied.
pub const CONFIG_MAP: &str = "kayak-config";
/// The key in [`CONFIG_MAP`].
pub const CONFIG_KEY: &str = "cluster.yaml";

/// Which object [`CONFIG_MAP`] is.
pub fn configuration() -> ObjectId {
    ObjectId {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        namespace: Some("kube-system".into()),
        name: CONFIG_MAP.into(),
    }
}

/// What kayak alone may say: which nodes are controllers, which names and addresses a node has, and
/// where the API is.
pub fn facts(cluster: &Cluster) -> Vec<Object> {
    let nodes: serde_json::Map<_, _> =
        cluster.nodes.iter().map(|n| (n.name.clone(), json!(names_of(n)))).collect();
    let controllers: serde_json::Map<_, _> =
        cluster.controllers().map(|n| (n.name.clone(), json!(n.at(API_PORT).to_string()))).collect();
    let mut objects: Vec<_> = cluster.nodes.iter().map(|node| node_object(cluster, node)).collect();
    objects.extend([
        object(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": NODES_CONFIG_MAP, "namespace": "kube-system" },
            "data": nodes,
        })),
        object(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": CONTROLLERS_CONFIG_MAP, "namespace": "kube-system" },
            "data": controllers,
        })),
        object(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": CONFIG_MAP, "namespace": "kube-system" },
            "data": { CONFIG_KEY: cluster.source },
        })),
        object(json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": { "kubernetes.io/service-name": "kubernetes" },
            },
            "addressType": if cluster.api_node_ip().is_ipv4() { "IPv4" } else { "IPv6" },
            // Whichever node asks, its own agent answers, who knows the API servers that are ready.
            "endpoints": [{ "addresses": [cluster.api_node_ip()], "conditions": { "ready": true } }],
            "ports": [{ "name": "https", "port": API_PORT, "protocol": "TCP" }],
        })),
    ]);
    objects.extend(join::objects(cluster));
    objects
}

/// A node's names and addresses, for which it gets certificates.
fn names_of(node: &Node) -> String {
    let addresses = node.addresses().map(|address| address.to_string());
    [node.name.clone()].into_iter().chain(addresses).collect::<Vec<_>>().join(",")
}

/// A node's role is a label, which its kubelet may not give to itself. The object may be there
/// before the kubelet registers: it then takes it over. The owner's labels and taints are stated
/// here too, since a kubelet may set but few labels, and taints only where it makes the object itself.
fn node_object(cluster: &Cluster, node: &Node) -> Object {
    let role = match node.role {
        Role::Controller => CONTROLLER_LABEL,
        Role::Worker => WORKER_LABEL,
    };
    let mut value = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": node.name, "labels": { role: "" } },
    });
    let settings = cluster.settings(node);
    for (name, label) in settings.iter().flat_map(|settings| &settings.labels) {
        value["metadata"]["labels"][name] = json!(label);
    }
    let mut taints: Vec<_> =
        settings.iter().flat_map(|settings| &settings.taints).map(|taint| json!(taint)).collect();
    if node.role == Role::Controller && cluster.keeps_controllers_free() {
        taints.push(json!({ "key": CONTROLLER_LABEL, "effect": "NoSchedule" }));
    }
    if !taints.is_empty() {
        value["spec"]["taints"] = json!(taints);
    }
    object(value)
}
