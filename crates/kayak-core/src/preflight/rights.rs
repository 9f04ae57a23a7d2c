//! What kayak may do on the machine, and the programs it takes from there.

use super::{Findings, Machine};

/// What making node containers takes; those that runc gives them and that may be lacking are not
/// among them.
pub(super) const NEEDED: [&str; 15] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
];

pub(super) fn judge(machine: &Machine, found: &mut Findings) {
    if !machine.rights.root {
        found.error(
            "not-root",
            "kayak does not run as root".into(),
            "it makes containers, links and packet filter rules",
            "run it as root, for instance by `sudo`",
        );
    } else if found.known("the user namespace", &machine.rights.initial_user_namespace) == Some(&false) {
        found.error(
            "user-namespace",
            "kayak runs as root of a user namespace, not of the machine".into(),
            "such a root may not make device files, nor write to control groups that are not its own",
            "run kayak outside of it, or in a container with the machine's own root (`--privileged`)",
        );
    } else if let Some(own) = found.known("the capabilities", &machine.rights.capabilities) {
        let missing: Vec<_> = NEEDED.into_iter().filter(|name| !own.contains(*name)).collect();
        if !missing.is_empty() {
            found.error(
                "capabilities-missing",
                format!("root has no {} here", missing.join(", ")),
                "nodes cannot be made without them",
                "if this machine is itself a container, make it a privileged one",
            );
        }
    }
    if !machine.missing_programs.is_empty() {
        found.error(
            "program-missing",
            format!("there is no program {} in PATH", machine.missing_programs.join(", ")),
            "kayak starts nodes with them",
            "install them: they are in the packages util-linux and coreutils, or in busybox",
        );
    }
}
