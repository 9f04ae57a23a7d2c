//! The kernel: version, features, control groups, memory, limits.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::plan::Fact;
use kayak_core::preflight::{Cgroups, FEATURES, Kernel, Limits, Memory};
use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::{fact, mounts, network, setting};
use crate::driver::local::oci;

pub(super) fn look() -> Kernel {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let file_systems = fs::read_to_string("/proc/filesystems");
    let features = FEATURES.map(|(name, ..)| (name.to_owned(), feature(name, &file_systems)));
    Kernel {
        version: version(&release).map_or_else(|| Fact::Unknown(format!("it is `{release}`")), Fact::Known),
        features: features.into(),
        settings_writable: !is_read_only("/proc/sys/net/ipv4/ip_forward".into()),
    }
}

fn feature(name: &str, file_systems: &io::Result<String>) -> Fact<bool> {
    if let Some(namespace) = name.strip_suffix(" namespaces") {
        return Fact::Known(Utf8Path::new("/proc/self/ns").join(namespace).exists());
    }
    match name {
        "veth" | "bridge" | "vxlan" => network::knows_link(name),
        "nf_tables" => network::knows_nftables(),
        file_system => fact(file_systems.as_ref().map(|all| {
            let mut known = all.lines().filter_map(|line| line.split('\t').nth(1));
            known.any(|known| known == file_system)
        })),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Tells whether a path lies on a mount that cannot be written. What root's rights are is another
/// question.
fn is_read_only(path: &Utf8Path) -> bool {
    access(path.as_std_path(), Access::WRITE_OK) == Err(Errno::ROFS)
}

pub(super) fn cgroups(table: &io::Result<String>) -> Fact<Cgroups> {
    fact(table.as_ref().map(|table| {
        let mut found = parse_cgroups(table);
        let unified = (!found.cgroups.first_version).then_some(found.unified).flatten();
        if let Some(root) = unified {
            let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
            let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
            found.cgroups.controllers = words(read("cgroup.controllers"));
            // The machine's own root group has no type, and processes in it are in nobody's way.
            found.cgroups.occupied = root.join("cgroup.type").exists()
                && !read("cgroup.procs").is_empty()
                && !words(read("cgroup.subtree_control")).is_superset(&found.cgroups.controllers);
            found.cgroups.read_only.push(root);
        }
        found.cgroups.read_only.retain(|point| is_read_only(point));
        found.cgroups
    }))
}

/// What the list of mounts tells of control groups.
struct Mounted {
    cgroups: Cgroups,
    /// Where the second version is.
    unified: Option<Utf8PathBuf>,
}

/// Options of mounts of the first version that name no controller.
const NO_CONTROLLERS: [&str; 12] = [
    "rw",
    "ro",
    "nosuid",
    "nodev",
    "noexec",
    "noatime",
    "nodiratime",
    "relatime",
    "xattr",
    "clone_children",
    "noprefix",
    "none",
];

fn parse_cgroups(table: &str) -> Mounted {
    let (mut controllers, mut read_only, mut unified) = (BTreeSet::new(), Vec::new(), None);
    for (point, kind, options) in mounts(table) {
        match kind.as_str() {
            "cgroup" => {
                let named = |name: &String| !NO_CONTROLLERS.contains(&name.as_str()) && !name.contains('=');
                controllers.extend(options.into_iter().filter(named));
                read_only.push(point);
            }
            "cgroup2" => unified = Some(point),
            _ => {}
        }
    }
    let cgroups = Cgroups { first_version: !controllers.is_empty(), controllers, read_only, occupied: false };
    Mounted { cgroups, unified }
}

pub(super) fn memory(table: &io::Result<String>) -> Fact<Memory> {
    let read = fs::read_to_string("/proc/meminfo").map_err(|error| error.to_string());
    let parsed =
        read.and_then(|text| parse_memory(&text).ok_or_else(|| "/proc/meminfo lacks numbers".into()));
    fact(parsed.map(|memory| {
        // Nodes' groups are made in the topmost one, whose limit is theirs, if it has one.
        let groups = table.iter().flat_map(|table| mounts(table));
        let points = groups.filter(|(_, kind, _)| kind.starts_with("cgroup")).map(|(point, ..)| point);
        let files = points.flat_map(|point| [point.join("memory.max"), point.join("memory.limit_in_bytes")]);
        let limits = files.filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
        let total = limits.fold(memory.total, u64::min);
        Memory { total, available: memory.available.min(total), ..memory }
    }))
}

fn parse_memory(text: &str) -> Option<Memory> {
    let bytes = |wanted: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(wanted))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    let swap = bytes("SwapTotal:").unwrap_or(0);
    Some(Memory { total: bytes("MemTotal:")?, available: bytes("MemAvailable:")?, swap })
}

pub(super) fn limits() -> Limits {
    let number = |name| fact(setting(name).and_then(|text| text.parse().map_err(io::Error::other)));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let own = oci::capabilities(&status, "CapBnd:");
    Limits {
        inotify_instances: number("fs/inotify/max_user_instances"),
        inotify_watches: number("fs/inotify/max_user_watches"),
        open_files: oci::open_files(&own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_its_first_two_numbers() {
        assert_eq!(version("6.12.3-rc1+deb13"), Some((6, 12)));
        assert_eq!(version("5.10"), Some((5, 10)));
        assert_eq!(version("strange"), None);
    }

    #[test]
    fn controllers_of_the_first_version_are_told_from_options() {
        let found = parse_cgroups(
            "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        assert!(found.cgroups.first_version);
        assert_eq!(found.cgroups.controllers, ["cpu", "cpuacct"].map(str::to_owned).into());
        assert_eq!(found.unified.unwrap(), "/sys/fs/cgroup/unified");
        assert!(
            !parse_cgroups("41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").cgroups.first_version
        );
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let memory = parse_memory("MemTotal:  4 kB\nMemAvailable:  3 kB\nSwapTotal: 0 kB\n").unwrap();
        assert_eq!((memory.total, memory.available, memory.swap), (4096, 3072, 0));
        assert!(parse_memory("MemTotal:  4 kB\n").is_none());
    }
}
