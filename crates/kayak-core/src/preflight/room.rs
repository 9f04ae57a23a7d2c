//! Memory and disk.

use super::{Directory, Findings, Machine, Memory};
use crate::cluster::{Cluster, Node, Role};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What a cluster of one node takes before anything of the owner's runs in it.
const MEMORY: u64 = GIB;
/// What each further node takes: a controller runs the control plane, too.
const MEMORY_OF_CONTROLLER: u64 = 512 * MIB;
const MEMORY_OF_WORKER: u64 = 192 * MIB;
/// What etcd, logs and containers' own files need to begin with.
const DISK: u64 = GIB;
/// Below this the kubelet evicts pods: `evictionHard` in the node's files.
const EVICTION_BYTES: u64 = 3;
const EVICTION_INODES: u64 = 2;

pub(super) fn judge(cluster: &Cluster, machine: &Machine, found: &mut Findings) {
    if let Some(memory) = found.known("the memory", &machine.memory) {
        judge_memory(needed(cluster), memory, found);
    }
    let state = found.known("the directory of clusters", &machine.state);
    let cache = found.known("the cache", &machine.cache);
    if let Some(state) = state {
        judge_path(state, found);
        judge_state(state, found);
        judge_overlay(state, machine, found);
    }
    if let (Some(state), Some(cache)) = (state, cache)
        && state.device != cache.device
    {
        judge_path(cache, found);
        judge_overlay(cache, machine, found);
        found.warning(
            "not-hard-linked",
            format!("`{}` and `{}` are on two file systems", state.path, cache.path),
            "images are copied for each cluster, about 1 GiB each, instead of being linked at once",
            "set KAYAK_CACHE_DIR to a directory beside the clusters",
        );
    }
}

/// The memory that a cluster takes on this machine.
fn needed(cluster: &Cluster) -> u64 {
    let of = |node: &Node| match node.role {
        Role::Controller => MEMORY_OF_CONTROLLER,
        Role::Worker => MEMORY_OF_WORKER,
    };
    MEMORY + cluster.nodes.iter().skip(1).map(of).sum::<u64>()
}

fn judge_memory(needed: u64, memory: &Memory, found: &mut Findings) {
    if memory.available < needed {
        found.error(
            "memory-short",
            format!(
                "{} MiB of memory are available, of {} that the cluster takes",
                memory.available / MIB,
                needed / MIB
            ),
            "it would be short of memory before anything of yours runs in it",
            "end what is not needed, or give the machine more",
        );
    } else if memory.total < 2 * GIB {
        found.warning(
            "memory-small",
            format!("this machine has {} MiB of memory", memory.total / MIB),
            "the cluster itself takes about half of it",
            "give it 2 GiB or more",
        );
    }
    if memory.swap > 0 {
        found.warning(
            "swap-on",
            format!("{} MiB of swap are switched on", memory.swap / MIB),
            "a pod that is swapped out is slow and not killed, and what is secret may get to the disk in the clear",
            "nothing, if that is wished; `swapoff -a` otherwise",
        );
    }
}

/// The kernel parts overlay options by `,` and lower directories by `:`.
fn judge_path(directory: &Directory, found: &mut Findings) {
    let path = &directory.path;
    if path.is_relative() || path.as_str().contains([':', ',', '\\', '"']) {
        found.error(
            "path-unsuitable",
            format!("`{path}` is relative, or has one of `:`, `,`, `\\` and `\"` in it"),
            "nodes' file systems are mounted by it",
            "set KAYAK_STATE_DIR and KAYAK_CACHE_DIR to plain absolute paths",
        );
    }
}

fn judge_state(state: &Directory, found: &mut Findings) {
    let (path, kind) = (&state.path, &state.kind);
    for (option, matters) in [
        ("ro", "clusters are written there"),
        ("noexec", "the programs that nodes are made with are run from there"),
    ] {
        if state.options.contains(option) {
            found.error(
                "mounted-restricted",
                format!("the file system of `{path}` is mounted {option}"),
                matters,
                "set KAYAK_STATE_DIR to another file system, or mount this one without the option",
            );
        }
    }
    let weak: Vec<_> = ["nosuid", "nodev"].into_iter().filter(|name| state.options.contains(*name)).collect();
    if !weak.is_empty() {
        found.warning(
            "mounted-restricted",
            format!("the file system of `{path}` is mounted {}", weak.join(" and ")),
            "volumes of pods are so too: set-uid programs and device files on them do nothing",
            "nothing, if no pod needs them",
        );
    }
    if ["tmpfs", "ramfs"].contains(&kind.as_str()) {
        found.warning(
            "state-volatile",
            format!("`{path}` is on {kind}"),
            "the cluster is in memory, and gone with its keys and data when the machine restarts",
            "set KAYAK_STATE_DIR to a disk",
        );
    }
    if state.bytes.free < DISK || state.bytes.is_below(EVICTION_BYTES) {
        found.error(
            "disk-full",
            format!("{} MiB are free in `{path}`", state.bytes.free / MIB),
            "a cluster needs 1 GiB to begin with, and the kubelet evicts pods while less than 3 % are free",
            "make room, or set KAYAK_STATE_DIR to another file system",
        );
    }
    if state.inodes.is_below(EVICTION_INODES) {
        found.error(
            "inodes-used-up",
            format!("{} inodes are free in `{path}`", state.inodes.free),
            "the kubelet evicts pods while less than 2 % are free",
            "remove files that are not needed, or set KAYAK_STATE_DIR to another file system",
        );
    }
}

fn judge_overlay(directory: &Directory, machine: &Machine, found: &mut Findings) {
    let path = &directory.path;
    let tried = found.known(&format!("whether overlays can be mounted in `{path}`"), &directory.overlay);
    if let Some(Err(why)) = tried {
        let confined = &machine.rights.confined_by;
        let by = if confined.is_empty() {
            String::new()
        } else {
            format!("; this process is confined by {}", confined.join(" and "))
        };
        found.error(
            "overlay-refused",
            format!("no overlay can be mounted in `{path}`, which is on {}: {why}{by}", directory.kind),
            "nodes and pods have their file systems from it",
            "set KAYAK_STATE_DIR and KAYAK_CACHE_DIR to ext4, XFS or btrfs; in a container, to a volume",
        );
    }
}
