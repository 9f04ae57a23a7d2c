//! What the kernel must be able to do: features, control groups, limits.

use std::collections::BTreeSet;

use super::{Cgroups, Findings, Limits, Machine};

/// What the kernel must have: its name, the option that it is built by, and what needs it.
pub const FEATURES: [(&str, &str, &str); 14] = [
    ("veth", "CONFIG_VETH", "nodes and pods have such links"),
    ("bridge", "CONFIG_BRIDGE", "nodes are linked by one"),
    ("vxlan", "CONFIG_VXLAN", "the pod network between nodes is made of it"),
    ("nf_tables", "CONFIG_NF_TABLES", "services, and the rules around the cluster, are made of it"),
    ("tmpfs", "CONFIG_TMPFS", "nodes keep what need not last there, and pods their Secrets"),
    ("proc", "CONFIG_PROC_FS", "nodes have one"),
    ("sysfs", "CONFIG_SYSFS", "nodes have one"),
    ("devpts", "CONFIG_UNIX98_PTYS", "nodes have one"),
    ("mqueue", "CONFIG_POSIX_MQUEUE", "nodes have one"),
    ("pid namespaces", "CONFIG_PID_NS", "nodes and pods have their own"),
    ("ipc namespaces", "CONFIG_IPC_NS", "nodes and pods have their own"),
    ("uts namespaces", "CONFIG_UTS_NS", "nodes and pods have their own"),
    ("net namespaces", "CONFIG_NET_NS", "nodes and pods have their own"),
    ("cgroup namespaces", "CONFIG_CGROUPS", "nodes and pods have their own"),
];

/// The oldest kernel that kube-proxy takes in nftables mode (`pkg/proxy/nftables/supported.go`).
const OLDEST: (u32, u32) = (5, 13);

/// What the kubelet insists on, and runc.
const CONTROLLERS_V1: [&str; 6] = ["cpu", "cpuacct", "cpuset", "devices", "memory", "pids"];
const CONTROLLERS_V2: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// Below these, upstream's components are known to run out.
const INOTIFY_INSTANCES: u64 = 128;
const INOTIFY_WATCHES: u64 = 8192;
const OPEN_FILES: u64 = 16_384;

pub(super) fn judge(machine: &Machine, found: &mut Findings) {
    let kernel = &machine.kernel;
    if let Some(&(major, minor)) = found.known("the kernel's version", &kernel.version)
        && (major, minor) < OLDEST
    {
        found.error(
            "kernel-old",
            format!("the kernel is {major}.{minor}"),
            "kube-proxy makes services with nftables, and refuses to on kernels before 5.13",
            "start a newer kernel",
        );
    }
    for (name, option, purpose) in FEATURES {
        let Some(fact) = kernel.features.get(name) else { continue };
        if found.known(&format!("the kernel's feature {name}"), fact) == Some(&false) {
            found.error(
                "kernel-feature-missing",
                format!("the kernel has no {name}"),
                purpose,
                format!("load its module if there is one, or start a kernel built with {option}"),
            );
        }
    }
    if !kernel.settings_writable {
        found.error(
            "proc-sys-read-only",
            "settings below /proc/sys cannot be written".into(),
            "nodes forward packets, which is such a setting",
            "if this machine is itself a container, make it a privileged one",
        );
    }
    if let Some(cgroups) = found.known("the control groups", &machine.cgroups) {
        judge_cgroups(cgroups, found);
    }
    judge_limits(&machine.limits, found);
}

fn judge_cgroups(cgroups: &Cgroups, found: &mut Findings) {
    let needed: &[&str] = if cgroups.first_version { &CONTROLLERS_V1 } else { &CONTROLLERS_V2 };
    let missing: BTreeSet<_> = needed.iter().filter(|name| !cgroups.controllers.contains(**name)).collect();
    if !missing.is_empty() {
        let missing = missing.into_iter().copied().collect::<Vec<_>>().join(", ");
        found.error(
            "cgroup-controllers-missing",
            format!("no control groups are mounted with the controllers {missing}"),
            "the kubelet does not start without them",
            "boot with them (`cgroup_enable=memory` on some boards), and mount /sys/fs/cgroup",
        );
    }
    if !cgroups.read_only.is_empty() {
        let points = cgroups.read_only.iter().map(|path| path.as_str()).collect::<Vec<_>>().join(", ");
        found.error(
            "cgroups-read-only",
            format!("control groups cannot be made below {points}"),
            "every node and every pod has its own",
            "mount them writable; if this machine is itself a container, make it a privileged one",
        );
    }
    if cgroups.occupied {
        found.error(
            "cgroups-not-delegated",
            "processes lie in the topmost control group that is seen here".into(),
            "the kernel gives its children no controllers then, so that nodes cannot be limited or counted",
            "move them into a child, and write the controllers to cgroup.subtree_control",
        );
    }
    if cgroups.first_version {
        found.warning(
            "cgroup-v1",
            "this machine has the first version of control groups".into(),
            "it works, but upstream no longer adds to it, and will remove it",
            "boot with `systemd.unified_cgroup_hierarchy=1`, or what stands for it here",
        );
    }
}

fn judge_limits(limits: &Limits, found: &mut Findings) {
    for (fact, least, name) in [
        (&limits.inotify_instances, INOTIFY_INSTANCES, "fs.inotify.max_user_instances"),
        (&limits.inotify_watches, INOTIFY_WATCHES, "fs.inotify.max_user_watches"),
    ] {
        if let Some(&value) = found.known(name, fact)
            && value < least
        {
            found.warning(
                "inotify-low",
                format!("{name} is {value}"),
                "agent, containerd, kubelet and the control plane watch files, and share this with all of root's processes",
                format!("`sysctl {name}={least}`, or more"),
            );
        }
    }
    if limits.open_files < OPEN_FILES {
        found.warning(
            "open-files-low",
            format!("a process may open at most {} files", limits.open_files),
            "etcd and the API server have one open for each client",
            format!("raise it for kayak: `ulimit -n {OPEN_FILES}`, or more"),
        );
    }
}
