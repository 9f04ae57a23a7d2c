//! Many blows in a row, and an owner who edits and breaks things in between: drawn from a seed.

use std::env;

use fastrand::Rng;
use kayak_core::host::MANIFEST_DIR;
use kayak_core::object::ObjectId;
use kayak_core::plan::Named;
use kayak_engine::asset_dir;
use serde_json::json;

use crate::converged::OwnersFields;
use crate::cut_anywhere::object;
use crate::machine::{Ending, Machine, Wish};
use crate::objects::{Key, Path};
use crate::sim::Blow;
use crate::world::World;

/// Which seeds to try: `7`, or `0-99`.
const VARIABLE: &str = "KAYAK_SIMULATOR_SEEDS";
/// Those that are tried where nothing else is said.
const DEFAULT: &str = "0-19";

#[test]
fn whatever_happens_is_recovered_from() {
    let seeds = env::var(VARIABLE).unwrap_or_else(|_| DEFAULT.into());
    let (first, last) = seeds.split_once('-').unwrap_or((&seeds, &seeds));
    for seed in first.parse().unwrap()..=last.parse::<u64>().unwrap() {
        let replay = Replay(seed);
        // Clients draw from this how long they wait before they ask again.
        fastrand::seed(seed);
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(async { Story::new(seed).play().await });
        drop(replay);
    }
}

/// Says how to see a failure again.
struct Replay(u64);

impl Drop for Replay {
    #[expect(clippy::print_stderr, reason = "for whoever looks at the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "to see it again:\n  {VARIABLE}={} cargo test --release -p kayak-engine --test simulator \
                 whatever_happens",
                self.0
            );
        }
    }
}

/// What happens to one machine.
struct Story {
    rng: Rng,
    machine: Machine,
    wish: Wish,
    owners: OwnersFields,
}

impl Story {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            machine: Machine::new(World::default()),
            wish: Wish::default(),
            owners: OwnersFields::new(),
        }
    }

    async fn play(mut self) {
        for _ in 0..self.rng.usize(2..9) {
            self.misfortune().await;
            self.owner_does_something();
            self.machine.wait(self.rng.u32(0..12)).await;
        }
        let kept = self.machine.keys();
        let before = self.issued_by_the_wish();
        let ending = self.machine.run(&self.wish, None).await;
        assert_eq!(ending, Ending::Done, "{:#?}", self.machine.cuts);
        let named = std::mem::take(&mut self.wish.named);
        self.owners.retain(|(key, _), _| !named.revert.contains(&format!("deployment/{}", key.name)));
        self.machine.assert_converged(&self.wish, &self.owners).await;
        let except: Vec<_> = before.iter().map(String::as_str).collect();
        self.machine.assert_kept(&kept, &except);
    }

    /// What the table wants otherwise than it was kept.
    fn issued_by_the_wish(&self) -> Vec<String> {
        self.machine.render(&self.wish).1.into_keys().collect()
    }

    /// A run that something happens to.
    async fn misfortune(&mut self) {
        // Blows are dealt where most of the points are, and now and then the run gets to its end.
        let before = [10, 60, 200][self.rng.usize(0..3)];
        let at = self.rng.usize(0..before);
        match self.rng.u32(0..10) {
            0 => {
                self.machine.cuts.push("the machine loses power".into());
                self.machine.sim.change(World::lose_power);
            }
            1 => {
                let (assets, _) = self.machine.render(&self.wish);
                let writes = asset_dir::writes(&self.machine.kept(), &assets).unwrap();
                let done = self.rng.usize(0..=writes.len());
                self.machine.cuts.push(format!("after {done} of {} assets", writes.len()));
                writes[..done].iter().for_each(|write| write.carry_out(&self.machine.kept()).unwrap());
            }
            2..4 => drop(self.machine.run(&self.wish, Some((at, Blow::Power))).await),
            _ => drop(self.machine.run(&self.wish, Some((at, Blow::Kill))).await),
        }
    }

    fn owner_does_something(&mut self) {
        match self.rng.u32(0..10) {
            0 => self.wish.config = format!("api:\n  extraNames: [n{}.example]\n", self.rng.u32(0..9)),
            1 => self.wish.version = self.rng.u32(0..3),
            2 => self.edit(&object("apps/v1", "Deployment", "coredns"), &["spec", "replicas"]),
            3 => self.edit(&object("apps/v1", "DaemonSet", "kube-proxy"), &["spec", "revisionHistoryLimit"]),
            4 => {
                self.wish.named =
                    Named { revert: ["deployment/coredns".to_owned()].into(), ..Named::default() }
            }
            5 => self.delete(&object("v1", "ConfigMap", "coredns")),
            6 => {
                let name = ["kube-controller-manager", "kube-scheduler"][self.rng.usize(0..2)];
                self.delete(&object("apps/v1", "Deployment", name));
            }
            7 => self.lose_a_file(),
            _ => {}
        }
    }

    /// Sets a field of an object to a number, if the API takes it.
    fn edit(&mut self, id: &ObjectId, field: &[&str]) {
        let (key, path, value) = (Key::of(id), Path::keys(field), json!(self.rng.u32(2..5)));
        let sim = &self.machine.sim;
        if sim.world().api_answers() && sim.etcd(|etcd| etcd.objects.contains_key(&key)) {
            self.machine.cuts.push(format!("the owner edits {id}"));
            sim.change_etcd(|e| {
                e.change(id, |object| object.update("kubectl-edit", path.clone(), Some(value.clone())));
            });
            self.owners.insert((key, path), Some(value));
        }
    }

    fn delete(&mut self, id: &ObjectId) {
        if self.machine.sim.world().api_answers() {
            self.machine.cuts.push(format!("the owner deletes {id}"));
            self.machine.sim.change_etcd(|etcd| etcd.delete(&Key::of(id)));
            self.owners.retain(|(key, _), _| *key != Key::of(id));
        }
    }

    /// Some file of the node is gone; not a manifest, since with etcd's the API goes away, too.
    fn lose_a_file(&mut self) {
        let rng = &mut self.rng;
        let lost = self.machine.sim.change(|world| {
            let files = &mut world.node.as_mut()?.files;
            let all: Vec<_> = files.keys().filter(|path| !path.starts_with(MANIFEST_DIR)).cloned().collect();
            let path = all.get(rng.usize(0..all.len().max(1)))?.clone();
            files.remove(&path).map(|_| path)
        });
        self.machine.cuts.extend(lost.map(|path| format!("the node loses {path}")));
    }
}
