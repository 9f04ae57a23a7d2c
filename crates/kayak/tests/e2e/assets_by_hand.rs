//! bootkube's workflow: render, edit by hand, start.

use std::fs;
use std::path::Path;

use crate::cluster::{Cluster, scratch, show};

fn render(cluster: &Cluster) -> std::path::PathBuf {
    let directory = scratch().join("rendered");
    // What an earlier run rendered has other keys.
    let _ = fs::remove_dir_all(&directory);
    cluster.kayak(&["render", "--config", cluster.config(), "-o", directory.to_str().unwrap()]);
    directory
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{}: {text}", path.display());
    fs::write(path, text.replace(from, to)).unwrap();
}

pub fn an_edited_rendering_starts_as_edited() {
    let cluster = Cluster::new("e2e-assets", 2, "api:\n  extraNames: [kayak.example]\n");
    let directory = render(&cluster);
    let assets = directory.to_str().unwrap();
    let manifest = directory.join("manifests/20-kube-apiserver.yaml");
    let first = fs::read(&manifest).unwrap();
    cluster.kayak(&["render", "--config", cluster.config(), "-o", assets]);
    assert_eq!(fs::read(&manifest).unwrap(), first, "rendering again gives the same bytes");
    edit(&manifest, "--audit-log-maxsize=20", "--audit-log-maxsize=33");
    let stopped = cluster.command(&["start", "--assets", assets, "--until", "temporary"]).output().unwrap();
    assert!(stopped.status.success() && show(&stopped).contains("goes on from here"), "{}", show(&stopped));
    let pods = cluster.kayak(&["node", "ps", "controller-0"]);
    assert!(pods.contains("temporary-kube-apiserver-controller-0"), "{pods}");
    cluster.kayak(&["start", "--assets", assets]);
    let arguments = cluster.kubectl(&[
        "-n",
        "kube-system",
        "get",
        "daemonset",
        "kube-apiserver",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].args}",
    ]);
    assert!(arguments.contains("--audit-log-maxsize=33"), "{arguments}");
    let again = cluster.command(&["up"]).output().unwrap();
    assert!(again.status.success(), "{}", show(&again));
    let plan = cluster.kayak(&["plan"]);
    assert!(plan.starts_with("nothing to do"), "a bare `up` keeps what was edited by hand: {plan}");
    assert!(plan.contains("  manifests/20-kube-apiserver.yaml"), "{plan}");
    cluster.kayak(&["up", "--revert", "manifests/20-kube-apiserver.yaml"]);
    let size = cluster.kubectl(&["-n", "kube-system", "get", "daemonset", "kube-apiserver", "-o", "yaml"]);
    assert!(size.contains("--audit-log-maxsize=20"), "{size}");
    let server = cluster.api();
    let kubectl = [
        "--server",
        &format!("https://{server}"),
        "--tls-server-name",
        "kayak.example",
        "get",
        "--raw",
        "/readyz",
    ];
    assert_eq!(cluster.kubectl(&kubectl), "ok", "the extra name is in the certificate");
    cluster.kayak(&["down", "--yes"]);
}

pub fn a_gate_that_does_not_open_says_why() {
    let cluster = Cluster::new("e2e-assets", 2, "");
    let directory = render(&cluster);
    edit(
        &directory.join("bootstrap-manifests/kube-apiserver.yaml"),
        "--allow-privileged=true",
        "--no-such-flag=true",
    );
    let start = ["start", "--assets", directory.to_str().unwrap(), "--patience", "30"];
    let output = cluster.command(&start).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", show(&output));
    let said = String::from_utf8_lossy(&output.stderr);
    for word in ["the API answers", "unknown flag: --no-such-flag", "kayak node logs", "goes on from here"] {
        assert!(said.contains(word), "does not say `{word}`: {said}");
    }
    cluster.kayak(&["down", "--yes"]);
}
