//! The address for clients outside: whoever has it dies, and another controller has it.

use std::cell::Cell;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::{Cluster, eventually, show};

const VIP: &str = "10.253.43.250";
const CONTROLLERS: [&str; 3] = ["controller-0", "controller-1", "controller-2"];

/// How long clients may be without an answer: a lease of 3 s, looks half a second apart, and what it takes
/// the controllers that are left to agree, and to know which of their API servers are ready.
const MISSED: Duration = Duration::from_secs(8);

pub fn the_virtual_address_moves_to_a_living_controller() {
    // No such name resolves: kayak finds another way, and clients outside use the address.
    let settings = format!("controllers: 3\napi: {{ name: api.e2e.invalid, vip: {VIP} }}\n");
    let cluster = Cluster::new("e2e-vip", 43, &settings);
    cluster.up(&[]);
    let first = holder(&cluster);
    assert_eq!(who_has_it(&cluster, &CONTROLLERS), [first.as_str()]);
    assert!(answers(&cluster), "{}", show(&ask(&cluster)));
    let status = cluster.command(&["status"]).output().unwrap();
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    let line = status.lines().find(|line| line.starts_with(VIP)).unwrap_or_default();
    assert!(line.ends_with(&first), "{status}");

    // An agent that ends in order gives it away at once, and the next one begins without it.
    let took = moves(&cluster, || kill(agent(&cluster, &first), Signal::TERM));
    eprintln!("the virtual address answers {took:.1?} after its holder's agent has ended");
    let second = holder(&cluster);
    assert_ne!(second, first);
    // One that is killed leaves it, and what comes after it goes on, or takes it away.
    kill(agent(&cluster, &second), Signal::KILL);
    eventually("one controller has the address", || {
        let (holder, there) = (holder(&cluster), who_has_it(&cluster, &CONTROLLERS));
        if there == [holder] && answers(&cluster) { Ok(()) } else { Err(format!("{there:?} have it")) }
    });

    let lost = holder(&cluster);
    let node = cluster.processes(&lost)[0];
    let took = moves(&cluster, || kill(node, Signal::KILL));
    eprintln!("the virtual address answers {took:.1?} after its holder has lost power");
    let left: Vec<_> = CONTROLLERS.into_iter().filter(|node| *node != lost).collect();
    let next = holder(&cluster);
    assert!(next != lost && who_has_it(&cluster, &left) == [next], "{lost} had it");
    cluster.kayak(&["down", "--yes"]);
}

/// Makes the address move, and returns how long it takes until an API server answers there for good.
fn moves(cluster: &Cluster, blow: impl FnOnce()) -> Duration {
    let before = holder(cluster);
    let start = Instant::now();
    blow();
    let answered = Cell::new(None);
    eventually("another controller has the address", || {
        let answers = answers(cluster);
        answered.set(if answers { answered.get().or(Some(start.elapsed())) } else { None });
        if answers && holder(cluster) != before { Ok(()) } else { Err(format!("{before} has it")) }
    });
    let took = answered.get().unwrap();
    assert!(took < MISSED, "{took:?}");
    took
}

fn kill(process: Pid, signal: Signal) {
    kill_process(process, signal).unwrap();
}

/// The agent of a node, as the machine counts.
fn agent(cluster: &Cluster, node: &str) -> Pid {
    let is_agent = |process: &Pid| {
        let path = format!("/proc/{}/cmdline", process.as_raw_nonzero());
        std::fs::read_to_string(path).is_ok_and(|command| command.split('\0').nth(1) == Some("agent"))
    };
    cluster.processes(node).into_iter().find(is_agent).expect("the agent runs")
}

/// Who holds the lease.
fn holder(cluster: &Cluster) -> String {
    let lease = ["-n", "kube-system", "get", "lease", "kayak-vip", "-o", "jsonpath={.spec.holderIdentity}"];
    cluster.wait_for(&lease, |holder| !holder.is_empty())
}

/// The nodes whose link has the address.
fn who_has_it(cluster: &Cluster, nodes: &[&str]) -> Vec<String> {
    let has_it = |node: &&&str| {
        let words = ["node", "shell", node, "--", "ip", "-oneline", "address", "show", "to", VIP];
        cluster.kayak(&words).contains(VIP)
    };
    nodes.iter().filter(has_it).map(|node| (*node).to_owned()).collect()
}

/// Asks an API server at the address, by a connection of its own.
fn ask(cluster: &Cluster) -> Output {
    let mut kubectl = Command::new(cluster.kubectl_program());
    kubectl.env("KUBECONFIG", cluster.assets().join("auth/kubeconfig"));
    kubectl.arg(format!("--server=https://{VIP}:6443"));
    kubectl.args(["--request-timeout=1s", "get", "--raw", "/api/v1/namespaces/default"]).output().unwrap()
}

fn answers(cluster: &Cluster) -> bool {
    ask(cluster).status.success()
}
