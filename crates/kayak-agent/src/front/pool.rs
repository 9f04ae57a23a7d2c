//! The instances of one component, and which of them gets the next connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kayak_core::node::InstanceStatus;
use tokio::sync::watch;

/// An instance that runs.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    uid: String,
    pod: String,
    address: SocketAddr,
    ready: bool,
    /// Why it is not ready.
    because: Option<String>,
    connections: Arc<AtomicUsize>,
    /// Marked as changed when established connections are to be closed; gone with the instance.
    close: Arc<watch::Sender<()>>,
}

impl Instance {
    pub(super) fn status(&self) -> InstanceStatus {
        InstanceStatus {
            uid: self.uid.clone(),
            pod: self.pod.clone(),
            address: self.address.ip(),
            node: None,
            ready: self.ready,
            because: self.because.clone(),
        }
    }
}

/// The right to connect to an instance; counts as one of its connections while it is kept.
#[derive(Debug)]
pub(super) struct Picked {
    pub(super) uid: String,
    pub(super) address: SocketAddr,
    /// Changes when the connection is to be closed; ends when the instance has ended.
    pub(super) close: watch::Receiver<()>,
    connections: Arc<AtomicUsize>,
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long clients are held after the last ready instance was seen: its kubelet, which needs no
/// API for that, starts it again within seconds.
const COMES_BACK: Duration = Duration::from_secs(30);

/// What is known of a component's instances.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Those that run; `None` until the runtime was asked for the first time.
    pub(super) running: Option<Vec<Instance>>,
    /// When an instance was ready that is not any more.
    last_ready: Option<Instant>,
}

impl Known {
    pub(super) fn running(&self) -> &[Instance] {
        self.running.as_deref().unwrap_or_default()
    }

    fn find(&mut self, uid: &str) -> Option<&mut Instance> {
        self.running.as_mut()?.iter_mut().find(|instance| instance.uid == uid)
    }
}

/// The instances of one component, shared by those who find, probe and use them.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    known: Arc<watch::Sender<Known>>,
}

impl Pool {
    pub(super) fn new() -> Self {
        let (known, _) = watch::channel(Known::default());
        Self { known: Arc::new(known) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    /// Notes that the runtime was asked: from now on an instance that is not here is not there.
    pub(super) fn looked(&self) {
        self.known.send_if_modified(|known| {
            let first = known.running.is_none();
            known.running.get_or_insert_default();
            first
        });
    }

    /// Whether an instance may become ready soon: one runs, or did a moment ago, or nobody knows.
    ///
    /// Where none does, nobody is held, and nobody listens: a kubelet that starts without an API asks
    /// for its Node between two rounds of mounting volumes (`updateReconstructedFromNodeStatus`), and
    /// while that question is held no static pod starts, etcd and the API server among them. A closed
    /// port ends it at once; a connection that is accepted and closed is tried again for 10 s.
    pub(super) fn may_become_ready(&self) -> bool {
        let known = self.known.borrow();
        let came_and_went = known.last_ready.is_some_and(|at| at.elapsed() < COMES_BACK);
        known.running.as_ref().is_none_or(|running| !running.is_empty()) || came_and_went
    }

    /// Waits until [`Self::may_become_ready`] is as wanted.
    pub(super) async fn until(&self, wanted: bool) {
        let mut changes = self.subscribe();
        while self.may_become_ready() != wanted {
            // The end of hope is no event: it comes by itself.
            let _either = tokio::time::timeout(COMES_BACK, changes.changed()).await;
        }
    }

    pub(super) fn add(&self, uid: &str, pod: &str, address: SocketAddr) {
        let (close, _) = watch::channel(());
        let instance = Instance {
            uid: uid.to_owned(),
            pod: pod.to_owned(),
            address,
            ready: false,
            because: Some("it was not asked yet".into()),
            connections: Arc::default(),
            close: Arc::new(close),
        };
        self.known.send_modify(|known| known.running.get_or_insert_default().push(instance));
    }

    pub(super) fn remove(&self, uid: &str) {
        self.known.send_modify(|known| {
            if known.find(uid).is_some_and(|instance| instance.ready) {
                known.last_ready = Some(Instant::now());
            }
            known.running.get_or_insert_default().retain(|instance| instance.uid != uid);
        });
    }

    /// Sets whether the instance is given new connections: if not, `because` says why.
    pub(super) fn set_ready(&self, uid: &str, because: Option<&str>) {
        self.known.send_if_modified(|known| {
            let Some(instance) = known.find(uid) else {
                return false;
            };
            let before = instance.because.take();
            let was_ready = std::mem::replace(&mut instance.ready, because.is_none());
            instance.because = because.map(str::to_owned);
            let changed = instance.because != before;
            if was_ready && because.is_some() {
                known.last_ready = Some(Instant::now());
            }
            changed
        });
    }

    /// Closes the established connections of an instance.
    pub(super) fn close(&self, uid: &str) {
        let known = self.known.borrow();
        if let Some(instance) = known.running().iter().find(|instance| instance.uid == uid) {
            instance.close.send_replace(());
        }
    }

    /// Returns the instance for a new connection, or nothing if none is ready.
    pub(super) fn pick(&self) -> Option<Picked> {
        let known = self.known.borrow();
        let instances = known.running();
        let chosen = choose(instances.iter().map(|instance| Candidate {
            ready: instance.ready,
            connections: instance.connections.load(Ordering::Relaxed),
        }))?;
        let instance = &instances[chosen];
        instance.connections.fetch_add(1, Ordering::Relaxed);
        Some(Picked {
            uid: instance.uid.clone(),
            address: instance.address,
            close: instance.close.subscribe(),
            connections: Arc::clone(&instance.connections),
        })
    }
}

/// What the choice depends on.
struct Candidate {
    ready: bool,
    connections: usize,
}

/// Returns the index of the ready candidate with the fewest connections, the first of equals.
fn choose(candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
    candidates
        .enumerate()
        .filter(|(_, candidate)| candidate.ready)
        .min_by_key(|(_, candidate)| candidate.connections)
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_one_with_the_fewest_connections_is_chosen() {
        let choose = |candidates: &[(bool, usize)]| {
            choose(candidates.iter().map(|&(ready, connections)| Candidate { ready, connections }))
        };
        assert_eq!(choose(&[]), None);
        assert_eq!(choose(&[(false, 0), (false, 0)]), None);
        assert_eq!(choose(&[(false, 0), (true, 9)]), Some(1));
        assert_eq!(choose(&[(true, 3), (true, 1), (false, 0)]), Some(1));
        assert_eq!(choose(&[(true, 2), (true, 2)]), Some(0));
    }

    #[test]
    fn a_dropped_connection_counts_no_more() {
        let pool = Pool::new();
        pool.add("a", "a", "127.64.0.1:1".parse().unwrap());
        pool.add("b", "b", "127.64.0.2:1".parse().unwrap());
        assert!(pool.pick().is_none());
        pool.set_ready("a", None);
        pool.set_ready("b", None);
        let first = pool.pick().unwrap();
        assert_eq!(first.uid, "a");
        assert_eq!(pool.pick().unwrap().uid, "b");
        drop(first);
        assert_eq!(pool.pick().unwrap().uid, "a");
        pool.set_ready("a", Some("it left"));
        assert_eq!(pool.pick().unwrap().uid, "b");
    }

    #[test]
    fn clients_wait_only_where_an_instance_may_become_ready() {
        let pool = Pool::new();
        assert!(pool.may_become_ready(), "nobody looked yet");
        pool.looked();
        assert!(!pool.may_become_ready(), "none runs");
        pool.add("a", "a", "127.64.0.1:1".parse().unwrap());
        assert!(pool.may_become_ready(), "one runs");
        pool.remove("a");
        assert!(!pool.may_become_ready(), "it was never ready");
        pool.add("b", "b", "127.64.0.2:1".parse().unwrap());
        pool.set_ready("b", None);
        pool.remove("b");
        assert!(pool.may_become_ready(), "it was ready a moment ago");
    }
}
