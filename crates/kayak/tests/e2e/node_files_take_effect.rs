//! What is written into a node that runs, and what hangs there.

use kayak_core::node::{Status, UnitStatus};
use kayak_core::sockets::{Owner, Protocol, SocketRow};

use crate::cluster::{Cluster, eventually};
use crate::nodes_can_be_looked_into::{AGENT, CONTAINERD, KUBELET, process};

const KUBELET_CONFIG: &str = "/etc/kubernetes/kubelet/config.yaml";

/// The kubelet is started again with its new configuration, and nothing else is.
pub fn a_changed_kubelet_configuration_takes_effect(cluster: &Cluster) {
    let others = || [CONTAINERD, AGENT].map(|unit| process(cluster, unit));
    let (before, containers) = (others(), cluster.containers_started());
    let pods = ["get", "node", "controller-0", "-o", "jsonpath={.status.capacity.pods}"];
    let replace = |with: &str| {
        let script = format!(
            "{with} {KUBELET_CONFIG} > {KUBELET_CONFIG}.new && mv {KUBELET_CONFIG}.new {KUBELET_CONFIG}"
        );
        cluster.in_node(&["sh", "-c", &script]);
    };
    replace("sed '$a maxPods: 109'");
    // Told at once, so that a gate right after the write waits for the restart.
    let told = kubelet(cluster);
    assert!(!told.ready && told.because.as_ref().is_some_and(|why| why.contains(KUBELET_CONFIG)), "{told:?}");
    cluster.wait_for(&pods, |answer| answer == "109");
    replace("sed '/^maxPods: 109$/d'");
    cluster.wait_for(&pods, |answer| answer == "110");
    let ready = eventually("the kubelet", || {
        let unit = kubelet(cluster);
        if unit.ready { Ok(unit) } else { Err(format!("{unit:?}")) }
    });
    assert!(ready.last_end.is_some_and(|end| end.contains(KUBELET_CONFIG)));
    assert_eq!(others(), before, "only the kubelet was started again");
    assert_eq!(cluster.containers_started(), containers, "no container was started again");
}

/// A kubelet that hangs is told of, and forgiven when it goes on.
pub fn a_stopped_kubelet_is_noticed(cluster: &Cluster) {
    let pid = process(cluster, KUBELET);
    let restarts = kubelet(cluster).restarts;
    let becomes = |ready: bool| {
        eventually("the kubelet", || {
            let unit = kubelet(cluster);
            if unit.ready == ready { Ok(unit) } else { Err(format!("{unit:?}")) }
        })
    };
    cluster.in_node(&["kill", "-STOP", &pid]);
    let stopped = becomes(false);
    cluster.in_node(&["kill", "-CONT", &pid]);
    assert!(stopped.because.is_some_and(|because| because.contains("does not answer")));
    assert_eq!(becomes(true).restarts, restarts);
    assert_eq!(process(cluster, KUBELET), pid);
}

/// Every listener of the node has an owner, and an address of its own.
pub fn listeners_have_owners(cluster: &Cluster) {
    let list = cluster.in_node(&["kayak", "sockets", "--output=json"]);
    let sockets: Vec<SocketRow> = serde_json::from_str(&list).unwrap();
    let owners = |protocol, address: &str| {
        let found = sockets.iter().find(|s| s.protocol == protocol && s.address.to_string() == address);
        let found = found.unwrap_or_else(|| panic!("{address} is not among {list}"));
        found.processes.iter().map(|process| process.owner.clone()).collect::<Vec<_>>()
    };
    let unit = |name: &str| vec![Owner::Unit(name.into())];
    assert_eq!(owners(Protocol::Tcp, &cluster.api()), unit("agent"));
    assert_eq!(owners(Protocol::Tcp, "127.0.0.1:10248"), unit("kubelet"));
    let etcd = owners(Protocol::Tcp, "127.0.0.1:2379");
    assert!(matches!(&etcd[..], [Owner::Container { pod, .. }] if pod == "etcd-controller-0"), "{etcd:?}");
    let wide: Vec<_> = sockets.iter().filter(|socket| socket.address.ip().is_unspecified()).collect();
    assert!(wide.is_empty(), "a single node listens on no wildcard address, not for VXLAN either: {wide:?}");
    let unknown: Vec<_> = sockets
        .iter()
        .filter(|socket| socket.processes.iter().any(|process| matches!(process.owner, Owner::Cgroup(_))))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

fn kubelet(cluster: &Cluster) -> UnitStatus {
    let status: Status = serde_json::from_str(&cluster.in_node(&["kayak", "agent-status"])).unwrap();
    status.units["kubelet"].clone()
}
