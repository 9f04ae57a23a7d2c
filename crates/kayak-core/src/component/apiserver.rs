//! The API server.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Component, Entry, Env, HostDir, Workload, flags, instance_probes};
use crate::cluster::{API_PORT, Cluster};
use crate::instance::PLACEHOLDER;
use crate::object::to_yaml;
use crate::pki::{API_SERVER_NAME, Authority, KeyStore, MissingKey, Secret};

/// Its name.
pub const NAME: &str = "kube-apiserver";
/// Its own etcd member's client URL.
pub const ETCD_URL: &str = "https://127.0.0.1:2379";
/// Seconds it goes on serving after it said that it is leaving: two rounds of the agent's probe. Whoever
/// comes later is not lost either: the agent that cannot connect takes the next instance.
const SHUTDOWN_DELAY: &str = "1s";

/// The temporary one ends sooner: its clients are led to a successor that is ready, and those that follow
/// something go on there. Without the second flag it would wait for these until it is killed.
pub(super) const TEMPORARY_FLAGS: [&str; 2] =
    ["--shutdown-delay-duration=0s", "--shutdown-watch-termination-grace-period=1s"];

/// States the API server.
pub fn component(cluster: &Cluster, keys: &KeyStore) -> Result<Component, MissingKey> {
    let dir = Component::secret_dir(NAME);
    let file = |name: &str| format!("{dir}/{name}");
    let network = &cluster.config.network;
    let advertise = cluster.api_node_ip().to_string();
    let services = network.services.joined();
    let issuer = format!("https://kubernetes.default.svc.{}", network.domain);
    let port = API_PORT.to_string();
    let mut command = flags(
        NAME,
        &[
            ("bind-address", PLACEHOLDER),
            ("secure-port", &port),
            ("advertise-address", &advertise),
            // kayak owns the `kubernetes` EndpointSlice: a leaving API server would empty it for seconds.
            ("endpoint-reconciler-type", "none"),
            ("allow-privileged", "true"),
            ("profiling", "false"),
            ("shutdown-delay-duration", SHUTDOWN_DELAY),
            ("service-cluster-ip-range", &services),
            // Serving
            ("tls-cert-file", &file("tls.crt")),
            ("tls-private-key-file", &file("tls.key")),
            ("tls-min-version", "VersionTLS12"),
            // Who may call, and what they may do
            ("client-ca-file", &file("ca.crt")),
            ("authentication-config", &file("authentication.yaml")),
            ("authorization-mode", "Node,RBAC"),
            ("enable-admission-plugins", "NodeRestriction"),
            ("requestheader-client-ca-file", &file("front-proxy-ca.crt")),
            ("requestheader-allowed-names", "front-proxy-client"),
            ("requestheader-username-headers", "X-Remote-User"),
            ("requestheader-group-headers", "X-Remote-Group"),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
            ("proxy-client-cert-file", &file("front-proxy-client.crt")),
            ("proxy-client-key-file", &file("front-proxy-client.key")),
            // Service-account tokens
            ("service-account-issuer", &issuer),
            ("service-account-key-file", &file("service-account.pub")),
            ("service-account-signing-key-file", &file("service-account.key")),
            // etcd
            ("etcd-servers", ETCD_URL),
            ("etcd-cafile", &file("etcd-ca.crt")),
            ("etcd-certfile", &file("etcd-client.crt")),
            ("etcd-keyfile", &file("etcd-client.key")),
            ("encryption-provider-config", &file("encryption.yaml")),
            // Kubelets
            ("kubelet-certificate-authority", &file("ca.crt")),
            ("kubelet-client-certificate", &file("kubelet-client.crt")),
            ("kubelet-client-key", &file("kubelet-client.key")),
            ("kubelet-preferred-address-types", "InternalIP,Hostname"),
            // Audit
            ("audit-policy-file", &file("audit-policy.yaml")),
            ("audit-log-path", "/var/log/kubernetes/audit.log"),
            ("audit-log-maxsize", "20"),
            ("audit-log-maxbackup", "4"),
        ],
    );
    if cluster.config.join {
        command.push("--enable-bootstrap-token-auth=true".into());
    }
    Ok(Component {
        // Without etcd it would die after 20 s and sleep in a crash loop when etcd is back.
        entry: Some(Entry::instance(vec![
            // `/health` is well on a learner too, which refuses all that an API server asks; and not on a
            // full member, which answers reads and is mended through the API.
            format!("--wait={ETCD_URL}/readyz"),
            format!("--wait-ca={}", file("etcd-ca.crt")),
            format!("--wait-cert={}", file("etcd-client.crt")),
            format!("--wait-key={}", file("etcd-client.key")),
        ])),
        secrets: secrets(keys)?,
        host_dirs: vec![HostDir { name: "audit", path: "/var/log/kubernetes", writable: true }],
        env: vec![Env::Field("POD_UID", "metadata.uid")],
        probes: instance_probes(NAME, API_PORT, API_SERVER_NAME, "/readyz", "/livez"),
        cpu: 200,
        memory: 256,
        // The delay above, a minute for requests under way, and some to spare.
        grace: 75,
        ..Component::new(NAME, &cluster.images.kubernetes, Workload::ControllerDaemonSet, command)
    })
}

fn secrets(keys: &KeyStore) -> Result<BTreeMap<&'static str, Secret>, MissingKey> {
    let ca = |authority| Ok(Secret::new(keys.ca(authority)?.to_owned()));
    let tls = keys.pair("kube-apiserver")?;
    let etcd = keys.pair("kube-apiserver-etcd-client")?;
    let kubelet = keys.pair("kube-apiserver-kubelet-client")?;
    let proxy = keys.pair("front-proxy-client")?;
    let account = keys.service_account()?;
    let public = |text: &str| Secret::new(text.to_owned());
    Ok(BTreeMap::from([
        ("ca.crt", ca(Authority::Kubernetes)?),
        ("etcd-ca.crt", ca(Authority::Etcd)?),
        ("front-proxy-ca.crt", ca(Authority::FrontProxy)?),
        // With its CA: whoever comes with the hash of that alone learns it in the handshake.
        ("tls.crt", Secret::new(format!("{}{}", tls.certificate, keys.ca(Authority::Kubernetes)?))),
        ("tls.key", tls.key.clone()),
        ("etcd-client.crt", public(&etcd.certificate)),
        ("etcd-client.key", etcd.key.clone()),
        ("kubelet-client.crt", public(&kubelet.certificate)),
        ("kubelet-client.key", kubelet.key.clone()),
        ("front-proxy-client.crt", public(&proxy.certificate)),
        ("front-proxy-client.key", proxy.key.clone()),
        ("service-account.pub", public(&account.certificate)),
        ("service-account.key", account.key.clone()),
        ("authentication.yaml", Secret::new(authentication())),
        ("encryption.yaml", encryption(keys.encryption_key()?)),
        ("audit-policy.yaml", Secret::new(audit_policy())),
    ]))
}

/// Without credentials one may ask how it is, and nothing else: probes and balancers need that.
fn authentication() -> String {
    let paths: Vec<_> = ["/livez", "/readyz", "/healthz"].iter().map(|p| json!({ "path": p })).collect();
    to_yaml(&json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "anonymous": { "enabled": true, "conditions": paths },
    }))
}

fn encryption(key: &Secret) -> Secret {
    Secret::new(to_yaml(&json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{
            "resources": ["secrets"],
            // The second provider reads what was written before a key was there.
            "providers": [
                { "secretbox": { "keys": [{ "name": "kayak-1", "secret": key.expose() }] } },
                { "identity": {} },
            ],
        }],
    })))
}

/// Who changed what, without contents; no reads, no leases, no events: a home server's disk is small.
fn audit_policy() -> String {
    to_yaml(&json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            { "level": "None", "resources": [{ "group": "coordination.k8s.io" }, { "group": "events.k8s.io" }, { "group": "", "resources": ["events"] }] },
            { "level": "None", "nonResourceURLs": ["/livez*", "/readyz*", "/healthz*", "/version", "/metrics"] },
            { "level": "Metadata", "verbs": ["get", "list"], "resources": [{ "group": "", "resources": ["secrets"] }] },
            // `kubectl exec` is a GET that becomes a stream.
            { "level": "Metadata", "resources": [{ "group": "", "resources": ["pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "services/proxy", "nodes/proxy"] }] },
            { "level": "None", "verbs": ["get", "list", "watch"] },
            { "level": "None", "verbs": ["patch", "update"], "resources": [{ "group": "", "resources": ["nodes/status", "pods/status", "endpoints"] }, { "group": "discovery.k8s.io" }] },
            { "level": "None", "verbs": ["create"], "resources": [{ "group": "authorization.k8s.io" }, { "group": "authentication.k8s.io" }] },
            { "level": "Metadata" },
        ],
    }))
}
