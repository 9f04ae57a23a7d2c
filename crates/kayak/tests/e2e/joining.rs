//! Another machine joins: it is a network of its own with a state directory of its own, and reaches the first
//! one by a link alone.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Cluster, Running, eventually, scratch, show, succeed};
use crate::image;
use crate::inventory::Inventory;
use crate::space::Space;
use crate::workloads_run::get;

const FIRST: &str = "10.253.62.1";
const SECOND: &str = "10.253.62.2";
const SETTINGS: &str = "  mode: host\n  interface: e2e-lan\njoin: true\n";
/// Where somebody answers who has the API server's certificate, and another clock and version.
const IMPOSTOR: &str = "10.253.62.1:7000";

const WEB: &str = r"
apiVersion: v1
kind: Pod
metadata: { name: here, labels: { app: web } }
spec:
  nodeName: controller-0
  terminationGracePeriodSeconds: 0
  containers:
  - { name: web, image: 'e2e.local/web:docker', readinessProbe: { httpGet: { path: /, port: 8080 }, periodSeconds: 1 } }
---
apiVersion: v1
kind: Pod
metadata: { name: there, labels: { app: web } }
spec:
  nodeName: attic
  terminationGracePeriodSeconds: 0
  tolerations: [{ operator: Exists }]
  containers:
  - { name: web, image: 'e2e.local/web:docker', readinessProbe: { httpGet: { path: /, port: 8080 }, periodSeconds: 1 } }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  type: NodePort
  selector: { app: web }
  ports: [{ port: 80, targetPort: 8080, nodePort: 30080 }]
";

pub fn another_machine_joins_and_leaves() {
    let before = Inventory::take();
    let homes = Homes::new();
    homes.cluster.keeping_evidence(|| {
        homes.moves_from_its_bridge();
        homes.is_refused_and_leaves_nothing();
        let untouched = homes.second.ip("route");
        let token = homes.token(&[]);
        homes.what_a_token_may(&token);
        homes
            .guest
            .kayak(&Homes::join(&token, &["--label", "disk=big", "--taint", "quiet=night:NoSchedule"]));
        homes.a_name_that_lives_is_not_given_again(&token);
        homes.packets_reach_both_machines();
        homes.the_first_machine_leaves_it_alone();
        homes.guest.kayak(&["stop"]);
        homes.is_ready("attic", "Unknown");
        homes.the_first_machine_goes_on_without_it();
        homes.guest.kayak(&["resume"]);
        homes.is_ready("attic", "True");
        homes.packets_reach_both_machines();
        homes.guest.kayak(&["down", "--yes"]);
        assert_eq!(homes.second.ip("route"), untouched);
        assert!(!Cluster::guest_state().join("e2e-guest").exists());
    });
    homes.cluster.kayak(&["down", "--yes"]);
    drop(homes);
    before.assert_unchanged();
}

struct Homes {
    first: Space,
    second: Space,
    cluster: Cluster,
    guest: Cluster,
}

impl Homes {
    fn new() -> Self {
        let (first, second) = (Space::new(), Space::new());
        first.link("e2e-lan", &format!("{FIRST}/24"), &second, &format!("{SECOND}/24"));
        let cluster = Cluster::new("e2e-join", 52, SETTINGS).on(&first);
        let guest = Cluster::new("e2e-guest", 53, "").on(&second).kept_in(Cluster::guest_state());
        Self { first, second, cluster, guest }
    }

    /// A cluster that only its own machine reached is told to be on that one's network, and keeps what it has.
    fn moves_from_its_bridge(&self) {
        let born = Cluster::new("e2e-join", 52, "").on(&self.first);
        born.up(&[]);
        born.kubectl(&["create", "configmap", "kept"]);
        let refused = born.command(&["token", "create"]).output().unwrap();
        assert!(show(&refused).contains("join: true"), "{}", show(&refused));
        let moved = Cluster::new("e2e-join", 52, SETTINGS).on(&self.first);
        moved.up(&[]);
        assert_eq!(moved.kubectl(&["get", "configmap", "kept", "-o", "name"]).trim(), "configmap/kept");
        let address = "jsonpath={.status.addresses[?(@.type=='InternalIP')].address}";
        assert_eq!(moved.kubectl(&["get", "node", "controller-0", "-o", address]), FIRST);
    }

    /// What `token create` tells.
    fn token(&self, flags: &[&str]) -> Value {
        let told = self.cluster.kayak(&[&["token", "create", "--output", "json"], flags].concat());
        serde_json::from_str(&told).unwrap()
    }

    /// The line that it prints, with more flags.
    fn join<'a>(token: &'a Value, flags: &[&'a str]) -> Vec<&'a str> {
        let line = token["join"].as_str().unwrap();
        let words = line.split(' ').skip(1);
        words.chain(["--name", "attic"]).chain(flags.iter().copied()).collect()
    }

    /// What the cluster has written down of machines that join.
    fn recorded(&self) -> String {
        let records = ["-n", "kube-system", "get", "configmap", "kayak-joined", "-o", "jsonpath={.data}"];
        let requests = ["get", "csr", "-o", "jsonpath={.items[*].spec.username}"];
        self.cluster.kubectl(&records) + &self.cluster.kubectl(&requests)
    }

    fn is_refused_and_leaves_nothing(&self) {
        let (good, revoked) = (self.token(&[]), self.token(&[]));
        let ended = self.token(&["--ttl", "1s"]);
        self.cluster.kayak(&["token", "revoke", revoked["id"].as_str().unwrap()]);
        eventually("the end of a token", || {
            let listed: Value =
                serde_json::from_str(&self.cluster.kayak(&["token", "list", "--output", "json"])).unwrap();
            let of = |id: &Value| listed.as_array().unwrap().iter().find(|token| token["id"] == *id).cloned();
            assert_eq!(of(&revoked["id"]), None);
            match of(&ended["id"]) {
                Some(token) if token["ended"] != true => Err(token.to_string()),
                _ => Ok(()),
            }
        });
        let hash = good["caHash"].as_str().unwrap();
        let text = good["token"].as_str().unwrap();
        let at =
            |address: &'static str| ["join", address, "--token", text, "--ca-hash", hash, "--name", "attic"];
        let other = format!("sha256:{}", "0".repeat(64));
        let cases: Vec<(Vec<&str>, &[&str])> = vec![
            (vec!["join", FIRST, "--token", text, "--ca-hash", &other], &["not the cluster of this hash"]),
            (Self::join(&revoked, &[]), &["was revoked", "kayak token create"]),
            (Self::join(&ended, &[]), &["has ended", "kayak token create"]),
            (Self::join(&good, &["--controller"]), &["for workers only", "--controller"]),
            (
                vec!["join", FIRST, "--token", text, "--ca-hash", hash, "--name", "controller-0"],
                &["a node called `controller-0` is alive", "--name NAME"],
            ),
            (
                vec!["join", FIRST, "--token", text, "--ca-hash", hash, "--name", "Attic."],
                &["is no name for a node"],
            ),
            (at("10.253.62.77").into(), &["nothing answers at 10.253.62.77:6443"]),
            (at("10.253.62.1:1").into(), &["nothing answers at 10.253.62.1:1"]),
            (Self::join(&good, &["--interface", "e2e-none"]), &["e2e-none"]),
        ];
        let before = (self.second.ip("route"), self.recorded());
        for (arguments, words) in &cases {
            self.refuses(arguments, words);
        }
        for (ahead, version, words) in [
            (-120, "v1.36.3", ["s ahead of the cluster's", "NTP"]),
            (120, "v1.36.3", ["s behind the cluster's", "NTP"]),
            (0, "v1.30.0", ["newer than the cluster's Kubernetes v1.30.0", "take the kayak"]),
            (0, "v1.99.0", ["older than the cluster's Kubernetes v1.99.0", "take the kayak"]),
        ] {
            let _impostor = self.impostor(ahead, version);
            self.refuses(&at(IMPOSTOR), &words);
        }
        assert_eq!((self.second.ip("route"), self.recorded()), before);
    }

    /// Joins, which must be refused for a reason and leave nothing.
    fn refuses(&self, arguments: &[&str], words: &[&str]) {
        let output = self.guest.command(arguments).output().unwrap();
        let said = show(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?} does not say `{word}`: {said}");
        }
        let left = Cluster::guest_state().join("e2e-guest");
        assert!(!left.exists() && !PathBuf::from("/run/kayak/e2e-guest").exists(), "{arguments:?}");
    }

    /// An API server with this clock and version: it has the certificate of the real one.
    fn impostor(&self, ahead: i64, version: &str) -> Running {
        let directory = scratch().join("impostor");
        std::fs::create_dir_all(&directory).unwrap();
        let body = format!(
            r#"{{"major":"1","minor":"36","gitVersion":"{version}","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}}"#
        );
        let date = succeed(Command::new("date").env("LC_ALL", "C").args([
            "-u",
            &format!("--date={ahead} seconds"),
            "+%a, %d %b %Y %H:%M:%S GMT",
        ]));
        let answer = format!(
            "HTTP/1.1 200 OK\r\nDate: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            date.trim(),
            body.len()
        );
        std::fs::write(directory.join("version"), answer).unwrap();
        let tls = |file: &str| self.cluster.assets().join("tls").join(file);
        let mut server = self.first.command("openssl");
        server.args(["s_server", "-quiet", "-HTTP", "-accept", IMPOSTOR]).current_dir(directory);
        for (flag, file) in
            [("-cert", "kube-apiserver.crt"), ("-key", "kube-apiserver.key"), ("-cert_chain", "ca.crt")]
        {
            server.arg(flag).arg(tls(file));
        }
        let running = Running(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        eventually("the impostor", || {
            let address: std::net::SocketAddrV4 = IMPOSTOR.parse().unwrap();
            if self.second.run(|| crate::scan::connects(address)) { Ok(()) } else { Err("closed".into()) }
        });
        running
    }

    /// Whoever has a token may ask for a node's certificate, and for nothing else.
    fn what_a_token_may(&self, token: &Value) {
        let may = |question: &str| {
            let output =
                self.with_token(token).args(["auth", "can-i"]).args(question.split(' ')).output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim() == "yes"
        };
        assert!(may("create certificatesigningrequests"));
        assert!(may("get configmap/kayak-join -n kube-system"));
        for question in [
            "get nodes",
            "get secrets -n kube-system",
            "list leases -n kube-node-lease",
            "get configmap/kayak-joined -n kube-system",
            "get configmap/kayak-config -n kube-system",
            "update certificatesigningrequests --subresource=approval",
            "create pods",
        ] {
            assert!(!may(question), "{question}");
        }
        for (subject, because) in [
            ("/O=system:masters/CN=system:node:evil", "is not that of the node"),
            ("/O=system:nodes/CN=system:node:controller-0", "is the name of a node of the configuration"),
        ] {
            let said = self.asks_for(token, subject);
            assert!(said.contains(because), "{subject}: {said}");
        }
        self.cluster.kubectl(&["delete", "csr", "--all"]);
    }

    /// kubectl with nothing but a token.
    fn with_token(&self, token: &Value) -> Command {
        let mut kubectl = self.second.command(self.cluster.kubectl_program().to_str().unwrap());
        kubectl.env("KUBECONFIG", "/dev/null").args([
            &format!("--server=https://{FIRST}:6443"),
            &format!("--certificate-authority={}", self.cluster.assets().join("tls/ca.crt").display()),
            &format!("--token={}", token["token"].as_str().unwrap()),
        ]);
        kubectl
    }

    /// Asks with a token for a certificate of any name, and returns why it is denied.
    fn asks_for(&self, token: &Value, subject: &str) -> String {
        let (key, request) = (scratch().join("asks.key"), scratch().join("asks.csr"));
        succeed(
            Command::new("openssl")
                .args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
                .args([
                    "-subj",
                    subject,
                    "-keyout",
                    key.to_str().unwrap(),
                    "-out",
                    request.to_str().unwrap(),
                ]),
        );
        let request = succeed(Command::new("base64").args(["--wrap=0", request.to_str().unwrap()]));
        let manifest = scratch().join("asks.yaml");
        let text = format!(
            "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\n\
             metadata: {{ generateName: asks-, annotations: {{ kayak/address: 10.253.62.99 }} }}\n\
             spec: {{ request: {request}, signerName: kubernetes.io/kube-apiserver-client-kubelet, \
             usages: [digital signature, client auth] }}\n"
        );
        std::fs::write(&manifest, text).unwrap();
        let asked =
            succeed(self.with_token(token).args(["create", "-o", "name", "-f", manifest.to_str().unwrap()]));
        let denied = "jsonpath={.status.conditions[?(@.type=='Denied')].message}";
        self.cluster.wait_for(&["get", asked.trim(), "-o", denied], |message| !message.is_empty())
    }

    fn a_name_that_lives_is_not_given_again(&self, token: &Value) {
        self.is_ready("attic", "True");
        let again = self.guest.command(&Self::join(token, &[])).output().unwrap();
        assert!(show(&again).contains("has a cluster `e2e-guest` already"), "{}", show(&again));
        // Before its kubelet is heard, the agents would refuse the name, since it joined a moment ago.
        self.cluster
            .wait_for(&["-n", "kube-node-lease", "get", "lease", "attic", "-o", "name"], |it| !it.is_empty());
        let third = Cluster::new("e2e-third", 54, "").on(&self.second).kept_in(Cluster::guest_state());
        let output: Output = third.command(&Self::join(token, &[])).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", show(&output));
        assert!(show(&output).contains("a node called `attic` is alive"), "{}", show(&output));
        let up = self.guest.command(&["up"]).output().unwrap();
        assert!(show(&up).contains("another machine's") && up.status.code() == Some(2), "{}", show(&up));
        let labels = self.cluster.kubectl(&[
            "get",
            "node",
            "attic",
            "-o",
            "jsonpath={.metadata.labels.disk} {.spec.taints}",
        ]);
        assert!(labels.starts_with("big ") && labels.contains("night"), "{labels}");
    }

    fn is_ready(&self, node: &str, wanted: &str) {
        let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        self.cluster.wait_for(&["get", "node", node, "-o", ready], |ready| ready == wanted);
    }

    fn packets_reach_both_machines(&self) {
        let archive = image::docker_archive("e2e.local/web:docker");
        for machine in [&self.cluster, &self.guest] {
            machine.kayak(&["image", "load", archive.to_str().unwrap()]);
        }
        self.cluster.wait_for(&["get", "serviceaccount", "default", "-o", "name"], |name| !name.is_empty());
        self.cluster.apply(WEB);
        self.cluster.kubectl(&["wait", "--for=condition=ready", "pod/here", "pod/there", "--timeout=90s"]);
        let ip = |pod| self.cluster.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"]);
        for (from, to) in [("here", "there"), ("there", "here")] {
            // By address, by name and through the service, which either may answer; exec takes the kubelet's
            // serving certificate.
            for url in [
                format!("http://{}:8080/", ip(to)),
                "http://web/".into(),
                "http://web.default.svc.cluster.local/".into(),
            ] {
                self.cluster.wait_for(&["exec", from, "--", "wget", "-q", "-O", "-", &url], |page| {
                    page.contains("hello")
                });
            }
        }
        for node in [FIRST, SECOND] {
            let page = eventually("a node's port", || self.first.run(|| get(&format!("{node}:30080"))));
            assert!(page.contains("hello"), "{page}");
        }
        self.cluster.kubectl(&["delete", "pod", "here", "there", "--now"]);
    }

    fn the_first_machine_leaves_it_alone(&self) {
        let plan: Value = serde_json::from_str(&self.cluster.kayak(&["plan", "--output", "json"])).unwrap();
        assert_eq!(plan["plan"]["phases"], Value::Array(Vec::new()), "{plan}");
        assert!(!plan.to_string().contains("attic"), "{plan}");
        let processes = self.guest.processes("attic");
        self.cluster.up(&[]);
        assert!(self.guest.processes("attic").starts_with(&processes[..1]));
        let status = self.cluster.kayak(&["status"]);
        assert!(status.contains("attic"), "{status}");
        let again = self.guest.command(&["resume"]).output().unwrap();
        let said = show(&again);
        assert!(
            again.status.success() && !said.contains('✓'),
            "a second time there is nothing to do: {said}"
        );
        self.guest.kayak(&["status"]);
    }

    fn the_first_machine_goes_on_without_it(&self) {
        let start = std::time::Instant::now();
        self.cluster.up(&[]);
        assert!(start.elapsed() < Duration::from_mins(1), "it is not waited for");
    }
}
