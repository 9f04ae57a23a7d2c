//! On the owner's network: a cluster that is reached through a VPN, and nowhere else.
//!
//! Three networks stand for three machines. The cluster runs on `machine`; a tunnel leads there from
//! `desktop`; `stranger` is a neighbour on another interface, who knows every address and has routes.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::cluster::{Cluster, Running, eventually, scratch, show, succeed};
use crate::image;
use crate::inventory::Inventory;
use crate::scan::{Port, answering, connects};
use crate::space::{Service, Space};
use crate::vpn::{INTERFACE, Vpn};
use crate::workloads_run::get;

/// The machine's addresses: towards the desktop, towards the stranger, and in the tunnel.
const MACHINE: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 253, 9, 1), Ipv4Addr::new(10, 253, 9, 65), Ipv4Addr::new(10, 253, 9, 129)];
const NODE: Ipv4Addr = MACHINE[2];
/// The port of a service that the owner had before, on every address.
const OWNERS: u16 = 2222;
const NODE_PORT: u16 = 30080;
const HOST_PORT: u16 = 8090;

const WEB: &str = r"
apiVersion: v1
kind: Pod
metadata: { name: web, labels: { app: web } }
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: e2e.local/web:docker
    ports: [{ containerPort: 8080, hostPort: 8090 }]
    readinessProbe: { httpGet: { path: /, port: 8080 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  type: NodePort
  clusterIP: 10.109.0.80
  selector: { app: web }
  ports: [{ port: 80, targetPort: 8080, nodePort: 30080 }]
";

const EVERYWHERE: &str = r"
apiVersion: v1
kind: Pod
metadata: { name: everywhere }
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers:
  - name: everywhere
    image: e2e.local/web:docker
    command: [httpd, -f, -p, '0.0.0.0:8099', -h, /www]
    readinessProbe: { httpGet: { path: /, port: 8099 }, periodSeconds: 1 }
";

pub fn only_the_named_interface_leads_to_it() {
    let before = Inventory::take();
    let home = Home::new();
    home.is_refused_without_the_interface();
    let server = home.vpn.serve(&home.machine, "10.253.9.1");
    let client = home.vpn.connect(&home.desktop, "10.253.9.1");
    let machine = home.traces();
    home.nobody_else_is_answered();
    home.is_refused_beside_others();

    home.cluster.up(&[]);
    let clean = home.cluster.command(&["preflight"]).output().unwrap();
    assert_eq!(clean.status.code(), Some(0), "its own listeners are in nobody's way: {}", show(&clean));
    home.cluster.kayak(&["image", "load", image::docker_archive("e2e.local/web:docker").to_str().unwrap()]);
    home.cluster.wait_for(&["get", "serviceaccount", "default", "-o", "name"], |name| !name.is_empty());
    home.cluster.apply(WEB);
    home.is_reached_through_the_tunnel();
    home.nobody_else_is_answered();
    home.an_audit_finds_what_listens_everywhere();

    home.cluster.lose_power("controller-0");
    home.cluster.up(&[]);
    home.is_reached_through_the_tunnel();
    home.nobody_else_is_answered();
    home.cluster.kayak(&["audit"]);

    // The machine is started again, and the tunnel comes later.
    home.cluster.kayak(&["stop"]);
    assert_eq!(home.traces(), machine, "a stopped cluster leaves the machine's network as it was");
    drop(server);
    let mut resume = home.starts_before_the_tunnel();
    let server = home.vpn.serve(&home.machine, "10.253.9.1");
    assert!(resume.0.wait().unwrap().success());
    home.is_reached_through_the_tunnel();
    home.nobody_else_is_answered();

    home.cluster.kayak(&["down", "--yes"]);
    assert_eq!(home.traces(), machine);
    drop((client, server));
    drop(home);
    before.assert_unchanged();
}

/// The owner's machines.
struct Home {
    machine: Space,
    desktop: Space,
    stranger: Space,
    vpn: Vpn,
    cluster: Cluster,
    _owners: Service,
}

impl Home {
    fn new() -> Self {
        let (machine, desktop, stranger) = (Space::new(), Space::new(), Space::new());
        desktop.link("e2e-lan", "10.253.9.2/26", &machine, "10.253.9.1/26");
        stranger.link("e2e-other", "10.253.9.66/26", &machine, "10.253.9.65/26");
        // What only the tunnel should lead to.
        for range in ["10.253.9.128/26", "10.209.0.0/16", "10.109.0.0/16"] {
            stranger.ip(&format!("route add {range} via 10.253.9.65"));
        }
        let settings = format!("  mode: host\n  interface: {INTERFACE}\n");
        let cluster = Cluster::new("e2e-own", 9, &settings).on(&machine);
        let owners = Service::new(&machine, OWNERS);
        Self { machine, desktop, stranger, vpn: Vpn::new(), cluster, _owners: owners }
    }

    fn is_refused_without_the_interface(&self) {
        let output = self.cluster.command(&["up", "--config", self.cluster.config()]).output().unwrap();
        let said = show(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(INTERFACE) && said.contains("`e2e-lan`, `e2e-other`"), "{said}");
    }

    /// Somebody has its ports, and something is called as what it makes.
    fn is_refused_beside_others(&self) {
        let taken = [2379, 10256].map(|port| Service::new(&self.machine, port));
        succeed(self.machine.command("nft").args(["add", "table", "ip", "kube-proxy"]));
        let output = self.cluster.command(&["up", "--config", self.cluster.config()]).output().unwrap();
        let said = show(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        for word in ["port-taken", "0.0.0.0:2379", "0.0.0.0:10256", "foreign-network", "ip kube-proxy"] {
            assert!(said.contains(word), "`{word}` is not told: {said}");
        }
        succeed(self.machine.command("nft").args(["delete", "table", "ip", "kube-proxy"]));
        drop(taken);
    }

    /// What a cluster could leave on the machine's network.
    fn traces(&self) -> String {
        let tables = succeed(self.machine.command("nft").args(["list", "tables"]));
        let links = self.machine.ip("-brief link");
        let links: Vec<_> = links.lines().filter_map(|link| link.split([' ', '@']).next()).collect();
        let settings = ["ip_forward", "conf/all/rp_filter", "conf/default/rp_filter"];
        let read = |name| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        let settings = self.machine.run(|| settings.map(read));
        format!("{tables}{links:?}\n{}{}", self.machine.ip("route"), settings.concat())
    }

    /// By every address of the machine and on every port, only what was there before the cluster
    /// answers those who do not come through the tunnel.
    fn nobody_else_is_answered(&self) {
        let owners: BTreeSet<Port> = [("tcp", OWNERS), ("udp", OWNERS)].into();
        for (neighbour, address) in
            [(&self.desktop, MACHINE[0]), (&self.stranger, MACHINE[1]), (&self.stranger, NODE)]
        {
            assert_eq!(neighbour.run(|| answering(address)), owners, "at {address}");
        }
    }

    /// Those who come through the tunnel reach all that the others must not, and the machine itself does.
    fn is_reached_through_the_tunnel(&self) {
        eventually("the API through the tunnel", || {
            let nodes = self.kubectl(&["get", "nodes"]).output().unwrap();
            if nodes.status.success() { Ok(()) } else { Err(show(&nodes)) }
        });
        self.cluster.wait_for(
            &["get", "pod", "web", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].status}"],
            |ready| ready == "True",
        );
        for port in [NODE_PORT, HOST_PORT] {
            let page = eventually("a page through the tunnel", || {
                self.desktop.run(|| get(&format!("{NODE}:{port}")))
            });
            assert!(page.contains("hello from a web server"), "{page}");
        }
        for port in [2379, 2380, 6443, 10250] {
            assert!(
                self.desktop.run(|| connects(SocketAddrV4::new(NODE, port))),
                "{port} through the tunnel"
            );
        }
        let pod = self.cluster.kubectl(&["get", "pod", "web", "-o", "jsonpath={.status.podIP}"]);
        for to in [format!("{pod}:8080"), "10.109.0.80:80".into()] {
            let to: SocketAddrV4 = to.parse().unwrap();
            assert!(self.machine.run(|| connects(to)), "{to} from the machine");
            assert!(!self.stranger.run(|| connects(to)), "{to} from a stranger");
        }
    }

    /// The cluster's kubectl on the desktop, with a kubeconfig copied there.
    fn kubectl(&self, arguments: &[&str]) -> Command {
        let copied: PathBuf = scratch().join("desktop-kubeconfig");
        std::fs::copy(self.cluster.assets().join("auth/kubeconfig"), &copied).unwrap();
        let mut command = self.desktop.command(self.cluster.kubectl_program().to_str().unwrap());
        command.args(arguments).arg("--request-timeout=5s").env("KUBECONFIG", copied);
        command
    }

    fn an_audit_finds_what_listens_everywhere(&self) {
        let listed = self.cluster.kayak(&["audit"]);
        assert!(listed.contains("kube-apiserver") && listed.contains("the node's address"), "{listed}");
        self.cluster.apply(EVERYWHERE);
        self.cluster.kubectl(&["wait", "--for=condition=ready", "pod/everywhere", "--timeout=60s"]);
        let audit = self.cluster.command(&["audit"]).output().unwrap();
        let said = show(&audit);
        assert_eq!(audit.status.code(), Some(1), "{said}");
        assert!(said.contains("default/everywhere") && said.contains("0.0.0.0:8099"), "{said}");
        self.cluster.kubectl(&["delete", "pod", "everywhere", "--now"]);
        self.cluster.kayak(&["audit"]);
    }

    /// Starts the cluster, as at boot, and waits until its node waits for the tunnel.
    fn starts_before_the_tunnel(&self) -> Running {
        let resume = Running(self.cluster.command(&["resume"]).stdout(Stdio::null()).spawn().unwrap());
        eventually("the node that lacks its address", || {
            let mut status =
                self.cluster.command(&["node", "shell", "controller-0", "--", "kayak", "agent-status"]);
            let said = show(&status.output().unwrap());
            if said.contains(&format!("No link has the address {NODE}")) { Ok(()) } else { Err(said) }
        });
        resume
    }
}
