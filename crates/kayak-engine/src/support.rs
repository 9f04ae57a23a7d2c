//! Collects what somebody needs who is to help: each part by itself, and whatever cannot be had is
//! named instead.

mod archive;
mod logs;
mod scrub;

pub use archive::{Archive, Finished};
pub use scrub::Scrubber;

use std::future::Future;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use futures::{StreamExt as _, stream};
use kayak_core::assets::{CLUSTER_FILE, KUBECONFIG};
use kayak_core::chain::chain;
use kayak_core::host::KUBELET_PKI;
use kayak_core::node::BINARY;
use tokio::process::Command;

use crate::asset_dir;
use crate::driver::{Driver, NodeId, NodeState};

/// How long one part may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many parts are collected at a time.
const PARALLEL: usize = 4;

/// Files of the machine.
const MACHINE_FILES: &[(&str, &str)] = &[
    ("os-release", "/etc/os-release"),
    ("kernel.txt", "/proc/version"),
    ("cpu.txt", "/proc/cpuinfo"),
    ("memory.txt", "/proc/meminfo"),
    ("swap.txt", "/proc/swaps"),
    ("load.txt", "/proc/loadavg"),
    ("uptime.txt", "/proc/uptime"),
    ("mounts.txt", "/proc/self/mountinfo"),
    ("modules.txt", "/proc/modules"),
    ("cgroups.txt", "/proc/cgroups"),
    ("own-cgroup.txt", "/proc/self/cgroup"),
    ("resolv.conf", "/etc/resolv.conf"),
];

/// Programs of the machine, where it has them.
const MACHINE_COMMANDS: &[(&str, &[&str])] = &[
    ("addresses.txt", &["ip", "address"]),
    ("routes.txt", &["ip", "route", "show", "table", "all"]),
    ("nft.txt", &["nft", "list", "ruleset"]),
    ("disks.txt", &["df", "-h"]),
];

/// Programs in a node. Of processes only the names: owners give secrets as arguments.
const NODE_COMMANDS: &[(&str, &[&str])] = &[
    ("agent.json", &[BINARY, "agent-status"]),
    ("pods.json", &[BINARY, "pods", "--output=json"]),
    ("kubelet-version.txt", &["kubelet", "--version"]),
    ("containerd-version.txt", &["containerd", "--version"]),
    ("images.txt", &["ctr", "--namespace=k8s.io", "images", "ls"]),
    ("processes.txt", &["ps", "-e", "-o", "pid,ppid,rss,etime,comm"]),
    ("files.txt", &["ls", "-lR", "/etc/kubernetes", "/var/lib/kubelet/pki"]),
    ("mounts.txt", &["cat", "/proc/self/mountinfo"]),
    ("disks.txt", &["df", "-h"]),
    ("addresses.txt", &["ip", "address"]),
    ("routes.txt", &["ip", "route", "show", "table", "all"]),
    ("nft.txt", &["nft", "list", "ruleset"]),
    ("cgroups.txt", &["cat", "/proc/self/cgroup", "/proc/cgroups"]),
];

/// Questions to the API. Whole objects only of the control plane: what Secrets hold is not asked for,
/// and what else an owner's objects hold is not shown either.
const API_QUESTIONS: &[(&str, &[&str])] = &[
    ("readyz.txt", &["get", "--raw", "/readyz?verbose"]),
    ("version.yaml", &["version", "--output=yaml"]),
    ("nodes.yaml", &["get", "nodes", "--output=yaml"]),
    (
        "control-plane.yaml",
        &["--namespace=kube-system", "get", "daemonsets,deployments,pods,leases", "--output=yaml"],
    ),
    ("events.txt", &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp", "--output=wide"]),
    (
        "objects.txt",
        &[
            "get",
            "all,ingresses,networkpolicies,configmaps,endpointslices",
            "--all-namespaces",
            "--output=wide",
        ],
    ),
    ("volumes.txt", &["get", "persistentvolumes,persistentvolumeclaims,storageclasses", "--all-namespaces"]),
    ("secrets.txt", &["get", "secrets", "--all-namespaces"]),
    ("requests.txt", &["get", "certificatesigningrequests"]),
];

/// Where to look.
pub struct Sources {
    /// The cluster's name.
    pub cluster: String,
    /// How its nodes are reached.
    pub driver: Arc<dyn Driver>,
    /// The directory of its assets, which may be missing.
    pub assets: Utf8PathBuf,
    /// kubectl, which may be missing too.
    pub kubectl: Utf8PathBuf,
}

impl Sources {
    /// Learns the cluster's secrets, those too that its nodes have made for themselves.
    pub async fn scrubber(&self) -> Result<Scrubber, String> {
        let mut scrubber = Scrubber::new(&asset_dir::read_keys(&self.assets).map_err(|e| chain(&e))?);
        for name in self.driver.nodes(&self.cluster).await.map_err(|e| chain(&e))? {
            let node = NodeId::new(&self.cluster, name);
            let Some(var) = self.driver.directory(&node, "/var".into()) else { continue };
            let entries = var.join(KUBELET_PKI.trim_start_matches("/var/")).read_dir_utf8();
            for entry in entries.into_iter().flatten().flatten() {
                let path = Utf8Path::new(KUBELET_PKI).join(entry.file_name());
                // A link leads to another file of the directory.
                if let Ok(Some(pem)) = self.driver.get(&node, &path).await {
                    scrubber.learn_pem(&String::from_utf8_lossy(&pem));
                }
            }
        }
        Ok(scrubber)
    }

    /// Collects everything into an archive. Fails only if that cannot be written.
    pub async fn collect(&self, archive: &mut Archive) -> std::io::Result<()> {
        for (name, path) in MACHINE_FILES {
            archive.put(&format!("machine/{name}"), std::fs::read(path).map_err(|e| e.to_string()))?;
        }
        let parts = MACHINE_COMMANDS.iter().map(|(name, words)| async move {
            let mut command = Command::new(words[0]);
            (format!("machine/{name}"), run(command.args(&words[1..])).await)
        });
        put_all(archive, parts).await?;
        let facts = std::fs::read(self.assets.join(CLUSTER_FILE)).map_err(|e| e.to_string());
        archive.put("configuration.json", facts)?;
        match self.driver.nodes(&self.cluster).await {
            Ok(nodes) if nodes.is_empty() => archive.lacks("nodes", "there are none"),
            Ok(nodes) => {
                for node in nodes {
                    self.collect_node(&NodeId::new(&self.cluster, node), archive).await?;
                }
            }
            Err(error) => archive.lacks("nodes", &chain(&error)),
        }
        self.collect_api(archive).await
    }

    async fn collect_node(&self, node: &NodeId, archive: &mut Archive) -> std::io::Result<()> {
        let below = format!("nodes/{}", node.name);
        let console = self.driver.console(node).await.map(String::into_bytes).map_err(|e| chain(&e));
        archive.put(&format!("{below}/console.log"), console)?;
        let state = self.driver.state(node).await.map_err(|e| chain(&e));
        let runs = matches!(state, Ok(NodeState::Running { .. }));
        archive.put(&format!("{below}/state.txt"), state.map(|state| format!("{state:?}\n").into_bytes()))?;
        if runs {
            let below = &below;
            let parts = NODE_COMMANDS.iter().map(|(name, words)| async move {
                let command: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
                let output =
                    within(async { self.driver.output(node, &command).await.map_err(|e| chain(&e)) });
                let content = output.await.and_then(|output| match output.code {
                    0 => Ok(output.stdout),
                    code => Err(format!("ended with {code}: {}", text(&output.stderr))),
                });
                (format!("{below}/{name}"), content)
            });
            put_all(archive, parts).await?;
        } else {
            archive.lacks(&below, "the node does not run, so nothing in it could be asked");
        }
        logs::collect(self.driver.as_ref(), node, &below, archive).await
    }

    async fn collect_api(&self, archive: &mut Archive) -> std::io::Result<()> {
        // Asked first: each question to an API that does not answer would take its time.
        let answers = self.kubectl(&["get", "--raw", "/readyz"]).await;
        if let Err(because) = answers {
            archive.lacks("api", &format!("the API does not answer: {because}"));
            return Ok(());
        }
        let parts = API_QUESTIONS
            .iter()
            .map(|(name, words)| async move { (format!("api/{name}"), self.kubectl(words).await) });
        put_all(archive, parts).await
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let mut command = Command::new(&self.kubectl);
        command.arg("--request-timeout=8s").args(arguments).env("KUBECONFIG", self.assets.join(KUBECONFIG));
        run(&mut command).await
    }
}

/// Puts parts in as they come, a few under way at a time.
async fn put_all(
    archive: &mut Archive,
    parts: impl Iterator<Item = impl Future<Output = (String, Result<Vec<u8>, String>)>>,
) -> std::io::Result<()> {
    let mut parts = stream::iter(parts).buffered(PARALLEL);
    while let Some((name, content)) = parts.next().await {
        archive.put(&name, content)?;
    }
    Ok(())
}

async fn run(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = within(async { output.await.map_err(|e| e.to_string()) }).await?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("{}: {}", output.status, text(&output.stderr)))
}

async fn within<T>(ask: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = |_| format!("nothing came within {} s", PATIENCE.as_secs());
    tokio::time::timeout(PATIENCE, ask).await.map_err(late)?
}

fn text(complaints: &[u8]) -> String {
    String::from_utf8_lossy(complaints).trim().to_owned()
}
