//! The instances of one component, and which of them gets the next connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// The instances of one component, shared by those who find, probe and use them.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    instances: Arc<watch::Sender<Vec<Instance>>>,
}

impl Pool {
    pub(super) fn new() -> Self {
        let (instances, _) = watch::channel(Vec::new());
        Self { instances: Arc::new(instances) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Vec<Instance>> {
        self.instances.subscribe()
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
        self.instances.send_modify(|instances| instances.push(instance));
    }

    pub(super) fn remove(&self, uid: &str) {
        self.instances.send_modify(|instances| instances.retain(|instance| instance.uid != uid));
    }

    /// Sets whether the instance is given new connections: if not, `because` says why.
    pub(super) fn set_ready(&self, uid: &str, because: Option<&str>) {
        self.instances.send_if_modified(|instances| {
            let Some(instance) = instances.iter_mut().find(|known| known.uid == uid) else {
                return false;
            };
            let before = instance.because.take();
            instance.ready = because.is_none();
            instance.because = because.map(str::to_owned);
            instance.because != before
        });
    }

    /// Closes the established connections of an instance.
    pub(super) fn close(&self, uid: &str) {
        let instances = self.instances.borrow();
        if let Some(instance) = instances.iter().find(|instance| instance.uid == uid) {
            instance.close.send_replace(());
        }
    }

    /// Returns the instance for a new connection, or nothing if none is ready.
    pub(super) fn pick(&self) -> Option<Picked> {
        let instances = self.instances.borrow();
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
}
