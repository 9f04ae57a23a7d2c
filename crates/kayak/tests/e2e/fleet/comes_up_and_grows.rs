//! How the cluster comes up, and how the number of its nodes changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{CONTROLLERS, Fleet, WORKERS, all_ready, json, nodes, text, three_voters};
use crate::cluster::{Cluster, show};

pub fn up_ends_with_all_that_was_wished(fleet: &Fleet) {
    let Fleet { cluster, said, .. } = fleet;
    for word in ["controller-manager", "scheduler", "etcd-0"] {
        let healthy = said.lines().any(|line| line.starts_with(word) && line.contains(" Healthy "));
        assert!(healthy, "{word} is healthy among the componentstatuses: {said}");
    }
    for node in nodes() {
        let ready = said.lines().any(|line| line.starts_with(node) && line.contains(" Ready "));
        assert!(ready, "{node} is Ready: {said}");
    }
    for node in CONTROLLERS {
        let votes = |line: &str| line.contains(" leader ") || line.contains(" follower ");
        let told = said.lines().any(|line| line.starts_with(node) && votes(line));
        assert!(told, "{node} is a member of etcd: {said}");
    }
    three_voters(cluster);
    controllers_run_the_control_plane(cluster);
    assert_eq!(names_found_on(cluster, &nodes()), Vec::<String>::new());

    let start = Instant::now();
    let events = cluster.kayak(&["--output", "json", "up"]);
    assert_eq!(events.trim(), "", "no step, no phase");
    let again = start.elapsed();
    eprintln!("the first `up` took {:.1?}, the second one {again:.1?}", fleet.took);
    assert!(again < Duration::from_secs(5), "the second `up` took {again:?}");
}

/// One instance of everything on each controller, and nothing else.
fn controllers_run_the_control_plane(cluster: &Cluster) {
    for node in json(cluster, &["get", "nodes"])["items"].as_array().unwrap() {
        let name = text(node, "/metadata/name");
        let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        let kept_free = taints.iter().any(|taint| {
            taint["key"] == "node-role.kubernetes.io/control-plane" && taint["effect"] == "NoSchedule"
        });
        assert_eq!(kept_free, CONTROLLERS.contains(&name), "{name}: {taints:?}");
    }
    let pods = json(cluster, &["-n", "kube-system", "get", "pods"]);
    for component in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        let of_it = |pod: &&Value| text(pod, "/spec/containers/0/name") == component;
        let pods = pods["items"].as_array().unwrap().iter().filter(of_it);
        let mut at: Vec<_> = pods.map(|pod| text(pod, "/spec/nodeName")).collect();
        at.sort_unstable();
        assert_eq!(at, CONTROLLERS, "where {component} runs");
    }
    let files = ["memory/memory.limit_in_bytes", "memory.max"].map(|file| format!("/sys/fs/cgroup/{file}"));
    let limit = format!("cat {} 2>/dev/null; true", files.join(" "));
    assert_eq!(cluster.inside("worker-2", &["sh", "-c", &limit]).lines().next(), Some("2147483648"));
}

/// From a pod on each of the nodes, looks for all of their web servers by the names of their services:
/// returns what was not found.
pub fn names_found_on(cluster: &Cluster, nodes: &[&str]) -> Vec<String> {
    let names = nodes.iter().map(|node| format!("box-{node}")).collect::<Vec<_>>().join(" ");
    let script = format!(
        "for n in {names}; do timeout 5 wget -q -O - http://$n.default.svc.cluster.local/ || echo not $n; done"
    );
    let mut missed = Vec::new();
    for node in nodes {
        let said = cluster.kubectl(&["exec", &format!("box-{node}"), "--", "sh", "-c", &script]);
        let pages = said.lines().filter(|line| line.starts_with("hello")).count();
        if pages != nodes.len() {
            missed.push(format!("on {node}: {said}"));
        }
    }
    missed
}

/// When each container was started, by its pod.
fn started(cluster: &Cluster) -> BTreeMap<String, String> {
    let pods = json(cluster, &["get", "pods", "--all-namespaces"]);
    let of = |pod: &Value| {
        let at = text(pod, "/status/containerStatuses/0/state/running/startedAt");
        (text(pod, "/metadata/name").to_owned(), at.to_owned())
    };
    pods["items"].as_array().unwrap().iter().map(of).collect()
}

pub fn nodes_are_added_and_removed_by_number(fleet: &Fleet) {
    let cluster = &fleet.cluster;
    let before = started(cluster);
    let start = Instant::now();
    cluster.kayak(&["up", "--workers", "4"]);
    eprintln!("one more worker after {:.1?}", start.elapsed());
    all_ready(cluster);
    let mut after = started(cluster);
    let added: BTreeSet<_> = after.keys().filter(|name| !before.contains_key(*name)).cloned().collect();
    after.retain(|name, _| before.contains_key(name));
    assert_eq!(after, before, "no other container was touched");
    assert!(added.iter().any(|name| name.starts_with("flannel")), "{added:?}");
    assert_eq!(cluster.kayak(&["plan"]).trim(), "nothing to do");

    let plan = cluster.kayak(&["plan", "--workers", "3"]);
    assert!(plan.contains("node/worker-3"), "{plan}");
    cluster.kayak(&["up", "--workers", "3"]);
    cluster.kubectl(&["get", "node", "worker-3"]);
    cluster.inside("worker-3", &["true"]);

    let output = cluster.command(&["up", "--remove", "node/worker-3", "--yes"]).output().unwrap();
    assert!(output.status.success(), "{}", show(&output));
    assert!(!cluster.try_kubectl(&["get", "node", "worker-3"]).status.success(), "its Node is gone");
    let gone = cluster.command(&["node", "shell", "worker-3", "--", "true"]).output().unwrap();
    assert!(!gone.status.success(), "the node is gone");
    let mut after = started(cluster);
    after.retain(|name, _| before.contains_key(name));
    assert_eq!(after, before, "no other container was touched");
    assert_eq!(cluster.kayak(&["plan"]).trim(), "nothing to do");
    for worker in WORKERS {
        cluster.inside(worker, &["true"]);
    }
}
