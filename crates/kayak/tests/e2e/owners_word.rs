//! Whose word counts: the owner's edits in the cluster, on the node and among the assets, and the plan
//! that names them.

use std::fs;

use crate::cluster::{Cluster, eventually, scratch, show};
use crate::nodes_can_be_looked_into::process;

fn coredns(cluster: &Cluster, path: &str) -> String {
    let path = format!("jsonpath={{{path}}}");
    cluster.kubectl(&["-n", "kube-system", "get", "deployment", "coredns", "-o", &path])
}

fn plan(cluster: &Cluster) -> String {
    cluster.kayak(&["plan"])
}

/// Waits until nothing is left to do: what was stopped for a moment is seen to run again.
fn settled(cluster: &Cluster) {
    cluster.up(&[]);
    let plan = plan(cluster);
    assert!(plan.starts_with("nothing to do"), "{plan}");
}

/// A field that kayak does not own, one that it owns, one that was taken away, and an object that it wishes no more.
pub fn edits_stay_until_they_are_named(cluster: &Cluster) {
    let kubectl = |arguments: &[&str]| cluster.kubectl(&[&["-n", "kube-system"], arguments].concat());
    kubectl(&["label", "deployment", "coredns", "mine=yes"]);
    kubectl(&["scale", "deployment", "coredns", "--replicas=2"]);
    let take_away = r#"[{"op": "remove", "path": "/spec/template/spec/enableServiceLinks"}]"#;
    kubectl(&["patch", "daemonset", "flannel", "--type=json", "-p", take_away]);
    kubectl(&["create", "configmap", "old"]);
    kubectl(&["label", "configmap", "old", "app.kubernetes.io/managed-by=kayak"]);
    let output = cluster.command(&["up"]).output().unwrap();
    let said = show(&output);
    assert!(output.status.success(), "{said}");
    for edit in
        [".spec.replicas is 2 instead of 1, by `kubectl`", "enableServiceLinks is nothing instead of false"]
    {
        assert!(said.contains(edit), "not listed: {edit}\n{said}");
    }
    assert!(
        plan(cluster).contains("no longer wished (`--remove NAME` deletes it):\n  configmap/kube-system/old")
    );
    let is_there = || (coredns(cluster, ".spec.replicas"), coredns(cluster, ".metadata.labels.mine"));
    assert_eq!(is_there(), ("2".into(), "yes".into()));
    cluster.up(&["--revert", "deployment/coredns"]);
    assert_eq!(is_there(), ("1".into(), "yes".into()), "what is kayak's came back, what is not stayed");
    let left = plan(cluster);
    assert!(!left.contains("replicas") && left.contains("enableServiceLinks"), "{left}");
    let unnamed = cluster.command(&["up", "--remove", "configmap/old"]).output().unwrap();
    assert_eq!(unnamed.status.code(), Some(2), "nobody was there to confirm: {}", show(&unnamed));
    kubectl(&["get", "configmap", "old"]);
    for (option, name) in
        [("--remove", "configmap/coredns"), ("--remove", "configmap/gone"), ("--revert", "deployment/gone")]
    {
        let refused = cluster.command(&["up", option, name, "--yes"]).output().unwrap();
        let said = show(&refused);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        let there =
            if option == "--remove" { "configmap/kube-system/old" } else { "daemonset/kube-system/flannel" };
        assert!(said.contains(&format!("nothing called `{name}`")) && said.contains(there), "{said}");
    }
    cluster.up(&["--remove", "configmap/old", "--yes", "--revert", "daemonset/flannel"]);
    assert!(!cluster.try_kubectl(&["-n", "kube-system", "get", "configmap", "old"]).status.success());
    kubectl(&["label", "deployment", "coredns", "mine-"]);
    assert_eq!(plan(cluster).trim(), "nothing to do");
}

/// One object, one file on the node, one certificate, one process: the plan names that and nothing else.
pub fn the_plan_names_exactly_what_changed(cluster: &Cluster) {
    assert_eq!(plan(cluster).trim(), "nothing to do");
    cluster.kubectl(&["delete", "clusterrolebinding", "kayak:flannel"]);
    assert_eq!(
        plan(cluster).trim(),
        "inject: inject the self-hosted control plane\n  apply clusterrolebinding/kayak:flannel"
    );
    settled(cluster);

    let file = "/etc/kubernetes/containerd/config.toml";
    cluster.in_node(&["sh", "-c", &format!("echo '# mine' >> {file}")]);
    let changed = cluster.kayak(&["plan", "--diff"]);
    assert!(changed.contains(&format!("\n  write {file} on `controller-0`\n")), "{changed}");
    assert!(changed.contains("    -# mine"), "{changed}");
    assert_eq!(changed.matches("\n  write ").count() + changed.matches("\n  apply ").count(), 1, "{changed}");
    settled(cluster);

    fs::remove_file(cluster.assets().join("tls/kube-scheduler.crt")).unwrap();
    let issued = plan(cluster);
    assert!(issued.contains("\n  issue kube-scheduler\n"), "{issued}");
    assert!(issued.contains("\n  kube-scheduler: it is not there"), "{issued}");
    let apply = "\n  apply secret/kube-system/kube-scheduler, deployment/kube-system/kube-scheduler\n";
    assert!(issued.contains(apply), "{issued}");
    assert!(!issued.contains("nodes:") && !issued.contains("temporary:"), "{issued}");
    settled(cluster);

    let pid = process(cluster, "kube-scheduler");
    cluster.in_node(&["kill", "-STOP", &pid]);
    let stopped = eventually("the plan to name the scheduler", || {
        let plan = plan(cluster);
        if plan.contains("a self-hosted kube-scheduler answers") { Ok(plan) } else { Err(plan) }
    });
    cluster.in_node(&["kill", "-CONT", &pid]);
    for other in ["write", "apply", "issue", "kube-apiserver", "kube-controller-manager"] {
        assert!(!stopped.contains(other), "{stopped}");
    }
    settled(cluster);
}

/// What was planned is done only where the same is found again.
pub fn a_plan_in_a_file_is_for_what_was_found(cluster: &Cluster) {
    let path = scratch().join("plan.json");
    let file = path.to_str().unwrap();
    cluster.kubectl(&["delete", "clusterrolebinding", "kayak:flannel"]);
    cluster.kayak(&["plan", "-o", file]);
    let secret = fs::read_to_string(cluster.assets().join("tls/admin.key")).unwrap();
    let planned = fs::read_to_string(&path).unwrap();
    assert!(secret.lines().skip(1).all(|line| line.starts_with("--") || !planned.contains(line)));
    cluster.kubectl(&["delete", "clusterrolebinding", "kayak:coredns"]);
    let refused = cluster.command(&["up", "--plan", file]).output().unwrap();
    let said = show(&refused);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("clusterrolebinding/kayak:coredns") && said.contains("nothing was changed"),
        "{said}"
    );
    assert!(!cluster.try_kubectl(&["get", "clusterrolebinding", "kayak:flannel"]).status.success());
    cluster.kayak(&["plan", "-o", file]);
    cluster.kayak(&["up", "--plan", file]);
    cluster.kubectl(&["get", "clusterrolebinding", "kayak:flannel", "kayak:coredns"]);
    assert_eq!(plan(cluster).trim(), "nothing to do");
}

/// A bare `up` takes the configuration from the cluster, where the owner may edit it; a controller's disk holds it too.
pub fn the_configuration_lives_in_the_cluster(cluster: &Cluster) {
    let given = fs::read_to_string(cluster.config()).unwrap();
    assert_eq!(cluster.kayak(&["config", "show"]).trim(), given.trim());
    assert_eq!(cluster.in_node(&["cat", "/etc/kubernetes/kayak/cluster.yaml"]).trim(), given.trim());
    let edit = |script: &str| {
        let mut command = cluster.command(&["config", "edit", "--yes"]);
        let output = command.env("EDITOR", format!("sh -c '{script}' --")).output().unwrap();
        (output.status.code(), show(&output))
    };
    let (code, said) = edit(r#"echo "nonsense: 1" >> "$1""#);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("nonsense"), "{said}");
    let (code, said) = edit(r#"printf "api:\n  extraNames: [edited.example]\n" >> "$1""#);
    assert_eq!(code, Some(0), "{said}");
    let left = |name: &str| fs::read_to_string(cluster.assets().with_file_name(name));
    assert!(left("edited.1.yaml").unwrap().contains("nonsense"), "what was refused is not lost: {said}");
    assert!(left("edited.yaml").is_err(), "what was applied is");
    let shown = cluster.kayak(&["config", "show"]);
    assert!(shown.contains("edited.example"), "{shown}");
    let difference = cluster.kayak(&["config", "diff", cluster.config()]);
    assert!(difference.contains("-  extraNames: [edited.example]"), "{difference}");
    let server = cluster.api();
    let by_name = ["--server", &format!("https://{server}"), "--tls-server-name", "edited.example"];
    assert_eq!(cluster.kubectl(&[&by_name[..], &["get", "--raw", "/readyz"]].concat()), "ok");
    assert_eq!(plan(cluster).trim(), "nothing to do", "a bare plan takes what was edited");
    // Somebody else is faster than this editor.
    let theirs = serde_json::json!({ "data": { "cluster.yaml": format!("{given}# theirs\n") } });
    let patch = scratch().join("theirs.json");
    fs::write(&patch, theirs.to_string()).unwrap();
    let kubectl = format!(
        "{} --kubeconfig {} -n kube-system patch configmap kayak-config --type=merge --patch-file {}",
        cluster.kubectl_program().display(),
        cluster.assets().join("auth/kubeconfig").display(),
        patch.display()
    );
    let (code, said) = edit(&format!(r##"echo "# mine" >> "$1"; {kubectl}"##));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("somebody has changed") && said.contains("edited.yaml"), "{said}");
    assert!(cluster.kayak(&["config", "show"]).contains("# theirs"));
    assert!(left("edited.yaml").unwrap().contains("# mine"));
    // A file that is given wins, and is what is kept from then on.
    cluster.up(&[]);
    assert_eq!(cluster.kayak(&["config", "show"]).trim(), given.trim());
}
