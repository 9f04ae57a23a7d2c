//! The machine starts and stops its cluster, by a real systemd.

use std::collections::BTreeSet;

use crate::machine::Machine;

const CLUSTER: &str = "boot";
const UNIT: &str = "kayak-boot.service";
const CONFIG: &str = "name: boot\nnetwork: { egress: false }\n";

pub fn an_enabled_cluster_starts_at_boot() {
    let mut machine = Machine::new();
    let before = files(&machine);
    machine.write("/root/cluster.yaml", CONFIG);
    machine.kayak(&["up", "--config", "/root/cluster.yaml"]);
    kubectl(&machine, &["create", "configmap", "kept"]);
    assert_eq!(files(&machine), before, "a cluster changes nothing outside its directories");

    machine.kayak(&["enable"]);
    let enabled: BTreeSet<_> = files(&machine).difference(&before).map(|line| path(line)).collect();
    let unit = format!("/etc/systemd/system/{UNIT}");
    let link = format!("/etc/systemd/system/multi-user.target.wants/{UNIT}");
    assert_eq!(enabled, BTreeSet::from([unit.clone(), link]));
    machine.run(&["systemd-analyze", "verify", "--man=no", &unit]);
    assert!(machine.kayak(&["--output", "json", "enable"]).contains(r#""written":[]"#));

    machine.reboot();
    answers(&machine);
    assert_eq!(machine.run(&["systemctl", "is-active", UNIT]).trim(), "active");

    machine.run(&["systemctl", "stop", UNIT]);
    assert_eq!(left(&machine), "", "a stopped cluster has nothing of the machine");
    machine.run(&["systemctl", "start", UNIT]);
    answers(&machine);

    machine.kayak(&["disable"]);
    assert_eq!(files(&machine), before);
    machine.reboot();
    assert_eq!(left(&machine), "", "what is not enabled does not start");

    machine.kayak(&["enable"]);
    machine.kayak(&["down", "--yes"]);
    assert_eq!(files(&machine), before);
    assert_eq!(left(&machine), "");
    assert_eq!(machine.run(&["find", "/srv/kayak", "-maxdepth", "1", "-name", "state"]), "");
}

/// Asks the API without kayak, which would have to be started for it.
fn kubectl(machine: &Machine, arguments: &[&str]) -> String {
    let directory = format!("/srv/kayak/state/{CLUSTER}");
    let kubeconfig = format!("--kubeconfig={directory}/assets/auth/kubeconfig");
    machine.run(&[&[&format!("{directory}/bin/kubectl"), kubeconfig.as_str()], arguments].concat())
}

fn answers(machine: &Machine) {
    assert_eq!(kubectl(machine, &["get", "configmap", "kept", "-o", "name"]).trim(), "configmap/kept");
    let nodes = kubectl(machine, &["get", "nodes", "--no-headers"]);
    assert!(nodes.contains(" Ready "), "{nodes}");
}

/// What runs of a cluster, or is there only while it runs.
fn left(machine: &Machine) -> String {
    let processes = machine.try_run(&["pgrep", "--list-name", "kayak|kubelet|containerd|etcd"]);
    let found =
        machine.try_run(&["find", "/run/kayak", "/sys/class/net", "-maxdepth", "1", "-name", "kayak*"]);
    let groups = machine.run(&["find", "/sys/fs/cgroup", "-maxdepth", "2", "-name", "kayak"]);
    String::from_utf8([processes.stdout, found.stdout].concat()).unwrap() + &groups
}

/// The machine's files, but for what systemd itself writes while it runs.
fn files(machine: &Machine) -> BTreeSet<String> {
    let own = ["/var/log", "/var/tmp", "/var/lib/systemd", "/var/cache"];
    let mut find = vec!["find", "/etc", "/usr", "/opt", "/var", "("];
    for directory in own {
        find.extend(["-path", directory, "-o"]);
    }
    // A directory's size and times tell of files that came and went.
    find.extend(["-false", ")", "-prune", "-o", "-type", "d", "-printf", "%p %y %m\n"]);
    find.extend(["-o", "-printf", "%p %y %m %s %l\n"]);
    machine.run(&find).lines().map(str::to_owned).collect()
}

fn path(line: &str) -> String {
    line.split(' ').next().unwrap_or_default().to_owned()
}
