//! The node's name, hosts, name servers, directories, and the binary that pods mount.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use kayak_core::host::MANIFEST_DIR;
use kayak_core::node::{BINARY_DIR, CNI_CONFIG_DIR, LOG_DIR, NodeConfig, RESOLV_CONF, USUAL_CNI_CONFIG_DIR};

use crate::write;

/// Kept on the node's disk: it is the same machine after a restart.
const MACHINE_ID: &str = "/var/lib/kayak/machine-id";

/// What others expect to be there: containerd watches the CNI directory from its start on.
const DIRECTORIES: &[&str] = &[
    BINARY_DIR,
    CNI_CONFIG_DIR,
    LOG_DIR,
    MANIFEST_DIR,
    "/etc/cni",
    "/run/kayak",
    "/var/lib/kayak",
    "/var/lib/kubelet",
];

/// Why a file of the node is not in place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    #[error("failed to create the directory `{0}`")]
    Directory(&'static str, #[source] io::Error),
    #[error("failed to write `{0}`")]
    Write(&'static str, #[source] io::Error),
    #[error("failed to set the host name to `{name}`")]
    HostName {
        name: String,
        #[source]
        source: rustix::io::Errno,
    },
    #[error("failed to make a machine id")]
    MachineId(#[source] io::Error),
    #[error("failed to put kayak at `{}`", path.display())]
    Binary {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

pub(super) fn prepare(config: &NodeConfig) -> Result<(), FilesError> {
    for directory in DIRECTORIES {
        fs::create_dir_all(directory).map_err(|e| FilesError::Directory(directory, e))?;
    }
    link(Path::new(USUAL_CNI_CONFIG_DIR), Path::new(CNI_CONFIG_DIR))
        .map_err(|e| FilesError::Write(USUAL_CNI_CONFIG_DIR, e))?;
    host_name(&config.name)?;
    let put = |path, text: &str| {
        write::in_place(Path::new(path), text.as_bytes()).map_err(|e| FilesError::Write(path, e))
    };
    put("/etc/hostname", &format!("{}\n", config.name))?;
    put("/etc/hosts", &hosts(config))?;
    put("/etc/machine-id", &machine_id()?)?;
    let resolv_conf = resolv_conf(config);
    put(RESOLV_CONF, &resolv_conf)?;
    put("/etc/resolv.conf", &resolv_conf)?;
    binary()
}

/// Makes a path lead somewhere, unless it is there already.
fn link(path: &Path, target: &Path) -> io::Result<()> {
    match std::os::unix::fs::symlink(target, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn host_name(name: &str) -> Result<(), FilesError> {
    if rustix::system::uname().nodename().to_bytes() == name.as_bytes() {
        return Ok(());
    }
    rustix::system::sethostname(name.as_bytes())
        .map_err(|source| FilesError::HostName { name: name.to_owned(), source })
}

fn hosts(config: &NodeConfig) -> String {
    let localhost = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
    let named = config.hosts.iter();
    let named: Vec<_> = named.map(|(name, ip)| format!("{ip}\t{name}\n")).collect();
    localhost.to_owned() + &named.concat()
}

/// An empty file is not what it seems: the kubelet would write 127.0.0.1 into pods if there were
/// no file, and resolvers ask 127.0.0.1 if it names no server, but nothing listens there.
fn resolv_conf(config: &NodeConfig) -> String {
    if config.nameservers.is_empty() {
        return "# No name server outside the cluster is reachable from this node.\n".into();
    }
    let servers = config.nameservers.iter();
    let lines: Vec<_> = servers.map(|address| format!("nameserver {address}\n")).collect();
    lines.concat()
}

fn machine_id() -> Result<String, FilesError> {
    match fs::read_to_string(MACHINE_ID) {
        Ok(id) => return Ok(id),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(FilesError::MachineId(error)),
    }
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(FilesError::MachineId)?;
    let id = uuid.replace('-', "");
    write::atomically(Path::new(MACHINE_ID), id.as_bytes()).map_err(FilesError::MachineId)?;
    Ok(id)
}

/// Puts this very binary where control-plane pods mount it from; a pod that runs the one before
/// keeps that.
fn binary() -> Result<(), FilesError> {
    let path = Path::new(BINARY_DIR).join("kayak");
    let temporary = write::sibling(&path);
    let replace = || {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // A link costs nothing, but needs both in one mount.
        let running = fs::read_link("/proc/self/exe")?;
        if fs::hard_link(&running, &temporary).is_err() {
            fs::copy("/proc/self/exe", &temporary)?;
        }
        fs::rename(&temporary, &path)?;
        // rename(2) does nothing if both names were links to one file already.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    };
    replace().map_err(|source| FilesError::Binary { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::testing;

    #[test]
    fn hosts_are_localhost_and_what_the_configuration_names() {
        let mut config = testing::node_config();
        config.hosts = [("cp-1".into(), IpAddr::from([10, 0, 0, 2]))].into();
        assert_eq!(
            hosts(&config),
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.2\tcp-1\n"
        );
    }

    #[test]
    fn name_servers_are_listed_and_their_lack_is_explained() {
        let mut config = testing::node_config();
        assert!(resolv_conf(&config).starts_with('#'));
        config.nameservers = vec![IpAddr::from([9, 9, 9, 9])];
        assert_eq!(resolv_conf(&config), "nameserver 9.9.9.9\n");
    }
}
