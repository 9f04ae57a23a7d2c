//! etcd: a static pod of every controller for good, because what holds the cluster's state must not
//! depend on the cluster's state.

use std::collections::BTreeMap;

use super::{Component, Entry, HostDir, HostFile, Probe, Probes, Workload, flags};
use crate::cluster::{Cluster, Node};
use crate::node::BINARY_DIR;
use crate::pki::{Authority, KeyStore, MissingKey, Secret};

/// Its name.
pub const NAME: &str = "etcd";
/// The port for clients: API servers.
pub const CLIENT_PORT: u16 = 2379;
/// The port for other members.
pub const PEER_PORT: u16 = 2380;
/// Where a member keeps its data on the node.
pub const DATA_DIR: &str = "/var/lib/etcd";
/// Allows a member without data to begin a new cluster; taken away once there are data.
pub const BOOTSTRAP_FILE: &str = "/var/lib/etcd/bootstrap";
/// Says that a member has begun or joined a cluster here.
pub const JOINED_FILE: &str = "/var/lib/etcd/joined";
/// The controllers whose members one that joins may ask: a JSON object, node name to address. It is no
/// part of the pod, which would start anew whenever the cluster grows.
pub const MEMBERS_FILE: &str = "/etc/kubernetes/etcd/members.json";
/// The directory of that file: a file that is replaced would stay the old one in a container.
const MEMBERS_DIR: &str = "/etc/kubernetes/etcd";
/// Members that may learn at a time, as etcd calls it; the next one has to wait.
pub const MAX_LEARNERS: usize = 2;

/// Where other members find the one of this node. Peers know each other by name, through the hosts file
/// that the agents write, so that every address may change at once.
pub fn peer_url(node: &str) -> String {
    format!("https://{node}:{PEER_PORT}")
}

/// The content of [`MEMBERS_FILE`].
pub fn members_file(cluster: &Cluster) -> String {
    let members: BTreeMap<_, _> = cluster.controllers().map(|node| (&node.name, node.address)).collect();
    // A map of texts and addresses cannot fail to serialise.
    serde_json::to_string_pretty(&members).unwrap_or_default()
}

/// States the member of one controller.
pub fn component(cluster: &Cluster, node: &Node, keys: &KeyStore) -> Result<Component, MissingKey> {
    let dir = Component::secret_dir(NAME);
    let file = |name: &str| format!("{dir}/{name}");
    let command = flags(
        NAME,
        &[
            ("name", &node.name),
            ("data-dir", DATA_DIR),
            (
                "listen-client-urls",
                &format!("https://127.0.0.1:{CLIENT_PORT},https://{}", node.at(CLIENT_PORT)),
            ),
            ("advertise-client-urls", &format!("https://{}:{CLIENT_PORT}", node.name)),
            ("listen-peer-urls", &format!("https://{}", node.at(PEER_PORT))),
            // Of which cluster it becomes a member, and how, is found out by `kayak member`.
            ("initial-advertise-peer-urls", &peer_url(&node.name)),
            ("initial-cluster-token", cluster.name()),
            ("trusted-ca-file", &file("ca.crt")),
            ("cert-file", &file("server.crt")),
            ("key-file", &file("server.key")),
            ("client-cert-auth", ""),
            ("peer-trusted-ca-file", &file("ca.crt")),
            ("peer-cert-file", &file("peer.crt")),
            ("peer-key-file", &file("peer.key")),
            ("peer-client-cert-auth", ""),
            ("tls-min-version", "TLS1.2"),
            // Small disks: two WAL files, compaction by the API server, a quota that a home fits in.
            ("snapshot-count", "10000"),
            ("max-wals", "2"),
            ("max-snapshots", "2"),
            ("quota-backend-bytes", "2147483648"),
            ("max-learners", &MAX_LEARNERS.to_string()),
            // Members compare what they hold while they run. To compare before serving (InitialCorruptCheck)
            // makes members that start together wait for each other, up to 7 s for each.
            ("feature-gates", "CompactHashCheck=true"),
        ],
    );
    // Whether this member lives, not whether it has a quorum or room left: a restart gives neither.
    let probe = |path: &str| {
        Some(Probe::Exec(vec![
            format!("{BINARY_DIR}/kayak"),
            "probe".into(),
            "--address=127.0.0.1".into(),
            format!("--port={CLIENT_PORT}"),
            format!("--path={path}"),
            format!("--ca={}", file("ca.crt")),
            "--server-name=localhost".into(),
            format!("--cert={}", file("health-client.crt")),
            format!("--key={}", file("health-client.key")),
        ]))
    };
    let pair = |id: &str| keys.pair(id);
    let (server, peer) =
        (pair(&format!("{}-etcd-server", node.name))?, pair(&format!("{}-etcd-peer", node.name))?);
    let client = pair("etcd-health-client")?;
    let public = |text: &str| Secret::new(text.to_owned());
    Ok(Component {
        entry: Some(Entry::member(vec![
            format!("--name={}", node.name),
            format!("--ca={}", file("ca.crt")),
            format!("--cert={}", file("health-client.crt")),
            format!("--key={}", file("health-client.key")),
        ])),
        secrets: BTreeMap::from([
            ("ca.crt", public(keys.ca(Authority::Etcd)?)),
            ("server.crt", public(&server.certificate)),
            ("server.key", server.key.clone()),
            ("peer.crt", public(&peer.certificate)),
            ("peer.key", peer.key.clone()),
            ("health-client.crt", public(&client.certificate)),
            ("health-client.key", client.key.clone()),
        ]),
        host_dirs: vec![
            HostDir { name: "data", path: DATA_DIR, writable: true },
            HostDir { name: "members", path: MEMBERS_DIR, writable: false },
        ],
        // The kubelet would give it a copy, made when the container starts.
        host_files: vec![HostFile { name: "hosts", path: "/etc/hosts" }],
        probes: Probes { startup: probe("/livez"), ready: None, live: probe("/livez") },
        cpu: 100,
        memory: 100,
        ..Component::new(NAME, &cluster.images.etcd, Workload::StaticPod, command)
    })
}
