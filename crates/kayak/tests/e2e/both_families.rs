//! Clusters of IPv6, and of both families: all that is reached by addresses, and nothing beyond them.
//!
//! The machine is a network that has no way out but one: a link to another network, which plays the internet
//! and tells what comes.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Cluster, eventually, succeed};
use crate::fleet::packets_reach_every_pod::{End, every_way, network_of_pod};
use crate::fleet::{json, network, text};
use crate::image;
use crate::inventory::Inventory;
use crate::space::Space;
use crate::workloads_run::get;

const NODES: [&str; 2] = ["controller-0", "worker-0"];
/// The machine's addresses towards the internet, and whom one finds there.
const MACHINE: [&str; 2] = ["192.0.2.1", "2001:db8:65::1"];
const OUTSIDE: [&str; 2] = ["198.51.100.1", "2001:db8:ffff::1"];
const PORT: u16 = 8099;
const NODE_PORT: u16 = 30065;

const SIX: &str = "
  nodes: fd00:65:1::/64
  pods: fd00:65:2::/56
  services: fd00:65:3::/112
";
const BOTH: &str = "
  nodes: [10.253.65.0/24, 'fd00:65:1::/64']
  pods: [10.165.0.0/16, 'fd00:65:2::/56']
  services: [10.166.0.0/16, 'fd00:65:3::/112']
";
const SIX_FIRST: &str = "
  nodes: ['fd00:65:1::/64', 10.253.65.0/24]
  pods: ['fd00:65:2::/56', 10.165.0.0/16]
  services: ['fd00:65:3::/112', 10.166.0.0/16]
  backend: host-gw
";

pub fn a_cluster_of_ipv6_works() {
    all_is_reached("e2e-six", SIX, &[false]);
}

pub fn a_cluster_of_both_families_works() {
    all_is_reached("e2e-both", BOTH, &[true, false]);
}

pub fn ipv6_may_be_the_primary_family() {
    all_is_reached("e2e-six-first", SIX_FIRST, &[false, true]);
}

/// `families` says of each whether it is IPv4, the primary one first.
fn all_is_reached(name: &str, ranges: &str, families: &[bool]) {
    let before = Inventory::take();
    let world = World::new();
    let settings = format!("name: {name}\nworkers: 1\nnetwork:\n  egress: true\n  nameservers: []{ranges}");
    let cluster = Cluster::written(name, &settings).on(&world.machine);
    let machine = world.traces();
    cluster.keeping_evidence(|| {
        cluster.up(&[]);
        assert!(world.hears_routers(), "the machine still learns its own way out");
        place(&cluster, families);
        for &four in families {
            packets_cross(&cluster, four);
            services_answer(&cluster, &world, four);
            world.is_reached_by_pods(&cluster, four);
            world.reaches_nothing(&cluster, four);
        }
        names_have_addresses(&cluster, families);
        the_api_is_reached(&cluster, families[0]);
        cluster.kayak(&["audit"]);
        assert_eq!(
            world.strangers(),
            (0, 0),
            "packets that left with an address, or for one, of the cluster's"
        );
        let again = cluster.kayak(&["--output", "json", "up", "--config", cluster.config()]);
        assert_eq!(again.trim(), "", "a second run has nothing to do");
    });
    cluster.kayak(&["down", "--yes"]);
    assert_eq!(world.traces(), machine, "down leaves the machine's network as it was");
    drop(world);
    before.assert_unchanged();
}

/// The machine, and what it is linked to.
pub struct World {
    pub machine: Space,
    pub internet: Space,
}

impl World {
    pub fn new() -> Self {
        let (machine, internet) = (Space::new(), Space::new());
        machine.link("e2e-wan", "192.0.2.1/24", &internet, "192.0.2.2/24");
        machine.ip("-6 address add 2001:db8:65::1/64 dev e2e-wan nodad");
        internet.ip("-6 address add 2001:db8:65::2/64 dev e2e-wan nodad");
        machine.ip("route add default via 192.0.2.2");
        machine.ip("-6 route add default via 2001:db8:65::2");
        internet.ip("address add 198.51.100.1/32 dev lo");
        internet.ip("-6 address add 2001:db8:ffff::1/128 dev lo");
        // Whoever is out there knows the way to everything of the cluster's.
        for range in ["10.253.65.0/24", "10.165.0.0/16", "10.166.0.0/16"] {
            internet.ip(&format!("route add {range} via 192.0.2.1"));
        }
        internet.ip("-6 route add fd00:65::/32 via 2001:db8:65::1");
        let own = [("ip", "10.253.65.0/24, 10.165.0.0/16, 10.166.0.0/16"), ("ip6", "fd00:65::/32")];
        let mut rules = String::from(
            "add table inet seen; add counter inet seen from; add counter inet seen to; \
             add chain inet seen arriving { type filter hook prerouting priority raw; }; ",
        );
        for (family, ranges) in own {
            for (end, counter) in [("saddr", "from"), ("daddr", "to")] {
                let rule = format!("{family} {end} {{ {ranges} }} counter name {counter}");
                let _ = write!(rules, "add rule inet seen arriving {rule}; ");
            }
        }
        succeed(internet.command("nft").arg(rules));
        // A link has its own address only when it is sure that nobody else has.
        for space in [&machine, &internet] {
            eventually("addresses that are sure", || match space.ip("-6 address show tentative") {
                none if none.is_empty() => Ok(()),
                some => Err(some),
            });
        }
        Self { machine, internet }
    }

    /// What a cluster could leave on the machine's network.
    fn traces(&self) -> String {
        let rules = succeed(self.machine.command("nft").args(["--stateless", "list", "ruleset"]));
        let settings =
            succeed(self.machine.command("sysctl").args(["--all", "--pattern", "^net\\.ipv[46]\\."]));
        let (links, routes) = (self.machine.ip("-brief link"), self.machine.ip("route show table all"));
        // Neighbours are remembered for a while.
        format!("{rules}{links}{routes}{}{settings}", self.machine.ip("-6 route show table all"))
    }

    /// Whether the link to the internet takes a router's word, as it did before the machine forwarded.
    fn hears_routers(&self) -> bool {
        let setting = |name: &str| {
            let path = format!("/proc/sys/net/ipv6/conf/{name}");
            self.machine.run(|| std::fs::read_to_string(path).unwrap())
        };
        setting("all/forwarding") == "1\n" && setting("e2e-wan/accept_ra") == "2\n"
    }

    /// Packets with a source, and with a destination, of the cluster's that have come to the internet.
    fn strangers(&self) -> (u64, u64) {
        let count = |name: &str| {
            let told = succeed(
                self.internet.command("nft").args(["--json", "list", "counter", "inet", "seen", name]),
            );
            let told: Value = serde_json::from_str(&told).unwrap();
            told["nftables"][1]["counter"]["packets"].as_u64().unwrap()
        };
        (count("from"), count("to"))
    }

    /// From a pod of each node; who is asked sees the machine's address.
    fn is_reached_by_pods(&self, cluster: &Cluster, four: bool) {
        let to = SocketAddr::new(OUTSIDE[usize::from(!four)].parse().unwrap(), PORT);
        let listener = self.internet.run(|| TcpListener::bind(to).unwrap());
        for node in NODES {
            let url = format!("http://{to}/");
            let asked = std::thread::scope(|scope| {
                let answering = scope.spawn(|| answer(&listener));
                let page = in_box(cluster, node, &["timeout", "5", "wget", "-q", "-O", "-", &url]);
                assert_eq!(page, "the internet", "{url} from a pod on {node}");
                answering.join().unwrap()
            });
            assert_eq!(asked, MACHINE[usize::from(!four)].parse::<IpAddr>().unwrap(), "from a pod on {node}");
        }
    }

    /// Nobody out there begins a connection to the cluster, and no pod reaches what is not there.
    fn reaches_nothing(&self, cluster: &Cluster, four: bool) {
        let before = self.strangers().1;
        let refused = |to: &str| {
            let to: SocketAddr = to.parse().unwrap();
            self.internet.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(500)).is_err())
        };
        let (node, pod) =
            (address(cluster, "node", NODES[0], four), address(cluster, "pod", "box-worker-0", four));
        for to in [SocketAddr::new(node, 6443), SocketAddr::new(node, NODE_PORT), SocketAddr::new(pod, 8080)]
        {
            assert!(refused(&to.to_string()), "{to} from the internet");
        }
        for nowhere in
            if four { ["10.165.250.9", "10.166.250.9"] } else { ["fd00:65:2:77::9", "fd00:65:3::fff0"] }
        {
            let url = format!("http://{}/", SocketAddr::new(nowhere.parse().unwrap(), 80));
            let box_pod = ["exec", "box-worker-0", "--", "timeout", "2", "wget", "-q", "-O", "-", &url];
            assert!(!cluster.try_kubectl(&box_pod).status.success(), "{url}");
        }
        assert_eq!(self.strangers().1, before, "what is for the cluster's own addresses stays");
    }
}

/// Takes one connection, says who one is, and returns who came.
fn answer(listener: &TcpListener) -> IpAddr {
    let (mut stream, from) = listener.accept().unwrap();
    let _ = stream.read(&mut [0; 1024]).unwrap();
    stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 12\r\n\r\nthe internet").unwrap();
    from.ip()
}

/// A pod with a web server on each node, and a service of all families, which nodes answer at too.
fn place(cluster: &Cluster, families: &[bool]) {
    let archive = image::docker_archive("e2e.local/web:docker");
    cluster.kayak(&["image", "load", archive.to_str().unwrap()]);
    cluster.wait_for(&["get", "serviceaccount", "default", "-o", "name"], |name| !name.is_empty());
    let policy = if families.len() > 1 { "RequireDualStack" } else { "SingleStack" };
    let mut manifest = String::new();
    for (index, node) in NODES.into_iter().enumerate() {
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
  automountServiceAccountToken: true
  tolerations: [{{ operator: Exists }}]
  containers:
  - {{ name: box, image: 'e2e.local/web:docker', ports: [{{ containerPort: 8080 }}] }}
---
apiVersion: v1
kind: Service
metadata: {{ name: box-{node}, namespace: default }}
spec:
  type: NodePort
  ipFamilyPolicy: {policy}
  selector: {{ box: {node} }}
  ports: [{{ port: 80, targetPort: 8080, nodePort: {} }}]
",
            usize::from(NODE_PORT) + index
        );
    }
    cluster.apply(&manifest);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod", "-l", "app=box", "--timeout=90s"]);
}

/// Runs a command in the pod on a node.
fn in_box(cluster: &Cluster, node: &str, command: &[&str]) -> String {
    cluster.kubectl(&[&["exec", &format!("box-{node}"), "--"], command].concat())
}

/// The address of one family that a node, pod or service has.
fn address(cluster: &Cluster, kind: &str, name: &str, four: bool) -> IpAddr {
    let object = json(cluster, &["get", kind, name]);
    let (list, key) = match kind {
        "node" => ("/status/addresses", "/address"),
        "pod" => ("/status/podIPs", "/ip"),
        _ => ("/spec/clusterIPs", ""),
    };
    let all = object.pointer(list).and_then(Value::as_array).unwrap();
    let mut all = all.iter().filter_map(|one| text(one, key).parse::<IpAddr>().ok());
    all.find(|address| address.is_ipv4() == four).unwrap_or_else(|| panic!("{kind} {name}: {object:#}"))
}

/// Between pods of two nodes, by TCP and UDP, and between pods and nodes.
fn packets_cross(cluster: &Cluster, four: bool) {
    let pod = |node: &str| {
        let name = format!("box-{node}");
        let uid = text(&json(cluster, &["get", "pod", &name]), "/metadata/uid").to_owned();
        End { address: address(cluster, "pod", &name, four), network: network_of_pod(&uid), name }
    };
    let host = |node: &str| End {
        name: node.to_owned(),
        network: network(cluster, node),
        address: address(cluster, "node", node, four),
    };
    every_way(&NODES.map(pod), &NODES.map(host), 4 << 20);
}

/// Each service by its address from every pod, and by its port of every node from the machine.
fn services_answer(cluster: &Cluster, world: &World, four: bool) {
    for (index, service) in NODES.into_iter().enumerate() {
        let at = SocketAddr::new(address(cluster, "service", &format!("box-{service}"), four), 80);
        for node in NODES {
            let url = format!("http://{at}/");
            let page = in_box(cluster, node, &["timeout", "5", "wget", "-q", "-O", "-", &url]);
            assert!(page.contains("hello"), "{url} from {node}: {page}");
            let port = NODE_PORT + u16::try_from(index).unwrap();
            let at = SocketAddr::new(address(cluster, "node", node, four), port);
            let page = eventually("the NodePort", || world.machine.run(|| get(&at.to_string())));
            assert!(page.contains("hello"), "{at}: {page}");
        }
    }
}

/// A service has a record of each of its families and no other; so has the API.
fn names_have_addresses(cluster: &Cluster, families: &[bool]) {
    for node in NODES {
        for name in NODES.map(|node| format!("box-{node}")) {
            let full = format!("{name}.default.svc.cluster.local");
            for (kind, four) in [("A", true), ("AAAA", false)] {
                let kind = format!("-type={kind}");
                let asked = ["exec", &format!("box-{node}"), "--", "nslookup", &kind, &full];
                let said = String::from_utf8(cluster.try_kubectl(&asked).stdout).unwrap();
                // The first address is the server's.
                let told = said.split("Name:").nth(1).unwrap_or_default();
                if families.contains(&four) {
                    let address = address(cluster, "service", &name, four);
                    assert!(told.contains(&address.to_string()), "{kind} {full} on {node}: {said}");
                } else {
                    assert!(!told.contains("Address"), "{kind} {full} on {node}: {said}");
                }
            }
            let page =
                in_box(cluster, node, &["timeout", "5", "wget", "-q", "-O", "-", &format!("http://{full}/")]);
            assert!(page.contains("hello"), "{full} on {node}: {page}");
        }
    }
}

/// Pods reach the API by its service, which is of the primary family; so do clients outside.
fn the_api_is_reached(cluster: &Cluster, four: bool) {
    let service = address(cluster, "service", "kubernetes", four);
    let slice = json(cluster, &["get", "endpointslice", "kubernetes"]);
    assert_eq!(text(&slice, "/addressType"), if four { "IPv4" } else { "IPv6" });
    for node in NODES {
        let connects =
            network_of_pod(text(&json(cluster, &["get", "pod", &format!("box-{node}")]), "/metadata/uid"))
                .run(|| TcpStream::connect_timeout(&SocketAddr::new(service, 443), Duration::from_secs(5)));
        assert!(connects.is_ok(), "the API from a pod on {node}: {connects:?}");
    }
    let etcd = cluster.inside("controller-0", &["cat", "/etc/kubernetes/manifests/etcd.yaml"]);
    let peer = SocketAddr::new(address(cluster, "node", "controller-0", four), 2380);
    assert!(etcd.contains(&format!("--listen-peer-urls=https://{peer}")), "{etcd}");
}
