//! Which controllers there are: as configured, as the API told last, and kept on disk, so that a node
//! finds an API server at its start without one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kayak_core::access::CONTROLLERS_CONFIG_MAP;
use kayak_core::chain::chain;
use kayak_core::component::apiserver;
use kayak_core::node::NodeConfig;
use kube::Api;
use kube::runtime::watcher;
use tokio::sync::watch;

use crate::cluster::{self, ApiError, ClusterError};
use crate::front::{self, Peers};
use crate::status::Board;
use crate::write;

/// Where what the API told last is kept.
pub(crate) const PATH: &str = "/var/lib/kayak/controllers.json";
const RETRY: Duration = Duration::from_secs(1);
const SUBJECT: &str = "controllers";
const FILE_SUBJECT: &str = "controllers on disk";

/// Why what the API says about controllers is not known.
#[derive(Debug, thiserror::Error)]
enum ControllersError {
    #[error(transparent)]
    Cluster(ClusterError),
    #[error("failed to watch the ConfigMap `{CONTROLLERS_CONFIG_MAP}`")]
    Watch(#[source] ApiError),
    #[error("the watch of the ConfigMap `{CONTROLLERS_CONFIG_MAP}` ended")]
    Ended,
}

/// Why what was told cannot be kept, or not be had back.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("failed to read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("failed to understand `{}`", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("failed to write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Node name to where its agent hands out connections to its API servers.
type Fronts = BTreeMap<String, SocketAddr>;

/// What is known.
#[derive(Debug, Default)]
struct Known {
    /// This node, which is never another one.
    node: String,
    address: Option<IpAddr>,
    /// In the node's configuration, which `kayak up` rewrites.
    configured: Peers,
    /// Told by the API, by this run of the agent or an earlier one.
    told: Fronts,
    /// Whether the API told it after the configuration was read.
    is_news: bool,
}

impl Known {
    /// The other controllers. What the API says counts alone; until it has spoken, either may be out of
    /// date, and to ask one too many does no harm.
    fn peers(&self) -> Peers {
        let told = self.told.iter().map(|(node, address)| (*address, node.clone()));
        let configured = self.configured.clone().into_iter().filter(|_| !self.is_news);
        let is_other =
            |(address, node): &(SocketAddr, String)| *node != self.node && Some(address.ip()) != self.address;
        told.chain(configured).filter(is_other).collect()
    }
}

/// What is known, shared by those who learn and those who use it.
#[derive(Debug, Clone)]
pub(crate) struct Controllers {
    known: Arc<Mutex<Known>>,
    peers: Arc<watch::Sender<Peers>>,
    path: PathBuf,
    board: Board,
}

impl Controllers {
    /// Begins with what is on the disk.
    pub(crate) fn kept(path: &Path, board: &Board) -> Self {
        let told = read(path).unwrap_or_else(|error| {
            board
                .trouble(FILE_SUBJECT, &format!("The controllers known before are lost: {}.", chain(&error)));
            Fronts::new()
        });
        let known = Known { told, ..Known::default() };
        let (peers, _) = watch::channel(known.peers());
        let (known, peers) = (Arc::new(Mutex::new(known)), Arc::new(peers));
        Self { known, peers, path: path.to_owned(), board: board.clone() }
    }

    /// Follows the other controllers.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Peers> {
        self.peers.subscribe()
    }

    /// Takes in the node's configuration.
    pub(crate) fn configure(&self, config: &NodeConfig) {
        let of_api = config.fronts.iter().filter(|front| front.component == apiserver::NAME);
        let configured: Peers = of_api.flat_map(front::peers).collect();
        self.change(|known| {
            // All addresses may have changed at once, and the API not be where it told to be.
            known.is_news &= known.configured == configured;
            known.configured = configured;
            known.node.clone_from(&config.name);
            known.address = Some(config.address);
        });
    }

    /// Takes in what the API says, and keeps it.
    fn told(&self, data: BTreeMap<String, String>) {
        let (told, strange) = parse(data);
        if strange.is_empty() {
            self.board.mended(SUBJECT);
        } else {
            let strange = strange.join(", ");
            let sentence = format!(
                "The ConfigMap `{CONTROLLERS_CONFIG_MAP}` has what is no address and port: {strange}; \
                 `kayak up --revert {CONTROLLERS_CONFIG_MAP}` writes it anew."
            );
            self.board.trouble(SUBJECT, &sentence);
        }
        // A cluster without any controller could not have told.
        if told.is_empty() {
            return;
        }
        let kept = self.keep(&told);
        self.change(|known| {
            known.told = told;
            known.is_news = true;
        });
        match kept {
            Ok(()) => self.board.mended(FILE_SUBJECT),
            Err(error) => {
                let because = chain(&error);
                let sentence = format!("A restart of the node would not know the controllers: {because}.");
                self.board.trouble(FILE_SUBJECT, &sentence);
            }
        }
    }

    fn keep(&self, told: &Fronts) -> Result<(), FileError> {
        // A map of texts and addresses can always be written.
        let text = serde_json::to_vec_pretty(told).unwrap_or_default();
        if std::fs::read(&self.path).is_ok_and(|kept| kept == text) {
            return Ok(());
        }
        let directory = self.path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = directory.and_then(|()| write::atomically(&self.path, &text));
        written.map_err(|source| FileError::Write { path: self.path.clone(), source })
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        let now = known.peers();
        self.peers.send_if_modified(|peers| {
            let changed = *peers != now;
            if changed {
                tracing::info!(peers = ?now, "the other controllers");
                *peers = now;
            }
            changed
        });
    }
}

fn read(path: &Path) -> Result<Fronts, FileError> {
    match std::fs::read(path) {
        Ok(text) => {
            serde_json::from_slice(&text).map_err(|source| FileError::Parse { path: path.to_owned(), source })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Fronts::new()),
        Err(source) => Err(FileError::Read { path: path.to_owned(), source }),
    }
}

/// Returns the addresses, and what is none.
fn parse(data: BTreeMap<String, String>) -> (Fronts, Vec<String>) {
    let (mut fronts, mut strange) = (Fronts::new(), Vec::new());
    for (node, text) in data {
        match text.trim().parse() {
            Ok(address) => drop(fronts.insert(node, address)),
            Err(_) => strange.push(format!("`{node}: {text}`")),
        }
    }
    (fronts, strange)
}

/// Learns from the API for ever.
pub(crate) async fn run(kubeconfig: String, controllers: Controllers) {
    let board = &controllers.board;
    loop {
        let Err(error) = follow(&kubeconfig, &controllers).await;
        let sentence = format!("Controllers that are new are not noticed: {}.", chain(&error));
        match &error {
            ControllersError::Watch(source) if source.is_passing() => {
                board.passing_trouble(SUBJECT, &sentence);
            }
            _ => board.trouble(SUBJECT, &sentence),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn follow(kubeconfig: &str, controllers: &Controllers) -> Result<Infallible, ControllersError> {
    let client = cluster::client(kubeconfig).await.map_err(ControllersError::Cluster)?;
    let maps: Api<ConfigMap> = Api::namespaced(client, "kube-system");
    let mut states = pin!(watcher::watch_object(maps, CONTROLLERS_CONFIG_MAP));
    while let Some(state) = states.next().await {
        match state.map_err(ApiError::from) {
            // One that is not there yet, or was deleted, says nothing.
            Ok(map) => controllers.told(map.and_then(|map| map.data).unwrap_or_default()),
            Err(error) if error.is_expired() => tracing::debug!("{}", chain(&error)),
            Err(error) => return Err(ControllersError::Watch(error)),
        }
    }
    Err(ControllersError::Ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::node_config;

    fn told(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(node, address)| ((*node).to_owned(), (*address).to_owned())).collect()
    }

    /// The configuration of `cp-1` with these peers.
    fn config(peers: &[(&str, &str)]) -> NodeConfig {
        let front = kayak_core::node::Front {
            component: apiserver::NAME.into(),
            own: vec![],
            shared: vec![],
            peers: peers.iter().map(|(node, at)| ((*node).to_owned(), at.parse().unwrap())).collect(),
            port: 6443,
            ready_path: "/readyz".into(),
            server_name: "kubernetes".into(),
            ca_file: "/nonexistent".into(),
        };
        NodeConfig { fronts: vec![front], ..node_config() }
    }

    fn known(controllers: &Controllers) -> Vec<String> {
        let peers = controllers.subscribe().borrow().clone();
        peers.into_iter().map(|(address, node)| format!("{node} {address}")).collect()
    }

    #[test]
    fn until_the_api_speaks_all_that_was_heard_counts_and_then_its_word_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lib/controllers.json");
        let board = Board::new();
        let controllers = Controllers::kept(&path, &board);
        controllers.configure(&config(&[("cp-2", "10.0.0.3:6443")]));
        assert_eq!(known(&controllers), ["cp-2 10.0.0.3:6443"]);
        controllers.told(told(&[
            ("cp-1", "10.0.0.2:6443"),
            ("cp-3", "10.0.0.4:6443"),
            ("renamed", "10.0.0.2:6443"),
        ]));
        assert_eq!(known(&controllers), ["cp-3 10.0.0.4:6443"], "never this node itself");

        // The next start, without an API: the configuration may be older or newer.
        let controllers = Controllers::kept(&path, &board);
        controllers.configure(&config(&[("cp-2", "10.0.0.3:6443"), ("cp-3", "10.0.0.9:6443")]));
        assert_eq!(known(&controllers), ["cp-2 10.0.0.3:6443", "cp-3 10.0.0.4:6443", "cp-3 10.0.0.9:6443"]);
        controllers.told(told(&[("cp-1", "10.0.0.2:6443"), ("cp-3", "10.0.0.9:6443")]));
        assert_eq!(known(&controllers), ["cp-3 10.0.0.9:6443"]);
        // The same configuration again is no news; another one is.
        controllers.configure(&config(&[("cp-2", "10.0.0.3:6443"), ("cp-3", "10.0.0.9:6443")]));
        assert_eq!(known(&controllers), ["cp-3 10.0.0.9:6443"]);
        controllers.configure(&config(&[("cp-3", "10.1.0.9:6443")]));
        assert_eq!(known(&controllers), ["cp-3 10.0.0.9:6443", "cp-3 10.1.0.9:6443"]);
        assert_eq!(Controllers::kept(&path, &board).known.lock().unwrap().told.len(), 2);
    }

    #[tokio::test]
    async fn what_is_no_address_is_named_and_what_is_not_there_forgets_nothing() {
        let root = tempfile::tempdir().unwrap();
        let board = Board::new();
        let controllers = Controllers::kept(&root.path().join("controllers.json"), &board);
        controllers.configure(&config(&[]));
        controllers.told(told(&[("cp-2", "10.0.0.3:6443"), ("cp-3", "cp-3:6443")]));
        assert_eq!(known(&controllers), ["cp-2 10.0.0.3:6443"]);
        let status = board.wait(|status| !status.troubles.is_empty()).await;
        assert!(status.troubles[0].contains("`cp-3: cp-3:6443`"), "{:?}", status.troubles);
        controllers.told(BTreeMap::new());
        assert_eq!(known(&controllers), ["cp-2 10.0.0.3:6443"]);
        board.wait(|status| status.troubles.is_empty()).await;
    }

    #[tokio::test]
    async fn a_damaged_file_is_a_trouble_until_it_is_written_anew() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("controllers.json");
        std::fs::write(&path, "{").unwrap();
        let board = Board::new();
        let controllers = Controllers::kept(&path, &board);
        let status = board.wait(|status| !status.troubles.is_empty()).await;
        assert!(status.troubles[0].contains("failed to understand"), "{:?}", status.troubles);
        controllers.told(told(&[("cp-2", "10.0.0.3:6443")]));
        board.wait(|status| status.troubles.is_empty()).await;
        assert_eq!(read(&path).unwrap().len(), 1);
    }
}
