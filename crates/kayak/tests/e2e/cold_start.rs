//! All of a cluster loses power, and comes back as a boot brings it back: nobody calls anything but `kayak resume`.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, PATIENCE, eventually, succeed};
use crate::image;

/// How soon a cluster of one node has to be back, with all its pods, names and services.
const ONE_NODE: Duration = Duration::from_secs(25);
/// How soon the API has to be back.
const API: Duration = Duration::from_secs(30);

/// A web server with a service, and a pod that asks for it by name.
const WORKLOAD: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 1
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 0
      tolerations: [{ operator: Exists }]
      containers:
      - { name: web, image: 'e2e.local/web:docker', ports: [{ containerPort: 8080 }] }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  selector: { app: web }
  ports: [{ port: 80, targetPort: 8080 }]
";

/// When what was back, since the node containers were started.
#[derive(Debug)]
#[expect(dead_code, reason = "all of it is printed")]
pub struct Back {
    pub api: Duration,
    pub pods: Duration,
    pub answers: Duration,
    pub resumed: Duration,
}

/// Kills all nodes at the same instant, and returns the time of that as the API writes it.
pub fn cut_power(cluster: &Cluster, nodes: &[&str]) -> String {
    let processes: Vec<_> = nodes.iter().map(|node| cluster.init_process(node)).collect();
    for process in &processes {
        rustix::process::kill_process(*process, rustix::process::Signal::KILL).unwrap();
    }
    for process in processes {
        eventually("the node's end", || match rustix::process::test_kill_process(process) {
            Err(_) => Ok(()),
            Ok(()) => Err("it still runs".into()),
        });
    }
    succeed(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"])).trim().to_owned()
}

/// Starts the nodes as a boot does, and says when what is back. `asks` says whether names and services answer.
pub fn come_back(cluster: &Cluster, since: &str, asks: impl Fn() -> Result<(), String>) -> Back {
    let start = Instant::now();
    let mut boot = cluster.command(&["resume"]);
    let boot = std::thread::spawn(move || {
        succeed(&mut boot);
        start.elapsed()
    });
    eventually("the API", || {
        let output = cluster.try_kubectl(&["--request-timeout=2s", "get", "--raw", "/readyz"]);
        if output.status.success() { Ok(()) } else { Err("it does not answer".into()) }
    });
    let api = start.elapsed();
    eventually("all pods", || all_run(cluster, since));
    let pods = start.elapsed();
    eventually("names and services", asks);
    let answers = start.elapsed();
    let resumed = boot.join().unwrap();
    let back = Back { api, pods, answers, resumed };
    eprintln!("back after a loss of power: {back:?}");
    no_checkpoint_is_active(cluster);
    assert_eq!(cluster.kayak(&["plan"]).trim(), "nothing to do");
    back
}

/// Whether every pod that is to run was started since then, and is Ready: what the API showed before it went away
/// does not count.
fn all_run(cluster: &Cluster, since: &str) -> Result<(), String> {
    let output = cluster.try_kubectl(&["--request-timeout=3s", "get", "pods", "-A", "-o", "json"]);
    let list: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let text =
        |value: &Value, path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or("").to_owned();
    for pod in list["items"].as_array().ok_or("no list")? {
        let name = text(pod, "/metadata/name");
        if name.starts_with("checkpoint-") || text(pod, "/status/phase") == "Succeeded" {
            continue;
        }
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
        let containers = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        let is_new = |container: &Value| text(container, "/state/running/startedAt").as_str() >= since;
        if !ready || containers.is_empty() || !containers.iter().all(is_new) {
            return Err(format!("{name} is not back"));
        }
    }
    Ok(())
}

/// Waits until the cluster's own control plane has taken over everywhere.
pub fn no_checkpoint_is_active(cluster: &Cluster) {
    eventually("no checkpoint", || {
        let output = cluster.command(&["status", "--output=json"]).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
        let checks = report["checks"].as_array().ok_or("no checks")?.iter();
        let mut idle = checks.filter(|check| check["check"]["checkpoints-idle"].is_string()).peekable();
        assert!(idle.peek().is_some(), "{report}");
        idle.find(|check| check["holds"] != true).map_or(Ok(()), |check| Err(check.to_string()))
    });
    // What the API shows of it is taken back some seconds later.
    cluster
        .wait_for(&["-n", "kube-system", "get", "pods", "-o", "name"], |pods| !pods.contains("checkpoint-"));
}

fn asks_by_name(cluster: &Cluster) -> Result<(), String> {
    let url = "http://web.default.svc.cluster.local/";
    let ask = ["exec", "deployment/web", "--", "timeout", "3", "wget", "-q", "-O", "-", url];
    let output = cluster.try_kubectl(&ask);
    if String::from_utf8_lossy(&output.stdout).contains("hello") { Ok(()) } else { Err("no answer".into()) }
}

fn bring_up() -> Cluster {
    let cluster = Cluster::new("e2e-cold", 61, "");
    cluster.up(&[]);
    let archive = image::docker_archive("e2e.local/web:docker");
    cluster.kayak(&["image", "load", archive.to_str().unwrap()]);
    cluster.apply(WORKLOAD);
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    all_are_kept(&cluster);
    cluster
}

/// Waits until the node keeps a checkpoint of each part of its control plane, and of these instances.
fn all_are_kept(cluster: &Cluster) {
    eventually("checkpoints", || {
        let kept = cluster.agent("controller-0").checkpoints;
        let count = kept.values().filter(|one| one.generation.is_some() && !one.active).count();
        if count == 3 { Ok(()) } else { Err(format!("{kept:?}")) }
    });
}

pub fn a_cluster_of_one_node_comes_back_by_itself() {
    let cluster = bring_up();
    cluster.keeping_evidence(|| {
        let since = cut_power(&cluster, &["controller-0"]);
        let back = come_back(&cluster, &since, || asks_by_name(&cluster));
        assert!(back.answers <= ONE_NODE, "{back:?}");

        // The control plane's own pods are gone from the API, and nobody is left to make others.
        let force = ["-n", "kube-system", "delete", "pod", "--force", "--grace-period=0", "-l"];
        let all = "app.kubernetes.io/name in (kube-apiserver,kube-controller-manager,kube-scheduler)";
        cluster.kubectl(&[&force[..], &[all]].concat());
        let since = cut_power(&cluster, &["controller-0"]);
        come_back(&cluster, &since, || asks_by_name(&cluster));

        // Half a generation, as a loss of power in the middle of a write may leave one, and a damaged one.
        let kept = "/var/lib/kayak/checkpoints/kube-apiserver";
        let damage = format!("cd {kept} && mkdir .000099-0.new && echo '{{' > current/pod.json");
        cluster.in_node(&["sh", "-c", &damage]);
        let since = cut_power(&cluster, &["controller-0"]);
        come_back(&cluster, &since, || asks_by_name(&cluster));
    });
    cluster.kayak(&["down", "--yes"]);
}

/// Templates of an API server that cannot serve, as patches.
const BAD: [(&str, &str); 3] = [
    (
        "a flag that there is not",
        r#"{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"--no-such-flag"}"#,
    ),
    (
        "an image that there is not",
        r#"{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"kayak.local/nothing:v1"}"#,
    ),
    (
        "another CA than etcd's",
        r#"{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"--etcd-cafile=/etc/kubernetes/secrets/kube-apiserver/front-proxy-ca.crt"}"#,
    ),
];

/// Waits until the API answers no more, and then until it does; returns how long it took from `start`.
fn is_back(cluster: &Cluster, start: Instant) -> Duration {
    let answers =
        || cluster.try_kubectl(&["--request-timeout=1s", "get", "--raw", "/readyz"]).status.success();
    while answers() {
        assert!(start.elapsed() < PATIENCE, "the API never went away");
    }
    while !answers() {
        assert!(start.elapsed() < PATIENCE, "the API does not come back");
    }
    start.elapsed()
}

pub fn a_bad_rollout_of_the_api_server_does_not_brick() {
    let cluster = bring_up();
    cluster.keeping_evidence(|| {
        for (what, patch) in BAD {
            let pods = ["-n", "kube-system", "get", "pods", "-l", "app.kubernetes.io/name=kube-apiserver"];
            let names =
                || cluster.kubectl(&[&pods[..], &["-o", "jsonpath={.items[*].metadata.name}"]].concat());
            let old = names();
            let patch = format!("[{patch}]");
            cluster.kubectl(&[
                "-n",
                "kube-system",
                "patch",
                "daemonset/kube-apiserver",
                "--type=json",
                "-p",
                &patch,
            ]);
            eventually("the new pod beside the old one", || {
                let now = names();
                if now.split(' ').count() == 2 && now.contains(&old) { Ok(()) } else { Err(now) }
            });
            let start = Instant::now();
            cluster.kubectl(&["-n", "kube-system", "delete", "pod", &old, "--wait=false"]);
            let back = is_back(&cluster, start);
            eprintln!("{what}, and the old pod deleted: the API is back after {back:.1?}");
            assert!(back <= API, "{what}: {back:?}");
            let mend = "kubectl -n kube-system rollout undo daemonset/kube-apiserver";
            eventually("the culprit", || {
                let output = cluster.command(&["status"]).output().unwrap();
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let line =
                    text.lines().find(|line| line.contains("stands in for kube-apiserver, as its pod"));
                line.filter(|line| line.contains(mend)).map(|line| eprintln!("{line}")).ok_or(text.clone())
            });

            cut_power(&cluster, &["controller-0"]);
            let start = Instant::now();
            // It ends with an error, since what is stored cannot be rolled out.
            let mut boot = cluster.command(&["resume", "--patience=20"]);
            let boot = std::thread::spawn(move || boot.output().unwrap().status.success());
            let back = is_back(&cluster, start);
            eprintln!("{what}, and power lost: the API is back after {back:.1?}");
            assert!(back <= API, "{what}: {back:?}");
            assert!(!boot.join().unwrap(), "{what}: it is said to be well");

            let words: Vec<_> = mend.split(' ').skip(1).collect();
            cluster.kubectl(&words);
            cluster.kubectl(&[
                "-n",
                "kube-system",
                "rollout",
                "status",
                "daemonset/kube-apiserver",
                "--timeout=60s",
            ]);
            no_checkpoint_is_active(&cluster);
            assert_eq!(cluster.kayak(&["plan"]).trim(), "nothing to do");
        }
    });
    cluster.kayak(&["down", "--yes"]);
}
