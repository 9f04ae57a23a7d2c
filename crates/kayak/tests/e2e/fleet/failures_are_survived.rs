//! What happens when nodes, links and processes fail, while a client writes numbered objects throughout.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::writer::{self, Writer, Written, wait_for_writes};
use super::{
    BALANCER, CONTROLLERS, Fleet, all_ready, json, leader, member, network, number, text, three_voters,
};
use crate::client::{Client, Watch};
use crate::cluster::{Cluster, eventually};
use crate::nodes_can_be_looked_into::{AGENT, CONTAINERD, KUBELET, process_on};

/// How long nothing may be written when a controller is lost.
const WRITES_RESUME: Duration = Duration::from_secs(10);
/// How long nothing may be read by another node's balancer.
pub(super) const READS_RESUME: Duration = Duration::from_secs(3);
/// How long until a lost worker's pods run elsewhere.
const PODS_MOVE: Duration = Duration::from_mins(1);
/// How long until there is another leader among controller managers or schedulers.
const NEXT_LEADER: Duration = Duration::from_secs(20);

/// How long links are down; members of etcd stand still for half of it. 60 in the long series.
pub(super) fn fault() -> Duration {
    Duration::from_secs(number("KAYAK_FAULT_SECONDS", 20))
}

/// Writes, lets something happen, and looks at what was written.
pub(super) fn writing(cluster: &Cluster, namespace: &str, happens: impl FnOnce() -> Instant) -> Written {
    let writer = Writer::start(cluster, namespace);
    wait_for_writes(cluster, namespace);
    let since = happens();
    wait_for_writes(cluster, namespace);
    let written = writer.stop(cluster);
    let gap = written.gap(since);
    eprintln!("{namespace}: nothing was written for {gap:.1?}");
    assert!(gap < WRITES_RESUME, "{namespace}: {gap:?}; {:?}", written.failures);
    written
}

pub(super) fn others(node: &str) -> Vec<&'static str> {
    CONTROLLERS.into_iter().filter(|other| *other != node).collect()
}

/// Waits until etcd has another leader, as the agent of a node says whose member is well: that needs no API.
fn another_leader(cluster: &Cluster, node: &str, old: u64) {
    let old = format!("{old:x}");
    let new =
        eventually("another leader", || match cluster.agent(node).etcd.and_then(|member| member.leader) {
            Some(leader) if leader != old => Ok(leader),
            leader => Err(format!("{leader:?}, it was {old}")),
        });
    eprintln!("etcd's leader is {new} instead of {old}");
}

/// Waits until all is as before, but for etcd's leader, as etcd's own tool says.
fn healed(cluster: &Cluster, old: u64) {
    three_voters(cluster);
    all_ready(cluster);
    assert_ne!(leader(cluster).1, old, "the fault had a leader elected");
}

pub fn a_controller_that_lost_power_is_missed_for_seconds(fleet: &Fleet) {
    let cluster = &fleet.cluster;
    three_voters(cluster);
    let (lost, old) = leader(cluster);
    let assets = cluster.assets();
    let readers = ["worker-0", others(lost)[0]];
    let readers = readers.map(|node| (node, Watch::start_on(network(cluster, node), BALANCER, &assets)));
    writing(cluster, "power", || {
        let at = Instant::now();
        cluster.lose_power(lost);
        another_leader(cluster, others(lost)[0], old);
        // Clients go on without it for a while.
        std::thread::sleep(WRITES_RESUME.saturating_sub(at.elapsed()));
        at
    });
    let seen = readers.map(|(node, watch)| (node, watch.stop()));
    for (node, seen) in &seen {
        eprintln!("by the balancer of {node}: nothing was read for {:.1?}; {:?}", seen.gap, seen.failures);
    }
    let start = Instant::now();
    cluster.kayak(&["resume"]);
    eprintln!("{lost} is back after {:.1?}", start.elapsed());
    healed(cluster, old);
    assert_eq!(cluster.kayak(&["plan"]).trim(), "nothing to do");
    for (node, seen) in &seen {
        assert!(seen.gap <= READS_RESUME, "{node}: {:?}", seen.gap);
    }
}

pub fn a_controller_that_is_cut_off_writes_nothing_and_heals(fleet: &Fleet) {
    let cluster = &fleet.cluster;
    let (lost, old) = leader(cluster);
    let client = Client::new(&cluster.assets());
    let link = machine_end(cluster, lost);
    let downs = || -> u32 {
        let file = "/sys/class/net/eth0/carrier_down_count";
        cluster.inside(lost, &["cat", file]).trim().parse().unwrap()
    };
    let before = downs();
    let at_home = network(cluster, lost);
    writing(cluster, "link", || {
        let at = Instant::now();
        set_link(&link, "down");
        another_leader(cluster, others(lost)[0], old);
        // Whoever asks there is refused, or hears nothing: the minority writes nothing.
        while at.elapsed() < fault() {
            let name = format!("split-{}", at.elapsed().as_secs());
            let patience = Duration::from_secs(5);
            let own = "127.0.0.1:6443";
            let written = at_home.run(|| writer::create(&client, own, "default", &name, patience));
            assert!(written.is_err(), "{lost} wrote {name} although it is cut off");
            std::thread::sleep(Duration::from_secs(1));
        }
        let status = cluster.agent(lost).etcd.unwrap();
        assert!(!status.healthy, "{status:?}");
        set_link(&link, "up");
        at
    });
    assert_eq!(downs(), before + 1, "the link was down");
    healed(cluster, old);
    let start = Instant::now();
    let own = "127.0.0.1:6443";
    eventually("writes by the one that was cut off", || {
        at_home.run(|| writer::create(&client, own, "default", "healed", Duration::from_secs(5)))
    });
    eprintln!("{lost} writes again {:.1?} after all were Ready", start.elapsed());
    let there = cluster.kubectl(&["get", "configmaps", "-o", "name"]);
    assert!(!there.contains("split-"), "{there}");
    cluster.kubectl(&["delete", "configmap", "healed"]);
}

/// The machine's end of a node's link: like a cable, which is pulled there.
fn machine_end(cluster: &Cluster, node: &str) -> String {
    let index = cluster.inside(node, &["cat", "/sys/class/net/eth0/iflink"]);
    let mut ends = std::fs::read_dir("/sys/class/net").unwrap().flatten();
    let end = ends.find(|end| {
        std::fs::read_to_string(end.path().join("ifindex")).is_ok_and(|own| own.trim() == index.trim())
    });
    end.expect("the node has a link").file_name().into_string().unwrap()
}

fn set_link(link: &str, state: &str) {
    crate::cluster::succeed(std::process::Command::new("ip").args(["link", "set", "dev", link, state]));
}

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: movers, namespace: default }
spec:
  replicas: 6
  selector: { matchLabels: { app: movers } }
  template:
    metadata: { labels: { app: movers } }
    spec:
      terminationGracePeriodSeconds: 0
      automountServiceAccountToken: false
      tolerations:
      - { key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5 }
      - { key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5 }
      containers:
      - { name: web, image: "e2e.local/web:docker" }
"#;

pub fn pods_of_two_lost_workers_run_elsewhere(fleet: &Fleet) {
    let cluster = &fleet.cluster;
    cluster.apply(DEPLOYMENT);
    cluster.kubectl(&["rollout", "status", "deployment/movers", "--timeout=60s"]);
    let run_on = |node: &str| {
        let pods = json(cluster, &["get", "pods", "-l", "app=movers"]);
        let runs = |pod: &&Value| {
            let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
            let ready = conditions.is_some_and(|conditions| {
                conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True")
            });
            ready
                && text(pod, "/spec/nodeName") == node
                && pod.pointer("/metadata/deletionTimestamp").is_none()
        };
        pods["items"].as_array().unwrap().iter().filter(runs).count()
    };
    let lost = ["worker-1", "worker-2"];
    assert!(lost.iter().all(|node| run_on(node) > 0), "each has some");
    writing(cluster, "workers", || {
        let at = Instant::now();
        for node in lost {
            cluster.lose_power(node);
        }
        eventually("the pods", || match run_on("worker-0") {
            6 => Ok(()),
            some => Err(format!("{some} of 6 run on the last worker")),
        });
        eprintln!("pods of two lost workers run on the third after {:.1?}", at.elapsed());
        assert!(at.elapsed() < PODS_MOVE, "it took {:?}", at.elapsed());
        at
    });
    cluster.kubectl(&["delete", "deployment", "movers"]);
    let start = Instant::now();
    cluster.up(&[]);
    eprintln!("both are back after {:.1?}", start.elapsed());
    all_ready(cluster);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod", "-l", "app=box", "--timeout=90s"]);
    assert_eq!(cluster.kayak(&["plan"]).trim(), "nothing to do");
}

pub fn units_of_a_worker_come_back_and_its_pods_run_on(fleet: &Fleet) {
    let cluster = &fleet.cluster;
    let node = "worker-1";
    let started = || {
        let selector = format!("--field-selector=spec.nodeName={node}");
        let pods = json(cluster, &["get", "pods", "--all-namespaces", &selector]);
        let state = |pod: &Value| pod.pointer("/status/containerStatuses").cloned();
        let mut ids = Vec::new();
        for container in pods["items"].as_array().unwrap().iter().filter_map(state) {
            ids.push((
                text(&container[0], "/containerID").to_owned(),
                container[0]["restartCount"].to_string(),
            ));
        }
        ids.sort_unstable();
        ids
    };
    let before = started();
    assert!(before.len() >= 3, "flannel, kube-proxy and a box: {before:?}");
    let watch = Watch::start_on(network(cluster, node), BALANCER, &cluster.assets());
    writing(cluster, "units", || {
        let at = Instant::now();
        for unit in [CONTAINERD, KUBELET, AGENT] {
            let pid = process_on(cluster, node, unit);
            cluster.inside(node, &["kill", "-KILL", &pid]);
            eventually(&format!("a new {unit}"), || {
                let new = process_on(cluster, node, unit);
                if new.is_empty() || new == pid { Err(format!("`{new}`")) } else { Ok(()) }
            });
        }
        eventually("the units", || {
            let units = cluster.agent(node).units;
            if units.values().all(|unit| unit.ready) { Ok(()) } else { Err(format!("{units:?}")) }
        });
        eprintln!("three units were killed and are back after {:.1?}", at.elapsed());
        at
    });
    let seen = watch.stop();
    eprintln!("its balancer: {} requests, not for {:.1?}; {:?}", seen.requests, seen.gap, seen.failures);
    all_ready(cluster);
    assert_eq!(started(), before, "no container was started again");
}

pub fn a_member_that_stands_still_catches_up(fleet: &Fleet) {
    let cluster = &fleet.cluster;
    let (node, old) = leader(cluster);
    let etcd = process_on(cluster, node, "etcd ");
    assert!(!etcd.is_empty());
    let index = |node: &str| member(cluster, node)["raftAppliedIndex"].as_u64().unwrap();
    writing(cluster, "stopped", || {
        let at = Instant::now();
        cluster.inside(node, &["kill", "-STOP", &etcd]);
        another_leader(cluster, others(node)[0], old);
        std::thread::sleep((fault() / 2).saturating_sub(at.elapsed()));
        let state = cluster.inside(node, &["sh", "-c", &format!("cut -d' ' -f3 /proc/{etcd}/stat")]);
        eprintln!("{node}'s etcd is in state {} after {:.1?}", state.trim(), at.elapsed());
        assert_eq!(state.trim(), "T", "it stood still throughout");
        cluster.inside(node, &["kill", "-CONT", &etcd]);
        at
    });
    let wanted = index(others(node)[0]);
    eventually("the member's log", || match index(node) {
        own if own >= wanted => Ok(()),
        own => Err(format!("{own} of {wanted}")),
    });
    healed(cluster, old);
}

pub fn the_next_leader_takes_over(fleet: &Fleet) {
    let cluster = &fleet.cluster;
    for component in ["kube-controller-manager", "kube-scheduler"] {
        let path = "jsonpath={.spec.holderIdentity}";
        let holder = || cluster.kubectl(&["-n", "kube-system", "get", "lease", component, "-o", path]);
        let old = holder();
        // NODE_UUID
        let node = CONTROLLERS.into_iter().find(|node| old.starts_with(&format!("{node}_")));
        let node = node.unwrap_or_else(|| panic!("`{old}` is no controller"));
        let pid = process_on(cluster, node, component);
        writing(cluster, component, || {
            let at = Instant::now();
            cluster.inside(node, &["kill", "-KILL", &pid]);
            let new = eventually("another holder", || match holder() {
                new if new != old && !new.is_empty() => Ok(new),
                same => Err(same),
            });
            eprintln!("{component}: {new} leads instead of {old} after {:.1?}", at.elapsed());
            assert!(at.elapsed() < NEXT_LEADER, "it took {:?}", at.elapsed());
            at
        });
        assert!(!process_on(cluster, node, component).eq(&pid), "it was killed");
    }
    // Both do their work.
    cluster.kubectl(&["create", "deployment", "placed", "--image=e2e.local/web:docker"]);
    cluster.kubectl(&["rollout", "status", "deployment/placed", "--timeout=60s"]);
    cluster.kubectl(&["delete", "deployment", "placed"]);
    for deployment in ["deployment/kube-controller-manager", "deployment/kube-scheduler"] {
        cluster.kubectl(&["-n", "kube-system", "rollout", "status", deployment, "--timeout=90s"]);
    }
}
