//! What the owner writes into `cluster.yaml` takes effect where it should.

use std::fs;
use std::path::Path;

use crate::cluster::{Cluster, scratch, show};
use crate::image;

const SETTINGS: &str = r#"
components:
  kube-apiserver:
    extraArgs: { event-ttl: 2h, audit-log-maxsize: 33 }
    env: { GOGC: 77 }
    resources: { requests: { cpu: 150m }, limits: { memory: 2Gi } }
  etcd: { extraArgs: { max-wals: 3 }, env: { GOGC: 78 } }
  kube-proxy: { config: { metricsBindAddress: "127.0.0.1:10251" } }
  coredns: { env: { GOGC: 79 } }
kubelet:
  config: { maxPods: 50 }
  env: { GOGC: 76 }
nodes:
  - name: controller-0
    labels: { example.com/disk: ssd }
    taints: [{ key: example.com/quiet, value: night, effect: PreferNoSchedule }]
    memory: 6Gi
"#;

const TAINT: &str = "{ key: example.com/quiet, value: night, effect: PreferNoSchedule }";

/// Devices that a container is not given anyway; a machine has one of them.
const DEVICES: [&str; 3] = ["/dev/net/tun", "/dev/fuse", "/dev/loop-control"];

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: visitor }
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  nodeSelector: { example.com/disk: ssd }
  containers:
  - name: main
    image: e2e.local/web:docker
    command: [sh, -c, "cat /read/file && echo from a pod > /write/file; echo > /read/file || echo kept; test -c /device && echo a device"]
    securityContext: { privileged: true }
    volumeMounts:
    - { name: read, mountPath: /read, readOnly: true }
    - { name: write, mountPath: /write }
    - { name: device, mountPath: /device }
  volumes:
  - { name: read, hostPath: { path: /srv/read, type: Directory } }
  - { name: write, hostPath: { path: /srv/write, type: Directory } }
  - { name: device, hostPath: { path: DEVICE, type: CharDevice } }
"#;

pub fn settings_take_effect() {
    let (read, write) = (scratch().join("read"), scratch().join("write"));
    for directory in [&read, &write] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::write(read.join("file"), "of the machine\n").unwrap();
    let device = DEVICES.into_iter().find(|path| Path::new(path).exists()).expect("the machine has a device");
    let mounts = format!(
        "    devices: [{device}]\n    mounts:\n      - {{ host: {}, node: /srv/read }}\n      - {{ host: {}, node: /srv/write, writable: true }}\n",
        read.display(),
        write.display()
    );
    let cluster = Cluster::new("e2e-settings", 5, &format!("{SETTINGS}{mounts}"));
    cluster.up(&[]);
    components_run_as_wished(&cluster);
    the_node_is_as_wished(&cluster);

    let archive = image::docker_archive("e2e.local/web:docker");
    cluster.kayak(&["image", "load", archive.to_str().unwrap()]);
    cluster.apply(&POD.replace("DEVICE", device));
    cluster.wait_for(&["logs", "visitor"], |log| {
        log.contains("of the machine") && log.contains("kept") && log.contains("a device")
    });
    assert_eq!(fs::read_to_string(write.join("file")).unwrap(), "from a pod\n");

    let in_node = ["node", "shell", "controller-0", "--", "sh", "-c", "echo > /srv/read/file"];
    assert!(!cluster.command(&in_node).output().unwrap().status.success(), "the node may not write either");

    // Others' taints beside the wished one are no edit of it.
    assert_eq!(cluster.kayak(&["plan"]).trim(), "nothing to do");
    what_is_not_there_stops_no_node(&cluster);
    a_taint_taken_out_goes_and_one_that_was_removed_stays_away(&cluster);
    cluster.kayak(&["down", "--yes"]);
    assert!(read.join("file").exists(), "what was mounted is still there");
}

/// A node that runs would be stopped for the new mount, and not start with it.
fn what_is_not_there_stops_no_node(cluster: &Cluster) {
    let given = fs::read_to_string(cluster.config()).unwrap();
    fs::write(cluster.config(), format!("{given}      - {{ host: /nowhere/at/all }}\n")).unwrap();
    let refused = cluster.command(&["up", "--config", cluster.config()]).output().unwrap();
    let said = show(&refused);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("path-missing") && said.contains("nodes[0].mounts[2].host: /nowhere/at/all"),
        "{said}"
    );
    fs::write(cluster.config(), given).unwrap();
    assert_eq!(cluster.kayak(&["plan"]).trim(), "nothing to do");
}

fn a_taint_taken_out_goes_and_one_that_was_removed_stays_away(cluster: &Cluster) {
    let given = fs::read_to_string(cluster.config()).unwrap();
    let up_with = |taints: &str| {
        fs::write(cluster.config(), given.replace(TAINT, taints)).unwrap();
        cluster.up(&[]);
        cluster.kubectl(&["get", "node", "controller-0", "-o", "jsonpath={.spec.taints[*].key}"])
    };
    assert!(given.contains(TAINT));
    cluster.kubectl(&["taint", "node", "controller-0", "example.com/quiet-"]);
    let more = "{ key: example.com/more, effect: PreferNoSchedule }";
    assert_eq!(up_with(&format!("{TAINT}, {more}")), "example.com/more", "what was removed stays away");
    assert_eq!(up_with(""), "", "what is no longer wished goes");
    assert_eq!(cluster.kayak(&["plan"]).trim(), "nothing to do");
}

fn components_run_as_wished(cluster: &Cluster) {
    let process = |name: &str| {
        let script = "for p in /proc/[0-9]*; do \
            [ \"$(tr '\\0' ' ' < $p/cmdline | grep -o '^[^ ]*' | grep -o '[^/]*$')\" = \"$1\" ] && \
            { tr '\\0' ' ' < $p/cmdline; tr '\\0' ' ' < $p/environ; echo; }; done; true";
        cluster.in_node(&["sh", "-c", script, "sh", name])
    };
    for (name, words) in [
        ("kube-apiserver", &["--event-ttl=2h", "--audit-log-maxsize=33", "GOGC=77"][..]),
        ("etcd", &["--max-wals=3", "GOGC=78"]),
        ("coredns", &["GOGC=79"]),
        ("kubelet", &["GOGC=76"]),
    ] {
        let process = process(name);
        for word in words {
            assert!(process.contains(word), "{name} lacks {word}: {process}");
        }
    }
    assert!(!process("kube-apiserver").contains("--audit-log-maxsize=20"));
    let pods = |path: &str| {
        let path = format!("jsonpath={{.items[0].spec.containers[0].{path}}}");
        cluster.kubectl(&[
            "-n",
            "kube-system",
            "get",
            "pods",
            "-l",
            "app.kubernetes.io/name=kube-apiserver",
            "-o",
            &path,
        ])
    };
    assert_eq!(pods("resources.requests.cpu"), "150m");
    assert_eq!(pods("resources.limits.memory"), "2Gi");
    assert_eq!(pods("resources.requests.memory"), "256Mi", "kayak's own");
    // 127.0.0.1:10251, as the kernel writes it.
    let sockets = cluster.in_node(&["cat", "/proc/net/tcp"]);
    assert!(sockets.contains("0100007F:280B"), "kube-proxy does not listen where its file says: {sockets}");
}

fn the_node_is_as_wished(cluster: &Cluster) {
    let settings = cluster.kubectl(&["get", "--raw", "/api/v1/nodes/controller-0/proxy/configz"]);
    assert!(settings.contains("\"maxPods\":50"), "{settings}");
    let node =
        |path: &str| cluster.kubectl(&["get", "node", "controller-0", "-o", &format!("jsonpath={path}")]);
    assert_eq!(node(r"{.metadata.labels.example\.com/disk}"), "ssd");
    assert_eq!(node(r"{.spec.taints[*].key}"), "example.com/quiet");
    let limits = ["memory.limit_in_bytes", "memory.max"]
        .map(|file| format!("/sys/fs/cgroup/memory/{file} /sys/fs/cgroup/{file}"));
    let limit = cluster.in_node(&["sh", "-c", &format!("cat {} 2>/dev/null; true", limits.join(" "))]);
    assert_eq!(limit.lines().next(), Some("6442450944"));
}
