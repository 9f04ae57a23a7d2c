//! The pivot, watched by clients that may not notice it.

use std::time::{Duration, Instant};

use crate::client::{Seen, Watch};
use crate::cluster::Cluster;
use crate::image;

/// The client in a pod: a new connection through the service address every 50 ms. `/livez` is asked
/// because an API server that is about to leave answers `/readyz` with 500 on purpose.
const INSIDE: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: inside, namespace: default }
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  containers:
  - name: client
    image: e2e.local/web:docker
    command: [sh, -c]
    args:
    - |
      ask() {
        /opt/kayak/kayak probe --address=$KUBERNETES_SERVICE_HOST --port=443 --path=/livez \
          --ca=/ca/ca.crt --server-name=kubernetes
      }
      # The pod may be there before kube-proxy has made the service's address: it counts from its first answer.
      until ask 2>/dev/null; do sleep 0.05; done
      n=0; failed=0
      while true; do
        n=$((n+1))
        ask || { failed=$((failed+1)); echo "FAILED request $n"; }
        echo "requests $n failed $failed"
        sleep 0.05
      done
    volumeMounts:
    - { name: kayak, mountPath: /opt/kayak, readOnly: true }
    - { name: ca, mountPath: /ca }
  volumes:
  - { name: kayak, hostPath: { path: /opt/kayak/bin } }
  - { name: ca, configMap: { name: kube-root-ca.crt } }
"#;

/// Brings the shared cluster up while both clients look, and leaves what they saw for the scenario.
pub fn bring_up_watched() -> Cluster {
    let cluster = Cluster::new("e2e", 1, "");
    cluster.up(&["--until", "inject"]);
    let outside = Watch::start(&cluster.api(), &cluster.assets());
    look_from_inside(&cluster);
    cluster.up(&[]);
    // What leaves late is noticed late: look on for a while after the pivot.
    std::thread::sleep(Duration::from_secs(5));
    assert_unnoticed("during the pivot", &outside.stop());
    assert_unnoticed_inside(&cluster, 0);
    cluster
}

/// Starts the client in a pod, and waits for its first request.
pub fn look_from_inside(cluster: &Cluster) {
    let archive = image::docker_archive("e2e.local/web:docker");
    cluster.kayak(&["image", "load", archive.to_str().unwrap()]);
    cluster.wait_for(&["get", "serviceaccount", "default", "-o", "name"], |name| !name.is_empty());
    cluster.apply(INSIDE);
    cluster.wait_for(&["logs", "inside", "--tail=1"], |line| line.starts_with("requests "));
}

/// Panics if the client outside noticed anything.
pub fn assert_unnoticed(when: &str, seen: &Seen) {
    eprintln!("outside, {when}: {} requests, slowest {:.2?}", seen.requests, seen.slowest);
    assert!(seen.requests > 50, "only {} requests were made", seen.requests);
    assert!(
        seen.failures.is_empty(),
        "{} of {} failed: {:?}",
        seen.failures.len(),
        seen.requests,
        seen.failures
    );
}

/// How many requests of the client in the pod have failed so far: some do where a scenario stops an API
/// server on purpose.
pub fn failed_inside(cluster: &Cluster) -> u32 {
    let log = cluster.kubectl(&["logs", "inside"]);
    let last = log.lines().rfind(|line| line.starts_with("requests ")).unwrap_or_default();
    eprintln!("inside: {last}");
    last.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Panics if the client in the pod noticed anything since so many requests had failed.
pub fn assert_unnoticed_inside(cluster: &Cluster, failed_before: u32) {
    assert_eq!(failed_inside(cluster), failed_before, "{}", {
        let log = cluster.kubectl(&["logs", "inside"]);
        log.lines().filter(|line| !line.starts_with("requests ")).collect::<Vec<_>>().join("\n")
    });
}

/// The bringing up has asserted it; here it gets its name, and the clients are seen to have worked.
pub fn pivot_loses_no_request(cluster: &Cluster) {
    assert_unnoticed_inside(cluster, 0);
    let manifests = cluster.in_node(&["ls", "/etc/kubernetes/manifests"]);
    assert_eq!(manifests.trim(), "etcd.yaml", "nothing of the temporary control plane is left");
    let pods = cluster.kubectl(&["-n", "kube-system", "get", "pods", "-o", "name"]);
    assert!(!pods.contains("temporary"), "{pods}");
}

pub fn a_second_up_does_nothing(cluster: &Cluster) {
    let start = Instant::now();
    let events = cluster.kayak(&["--output", "json", "up", "--config", cluster.config()]);
    assert_eq!(events.trim(), "", "no step, no phase");
    assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
}
