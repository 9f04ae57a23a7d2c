//! kayak is killed in the middle, and whoever comes next goes on, or cleans up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Cluster, Running, eventually, show, succeed};
use crate::inventory::Inventory;

/// Where an `up` is cut off: the name of an event, and what its phase or step begins with.
type Point = (&'static str, &'static str);

/// Before and after every write, in the order in which one `up` after the other gets there.
const POINTS: [Point; 16] = [
    ("step-started", "prepare the nodes' network"),
    ("step-started", "create node"),
    ("step-done", "create node"),
    ("step-started", "write"),
    ("step-done", "write"),
    ("step-started", "start node"),
    ("step-done", "start node"),
    ("step-started", "place the temporary"),
    ("step-done", "place the temporary"),
    ("step-started", "apply"),
    ("step-done", "apply"),
    ("phase-started", "self-hosted"),
    ("step-started", "remove the temporary controller manager"),
    ("step-done", "remove the temporary controller manager"),
    ("step-started", "remove the temporary control plane"),
    ("step-done", "remove the temporary control plane"),
];

pub fn an_up_cut_off_anywhere_ends_as_if_it_had_not_been() {
    let cluster = Cluster::new("e2e-cut", 3, "");
    cluster.up(&[]);
    let undisturbed = Outcome::of(&cluster);
    let objects = objects(&cluster);
    // With the same keys, everything has to be the same again.
    let keys = crate::cluster::scratch().join("e2e-cut-assets");
    let _ = fs::remove_dir_all(&keys);
    copy(&cluster.assets(), &keys);
    cluster.kayak(&["down", "--yes"]);
    fs::create_dir_all(cluster.assets().parent().unwrap()).unwrap();
    copy(&keys, &cluster.assets());

    for point in POINTS {
        cut_off(&cluster, point);
    }
    cluster.up(&[]);
    Outcome::of(&cluster).assert_same(&undisturbed);
    eventually("the same objects", || {
        let now = self::objects(&cluster);
        let differing: Vec<_> = now.symmetric_difference(&objects).cloned().collect();
        if differing.is_empty() { Ok(()) } else { Err(differing.join(", ")) }
    });
    assert_eq!(cluster.up(&["--output", "json"]).trim(), "", "nothing is left to do");
    cluster.kayak(&["down", "--yes"]);
}

/// Several cuts of `up`, each followed by a cut of `down` that is a little later than the last.
pub fn up_and_down_cut_off_leave_nothing() {
    let cluster = Cluster::new("e2e-cut", 3, "");
    let before = Inventory::take();
    let run = Path::new("/run/kayak");
    let bridge = Path::new("/sys/class/net/kayak-e2e-cut");
    let (lock, files) = (run.join("e2e-cut.lock"), run.join("e2e-cut/nodes/controller-0"));
    let (runs, state) = (run.join("e2e-cut"), cluster.assets());
    let cuts: [(Point, &dyn Fn() -> bool); 5] = [
        (("step-started", "prepare the nodes' network"), &|| lock.exists()),
        (("step-started", "start node"), &|| !files.exists()),
        (("step-done", "start node"), &|| !bridge.exists()),
        (("step-done", "place the temporary"), &|| !runs.exists()),
        (("step-started", "apply"), &|| !state.exists()),
    ];
    for (point, reached) in cuts {
        cut_off(&cluster, point);
        let mut down = Running(cluster.command(&["down", "--yes"]).spawn().unwrap());
        while !reached() && down.0.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(down); // SIGKILL
        cluster.kayak(&["down", "--yes"]);
        before.assert_unchanged();
    }
}

/// One kayak works on a cluster, wherever its state is; the others are told which.
pub fn a_second_run_is_refused_and_told_who_is_first() {
    let cluster = Cluster::new("e2e-cut", 3, "");
    let (up, _) = up_until(&cluster, ("phase-started", "temporary"));
    let elsewhere = crate::cluster::scratch().join("elsewhere");
    for state in [None, Some(&elsewhere)] {
        let mut second = cluster.command(&["down", "--yes"]);
        second.envs(state.map(|state| ("KAYAK_STATE_DIR", state)));
        let output = second.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{}", show(&output));
        for word in [&format!("process {}, `kayak", up.0.id()), " up ", "nothing was changed"] {
            assert!(said.contains(word), "does not say `{word}`: {said}");
        }
    }
    drop(up); // SIGKILL
    let mut other = cluster.command(&["up", "--config", cluster.config()]);
    let output = other.env("KAYAK_STATE_DIR", &elsewhere).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}", show(&output));
    let own = cluster.assets().ancestors().nth(2).unwrap().display().to_string();
    assert!(said.contains(&format!("KAYAK_STATE_DIR={own}")), "{said}");
    assert!(!elsewhere.exists());
    // The lock of the dead is free, and its cluster is still this state directory's.
    cluster.kayak(&["down", "--yes"]);
}

/// Runs `up` and kills it at a point.
fn cut_off(cluster: &Cluster, point: Point) {
    let (up, reached) = up_until(cluster, point);
    drop(up); // SIGKILL
    assert!(reached, "no `up` came to {point:?}");
}

/// Starts `up` and waits until it tells of a point, or ends.
fn up_until(cluster: &Cluster, (event, about): Point) -> (Running, bool) {
    let mut command = cluster.command(&["--output", "json", "up", "--config", cluster.config()]);
    let mut up = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let told = BufReader::new(up.0.stdout.take().unwrap());
    let reached = told.lines().any(|line| {
        let told: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let subject = told["step"].as_str().or(told["phase"].as_str()).unwrap_or_default();
        told["event"] == event && subject.starts_with(about)
    });
    (up, reached)
}

/// What a run has made, as bytes: keys and certificates, and the node's files.
struct Outcome {
    files: BTreeMap<String, Vec<u8>>,
}

impl Outcome {
    fn of(cluster: &Cluster) -> Self {
        let mut files = BTreeMap::new();
        let state = cluster.assets().parent().unwrap().to_owned();
        for directory in ["assets", "nodes/controller-0/etc-kubernetes"] {
            collect(&state, &state.join(directory), &mut files);
        }
        Self { files }
    }

    /// Contents are secret: only names are told.
    fn assert_same(&self, other: &Self) {
        let all: BTreeSet<_> = self.files.keys().chain(other.files.keys()).collect();
        let differ = |path: &&&String| self.files.get(**path) != other.files.get(**path);
        let differing: Vec<_> = all.iter().filter(differ).collect();
        assert!(differing.is_empty(), "these differ: {differing:#?}");
    }
}

fn collect(root: &Path, path: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    let name = path.strip_prefix(root).unwrap().display().to_string();
    if path.is_symlink() {
        files.insert(name, fs::read_link(path).unwrap().into_os_string().into_encoded_bytes());
    } else if path.is_dir() {
        fs::read_dir(path).unwrap().flatten().for_each(|entry| collect(root, &entry.path(), files));
    } else {
        files.insert(name, fs::read(path).unwrap());
    }
}

/// All objects but those whose names are made up, or that only say who is alive.
fn objects(cluster: &Cluster) -> BTreeSet<String> {
    const OTHERS: [&str; 6] =
        ["pods", "events", "endpointslices", "certificatesigningrequests", "leases", "componentstatuses"];
    let kinds = cluster.kubectl(&["api-resources", "--verbs=list", "--output=name"]);
    let named = |kind: &&str| !OTHERS.contains(&kind.split('.').next().unwrap());
    let kinds: Vec<_> = kinds.lines().filter(named).collect();
    let columns = "--output=custom-columns=:.kind,:.metadata.namespace,:.metadata.name";
    let list = cluster.kubectl(&["get", &kinds.join(","), "--all-namespaces", "--no-headers", columns]);
    list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn copy(from: &Path, to: &Path) {
    succeed(std::process::Command::new("cp").arg("-a").arg(from).arg(to));
}
