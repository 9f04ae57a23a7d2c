//! The node's processes: which sockets they hold, and what they belong to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use kayak_core::node::BINARY;
use kayak_core::sockets::Owner;
use rustix::io::Errno;

use super::SocketsError;

/// A process.
pub(super) struct Process {
    pub(super) pid: u32,
    parent: u32,
    /// Its name, as far as the kernel keeps it.
    name: String,
    command: Vec<String>,
    cgroup: String,
    /// The inodes of its sockets.
    sockets: BTreeSet<u64>,
}

impl Process {
    fn look(pid: u32) -> io::Result<Self> {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let read =
            |name: &str| fs::read(directory.join(name)).map(|b| String::from_utf8_lossy(&b).into_owned());
        let command = read("cmdline")?;
        let (name, parent) = name_and_parent(&read("stat")?).ok_or(ErrorKind::InvalidData)?;
        Ok(Self {
            pid,
            parent,
            name,
            command: command.split_terminator('\0').map(str::to_owned).collect(),
            cgroup: cgroup(&read("cgroup")?).to_owned(),
            sockets: sockets(&directory.join("fd"))?,
        })
    }

    pub(super) fn program(&self) -> &str {
        let program = self.command.first().and_then(|path| path.rsplit('/').next());
        program.filter(|name| !name.is_empty()).unwrap_or(&self.name)
    }

    fn is_agent(&self) -> bool {
        self.command == [BINARY, "agent"]
    }
}

/// All processes of the node.
pub(super) struct Processes(BTreeMap<u32, Process>);

impl Processes {
    pub(super) fn look() -> Result<Self, SocketsError> {
        let mut processes = BTreeMap::new();
        for entry in fs::read_dir("/proc").map_err(SocketsError::Processes)? {
            let name = entry.map_err(SocketsError::Processes)?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match Process::look(pid) {
                Ok(process) => drop(processes.insert(pid, process)),
                // It has ended meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
                Err(source) => return Err(SocketsError::Process { pid, source }),
            }
        }
        Ok(Self(processes))
    }

    pub(super) fn holders(&self, inode: u64) -> impl Iterator<Item = &Process> {
        self.0.values().filter(move |process| process.sockets.contains(&inode))
    }

    /// Says what the process belongs to, by its control group or by whose child it is.
    pub(super) fn owner(
        &self,
        process: &Process,
        units: &BTreeMap<u32, String>,
        containers: &BTreeMap<String, Owner>,
    ) -> Owner {
        // A container may have control groups of its own below that of the runtime.
        if let Some(owner) = process.cgroup.split('/').find_map(|part| containers.get(part)) {
            return owner.clone();
        }
        let ancestors = std::iter::successors(Some(process), |process| self.0.get(&process.parent));
        let unit = ancestors.take(self.0.len()).find_map(|process| {
            let unit = units.get(&process.pid).cloned();
            unit.or_else(|| process.is_agent().then(|| "agent".into()))
        });
        unit.map_or_else(|| Owner::Cgroup(process.cgroup.clone()), Owner::Unit)
    }
}

/// The name in parentheses may hold spaces and parentheses itself (proc_pid_stat(5)).
fn name_and_parent(stat: &str) -> Option<(String, u32)> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    Some((name.to_owned(), after.split_whitespace().nth(1)?.parse().ok()?))
}

/// Of the first version's many hierarchies, the first one listed will do: the kubelet and the runtime
/// make the same groups in all.
fn cgroup(text: &str) -> &str {
    text.lines().next().and_then(|line| line.splitn(3, ':').nth(2)).unwrap_or_default()
}

fn sockets(descriptors: &Path) -> io::Result<BTreeSet<u64>> {
    let mut inodes = BTreeSet::new();
    for entry in fs::read_dir(descriptors)? {
        let target = match fs::read_link(entry?.path()) {
            Ok(target) => target,
            // Closed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inodes.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
    }
    Ok(inodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, command: &[&str], cgroup: &str) -> (u32, Process) {
        let command = command.iter().map(|&argument| argument.to_owned()).collect();
        let (name, cgroup, sockets) = ("name".to_owned(), cgroup.to_owned(), [].into());
        (pid, Process { pid, parent, name, command, cgroup, sockets })
    }

    #[test]
    fn a_process_belongs_to_its_container_or_to_the_unit_it_descends_from() {
        let processes = Processes(BTreeMap::from([
            process(1, 0, &[BINARY, "init"], "/init"),
            process(2, 1, &[BINARY, "agent"], "/init"),
            process(3, 2, &["/usr/local/bin/kubelet"], "/init"),
            process(4, 3, &["/bin/helper"], "/init"),
            process(5, 1, &["/kube-proxy"], "/kubepods/pod1/c0ffee/inner"),
            process(6, 1, &["sh"], "/kubepods/pod1/unknown"),
        ]));
        let container = Owner::Container { namespace: "n".into(), pod: "p".into(), container: "c".into() };
        let containers = [("c0ffee".to_owned(), container.clone())].into();
        let units = [(3, "kubelet".to_owned())].into();
        let owner = |pid| processes.owner(&processes.0[&pid], &units, &containers).to_string();
        let owners: Vec<_> = (1..=6).map(owner).collect();
        let group = "control group /kubepods/pod1/unknown";
        assert_eq!(owners, ["control group /init", "agent", "kubelet", "kubelet", "n/p/c", group]);
        assert_eq!(processes.0[&3].program(), "kubelet");
    }

    #[test]
    fn names_in_the_list_of_processes_may_hold_anything() {
        let stat = "42 (a) (b c) S 7 42 42 0 -1";
        assert_eq!(name_and_parent(stat), Some(("a) (b c".to_owned(), 7)));
    }

    #[test]
    fn sockets_are_found_with_those_who_hold_them() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = super::super::waiting().unwrap();
        let found = waiting.iter().find(|socket| socket.address == address).unwrap();
        let this = Process::look(std::process::id()).unwrap();
        assert!(this.sockets.contains(&found.inode));
    }
}
