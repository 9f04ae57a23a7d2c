//! CoreDNS, the cluster's DNS.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use super::{Component, Probe, Probes, Workload, flags};
use crate::access::{cluster_role, cluster_role_binding, object, service_account};
use crate::cluster::Cluster;
use crate::object::Object;

/// Its name.
pub const NAME: &str = "coredns";

/// States CoreDNS.
pub fn component(cluster: &Cluster) -> Component {
    let command = flags("/coredns", &[]);
    let conf = format!("{}/Corefile", Component::config_dir(NAME));
    Component {
        command: [command, vec!["-conf".into(), conf]].concat(),
        config: BTreeMap::from([("Corefile", corefile(cluster))]),
        probes: Probes {
            startup: Some(Probe::Http("/ready", 8181, None)),
            ready: Some(Probe::Http("/ready", 8181, None)),
            live: Some(Probe::Http("/health", 8080, None)),
        },
        memory: 48,
        capabilities: &["NET_BIND_SERVICE"],
        host_network: false,
        // It needs the API for every answer, so a token that dies with the API costs nothing.
        service_account: Some(NAME),
        ports: vec![("dns", "UDP", 53), ("dns-tcp", "TCP", 53), ("metrics", "TCP", 9153)],
        ..Component::new(NAME, &cluster.images.coredns, Workload::Deployment(replicas(cluster)), Vec::new())
    }
}

/// A second one helps against the loss of a node, not on a single one.
fn replicas(cluster: &Cluster) -> u32 {
    if cluster.nodes.len() > 1 { 2 } else { 1 }
}

fn corefile(cluster: &Cluster) -> String {
    if let Some(corefile) = &cluster.config.components.coredns.corefile {
        return corefile.clone();
    }
    let mut text = format!(
        ".:53 {{
    errors
    health {{
        lameduck 5s
    }}
    ready
    kubernetes {} in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }}
    prometheus :9153
",
        cluster.config.network.domain
    );
    // `forward` without an upstream is fatal: without one, other names do not exist.
    if !cluster.nameservers.is_empty() {
        let servers: Vec<_> = cluster.nameservers.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "    forward . {} {{\n        max_concurrent 1000\n    }}", servers.join(" "));
    }
    text.push_str("    cache 30\n    loop\n    reload\n    loadbalance\n}\n");
    text
}

/// Its account, rights and service.
pub fn objects(cluster: &Cluster) -> Vec<Object> {
    let port = |name: &str, protocol: &str, port: u16| json!({ "name": name, "port": port, "protocol": protocol, "targetPort": port });
    let addresses = cluster.dns_service_ips();
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            // The name that every tool looks for.
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": { "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS" },
        },
        "spec": {
            "clusterIP": addresses.first(),
            "selector": { "app.kubernetes.io/name": NAME },
            "ports": [port("dns", "UDP", 53), port("dns-tcp", "TCP", 53), port("metrics", "TCP", 9153)],
        },
    });
    if addresses.len() > 1 {
        service["spec"]["ipFamilyPolicy"] = json!("RequireDualStack");
        service["spec"]["clusterIPs"] = json!(addresses);
    }
    [
        service_account(NAME),
        cluster_role("kayak:coredns", &json!([
            { "apiGroups": [""], "resources": ["services", "namespaces"], "verbs": ["list", "watch"] },
            { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] },
        ])),
        cluster_role_binding(
            "kayak:coredns",
            "kayak:coredns",
            &json!({ "kind": "ServiceAccount", "name": NAME, "namespace": "kube-system" }),
        ),
        object(service),
    ]
    .into()
}
