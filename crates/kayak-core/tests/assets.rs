//! What is rendered, byte by byte.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use common::{assets, cluster, keys};
use kayak_core::assets::{Assets, CLUSTER_FILE, Content, RENDERED, is_secret};
use kayak_core::cluster::{Cluster, Node, Role};
use kayak_core::component::{self, Component};
use kayak_core::form;
use kayak_core::object::Object;
use kayak_core::pki::certificates;
use serde_json::Value;

fn text(content: &Content) -> String {
    match content {
        Content::File(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        Content::Link(target) => format!("link to {target}\n"),
    }
}

/// A file without the digests of its objects: they follow from the rest, and would change with every word.
fn reviewed(content: &Content) -> String {
    let text = text(content);
    let lines = text.lines().filter(|line| !line.contains("kayak/applied: "));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn the_asset_directory_holds_these_files() {
    let mut list = String::new();
    for path in assets("").files.keys() {
        writeln!(list, "{} {path}", if is_secret(path) { "0600" } else { "0644" }).unwrap();
    }
    insta::assert_snapshot!("files", list);
}

#[test]
fn every_public_file_is_as_reviewed() {
    for (path, content) in &assets("").files {
        let shown = ["manifests/", "bootstrap-manifests/", "nodes/"].iter().any(|dir| path.starts_with(dir));
        if shown && !is_secret(path) {
            insta::assert_snapshot!(path.replace('/', "__"), reviewed(content));
        }
    }
}

#[test]
fn on_the_machines_own_network_its_settings_and_other_addresses_are_left_alone() {
    let rendered = assets("network: { mode: host, interface: tun0 }");
    for (path, content) in &rendered.files {
        let everywhere = ["0.0.0.0", "[::]"].iter().find(|address| text(content).contains(*address));
        assert_eq!(everywhere, None, "{path}");
    }
    let node: Value =
        serde_json::from_str(&text(&rendered.files["nodes/controller-0/etc/kubernetes/kayak/node.json"]))
            .unwrap();
    assert_eq!(node["address"], "10.8.0.1");
    assert_eq!(node["sysctls"], serde_json::json!({}));
}

#[test]
fn pods_packets_need_a_port_only_where_there_are_more_nodes() {
    let mut cluster = cluster("network: { mode: host, interface: tun0 }");
    let backend = |cluster: &Cluster| {
        let flannel = component::flannel::component(cluster, &keys(cluster)).unwrap();
        serde_json::from_str::<Value>(&flannel.config["net-conf.json"]).unwrap()["Backend"]["Type"].clone()
    };
    assert_eq!(backend(&cluster), "alloc");
    assert!(cluster.host_network().unwrap().wildcard_ports.is_empty());
    cluster.nodes.push(Node {
        name: "worker-0".into(),
        role: Role::Worker,
        address: [10, 8, 0, 2].into(),
        second_address: None,
    });
    assert_eq!(backend(&cluster), "vxlan");
    assert_eq!(cluster.host_network().unwrap().wildcard_ports, [8472]);
}

#[test]
fn rendering_twice_gives_the_same_bytes() {
    assert!(assets("") == assets(""));
}

#[test]
fn what_was_written_is_read_back() {
    let rendered = assets("");
    let read = Assets::from_files(rendered.files.clone()).unwrap();
    assert!(read == rendered);
}

/// A changed static pod is started anew.
#[test]
fn etcds_pod_stays_the_same_when_the_cluster_grows() {
    let (one, three) = (assets(""), assets("controllers: 3\nworkers: 1\n"));
    let pod = "nodes/controller-0/etc/kubernetes/manifests/etcd.yaml";
    assert_eq!(text(&one.files[pod]), text(&three.files[pod]));
    let members =
        |assets: &Assets| text(&assets.files["nodes/controller-0/etc/kubernetes/etcd/members.json"]);
    assert_ne!(members(&one), members(&three));
    let on_worker = |path: &&String| path.starts_with("nodes/worker-0/") && path.contains("etcd");
    assert_eq!(three.files.keys().find(on_worker), None);
}

#[test]
fn private_keys_lie_in_private_files_only() {
    let rendered = assets("");
    for (path, content) in &rendered.files {
        if text(content).contains("PRIVATE KEY") || text(content).contains("ENCRYPTION KEY") {
            assert!(is_secret(path), "{path} holds a key and is not private");
        }
    }
}

#[test]
fn a_directory_without_facts_is_no_cluster() {
    assert!(Assets::from_files(std::collections::BTreeMap::new()).is_err());
}

/// Something of each kind that an owner may change.
const WISHES: &str = r#"
components:
  kube-apiserver:
    extraArgs: { audit-log-maxsize: 33, runtime-config: [a/v1=true, b/v1=false], profiling: true, event-ttl: 2h }
    env: { GOGC: 70 }
    resources: { requests: { cpu: 1 }, limits: { memory: 200Mi } }
  kube-scheduler: { extraArgs: { v: 4 }, resources: { limits: { cpu: 1 } } }
  etcd: { extraArgs: { quota-backend-bytes: 4294967296 }, env: { GOGC: 80 }, resources: { limits: { memory: 1Gi } } }
  kube-proxy: { extraArgs: { v: 2 }, config: { nftables: { masqueradeAll: true }, nodePortAddresses: null } }
  flannel: { env: { EVENT_QUEUE_DEPTH: 100 } }
  coredns: { extraArgs: { quiet: true }, corefile: ".:53 { whoami }" }
kubelet:
  config: { maxPods: 50, evictionHard: { nodefs.available: 5%, imagefs.available: null } }
  extraArgs: { v: 4 }
  env: { GOGC: 90 }
nodes:
  - name: controller-0
    labels: { example.com/disk: ssd }
    taints: [{ key: example.com/quiet, effect: PreferNoSchedule }]
"#;

#[test]
fn every_wish_of_the_owner_is_rendered_and_nothing_else_changes() {
    let (plain, wished) = (assets(""), assets(WISHES));
    assert!(plain.files.keys().eq(wished.files.keys()));
    let mut changes = String::new();
    let told = |path: &&String| ![CLUSTER_FILE, RENDERED].contains(&path.as_str());
    for path in wished.files.keys().filter(told) {
        let (before, after) = (reviewed(&plain.files[path]), reviewed(&wished.files[path]));
        let lacks = |text: &str, line: &str| !text.lines().any(|other| other == line);
        let gone = before.lines().filter(|line| lacks(&after, line)).map(|line| format!("-{line}"));
        let new = after.lines().filter(|line| lacks(&before, line)).map(|line| format!("+{line}"));
        let lines: Vec<_> = gone.chain(new).filter(|line| !line.contains("kayak/inputs")).collect();
        if !lines.is_empty() {
            writeln!(changes, "{path}\n{}", lines.join("\n")).unwrap();
        }
    }
    insta::assert_snapshot!("wishes", changes);
}

/// The only differences that there may be between the temporary and the self-hosted control plane.
#[test]
fn temporary_and_self_hosted_pods_differ_in_nothing_else() {
    for yaml in ["", WISHES] {
        let cluster = cluster(yaml);
        let temporary = component::temporary(&cluster, &keys(&cluster)).unwrap();
        let own = component::control_plane(&cluster, &keys(&cluster)).unwrap();
        temporary.iter().zip(&own).for_each(|(temporary, own)| differs_as_allowed(temporary, own));
    }
}

fn differs_as_allowed(temporary: &Component, component: &Component) {
    let temporary_command = temporary.command.clone();
    let temporary = form::temporary_pod(temporary)["spec"].clone();
    let workload = form::workload(component).unwrap();
    let own = workload.value().pointer("/spec/template/spec").unwrap().clone();
    let mut differing = BTreeSet::new();
    differences("", &temporary, &own, &mut differing);
    let allowed = [
        "/containers/0/args",
        "/containers/0/livenessProbe",
        "/automountServiceAccountToken",
        "/containers/0/resources",
        "/containers/0/startupProbe",
        "/nodeSelector",
        "/terminationGracePeriodSeconds",
        "/topologySpreadConstraints",
        "/volumes/1/hostPath",
        "/volumes/1/secret",
    ];
    for path in differing {
        assert!(allowed.contains(&path.as_str()), "{} differs in {path}", component.name);
    }
    let (mut shorter, whole) = (temporary_command, component.command.clone());
    shorter.retain(|argument| !component::temporary_flags(component.name).contains(&argument.as_str()));
    assert_eq!(shorter, whole, "{} is started otherwise", component.name);
}

/// A profile's values are kayak's own: what the owner says of a component replaces them, each once.
#[test]
fn the_owners_word_stands_above_the_profiles() {
    let yaml = "profile: home\ncomponents:\n  kube-apiserver:\n    env: { GOGC: 80 }\n    extraArgs: { max-requests-inflight: 7 }\nkubelet:\n  env: { GOGC: 90 }\n";
    let rendered = assets(yaml);
    let file = |path: &str| text(&rendered.files[path]);
    let api: Value = serde_saphyr::from_str(&file("manifests/20-kube-apiserver.yaml")).unwrap();
    let container = api.pointer("/spec/template/spec/containers/0").unwrap();
    let garbage: Vec<_> =
        container["env"].as_array().unwrap().iter().filter(|env| env["name"] == "GOGC").collect();
    assert_eq!(garbage, [&serde_json::json!({ "name": "GOGC", "value": "80" })]);
    let arguments = container["args"].to_string();
    assert!(arguments.contains("--max-requests-inflight=7\""), "{arguments}");
    assert!(arguments.contains("--max-mutating-requests-inflight=50\""), "{arguments}");
    let node: Value =
        serde_json::from_str(&file("nodes/controller-0/etc/kubernetes/kayak/node.json")).unwrap();
    let units: Vec<_> =
        node["units"].as_array().unwrap().iter().map(|unit| (&unit["name"], &unit["env"]["GOGC"])).collect();
    let words = ["containerd", "25", "kubelet", "90"].map(Value::from);
    assert_eq!(units, [(&words[0], &words[1]), (&words[2], &words[3])]);
}

fn differences(path: &str, a: &Value, b: &Value, found: &mut BTreeSet<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let null = &Value::Null;
                differences(
                    &format!("{path}/{key}"),
                    a.get(key).unwrap_or(null),
                    b.get(key).unwrap_or(null),
                    found,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}/{index}"), a, b, found);
            }
        }
        _ if a == b => {}
        _ => {
            found.insert(path.to_owned());
        }
    }
}

#[test]
fn the_temporary_control_plane_refers_to_no_object_and_requests_nothing() {
    for (path, content) in assets("").files.iter().chain(&assets(WISHES).files) {
        if path.starts_with("bootstrap-manifests/") {
            let pod = Object::parse_all(&text(content)).unwrap().remove(0);
            let pod = pod.value().to_string();
            for word in ["secretName", "configMap", "serviceAccountName", "requests", "limits"] {
                assert!(!pod.contains(word), "{path} has {word}");
            }
        }
    }
}

#[test]
fn the_certificate_table_is_as_reviewed() {
    let mut table = String::new();
    for c in certificates(&cluster("api:\n  extraNames: [k.example]\n  extraAddresses: [192.0.2.7]\n")) {
        let (groups, names) = (c.organizations.join(","), c.names.join(","));
        let addresses: Vec<_> = c.addresses.iter().map(ToString::to_string).collect();
        let (id, ca, user, usage) = (c.id, c.authority, c.common_name, c.usage);
        writeln!(
            table,
            "{id}: {ca:?} {usage:?} CN={user} O={groups} {names} {} {}d",
            addresses.join(","),
            c.days
        )
        .unwrap();
    }
    insta::assert_snapshot!("certificates", table);
}

#[test]
fn names_outside_are_forwarded_only_where_there_is_a_way_out() {
    let corefile = |yaml| text(&assets(yaml).files["manifests/11-config.yaml"]);
    assert!(corefile("").contains("forward . 192.0.2.53 {"), "the loopback server is left out");
    assert!(!corefile("network:\n  egress: false\n").contains("forward"));
}

#[test]
fn the_virtual_address_is_every_controllers_to_serve_and_clients_to_use() {
    let vip = "10.254.0.250";
    let assets = assets(&format!("controllers: 3\nworkers: 1\napi: {{ vip: {vip} }}\n"));
    assert!(assets.cluster.api_url().contains(vip));
    for node in &assets.cluster.nodes {
        let path = format!("nodes/{}{}", node.name, kayak_core::node::CONFIG_PATH);
        let config: Value = serde_json::from_str(&text(&assets.files[&path])).unwrap();
        let served = config["fronts"][0]["own"].to_string().contains(&format!("{vip}:6443"));
        assert_eq!(served, node.role == Role::Controller, "{config}");
        assert_eq!(config["controller"]["vip"] == vip, served, "{config}");
    }
    let api = certificates(&assets.cluster).into_iter().find(|c| c.id == "kube-apiserver").unwrap();
    assert!(api.addresses.iter().any(|address| address.to_string() == vip));
}
