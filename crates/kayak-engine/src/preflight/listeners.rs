//! Who listens at the ports that a cluster on the machine's own network would have.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};

use camino::{Utf8DirEntry, Utf8Path};
use kayak_core::ports::{AT_ADDRESS, ON_LOOPBACK};
use kayak_core::sockets::{Owner, SocketProcess, SocketRow, TABLES, Waiting};

use super::is_root;
use crate::driver::local::paths;

/// Lists those that are not the cluster's own: it may be running.
pub(super) fn look(cluster: &str) -> io::Result<Vec<SocketRow>> {
    let wanted = |socket: &Waiting| {
        let mut ports = AT_ADDRESS.iter().chain(&ON_LOOPBACK).map(|(port, _)| *port);
        ports.any(|port| port == socket.address.port())
    };
    let sockets: Vec<_> = waiting()?.into_iter().filter(wanted).collect();
    if sockets.is_empty() {
        return Ok(Vec::new());
    }
    if !is_root() {
        return Err(io::Error::other("only root sees whose ports they are"));
    }
    let holders = holders(&sockets)?;
    // Whoever is in a node sees its own groups only; here they are below the cluster's.
    let own = format!("/{}/", paths::cluster_cgroup(cluster));
    let is_own = |process: &SocketProcess| match &process.owner {
        Owner::Cgroup(groups) => groups.contains(&own),
        Owner::Unit(_) | Owner::Container { .. } => false,
    };
    let rows = sockets.into_iter().map(|Waiting { protocol, address, inode }| SocketRow {
        protocol,
        address,
        processes: holders.get(&inode).cloned().unwrap_or_default(),
    });
    Ok(rows.filter(|row| !row.processes.iter().any(is_own)).collect())
}

fn waiting() -> io::Result<Vec<Waiting>> {
    let mut sockets = Vec::new();
    for table in TABLES {
        let text = match fs::read_to_string(table.path) {
            // A kernel without IPv6.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            read => read?,
        };
        let strange = |line| io::Error::other(format!("the line `{line}` of `{}` is none", table.path));
        sockets.extend(table.waiting(&text).map_err(strange)?);
    }
    Ok(sockets)
}

/// Finds the processes that hold sockets, by the kernel's numbers of these.
fn holders(sockets: &[Waiting]) -> io::Result<BTreeMap<u64, Vec<SocketProcess>>> {
    let mut holders: BTreeMap<u64, Vec<SocketProcess>> = BTreeMap::new();
    for entry in Utf8Path::new("/proc").read_dir_utf8()?.flatten() {
        let Ok(pid) = entry.file_name().parse() else { continue };
        // One that ends meanwhile holds none.
        let Ok(descriptors) = entry.path().join("fd").read_dir_utf8() else { continue };
        let held = descriptors.flatten().filter_map(|descriptor| socket(&descriptor));
        for inode in held.filter(|inode| sockets.iter().any(|socket| socket.inode == *inode)) {
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let (program, group) = (read("comm").trim().to_owned(), read("cgroup").trim().to_owned());
            let process = SocketProcess { pid, program, owner: Owner::Cgroup(group) };
            let known = holders.entry(inode).or_default();
            // It may hold one twice.
            if known.last() != Some(&process) {
                known.push(process);
            }
        }
    }
    Ok(holders)
}

fn socket(descriptor: &Utf8DirEntry) -> Option<u64> {
    let target = descriptor.path().read_link_utf8().ok()?;
    target.as_str().strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sockets: Vec<_> =
            waiting().unwrap().into_iter().filter(|socket| socket.address == address).collect();
        let holders = holders(&sockets).unwrap();
        let pids: Vec<_> = holders[&sockets[0].inode].iter().map(|process| process.pid).collect();
        assert_eq!(pids, [std::process::id()]);
    }
}
