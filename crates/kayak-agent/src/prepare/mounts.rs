//! Mount propagation, writable kernel file systems, and the kernel's log.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_change, mount_remount};

/// Why mounts are not as pods need them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountsError {
    #[error("failed to make the root's mounts shared")]
    Share(#[source] Errno),
    #[error("failed to read the list of mounts")]
    Read(#[source] io::Error),
    #[error("failed to make `{}` writable", path.display())]
    Writable {
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("failed to create the device `/dev/kmsg`")]
    KernelLog(#[source] Errno),
}

pub(super) fn prepare() -> Result<(), MountsError> {
    // What a pod mounts with Bidirectional propagation must reach the node and its other pods.
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    mount_change("/", shared).map_err(MountsError::Share)?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(MountsError::Read)?;
    for mount in mounts.lines().filter_map(Mount::parse) {
        if mount.must_become_writable() {
            // Only this container's view of it: the file system itself may be shared with others.
            mount_remount(&mount.point, MountFlags::BIND | mount.flags, "")
                .map_err(|source| MountsError::Writable { path: mount.point.clone(), source })?;
        }
    }
    kernel_log()
}

/// The kubelet watches the kernel's log for processes killed for want of memory, and does not
/// start without it.
fn kernel_log() -> Result<(), MountsError> {
    if Path::new("/dev/kmsg").exists() {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, "/dev/kmsg", FileType::CharacterDevice, mode, makedev(1, 11)).map_err(MountsError::KernelLog)
}

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    read_only: bool,
    /// The flags that a remount must repeat to keep.
    flags: MountFlags,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ').skip(4);
        let point = PathBuf::from(fields.next()?);
        let mut mount = Self { point, read_only: false, flags: MountFlags::empty() };
        for option in fields.next()?.split(',') {
            match option {
                "ro" => mount.read_only = true,
                "nosuid" => mount.flags |= MountFlags::NOSUID,
                "nodev" => mount.flags |= MountFlags::NODEV,
                "noexec" => mount.flags |= MountFlags::NOEXEC,
                "noatime" => mount.flags |= MountFlags::NOATIME,
                "relatime" => mount.flags |= MountFlags::RELATIME,
                _ => {}
            }
        }
        Some(mount)
    }

    /// Pods' cgroups are made below `/sys/fs/cgroup`, and privileged pods configure devices in
    /// `/sys`; other engines than kayak's own driver give both read-only.
    fn must_become_writable(&self) -> bool {
        self.read_only && (self.point == Path::new("/sys") || self.point.starts_with("/sys/fs/cgroup"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_read_only_sys_and_cgroup_mounts_are_remounted() {
        let lines = [
            "23 27 0:22 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro",
            "32 31 0:29 /x /sys/fs/cgroup/cpu ro,nosuid shared:9 - cgroup cgroup rw,cpu",
            "33 31 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory",
            "34 27 0:31 / /sys/firmware ro,relatime - tmpfs tmpfs ro",
            "35 27 0:32 / /proc/sys ro,relatime - proc proc rw",
        ];
        let remounted: Vec<_> = lines
            .iter()
            .filter_map(|line| Mount::parse(line))
            .filter(Mount::must_become_writable)
            .map(|mount| (mount.point, mount.flags))
            .collect();
        let sys = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        assert_eq!(
            remounted,
            [("/sys".into(), sys | MountFlags::RELATIME), ("/sys/fs/cgroup/cpu".into(), MountFlags::NOSUID),]
        );
    }
}
