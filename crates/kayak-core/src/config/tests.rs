use super::*;

fn refused(text: &str) -> ConfigError {
    Config::parse(text).unwrap_err()
}

/// What is found, each as `line:column message (hint)`.
fn findings(text: &str) -> Vec<String> {
    let line = |finding: &Finding| {
        let at = finding.place.as_ref().map_or("nowhere".into(), |p| format!("{}:{}", p.line, p.column));
        format!("{at} {} ({})", finding.message, finding.hint.as_deref().unwrap_or_default())
    };
    refused(text).findings.iter().map(line).collect()
}

#[test]
fn an_empty_file_is_the_default_cluster() {
    assert_eq!(Config::parse("# nothing\n").unwrap(), Config::default());
    assert_eq!(Config::parse("network:\npki: {}\n").unwrap(), Config::default());
}

#[test]
fn an_unknown_setting_is_pointed_at_and_the_nearest_named() {
    let error = refused("name: lab\nnetwork:\n  egres: false\n").in_file("cluster.yaml");
    let [finding] = error.findings.as_slice() else { panic!("{error}") };
    assert_eq!(finding.path, "network.egres");
    let place = finding.place.as_ref().unwrap();
    assert_eq!((place.line, place.column, place.length), (3, 3, 5));
    assert_eq!(place.text, "  egres: false");
    assert_eq!(finding.hint.as_deref(), Some("did you mean `egress`?"));
    assert_eq!(error.location(finding), "cluster.yaml:3:3");
}

#[test]
fn every_finding_is_listed_at_once_in_the_order_of_the_file() {
    insta::assert_snapshot!(findings(include_str!("tests/bad.yaml")).join("\n"));
}

#[test]
fn the_machines_own_network_needs_an_interface_and_no_range_of_nodes() {
    let finding = |text: &str| findings(text).join("; ");
    assert!(finding("network: { mode: host }").contains("`network.mode: host` needs `network.interface`"));
    assert!(finding("network: { interface: tun0 }").contains("only for `network.mode: host`"));
    for name in ["lo", "tun/0", "'tun\"0'", "sixteen-letters-"] {
        let found = finding(&format!("network: {{ mode: host, interface: {name} }}"));
        assert!(found.contains("names no interface"), "{name}: {found}");
    }
    // Nor does the default range stand in the way of pods in it.
    Config::parse("network: { mode: host, interface: tun0, pods: 10.254.0.0/16 }").unwrap();
}

#[test]
fn ranges_are_of_one_family_or_of_both() {
    let config = |nodes: &str, pods: &str, services: &str| {
        format!("network:\n  nodes: {nodes}\n  pods: {pods}\n  services: {services}\n")
    };
    let six = config("fd00:254::/64", "fd00:244::/56", "fd00:96::/112");
    assert_eq!(Config::parse(&six).unwrap().network.pods.joined(), "fd00:244::/56");
    let both = config(
        "[10.254.0.0/24, fd00:254::/64]",
        "[10.244.0.0/16, 'fd00:244::/56']",
        "[10.96.0.0/16, fd00:96::/112]",
    );
    let parsed = Config::parse(&both).unwrap();
    assert_eq!(parsed.network.services.joined(), "10.96.0.0/16,fd00:96::/112");
    assert_eq!(schema_errors(&both), Vec::<String>::new());
    // As it is kept with the assets.
    let kept = serde_json::to_string(&parsed).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&kept).unwrap(), parsed);
    assert!(serde_json::to_string(&Config::default()).unwrap().contains(r#""nodes":"10.254.0.0/24""#));
}

#[test]
fn families_that_do_not_go_together_are_pointed_at() {
    insta::assert_snapshot!(findings(include_str!("tests/families.yaml")).join("\n"));
    let finding = |text: &str| findings(text).join("; ");
    assert!(finding("network: { pods: [10.0.0.0/16, 10.1.0.0/16] }").contains("are both IPv4"));
    let order = finding("network: { nodes: [fd01::/64, 10.254.0.0/24], pods: [10.0.0.0/16, fd02::/56] }");
    assert!(
        order.contains("1:47 `network.pods: [10.0.0.0/16, fd02::/56]` is IPv4 and IPv6, and `network.nodes"),
        "{order}"
    );
    assert!(finding("network: { pods: [] }").contains("invalid length 0, expected a range of addresses"));
    assert!(finding("network: { pods: [fd01::/56, 10.0.0.0/16, fd02::/56] }").contains("invalid length 3"));
    assert!(finding("network: { pods: [10.0.0.0/16, fd01::] }").contains("`network.pods[1]` cannot be read"));
    let host = "network: { mode: host, interface: tun0, pods: fd01::/56, services: fd02::/112 }";
    assert!(finding(host).contains("there is IPv4 only so far"));
}

#[test]
fn registries_that_cannot_be_are_pointed_at() {
    insta::assert_snapshot!(findings(include_str!("tests/registries.yaml")).join("\n"));
}

#[test]
fn a_virtual_address_is_nobody_elses() {
    let finding = |vip: &str, rest: &str| findings(&format!("api: {{ vip: {vip} }}\n{rest}")).join("; ");
    for (vip, found) in [
        ("10.1.0.1", "`api.vip: 10.1.0.1` is not on the nodes' network, `network.nodes: 10.254.0.0/24`"),
        ("10.254.0.0", "is no node's, but the range's own"),
        ("10.254.0.255", "is no node's, but the range's own"),
        ("10.254.0.1", "is the machine's"),
        ("10.254.0.4", "is `controller-2`'s"),
        ("10.254.0.9", "is `worker-0`'s"),
    ] {
        let told = finding(vip, "controllers: 3\nworkers: 1\n");
        assert!(told.starts_with("1:13 ") && told.contains(found), "{told}");
    }
    Config::parse("{ api: { vip: 10.254.0.5 }, controllers: 3 }").unwrap();
    let host = "network: { mode: host, interface: tun0 }\n";
    assert!(finding("10.244.0.9", host).contains("is one of `network.pods: 10.244.0.0/16`"));
    assert!(finding("127.0.0.9", host).contains("is no address of a machine"));
    Config::parse(&format!("api: {{ vip: 10.8.0.9 }}\n{host}")).unwrap();
}

#[test]
fn a_file_that_is_no_yaml_is_refused_with_its_place() {
    let found = findings("name: [home\nnetwork: {}\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with('1') || found[0].starts_with('2'), "{found:?}");
    let found = findings("name: a\nname: b\n");
    assert!(found[0].starts_with("2:1") && found[0].contains("name"), "{found:?}");
}

#[test]
fn a_file_of_something_else_is_refused() {
    for text in ["- a\n- b\n", "kayak\n", "5\n"] {
        assert_eq!(findings(text).len(), 1, "{text}");
    }
}

#[test]
fn what_was_not_read_is_no_reason_for_more_findings() {
    assert_eq!(findings("nodes: [{ name: [] }]\n").len(), 1);
    assert_eq!(findings("nodes: [{ labels: { a: b } }]\n").len(), 1, "a name is lacking");
}

#[test]
fn settings_that_cannot_be_together_are_shown_where_they_are_written() {
    // The other range is a default, and not in the file.
    let found = findings("network:\n  services: 10.244.0.0/16\n");
    assert!(found[0].starts_with("2:13 "), "{found:?}");
}

#[test]
fn a_configuration_without_a_file_is_judged_too() {
    let error = Config { name: "Home".into(), ..Config::default() }.validated().unwrap_err();
    assert_eq!((error.findings[0].path.as_str(), &error.findings[0].place), ("name", &None));
}

#[test]
fn a_place_behind_an_anchor_is_where_it_is_used() {
    let found = findings("api:\n  extraNames: [&name Home]\nname: *name\n");
    assert!(found[0].starts_with("3:7 "), "{found:?}");
}

#[test]
fn what_is_written_is_read_back() {
    let text = include_str!("tests/good.yaml");
    let config = Config::parse(text).unwrap();
    let written = serde_saphyr::to_string(&config).unwrap();
    assert_eq!(Config::parse(&written).unwrap(), config);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
}

#[test]
fn the_annotated_default_is_the_default() {
    assert_eq!(Config::parse(&annotated()).unwrap(), Config::default());
    insta::assert_snapshot!(annotated());
}

/// A line that is taken out by `#` is a setting; a comment has a single space behind it.
#[test]
fn what_the_annotated_default_shows_can_be_put_in() {
    let put_in = |line: &str| {
        let rest = line.trim_start().strip_prefix('#')?;
        let is_comment = rest.starts_with(' ') && !rest.starts_with("  ");
        (!is_comment).then(|| line.replacen('#', "", 1))
    };
    let text: String =
        annotated().lines().map(|line| put_in(line).unwrap_or(line.to_owned()) + "\n").collect();
    let config = Config::parse(&text).unwrap();
    assert_eq!(config.nodes[0].name, "controller-0");
    assert_eq!(config.nodes[0].mounts[0].host, "/srv/media");
    assert!(config.pki.etcd_ca.is_some() || config.pki.kubernetes_ca.is_some());
    assert!(!config.components.kube_proxy.config.is_empty() && !config.kubelet.config.is_empty());
}

#[test]
fn every_example_of_the_reference_can_be_used() {
    let text = reference();
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let examples: Vec<_> = blocks.filter(|block| !block.starts_with("volumeMounts:")).collect();
    assert!(examples.len() > 5);
    for example in examples {
        let parsed = Config::parse(example);
        assert!(parsed.as_ref().is_ok_and(|config| *config != Config::default()), "{example}\n{parsed:?}");
    }
}

/// What a validator that knows nothing of kayak finds.
fn schema_errors(yaml: &str) -> Vec<String> {
    let validator = jsonschema::options().should_validate_formats(true).build(&schema()).unwrap();
    let document: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
    validator.iter_errors(&document).map(|error| format!("{} {error}", error.instance_path())).collect()
}

#[test]
fn the_schema_takes_what_kayak_takes() {
    assert!(jsonschema::draft202012::meta::is_valid(&schema()));
    for text in [include_str!("tests/good.yaml"), &annotated()] {
        assert_eq!(schema_errors(text), Vec::<String>::new());
    }
}

/// All but what only a look at the whole can tell: overlaps, names that do not exist.
#[test]
fn the_schema_refuses_what_cannot_be_read() {
    for text in [
        "netwrok: {}",
        "name: 5",
        "name: Home",
        "network: { egress: maybe }",
        "network: { pods: 10.0.0.0 }",
        "network: { nameservers: [dns.example] }",
        "api: { extraNames: [5] }",
        "pki: { kubernetesCa: { certificate: ca.crt } }",
        "components: { kube-apiserver: { extraArgs: { event-ttl: { hours: 2 } } } }",
        "components: { kube-apiserver: { resources: { requests: { cpu: lots } } } }",
        "components: { kube-apiserver: { resources: { limits: { memory: 1GB } } } }",
        "components: { kubelet: {} }",
        "nodes: [{}]",
        "nodes: [{ name: controller-0, labels: { c: true } }]",
        "nodes: [{ name: controller-0, taints: [{ key: a, effect: NoShedule }] }]",
        "nodes: [{ name: controller-0, mounts: [{ host: media }] }]",
        "nodes: [{ name: controller-0, memory: -1 }]",
    ] {
        assert!(!schema_errors(text).is_empty(), "{text}");
        assert!(Config::parse(text).is_err(), "{text}");
    }
}
