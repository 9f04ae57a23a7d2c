//! Pods' packets between nodes.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::comes_up_and_grows::names_found_on;
use super::{Fleet, json, nodes, place_boxes, text};
use crate::cluster::{Cluster, eventually};
use crate::nodes_can_be_looked_into::{KUBELET, process_on};
use crate::space::Network;
use crate::workloads_run::get;

/// How long one transfer may stand still.
const PATIENCE: Duration = Duration::from_secs(10);
pub(super) const MEGABYTE: usize = 1 << 20;

/// A network with an address in it: a pod's, or a node's.
pub struct End {
    pub name: String,
    pub network: Network,
    pub address: IpAddr,
}

pub fn packets_reach_every_pod(fleet: &Fleet) {
    let cluster = &fleet.cluster;
    let (pods, hosts) = (pods(cluster, &nodes()), hosts(cluster, &nodes()));
    assert_eq!(link_mtu(cluster) - 50, pod_mtu(cluster, "worker-0"), "room for VXLAN's headers");
    let start = Instant::now();
    every_way(&pods, &hosts, 50 * MEGABYTE);
    eprintln!("50 MB between any two of {} pods: {:.1?}", pods.len(), start.elapsed());
    services_answer(cluster, &hosts);
    restarts_end_no_connection(cluster, &pods);
    every_way(&self::pods(cluster, &nodes()), &hosts, MEGABYTE);
    services_answer(cluster, &hosts);
}

/// The same in short where packets are not wrapped.
pub fn packets_go_by_routes_with_host_gw() {
    let settings = "  backend: host-gw\ncontrollers: 1\nworkers: 1\n";
    let cluster = Cluster::new("e2e-gw", 51, settings);
    cluster.up(&[]);
    let nodes = ["controller-0", "worker-0"];
    place_boxes(&cluster, &nodes);
    let (pods, hosts) = (pods(&cluster, &nodes), hosts(&cluster, &nodes));
    assert_eq!(link_mtu(&cluster), pod_mtu(&cluster, "worker-0"), "nothing is wrapped");
    let routes = cluster.inside("worker-0", &["ip", "route"]);
    let by = format!("via {} ", hosts[0].address);
    assert!(routes.lines().any(|route| route.starts_with("10.251.") && route.contains(&by)), "{routes}");
    every_way(&pods, &hosts, 50 * MEGABYTE);
    assert_eq!(names_found_on(&cluster, &nodes), Vec::<String>::new());
    restarts_end_no_connection(&cluster, &pods);
    every_way(&pods, &hosts, MEGABYTE);
    assert_eq!(names_found_on(&cluster, &nodes), Vec::<String>::new());
    drop((pods, hosts));
    cluster.kayak(&["down", "--yes"]);
}

/// The pods of these nodes.
pub(super) fn pods(cluster: &Cluster, nodes: &[&str]) -> Vec<End> {
    let pod = |node: &&str| {
        let name = format!("box-{node}");
        let pod = json(cluster, &["get", "pod", &name]);
        let network = network_of_pod(text(&pod, "/metadata/uid"));
        End { name, network, address: text(&pod, "/status/podIP").parse().unwrap() }
    };
    nodes.iter().map(pod).collect()
}

/// The nodes themselves.
pub(super) fn hosts(cluster: &Cluster, nodes: &[&str]) -> Vec<End> {
    let host = |node: &&str| {
        let found = json(cluster, &["get", "node", node]);
        let address = text(&found, "/status/addresses/0/address").parse().unwrap();
        End { name: (*node).to_owned(), network: super::network(cluster, node), address }
    };
    nodes.iter().map(host).collect()
}

/// A pod's network, by any of its processes: they are known by their control group.
pub fn network_of_pod(uid: &str) -> Network {
    let group = format!("/pod{uid}/");
    let mut processes = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let groups = std::fs::read_to_string(entry.path().join("cgroup")).ok()?;
        groups.contains(&group).then(|| entry.file_name().into_string().unwrap())
    });
    Network::of(processes.next().expect("the pod runs"))
}

/// From every pod to every other, by TCP and UDP; from every node to every pod, and back.
pub fn every_way(pods: &[End], hosts: &[End], bytes: usize) {
    for from in pods {
        for to in pods.iter().filter(|to| to.name != from.name) {
            transfer(from, to, bytes);
            exchange_packets(from, to);
        }
        for host in hosts {
            transfer(host, from, MEGABYTE / 16);
            transfer(from, host, MEGABYTE / 16);
        }
    }
}

/// Sends so many bytes, and compares what comes.
fn transfer(from: &End, to: &End, bytes: usize) {
    let way = format!("from {} to {}", from.name, to.name);
    let listener = to.network.run(|| TcpListener::bind((to.address, 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let mut stream = connect(&from.network, address).unwrap_or_else(|why| panic!("{way}: {why}"));
    let (mut received, peer) = listener.accept().unwrap();
    assert!(
        peer.ip() == from.address || to.name.starts_with("box") != from.name.starts_with("box"),
        "{way}: {peer}"
    );
    received.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let block: Vec<u8> = (0..MEGABYTE / 16).map(|n| u8::try_from(n % 251).unwrap()).collect();
    std::thread::scope(|scope| {
        let all = scope.spawn(|| {
            let (mut sum, mut count, mut buffer) = (Sha256::new(), 0, vec![0; MEGABYTE]);
            loop {
                match received.read(&mut buffer).unwrap_or_else(|why| panic!("{way}, at {count}: {why}")) {
                    0 => return (sum.finalize(), count),
                    length => {
                        sum.update(&buffer[..length]);
                        count += length;
                    }
                }
            }
        });
        let mut sum = Sha256::new();
        for _ in 0..bytes / block.len() {
            stream.write_all(&block).unwrap_or_else(|why| panic!("{way}: {why}"));
            sum.update(&block);
        }
        drop(stream);
        assert_eq!(all.join().unwrap(), (sum.finalize(), bytes), "{way}");
    });
}

fn connect(network: &Network, address: SocketAddr) -> std::io::Result<TcpStream> {
    network.run(|| TcpStream::connect_timeout(&address, PATIENCE))
}

/// Sends a small packet, and one that has to be cut to pieces; both come back.
fn exchange_packets(from: &End, to: &End) {
    let there = to.network.run(|| UdpSocket::bind((to.address, 0)).unwrap());
    let here = from.network.run(|| UdpSocket::bind((from.address, 0)).unwrap());
    for socket in [&there, &here] {
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    }
    let mut buffer = vec![0; 8192];
    for size in [64, 4000] {
        // A packet may be lost, as UDP's may; three would not be.
        let came = (0..3).any(|_| {
            here.send_to(&vec![7; size], there.local_addr().unwrap()).unwrap();
            let Ok((length, peer)) = there.recv_from(&mut buffer) else { return false };
            there.send_to(&buffer[..length], peer).unwrap();
            here.recv_from(&mut buffer).is_ok_and(|(length, _)| length == size)
        });
        assert!(came, "{size} bytes from {} to {} and back", from.name, to.name);
    }
}

/// By name from every pod, its own service among them; by address from every node.
fn services_answer(cluster: &Cluster, hosts: &[End]) {
    assert_eq!(names_found_on(cluster, &nodes()), Vec::<String>::new());
    let services = json(cluster, &["get", "services"]);
    for service in services["items"].as_array().unwrap() {
        let (name, address) = (text(service, "/metadata/name"), text(service, "/spec/clusterIP"));
        for host in hosts.iter().filter(|_| name.starts_with("box-")) {
            let page = host.network.run(|| get(&format!("{address}:80")));
            assert!(page.is_ok_and(|page| page.contains("hello")), "{name} from {}", host.name);
        }
    }
}

/// flannel's pod and the kubelet of a node come back while a connection of a pod there goes on.
fn restarts_end_no_connection(cluster: &Cluster, pods: &[End]) {
    let [.., from, to] = pods else { unreachable!("there are two nodes") };
    let node = to.name.trim_start_matches("box-");
    let listener = to.network.run(|| TcpListener::bind((to.address, 0)).unwrap());
    let mut stream = connect(&from.network, listener.local_addr().unwrap()).unwrap();
    let (mut received, _) = listener.accept().unwrap();
    received.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut ping = || {
        stream.write_all(b"ping").unwrap();
        received.read_exact(&mut [0; 4]).unwrap();
    };
    ping();
    let selector = format!("--field-selector=spec.nodeName={node}");
    let flannel = ["-n", "kube-system", "get", "pods", "-l", "app.kubernetes.io/name=flannel", &selector];
    let name = |list: &str| list.lines().next().unwrap_or_default().to_owned();
    let old = name(&cluster.kubectl(&[&flannel[..], &["-o", "name"]].concat()));
    assert!(!old.is_empty());
    cluster.kubectl(&["-n", "kube-system", "delete", &old, "--now"]);
    let kubelet = process_on(cluster, node, KUBELET);
    cluster.inside(node, &["kill", "-KILL", &kubelet]);
    eventually("a new kubelet", || {
        let new = process_on(cluster, node, KUBELET);
        if new.is_empty() || new == kubelet { Err(format!("`{new}`")) } else { Ok(()) }
    });
    ping();
    cluster.kubectl(&["-n", "kube-system", "rollout", "status", "daemonset/flannel", "--timeout=60s"]);
    super::all_ready(cluster);
    ping();
    let new = name(&cluster.kubectl(&[&flannel[..], &["-o", "name"]].concat()));
    assert_ne!(new, old, "flannel's pod is another one");
}

fn link_mtu(cluster: &Cluster) -> u32 {
    cluster.inside("worker-0", &["cat", "/sys/class/net/eth0/mtu"]).trim().parse().unwrap()
}

fn pod_mtu(cluster: &Cluster, node: &str) -> u32 {
    let pod = format!("box-{node}");
    cluster.kubectl(&["exec", &pod, "--", "cat", "/sys/class/net/eth0/mtu"]).trim().parse().unwrap()
}
