//! What there is on the machine, told by plain tools and the kernel's own lists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Settings of the whole machine that a cluster changes: for its way out, and by its kubelet.
const SETTINGS: [&str; 7] = [
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Mounts, links, routes, nftables tables, control groups, files and processes that kayak could leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory(BTreeSet<String>);

impl Inventory {
    /// Looks around.
    pub fn take() -> Self {
        let mut found = BTreeSet::new();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        found.extend(mounts.lines().filter_map(|l| Some(format!("mount {}", l.split(' ').nth(4)?))));
        let links = fs::read_dir("/sys/class/net").unwrap();
        found.extend(links.map(|l| format!("link {}", l.unwrap().file_name().to_string_lossy())));
        for table in ["route", "ipv6_route"] {
            let routes = fs::read_to_string(format!("/proc/net/{table}")).unwrap();
            found.extend(routes.lines().map(|l| format!("{table} {}", route(table, l))));
        }
        found.extend(lines(Command::new("nft").args(["list", "tables"])).map(|l| format!("nft {l}")));
        let mut groups = Vec::new();
        directories(Path::new("/sys/fs/cgroup"), &mut groups, 3);
        found.extend(groups.into_iter().map(|g| format!("cgroup {g}")));
        for directory in ["/etc", "/usr", "/usr/local/bin", "/opt", "/run", "/var", "/var/lib", "/run/netns"]
        {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            found.extend(entries.map(|e| format!("file {}", e.path().display())));
        }
        found.extend(SETTINGS.iter().map(|name| {
            let value = fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
            format!("setting {name} {}", value.trim())
        }));
        found.extend(processes());
        Self(found)
    }

    /// Panics if anything is there that was not, or gone that was.
    pub fn assert_unchanged(&self) {
        let now = Self::take();
        let appeared: Vec<_> = now.0.difference(&self.0).collect();
        let vanished: Vec<_> =
            self.0.difference(&now.0).filter(|fact| !fact.starts_with("process")).collect();
        assert!(
            appeared.is_empty() && vanished.is_empty(),
            "appeared: {appeared:#?}\nvanished: {vanished:#?}"
        );
    }
}

/// A route without its counters.
fn route(table: &str, line: &str) -> String {
    let fields: Vec<_> = line.split_whitespace().collect();
    match table {
        "route" => fields.iter().take(3).chain(fields.get(7)).copied().collect::<Vec<_>>().join(" "),
        _ => fields.iter().take(2).chain(fields.last()).copied().collect::<Vec<_>>().join(" "),
    }
}

/// Programs that only a cluster runs.
fn processes() -> Vec<String> {
    const PROGRAMS: [&str; 8] =
        ["kubelet", "containerd", "containerd-shim", "runc", "etcd", "hyperkube", "coredns", "flanneld"];
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let program = |e: fs::DirEntry| {
        let command = fs::read(e.path().join("cmdline")).ok()?;
        let first = String::from_utf8_lossy(command.split(|&b| b == 0).next()?).into_owned();
        let name = Path::new(&first).file_name()?.to_string_lossy().into_owned();
        PROGRAMS
            .iter()
            .any(|p| name.starts_with(p))
            .then(|| format!("process {name} {}", e.file_name().to_string_lossy()))
    };
    entries.filter_map(program).collect()
}

fn directories(path: &Path, found: &mut Vec<String>, depth: usize) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path().display().to_string());
            if depth > 0 {
                directories(&entry.path(), found, depth - 1);
            }
        }
    }
}

/// A tool's output; a machine without the tool has nothing of its kind.
fn lines(command: &mut Command) -> impl Iterator<Item = String> + use<> {
    let output =
        command.output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    output.lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
}
