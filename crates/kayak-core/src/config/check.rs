//! What makes a configuration impossible although every setting can be read.

use std::collections::BTreeSet;

use super::label::label;
use super::path::Path;
use super::{
    Amounts, Config, Environment, ExtraArgs, Network, NetworkMode, NodeSettings, Quantity, Resources,
    cluster_name, ranges, registries, vip,
};
use crate::cluster::{MAX_CONTROLLERS, Role, most_workers};
use crate::component::owned::{self, Owned};
use crate::component::proxy;
use crate::form::CONTROLLER_LABEL;
use crate::host::KUBELET;

/// Something that cannot be.
#[derive(Debug)]
pub(super) struct Problem {
    /// The settings it lies in; the first that the file has is shown.
    pub(super) paths: Vec<Path>,
    /// Whether it is the setting's name that is wrong, and not its value.
    pub(super) is_name: bool,
    /// What is wrong.
    pub(super) message: String,
    /// What to write instead.
    pub(super) hint: String,
}

impl Problem {
    pub(super) fn new(path: Path, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { paths: vec![path], is_name: false, message: message.into(), hint: hint.into() }
    }

    /// A setting that must not be there.
    pub(super) fn of_name(path: Path, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { is_name: true, ..Self::new(path, message, hint) }
    }
}

/// Lists everything that makes a configuration impossible.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Err(message) = cluster_name(&config.name) {
        problems.push(Problem::new(Path::to("name"), message, "such as `home` or `lab-2`"));
    }
    counts(config, &mut problems);
    join(config, &mut problems);
    interface(&config.network, &mut problems);
    ranges::problems(&config.network, &mut problems);
    components(config, &mut problems);
    kubelet(config, &mut problems);
    nodes(config, &mut problems);
    registries::problems(config, &mut problems);
    vip::problems(config, &mut problems);
    problems
}

fn counts(config: &Config, problems: &mut Vec<Problem>) {
    if !(1..=MAX_CONTROLLERS).contains(&config.controllers) {
        let message = format!("a cluster cannot have {} controllers", config.controllers);
        let hint = format!("1, or 3 for one that may fail; at most {MAX_CONTROLLERS}");
        problems.push(Problem::new(Path::to("controllers"), message, hint));
    }
    if config.network.mode == NetworkMode::Host && (config.controllers, config.workers) != (1, 0) {
        let message = "with `network.mode: host` there is one node of a machine";
        let hint = "leave `controllers` and `workers` out, or take `network.mode: bridge`";
        problems.push(Problem {
            paths: ["workers", "controllers"].map(Path::to).into(),
            is_name: false,
            message: message.into(),
            hint: hint.into(),
        });
    }
    let most = most_workers(config.network.nodes);
    if config.network.mode == NetworkMode::Bridge && config.workers > most {
        let message =
            format!("{} workers do not fit into `network.nodes: {}`", config.workers, config.network.nodes);
        let hint = format!("at most {most}, or a wider range, such as 10.254.0.0/20");
        problems.push(Problem::new(Path::to("workers"), message, hint));
    }
}

/// A bridge is its machine's own: nobody else reaches the nodes on it.
fn join(config: &Config, problems: &mut Vec<Problem>) {
    if config.join && config.network.mode == NetworkMode::Bridge {
        problems.push(Problem::new(
            Path::to("join"),
            "other machines cannot join a cluster on a bridge, which only this machine reaches",
            "write `mode: host` below `network`, with the `interface` by which they reach this machine",
        ));
    }
}

fn interface(network: &Network, problems: &mut Vec<Problem>) {
    let path = |field: &str| Path::to("network").field(field);
    // What the kernel takes for a name, less what would have to be quoted in rules.
    let is_name = |name: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        (1..=15).contains(&name.len()) && name.chars().all(inner) && !["lo", ".", ".."].contains(&name)
    };
    problems.extend(match (network.mode, network.interface.as_deref()) {
        (NetworkMode::Bridge, None) => None,
        (NetworkMode::Host, None) => Some(Problem::new(
            path("mode"),
            "`network.mode: host` needs `network.interface`",
            "name the interface by which the cluster may be reached: `interface: tun0`",
        )),
        (NetworkMode::Bridge, Some(_)) => Some(Problem::of_name(
            path("interface"),
            "`network.interface` is only for `network.mode: host`",
            "leave it out, or set the mode",
        )),
        (NetworkMode::Host, Some(name)) => (!is_name(name)).then(|| {
            let message = format!("`network.interface: {name}` names no interface to be reached by");
            Problem::new(path("interface"), message, "such as `tun0`; `ip address` shows them")
        }),
    });
}

fn components(config: &Config, problems: &mut Vec<Problem>) {
    let root = Path::to("components");
    for (name, overrides) in config.components.all() {
        let path = root.field(name);
        flags(name, &overrides.extra_args, &path.field("extraArgs"), problems);
        environment(&overrides.env, &path.field("env"), problems);
        resources(&overrides.resources, &path.field("resources"), problems);
    }
    let path = root.field(proxy::NAME);
    for flag in config.components.kube_proxy.extra_args.keys() {
        if !owned::PROXY_FLAGS.contains(&flag.as_str()) {
            let message = format!("kube-proxy ignores the flag `{flag}` beside its configuration file");
            let hint = "write it as a field of KubeProxyConfiguration, below `components.kube-proxy.config`";
            problems.push(Problem::of_name(path.field("extraArgs").field(flag), message, hint));
        }
    }
    fields(owned::fields(proxy::NAME), &config.components.kube_proxy.config, &path.field("config"), problems);
}

fn kubelet(config: &Config, problems: &mut Vec<Problem>) {
    let path = Path::to(KUBELET);
    flags(KUBELET, &config.kubelet.extra_args, &path.field("extraArgs"), problems);
    environment(&config.kubelet.env, &path.field("env"), problems);
    fields(owned::fields(KUBELET), &config.kubelet.config, &path.field("config"), problems);
}

fn flags(component: &str, extra: &ExtraArgs, path: &Path, problems: &mut Vec<Problem>) {
    for (flag, value) in extra {
        let path = path.field(flag);
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if flag.starts_with('-') || flag.is_empty() || !flag.chars().all(is_name) {
            let name = flag.trim_start_matches('-');
            let hint = format!("write its name without dashes, and its value behind the colon: `{name}: …`");
            problems.push(Problem::of_name(path, format!("`{flag}` is no name of a flag"), hint));
        } else if let Some(because) = owned::refusal(owned::flags(component), flag) {
            let message = format!("the flag `{flag}` of {component} cannot be set: it {because}");
            problems.push(Problem::of_name(path, message, "leave it out"));
        } else if value.values().is_empty() {
            let hint = "leave it out, or give it a value";
            problems.push(Problem::of_name(path, format!("the flag `{flag}` has no value"), hint));
        }
    }
}

fn environment(env: &Environment, path: &Path, problems: &mut Vec<Problem>) {
    for name in env.keys() {
        let path = path.field(name);
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(fits) {
            let hint = "take letters, digits and `_`, and no digit first";
            problems.push(Problem::of_name(path, format!("`{name}` is no name of a variable"), hint));
        } else if let Some(because) = owned::refusal(std::slice::from_ref(&owned::VARIABLES), name) {
            let message = format!("the variable `{name}` cannot be set: it {because}");
            problems.push(Problem::of_name(path, message, "leave it out"));
        }
    }
}

fn resources(resources: &Resources, path: &Path, problems: &mut Vec<Problem>) {
    let pick = [
        ("cpu", (|amounts| amounts.cpu.as_ref()) as fn(&Amounts) -> Option<&Quantity>),
        ("memory", |amounts| amounts.memory.as_ref()),
    ];
    for (name, amount) in pick {
        let (Some(request), Some(limit)) = (amount(&resources.requests), amount(&resources.limits)) else {
            continue;
        };
        if request.thousandths() > limit.thousandths() {
            let message = format!("the request of {request} is above the limit of {limit}");
            let paths = ["requests", "limits"].map(|kind| path.field(kind).field(name)).into();
            problems.push(Problem {
                paths,
                is_name: false,
                message,
                hint: "lower the one or raise the other".into(),
            });
        }
    }
}

/// Refuses fields that are kayak's, and objects that hold such.
fn fields(
    kept: &[Owned],
    config: &serde_json::Map<String, serde_json::Value>,
    path: &Path,
    problems: &mut Vec<Problem>,
) {
    for kept in kept {
        for name in kept.names {
            let names: Vec<_> = name.split('.').collect();
            let (inner, outer) = names.split_last().map_or(("", &[][..]), |(last, outer)| (*last, outer));
            let holder = outer.iter().try_fold(config, |at, name| at.get(*name)?.as_object());
            // Something else in an object's place would take the field away with it.
            let replaced = (1..=outer.len()).find(|&depth| {
                let at = names[..depth - 1].iter().try_fold(config, |at, name| at.get(*name)?.as_object());
                at.and_then(|at| at.get(names[depth - 1])).is_some_and(|value| !value.is_object())
            });
            let depth = match (holder.is_some_and(|holder| holder.contains_key(inner)), replaced) {
                (true, _) => names.len(),
                (false, Some(depth)) => depth,
                (false, None) => continue,
            };
            let path = names[..depth].iter().fold(path.clone(), |path, name| path.field(name));
            let message = format!("the field `{name}` cannot be set: it {}", kept.because);
            problems.push(Problem::of_name(path, message, "leave it out"));
        }
    }
}

fn nodes(config: &Config, problems: &mut Vec<Problem>) {
    let counts =
        [(Role::Controller, config.controllers.min(MAX_CONTROLLERS)), (Role::Worker, config.workers)];
    let all = counts.into_iter().flat_map(|(role, count)| (0..count).map(move |index| role.node_name(index)));
    let all: Vec<_> = all.collect();
    let mut names = BTreeSet::new();
    for (index, node) in config.nodes.iter().enumerate() {
        let path = Path::to("nodes").item(index);
        if !all.contains(&node.name) {
            let message = format!("there is no node `{}`", node.name);
            let hint =
                format!("from `{}` to `{}`", all.first().map_or("", |n| n), all.last().map_or("", |n| n));
            problems.push(Problem::new(path.field("name"), message, hint));
        } else if !names.insert(&node.name) {
            let message = format!("`{}` is listed twice", node.name);
            problems.push(Problem::new(path.field("name"), message, "write all about a node in one item"));
        }
        labels(node, &path, problems);
        taints(node, &path.field("taints"), problems);
        paths(node, &path, problems);
        // Less would not even hold the control plane.
        if let Some(memory) = node.memory.as_ref().filter(|memory| memory.units() < 512 << 20) {
            let message = format!("{memory} of memory is too little for a node");
            problems.push(Problem::new(
                path.field("memory"),
                message,
                "at least 512Mi; 2Gi leaves room for pods",
            ));
        }
    }
}

/// Labels by which the kubelet says what machine it runs on: it sets them again.
const KUBELET_LABELS: [&str; 5] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

fn labels(node: &NodeSettings, path: &Path, problems: &mut Vec<Problem>) {
    for (name, value) in &node.labels {
        let path = path.field("labels").field(name);
        if name == CONTROLLER_LABEL || KUBELET_LABELS.contains(&name.as_str()) {
            let message =
                format!("the label `{name}` cannot be set: kayak and the kubelet say what a node is");
            problems.push(Problem::of_name(path, message, "take a name of your own"));
        } else if let Err(hint) = label(name, value) {
            problems.push(Problem::of_name(path, format!("`{name}: {value}` is no label"), hint));
        }
    }
}

fn taints(node: &NodeSettings, path: &Path, problems: &mut Vec<Problem>) {
    for (index, taint) in node.taints.iter().enumerate() {
        if let Err(hint) = label(&taint.key, &taint.value) {
            let message = format!("`{}={}` is no taint", taint.key, taint.value);
            problems.push(Problem::new(path.item(index).field("key"), message, hint));
        }
        let before = &node.taints[..index];
        if before.iter().any(|other| (&other.key, other.effect) == (&taint.key, taint.effect)) {
            let message = format!("the taint `{}` is there twice", taint.key);
            problems.push(Problem::new(path.item(index).field("key"), message, "leave one out"));
        }
    }
}

/// What a node needs itself: something of the machine's in its place would break it.
const NODE_OWN: [&str; 12] =
    ["/bin", "/dev", "/etc", "/lib", "/opt", "/proc", "/run", "/sbin", "/sys", "/tmp", "/usr", "/var"];

fn paths(node: &NodeSettings, path: &Path, problems: &mut Vec<Problem>) {
    let plain =
        |path: &camino::Utf8Path| path.is_absolute() && !path.components().any(|part| part.as_str() == "..");
    let rule = "write the whole path, from `/` on and without `..`";
    for (index, mount) in node.mounts.iter().enumerate() {
        let path = path.field("mounts").item(index);
        for (field, value) in [("host", &mount.host), ("node", mount.node())] {
            if !plain(value) {
                let message = format!("`{value}` is no absolute path");
                problems.push(Problem::new(path.field(field), message, rule));
            }
        }
        let at = mount.node();
        if at == "/" || NODE_OWN.iter().any(|own| at == own) || at.starts_with("/etc/kubernetes") {
            let hint = "choose another place in the node, such as `node: /srv/media`";
            let problem = Problem {
                paths: vec![path.field("node"), path.field("host")],
                is_name: false,
                message: format!("a mount at `{at}` would hide what the node needs"),
                hint: hint.into(),
            };
            problems.push(problem);
        }
    }
    for (index, device) in node.devices.iter().enumerate() {
        if !plain(device) || !device.starts_with("/dev/") {
            let message = format!("`{device}` is no device");
            problems.push(Problem::new(
                path.field("devices").item(index),
                message,
                "such as /dev/dri/renderD128",
            ));
        }
    }
}
