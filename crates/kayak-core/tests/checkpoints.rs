//! One controller's API server through whatever may happen: pods that cannot run, power cuts in the middle of a
//! write, runtimes that do not answer, kubelets that start without an API. The real state machine decides; disk,
//! kubelet and workload are values, and a second is a step.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use kayak_core::checkpoint::state::{
    Action, Elsewhere, Memory, Need, Own, Seen, State, decide, is_placed_at_boot,
};

/// A generation on the disk: what of it was written, and of which template it is.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Generation {
    good: bool,
    whole: bool,
}

/// A process: for how many seconds it has been running, and whether it ever serves.
#[derive(Debug, Clone, Copy)]
struct Process {
    age: u32,
    good: bool,
}

impl Process {
    fn serves(self) -> bool {
        self.good && self.age >= 3
    }
}

/// How long a bad one runs before it ends: as one with a wrong CA of etcd.
const FAILS_AFTER: u32 = 20;

#[derive(Debug, Default)]
struct World {
    now: u64,
    // The disk
    generations: Vec<Generation>,
    current: Option<usize>,
    manifest: bool,
    // In etcd
    template_is_good: bool,
    pod_is_good: Option<bool>,
    // What runs
    power: bool,
    etcd: bool,
    runtime_answers: bool,
    kubelet_has_heard: bool,
    kubelet_knows_pod: Option<bool>,
    own: Option<Process>,
    copy: Option<Process>,
    agent: Option<Memory>,
    kept_own: bool,
    ever_kept: bool,
}

/// A generator of numbers that are the same for the same seed (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

impl World {
    fn new() -> Self {
        let mut world =
            Self { template_is_good: true, pod_is_good: Some(true), etcd: true, ..Self::default() };
        // As the temporary control plane leaves it.
        world.start();
        world.kubelet_has_heard = true;
        world.kubelet_knows_pod = Some(true);
        world
    }

    fn api_serves(&self) -> bool {
        self.etcd && [self.own, self.copy].into_iter().flatten().any(Process::serves)
    }

    fn state(&self) -> State {
        match (self.generations.iter().any(|one| one.whole), self.manifest) {
            (false, false) => State::Empty,
            (false, true) => panic!("a manifest without a generation"),
            (true, false) => State::Kept,
            (true, true) => State::Active,
        }
    }

    fn cut_power(&mut self) {
        self.power = false;
        (self.own, self.copy, self.agent) = (None, None, None);
        (self.kubelet_has_heard, self.kubelet_knows_pod) = (false, None);
    }

    /// The node starts: the agent first, then the kubelet.
    fn start(&mut self) {
        self.power = true;
        self.runtime_answers = true;
        self.agent = Some(Memory::default());
        self.manifest =
            is_placed_at_boot(Need::Api, if self.manifest { State::Active } else { self.state() });
        if self.manifest {
            self.current = self.generations.iter().rposition(|one| one.whole);
        }
    }

    /// Something happens.
    fn blow(&mut self, dice: &mut Dice) {
        match dice.roll(60) {
            0 => self.cut_power(),
            1..8 if !self.power => self.start(),
            8 => self.etcd = false,
            9..14 => self.etcd = true,
            14 => self.runtime_answers = false,
            15..20 => self.runtime_answers = true,
            20 => self.agent = None,
            21..26 if self.power && self.agent.is_none() => self.agent = Some(Memory::default()),
            // Somebody rolls out, forward or back; with surge, a good old one stays where the new one is bad.
            26 if self.api_serves() => self.template_is_good = false,
            27..29 if self.api_serves() => {
                self.template_is_good = true;
                self.pod_is_good = Some(true);
            }
            29 | 30 if self.api_serves() => self.pod_is_good = None,
            31 => self.own = None,
            32 => self.copy = None,
            // The kubelet ends; what it started lives on.
            33 => (self.kubelet_has_heard, self.kubelet_knows_pod) = (false, None),
            // The disk forgets what a generation held, but not of the last one.
            34 if self.generations.iter().filter(|one| one.whole).count() > 1 => {
                let last = self.generations.iter_mut().rev().find(|one| one.whole);
                last.unwrap().whole = false;
            }
            _ => {}
        }
    }

    /// What kubelet and workload controller do in a second.
    fn live(&mut self) {
        if !self.power {
            return;
        }
        if self.api_serves() {
            self.pod_is_good = self.pod_is_good.or(Some(self.template_is_good));
            self.kubelet_has_heard = true;
            if self.kubelet_knows_pod != self.pod_is_good {
                self.kubelet_knows_pod = self.pod_is_good;
                (self.own, self.kept_own) = (None, false);
            }
        }
        let age = |process: &mut Option<Process>| {
            if let Some(process) = process {
                process.age += 1;
            }
        };
        age(&mut self.own);
        age(&mut self.copy);
        self.own = self.own.filter(|own| own.good || own.age < FAILS_AFTER);
        match (self.own, self.kubelet_knows_pod) {
            (None, Some(good)) => (self.own, self.kept_own) = (Some(Process { age: 0, good }), false),
            (Some(_), None) if self.kubelet_has_heard => self.own = None,
            _ => {}
        }
        match (self.manifest, self.copy) {
            (true, None) => {
                let good = self.current.is_some_and(|at| self.generations[at].good);
                self.copy = Some(Process { age: 0, good });
            }
            // A kubelet that has heard from no API removes nothing.
            (false, Some(_)) if self.kubelet_has_heard => self.copy = None,
            _ => {}
        }
    }

    /// What the agent does in a second. Power may go between any two writes.
    fn act(&mut self, dice: &mut Dice, calm: bool) {
        let Some(mut memory) = self.agent.take().filter(|_| self.power) else { return };
        let own = match (self.runtime_answers, self.own) {
            (false, _) => Own::Unknown,
            (true, Some(own)) if own.serves() && self.etcd => Own::Serving { kept: self.kept_own },
            (true, Some(_)) => Own::Coming,
            (true, None) => Own::Missing,
        };
        let seen = Seen {
            own,
            copy_serves: self.copy.is_some_and(Process::serves) && self.etcd,
            elsewhere: Elsewhere::Nobody,
            able: self.etcd,
            spare: self.generations.iter().filter(|one| one.whole).count() > 1,
        };
        let lasting = memory.see(&seen, Duration::from_secs(self.now));
        let mut writes: Vec<fn(&mut World)> = Vec::new();
        match decide(Need::Api, self.state(), &seen, &lasting) {
            Action::Wait => {}
            Action::Keep => writes.extend([
                |world: &mut World| {
                    let good = world.own.is_some_and(|own| own.good);
                    world.generations.push(Generation { good, whole: false });
                },
                |world: &mut World| {
                    world.generations.last_mut().unwrap().whole = true;
                    (world.kept_own, world.ever_kept) = (true, true);
                },
                |world: &mut World| {
                    if !world.manifest && world.generations.len() > 3 {
                        world.generations.remove(0);
                        world.current = None;
                    }
                },
            ] as [fn(&mut World); 3]),
            Action::Place => writes.extend([
                |world: &mut World| world.current = world.generations.iter().rposition(|one| one.whole),
                |world: &mut World| world.manifest = true,
            ] as [fn(&mut World); 2]),
            Action::Switch => {
                memory.begin_anew();
                writes.push(|world| {
                    let current = world.current;
                    let mut others = (0..world.generations.len()).filter(|at| Some(*at) != current);
                    world.current = others.rfind(|at| world.generations[*at].whole);
                    world.copy = None;
                });
            }
            Action::Withdraw => {
                assert!(self.own.is_some_and(Process::serves), "the last copy was withdrawn: {self:?}");
                writes.push(|world| world.manifest = false);
            }
        }
        self.agent = Some(memory);
        for write in writes {
            if !calm && dice.roll(15) == 0 {
                self.cut_power();
                return;
            }
            write(self);
        }
    }

    fn step(&mut self, dice: &mut Dice, calm: bool) {
        self.now += 1;
        self.live();
        self.act(dice, calm);
        assert!(!self.ever_kept || self.generations.iter().any(|one| one.whole && one.good), "{self:?}");
    }
}

#[test]
fn whatever_happens_there_is_a_way_back_and_no_second_copy_stays() {
    for seed in 1..=3000 {
        let mut dice = Dice(seed * 0x9e37_79b9_7f4a_7c15);
        let mut world = World::new();
        while !world.ever_kept {
            world.step(&mut dice, true);
        }
        for _ in 0..300 {
            world.blow(&mut dice);
            world.step(&mut dice, false);
        }
        // Nothing happens any more, and what is outside of the agent's power is well.
        world.etcd = true;
        if !world.power {
            world.start();
        }
        world.runtime_answers = true;
        world.agent.get_or_insert_default();
        let before = format!("{world:?}");
        let serves = (0..90).any(|_| {
            world.step(&mut dice, true);
            world.api_serves()
        });
        assert!(serves, "seed {seed}: no control plane, and no way back: {before}\nnow {world:?}");
        for _ in 0..90 {
            world.step(&mut dice, true);
        }
        assert!(world.api_serves(), "seed {seed}: it serves no more: {world:?}");
        let successor = world.own.is_some_and(Process::serves);
        assert!(!(successor && (world.manifest || world.copy.is_some())), "seed {seed}: two stay: {world:?}");
        assert_eq!(successor, world.pod_is_good == Some(true), "seed {seed}: {world:?}");
    }
}
