//! The simulated machine as driver and API share it, and where a run on it is cut off.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

use crate::objects::Etcd;
use crate::world::World;

/// What happens to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// kayak is killed.
    Kill,
    /// The machine loses power for a moment: the node stops, and kayak is started again beside it.
    Power,
}

/// The points of a run: before each effect, and at each event that is told.
#[derive(Default)]
struct Points {
    passed: usize,
    blow: Option<(usize, Blow)>,
    last: String,
}

/// A simulated machine.
pub(crate) struct Sim {
    world: Mutex<World>,
    changed: watch::Sender<()>,
    points: Mutex<Points>,
    killed: watch::Sender<bool>,
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a simulated machine")
    }
}

impl Sim {
    pub(crate) fn new(world: World) -> Self {
        let (changed, killed) = (watch::Sender::new(()), watch::Sender::new(false));
        Self { world: Mutex::new(world), changed, points: Mutex::default(), killed }
    }

    /// The world, to look at.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Changes the world, and wakes whoever follows it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let changed = change(&mut self.world());
        self.changed.send_replace(());
        changed
    }

    /// Changes what is in etcd, which only an API server does.
    pub(crate) fn change_etcd<T>(&self, change: impl FnOnce(&mut Etcd) -> T) -> T {
        self.change(|world| change(&mut world.node.as_mut().expect("an API server answered").etcd))
    }

    /// Looks at what is in etcd.
    pub(crate) fn etcd<T>(&self, look: impl FnOnce(&Etcd) -> T) -> T {
        look(&self.world().node.as_ref().expect("an API server answered").etcd)
    }

    /// Told whenever the world changes.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Begins to count anew, for a run that this happens to at this point.
    pub(crate) fn begin(&self, blow: Option<(usize, Blow)>) {
        *self.points.lock().unwrap() = Points { blow, ..Points::default() };
        self.killed.send_replace(false);
    }

    /// Ends when the run is killed.
    pub(crate) async fn killed(&self) {
        let mut killed = self.killed.subscribe();
        // The sender lives as long as this.
        let _ = killed.wait_for(|killed| *killed).await;
    }

    /// Where the run is.
    pub(crate) fn point(&self) -> String {
        let points = self.points.lock().unwrap();
        format!("point {} ({})", points.passed, points.last)
    }

    /// Passes a point.
    pub(crate) fn pass(&self, what: &str) {
        let blow = {
            let mut points = self.points.lock().unwrap();
            if *self.killed.borrow() {
                return;
            }
            what.clone_into(&mut points.last);
            let blow = points.blow.filter(|(at, _)| *at == points.passed).map(|(_, blow)| blow);
            points.passed += 1;
            blow
        };
        match blow {
            Some(Blow::Kill) => drop(self.killed.send_replace(true)),
            Some(Blow::Power) => self.change(World::lose_power),
            None => {}
        }
    }

    /// Passes the point before an effect. A run that was killed gets no further.
    pub(crate) async fn effect(&self, what: &str) {
        tokio::task::yield_now().await;
        self.pass(what);
        if *self.killed.borrow() {
            std::future::pending::<()>().await;
        }
    }
}
