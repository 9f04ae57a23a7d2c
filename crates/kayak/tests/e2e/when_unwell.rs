//! `kayak status` and `kayak support`: what is told of a cluster that is not well.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, Running, eventually, scratch, show, succeed};
use crate::nodes_can_be_looked_into::process;

/// Runs `kayak status`; returns what it says and whether all is well.
fn status(cluster: &Cluster) -> (Value, bool) {
    let output = cluster.command(&["status", "--output=json"]).output().unwrap();
    let well = output.status.code() == Some(0);
    assert!(well || output.status.code() == Some(1), "{}", show(&output));
    (serde_json::from_slice(&output.stdout).unwrap(), well)
}

/// Why the checks that do not hold do not, or are not known to, by their texts.
fn broken(report: &Value) -> BTreeMap<String, String> {
    let checks = report["checks"].as_array().unwrap().iter().filter(|check| check["holds"] != true);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    checks.map(|check| (text(&check["text"]), text(&check["because"]))).collect()
}

pub fn status_tells_what_is_wrong(cluster: &Cluster) {
    let (report, well) = status(cluster);
    assert!(well && report["well"] == true, "{report}");
    assert!(broken(&report).is_empty() && !report["checks"].as_array().unwrap().is_empty());
    assert!(report["nodes"][0]["kubelet"].as_str().unwrap().starts_with("v1."), "{report}");
    let components: Vec<_> = report["components"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    for name in ["etcd", "kube-apiserver", "coredns", "flannel", "kube-proxy"] {
        assert!(components.iter().any(|component| *component == name), "{components:?}");
    }
    sections_are_complete(&report);
    let left_over = components.iter().any(|name| name.as_str().unwrap().contains("temporary"));
    assert!(!left_over && report["components"].as_array().unwrap().iter().all(|it| it["state"] == "running"));
    with_api_down(cluster, || {
        let (report, well) = status(cluster);
        assert!(!well);
        let broken = broken(&report);
        assert!(broken.contains_key("the API answers"), "{broken:?}");
        let node = &report["nodes"][0];
        assert!(node["ready"].is_null() && node["because"].as_str().unwrap().contains("the API"), "{node}");
        assert!(report["components"].to_string().contains("etcd"), "the runtime tells: {report}");
        let text = cluster.command(&["status"]).output().unwrap();
        assert!(String::from_utf8_lossy(&text.stdout).contains("is not well"), "{}", show(&text));
    });
}

/// What a healthy cluster of one node tells beside its nodes, components and conditions.
fn sections_are_complete(report: &Value) {
    assert!(report["nodes"][0]["ready"] == true && report["nodes"][0]["containerd"].is_string(), "{report}");
    let member = &report["etcd"]["members"][0];
    assert!(report["etcd"]["leader"] == "controller-0" && member["leader"] == true, "{member}");
    assert!(member["healthy"] == true && member["learner"] == false && member["lag"] == 0, "{member}");
    assert!(member["raft_index"].as_u64() > Some(0) && member["db_size"].as_u64() > Some(0), "{member}");
    let servers = &report["balancers"][0]["servers"];
    assert!(servers[0]["node"] == "controller-0" && servers[0]["ready"] == true, "{servers}");
    let certificates = report["certificates"].as_array().unwrap();
    let days = |certificate: &Value| certificate["days"].as_i64().unwrap();
    assert!(certificates.is_sorted_by_key(days) && (300..=366).contains(&days(&certificates[0])));
    for name in ["ca", "kube-apiserver", "controller-0-kubelet", "controller-0-kubelet-serving"] {
        assert!(certificates.iter().any(|it| it["name"] == name), "{name} of {certificates:?}");
    }
}

/// Asks `kayak status` while something stands still that still takes questions; returns what it says.
fn status_in_time(cluster: &Cluster) -> Value {
    let start = Instant::now();
    let (report, well) = status(cluster);
    assert!(!well && start.elapsed() < Duration::from_secs(5), "{:?}: {report}", start.elapsed());
    report
}

/// Stops all of the node as it is, and lets it go on afterwards.
pub fn status_answers_although_the_node_is_frozen(cluster: &Cluster) {
    let processes = cluster.processes("controller-0");
    let signal = |signal| {
        for &process in &processes {
            // Those that have ended meanwhile need none.
            let _ = rustix::process::kill_process(process, signal);
        }
    };
    signal(rustix::process::Signal::STOP);
    let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| status_in_time(cluster)));
    signal(rustix::process::Signal::CONT);
    cluster.wait_for(&["get", "--raw", "/readyz"], |answer| answer == "ok");
    let report = looked.unwrap();
    let node = &report["nodes"][0];
    assert!(node["state"] == "Running" && node["ready"].is_null(), "{node}");
    assert!(node["troubles"].to_string().contains("the agent said nothing within 2 s"), "{node}");
    assert!(report["etcd"]["members"][0]["healthy"].is_null(), "{report}");
    assert!(report["balancers"][0]["because"].is_string(), "{report}");
    assert!(broken(&report).len() == report["checks"].as_array().unwrap().len(), "{report}");
    eventually("the cluster is well again", || {
        let (report, well) = status(cluster);
        if well { Ok(()) } else { Err(format!("{:?}", broken(&report))) }
    });
}

/// Watches while an API server stands still: the news are told, a document a line.
pub fn status_tells_what_changes(cluster: &Cluster) {
    let mut watch = cluster.command(&["status", "--watch", "--output=json"]);
    let mut watch = Running(watch.stdout(Stdio::piped()).spawn().unwrap());
    let mut reports = BufReader::new(watch.0.stdout.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let first = reports.next().unwrap();
    assert!(first["well"] == true, "{first}");
    with_api_down(cluster, || {
        let down = reports.find(|report| report["balancers"][0]["servers"][0]["ready"] == false).unwrap();
        assert!(down["well"] == false, "{down}");
    });
    assert!(reports.any(|report| report["well"] == true));
}

/// Stops the API server under the test's feet, and lets it go on afterwards.
fn with_api_down(cluster: &Cluster, look: impl FnOnce()) {
    let pid = process(cluster, "kube-apiserver");
    cluster.in_node(&["kill", "-STOP", &pid]);
    let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(look));
    cluster.in_node(&["kill", "-CONT", &pid]);
    cluster.wait_for(&["get", "--raw", "/readyz"], |answer| answer == "ok");
    if let Err(panic) = looked {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `kayak support` and unpacks what it wrote: names without the first directory, and texts.
fn support(cluster: &Cluster) -> BTreeMap<String, String> {
    let file = scratch().join("support.tar.zst");
    cluster.kayak(&["support", "-o", file.to_str().unwrap()]);
    let bytes = zstd::decode_all(std::fs::File::open(&file).unwrap()).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (path.split_once('/').unwrap().1.to_owned(), String::from_utf8_lossy(&bytes).into_owned())
    });
    entries.collect()
}

fn base64(text: &str) -> String {
    let mut encode = Command::new("base64");
    let path = scratch().join("to-encode");
    std::fs::write(&path, text).unwrap();
    succeed(encode.args(["--wrap=0"]).arg(path))
}

/// Everything secret of the cluster by where it is from, in every form it may have in a text.
fn secrets(cluster: &Cluster) -> Vec<(String, String)> {
    let tls = cluster.assets().join("tls");
    let mut texts: Vec<(String, String)> = std::fs::read_dir(&tls)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "key"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap()))
        .collect();
    let own = "/var/lib/kubelet/pki/kubelet-client-current.pem";
    texts.push((own.into(), cluster.in_node(&["sed", "-n", "/BEGIN.*PRIVATE/,/END/p", own])));
    texts.push(("a token".into(), cluster.kubectl(&["create", "token", "default"])));
    assert!(texts.len() > 10, "the keys were found");
    let mut forms = Vec::new();
    for (name, text) in texts {
        forms.push((name.clone(), base64(&text)));
        for line in text.lines().filter(|line| !line.starts_with('-')) {
            forms.extend([(name.clone(), line.to_owned()), (name.clone(), base64(line))]);
        }
    }
    forms.retain(|(_, form)| form.len() >= 16);
    forms
}

pub fn support_holds_everything_but_secrets(cluster: &Cluster) {
    let secrets = secrets(cluster);
    // Where logs are collected from, somebody has logged what nobody should.
    let lines: Vec<_> = secrets.iter().map(|(name, form)| format!("{name} {form} end\n")).collect();
    let plant = scratch().join("planted.log");
    std::fs::write(&plant, lines.concat()).unwrap();
    let in_node = "/var/log/kayak/planted.log";
    let mut copy = cluster.command(&["node", "shell", "controller-0", "--", "tee", in_node]);
    succeed(copy.stdin(std::fs::File::open(&plant).unwrap()));
    let files = support(cluster);
    cluster.in_node(&["rm", in_node]);
    for name in [
        "versions.txt",
        "configuration.json",
        "status.json",
        "plan.txt",
        "errors.txt",
        "machine/memory.txt",
        "nodes/controller-0/agent.json",
        "nodes/controller-0/nft.txt",
        "nodes/controller-0/routes.txt",
        "nodes/controller-0/logs/kayak/kubelet.log",
        "api/nodes.yaml",
        "api/events.txt",
        "api/secrets.txt",
    ] {
        assert!(files.get(name).is_some_and(|text| !text.is_empty()), "{name} of {:?}", files.keys());
    }
    for component in ["etcd", "kube-apiserver", "coredns"] {
        let is_log = |name: &String| name.contains("logs/pods/kube-system_") && name.contains(component);
        assert!(files.keys().any(is_log), "{component} of {:?}", files.keys());
    }
    let planted = &files["nodes/controller-0/logs/kayak/planted.log"];
    assert_eq!(planted.matches("(removed)").count(), planted.lines().count(), "{planted}");
    for (name, text) in &files {
        for (secret, form) in &secrets {
            assert!(!text.contains(form.as_str()), "{name} holds a part of {secret}");
        }
    }
    with_api_down(cluster, || {
        let files = support(cluster);
        assert!(files["errors.txt"].contains("the API does not answer"), "{}", files["errors.txt"]);
        assert!(files.contains_key("nodes/controller-0/logs/kayak/kubelet.log"));
    });
}

/// For a node that has just been lost.
pub fn status_and_support_without_a_node(cluster: &Cluster) {
    let (report, well) = status(cluster);
    assert!(!well && report["nodes"][0]["state"] == "Stopped", "{report}");
    let files = support(cluster);
    assert!(files["errors.txt"].contains("the node does not run"), "{}", files["errors.txt"]);
    let etcd = files.keys().any(|name| name.contains("logs/pods/kube-system_etcd"));
    assert!(etcd && files.contains_key("nodes/controller-0/console.log"), "{:?}", files.keys());
}
