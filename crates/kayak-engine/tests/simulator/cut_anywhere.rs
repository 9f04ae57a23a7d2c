//! Each way to begin, cut off at every point there is.

use std::collections::BTreeSet;

use kayak_core::assets::{Assets, Content};
use kayak_core::object::ObjectId;
use kayak_core::pki::{Pair, certificates};
use kayak_core::plan::Named;
use kayak_engine::asset_dir;
use serde_json::{Value, json};

use crate::converged::OwnersFields;
use crate::machine::{Ending, Inventory, Machine, Wish};
use crate::objects::{Key, Path};
use crate::sim::Blow;
use crate::world::World;

/// A machine with a cluster that is up.
async fn up() -> Machine {
    let mut machine = Machine::new(World::default());
    assert_eq!(machine.run(&Wish::default(), None).await, Ending::Done);
    machine
}

/// Some change of the configuration: another certificate, Secret and workload follow from it.
fn other_name() -> Wish {
    Wish { config: "api:\n  extraNames: [other.example]\n".into(), ..Wish::default() }
}

fn other_version() -> Wish {
    Wish { version: 1, ..Wish::default() }
}

/// How runs from one beginning end when nothing happens to them.
struct Undisturbed<'a> {
    start: &'a Machine,
    wish: &'a Wish,
    owners: OwnersFields,
    inventory: Inventory,
    /// Pairs that the wish has issued anew.
    issued: BTreeSet<String>,
}

impl<'a> Undisturbed<'a> {
    async fn from(start: &'a Machine, wish: &'a Wish, owners: OwnersFields) -> Self {
        let mut machine = start.copy();
        assert_eq!(machine.run(wish, None).await, Ending::Done);
        machine.assert_converged(wish, &owners).await;
        let (before, after) = (start.keys().pairs, machine.keys().pairs);
        let issued = before.iter().filter(|(id, pair)| after[*id] != **pair).map(|(id, _)| id.clone());
        Self { start, wish, owners, inventory: machine.inventory(), issued: issued.collect() }
    }

    /// Runs again after something happened, and compares.
    async fn recovers(&self, mut machine: Machine) {
        let (before, kept) = (self.start.keys(), machine.keys());
        let ending = machine.run(self.wish, None).await;
        assert_eq!(ending, Ending::Done, "cut off {:#?}", machine.cuts);
        machine.assert_converged(self.wish, &self.owners).await;
        assert_eq!(machine.inventory(), self.inventory, "cut off {:#?}", machine.cuts);
        // What the wish issues anew counts from when it was written.
        let old = self.issued.iter().filter(|id| kept.pairs.get(*id) == before.pairs.get(*id));
        machine.assert_kept(&kept, &old.map(String::as_str).collect::<Vec<_>>());
    }

    /// Kills runs at every point, of which there are at least so many; returns how many.
    async fn is_reached_wherever_killed(&self, at_least: usize) -> usize {
        let mut point = 0;
        loop {
            let mut machine = self.start.copy();
            if machine.run(self.wish, Some((point, Blow::Kill))).await == Ending::Done {
                assert!(point >= at_least, "only {point} points");
                return point;
            }
            self.recovers(machine).await;
            point += 1;
        }
    }

    /// The same, and takes away power at some of these points: the seeds try others.
    async fn is_reached_wherever_cut(&self, at_least: usize) {
        for point in (0..self.is_reached_wherever_killed(at_least).await).step_by(8) {
            let mut machine = self.start.copy();
            machine.run(self.wish, Some((point, Blow::Power))).await;
            self.recovers(machine).await;
        }
    }

    /// Cuts off the writing of assets between any two files. Runs are made from some of these places only:
    /// they differ in nothing but the keys that are whole.
    async fn is_reached_from_any_part_of_the_assets(&self, at_least: usize) {
        let (assets, _) = self.start.copy().render(self.wish);
        let count = asset_dir::writes(&self.start.kept(), &assets).unwrap().len();
        assert!(count >= at_least, "only {count} files");
        for done in 1..count {
            let mut machine = self.start.copy();
            for write in &asset_dir::writes(&machine.kept(), &assets).unwrap()[..done] {
                write.carry_out(&machine.kept()).unwrap();
            }
            machine.cuts.push(format!("after {done} of {count} assets"));
            let edited = asset_dir::edited(&machine.kept()).unwrap();
            assert!(edited.is_empty(), "after {done} assets, taken for edits: {:?}", edited.keys());
            if done % 8 != 0 {
                continue;
            }
            let mut kept = machine.keys();
            let ending = machine.run(self.wish, None).await;
            assert_eq!(ending, Ending::Done, "cut off {:#?}", machine.cuts);
            machine.assert_converged(self.wish, &self.owners).await;
            assert_eq!(machine.inventory(), self.inventory, "cut off {:#?}", machine.cuts);
            let pairs = kept.pairs.clone();
            let is_whole = |id: &str| pairs.get(id).is_some_and(|pair| is_from(&assets, id, pair));
            let table = certificates(&assets.cluster);
            kept.pairs.retain(|id, _| {
                let authority =
                    table.iter().find(|spec| spec.id == *id).map_or(id.as_str(), |s| s.authority.id());
                is_whole(id) && is_whole(authority)
            });
            machine.assert_kept(&kept, &[]);
        }
    }
}

/// Whether both halves of a pair are those of a rendering.
fn is_from(assets: &Assets, id: &str, pair: &Pair) -> bool {
    [("crt", pair.certificate.as_str()), ("key", pair.key.expose())].iter().all(|(half, text)| {
        assets.files.get(&format!("tls/{id}.{half}")) == Some(&Content::File((*text).into()))
    })
}

#[tokio::test(start_paused = true)]
async fn a_first_run() {
    let (start, wish) = (Machine::new(World::default()), Wish::default());
    let undisturbed = Undisturbed::from(&start, &wish, OwnersFields::new()).await;
    undisturbed.is_reached_wherever_cut(100).await;
    undisturbed.is_reached_from_any_part_of_the_assets(80).await;
}

#[tokio::test(start_paused = true)]
async fn the_start_of_a_stopped_node() {
    let (start, wish) = (up().await, Wish::default());
    start.sim.change(World::lose_power);
    Undisturbed::from(&start, &wish, OwnersFields::new()).await.is_reached_wherever_cut(50).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_configuration() {
    let (start, wish) = (up().await, other_name());
    let undisturbed = Undisturbed::from(&start, &wish, OwnersFields::new()).await;
    assert_eq!(undisturbed.issued, BTreeSet::from(["kube-apiserver".to_owned()]));
    undisturbed.is_reached_wherever_cut(10).await;
    undisturbed.is_reached_from_any_part_of_the_assets(5).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_must_be_made_anew() {
    let (start, wish) = (up().await, other_version());
    let undisturbed = Undisturbed::from(&start, &wish, OwnersFields::new()).await;
    undisturbed.is_reached_wherever_cut(50).await;
    undisturbed.is_reached_from_any_part_of_the_assets(10).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_part_of_the_control_plane() {
    let (start, wish) = (up().await, Wish::default());
    let scheduler = Key::of(&object("apps/v1", "Deployment", "kube-scheduler"));
    assert!(start.sim.change_etcd(|etcd| etcd.delete(&scheduler)));
    start.wait(10).await;
    Undisturbed::from(&start, &wish, OwnersFields::new()).await.is_reached_wherever_cut(20).await;
}

#[tokio::test(start_paused = true)]
async fn edits_of_which_one_is_reverted() {
    let start = up().await;
    let (coredns, proxy) =
        (object("apps/v1", "Deployment", "coredns"), object("apps/v1", "DaemonSet", "kube-proxy"));
    let replicas = Path::keys(&["spec", "replicas"]);
    let history = Path::keys(&["spec", "revisionHistoryLimit"]);
    edit(&start, &coredns, &replicas, Some(json!(3)));
    edit(&start, &proxy, &history, Some(json!(1)));
    let named = Named { revert: ["deployment/coredns".to_owned()].into(), ..Named::default() };
    let wish = Wish { named, ..Wish::default() };
    let owners = OwnersFields::from([((Key::of(&proxy), history), Some(json!(1)))]);
    Undisturbed::from(&start, &wish, owners).await.is_reached_wherever_cut(6).await;
}

#[tokio::test(start_paused = true)]
async fn a_field_that_its_owner_took_away_while_kayak_changes_others() {
    let start = up().await;
    let proxy = object("apps/v1", "DaemonSet", "kube-proxy");
    let history = Path::keys(&["spec", "revisionHistoryLimit"]);
    edit(&start, &proxy, &history, None);
    let owners = OwnersFields::from([((Key::of(&proxy), history), None)]);
    Undisturbed::from(&start, &other_version(), owners).await.is_reached_wherever_cut(6).await;
}

#[tokio::test(start_paused = true)]
async fn a_removal() {
    let start = up().await;
    let label = Path::keys(&["metadata", "labels", "app.kubernetes.io/managed-by"]);
    edit(&start, &object("v1", "ConfigMap", "old"), &label, Some(json!("kayak")));
    let named = Named { remove: ["configmap/old".to_owned()].into(), ..Named::default() };
    let wish = Wish { named, ..Wish::default() };
    // Without an API nobody knows what may be removed: then the wish waits for a run that sees one.
    Undisturbed::from(&start, &wish, OwnersFields::new()).await.is_reached_wherever_killed(4).await;
}

pub(crate) fn object(api_version: &str, kind: &str, name: &str) -> ObjectId {
    ObjectId {
        api_version: api_version.into(),
        kind: kind.into(),
        namespace: Some("kube-system".into()),
        name: name.into(),
    }
}

/// Sets a field as `kubectl edit` does.
fn edit(machine: &Machine, id: &ObjectId, path: &Path, value: Option<Value>) {
    machine
        .sim
        .change_etcd(|etcd| etcd.change(id, |object| object.update("kubectl-edit", path.clone(), value)));
}
