//! A client that writes numbered objects, and knows which of them the API has acknowledged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::cluster::{Cluster, eventually};

/// How long the writer waits before it tries another controller.
const PATIENCE: Duration = Duration::from_secs(2);
/// Half of the time from one object to the next, or to the next attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// What was written.
pub struct Written {
    /// Names that were acknowledged, and when.
    pub acknowledged: Vec<(Instant, String)>,
    /// Attempts that were not, and why.
    pub failures: Vec<(Instant, String)>,
}

/// Writes ConfigMaps `n-000001` and so on into a namespace, until it is told to stop.
pub struct Writer {
    namespace: String,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Written>,
}

impl Writer {
    /// Makes the namespace, and begins to write by all controllers' addresses: one that fails is left for
    /// the next.
    pub fn start(cluster: &Cluster, namespace: &str) -> Self {
        cluster.kubectl(&["create", "namespace", namespace]);
        let addresses = super::api_addresses(cluster);
        let client = Client::new(&cluster.assets());
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, into) = (Arc::clone(&stop), namespace.to_owned());
        let thread = std::thread::spawn(move || write(&client, &addresses, &into, &stopped));
        Self { namespace: namespace.into(), stop, thread }
    }

    /// Writes no more.
    pub fn pause(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while !self.thread.is_finished() {
            std::thread::sleep(PAUSE);
        }
    }

    /// Stops writing; panics unless the cluster has all that was acknowledged. Takes all of it away.
    pub fn stop(mut self, cluster: &Cluster) -> Written {
        self.pause();
        let written = self.thread.join().unwrap();
        let list = ["-n", &self.namespace, "get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"];
        let there = cluster.kubectl(&list);
        let there: BTreeSet<_> = there.split(' ').collect();
        let missing: Vec<_> =
            written.acknowledged.iter().filter(|(_, name)| !there.contains(name.as_str())).collect();
        assert!(missing.is_empty(), "acknowledged, and not there: {missing:?}");
        eprintln!(
            "{}: {} objects written, {} attempts failed",
            self.namespace,
            written.acknowledged.len(),
            written.failures.len()
        );
        cluster.kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
        written
    }
}

impl Written {
    /// The longest time without an acknowledgement, from just before `since` on.
    pub fn gap(&self, since: Instant) -> Duration {
        let times = || self.acknowledged.iter().map(|(at, _)| *at);
        let gaps = times().zip(times().skip(1)).filter(|(_, to)| *to >= since).map(|(from, to)| to - from);
        gaps.max().unwrap_or(Duration::MAX)
    }
}

fn write(client: &Client, addresses: &[String], namespace: &str, stop: &AtomicBool) -> Written {
    let mut written = Written { acknowledged: Vec::new(), failures: Vec::new() };
    let mut addresses = addresses.iter().cycle();
    let mut address = addresses.next().unwrap();
    let mut number = 1;
    while !stop.load(Ordering::Relaxed) {
        let name = format!("n-{number:06}");
        match create(client, address, namespace, &name, PATIENCE) {
            Ok(()) => {
                written.acknowledged.push((Instant::now(), name));
                number += 1;
                // Every controller gets its share.
                address = addresses.next().unwrap();
            }
            Err(why) => {
                written.failures.push((Instant::now(), format!("{address}: {why}")));
                address = addresses.next().unwrap();
            }
        }
        std::thread::sleep(PAUSE);
    }
    written
}

/// Creates a ConfigMap. One that is there was written by an attempt that was not answered.
pub fn create(
    client: &Client,
    address: &str,
    namespace: &str,
    name: &str,
    patience: Duration,
) -> Result<(), String> {
    let request = format!("POST /api/v1/namespaces/{namespace}/configmaps");
    let body = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}}}}"#);
    let answer = client.send(address, &request, &body, patience)?;
    match answer.status {
        201 | 409 => Ok(()),
        status => Err(format!("{status} {}", answer.body().unwrap_or_default())),
    }
}

/// Waits until the writer has been heard again since.
pub fn wait_for_writes(cluster: &Cluster, namespace: &str) {
    let count = || cluster.try_kubectl(&["-n", namespace, "get", "configmaps", "-o", "name"]).stdout.len();
    let before = count();
    eventually("writes", || if count() > before { Ok(()) } else { Err("none".into()) });
}
