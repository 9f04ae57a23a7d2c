//! Three controllers and three workers, which the scenarios here share.

pub mod api_rolls_unnoticed;
pub mod api_server_stands_still;
pub mod cold_start;
pub mod comes_up_and_grows;
pub mod failures_are_survived;
pub mod nodes_by_command;
pub mod own_pod_network;
pub mod packets_reach_every_pod;
mod streams;
mod writer;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, eventually};
use crate::image;
use crate::space::Network;

/// Its controllers.
pub const CONTROLLERS: [&str; 3] = ["controller-0", "controller-1", "controller-2"];
/// Its workers.
pub const WORKERS: [&str; 3] = ["worker-0", "worker-1", "worker-2"];
/// The node's own way to the API.
pub const BALANCER: &str = "127.0.0.1:7443";

const SETTINGS: &str = "controllers: 3\nworkers: 3\nnodes:\n  - { name: worker-2, memory: 2Gi }\n";

/// The cluster, and how it came up.
pub struct Fleet {
    pub cluster: Cluster,
    /// What `up` printed.
    said: String,
    /// How long it took.
    took: Duration,
}

impl AsRef<Cluster> for Fleet {
    fn as_ref(&self) -> &Cluster {
        &self.cluster
    }
}

/// Brings it up, with a pod on every node.
pub fn bring_up() -> Fleet {
    let cluster = Cluster::new("e2e-fleet", 50, SETTINGS);
    let start = Instant::now();
    let said = cluster.keeping_evidence(|| cluster.up(&[]));
    let took = start.elapsed();
    eprintln!("3 controllers and 3 workers: up after {took:.1?}");
    place_boxes(&cluster, &nodes());
    Fleet { cluster, said, took }
}

/// All of its nodes.
fn nodes() -> Vec<&'static str> {
    CONTROLLERS.into_iter().chain(WORKERS).collect()
}

/// Puts a pod with a web server, and a service of its own, on each of these nodes.
fn place_boxes(cluster: &Cluster, nodes: &[&str]) {
    let archive = image::docker_archive("e2e.local/web:docker");
    cluster.kayak(&["image", "load", archive.to_str().unwrap()]);
    cluster.wait_for(&["get", "serviceaccount", "default", "-o", "name"], |name| !name.is_empty());
    let mut manifest = String::new();
    for node in nodes {
        let _ = write!(
            manifest,
            r"
---
apiVersion: v1
kind: Pod
metadata: {{ name: box-{node}, namespace: default, labels: {{ app: box, box: {node} }} }}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  tolerations: [{{ operator: Exists }}]
  containers:
  - {{ name: box, image: 'e2e.local/web:docker', ports: [{{ containerPort: 8080 }}] }}
---
apiVersion: v1
kind: Service
metadata: {{ name: box-{node}, namespace: default }}
spec:
  selector: {{ box: {node} }}
  ports: [{{ port: 80, targetPort: 8080 }}]
"
        );
    }
    cluster.apply(&manifest);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod", "-l", "app=box", "--timeout=90s"]);
}

/// An answer of kubectl in JSON.
pub fn json(cluster: &Cluster, arguments: &[&str]) -> Value {
    serde_json::from_str(&cluster.kubectl(&[arguments, &["-o", "json"]].concat())).unwrap()
}

/// The text at a path, empty if there is none.
pub fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// The controllers' addresses for clients outside.
fn api_addresses(cluster: &Cluster) -> Vec<String> {
    let nodes = json(cluster, &["get", "nodes", "-l", "node-role.kubernetes.io/control-plane"]);
    let address = |node| format!("{}:6443", text(node, "/status/addresses/0/address"));
    let addresses: Vec<_> = nodes["items"].as_array().unwrap().iter().map(address).collect();
    assert!(!addresses.is_empty());
    addresses
}

/// A node's network. Not of a node that is going to be killed: its network would outlive it.
pub fn network(cluster: &Cluster, node: &str) -> Network {
    Network::of(cluster.init_process(node).as_raw_nonzero())
}

/// What etcd's own tool says of a member, asked there.
fn member(cluster: &Cluster, node: &str) -> Value {
    let said = etcdctl(cluster, node, &["endpoint", "status", "--write-out=json"]);
    serde_json::from_str::<Value>(&said).unwrap()[0]["Status"].clone()
}

/// Runs etcd's own tool on a controller.
fn etcdctl(cluster: &Cluster, node: &str, arguments: &[&str]) -> String {
    let pod = format!("etcd-{node}");
    let etcdctl = [
        "-n",
        "kube-system",
        "exec",
        &pod,
        "--",
        "etcdctl",
        "--cacert=/etc/kubernetes/secrets/etcd/ca.crt",
        "--cert=/etc/kubernetes/secrets/etcd/health-client.crt",
        "--key=/etc/kubernetes/secrets/etcd/health-client.key",
        "--endpoints=https://127.0.0.1:2379",
    ];
    let arguments = [&etcdctl, arguments].concat();
    cluster.wait_for(&arguments, |answer| !answer.trim().is_empty())
}

/// The controller whose etcd leads, and its id.
fn leader(cluster: &Cluster) -> (&'static str, u64) {
    eventually("etcd's leader", || {
        let mut members = CONTROLLERS.into_iter().map(|node| (node, member(cluster, node)));
        let leads = |(node, status): (_, Value)| {
            let own = status["header"]["member_id"].as_u64()?;
            (status["leader"].as_u64() == Some(own)).then_some((node, own))
        };
        members.find_map(leads).ok_or_else(|| "none".to_owned())
    })
}

/// Waits until all three members vote and follow the same leader.
fn three_voters(cluster: &Cluster) {
    eventually("three voters", || {
        let list = etcdctl(cluster, "controller-0", &["member", "list", "--write-out=json"]);
        let list: Value = serde_json::from_str(&list).unwrap();
        let members = list["members"].as_array().unwrap();
        let learners = members.iter().filter(|member| member["isLearner"] == true).count();
        let said = CONTROLLERS.map(|node| member(cluster, node));
        let leaders: Vec<_> = said.iter().map(|member| member["leader"].as_u64().unwrap_or(0)).collect();
        let well = members.len() == 3
            && learners == 0
            && leaders[0] != 0
            && leaders.iter().all(|leader| *leader == leaders[0]);
        if well { Ok(()) } else { Err(format!("{members:?}, leaders {leaders:?}")) }
    });
}

/// Waits until every node is Ready that was wished first.
fn all_ready(cluster: &Cluster) {
    let wait = ["wait", "--for=condition=Ready", "--timeout=90s", "node"];
    let nodes = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"]);
    let wished: Vec<_> = nodes.split(' ').filter(|node| self::nodes().contains(node)).collect();
    cluster.kubectl(&[&wait, &wished[..]].concat());
}

/// A number that the environment may change: the long series are not for every run.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}
