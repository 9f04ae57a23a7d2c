//! What the processes of a cluster use, by its control group.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use crate::error::BenchError;

/// The control group of a cluster (see the local driver's paths).
#[derive(Debug)]
pub struct Group {
    name: String,
}

/// The memory of all processes of one program.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcessMemory {
    /// The program's name.
    pub program: String,
    /// How many there are.
    pub count: usize,
    /// Their memory, with a fair share of what they share.
    pub pss_mib: f64,
    /// Their memory, each with all that it shares.
    pub rss_mib: f64,
}

impl Group {
    /// Names the group of a cluster.
    pub fn of_cluster(cluster: &str) -> Self {
        Self { name: format!("kayak/{cluster}") }
    }

    /// Sums up the memory of its processes.
    pub fn memory(&self) -> Result<Vec<ProcessMemory>, BenchError> {
        let mut programs: BTreeMap<String, ProcessMemory> = BTreeMap::new();
        for pid in processes(&self.directory("memory")?)? {
            let Some((program, [pss, rss])) = look(pid)? else { continue };
            let empty = ProcessMemory { program: program.clone(), count: 0, pss_mib: 0.0, rss_mib: 0.0 };
            let sum = programs.entry(program).or_insert(empty);
            sum.count += 1;
            sum.pss_mib += pss;
            sum.rss_mib += rss;
        }
        let mut all: Vec<_> = programs.into_values().collect();
        all.sort_by(|one, other| other.pss_mib.total_cmp(&one.pss_mib));
        Ok(all)
    }

    /// Returns how much time of processors it has used.
    pub fn cpu(&self) -> Result<Duration, BenchError> {
        let directory = self.directory("cpuacct")?;
        let first = directory.join("cpuacct.usage");
        if first.exists() {
            let text = fs::read_to_string(&first).map_err(BenchError::read(first))?;
            return Ok(Duration::from_nanos(text.trim().parse().unwrap_or_default()));
        }
        let stat = directory.join("cpu.stat");
        let text = fs::read_to_string(&stat).map_err(BenchError::read(stat))?;
        let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok());
        Ok(Duration::from_micros(micros.unwrap_or_default()))
    }

    /// Finds it in the hierarchy that has a controller.
    fn directory(&self, controller: &'static str) -> Result<Utf8PathBuf, BenchError> {
        let mounts = "/proc/self/mountinfo";
        let mounts = fs::read_to_string(mounts).map_err(BenchError::read(mounts))?;
        let root = hierarchy(&mounts, controller).ok_or(BenchError::NoHierarchy(controller))?;
        let directory = root.join(&self.name);
        if directory.is_dir() { Ok(directory) } else { Err(BenchError::NotThere(directory)) }
    }
}

/// Finds where a controller is mounted; the second version of control groups has all in one place.
fn hierarchy(mounts: &str, controller: &str) -> Option<Utf8PathBuf> {
    let find = |kind: &str, wanted: &dyn Fn(&str) -> bool| {
        mounts.lines().find_map(|line| {
            let (fields, rest) = line.split_once(" - ")?;
            let mut rest = rest.split(' ');
            let fits = rest.next()? == kind && wanted(rest.nth(1)?);
            fits.then(|| fields.split(' ').nth(4).map(Utf8PathBuf::from))?
        })
    };
    find("cgroup", &|options| options.split(',').any(|option| option == controller))
        .or_else(|| find("cgroup2", &|_| true))
}

/// Lists the processes of a group and of those below it.
fn processes(group: &Utf8Path) -> Result<Vec<u32>, BenchError> {
    let path = group.join("cgroup.procs");
    let mut pids = Vec::new();
    // A group that is gone by now has no processes; one that is threaded shows them elsewhere.
    if let Ok(text) = fs::read_to_string(&path) {
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    }
    for entry in group.read_dir_utf8().map_err(BenchError::read(group))?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            pids.extend(processes(entry.path())?);
        }
    }
    Ok(pids)
}

/// Reads name, PSS and RSS of a process, unless it is gone.
fn look(pid: u32) -> Result<Option<(String, [f64; 2])>, BenchError> {
    let read = |name: &str| {
        let path = Utf8PathBuf::from(format!("/proc/{pid}/{name}"));
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(3) => {
                Ok(None)
            }
            Err(source) => Err(BenchError::Read { path, source }),
        }
    };
    let (Some(command), Some(sums)) = (read("cmdline")?, read("smaps_rollup")?) else { return Ok(None) };
    Ok(Some((program(&command), ["Pss:", "Rss:"].map(|key| mib(&sums, key)))))
}

/// What a process is called: kayak is several things in one program.
fn program(command: &str) -> String {
    let mut words = command.split('\0');
    let name = words.next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    match words.next() {
        Some(role) if name == "kayak" => format!("{name} {role}"),
        _ => name.to_owned(),
    }
}

fn mib(sums: &str, key: &str) -> f64 {
    let line = sums.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u32>().ok());
    f64::from(kib.unwrap_or_default()) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "\
30 25 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 30 0:36 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn a_controller_is_found_in_either_version() {
        assert_eq!(hierarchy(FIRST, "cpuacct").unwrap(), "/sys/fs/cgroup/cpu");
        assert_eq!(hierarchy(FIRST, "memory").unwrap(), "/sys/fs/cgroup/memory");
        let second = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(hierarchy(second, "memory").unwrap(), "/sys/fs/cgroup");
        assert_eq!(hierarchy("", "memory"), None);
    }

    #[test]
    fn programs_are_told_by_their_names() {
        assert_eq!(program("/usr/bin/kayak\0agent\0"), "kayak agent");
        assert_eq!(program("kube-apiserver\0--bind-address=127.64.0.1\0"), "kube-apiserver");
    }

    #[test]
    fn sums_are_read() {
        let sums = "56 - 7f [rollup]\nRss:  4096 kB\nPss:  2048 kB\nPss_Anon: 1 kB\n";
        assert!((mib(sums, "Pss:") - 2.0).abs() < 1e-9);
        assert!((mib(sums, "Rss:") - 4.0).abs() < 1e-9);
    }
}
