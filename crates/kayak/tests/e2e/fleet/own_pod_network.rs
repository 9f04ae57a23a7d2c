//! A cluster whose pods' network is the owner's own: kayak brings all else up, and says what is missing.

use std::process::Command;

use serde_json::{Value, json};

use super::comes_up_and_grows::names_found_on;
use super::packets_reach_every_pod::{MEGABYTE, every_way, hosts, pods};
use super::{json, place_boxes, text};
use crate::cluster::{Cluster, eventually};

const NODES: [&str; 2] = ["controller-0", "worker-0"];
const MISSING: &str = "the owner's own pod network is missing";

pub fn a_network_of_the_owners_own_makes_nodes_ready() {
    let cluster = Cluster::new("e2e-own-net", 44, "  provider: none\ncontrollers: 1\nworkers: 1\n");
    cluster.keeping_evidence(|| {
        cluster.up(&[]);
        let parts = cluster.kubectl(&["-n", "kube-system", "get", "daemonsets", "-o", "name"]);
        assert!(parts.contains("kube-proxy") && !parts.contains("flannel"), "{parts}");
        eventually("status names what is missing", || {
            let status = status(&cluster);
            let miss_it = status["nodes"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|node| node["ready"] == false && text(node, "/because").starts_with(MISSING));
            if miss_it.count() == NODES.len() { Ok(()) } else { Err(format!("{:#}", status["nodes"])) }
        });
        let planned = cluster.kayak(&["plan", "--config", cluster.config()]);
        assert!(planned.starts_with("nothing to do"), "{planned}");
        install(&cluster);
        cluster.kubectl(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=60s"]);
        cluster.kubectl(&["-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=90s"]);
        place_boxes(&cluster, &NODES);
        let (pods, hosts) = (pods(&cluster, &NODES), hosts(&cluster, &NODES));
        every_way(&pods, &hosts, MEGABYTE);
        assert_eq!(names_found_on(&cluster, &NODES), Vec::<String>::new());
        eventually("all is well", || {
            let status = status(&cluster);
            if status["well"] == true { Ok(()) } else { Err(format!("{status:#}")) }
        });
    });
    cluster.kayak(&["down", "--yes"]);
}

/// The simplest network there is: addresses of the node's range, a route to each other node's.
fn install(cluster: &Cluster) {
    let nodes = NODES.map(|node| json(cluster, &["get", "node", node]));
    for (name, node) in NODES.iter().zip(&nodes) {
        let ranges = json!([[{ "subnet": text(node, "/spec/podCIDR") }]]);
        let ipam = json!({ "type": "host-local", "ranges": ranges, "routes": [{ "dst": "0.0.0.0/0" }] });
        let plugins = json!([{ "type": "ptp", "ipam": ipam }, { "type": "portmap" }]);
        let list = json!({ "cniVersion": "1.0.0", "name": "owner", "plugins": plugins });
        let write = format!("echo '{list}' > /etc/cni/net.d/05-owner.conflist");
        cluster.inside(name, &["sh", "-c", &write]);
        for other in nodes.iter().filter(|other| text(other, "/metadata/name") != *name) {
            let (range, via) = (text(other, "/spec/podCIDR"), text(other, "/status/addresses/0/address"));
            cluster.inside(name, &["ip", "route", "add", range, "via", via]);
        }
    }
}

/// What `kayak status` tells, whether all is well or not.
fn status(cluster: &Cluster) -> Value {
    let command: &mut Command = &mut cluster.command(&["--output", "json", "status"]);
    serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
}
