//! The instances of one component, and which of them gets the next connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kayak_core::checkpoint::is_checkpoint;
use kayak_core::node::InstanceStatus;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::health::Manner;
use super::prober::Target;

/// How long clients are held after an instance has started, or after the last ready one was seen: its
/// kubelet, which needs no API for that, starts it again within seconds.
pub(super) const COMES_BACK: Duration = Duration::from_secs(30);
/// The same for clients from outside and from other nodes, while another node has one ready: refused, they take
/// that one. Long enough for a successor that is about to be ready.
const ELSEWHERE: Duration = Duration::from_secs(1);
/// How long clients are held for another node that was never asked: about as long as asking takes.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// Whose instances a client may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Among {
    /// This node's: who asks for those asks on behalf of another node, and would come back.
    Own,
    /// Any node's.
    All,
}

/// What is given connections: an instance that runs here, or the front of another node's agent.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    uid: String,
    pod: String,
    address: SocketAddr,
    /// The node whose front it is.
    node: Option<String>,
    ready: bool,
    /// Why it is not ready.
    because: Option<String>,
    /// Until when it is worth waiting for while it is not ready.
    hope: Instant,
    connections: Arc<AtomicUsize>,
    /// Marked as changed when established connections are to be closed; gone with the instance.
    close: Arc<watch::Sender<()>>,
}

impl Instance {
    /// An instance of this node whose container was started `age` ago.
    pub(super) fn here(uid: &str, pod: &str, address: SocketAddr, age: Duration) -> Self {
        Self { pod: pod.into(), ..Self::new(uid, address, COMES_BACK.saturating_sub(age)) }
    }

    /// The front of another node, known by its address.
    pub(super) fn of_peer(node: &str, address: SocketAddr) -> Self {
        Self { node: Some(node.into()), ..Self::new(&address.to_string(), address, FIRST_ANSWER) }
    }

    fn new(uid: &str, address: SocketAddr, patience: Duration) -> Self {
        let (close, _) = watch::channel(());
        Self {
            uid: uid.into(),
            pod: String::new(),
            address,
            node: None,
            ready: false,
            because: Some("it was not asked yet".into()),
            hope: Instant::now() + patience,
            connections: Arc::default(),
            close: Arc::new(close),
        }
    }

    /// Whom to probe about it.
    pub(super) fn target(&self, manner: Manner) -> Target {
        Target { uid: self.uid.clone(), address: self.address, manner }
    }

    fn is_here(&self) -> bool {
        self.node.is_none()
    }

    fn is_among(&self, among: Among) -> bool {
        among == Among::All || self.is_here()
    }

    pub(super) fn status(&self) -> InstanceStatus {
        InstanceStatus {
            uid: self.uid.clone(),
            pod: self.pod.clone(),
            address: self.address.ip(),
            node: self.node.clone(),
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

/// What is known of a component's instances.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Those that run, this node's first.
    instances: Vec<Instance>,
    /// Whether the runtime was asked what runs on this node.
    looked: bool,
    /// Until when an instance of this node is worth waiting for that was ready and may have ended.
    hope: Option<Instant>,
    /// Whether a checkpoint was given to the kubelet, which is to bring back what was given up.
    checkpoint: bool,
}

impl Known {
    /// The instances; nothing before the first look: none seen is not none there.
    pub(super) fn seen(&self) -> Option<&[Instance]> {
        self.looked.then_some(&self.instances)
    }

    fn among(&self, among: Among) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(move |instance| instance.is_among(among))
    }

    /// Whether no instance of this node is ready, but one of another.
    fn is_only_elsewhere(&self) -> bool {
        let ready = |here| self.instances.iter().any(|one| one.ready && one.is_here() == here);
        self.looked && ready(false) && !ready(true)
    }

    /// Whether a checkpoint is to be started and does not run yet: until then nobody else is worth waiting for.
    fn waits_for_checkpoint(&self) -> bool {
        self.checkpoint && !self.instances.iter().any(|instance| is_checkpoint(&instance.pod))
    }

    fn find(&mut self, uid: &str) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|instance| instance.uid == uid)
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
    /// Returns whether it was for the first time.
    pub(super) fn looked(&self) -> bool {
        self.known.send_if_modified(|known| !std::mem::replace(&mut known.looked, true))
    }

    /// Until when an instance may become ready, as far as can be said now; not in the future if none
    /// may.
    ///
    /// Nobody is held without such hope, and nobody listens: a kubelet that starts without an API asks
    /// for its Node between two rounds of mounting volumes (`updateReconstructedFromNodeStatus`), and
    /// while that question is held no static pod starts, etcd and the API server among them. So an
    /// instance that only runs gives no hope for ever: it may be waiting for that very etcd. A closed
    /// port ends the question at once; a connection that is accepted and closed is tried again for 10 s.
    pub(super) fn hope(&self, among: Among) -> Instant {
        let now = Instant::now();
        let known = self.known.borrow();
        if known.waits_for_checkpoint() {
            // The kubelet tells the API of each static pod before it starts it (`tryReconcileMirrorPods`), and
            // while that is held it does not.
            let ready = known.among(among).any(|instance| instance.ready);
            return if ready { now + COMES_BACK } else { now };
        }
        let of_one = |instance: &Instance| if instance.ready { now + COMES_BACK } else { instance.hope };
        let unseen = (!known.looked).then_some(now + COMES_BACK);
        let hope = known.among(among).map(of_one).chain(unseen).chain(known.hope).max().unwrap_or(now);
        if among == Among::Own && known.is_only_elsewhere() {
            hope.checked_sub(COMES_BACK.saturating_sub(ELSEWHERE)).unwrap_or(now)
        } else {
            hope
        }
    }

    /// Waits until there is such hope, or none.
    pub(super) async fn until(&self, among: Among, wanted: bool) {
        let mut changes = self.subscribe();
        loop {
            // Before the look: a change in between must wake us.
            changes.mark_unchanged();
            let hope = self.hope(among);
            let hopes = hope > Instant::now();
            if hopes == wanted {
                return;
            }
            tokio::select! {
                _ = changes.changed() => {}
                // The end of hope is no event: it comes by itself.
                () = sleep_until(hope), if hopes => {}
            }
        }
    }

    /// Notes whether a checkpoint is given to the kubelet.
    pub(super) fn set_checkpoint(&self, active: bool) {
        self.known.send_modify(|known| known.checkpoint = active);
    }

    pub(super) fn add(&self, instance: Instance) {
        self.known.send_modify(|known| {
            let at = if instance.is_here() {
                known.instances.partition_point(Instance::is_here)
            } else {
                known.instances.len()
            };
            known.instances.insert(at, instance);
        });
    }

    /// Notes that the instance's container was started anew.
    pub(super) fn restarted(&self, uid: &str) {
        self.known.send_if_modified(|known| {
            let Some(instance) = known.find(uid) else { return false };
            instance.hope = Instant::now() + COMES_BACK;
            true
        });
    }

    pub(super) fn remove(&self, uid: &str) {
        self.known.send_modify(|known| {
            if known.find(uid).is_some_and(|instance| instance.ready && instance.is_here()) {
                known.hope = Some(Instant::now() + COMES_BACK);
            }
            known.instances.retain(|instance| instance.uid != uid);
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
                let hope = Instant::now() + COMES_BACK;
                instance.hope = hope;
                if instance.is_here() {
                    known.hope = Some(hope);
                }
            }
            changed
        });
    }

    /// Closes the established connections of an instance if another one is ready.
    pub(super) fn move_away(&self, uid: &str) {
        let is_another = |instance: &Instance| instance.ready && instance.uid != uid;
        if self.known.borrow().instances.iter().any(is_another) {
            self.close(uid);
        }
    }

    /// Closes the established connections of an instance.
    pub(super) fn close(&self, uid: &str) {
        let known = self.known.borrow();
        if let Some(instance) = known.instances.iter().find(|instance| instance.uid == uid) {
            instance.close.send_replace(());
        }
    }

    /// Returns the instance for a new connection, or nothing if none is ready.
    pub(super) fn pick(&self, among: Among) -> Option<Picked> {
        let known = self.known.borrow();
        let ready = known.among(among).filter(|instance| instance.ready);
        // The first of equals: a connection to another node costs more.
        let instance = ready.min_by_key(|instance| instance.connections.load(Ordering::Relaxed))?;
        instance.connections.fetch_add(1, Ordering::Relaxed);
        Some(Picked {
            uid: instance.uid.clone(),
            address: instance.address,
            close: instance.close.subscribe(),
            connections: Arc::clone(&instance.connections),
        })
    }
}

#[cfg(test)]
mod tests;
