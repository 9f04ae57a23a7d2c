//! What a cluster could leave on the machine, or let grow.

use std::collections::BTreeMap;
use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::process::Command;

use crate::command;
use crate::error::BenchError;
use crate::scene::Scene;

/// How many of each kind there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces(BTreeMap<&'static str, Vec<String>>);

/// What logs and etcd may take more or less of the disk from run to run, in KiB.
pub const SLACK_KIB: u64 = 32 << 10;

/// What varies while a cluster runs: pods' own, and the probes that come and go.
const VARYING: [&str; 2] = [NODE_PROCESS, GROUP];
const NODE_PROCESS: &str = "process of a node";
const GROUP: &str = "control group";

impl Traces {
    /// Looks around on the machine.
    pub async fn look(scene: &Scene) -> Result<Self, BenchError> {
        let read = |path: &str| fs::read_to_string(path).map_err(BenchError::read(path));
        let mounts = read("/proc/self/mountinfo")?;
        let mounts: Vec<_> =
            mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect();
        let mut found = BTreeMap::from([
            ("link", names("/sys/class/net".into())?),
            ("route", fields(&read("/proc/net/route")?, &[0, 1, 7])),
            ("network table", tables(scene).await?),
        ]);
        kayaks(&mut found)?;
        let mut groups = Vec::new();
        for root in mounts.iter().filter(|point| point.starts_with("/sys/fs/cgroup/")) {
            directories(&Utf8Path::new(root).join("kayak"), &mut groups);
        }
        found.insert(GROUP, groups);
        found.insert("mount", mounts);
        for directory in [&scene.state, &Utf8PathBuf::from("/run/kayak")] {
            let left = if directory.exists() { names(directory)? } else { Vec::new() };
            let left = left.into_iter().map(|name| directory.join(name).into_string());
            found.entry("file").or_default().extend(left);
        }
        for list in found.values_mut() {
            list.sort();
        }
        Ok(Self(found))
    }

    /// Returns what is here and was not there before, and what was and is not.
    pub fn beyond(&self, before: &Self) -> Vec<String> {
        let only_in = |one: &Self, other: &Self, word: &str| -> Vec<String> {
            let facts = one.0.iter().flat_map(|(kind, list)| list.iter().map(move |item| (kind, item)));
            let missing =
                facts.filter(|(kind, item)| !other.0.get(*kind).is_some_and(|list| list.contains(item)));
            missing.map(|(kind, item)| format!("{word} {kind} {item}")).collect()
        };
        let mut differences = only_in(self, before, "new:");
        differences.extend(only_in(before, self, "gone:"));
        differences
    }

    /// Returns the kinds of which there are more than before, as while a cluster runs whose names
    /// change from run to run.
    pub fn grown(&self, before: &Self) -> Vec<String> {
        let count = |traces: &Self, kind: &str| traces.0.get(kind).map_or(0, Vec::len);
        let steady = self.0.keys().filter(|kind| !VARYING.contains(kind));
        let more = steady.filter(|kind| count(self, kind) > count(before, kind));
        more.map(|kind| format!("{kind}: {}, before {}", count(self, kind), count(before, kind))).collect()
    }
}

/// How much of the disk a directory takes, in KiB.
pub async fn disk_kib(directory: &Utf8Path) -> Result<u64, BenchError> {
    let said = command::run(Command::new("du").args(["-sk", directory.as_str()])).await?;
    Ok(said.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or_default())
}

fn names(directory: &Utf8Path) -> Result<Vec<String>, BenchError> {
    let entries = directory.read_dir_utf8().map_err(BenchError::read(directory))?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_owned()).collect())
}

/// Lists all control groups at and below one.
fn directories(group: &Utf8Path, found: &mut Vec<String>) {
    if !group.is_dir() {
        return;
    }
    found.push(group.to_string());
    for entry in group.read_dir_utf8().into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            directories(entry.path(), found);
        }
    }
}

/// Takes some columns of a table, without its counters.
fn fields(table: &str, wanted: &[usize]) -> Vec<String> {
    let row = |line: &str| {
        let cells: Vec<_> = line.split_whitespace().collect();
        wanted.iter().filter_map(|&index| cells.get(index).copied()).collect::<Vec<_>>().join(" ")
    };
    table.lines().skip(1).map(row).collect()
}

/// Lists the machine's packet filters by the node image's program: the machine may have none.
async fn tables(scene: &Scene) -> Result<Vec<String>, BenchError> {
    let roots = scene.cache.join("rootfs");
    let roots = names(&roots)?.into_iter().map(|name| roots.join(name));
    let Some(root) = roots.into_iter().find(|root| root.join("usr/sbin/nft").exists()) else {
        return Err(BenchError::NotThere(scene.cache.join("rootfs")));
    };
    let said = command::run(Command::new("chroot").args([root.as_str(), "nft", "list", "tables"])).await?;
    Ok(said.lines().map(str::to_owned).collect())
}

/// Lists processes of nodes, and those of kayak itself.
fn kayaks(found: &mut BTreeMap<&'static str, Vec<String>>) -> Result<(), BenchError> {
    for pid in names("/proc".into())?.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
        // One that is gone by now has neither.
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let (group, command) = (read("cgroup"), read("cmdline"));
        let program = command.split('\0').next().unwrap_or_default();
        if group.lines().any(|line| line.contains(":/kayak/")) {
            found.entry(NODE_PROCESS).or_default().push(format!("{program} ({pid})"));
        } else if program.ends_with("/kayak") || program.ends_with("/runc") {
            found.entry("process").or_default().push(format!("{program} ({pid})"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(links: &[&str]) -> Traces {
        Traces(BTreeMap::from([("link", links.iter().map(ToString::to_string).collect())]))
    }

    #[test]
    fn both_what_came_and_what_went_are_told() {
        let (before, after) = (traces(&["lo", "eth0"]), traces(&["lo", "kayak-x"]));
        assert_eq!(after.beyond(&before), ["new: link kayak-x", "gone: link eth0"]);
        assert_eq!(after.grown(&before), Vec::<String>::new());
        assert_eq!(traces(&["a", "b", "c"]).grown(&before), ["link: 3, before 2"]);
    }

    #[test]
    fn columns_are_taken_without_the_heading() {
        assert_eq!(fields("Iface Destination Gateway\neth0 0A 0B\n", &[0, 2]), ["eth0 0B"]);
    }
}
