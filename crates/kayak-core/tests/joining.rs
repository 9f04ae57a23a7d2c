//! What a machine that joins has, and does.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{assets, cluster};
use kayak_core::assets::{Assets, Content};
use kayak_core::cluster::Cluster;
use kayak_core::config::{Taint, TaintEffect};
use kayak_core::join::{Guest, Invitation};
use kayak_core::pki::{KeyStore, Pair, Secret};
use kayak_core::plan::{
    ApiSeen, AssetsSeen, Check, ContainerState, Fact, Named, NodeSeen, Observed, Step, Wish, lint, plan,
};

fn joined() -> Cluster {
    let first = cluster("join: true\nnetwork: { mode: host, interface: tun0 }");
    let guest = Guest {
        cluster: "there".into(),
        node: "attic".into(),
        interface: "tun0".into(),
        labels: vec!["disk=big".into()],
        taints: vec![Taint { key: "quiet".into(), value: String::new(), effect: TaintEffect::NoSchedule }],
    };
    let invitation = Invitation::of(&first);
    let config = invitation.configure(&guest).validated().unwrap();
    invitation.join(cluster(&serde_json::to_string(&config).unwrap()), &guest)
}

fn joined_assets() -> Assets {
    let pair = |id: &str, key: &str| Pair {
        certificate: format!("CERTIFICATE {id}\n"),
        key: Secret::new(key.into()),
    };
    let pairs = [("ca", pair("ca", "")), ("attic-kubelet", pair("attic", "PRIVATE KEY\n"))];
    let pairs = pairs.map(|(id, pair)| (id.to_owned(), pair)).into();
    Assets::render(&joined(), &KeyStore { pairs, ..KeyStore::default() }).unwrap()
}

#[test]
fn tokens_are_taken_where_the_configuration_says_so_alone() {
    let (open, closed) = (assets("join: true\nnetwork: { mode: host, interface: tun0 }"), assets(""));
    let holds = |assets: &Assets, word: &str| {
        let words = word.as_bytes();
        let in_file = |it: &Content| matches!(it, Content::File(text) if text.windows(words.len()).any(|it| it == words));
        assets.files.values().any(in_file)
    };
    for word in
        ["--enable-bootstrap-token-auth=true", "token-cleaner-controller", "system:bootstrappers:kayak"]
    {
        assert!(holds(&open, word) && !holds(&closed, word), "{word}");
    }
}

#[test]
fn a_machine_that_joins_has_one_key_and_no_object() {
    let assets = joined_assets();
    assert!(assets.objects().unwrap().is_empty());
    let holds_key = |content: &Content| matches!(content, Content::File(text) if text.windows(11).any(|it| it == b"PRIVATE KEY"));
    let keys: BTreeSet<_> =
        assets.files.iter().filter(|(_, it)| holds_key(it)).map(|(path, _)| path.as_str()).collect();
    let first = "nodes/attic/var/lib/kubelet/pki/kubelet-client-first.pem";
    assert_eq!(keys, BTreeSet::from([first, "tls/attic-kubelet.key"]));
    assert!(
        !assets.files.contains_key("tls/ca.key") && !assets.files.keys().any(|path| path.contains("etcd"))
    );
    let text = |path: &str| match &assets.files[path] {
        Content::File(text) => String::from_utf8(text.clone()).unwrap(),
        Content::Link(target) => target.clone(),
    };
    let node = text("nodes/attic/etc/kubernetes/kayak/node.json");
    assert!(
        node.contains("--node-labels=disk=big") && node.contains("\"controller-0\": \"10.8.0.1:6443\""),
        "{node}"
    );
    assert!(text("nodes/attic/etc/kubernetes/kubelet/config.yaml").contains("key: quiet"));
}

#[test]
fn a_machine_that_joined_plans_for_its_node_alone() {
    let cluster = joined();
    let named = Named::default();
    let wish = Wish { cluster: &cluster, objects: &[], named: &named };
    let node = |container| NodeSeen {
        container,
        outdated: Vec::new(),
        stale_files: if container == ContainerState::Absent { vec!["/etc/x".into()] } else { Vec::new() },
        temporary: false,
        checkpoints: false,
        member: false,
    };
    let seen = |container, holding: &[Check]| Observed {
        assets: AssetsSeen::default(),
        guarded: container == ContainerState::Running,
        nodes: BTreeMap::from([("attic".to_owned(), node(container))]),
        surplus_nodes: BTreeMap::new(),
        surplus_down: BTreeSet::new(),
        api: match container {
            ContainerState::Running => Fact::Known(ApiSeen { objects: BTreeMap::new(), surplus: Vec::new() }),
            ContainerState::Absent | ContainerState::Stopped => Fact::Unknown("no node runs".into()),
        },
        holding: holding.iter().cloned().collect(),
    };
    let new = seen(ContainerState::Absent, &[]);
    let first = plan(&wish, &new);
    assert_eq!(lint(&first, &new), []);
    let steps: Vec<_> = first.phases.iter().flat_map(|phase| phase.steps.clone()).collect();
    let own = "attic".to_owned();
    assert_eq!(
        steps,
        [
            Step::PrepareNetwork,
            Step::CreateNode(own.clone()),
            Step::WriteFiles { node: own.clone(), paths: vec!["/etc/x".into()] },
            Step::StartNode(own.clone()),
        ]
    );
    let well = [Check::ApiServes, Check::UnitsReady(own.clone()), Check::NodeReady(own)];
    let again = seen(ContainerState::Running, &well);
    assert!(plan(&wish, &again).is_empty(), "{}", plan(&wish, &again));
}
