//! Whether this machine forwards packets: switched on for clusters with egress, and back when the
//! last of them is gone.

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::FlockOperation;

use super::disk;
use super::error::LocalError;

/// The kernel's switch.
const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";

/// Who needs forwarding, and what the switch was before: files in a directory that, like the
/// switch, does not outlive the machine's restart.
#[derive(Debug, Clone)]
pub(crate) struct Forwarding {
    directory: Utf8PathBuf,
    switch: Utf8PathBuf,
}

impl Forwarding {
    pub(crate) fn of_machine(run: &Utf8Path) -> Self {
        // No cluster's name begins with a dot.
        Self { directory: run.join(".forwarding"), switch: SWITCH.into() }
    }

    /// Switches forwarding on for a cluster.
    pub(crate) fn need(&self, cluster: &str) -> Result<(), LocalError> {
        disk::create_directory(&self.needed_by(""), 0o755)?;
        let _lock = self.lock()?;
        if disk::read(&self.before())?.is_none() {
            let now = std::fs::read(&self.switch).map_err(LocalError::read(&self.switch))?;
            disk::write(&self.before(), &now)?;
        }
        disk::write(&self.needed_by(cluster), b"")?;
        self.set(b"1")
    }

    /// Switches forwarding back if no other cluster needs it.
    pub(crate) fn release(&self, cluster: &str) -> Result<(), LocalError> {
        if disk::present(self.directory.metadata()).map_err(LocalError::read(&self.directory))?.is_none() {
            return Ok(());
        }
        let _lock = self.lock()?;
        disk::remove(&self.needed_by(cluster))?;
        if !disk::names(&self.needed_by(""))?.is_empty() {
            return Ok(());
        }
        if let Some(before) = disk::read(&self.before())? {
            self.set(&before)?;
        }
        disk::remove(&self.directory)
    }

    fn set(&self, value: &[u8]) -> Result<(), LocalError> {
        // In place: it is no file that could be replaced.
        std::fs::write(&self.switch, value).map_err(LocalError::write(&self.switch))
    }

    fn before(&self) -> Utf8PathBuf {
        self.directory.join("before")
    }

    fn needed_by(&self, cluster: &str) -> Utf8PathBuf {
        self.directory.join("clusters").join(cluster)
    }

    /// Keeps other runs of kayak away, until the file is closed.
    fn lock(&self) -> Result<std::fs::File, LocalError> {
        let failed = |source| LocalError::Lock { path: self.directory.clone(), source };
        let directory = std::fs::File::open(&self.directory).map_err(failed)?;
        rustix::fs::flock(&directory, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        Ok(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_cluster_switches_it_back() {
        let scratch = tempfile::tempdir().unwrap();
        let scratch = Utf8Path::from_path(scratch.path()).unwrap();
        let machine =
            Forwarding { directory: scratch.join("forwarding"), switch: scratch.join("ip_forward") };
        let switch = || std::fs::read_to_string(&machine.switch).unwrap();
        std::fs::write(&machine.switch, "0\n").unwrap();
        machine.need("one").unwrap();
        machine.need("one").unwrap();
        machine.need("two").unwrap();
        assert_eq!(switch(), "1");
        machine.release("one").unwrap();
        assert_eq!(switch(), "1");
        machine.release("two").unwrap();
        assert_eq!(switch(), "0\n");
        machine.release("two").unwrap();
        assert!(!machine.directory.exists());
    }
}
