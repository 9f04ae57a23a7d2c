//! Logs, from the node's disk: they are there whether the node runs or not, those of containers that
//! have ended too.

use std::io;
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::node::LOG_DIR;

use super::archive::Archive;
use crate::driver::{Driver, NodeId};
use kayak_core::chain::chain;

/// Where the kubelet keeps containers' logs: `NAMESPACE_POD_UID/CONTAINER/ATTEMPT.log`.
const POD_LOGS: &str = "/var/log/pods";
/// The namespace of the cluster's own pods: what others log is their owner's.
const OWN_PODS: &str = "kube-system_";

struct Log {
    written: SystemTime,
    path: Utf8PathBuf,
}

/// Puts the logs of units and components in, the newest first, until the archive is full.
pub(super) async fn collect(
    driver: &dyn Driver,
    node: &NodeId,
    below: &str,
    archive: &mut Archive,
) -> io::Result<()> {
    let Some(var) = driver.directory(node, "/var".into()) else {
        archive.lacks(&format!("{below}/logs"), "the node's disk is not on this machine");
        return Ok(());
    };
    let mut logs = Vec::new();
    for directory in [LOG_DIR, POD_LOGS] {
        let on_machine = var.join(directory.trim_start_matches("/var/"));
        if let Err(error) = find(&on_machine, directory.into(), &mut logs) {
            archive.lacks(&format!("{below}/logs{directory}"), &error.to_string());
        }
    }
    logs.sort_by_key(|log| std::cmp::Reverse(log.written));
    for log in logs {
        let name = log.path.as_str().trim_start_matches("/var/log/");
        // The driver reads: it follows no link that a pod has put there.
        let content = match driver.get(node, &log.path).await {
            Ok(Some(content)) => Ok(content),
            Ok(None) => Err("it went meanwhile".into()),
            Err(error) => Err(chain(&error)),
        };
        archive.put(&format!("{below}/logs/{name}"), content)?;
    }
    Ok(())
}

/// Lists the logs below a directory by their paths in the node; links are passed over.
fn find(on_machine: &Utf8Path, in_node: &Utf8Path, logs: &mut Vec<Log>) -> io::Result<()> {
    for entry in on_machine.read_dir_utf8()? {
        let entry = entry?;
        let metadata = match entry.path().symlink_metadata() {
            // The kubelet takes old ones away at any time.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        let path = in_node.join(entry.file_name());
        let others = in_node.as_str() == POD_LOGS && !entry.file_name().starts_with(OWN_PODS);
        if metadata.is_dir() && !others {
            find(entry.path(), &path, logs)?;
        } else if metadata.is_file() {
            logs.push(Log { written: metadata.modified()?, path });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn logs_of_components_are_found_and_nobody_elses() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(scratch.path()).unwrap();
        for (pod, log) in
            [("kube-system_etcd_1", "0.log"), ("kube-system_etcd_1", "1.log"), ("shop_web_2", "0.log")]
        {
            fs::create_dir_all(root.join(pod).join("main")).unwrap();
            fs::write(root.join(pod).join("main").join(log), "text").unwrap();
        }
        symlink("/etc/shadow", root.join("kube-system_etcd_1/main/2.log")).unwrap();
        symlink("/etc", root.join("kube-system_link_3")).unwrap();
        let mut logs = Vec::new();
        find(root, POD_LOGS.into(), &mut logs).unwrap();
        let mut paths: Vec<_> = logs.iter().map(|log| log.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            ["/var/log/pods/kube-system_etcd_1/main/0.log", "/var/log/pods/kube-system_etcd_1/main/1.log"]
        );
    }
}
