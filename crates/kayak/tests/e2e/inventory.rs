//! What there is on the machine, told by plain tools: `inventory.sh`, which shares nothing with kayak.

use std::collections::BTreeSet;
use std::process::Command;

use kayak_engine::dirs::Dirs;

use crate::cluster::{Cluster, kayak, scratch, show, succeed};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/inventory.sh");

/// Mounts, links, routes, rules, files, namespaces, control groups, settings and processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory(String);

impl Inventory {
    /// Looks around.
    pub fn take() -> Self {
        let mut script = Command::new("sh");
        script.arg(SCRIPT).arg(Dirs::from_env().cache).arg(scratch());
        Self(succeed(&mut script))
    }

    /// Panics if anything is there that was not, or gone that was.
    pub fn assert_unchanged(&self) {
        let now = Self::take();
        if now == *self {
            return;
        }
        let (before, now) = (self.lines(), now.lines());
        let appeared: Vec<_> = now.difference(&before).collect();
        let vanished: Vec<_> = before.difference(&now).collect();
        panic!("appeared: {appeared:#?}\nvanished: {vanished:#?}");
    }

    fn lines(&self) -> BTreeSet<String> {
        let mut section = "";
        let mut lines = BTreeSet::new();
        for line in self.0.lines() {
            match line.strip_prefix("== ") {
                Some(name) => section = name,
                None => drop(lines.insert(format!("{section}: {line}"))),
            }
        }
        lines
    }
}

/// What somebody else has, in the test below.
const STRANGER: &str = "/run/e2e-somebody-else";

/// Removes what a killed run of the test below has left, which `down` would name at every later one.
pub fn remove_leftovers() {
    // Neither is there as a rule.
    let _ = std::fs::remove_file(STRANGER);
    let _ = Command::new("ip").args(["route", "flush", "type", "blackhole", "198.51.100.0/24"]).output();
}

/// What a cluster made and `down` does not find is an error that says how to get rid of it; what
/// somebody else changed is none.
pub fn down_names_what_is_left() {
    let cluster = Cluster::new("e2e-left", 4, "");
    let before = Inventory::take();
    cluster.up(&["--until", "nodes"]);
    let seen = Inventory::take().lines();
    for (section, word) in [
        ("ip link", "kayak-e2e-left"),
        ("ip -4 route show table all", "10.204.0.0/16"),
        ("nft", "table inet kayak-e2e-left"),
        ("control groups", "kayak/e2e-left"),
        ("processes", "kubelet"),
        ("files", "/run/kayak/e2e-left"),
    ] {
        let listed = seen.iter().any(|line| line.starts_with(section) && line.contains(word));
        assert!(listed, "the script does not list `{word}` under `{section}`");
    }

    // Nothing that is done wrong leaves anything, so this is by hand: a route at the cluster's
    // metric, but of a kind that it does not make; and a file of somebody else's.
    let routes = succeed(Command::new("ip").args(["route", "show", "type", "unreachable"]));
    let route = routes.lines().find(|line| line.contains("10.204.0.0/16")).unwrap();
    let metric = route.split_once("metric ").unwrap().1.split(' ').next().unwrap();
    succeed(Command::new("ip").args(["route", "add", "blackhole", "198.51.100.0/24", "metric", metric]));
    std::fs::write(STRANGER, "").unwrap();

    let output = cluster.command(&["-v", "down", "--yes"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}", show(&output));
    let remedy = format!("ip route delete 198.51.100.0/24 metric {metric}");
    assert!(said.contains(&format!("`{remedy}`")), "{said}");
    assert!(said.contains(&format!("none of its: file {STRANGER}")), "{said}");
    succeed(Command::new("sh").args(["-c", &remedy]));
    std::fs::remove_file(STRANGER).unwrap();
    succeed(&mut kayak(&["--cluster", "e2e-left", "down", "--yes"]));
    before.assert_unchanged();
}
