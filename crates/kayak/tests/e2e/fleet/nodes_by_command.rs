//! `kayak node`: more nodes and fewer, empty ones, and a series of restarts.

use std::process::{Output, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::failures_are_survived::READS_RESUME;
use super::{BALANCER, Fleet, all_ready, json, network, three_voters};
use crate::client::Watch;
use crate::cluster::{Cluster, Running, eventually, show};
use crate::image;

const MORE: &str = "worker-3";

/// Two pods that would rather be on the new node, and keep something there.
const GUESTS: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: guests, namespace: default }
spec:
  replicas: 2
  selector: { matchLabels: { app: guests } }
  template:
    metadata: { labels: { app: guests } }
    spec:
      terminationGracePeriodSeconds: 0
      automountServiceAccountToken: false
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            preference: { matchExpressions: [{ key: kubernetes.io/hostname, operator: In, values: [worker-3] }] }
      volumes: [{ name: scratch, emptyDir: {} }]
      containers:
      - { name: web, image: "e2e.local/web:docker", volumeMounts: [{ name: scratch, mountPath: /scratch }] }
"#;

pub fn nodes_come_and_go_by_command(fleet: &Fleet) {
    let cluster = &fleet.cluster;
    cluster.kayak(&["node", "add"]);
    all_ready(cluster);
    assert_eq!(listed(cluster, MORE)["ready"], true);
    guests_on_the_new_node(cluster);

    budget(cluster, 2);
    let held = run(cluster, &["node", "drain", MORE, "--patience", "4"]);
    let said = String::from_utf8_lossy(&held.stderr).into_owned();
    assert_eq!(held.status.code(), Some(1), "{said}");
    for word in ["disruption budget guests needs 2", "lost: what its emptyDir scratch holds", "uncordon"] {
        assert!(said.contains(word), "no `{word}` in {said}");
    }
    assert_eq!(pods_on(cluster, "app=guests"), 2, "the budget was respected");

    budget(cluster, 1);
    let start = Instant::now();
    let removed = run(cluster, &["node", "remove", MORE, "--yes"]);
    assert!(removed.status.success(), "{}", show(&removed));
    eprintln!("{MORE} was drained and removed after {:.1?}", start.elapsed());
    gone(cluster);
    let wait = ["rollout", "status", "deployment/guests", "--timeout=60s"];
    cluster.kubectl(&wait);
    cluster.kubectl(&["delete", "deployment/guests", "poddisruptionbudget/guests"]);

    let refused = run(cluster, &["node", "remove", "worker-0", "--yes"]);
    assert_eq!(refused.status.code(), Some(2), "{}", show(&refused));
}

/// The next node goes when all is as it was, and a series that is cut off is continued.
pub fn nodes_restart_one_after_another(fleet: &Fleet) {
    let cluster = &fleet.cluster;
    let series = cluster.assets().with_file_name("reboot.json");
    let init = |node: &str| cluster.init_process(node).as_raw_nonzero();
    let before = ["worker-1", "controller-1"].map(init);
    let mut command = cluster.command(&["node", "reboot", "worker-1", "controller-1"]);
    let first = Running(command.stderr(Stdio::null()).spawn().unwrap());
    eventually("the first of two", || match std::fs::read_to_string(&series) {
        Ok(left) if left == r#"["controller-1"]"# => Ok(()),
        left => Err(format!("{left:?}")),
    });
    drop(first);
    let worker = init("worker-1");
    assert_ne!(worker, before[0], "it was started anew");

    let watch = Watch::start_on(network(cluster, "worker-0"), BALANCER, &cluster.assets());
    let start = Instant::now();
    cluster.kayak(&["node", "reboot"]);
    eprintln!("a controller was started anew after {:.1?}", start.elapsed());
    let seen = watch.stop();
    eprintln!("meanwhile nothing was read for {:.1?}; {:?}", seen.gap, seen.failures);
    assert!(seen.gap <= READS_RESUME, "{:?}", seen.failures);
    assert_ne!(init("controller-1"), before[1], "it was started anew");
    assert_eq!(init("worker-1"), worker, "once is enough");
    assert!(!series.exists());
    three_voters(cluster);
    all_ready(cluster);
    let nothing = run(cluster, &["node", "reboot"]);
    assert_eq!(nothing.status.code(), Some(2), "{}", show(&nothing));
}

fn run(cluster: &Cluster, arguments: &[&str]) -> Output {
    cluster.command(arguments).output().unwrap()
}

/// What `kayak node list` says of a node; null if it says nothing.
fn listed(cluster: &Cluster, node: &str) -> Value {
    let list: Value = serde_json::from_str(&cluster.kayak(&["--output", "json", "node", "list"])).unwrap();
    let mut list = list.as_array().unwrap().iter();
    list.find(|row| row["name"] == node).cloned().unwrap_or_default()
}

fn gone(cluster: &Cluster) {
    assert_eq!(listed(cluster, MORE), Value::Null);
    assert!(!cluster.try_kubectl(&["get", "node", MORE]).status.success(), "its Node is gone");
    assert_eq!(cluster.kayak(&["plan"]).trim(), "nothing to do");
}

fn guests_on_the_new_node(cluster: &Cluster) {
    let archive = image::docker_archive("e2e.local/web:docker");
    cluster.kayak(&["image", "load", archive.to_str().unwrap()]);
    cluster.apply(GUESTS);
    cluster.kubectl(&["rollout", "status", "deployment/guests", "--timeout=60s"]);
    assert_eq!(pods_on(cluster, "app=guests"), 2, "they would rather be there");
    assert_eq!(pods_on(cluster, "app.kubernetes.io/name=kube-proxy"), 1);
}

/// How many pods are on the new node.
fn pods_on(cluster: &Cluster, label: &str) -> usize {
    let selector = format!("--field-selector=spec.nodeName={MORE}");
    let pods = json(cluster, &["get", "pods", "--all-namespaces", "-l", label, &selector]);
    pods["items"].as_array().unwrap().len()
}

/// So many guests are to be available at any time.
fn budget(cluster: &Cluster, available: u32) {
    cluster.apply(&format!(
        "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{ name: guests, namespace: default }}\n\
         spec: {{ minAvailable: {available}, selector: {{ matchLabels: {{ app: guests }} }} }}\n"
    ));
    // Until it is seen, nothing may be evicted.
    let allowed = (2 - available).to_string();
    let path = "jsonpath={.status.observedGeneration}/{.metadata.generation}/{.status.disruptionsAllowed}";
    cluster.wait_for(&["get", "poddisruptionbudget", "guests", "-o", path], |told| {
        let parts: Vec<_> = told.split('/').collect();
        parts.len() == 3 && parts[0] == parts[1] && parts[2] == allowed
    });
}
