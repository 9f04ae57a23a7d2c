//! What a user runs: images, services, volumes, jobs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::cluster::{Cluster, eventually};
use crate::image;

pub fn an_image_loaded_as_oci_layout_runs(cluster: &Cluster) {
    let archive = image::oci_archive("e2e.local/web:oci");
    let loaded = cluster.kayak(&["image", "load", archive.to_str().unwrap()]);
    assert_eq!(loaded.trim(), "e2e.local/web:oci");
    let directory = image::oci_layout("e2e.local/web:directory");
    let loaded = cluster.kayak(&["image", "load", directory.to_str().unwrap()]);
    assert_eq!(loaded.trim(), "e2e.local/web:directory");
    cluster.kubectl(&[
        "run",
        "oci",
        "--image=e2e.local/web:oci",
        "--restart=Never",
        "--",
        "cat",
        "/www/index.html",
    ]);
    cluster.wait_for(&["logs", "oci"], |log| log.contains("hello from a web server"));
    cluster.kubectl(&["delete", "pod", "oci", "--now"]);
}

const WEB: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: e2e.local/web:docker
        ports: [{ containerPort: 8080 }]
        readinessProbe: { httpGet: { path: /, port: 8080 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  type: NodePort
  selector: { app: web }
  ports: [{ port: 80, targetPort: 8080, nodePort: 30080 }]
";

pub fn a_web_server_answers_by_name_and_node_port(cluster: &Cluster) {
    cluster.apply(WEB);
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    // By name from another pod, short and full, and to itself through its own service.
    for name in ["web", "web.default.svc.cluster.local"] {
        let url = format!("http://{name}/");
        cluster.wait_for(&["exec", "inside", "--", "wget", "-q", "-O", "-", &url], |page| {
            page.contains("hello")
        });
    }
    for _ in 0..8 {
        let page = cluster.kubectl(&["exec", "deployment/web", "--", "wget", "-q", "-O", "-", "http://web/"]);
        assert!(page.contains("hello"), "{page}");
    }
    let node =
        cluster.kubectl(&["get", "node", "controller-0", "-o", "jsonpath={.status.addresses[0].address}"]);
    let page = eventually("the NodePort from the host", || get(&format!("{node}:30080")));
    assert!(page.contains("hello from a web server"), "{page}");
}

/// Asks a web server for its first page.
pub fn get(address: &str) -> Result<String, String> {
    let mut stream = TcpStream::connect(address).map_err(|e| e.to_string())?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(|e| e.to_string())?;
    let mut page = String::new();
    stream.read_to_string(&mut page).map_err(|e| e.to_string())?;
    Ok(page)
}

const VOLUMES: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: settings }
data: { colour: blue }
---
apiVersion: v1
kind: Secret
metadata: { name: password }
stringData: { word: sesame }
---
apiVersion: v1
kind: Pod
metadata: { name: volumes }
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
  - name: writer
    image: e2e.local/web:docker
    command: [sh, -c, "cat /settings/colour > /scratch/out && cat /password/word >> /scratch/out && cat /scratch/out > /host/out"]
    volumeMounts: &mounts
    - { name: scratch, mountPath: /scratch }
    - { name: settings, mountPath: /settings }
    - { name: password, mountPath: /password }
    - { name: host, mountPath: /host }
  containers:
  - name: reader
    image: e2e.local/web:docker
    command: [sh, -c, "cat /scratch/out /host/out; echo; echo colour is $COLOUR"]
    env: [{ name: COLOUR, valueFrom: { configMapKeyRef: { name: settings, key: colour } } }]
    volumeMounts: *mounts
  volumes:
  - { name: scratch, emptyDir: {} }
  - { name: settings, configMap: { name: settings } }
  - { name: password, secret: { secretName: password } }
  - { name: host, hostPath: { path: /var/e2e, type: DirectoryOrCreate } }
"#;

pub fn volumes_of_every_common_kind_are_mounted(cluster: &Cluster) {
    cluster.apply(VOLUMES);
    cluster.wait_for(&["logs", "volumes"], |log| {
        log.contains("bluesesamebluesesame") && log.contains("colour is blue")
    });
    assert_eq!(cluster.in_node(&["cat", "/var/e2e/out"]), "bluesesame");
    cluster.kubectl(&["delete", "pod/volumes", "configmap/settings", "secret/password", "--now"]);
}

const PROPAGATION: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: mounter }
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: mounter
    image: e2e.local/web:docker
    command: [sh, -c, "mkdir -p /shared/inner && mount -t tmpfs none /shared/inner && echo seen > /shared/inner/file && sleep 3600"]
    securityContext: { privileged: true }
    lifecycle: { preStop: { exec: { command: [umount, /shared/inner] } } }
    volumeMounts: [{ name: shared, mountPath: /shared, mountPropagation: Bidirectional }]
  volumes: [{ name: shared, hostPath: { path: /var/e2e-shared, type: DirectoryOrCreate } }]
---
apiVersion: v1
kind: Pod
metadata: { name: watcher }
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: watcher
    image: e2e.local/web:docker
    command: [sleep, "3600"]
    volumeMounts: [{ name: shared, mountPath: /shared, mountPropagation: HostToContainer }]
  volumes: [{ name: shared, hostPath: { path: /var/e2e-shared, type: DirectoryOrCreate } }]
"#;

pub fn mounts_propagate_between_pods(cluster: &Cluster) {
    cluster.apply(PROPAGATION);
    cluster.wait_for(&["exec", "watcher", "--", "cat", "/shared/inner/file"], |file| file.trim() == "seen");
    cluster.kubectl(&["delete", "pod", "mounter", "watcher", "--grace-period=10"]);
}

const PRIVILEGED: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: privileged }
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: e2e.local/web:docker
    command: [sh, -c, "mkdir -p /mnt && mount -t tmpfs none /mnt && echo mounted as $(id -u)"]
    securityContext: { privileged: true }
---
apiVersion: batch/v1
kind: Job
metadata: { name: job }
spec:
  completions: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{ name: main, image: "e2e.local/web:docker", command: [sh, -c, "echo done"] }]
"#;

pub fn a_privileged_pod_and_a_job_run(cluster: &Cluster) {
    cluster.apply(PRIVILEGED);
    cluster.wait_for(&["logs", "privileged"], |log| log.trim() == "mounted as 0");
    cluster.kubectl(&["wait", "--for=condition=complete", "job/job", "--timeout=60s"]);
    cluster.kubectl(&["delete", "pod/privileged", "job/job", "--now"]);
}
