//! Real members on addresses of this machine's loopback, started as their containers are and watched as the
//! agent does.
//!
//! Needs etcd as `kayak bundle build` leaves it in the cache; run with `--ignored`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures::future::{join_all, select_all};
use kayak_core::cluster::{Cluster, Images, MachineFacts};
use kayak_core::component;
use kayak_core::config::Config;
use kayak_core::node::{MemberStatus, Status};
use kayak_core::pki::{Authority, KeyStore, Pair, Secret, certificates};
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::json;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::{Access, Client, Place, Watch};
use crate::member::{self, Options};
use crate::status::Board;
use crate::testing::authority;
use crate::tls::Identity;

/// etcd does nothing about members for 5 s after one of them came.
const PATIENCE: Duration = Duration::from_secs(40);

/// etcd takes and gives keys and values in base64.
const KEY: &str = "a2V5";

#[tokio::test]
#[ignore = "needs a built bundle"]
async fn members_begin_join_and_come_back_without_their_data() {
    let root = tempfile::tempdir().unwrap();
    let mut nodes = three_nodes(root.path());

    // Nobody may begin: nobody does, and all wait.
    nodes.iter_mut().for_each(Node::start);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(nodes.iter().all(|node| !node.options.place.look().unwrap().data));

    // The first may; both others learn at the same time, and then all vote.
    fs::write(&nodes[0].options.place.bootstrap, "").unwrap();
    let learners = |member: &MemberStatus| member.members.iter().filter(|member| member.learner).count();
    let two_learn = nodes[1..].iter().map(|node| Box::pin(node.wait(move |member| learners(member) == 2)));
    timeout(PATIENCE, select_all(two_learn)).await.expect("two learn at a time");
    let begun = all_vote(&nodes).await;
    assert_eq!(begun.len(), 3);
    for node in &nodes {
        let place = &node.options.place;
        assert!(place.joined.exists() && !place.bootstrap.exists(), "{}", node.options.name);
    }
    nodes[0].client().put(KEY, "dmFsdWU=").await;

    // One loses its data: it comes back as another member.
    nodes[1].kill().await;
    fs::remove_dir_all(nodes[1].options.place.data_dir.join("member")).unwrap();
    nodes[1].start();
    let again = all_vote(&nodes).await;
    assert_eq!(again.intersection(&begun).count(), 2, "{begun:?} became {again:?}");
    assert!(nodes[1].client().has(KEY).await);

    // The one that began loses its data while nobody else is there: it waits for the others.
    for node in &mut nodes {
        node.kill().await;
    }
    fs::remove_dir_all(nodes[0].options.place.data_dir.join("member")).unwrap();
    nodes[0].start();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!nodes[0].options.place.look().unwrap().data, "it began another cluster");
    nodes[1..].iter_mut().for_each(Node::start);
    let last = all_vote(&nodes).await;
    assert_eq!(last.intersection(&again).count(), 2, "{again:?} became {last:?}");
    assert!(nodes[0].client().has(KEY).await);
}

/// Waits until every member says that all three vote; returns their ids.
async fn all_vote(nodes: &[Node]) -> BTreeSet<String> {
    let settled = |member: &MemberStatus| {
        member.healthy && member.members.len() == 3 && member.members.iter().all(|member| !member.learner)
    };
    // What a member knows that is cut off from the others may be old: they have to agree.
    let agreed = async {
        loop {
            let members = join_all(nodes.iter().map(|node| node.wait(settled))).await;
            let ids = |member: &MemberStatus| -> BTreeSet<_> {
                member.members.iter().map(|member| member.id.clone()).collect()
            };
            let (first, own) = (ids(&members[0]), members.iter().map(|member| member.id.clone()).collect());
            if members.iter().all(|member| ids(member) == first) && first == own {
                return first;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let found = timeout(PATIENCE, agreed).await;
    found.unwrap_or_else(|_| panic!("{:#?}", nodes.iter().map(|node| node.board.seen()).collect::<Vec<_>>()))
}

/// One node: its disk, its kubelet, and the part of its agent that watches the member.
struct Node {
    options: Options,
    board: Board,
    tasks: JoinSet<()>,
    container: Option<AbortHandle>,
}

impl Node {
    fn access(&self) -> Access {
        Access { ca: self.options.ca.clone(), identity: self.options.identity.clone() }
    }

    fn client(&self) -> Client {
        let address: std::net::IpAddr = self.options.name.parse().unwrap();
        Client::new((address, component::etcd::CLIENT_PORT).into(), address.into(), self.access())
    }

    /// Starts the container, and again whenever it ends.
    fn start(&mut self) {
        let options = self.options.clone();
        self.container = Some(self.tasks.spawn(async move {
            loop {
                let command = member::command(&options).await.unwrap();
                let log = options.place.data_dir.with_extension("log");
                let log = fs::File::options().create(true).append(true).open(log).unwrap();
                let mut etcd = tokio::process::Command::new(&command[0]);
                etcd.args(&command[1..]).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
                let mut etcd = etcd.spawn().unwrap();
                etcd.wait().await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }));
    }

    async fn kill(&mut self) {
        self.container.take().unwrap().abort();
        // It is killed when the task's future is dropped.
        let gone = |status: &Status| status.etcd.as_ref().is_some_and(|member| member.id.is_empty());
        timeout(PATIENCE, self.board.wait(gone)).await.unwrap();
    }

    async fn wait(&self, wished: impl Fn(&MemberStatus) -> bool) -> MemberStatus {
        let status = self.board.wait(|status| status.etcd.as_ref().is_some_and(&wished)).await;
        status.etcd.unwrap()
    }
}

fn three_nodes(root: &Path) -> Vec<Node> {
    let cluster = cluster();
    let keys = keys(&cluster);
    let etcd = etcd();
    let controllers: serde_json::Map<_, _> =
        cluster.nodes.iter().map(|node| (node.name.clone(), json!(node.address))).collect();
    let node = |node: &kayak_core::cluster::Node| {
        let root = root.join(&node.name);
        fs::create_dir(&root).unwrap();
        let place = Place::below(&root);
        fs::write(&place.controllers, json!(controllers).to_string()).unwrap();
        let component = component::member(&cluster, node, &keys).unwrap();
        for (name, content) in &component.secrets {
            fs::write(root.join(name), content.expose()).unwrap();
        }
        // Each has its own loopback on a node, and another root.
        let local = |argument: &String| {
            argument
                .replace("https://127.0.0.1:2379,", "")
                .replace(component::etcd::DATA_DIR, &place.data_dir.display().to_string())
                .replace("/etc/kubernetes/secrets/etcd", &root.display().to_string())
        };
        let mut command: Vec<_> = component.command.iter().map(local).collect();
        command[0] = etcd.display().to_string();
        let file = |name: &str| root.join(name);
        let identity = Identity { cert: file("health-client.crt"), key: file("health-client.key") };
        let options = Options { name: node.name.clone(), ca: file("ca.crt"), place, identity, command };
        let mut node = Node { options, board: Board::new(), tasks: JoinSet::new(), container: None };
        let watch = Watch {
            node: node.options.name.clone(),
            address: (node.options.name.parse::<std::net::IpAddr>().unwrap(), component::etcd::CLIENT_PORT)
                .into(),
            access: node.access(),
            place: node.options.place.clone(),
        };
        node.tasks.spawn(super::watch(watch, node.board.clone()));
        node
    };
    cluster.nodes.iter().map(node).collect()
}

/// Three controllers that are called as their addresses are, so that no hosts file is needed.
fn cluster() -> Cluster {
    let name = String::from("image");
    let images = Images {
        kubernetes_version: "v1.36.3".into(),
        node: name.clone(),
        kubernetes: name.clone(),
        etcd: name.clone(),
        coredns: name.clone(),
        flannel: name.clone(),
        pause: name,
    };
    let config = Config::parse("controllers: 3").unwrap();
    let mut cluster = Cluster::resolve(config, "", images, &MachineFacts::default()).unwrap();
    for (index, node) in (1..).zip(&mut cluster.nodes) {
        node.address = [127, 77, 0, index].into();
        node.name = node.address.to_string();
    }
    cluster
}

fn keys(cluster: &Cluster) -> KeyStore {
    let authority = authority();
    let specs = certificates(cluster).into_iter().filter(|spec| spec.authority == Authority::Etcd);
    let issue = |spec: kayak_core::pki::CertificateSpec| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(spec.names).unwrap();
        params.subject_alt_names.extend(spec.addresses.into_iter().map(SanType::IpAddress));
        let certificate = params.signed_by(&key, &authority).unwrap().pem();
        (spec.id, Pair { certificate, key: Secret::new(key.serialize_pem()) })
    };
    let mut pairs: std::collections::BTreeMap<_, _> = specs.map(issue).collect();
    let ca = Pair { certificate: authority.pem(), key: Secret::new(String::new()) };
    pairs.insert(Authority::Etcd.id().into(), ca);
    KeyStore { pairs, ..KeyStore::default() }
}

/// The newest etcd in the cache of builds.
fn etcd() -> PathBuf {
    let var = |name| std::env::var_os(name).map(PathBuf::from);
    let home = || var("XDG_CACHE_HOME").or_else(|| Some(var("HOME")?.join(".cache")));
    let cache = var("KAYAK_CACHE_DIR").or_else(|| Some(home()?.join("kayak"))).unwrap();
    let builds = fs::read_dir(cache.join("build/etcd")).expect("needs a built bundle");
    let built = builds.map(|build| build.unwrap().path().join("etcd")).filter(|path| path.is_file());
    built.max_by_key(|path| path.metadata().unwrap().modified().unwrap()).expect("needs a built bundle")
}
