//! What is told apart, on made-up inventories.

use super::*;

fn marks() -> Marks {
    let scratch = tempfile::tempdir().unwrap();
    let run = Utf8Path::from_path(scratch.path()).unwrap();
    let paths = Paths { state: "/s".into(), run: run.to_owned(), cache: "/c".into() };
    let unit = "/etc/systemd/system/kayak-home.service".into();
    let mut marks = Marks::of(&paths, "home", &["one".into()], vec![unit]).unwrap();
    marks.directories[1] = "/run/kayak/home".into();
    marks.lent.insert("kernel/panic".into(), "0".into());
    marks
}

fn inventory(things: &[(Kind, &str)]) -> Inventory {
    let mut all = Inventory::default();
    for (kind, name) in things {
        all.0.entry(*kind).or_default().insert((*name).to_owned());
    }
    all
}

fn names(things: &[Thing]) -> Vec<&str> {
    things.iter().map(|thing| thing.name.as_str()).collect()
}

#[test]
fn what_a_cluster_made_is_told_by_its_names() {
    let link = paths::link(&NodeId::new("home", "one"));
    let route = format!("10.244.0.0/16 dev * metric {}", paths::metric("home"));
    let address = format!("10.244.255.255/32 dev {}", api_address_label("home"));
    let made = [
        (Kind::Process, "/kayak/home/one: 7 kubelet"),
        (Kind::Address, &address),
        (Kind::Mount, "/s/home/nodes/one/root"),
        (Kind::Link, "kayak-home"),
        (Kind::Link, &link),
        (Kind::Table, "inet kayak-home"),
        (Kind::Group, "/sys/fs/cgroup/memory/kayak/home"),
        (Kind::Group, "/sys/fs/cgroup/memory/kayak/home/one"),
        (Kind::Route, &route),
        (Kind::Setting, "kernel/panic 10"),
        (Kind::File, "/s/home"),
        (Kind::File, "/run/kayak/home"),
        (Kind::File, "/etc/systemd/system/kayak-home.service"),
    ];
    let others = inventory(&[
        (Kind::Process, "/kayak/homer/one: 8 kubelet"),
        (Kind::Mount, "/s/homer"),
        (Kind::Link, "kayak-homer"),
        (Kind::Table, "inet kayak-homer"),
        (Kind::Address, "127.0.0.1/8 dev lo"),
        (Kind::Group, "/sys/fs/cgroup/memory/kayak/homer"),
        (Kind::Route, "0.0.0.0/0 dev eth0 metric 0"),
        (Kind::Setting, "vm/overcommit_memory 1"),
        (Kind::File, "/etc/systemd/system/kayak-homer.service"),
    ]);
    let nothing = Inventory::default();
    assert_eq!(inventory(&made).compare(None, &marks()).left.len(), made.len());
    assert_eq!(others.compare(None, &marks()), Comparison::default());
    let found = others.compare(Some(&nothing), &marks());
    assert!(found.left.is_empty() && found.appeared.len() == 9, "{found:?}");
}

#[test]
fn what_a_cluster_on_the_machines_network_has_there_is_told_by_names_and_routes() {
    let pod = "10.244.0.7/32 dev vethabc metric 0";
    let routes = [pod, "172.17.0.5/32 dev vethdocker metric 0", "10.244.0.0/16 dev * metric 7"];
    let marks = Marks {
        on_host: on_host(&["10.244.0.0/16".parse().unwrap()], &routes.map(str::to_owned).into()),
        ..marks()
    };
    let made = [
        (Kind::Table, "ip kube-proxy"),
        (Kind::Table, "ip6 flannel-ipv6"),
        (Kind::Link, "flannel.1"),
        (Kind::Link, "vethabc"),
        (Kind::Route, pod),
    ];
    let now = inventory(&[&made[..], &[(Kind::Link, "vethdocker"), (Kind::Table, "ip nat")]].concat());
    assert_eq!(now.compare(Some(&Inventory::default()), &marks).left.len(), made.len());
    assert_eq!(now.compare(Some(&Inventory::default()), &self::marks()).left, [], "on a bridge");
    // Another Kubernetes was here before: what is left of the same name is its.
    let before = inventory(&[(Kind::Table, "ip kube-proxy"), (Kind::Link, "flannel.1")]);
    assert_eq!(now.compare(Some(&before), &marks).left.len(), made.len() - 2);
    let gone = Inventory::default().compare(Some(&before), &marks);
    assert_eq!(names(&gone.vanished), ["flannel.1", "ip kube-proxy"]);
}

#[test]
fn what_the_owner_changed_meanwhile_is_told_apart() {
    let own = (Kind::File, "/run/kayak/home");
    let before = inventory(&[(Kind::Link, "eth0"), (Kind::File, "/opt/old"), own]);
    let after =
        inventory(&[(Kind::Link, "eth0"), (Kind::File, "/opt/new"), (Kind::Setting, "kernel/panic 0")]);
    let found = after.compare(Some(&before), &marks());
    assert!(found.left.is_empty());
    assert_eq!(names(&found.appeared), ["kernel/panic 0", "/opt/new"]);
    assert_eq!(names(&found.vanished), ["/opt/old"]);
}

#[test]
fn what_was_left_can_be_removed_by_hand() {
    let remedy = |kind, name: &str| marks().remedy(&Thing { kind, name: name.into() });
    assert_eq!(remedy(Kind::Process, "/kayak/home/one: 7 kubelet"), "kill -KILL 7");
    let address = "10.244.255.255/32 dev lo:kayak-123456";
    assert_eq!(remedy(Kind::Address, address), "ip address delete 10.244.255.255/32 dev lo");
    let address = "10.8.0.9/32 dev kayakvip-123456";
    assert_eq!(remedy(Kind::Address, address), "ip address flush label kayakvip-123456");
    assert_eq!(remedy(Kind::Setting, "kernel/panic 10"), "sysctl -w kernel.panic=0");
}

#[test]
fn an_inventory_is_kept_once_and_read_again() {
    let scratch = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(scratch.path()).unwrap();
    let paths = Paths { state: root.join("state"), run: root.join("run"), cache: root.join("cache") };
    let file = paths.cluster("home").join("before.json");
    assert_eq!(Inventory::kept(&file).unwrap(), None);
    Inventory::keep(&file, &paths).unwrap();
    let kept = Inventory::kept(&file).unwrap().unwrap();
    for (kind, name) in [
        (Kind::Link, "lo"),
        (Kind::Address, "127.0.0.1/8 dev lo"),
        (Kind::File, "/etc/passwd"),
        (Kind::Mount, "/proc"),
    ] {
        assert!(kept.has(&Thing { kind, name: name.into() }), "{name}");
    }
    disk::write(&file, b"{}").unwrap();
    Inventory::keep(&file, &paths).unwrap();
    assert_eq!(Inventory::kept(&file).unwrap(), Some(Inventory::default()));
}
