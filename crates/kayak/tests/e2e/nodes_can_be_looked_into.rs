//! Looking into a node, and the agent that keeps it going.

use crate::cluster::{Cluster, eventually};

/// With its first flag, since its shims are called alike.
pub const CONTAINERD: &str = "/usr/local/bin/containerd --config";
pub const KUBELET: &str = "/usr/local/bin/kubelet";
pub const AGENT: &str = "/usr/bin/kayak agent";

/// Stops the API server under the test's feet and looks at the node from the runtime.
pub fn logs_and_pods_without_an_api(cluster: &Cluster) {
    let before = cluster.kayak(&["node", "ps", "controller-0"]);
    assert!(before.contains("kube-apiserver") && before.contains("etcd"), "{before}");
    assert!(cluster.kayak(&["node", "list"]).contains("controller-0  running"));
    assert!(cluster.kayak(&["node", "logs", "controller-0", "kubelet", "--tail=5"]).lines().count() == 5);
    assert!(!cluster.kayak(&["node", "logs", "controller-0"]).is_empty(), "the agent's log");
    assert_eq!(cluster.in_node(&["hostname"]).trim(), "controller-0");
    // A stopped API server does not answer, and its container still runs.
    let pid = process(cluster, "kube-apiserver");
    cluster.in_node(&["kill", "-STOP", &pid]);
    let down = cluster.kayak(&["--output", "json", "node", "ps", "controller-0"]);
    cluster.in_node(&["kill", "-CONT", &pid]);
    assert!(down.contains(r#""name":"kube-apiserver""#), "{down}");
    cluster.wait_for(&["get", "--raw", "/readyz"], |answer| answer == "ok");
}

/// The oldest process of the first node whose command line begins so; empty if there is none.
pub fn process(cluster: &Cluster, command: &str) -> String {
    process_on(cluster, "controller-0", command)
}

/// The same on another node.
pub fn process_on(cluster: &Cluster, node: &str, command: &str) -> String {
    let list = cluster.inside(node, &["ps", "-o", "pid,args"]);
    let found = list.lines().find_map(|line| {
        let (pid, args) = line.trim().split_once(' ')?;
        args.starts_with(command).then(|| pid.to_owned())
    });
    found.unwrap_or_default()
}

/// The kubelet's serving certificate comes from a request of its own once the first one, which was
/// issued directly, is taken away; a request that claims another's name is refused.
pub fn serving_certificates(cluster: &Cluster) {
    let server = "/var/lib/kubelet/pki/kubelet-server-current.pem";
    cluster.in_node(&["rm", "-f", server]);
    let pid = process(cluster, KUBELET);
    cluster.in_node(&["kill", &pid]);
    let signed =
        |list: &str| list.lines().any(|l| l.contains("kubelet-serving") && l.contains("Approved,Issued"));
    cluster.wait_for(&["get", "certificatesigningrequests", "--no-headers"], signed);
    eventually("the new certificate", || {
        let output =
            cluster.command(&["node", "shell", "controller-0", "--", "test", "-s", server]).status().unwrap();
        output.success().then_some(()).ok_or_else(|| "not there".into())
    });
    // Logs go through the kubelet's port, and the API server verifies its certificate.
    cluster.wait_for(&["logs", "inside", "--tail=1"], |line| line.starts_with("requests "));
}

/// What nothing could be pulled again from must not be collected when the disk fills.
pub fn images_of_the_bundle_are_pinned(cluster: &Cluster) {
    let list = cluster.in_node(&["ctr", "--namespace=k8s.io", "images", "ls"]);
    let own: Vec<_> =
        list.lines().filter(|line| line.starts_with("kayak.local/") && !line.contains(":other ")).collect();
    assert!(own.len() >= 5, "{list}");
    for image in own {
        assert!(image.contains("io.cri-containerd.pinned=pinned"), "{image}");
    }
}

/// The whole node loses power; `kayak up` starts it from its disk and pivots again.
pub fn a_node_that_lost_power_comes_back(cluster: &Cluster) {
    cluster.kubectl(&["create", "configmap", "before-the-cut", "--from-literal=kept=yes"]);
    cluster.lose_power("controller-0");
    crate::when_unwell::status_and_support_without_a_node(cluster);
    cluster.up(&[]);
    let kept = cluster.kubectl(&["get", "configmap", "before-the-cut", "-o", "jsonpath={.data.kept}"]);
    assert_eq!(kept, "yes");
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    // The dead controller manager's lease has to run out before anybody corrects the addresses
    // behind a service, and until then a connection may go nowhere.
    let ask = ["exec", "deployment/web", "--", "timeout", "3", "wget", "-q", "-O", "-", "http://web/"];
    cluster.wait_for(&ask, |page| page.contains("hello"));
    let events = cluster.up(&["--output", "json"]);
    assert_eq!(events.trim(), "", "nothing is left to do");
}

/// containerd, kubelet and the agent itself end and come back; pods do not notice.
pub fn supervised_units_come_back(cluster: &Cluster) {
    let before = cluster.containers_started();
    for unit in [CONTAINERD, KUBELET, AGENT] {
        let pid = process(cluster, unit);
        cluster.in_node(&["kill", "-KILL", &pid]);
        eventually(&format!("a new {unit}"), || {
            let new = process(cluster, unit);
            if new.is_empty() || new == pid { Err(format!("`{new}`")) } else { Ok(()) }
        });
    }
    cluster.wait_for(&["get", "--raw", "/readyz"], |answer| answer == "ok");
    let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
    cluster.wait_for(&["get", "node", "controller-0", "-o", ready], |status| status == "True");
    assert_eq!(cluster.containers_started(), before, "no container was started again");
}
