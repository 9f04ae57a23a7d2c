//! Control groups: which processes are in one, ending them, removing what is left.
//!
//! A node's control group is how its processes are found whatever else was lost. Only directories
//! below [`super::paths::CGROUP`] are touched, never the machine's own set-up of the hierarchies.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::{Instant, sleep};

use super::disk;
use super::error::LocalError;

/// How long a killed process may take to be gone.
const KILL: Duration = Duration::from_secs(10);

/// The hierarchies that the machine has mounted: one on cgroup v2, one per controller on v1, and
/// both kinds on a hybrid.
#[derive(Debug, Clone)]
pub(crate) struct Hierarchies {
    roots: Vec<Utf8PathBuf>,
}

impl Hierarchies {
    /// Finds the machine's hierarchies.
    pub(crate) fn find() -> Result<Self, LocalError> {
        let path = Utf8Path::new("/proc/self/mountinfo");
        Ok(Self::parse(&fs::read_to_string(path).map_err(LocalError::read(path))?))
    }

    fn parse(mounts: &str) -> Self {
        // See proc_pid_mountinfo(5): the fifth field is the mount point, the first one after a
        // lone dash the type.
        let root = |line: &str| {
            let (fields, rest) = line.split_once(" - ")?;
            let kind = rest.split(' ').next()?;
            let point = fields.split(' ').nth(4)?;
            matches!(kind, "cgroup" | "cgroup2").then(|| point.into())
        };
        Self { roots: mounts.lines().filter_map(root).collect() }
    }

    /// Returns where they are mounted.
    pub(crate) fn roots(&self) -> &[Utf8PathBuf] {
        &self.roots
    }

    /// Lists the control groups right below `group` in any hierarchy.
    pub(crate) fn children(&self, group: &str) -> Result<Vec<String>, LocalError> {
        let mut children = Vec::new();
        for directory in self.directories(group) {
            children.extend(
                subdirectories(&directory)?.iter().filter_map(|child| child.file_name()).map(str::to_owned),
            );
        }
        children.sort();
        children.dedup();
        Ok(children)
    }

    /// Kills every process in a group and below, and waits until they are gone.
    pub(crate) async fn kill(&self, group: &str) -> Result<(), LocalError> {
        let deadline = Instant::now() + KILL;
        loop {
            let pids = self.processes(group)?;
            if pids.is_empty() {
                return Ok(());
            }
            for &pid in &pids {
                let Some(process) = Process::open(pid)? else { continue };
                // The number may be another process's by now.
                if self.processes(group)?.contains(&pid) {
                    process.signal(Signal::KILL)?;
                    if !process.gone_by(deadline).await? {
                        return Err(LocalError::Survivors { group: group.to_owned(), pids });
                    }
                }
            }
        }
    }

    fn processes(&self, group: &str) -> Result<Vec<u32>, LocalError> {
        let mut pids = Vec::new();
        for directory in self.directories(group) {
            collect_processes(&directory, &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Removes an empty group and those below it from every hierarchy.
    pub(crate) async fn remove(&self, group: &str) -> Result<(), LocalError> {
        for directory in self.directories(group) {
            let mut groups = vec![directory];
            let mut next = 0;
            while next < groups.len() {
                groups.extend(subdirectories(&groups[next])?);
                next += 1;
            }
            for group in groups.iter().rev() {
                remove_directory(group).await?;
            }
        }
        Ok(())
    }

    /// Removes a group that nothing is below any more.
    pub(crate) fn remove_if_empty(&self, group: &str) -> Result<(), LocalError> {
        for directory in self.directories(group).filter(|directory| directory.exists()) {
            if subdirectories(&directory)?.is_empty() {
                let removed = disk::present(fs::remove_dir(&directory));
                removed.map_err(|source| LocalError::Remove { path: directory, source })?;
            }
        }
        Ok(())
    }

    fn directories(&self, group: &str) -> impl Iterator<Item = Utf8PathBuf> {
        self.roots.iter().map(move |root| root.join(group))
    }
}

async fn remove_directory(group: &Utf8Path) -> Result<(), LocalError> {
    let deadline = Instant::now() + KILL;
    loop {
        match fs::remove_dir(group) {
            // The kernel takes a dead process out of its group a moment after telling of its death,
            // and says nothing when it has.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) && Instant::now() < deadline => {
                sleep(Duration::from_millis(5)).await;
            }
            removed => {
                let failed = |source| LocalError::Remove { path: group.to_owned(), source };
                return disk::present(removed).map(drop).map_err(failed);
            }
        }
    }
}

fn subdirectories(group: &Utf8Path) -> Result<Vec<Utf8PathBuf>, LocalError> {
    let paths = disk::names(group)?.into_iter().map(|name| group.join(name));
    Ok(paths.filter(|path| path.is_dir()).collect())
}

fn collect_processes(group: &Utf8Path, pids: &mut Vec<u32>) -> Result<(), LocalError> {
    let path = group.join("cgroup.procs");
    match disk::present(fs::read_to_string(&path)) {
        // A process of another process namespace is told as 0.
        Ok(Some(text)) => {
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
        }
        Ok(None) => return Ok(()),
        // Of a threaded group, whose processes its domain lists, or of one just removed.
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::OPNOTSUPP | Errno::NODEV)) => {}
        Err(source) => return Err(LocalError::Read { path, source }),
    }
    subdirectories(group)?.iter().try_for_each(|child| collect_processes(child, pids))
}

/// A process that cannot be mistaken for a later one of the same number.
pub(crate) struct Process {
    pid: u32,
    end: Arc<OwnedFd>,
}

impl Process {
    /// Holds on to a process, `None` if it is gone.
    pub(crate) fn open(pid: u32) -> Result<Option<Self>, LocalError> {
        let failed = |source| LocalError::Signal { pid, source };
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        match pidfd_open(number, PidfdFlags::empty()) {
            Ok(end) => Ok(Some(Self { pid, end: Arc::new(end) })),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Sends a signal; a process that is gone needs none.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), LocalError> {
        match pidfd_send_signal(&self.end, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(LocalError::Signal { pid: self.pid, source: error.into() }),
        }
    }

    /// Waits until the process is gone; tells whether it was by then.
    pub(crate) async fn gone_by(&self, deadline: Instant) -> Result<bool, LocalError> {
        let failed = |source| LocalError::Signal { pid: self.pid, source };
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|error| failed(io::Error::other(error)))?;
        let end = Arc::clone(&self.end);
        // A process descriptor becomes readable when its process ends.
        let wait = move || poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&left));
        let ready = tokio::task::spawn_blocking(wait).await.map_err(LocalError::Task)?;
        Ok(ready.map_err(|error| failed(error.into()))? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 25 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:4 - cgroup cgroup rw,cpu
39 30 0:36 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let found = Hierarchies::parse(HYBRID);
        assert_eq!(found.roots, ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"]);
    }

    #[test]
    fn groups_are_told_by_directories_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(scratch.path()).unwrap();
        let one = Hierarchies { roots: vec![root.join("cpu"), root.join("memory")] };
        fs::create_dir_all(root.join("cpu/kayak/c/one")).unwrap();
        fs::create_dir_all(root.join("memory/kayak/c/two/pods")).unwrap();
        assert_eq!(one.children("kayak/c").unwrap(), ["one", "two"]);
        assert!(one.children("kayak/d").unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_group_is_removed_with_those_below_it() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(scratch.path()).unwrap();
        let one = Hierarchies { roots: vec![root.to_owned()] };
        fs::create_dir_all(root.join("kayak/c/n/pods/a")).unwrap();
        fs::create_dir_all(root.join("kayak/c/other")).unwrap();
        one.remove("kayak/c/n").await.unwrap();
        one.remove_if_empty("kayak/c").unwrap();
        assert_eq!(one.children("kayak/c").unwrap(), ["other"]);
    }

    #[tokio::test]
    async fn a_process_is_ended_and_waited_for() {
        let mut child = tokio::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id().unwrap()).unwrap().unwrap();
        assert!(!process.gone_by(Instant::now()).await.unwrap());
        process.signal(Signal::KILL).unwrap();
        assert!(process.gone_by(Instant::now() + KILL).await.unwrap());
        child.wait().await.unwrap();
        process.signal(Signal::KILL).unwrap();
    }
}
