//! Controllers and workers lose power, most of them or all at once.

use std::time::Duration;

use super::{CONTROLLERS, Fleet, WORKERS, all_ready, nodes, three_voters};
use crate::cluster::{Cluster, eventually, show};
use crate::cold_start::{come_back, cut_power};

/// How soon six nodes have to be back, with all their pods, names and services.
const ALL: Duration = Duration::from_secs(75);

/// Whether a pod of each worker gets an answer from another's by its service's name.
fn ask_each_other(cluster: &Cluster) -> Result<(), String> {
    for (i, node) in WORKERS.iter().enumerate() {
        let next = WORKERS[(i + 1) % WORKERS.len()];
        let (pod, url) = (format!("box-{node}"), format!("http://box-{next}.default.svc.cluster.local/"));
        let output =
            cluster.try_kubectl(&["exec", &pod, "--", "timeout", "3", "wget", "-q", "-O", "-", &url]);
        if !String::from_utf8_lossy(&output.stdout).contains("hello") {
            return Err(format!("{node}: {}", show(&output)));
        }
    }
    Ok(())
}

pub fn all_nodes_lose_power_and_come_back(fleet: &Fleet) {
    let cluster = &fleet.cluster;
    all_keep(cluster);
    let since = cut_power(cluster, &nodes());
    let back = come_back(cluster, &since, || ask_each_other(cluster));
    three_voters(cluster);
    all_ready(cluster);
    assert!(back.answers <= ALL, "{back:?}");
}

/// Waits until every controller keeps all of its control plane.
fn all_keep(cluster: &Cluster) {
    for node in CONTROLLERS {
        eventually("checkpoints", || {
            let kept = cluster.agent(node).checkpoints;
            let count = kept.values().filter(|one| one.generation.is_some()).count();
            if count == 3 { Ok(()) } else { Err(format!("{node}: {kept:?}")) }
        });
    }
}

/// One of three is left: it says that it has no majority, and damages nothing.
pub fn a_controller_that_is_left_alone_says_so_and_goes_on_later(fleet: &Fleet) {
    let cluster = &fleet.cluster;
    all_keep(cluster);
    cut_power(cluster, &CONTROLLERS[1..]);
    eventually("the condition", || {
        let output = cluster.command(&["status"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.contains("etcd on `controller-0` is a voting member:"));
        line.filter(|line| line.starts_with('✗')).map(|line| eprintln!("{line}")).ok_or(text.clone())
    });
    cluster.kayak(&["resume"]);
    three_voters(cluster);
    all_ready(cluster);
    crate::cold_start::no_checkpoint_is_active(cluster);
}
