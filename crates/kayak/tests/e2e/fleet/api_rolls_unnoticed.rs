//! The API server is rolled, well and badly, while clients of every kind look on.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::streams::{self, Events, Numbers};
use super::writer::{Writer, wait_for_writes};
use super::{BALANCER, CONTROLLERS, Fleet, WORKERS, api_addresses, json, network, number, text};
use crate::client::{Client, Watch};
use crate::cluster::{Cluster, eventually};
use crate::pivot_is_seamless::assert_unnoticed;
use crate::space::Network;

/// How long an API server that leaves goes on with what it has begun.
const GRACE: Duration = Duration::from_mins(1);
const DAEMONSET: &str = "daemonset/kube-apiserver";

/// A pod that counts.
const COUNTER: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: counter, namespace: default }
spec:
  nodeName: worker-2
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  containers:
  - { name: counter, image: "e2e.local/web:docker", command: [sh, -c, "COUNT"] }
"#;

/// Everybody who looks on.
struct Clients {
    watches: Vec<(String, Watch)>,
    writer: Writer,
    events: Events,
    streams: Vec<(&'static str, Numbers)>,
    since: Instant,
}

impl Clients {
    fn start(cluster: &Cluster, namespace: &str) -> Self {
        cluster.apply(&COUNTER.replace("COUNT", streams::COUNT));
        cluster.kubectl(&["wait", "--for=condition=Ready", "pod/counter", "--timeout=60s"]);
        let assets = cluster.assets();
        let mut watches: Vec<_> = api_addresses(cluster)
            .into_iter()
            .map(|address| (format!("outside, at {address}"), Watch::start(&address, &assets)))
            .collect();
        for node in ["worker-0", "controller-1"] {
            let watch = Watch::start_on(network(cluster, node), BALANCER, &assets);
            watches.push((format!("by the balancer of {node}"), watch));
        }
        let service = json(cluster, &["get", "service", "kubernetes"]);
        let service = format!("{}:443", text(&service, "/spec/clusterIP"));
        let watch = Watch::start_on(network_of_box(cluster, "worker-1"), &service, &assets);
        watches.push(("in a pod, by the service".to_owned(), watch));

        let writer = Writer::start(cluster, namespace);
        let client = Client::new(&assets);
        let events = Events::start(network(cluster, "worker-0"), BALANCER, &client, namespace);
        let log = streams::kubectl(cluster, &["logs", "--follow", "counter"]);
        let exec = streams::kubectl(cluster, &["exec", "counter", "--", "sh", "-c", streams::COUNT]);
        let streams = vec![("logs --follow", Numbers::of(log)), ("exec", Numbers::of(exec))];
        wait_for_writes(cluster, namespace);
        Self { watches, writer, events, streams, since: Instant::now() }
    }

    /// Ends them all; panics if any of them noticed anything.
    fn stop(mut self, cluster: &Cluster, namespace: &str, when: &str) {
        for (what, numbers) in self.streams {
            let so_far = numbers.last();
            match numbers.still(what) {
                None => eprintln!("{what}: {so_far} lines, and goes on"),
                Some(ended) => {
                    let lived = ended - self.since;
                    eprintln!("{what}: {so_far} lines, ended after {lived:.1?}");
                    assert!(lived >= GRACE, "{what} was cut off after {lived:?}");
                }
            }
        }
        self.writer.pause();
        let client = Client::new(&cluster.assets());
        let told = self.events.stop(&client, &api_addresses(cluster)[0], namespace);
        let written = self.writer.stop(cluster);
        eprintln!("watch: {} events, {} lists, begun again: {:?}", told.names.len(), told.lists, told.begun);
        let lost: Vec<_> =
            written.acknowledged.iter().filter(|(_, name)| !told.names.contains(name)).collect();
        assert!(lost.is_empty(), "events were lost: {lost:?}");
        let mut requests = 0;
        let seen: Vec<_> = self.watches.into_iter().map(|(who, watch)| (who, watch.stop())).collect();
        for (who, seen) in &seen {
            requests += seen.requests;
            eprintln!("{who}: {} requests, {} failed", seen.requests, seen.failures.len());
        }
        eprintln!("{requests} requests {when}");
        for (who, seen) in &seen {
            assert_unnoticed(&format!("{when}, {who}"), seen);
        }
        assert!(written.failures.is_empty(), "the writer: {:?}", written.failures);
        cluster.kubectl(&["delete", "pod", "counter", "--now"]);
    }
}

fn network_of_box(cluster: &Cluster, node: &str) -> Network {
    let pod = json(cluster, &["get", "pod", &format!("box-{node}")]);
    super::packets_reach_every_pod::network_of_pod(text(&pod, "/metadata/uid"))
}

pub fn api_server_rolls_and_nobody_notices(fleet: &Fleet) {
    let cluster = &fleet.cluster;
    let clients = Clients::start(cluster, "rolls");
    for roll in 1..=number("KAYAK_ROLLS", 2) {
        let (before, start) = (api_servers(cluster), Instant::now());
        cluster.kubectl(&["-n", "kube-system", "rollout", "restart", DAEMONSET]);
        cluster.kubectl(&["-n", "kube-system", "rollout", "status", DAEMONSET, "--timeout=180s"]);
        let after = api_servers(cluster);
        assert!(
            before.iter().all(|(old, _)| after.iter().all(|(new, _)| new != old)),
            "{before:?} {after:?}"
        );
        eprintln!("roll {roll}: {:.1?}", start.elapsed());
    }
    clients.stop(cluster, "rolls", "during rolls");
}

/// Those that are not about to leave: names, and nodes.
fn api_servers(cluster: &Cluster) -> Vec<(String, String)> {
    let label = "app.kubernetes.io/name=kube-apiserver";
    let pods = json(cluster, &["-n", "kube-system", "get", "pods", "-l", label]);
    let stays = |pod: &&Value| pod.pointer("/metadata/deletionTimestamp").is_none();
    let named = |pod: &Value| (text(pod, "/metadata/name").into(), text(pod, "/spec/nodeName").into());
    pods["items"].as_array().unwrap().iter().filter(stays).map(named).collect()
}

pub fn an_api_server_that_does_not_become_ready_is_given_nobody(fleet: &Fleet) {
    let cluster = &fleet.cluster;
    let clients = Clients::start(cluster, "bad-roll");
    let before = api_servers(cluster);
    break_template(cluster);
    // The agent says of the new one that it runs and gets nobody.
    let broken = eventually("the broken instance", || {
        let new = api_servers(cluster).into_iter().find(|server| !before.contains(server));
        let (pod, node) = new.ok_or("no new pod")?;
        let status = cluster.agent(&node);
        let instances = status.fronts.get("kube-apiserver").cloned().unwrap_or_default();
        let instance = instances.into_iter().find(|instance| instance.pod == pod);
        let instance = instance.ok_or(format!("the agent does not know {pod}"))?;
        if instance.ready { Err(format!("{instance:?}")) } else { Ok(instance) }
    });
    // Long enough for it to have tried and died: etcd's certificate is refused for 20 s.
    std::thread::sleep(Duration::from_secs(25));
    let now = api_servers(cluster);
    assert!(before.iter().all(|server| now.contains(server)), "the good ones stay: {now:?}");
    eprintln!("the broken instance: {:?}", broken.because);
    cluster.kubectl(&["-n", "kube-system", "rollout", "undo", DAEMONSET]);
    cluster.kubectl(&["-n", "kube-system", "rollout", "status", DAEMONSET, "--timeout=180s"]);
    let mut nodes: Vec<_> = api_servers(cluster).into_iter().map(|(_, node)| node).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, CONTROLLERS);
    assert!(nodes.iter().all(|node| !WORKERS.contains(&node.as_str())));
    clients.stop(cluster, "bad-roll", "beside one that never became ready");
}

/// Gives the API server a CA that did not sign etcd's certificate.
fn break_template(cluster: &Cluster) {
    let daemonset = json(cluster, &["-n", "kube-system", "get", DAEMONSET]);
    let flag = "--etcd-cafile=";
    for field in ["command", "args"] {
        let place = format!("/spec/template/spec/containers/0/{field}");
        let words = daemonset.pointer(&place).and_then(Value::as_array).cloned().unwrap_or_default();
        let Some(at) = words.iter().position(|word| word.as_str().unwrap().starts_with(flag)) else {
            continue;
        };
        let wrong = words[at].as_str().unwrap().replace("/etcd-ca.crt", "/front-proxy-ca.crt");
        assert_ne!(wrong, words[at], "the flag is another one than it was");
        let patch = json!([{ "op": "replace", "path": format!("{place}/{at}"), "value": wrong }]).to_string();
        cluster.kubectl(&["-n", "kube-system", "patch", DAEMONSET, "--type=json", "-p", &patch]);
        return;
    }
    panic!("{flag} is nowhere in {daemonset}");
}
