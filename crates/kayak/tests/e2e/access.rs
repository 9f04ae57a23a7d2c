//! Kubeconfigs: the caller's own, and those of other people.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::cluster::{Cluster, eventually, scratch, show, succeed};

/// The kubectl that anybody might have, with a kubeconfig and nothing else.
fn plain_kubectl(cluster: &Cluster, kubeconfig: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(cluster.assets().with_file_name("bin").join("kubectl"));
    command.args(arguments).env("KUBECONFIG", kubeconfig).output().unwrap()
}

fn allowed(cluster: &Cluster, kubeconfig: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = plain_kubectl(cluster, kubeconfig, arguments);
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(show(&output))
}

/// As `sudo kayak kubeconfig` by user 1000: the file is theirs, and what was in it stays.
pub fn kubeconfig_of_the_caller_gets_the_cluster(cluster: &Cluster) {
    let home = tempfile::tempdir().unwrap();
    chown(home.path(), Some(1000), Some(1001)).unwrap();
    let file = home.path().join(".kube/config");
    let sudo = |arguments: &[&str]| {
        let mut command = cluster.command(&[&["kubeconfig"], arguments].concat());
        command.env("SUDO_UID", "1000").env("SUDO_GID", "1001").env("KUBECONFIG", &file);
        command
    };
    succeed(&mut sudo(&[]));
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (1000, 1001, 0o600));
    assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().uid(), 1000);
    let nodes = |arguments: &[&str]| {
        allowed(cluster, &file, &[arguments, &["get", "nodes", "-o", "name"]].concat()).unwrap()
    };
    assert_eq!(nodes(&[]).trim(), "node/controller-0", "the context was switched: none was set");

    allowed(cluster, &file, &["config", "set-context", "work", "--cluster=work", "--user=me"]).unwrap();
    allowed(cluster, &file, &["config", "use-context", "work"]).unwrap();
    succeed(&mut sudo(&[]));
    assert_eq!(nodes(&["--context=kayak-e2e"]).trim(), "node/controller-0");
    let current = || allowed(cluster, &file, &["config", "current-context"]).unwrap().trim().to_owned();
    assert_eq!(current(), "work", "another one was set");
    succeed(&mut sudo(&["--use"]));
    assert_eq!(current(), "kayak-e2e");
    assert!(succeed(&mut sudo(&["--remove", "--output=json"])).contains(r#""removed":true"#));
    assert_eq!(allowed(cluster, &file, &["config", "get-contexts", "-o", "name"]).unwrap().trim(), "work");

    fs::write(&file, "users: [").unwrap();
    let refused = sudo(&[]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", show(&refused));
    assert_eq!(fs::read_to_string(&file).unwrap(), "users: [", "left as it was");
    a_name_that_is_not_in_the_certificate_is_refused(cluster);
}

fn a_name_that_is_not_in_the_certificate_is_refused(cluster: &Cluster) {
    let print =
        |server: &str| cluster.command(&["kubeconfig", "--print", "--server", server]).output().unwrap();
    let refused = print("elsewhere.example");
    assert_eq!(refused.status.code(), Some(2), "{}", show(&refused));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("kubernetes.default") && said.contains("api.extraNames"), "{said}");
    let local = print("localhost");
    assert!(String::from_utf8_lossy(&local.stdout).contains("https://localhost:6443"), "{}", show(&local));
}

fn kubeconfig_for(cluster: &Cluster, person: &str, arguments: &[&str]) -> PathBuf {
    let file = scratch().join(format!("{person}.kubeconfig"));
    let to = ["kubeconfig", "--for", person, "-o", file.to_str().unwrap()];
    cluster.kayak(&[&to, arguments].concat());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    file
}

pub fn kubeconfig_of_another_does_what_their_role_says(cluster: &Cluster) {
    let groups = ["--group", "developers", "--group", "on call"];
    let file =
        kubeconfig_for(cluster, "anna", &[&groups[..], &["--role=edit", "--namespace=default"]].concat());
    let make = ["create", "configmap", "of-anna", "--from-literal=a=b"];
    // The API server learns of a new role by a watch.
    eventually("anna's role", || allowed(cluster, &file, &make).map(drop));
    let who = allowed(cluster, &file, &["auth", "whoami", "-o", "json"]).unwrap();
    assert!(["\"anna\"", "\"developers\"", "\"on call\""].iter().all(|word| who.contains(word)), "{who}");
    for beyond in [
        &["-n", "kube-system", "get", "pods"][..],
        &["get", "nodes"],
        &["create", "rolebinding", "more", "--clusterrole=admin", "--user=anna"],
    ] {
        let refused = allowed(cluster, &file, beyond).unwrap_err();
        assert!(refused.contains("Forbidden") || refused.contains("forbidden"), "{beyond:?}: {refused}");
    }
    cluster.kubectl(&["delete", "configmap/of-anna", "rolebinding/kayak:user:anna"]);
    let nowhere = ["kubeconfig", "--for", "anna", "--role=edit", "--namespace=missing"];
    let refused = cluster.command(&nowhere).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", show(&refused));
    assert!(show(&refused).contains("there is no namespace `missing`"), "{}", show(&refused));
    for above in
        [&["--for=system:admin"][..], &["--for=otto", "--group=system:masters"], &["--for=kayak:flannel"]]
    {
        let refused = cluster.command(&[&["kubeconfig"], above].concat()).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{}", show(&refused));
    }
}

pub fn kubeconfig_that_has_ended_is_refused(cluster: &Cluster) {
    let file = kubeconfig_for(cluster, "otto", &["--lifetime=1s"]);
    eventually("the certificate's end", || {
        let refused = allowed(cluster, &file, &["get", "pods"]).unwrap_err();
        // Before, the API knows who asks and says that otto may not; then it does not.
        if refused.contains("Unauthorized") || refused.contains("must be logged in") {
            Ok(())
        } else {
            Err(refused)
        }
    });
}
