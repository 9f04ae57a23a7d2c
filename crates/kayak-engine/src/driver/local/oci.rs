//! What runc is told of a container: the OCI runtime configuration.

use camino::Utf8Path;
use serde_json::{Value, json};

use super::error::LocalError;

/// Where programs are looked for in a node.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The kernel's names of capabilities, by their numbers.
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container has of its own, beside a network.
const NAMESPACES: [&str; 5] = ["pid", "ipc", "uts", "mount", "cgroup"];

/// Raises the soft limit of open files as far as this machine lets it.
const OPEN_FILES: u64 = 1 << 20;

/// What decides, on this machine, how a container must be made.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// The capabilities that exist here: asking for another fails.
    pub(crate) capabilities: Vec<&'static str>,
    /// How many files a process may open at most.
    pub(crate) open_files: u64,
    /// Those of [`OPTIONAL`] that are here.
    pub(crate) optional: Vec<&'static str>,
}

/// What a node is shown if the machine has it, and whether it may write to it: the kernel's log,
/// which the kubelet watches for victims of the memory killer, and modules, so that `modprobe` in a
/// privileged pod works.
const OPTIONAL: [(&str, bool); 2] = [("/dev/kmsg", true), ("/lib/modules", false)];

impl Host {
    /// Looks at this machine.
    pub(crate) fn look() -> Result<Self, LocalError> {
        let path = Utf8Path::new("/proc/self/status");
        let status = std::fs::read_to_string(path).map_err(LocalError::read(path))?;
        let capabilities = capabilities(&status, "CapBnd:");
        let open_files = open_files(&capabilities);
        let optional = OPTIONAL.iter().map(|(path, _)| *path);
        Ok(Self {
            capabilities,
            open_files,
            optional: optional.filter(|path| Utf8Path::new(path).exists()).collect(),
        })
    }
}

/// Returns how many files a process may open that has these capabilities.
pub(crate) fn open_files(capabilities: &[&str]) -> u64 {
    match rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum {
        // Only who has this capability may go beyond the hard limit.
        Some(limit) if !capabilities.contains(&"CAP_SYS_RESOURCE") => limit.min(OPEN_FILES),
        _ => OPEN_FILES,
    }
}

/// Reads a set of capabilities from a process's status, such as `CapBnd:`.
pub(crate) fn capabilities(status: &str, set: &str) -> Vec<&'static str> {
    let set = status.lines().find_map(|line| line.strip_prefix(set));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or_default();
    let numbered = CAPABILITIES.iter().enumerate();
    numbered.filter(|(number, _)| set & 1 << number != 0).map(|(_, name)| *name).collect()
}

/// A container that may do nearly everything within its namespaces.
#[derive(Debug, Clone)]
pub(crate) struct Container<'a> {
    /// Its root, an overlay that is mounted before.
    pub(crate) root: &'a Utf8Path,
    /// Its host name.
    pub(crate) host_name: &'a str,
    /// Its first process.
    pub(crate) command: &'a [String],
    /// Its control group, below every hierarchy's root.
    pub(crate) cgroup: &'a str,
    /// Whether it has a network of its own; else it is on that of whoever makes it.
    pub(crate) own_network: bool,
    /// How many bytes of memory it may use.
    pub(crate) memory_limit: Option<u64>,
    /// What it sees of the machine: there, here, writable.
    pub(crate) binds: Vec<(String, String, bool)>,
}

/// Says how a container is to be made on a machine.
pub(crate) fn config(container: &Container<'_>, host: &Host) -> Value {
    let capabilities = &host.capabilities;
    let namespaces = NAMESPACES.into_iter().chain(container.own_network.then_some("network"));
    json!({
        "ociVersion": "1.2.0",
        "hostname": container.host_name,
        "root": { "path": container.root, "readonly": false },
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "cwd": "/",
            "args": container.command,
            "env": [format!("PATH={PATH}"), "HOME=/root"],
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "rlimits": [
                { "type": "RLIMIT_NOFILE", "soft": host.open_files, "hard": host.open_files },
            ],
            "noNewPrivileges": false,
            // No oomScoreAdj: to lower it takes CAP_SYS_RESOURCE, and it is inherited as it is.
        },
        "mounts": mounts(container, host),
        "linux": {
            "cgroupsPath": format!("/{}", container.cgroup),
            "namespaces": namespaces.map(|kind| json!({ "type": kind })).collect::<Vec<_>>(),
            "resources": {
                "devices": [{ "allow": true, "access": "rwm" }],
                "memory": container.memory_limit.map(|limit| json!({ "limit": limit })),
            },
            // What pods mount with propagation must reach the kubelet and other pods.
            "rootfsPropagation": "shared",
            // The kubelet sets kernel parameters and containerd hides these paths from pods itself.
            "maskedPaths": [],
            "readonlyPaths": [],
        },
    })
}

fn mounts(container: &Container<'_>, host: &Host) -> Vec<Value> {
    let special = |kind: &str, point: &str, options: &[&str]| json!({ "type": kind, "source": kind, "destination": point, "options": options });
    let bind = |from: &str, to: &str, writable| {
        let access = if writable { "rw" } else { "ro" };
        json!({ "type": "bind", "source": from, "destination": to, "options": ["rbind", "rshared", access] })
    };
    let mut mounts = vec![
        special("proc", "/proc", &[]),
        special("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        special(
            "devpts",
            "/dev/pts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        special("tmpfs", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777"]),
        special("mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
        special("sysfs", "/sys", &["nosuid", "noexec", "nodev", "rw"]),
        special("cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "rw"]),
        special("tmpfs", "/run", &["rshared", "nosuid", "nodev", "mode=755"]),
        special("tmpfs", "/tmp", &["rshared", "nosuid", "nodev", "mode=1777"]),
    ];
    mounts.extend(
        OPTIONAL
            .iter()
            .filter(|(path, _)| host.optional.contains(path))
            .map(|(path, writable)| bind(path, path, *writable)),
    );
    mounts.extend(container.binds.iter().map(|(from, to, writable)| bind(from, to, *writable)));
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_by_numbers() {
        let all_but_resource = capabilities("CapEff:\t0\nCapBnd:\t000001fffeffffff\n", "CapBnd:");
        assert_eq!(all_but_resource.len(), 40);
        assert!(!all_but_resource.contains(&"CAP_SYS_RESOURCE"));
        assert_eq!(capabilities("CapBnd:\t0000000000200001", "CapBnd:"), ["CAP_CHOWN", "CAP_SYS_ADMIN"]);
    }

    #[test]
    fn a_node_on_a_restricted_machine() {
        let host = Host {
            capabilities: vec!["CAP_CHOWN", "CAP_SYS_ADMIN"],
            open_files: 4096,
            optional: vec!["/dev/kmsg"],
        };
        let container = Container {
            root: "/run/kayak/home/nodes/one/root".into(),
            host_name: "one",
            command: &["/usr/bin/kayak".into(), "init".into()],
            cgroup: "kayak/home/one",
            own_network: true,
            memory_limit: Some(2 << 30),
            binds: vec![
                ("/var/lib/kayak/home/nodes/one/var".into(), "/var".into(), true),
                ("/srv/music".into(), "/srv/music".into(), false),
            ],
        };
        insta::assert_json_snapshot!(config(&container, &host));
    }
}
