//! A good machine with one thing broken gives one finding.

use camino::Utf8PathBuf;

use super::*;
use crate::cluster::{Images, MachineFacts};
use crate::config::{Config, Ranges};
use crate::sockets::{Owner, Protocol, SocketProcess, SocketRow};

const NOW: i64 = 1_800_000_000;

fn cluster(yaml: &str) -> Cluster {
    let images = Images::of("v1.36.3", |name| Ok::<_, ()>(name.into())).unwrap();
    let config = if yaml.is_empty() { Config::default() } else { Config::parse(yaml).unwrap() };
    let nameservers = vec!["192.0.2.53".parse().unwrap()];
    let interfaces = [("tun0".into(), vec!["10.8.0.1".parse().unwrap()])].into();
    Cluster::resolve(config, yaml, images, &MachineFacts { nameservers, interfaces, ca_bundle: None })
        .unwrap()
}

fn directory(path: &str) -> Fact<Directory> {
    Fact::Known(Directory {
        path: Utf8PathBuf::from(path),
        device: 1,
        kind: "ext4".into(),
        options: ["rw", "relatime"].map(str::to_owned).into(),
        bytes: Share { total: 100 << 30, free: 50 << 30 },
        inodes: Share { total: 1_000_000, free: 500_000 },
        overlay: Fact::Known(Ok(())),
    })
}

fn route(range: &str, interface: &str, direct: bool) -> Route {
    Route { range: range.parse().unwrap(), interface: Some(interface.into()), direct, metric: 100 }
}

fn good() -> Machine {
    Machine {
        rights: Rights {
            root: true,
            initial_user_namespace: Fact::Known(true),
            capabilities: Fact::Known(rights::NEEDED.map(str::to_owned).into()),
            confined_by: Vec::new(),
        },
        missing_programs: Vec::new(),
        kernel: Kernel {
            version: Fact::Known((6, 12)),
            features: FEATURES.map(|(name, ..)| (name.to_owned(), Fact::Known(true))).into(),
            settings_writable: true,
        },
        cgroups: Fact::Known(Cgroups {
            first_version: false,
            controllers: ["cpu", "cpuset", "io", "memory", "pids"].map(str::to_owned).into(),
            read_only: Vec::new(),
            occupied: false,
        }),
        memory: Fact::Known(Memory { total: 4 << 30, available: 3 << 30, swap: 0 }),
        limits: Limits {
            inotify_instances: Fact::Known(128),
            inotify_watches: Fact::Known(100_000),
            open_files: 1 << 20,
        },
        state: directory("/var/lib/kayak"),
        cache: directory("/root/.cache/kayak"),
        named: [].into(),
        network: Network {
            interfaces: Fact::Known(vec![Interface {
                name: "eth0".into(),
                up: true,
                mtu: 1500,
                addresses: vec!["192.0.2.2/24".parse().unwrap()],
            }]),
            routes: Fact::Known(vec![route("0.0.0.0/0", "eth0", false), route("192.0.2.0/24", "eth0", true)]),
            clusters: Vec::new(),
            forwards: Fact::Known(true),
            forwards_six: Fact::Known(true),
            filters_bridged: false,
            dropping: Fact::Known(Vec::new()),
            legacy_filter: false,
            listeners: Fact::Known(Vec::new()),
            foreign: Fact::Known([].into()),
        },
        clock: Clock {
            now: NOW,
            synchronised: Fact::Known(true),
            newest: Fact::Known(Some(("`ca.crt`".into(), NOW - 10))),
        },
        kubernetes: Vec::new(),
    }
}

fn routes(machine: &mut Machine) -> &mut Vec<Route> {
    known(&mut machine.network.routes)
}

fn known<T>(fact: &mut Fact<T>) -> &mut T {
    match fact {
        Fact::Known(value) => value,
        Fact::Unknown(why) => panic!("{why}"),
    }
}

fn neighbour(nodes: &str, pods: &str, services: &str) -> Neighbour {
    let parse = |range: &str| Ranges::from(range.parse::<ipnet::IpNet>().unwrap());
    Neighbour { name: "other".into(), nodes: parse(nodes), pods: parse(pods), services: parse(services) }
}

/// What is broken, and what is found then.
type Case = (&'static str, Severity, fn(&mut Machine));

const CASES: &[Case] = &[
    ("not-root", Severity::Error, |m| m.rights.root = false),
    ("user-namespace", Severity::Error, |m| m.rights.initial_user_namespace = Fact::Known(false)),
    ("capabilities-missing", Severity::Error, |m| {
        known(&mut m.rights.capabilities).remove("CAP_MKNOD");
    }),
    ("program-missing", Severity::Error, |m| m.missing_programs.push("nsenter".into())),
    ("kernel-old", Severity::Error, |m| m.kernel.version = Fact::Known((5, 12))),
    ("kernel-feature-missing", Severity::Error, |m| {
        m.kernel.features.insert("vxlan".into(), Fact::Known(false));
    }),
    ("proc-sys-read-only", Severity::Error, |m| m.kernel.settings_writable = false),
    ("cgroup-controllers-missing", Severity::Error, |m| {
        known(&mut m.cgroups).controllers.remove("memory");
    }),
    ("cgroups-read-only", Severity::Error, |m| known(&mut m.cgroups).read_only.push("/sys/fs/cgroup".into())),
    ("cgroups-not-delegated", Severity::Error, |m| known(&mut m.cgroups).occupied = true),
    ("cgroup-v1", Severity::Warning, |m| {
        let cgroups = known(&mut m.cgroups);
        cgroups.first_version = true;
        cgroups.controllers.extend(["cpuacct", "devices"].map(str::to_owned));
    }),
    ("inotify-low", Severity::Warning, |m| m.limits.inotify_watches = Fact::Known(100)),
    ("open-files-low", Severity::Warning, |m| m.limits.open_files = 1024),
    ("memory-short", Severity::Error, |m| known(&mut m.memory).available = 500 << 20),
    ("memory-small", Severity::Warning, |m| {
        *known(&mut m.memory) = Memory { total: 1900 << 20, available: 1500 << 20, swap: 0 };
    }),
    ("swap-on", Severity::Warning, |m| known(&mut m.memory).swap = 1 << 30),
    ("path-unsuitable", Severity::Error, |m| known(&mut m.state).path = "/mnt/a:b".into()),
    ("path-unsuitable", Severity::Error, |m| known(&mut m.state).path = "state".into()),
    ("mounted-restricted", Severity::Error, |m| {
        known(&mut m.state).options.insert("noexec".into());
    }),
    ("mounted-restricted", Severity::Warning, |m| {
        known(&mut m.state).options.insert("nosuid".into());
    }),
    ("state-volatile", Severity::Warning, |m| known(&mut m.state).kind = "tmpfs".into()),
    ("disk-full", Severity::Error, |m| known(&mut m.state).bytes.free = 2 << 30),
    ("inodes-used-up", Severity::Error, |m| known(&mut m.state).inodes.free = 19_999),
    ("overlay-refused", Severity::Error, |m| {
        known(&mut m.state).overlay = Fact::Known(Err("Invalid argument".into()));
    }),
    ("not-hard-linked", Severity::Warning, |m| known(&mut m.cache).device = 2),
    ("ranges-overlap", Severity::Error, |m| routes(m).push(route("10.254.0.0/16", "eth1", true))),
    ("ranges-overlap", Severity::Error, |m| routes(m).push(route("10.244.7.0/24", "tun0", false))),
    ("ranges-overlap", Severity::Warning, |m| routes(m).push(route("10.240.0.0/13", "tun0", false))),
    ("ranges-overlap", Severity::Error, |m| {
        m.network.clusters.push(neighbour("10.254.0.0/24", "10.1.0.0/16", "10.2.0.0/16"));
        routes(m).push(route("10.254.0.0/24", "kayak-other", true));
    }),
    ("ranges-overlap", Severity::Warning, |m| {
        m.network.clusters.push(neighbour("10.3.0.0/24", "10.244.0.0/16", "10.2.0.0/16"));
    }),
    ("mtu-small", Severity::Warning, |m| known(&mut m.network.interfaces)[0].mtu = 1280),
    ("forwarding-switched-on", Severity::Warning, |m| m.network.forwards = Fact::Known(false)),
    ("firewall-drops", Severity::Warning, |m| {
        known(&mut m.network.dropping).push("table ip filter, chain FORWARD".into());
    }),
    ("not-seen", Severity::Unknown, |m| m.network.legacy_filter = true),
    ("clock-wrong", Severity::Error, |m| m.clock.now = 0),
    ("clock-behind", Severity::Error, |m| m.clock.now = NOW - 3600),
    ("clock-not-synchronised", Severity::Warning, |m| m.clock.synchronised = Fact::Known(false)),
    ("not-seen", Severity::Unknown, |m| m.clock.synchronised = Fact::Unknown("nothing tells".into())),
    ("other-kubernetes", Severity::Warning, |m| m.kubernetes.push("/etc/rancher/k3s".into())),
];

fn told(cluster: &Cluster, machine: &Machine) -> Vec<(&'static str, Severity)> {
    findings(cluster, machine).iter().map(|finding| (finding.name, finding.severity)).collect()
}

#[test]
fn nothing_is_found_on_a_good_machine() {
    assert_eq!(findings(&cluster(""), &good()), []);
}

#[test]
fn one_broken_thing_is_one_finding() {
    for (name, severity, broken) in CASES {
        let mut machine = good();
        broken(&mut machine);
        assert_eq!(told(&cluster(""), &machine), [(*name, *severity)]);
    }
}

#[test]
fn everything_is_listed_at_once_and_the_worst_first() {
    let mut machine = good();
    machine.clock.synchronised = Fact::Unknown("nothing tells".into());
    known(&mut machine.memory).swap = 1;
    machine.missing_programs.push("unshare".into());
    let severities: Vec<_> = told(&cluster(""), &machine).into_iter().map(|(_, severity)| severity).collect();
    assert_eq!(severities, [Severity::Error, Severity::Warning, Severity::Unknown]);
}

#[test]
fn a_default_route_in_halves_takes_no_range() {
    let mut machine = good();
    for half in ["0.0.0.0/1", "128.0.0.0/1"] {
        routes(&mut machine).push(route(half, "tun0", false));
    }
    assert_eq!(told(&cluster(""), &machine), []);
}

#[test]
fn what_only_the_way_out_needs_is_not_asked_of_a_closed_cluster() {
    let mut machine = good();
    machine.network.forwards = Fact::Known(false);
    known(&mut machine.network.dropping).push("table ip filter, chain FORWARD".into());
    known(&mut machine.network.interfaces)[0].mtu = 1000;
    assert_eq!(told(&cluster("network: { egress: false }"), &machine), []);
}

#[test]
fn bridged_packets_of_several_nodes_must_pass_the_filter() {
    let mut cluster = cluster("network: { egress: false }");
    cluster.nodes.push(cluster.nodes[0].clone());
    let mut machine = good();
    machine.network.filters_bridged = true;
    known(&mut machine.network.dropping).push("table ip filter, chain FORWARD".into());
    assert_eq!(told(&cluster, &machine), [("firewall-drops", Severity::Error)]);
}

const ON_TUN0: &str = "network: { mode: host, interface: tun0 }";

fn listener(protocol: Protocol, address: &str) -> SocketRow {
    let nginx =
        SocketProcess { pid: 7, program: "nginx".into(), owner: Owner::Cgroup("/system.slice".into()) };
    SocketRow { protocol, address: address.parse().unwrap(), processes: vec![nginx] }
}

#[test]
fn a_port_that_a_cluster_on_the_machines_network_would_have_must_be_free() {
    let told = |yaml: &str, protocol, address: &str| {
        let mut machine = good();
        known(&mut machine.network.listeners).push(listener(protocol, address));
        told(&cluster(yaml), &machine)
    };
    let taken = [("port-taken", Severity::Error)];
    for address in [
        "10.8.0.1:6443",
        "0.0.0.0:10250",
        "[::]:2380",
        "[::ffff:10.8.0.1]:2379",
        "127.0.0.1:7443",
        "0.0.0.0:10259",
        "127.0.0.1:10248",
        "127.0.0.1:10249",
        "127.0.0.1:10254",
        "127.0.0.1:10256",
        "127.0.0.1:10257",
    ] {
        assert_eq!(told(ON_TUN0, Protocol::Tcp, address), taken, "{address}");
        assert_eq!(told("", Protocol::Tcp, address), [], "a bridge is the cluster's own");
    }
    for free in ["192.0.2.2:6443", "127.0.0.1:10250", "10.8.0.1:10259", "[::1]:6443", "0.0.0.0:80"] {
        assert_eq!(told(ON_TUN0, Protocol::Tcp, free), [], "{free}");
    }
    assert_eq!(told(ON_TUN0, Protocol::Udp, "0.0.0.0:6443"), []);
}

#[test]
fn what_another_kubernetes_left_is_only_in_the_way_on_the_machines_network() {
    let mut machine = good();
    let delete = "nft delete table ip kube-proxy";
    known(&mut machine.network.foreign).insert("nftables table ip kube-proxy".into(), delete.into());
    assert_eq!(told(&cluster(""), &machine), []);
    assert_eq!(told(&cluster(ON_TUN0), &machine), [("foreign-network", Severity::Error)]);
    assert!(findings(&cluster(ON_TUN0), &machine)[0].remedy.contains(delete));
}

#[test]
fn what_a_node_is_to_see_of_the_machine_must_be_there() {
    let cluster = cluster(
        "nodes: [{ name: controller-0, mounts: [{ host: /srv/a }, { host: /srv/b }], devices: [/dev/dri, /dev/kvm] }]",
    );
    let mut machine = good();
    for (path, there) in [("/srv/a", true), ("/srv/b", false), ("/dev/dri", true), ("/dev/kvm", false)] {
        machine.named.insert(path.into(), Fact::Known(there));
    }
    let found: Vec<_> = findings(&cluster, &machine).into_iter().map(|finding| finding.found).collect();
    let missing = ["nodes[0].mounts[1].host: /srv/b", "nodes[0].devices[1]: /dev/kvm"];
    assert_eq!(found, missing.map(|field| format!("`{field}` is not on this machine")));
}

#[test]
fn who_has_a_port_is_named() {
    let mut machine = good();
    let mut nobodys = listener(Protocol::Tcp, "127.0.0.1:7443");
    nobodys.processes.clear();
    known(&mut machine.network.listeners).extend([listener(Protocol::Tcp, "0.0.0.0:2379"), nobodys]);
    insta::assert_json_snapshot!(findings(&cluster(ON_TUN0), &machine));
}

#[test]
fn a_name_server_within_the_cluster_is_refused() {
    let cluster = cluster("network: { nameservers: [10.244.0.1] }");
    assert_eq!(told(&cluster, &good()), [("name-server-in-range", Severity::Error)]);
}

#[test]
fn a_finding_says_what_why_and_what_to_do() {
    let mut machine = good();
    routes(&mut machine).push(route("10.244.0.0/16", "kayak-lab", true));
    known(&mut machine.state).overlay = Fact::Known(Err("Operation not permitted".into()));
    machine.rights.confined_by.push("a seccomp filter".into());
    machine.clock.now -= 7200;
    insta::assert_json_snapshot!(findings(&cluster(""), &machine));
}
