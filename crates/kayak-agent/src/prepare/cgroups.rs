//! Room for the kubelet's cgroups.
//!
//! With the first version of cgroups nothing is to be done: processes and children may share a
//! cgroup there. With the second, a cgroup with processes in it cannot give controllers to
//! children, so the node's own processes move out of the way.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Why pods cannot be given resources.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupsError {
    #[error("failed to create the cgroup `{}`", path.display())]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to move process {pid} into the cgroup `{}`", path.display())]
    Move {
        pid: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to give children of `{}` the controllers `{controllers}`", path.display())]
    Enable {
        path: PathBuf,
        controllers: String,
        #[source]
        source: io::Error,
    },
}

pub(super) fn prepare() -> Result<(), CgroupsError> {
    prepare_in(Path::new("/sys/fs/cgroup"))
}

fn prepare_in(root: &Path) -> Result<(), CgroupsError> {
    // Both files exist only in the second version, `cgroup.type` in every cgroup but the machine's
    // own root. That one is never touched: without a cgroup namespace it is not the node's.
    if !root.join("cgroup.controllers").exists() || !root.join("cgroup.type").exists() {
        return Ok(());
    }
    let leaf = root.join("init");
    match fs::create_dir(&leaf) {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => {
            return Err(CgroupsError::Create { path: leaf, source });
        }
        _ => {}
    }
    move_processes(&root.join("cgroup.procs"), &leaf.join("cgroup.procs"))?;
    let wanted = enable_all(&read(&root.join("cgroup.controllers"))?);
    let path = root.join("cgroup.subtree_control");
    fs::write(&path, &wanted).map_err(|source| CgroupsError::Enable { path, controllers: wanted, source })
}

fn move_processes(from: &Path, to: &Path) -> Result<(), CgroupsError> {
    for pid in read(from)?.lines() {
        match fs::write(to, pid) {
            // It ended in between.
            Err(source) if source.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
            Err(source) => {
                let (pid, path) = (pid.to_owned(), to.to_owned());
                return Err(CgroupsError::Move { pid, path, source });
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, CgroupsError> {
    fs::read_to_string(path).map_err(|source| CgroupsError::Read { path: path.to_owned(), source })
}

fn enable_all(controllers: &str) -> String {
    let enable: Vec<_> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    enable.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_root_and_the_first_version_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        prepare_in(root.path()).unwrap();
        fs::write(root.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        prepare_in(root.path()).unwrap();
        assert!(!root.path().join("init").exists());
    }

    #[test]
    fn processes_move_out_of_the_way_of_all_controllers() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str| root.path().join(name);
        for (name, text) in
            [("cgroup.type", "domain\n"), ("cgroup.controllers", "cpu io\n"), ("cgroup.procs", "7\n")]
        {
            fs::write(file(name), text).unwrap();
        }
        prepare_in(root.path()).unwrap();
        prepare_in(root.path()).unwrap();
        assert_eq!(fs::read_to_string(file("init/cgroup.procs")).unwrap(), "7");
        assert_eq!(fs::read_to_string(file("cgroup.subtree_control")).unwrap(), "+cpu +io");
    }

    #[test]
    fn all_controllers_are_enabled() {
        assert_eq!(enable_all("cpuset cpu io\n"), "+cpuset +cpu +io");
    }
}
