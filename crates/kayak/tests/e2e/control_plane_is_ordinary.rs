//! The control plane is made of objects like any other.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::client::Watch;
use crate::cluster::{Cluster, Running, show};
use crate::pivot_is_seamless::{assert_unnoticed, assert_unnoticed_inside, failed_inside};

pub fn every_part_is_an_ordinary_object(cluster: &Cluster) {
    let names = cluster.kubectl(&["-n", "kube-system", "get", "daemonsets,deployments", "-o", "name"]);
    let mut names: Vec<_> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "daemonset.apps/flannel",
            "daemonset.apps/kube-apiserver",
            "daemonset.apps/kube-proxy",
            "deployment.apps/coredns",
            "deployment.apps/kube-controller-manager",
            "deployment.apps/kube-scheduler",
        ]
    );
    let kind = [
        "-n",
        "kube-system",
        "get",
        "pod",
        "etcd-controller-0",
        "-o",
        "jsonpath={.metadata.ownerReferences[0].kind}",
    ];
    assert_eq!(cluster.kubectl(&kind), "Node", "etcd is a mirror pod");
    let status = cluster.kubectl(&["get", "componentstatuses", "--no-headers"]);
    assert_eq!(status.lines().filter(|line| line.contains(" Healthy ")).count(), 3, "{status}");
    let taints = cluster.kubectl(&["get", "node", "controller-0", "-o", "jsonpath={.spec.taints}"]);
    assert_eq!(taints, "", "the only node takes workloads");
}

pub fn manifests_do_not_differ(cluster: &Cluster) {
    let manifests = cluster.assets().join("manifests");
    let output = cluster.try_kubectl(&["diff", "-f", manifests.to_str().unwrap()]);
    assert!(output.status.success(), "{}", show(&output));
}

pub fn logs_exec_and_port_forward(cluster: &Cluster) {
    let log = cluster.kubectl(&["-n", "kube-system", "logs", "daemonset/kube-apiserver", "--tail=5"]);
    assert!(!log.trim().is_empty());
    let version = cluster.kubectl(&[
        "-n",
        "kube-system",
        "exec",
        "daemonset/kube-apiserver",
        "--",
        "kube-apiserver",
        "--version",
    ]);
    assert!(version.starts_with("Kubernetes v1.36."), "{version}");
    let mut forward = cluster.command(&[
        "kubectl",
        "-n",
        "kube-system",
        "port-forward",
        "daemonset/kube-apiserver",
        ":6443",
    ]);
    let mut forward = Running(forward.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    // Held to the end: kubectl writes a line for every connection, and dies if nobody reads.
    let mut said = BufReader::new(forward.0.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    // Forwarding from 127.0.0.1:40001 -> 6443
    let address = line.split_whitespace().nth(2).unwrap_or_else(|| panic!("{line}"));
    let ca = cluster.assets().join("tls/ca.crt");
    let (ip, port) = address.rsplit_once(':').unwrap();
    let mut probe = Command::new(env!("CARGO_BIN_EXE_kayak"));
    probe.args(["probe", "--path=/livez", "--server-name=kubernetes"]);
    probe.args([format!("--address={ip}"), format!("--port={port}"), format!("--ca={}", ca.display())]);
    crate::cluster::succeed(&mut probe);
}

pub fn secrets_are_encrypted_in_etcd(cluster: &Cluster) {
    cluster.kubectl(&["create", "secret", "generic", "hidden", "--from-literal=word=plainly-readable"]);
    let keys = "--cacert=/etc/kubernetes/secrets/etcd/ca.crt --cert=/etc/kubernetes/secrets/etcd/health-client.crt --key=/etc/kubernetes/secrets/etcd/health-client.key";
    let mut command = vec!["-n", "kube-system", "exec", "etcd-controller-0", "--", "etcdctl"];
    command.extend(keys.split(' '));
    command.extend(["--endpoints=https://127.0.0.1:2379", "get", "/registry/secrets/default/hidden"]);
    let output = cluster.try_kubectl(&command);
    assert!(output.status.success(), "{}", show(&output));
    let stored = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(stored.contains("k8s:enc:secretbox:v1:") && !stored.contains("plainly-readable"), "{stored}");
    cluster.kubectl(&["delete", "secret", "hidden"]);
}

/// `set image` and `rollout undo`, as on any other workload, with clients that may not notice.
pub fn rolls_forward_and_back(cluster: &Cluster) {
    let image = cluster.kubectl(&[
        "-n",
        "kube-system",
        "get",
        "daemonset",
        "kube-apiserver",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].image}",
    ]);
    let other = "kayak.local/kubernetes:other";
    cluster.in_node(&["ctr", "--namespace=k8s.io", "images", "tag", "--force", &image, other]);
    let outside = Watch::start(&cluster.api(), &cluster.assets());
    let failed_before = failed_inside(cluster);
    for (workload, container) in [
        ("daemonset/kube-apiserver", "kube-apiserver"),
        ("deployment/kube-controller-manager", "kube-controller-manager"),
        ("deployment/kube-scheduler", "kube-scheduler"),
    ] {
        cluster.kubectl(&["-n", "kube-system", "set", "image", workload, &format!("{container}={other}")]);
        cluster.kubectl(&["-n", "kube-system", "rollout", "status", workload, "--timeout=120s"]);
        cluster.kubectl(&["-n", "kube-system", "rollout", "undo", workload]);
        cluster.kubectl(&["-n", "kube-system", "rollout", "status", workload, "--timeout=120s"]);
    }
    assert_unnoticed("during six rollouts", &outside.stop());
    assert_unnoticed_inside(cluster, failed_before);
    let status = cluster.kubectl(&["get", "componentstatuses", "--no-headers"]);
    assert_eq!(status.lines().filter(|line| line.contains(" Healthy ")).count(), 3, "{status}");
}
