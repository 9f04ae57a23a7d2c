//! What keeps a cluster from running on a machine is told at once, and before anything is touched.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::cluster::{Cluster, kayak, scratch, show};
use crate::inventory::Inventory;

/// Makes a bad machine, in namespaces of its own: the pods' range is taken, what is in `$1` is on
/// tmpfs and has a key from tomorrow in it. Afterwards lists what is in `$1`.
const BAD_MACHINE: &str = r#"
    busybox ip link set lo up && busybox ip route add 10.207.4.0/24 dev lo || exit 99
    mount -t tmpfs none "$1" && mkdir -p "$1/e2e-bad/assets/tls" || exit 99
    touch -d "$2" "$1/e2e-bad/assets/tls/some.key" || exit 99
    state=$1 programs=$3; shift 3
    PATH=$programs "$@"
    code=$?
    find "$state" -type f >&2
    exit "$code""#;

/// Runs kayak on the bad machine, with only some programs to be found.
fn on_bad_machine(arguments: &[&str]) -> Output {
    let inner = kayak(arguments);
    let state = scratch().join("bad-state");
    fs::create_dir_all(&state).unwrap();
    let tomorrow = SystemTime::now() + Duration::from_hours(24);
    let seconds = tomorrow.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c", BAD_MACHINE, "sh"]).arg(&state).arg(format!("@{seconds}"));
    command.arg(some_programs()).arg(inner.get_program()).args(inner.get_args());
    command.env("KAYAK_STATE_DIR", &state).output().unwrap()
}

/// A directory with all that kayak runs but one.
fn some_programs() -> PathBuf {
    let directory = scratch().join("programs");
    fs::create_dir_all(&directory).unwrap();
    for name in ["chroot", "mount", "sh", "unshare"] {
        let program = directory.join(name);
        if !program.exists() {
            std::os::unix::fs::symlink("/bin/busybox", program).unwrap();
        }
    }
    directory
}

pub fn preflight_lists_everything_and_touches_nothing() {
    let before = Inventory::take();
    let cluster = Cluster::new("e2e-bad", 7, "");
    let config = ["--config", cluster.config()];
    let errors = ["ranges-overlap", "clock-behind", "program-missing"];

    let refused = on_bad_machine(&[&["up"], config.as_slice()].concat());
    assert_eq!(refused.status.code(), Some(2), "{}", show(&refused));
    let said = String::from_utf8_lossy(&refused.stderr);
    for name in errors {
        assert!(said.contains(&format!("error {name}: ")), "`{name}` is not told: {said}");
    }
    assert!(said.contains("warning state-volatile: ") && said.contains("nothing was changed"), "{said}");
    let files: Vec<_> = said.lines().filter(|line| line.starts_with('/')).collect();
    assert_eq!(files.len(), 1, "something was written: {said}");

    // What is ignored is told all the same, before what is not.
    let ignoring =
        on_bad_machine(&[&["up", "--ignore-preflight", "clock-behind"], config.as_slice()].concat());
    assert_eq!(ignoring.status.code(), Some(2), "{}", show(&ignoring));
    let said = String::from_utf8_lossy(&ignoring.stderr);
    let [ignored, refusal] =
        ["error clock-behind: ", "cannot run on this machine"].map(|text| said.find(text));
    assert!(ignored.is_some() && ignored < refusal, "{said}");

    let listed = on_bad_machine(&[&["preflight", "--output", "json"], config.as_slice()].concat());
    assert_eq!(listed.status.code(), Some(1), "{}", show(&listed));
    let list: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
    let names: Vec<_> = list
        .iter()
        .filter(|finding| finding["severity"] == "error")
        .filter_map(|f| f["name"].as_str())
        .collect();
    assert!(errors.iter().all(|name| names.contains(name)), "{names:?}");
    assert_eq!(names.len(), errors.len(), "{}", show(&listed));
    before.assert_unchanged();
}

pub fn root_of_a_user_namespace() {
    let in_namespace = |flags: &[&str], arguments: &[&str]| {
        let inner = kayak(arguments);
        let mut command = Command::new("unshare");
        command.arg("--user").args(flags).arg(inner.get_program()).args(inner.get_args());
        command.env("KAYAK_STATE_DIR", scratch().join("no-state")).output().unwrap()
    };
    let nobody = in_namespace(&[], &["up"]);
    assert_eq!(nobody.status.code(), Some(2), "{}", show(&nobody));
    assert!(show(&nobody).contains("only root"), "{}", show(&nobody));
    let listed = in_namespace(&[], &["preflight"]);
    assert_eq!(listed.status.code(), Some(1), "{}", show(&listed));
    assert!(show(&listed).contains("error not-root: "), "{}", show(&listed));
    let root = in_namespace(&["--map-root-user"], &["up"]);
    assert_eq!(root.status.code(), Some(2), "{}", show(&root));
    assert!(show(&root).contains("error user-namespace: "), "{}", show(&root));
    assert!(!scratch().join("no-state").exists());
}
