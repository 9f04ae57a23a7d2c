//! A simulated machine on which kayak is run: as `kayak up` does, with all but the machine real.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::assets::{Assets, Content};
use kayak_core::cluster::{Cluster, Images, MachineFacts};
use kayak_core::config::Config;
use kayak_core::object::Object;
use kayak_core::pki::KeyStore;
use kayak_core::plan::{Named, Plan, Wish as Wished, lint, plan};
use kayak_engine::asset_dir::{self, Write};
use kayak_engine::cluster::ClusterHandle;
use kayak_engine::event::Event;
use kayak_engine::execute::Executor;
use kayak_engine::keystore;
use kayak_engine::observe::observe;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::task::JoinSet;

use crate::driver::SimDriver;
use crate::sim::{Blow, Sim};
use crate::world::World;
use crate::{api, life};

/// How often the node does something by itself.
const TICK: Duration = Duration::from_secs(1);
/// How long a gate is waited for: nothing that can come takes the simulated node as long.
const PATIENCE: Duration = Duration::from_secs(40);

/// What is wished of the cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// The text of `cluster.yaml`.
    pub(crate) config: String,
    /// Which version the images are of.
    pub(crate) version: u32,
    pub(crate) named: Named,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    Done,
    Killed,
    Failed(String),
}

/// A machine, and the directory in which kayak keeps a cluster's assets.
pub(crate) struct Machine {
    pub(crate) sim: Arc<Sim>,
    directory: TempDir,
    /// Where runs were cut off.
    pub(crate) cuts: Vec<String>,
    _life: JoinSet<()>,
}

impl Machine {
    pub(crate) fn new(world: World) -> Self {
        let sim = Arc::new(Sim::new(world));
        let mut life = JoinSet::new();
        let lives = Arc::clone(&sim);
        life.spawn(async move {
            loop {
                tokio::time::sleep(TICK).await;
                lives.change(life::tick);
            }
        });
        // Every asset is synced to the disk, which costs nothing where there is none.
        let memory = Utf8Path::new("/dev/shm");
        let directory = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        Self { sim, directory: directory.unwrap(), cuts: Vec::new(), _life: life }
    }

    /// Another one in the same state.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new(self.sim.world().clone());
        for (path, content) in self.assets() {
            Write { path, content: Some(content) }.carry_out(&copy.kept()).unwrap();
        }
        copy
    }

    /// Where the assets are.
    pub(crate) fn kept(&self) -> Utf8PathBuf {
        Utf8PathBuf::try_from(self.directory.path().join("assets")).unwrap()
    }

    /// What lies there.
    pub(crate) fn assets(&self) -> BTreeMap<String, Content> {
        let (top, mut found, mut pending) = (self.kept(), BTreeMap::new(), vec![self.kept()]);
        while let Some(directory) = pending.pop().filter(|_| top.exists()) {
            for entry in directory.read_dir_utf8().unwrap() {
                let path = entry.unwrap().into_path();
                let name = path.strip_prefix(&top).unwrap().to_string();
                match path.read_link_utf8() {
                    Ok(target) => drop(found.insert(name, Content::Link(target.into_string()))),
                    Err(_) if path.is_dir() => pending.push(path),
                    Err(_) => drop(found.insert(name, Content::File(std::fs::read(path).unwrap()))),
                }
            }
        }
        found
    }

    /// The keys that are kept.
    pub(crate) fn keys(&self) -> KeyStore {
        asset_dir::read_keys(&self.kept()).unwrap()
    }

    /// Lets the node live alone for some ticks.
    pub(crate) async fn wait(&self, ticks: u32) {
        tokio::time::sleep(TICK * ticks).await;
    }

    /// Renders the wish with the keys that are kept, and what was edited by hand.
    pub(crate) fn render(&self, wish: &Wish) -> (Assets, BTreeMap<String, String>) {
        let cluster = cluster(wish);
        let mut keys = self.keys();
        let issued =
            keystore::ensure(&mut keys, &cluster, &BTreeMap::new(), OffsetDateTime::now_utc()).unwrap();
        let mut assets = Assets::render(&cluster, &keys).unwrap();
        assets.keep(&asset_dir::edited(&self.kept()).unwrap());
        (assets, issued)
    }

    /// Looks, plans, and checks the plan.
    pub(crate) async fn decide(&self, wish: &Wish) -> Result<(ClusterHandle, Plan), String> {
        let (assets, issued) = self.render(wish);
        let ids: Vec<_> = assets.objects().unwrap().iter().map(Object::id).collect();
        let driver = Arc::new(SimDriver(Arc::clone(&self.sim)));
        let handle = ClusterHandle::with_client(assets, driver, api::client(&self.sim));
        let now = OffsetDateTime::now_utc();
        let seen = observe(&handle, &self.kept(), &issued, now).await.map_err(|e| e.to_string())?;
        let wished = Wished { cluster: &handle.assets.cluster, objects: &ids, named: &wish.named };
        let plan = plan(&wished, &seen);
        assert_eq!(lint(&plan, &seen), [], "cut off {:?}; the plan:\n{plan}", self.cuts);
        Ok((handle, plan))
    }

    /// Runs `kayak up`, to its end unless something happens to it.
    pub(crate) async fn run(&mut self, wish: &Wish, blow: Option<(usize, Blow)>) -> Ending {
        self.sim.begin(blow);
        let ending = tokio::select! {
            biased;
            () = self.sim.killed() => Ending::Killed,
            done = self.up(wish) => done.map_or_else(Ending::Failed, |()| Ending::Done),
        };
        if blow.is_some() {
            self.cuts.push(format!("{blow:?}: {ending:?} at {}", self.sim.point()));
        }
        ending
    }

    async fn up(&self, wish: &Wish) -> Result<(), String> {
        let (handle, plan) = self.decide(wish).await?;
        let tell = |event: Event| self.sim.pass(&format!("{event:?}"));
        let kept = self.kept();
        let executor =
            Executor { cluster: &handle, store: None, assets: &kept, tell: &tell, patience: PATIENCE };
        for phase in &plan.phases {
            executor.phase(phase).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// What there is, without what every cluster has of its own: its keys.
    pub(crate) fn inventory(&self) -> Inventory {
        let world = self.sim.world();
        let node = world.node.as_ref();
        Inventory {
            objects: node.iter().flat_map(|n| n.etcd.objects.keys()).map(|key| format!("{key:?}")).collect(),
            files: node.iter().flat_map(|n| n.files.keys()).cloned().collect(),
            certificates: self.keys().pairs.into_keys().collect(),
            assets: self.assets().into_keys().collect(),
        }
    }
}

/// Names of everything there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inventory {
    objects: BTreeSet<String>,
    files: BTreeSet<Utf8PathBuf>,
    certificates: BTreeSet<String>,
    assets: BTreeSet<String>,
}

fn cluster(wish: &Wish) -> Cluster {
    let images =
        Images::of("v1.36.3", |name| Ok::<_, ()>(format!("kayak.local/{name}:v{}", wish.version))).unwrap();
    Cluster::resolve(Config::parse(&wish.config).unwrap(), &wish.config, images, &MachineFacts::default())
        .unwrap()
}
