//! An API server that stands still: it accepts connections and answers nobody.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::failures_are_survived::{READS_RESUME, fault, others, writing};
use super::{BALANCER, CONTROLLERS, Fleet, all_ready, api_addresses, network};
use crate::client::{Client, Watch};
use crate::cluster::{Cluster, eventually};
use crate::nodes_can_be_looked_into::process_on;

/// How long clients may hang on it, and a moment of a busy machine.
const NOTICED: Duration = Duration::from_millis(2500);
/// How long one command may take from then on.
const COMMAND: Duration = Duration::from_secs(4);

pub fn an_api_server_that_stands_still_is_left_within_seconds(fleet: &Fleet) {
    let cluster = &fleet.cluster;
    // The one that the administrator's kubeconfig names first.
    let node = CONTROLLERS[0];
    let address = &api_addresses(cluster)[0];
    let server = process_on(cluster, node, "kube-apiserver");
    assert!(!server.is_empty());
    let client = Client::new(&cluster.assets());
    let readers = ["worker-0", others(node)[0]];
    let readers =
        readers.map(|node| (node, Watch::start_on(network(cluster, node), BALANCER, &cluster.assets())));
    let watches: Vec<_> = (0..9).map(|_| watch(cluster, &client)).collect();
    writing(cluster, "still", || {
        let at = Instant::now();
        cluster.inside(node, &["kill", "-STOP", &server]);
        let ended = eventually("the end of the watches on it", || {
            let ended = watches.iter().filter(|watch| watch.is_finished()).count();
            if ended > 0 { Ok(ended) } else { Err("none has ended".into()) }
        });
        eprintln!("{ended} of 9 watches had ended after {:.1?}", at.elapsed());
        assert!(at.elapsed() < 2 * NOTICED && ended < 9, "{ended} after {:?}", at.elapsed());
        std::thread::sleep(NOTICED.saturating_sub(at.elapsed()));
        let mut slowest = Duration::ZERO;
        while at.elapsed() < fault() {
            let start = Instant::now();
            cluster.kubectl(&["get", "namespace", "default"]);
            slowest = slowest.max(start.elapsed());
            let start = Instant::now();
            assert!(client.send(address, "GET /livez", "", COMMAND).is_err(), "nobody there is ready");
            assert!(start.elapsed() < Duration::from_secs(2), "refused after {:?}", start.elapsed());
        }
        let status = cluster.command(&["status"]).output().unwrap();
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(status.contains("✓ the API answers"), "{status}");
        let state = cluster.inside(node, &["sh", "-c", &format!("cut -d' ' -f3 /proc/{server}/stat")]);
        eprintln!("in state {} after {:.1?}; kubectl took {slowest:.1?} at most", state.trim(), at.elapsed());
        assert_eq!(state.trim(), "T", "it stood still throughout");
        assert!(slowest < COMMAND, "{slowest:?}");
        cluster.inside(node, &["kill", "-CONT", &server]);
        at
    });
    for (reader, watch) in readers {
        let seen = watch.stop();
        eprintln!("by the balancer of {reader}: nothing was read for {:.1?}", seen.gap);
        assert!(seen.gap <= READS_RESUME, "{reader}: {:?}, {:?}", seen.gap, seen.failures);
    }
    eventually("three API servers", || {
        let servers = cluster.agent("worker-0").fronts.remove("kube-apiserver").unwrap_or_default();
        if servers.iter().filter(|it| it.ready).count() == 3 { Ok(()) } else { Err(format!("{servers:?}")) }
    });
    eventually("an answer there", || client.send(address, "GET /livez", "", COMMAND));
    all_ready(cluster);
}

/// Begins to watch by a worker's balancer, and ends with the connection.
fn watch(cluster: &Cluster, client: &Client) -> JoinHandle<()> {
    let network = network(cluster, "worker-0");
    let request = "GET /api/v1/namespaces/default/configmaps?watch=1";
    let mut answer = network.run(|| client.send(BALANCER, request, "", Duration::from_mins(2))).unwrap();
    std::thread::spawn(move || while answer.line().is_ok_and(|line| line.is_some()) {})
}
