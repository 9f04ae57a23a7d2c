//! The components of a cluster. Each is stated once, in a file of its own, and rendered by
//! [`crate::form`] in the forms that are needed.

pub mod apiserver;
pub mod controller_manager;
pub mod coredns;
pub mod etcd;
pub mod flannel;
pub mod owned;
pub mod proxy;
pub mod scheduler;

use std::collections::BTreeMap;

use crate::cluster::{Cluster, Node};
use crate::config::{ExtraArgs, Overrides, Resources};
use crate::instance::PLACEHOLDER;
use crate::object::Object;
use crate::pki::{KeyStore, MissingKey, Secret};

/// What a component is, whatever form it runs in.
#[derive(Clone)]
pub struct Component {
    /// Its name: of the workload, the container and the label.
    pub name: &'static str,
    /// The image.
    pub image: String,
    /// Program and flags.
    pub command: Vec<String>,
    /// What of kayak starts it, where it cannot be started as it is.
    pub entry: Option<Entry>,
    /// How it runs in the cluster.
    pub workload: Workload,
    /// Files it reads that are secret, mounted at [`Component::secret_dir`].
    pub secrets: BTreeMap<&'static str, Secret>,
    /// Files it reads that anybody may see, mounted at [`Component::config_dir`].
    pub config: BTreeMap<&'static str, String>,
    /// Directories of the node it needs.
    pub host_dirs: Vec<HostDir>,
    /// Files of the node that it reads as they are now; what it has of its own in their place is not seen.
    pub host_files: Vec<HostFile>,
    /// Environment.
    pub env: Vec<Env>,
    /// What kubelet asks it.
    pub probes: Probes,
    /// Requested CPU in millicores.
    pub cpu: u32,
    /// Requested memory in MiB.
    pub memory: u32,
    /// What the owner wishes instead of these two.
    pub resources: Resources,
    /// Capabilities it keeps; all others are dropped.
    pub capabilities: &'static [&'static str],
    /// Whether it shares the node's network.
    pub host_network: bool,
    /// The service account it needs a token of, for those that can live without an API.
    pub service_account: Option<&'static str>,
    /// Named ports, for those on the pod network.
    pub ports: Vec<(&'static str, &'static str, u16)>,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace: u32,
}

/// The command of kayak that is the entry point of a container, and becomes the component.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which one.
    pub command: &'static str,
    /// Its flags, before `--` and the component's own command.
    pub flags: Vec<String>,
}

impl Entry {
    /// `kayak instance`: each instance binds an address of its own, see [`crate::instance`].
    fn instance(flags: Vec<String>) -> Self {
        Self { command: "instance", flags }
    }

    /// For clients of the API: without one they would end, and sleep in a crash loop when it is there.
    fn after_api(ca_file: &str) -> Self {
        let url = Cluster::local_api_url();
        Self::instance(vec![format!("--wait={url}/readyz"), format!("--wait-ca={ca_file}")])
    }

    /// `kayak member`: begins or joins a cluster before etcd starts.
    fn member(flags: Vec<String>) -> Self {
        Self { command: "member", flags }
    }
}

/// How a component runs in the cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// One on every controller; a new one starts beside the old one.
    ControllerDaemonSet,
    /// One on every node; replaced in place, since it owns node-wide state.
    NodeDaemonSet,
    /// So many anywhere on the controllers, surging.
    ControllerDeployment(u32),
    /// So many on any node, surging.
    Deployment(u32),
    /// A static pod of every controller, for good.
    StaticPod,
}

/// A directory of the node inside a component.
#[derive(Clone, PartialEq, Eq)]
pub struct HostDir {
    /// The volume's name.
    pub name: &'static str,
    /// Path on the node and in the container alike.
    pub path: &'static str,
    /// Whether it may write there.
    pub writable: bool,
}

/// A file of the node inside a component, which may read it.
#[derive(Clone, PartialEq, Eq)]
pub struct HostFile {
    /// The volume's name.
    pub name: &'static str,
    /// Path on the node and in the container alike.
    pub path: &'static str,
}

/// An environment variable.
#[derive(Clone, PartialEq, Eq)]
pub enum Env {
    /// It takes its value from a field of the pod: its name, and the field's path.
    Field(&'static str, &'static str),
    /// Its name and its value.
    Text(String, String),
}

/// What the kubelet asks a component. Startup is asked every second, so that nothing waits for a slow poll.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Probes {
    /// Has it started?
    pub startup: Option<Probe>,
    /// May it be given work?
    pub ready: Option<Probe>,
    /// Must it be restarted?
    pub live: Option<Probe>,
}

/// One question.
#[derive(Clone, PartialEq, Eq)]
pub enum Probe {
    /// A command in the container.
    Exec(Vec<String>),
    /// An HTTP path and port on the pod's address or the one given.
    Http(&'static str, u16, Option<&'static str>),
}

impl Component {
    /// A component with nothing but a name, an image and a command; on the node's network, without
    /// capabilities.
    fn new(name: &'static str, image: &str, workload: Workload, command: Vec<String>) -> Self {
        Self {
            name,
            image: image.into(),
            command,
            entry: None,
            workload,
            secrets: BTreeMap::new(),
            config: BTreeMap::new(),
            host_dirs: Vec::new(),
            host_files: Vec::new(),
            env: Vec::new(),
            probes: Probes::default(),
            cpu: 50,
            memory: 32,
            resources: Resources::default(),
            capabilities: &[],
            host_network: true,
            service_account: None,
            ports: Vec::new(),
            grace: 30,
        }
    }

    /// Changes the component as its profile or the owner wishes, before it takes any form, so that all
    /// forms agree.
    #[must_use]
    pub fn overridden(mut self, overrides: &Overrides) -> Self {
        set_flags(&mut self.command, &overrides.extra_args);
        for (name, value) in &overrides.env {
            // The API refuses a name that is there twice.
            self.env.retain(|env| !matches!(env, Env::Text(own, _) if own == name));
            self.env.push(Env::Text(name.clone(), value.to_string()));
        }
        self.resources = overrides.resources.clone();
        self
    }

    /// Whether kayak's own program runs in its container, as entry point or as probe.
    pub fn uses_kayak(&self) -> bool {
        let probed = |probe: &Option<Probe>| matches!(probe, Some(Probe::Exec(command)) if command.first().is_some_and(|c| c.ends_with("/kayak")));
        self.entry.is_some()
            || [&self.probes.startup, &self.probes.ready, &self.probes.live].into_iter().any(probed)
    }

    /// Where a component finds its secret files, in every form.
    pub fn secret_dir(name: &str) -> String {
        format!("/etc/kubernetes/secrets/{name}")
    }

    /// Where a component finds its public files, in every form.
    pub fn config_dir(name: &str) -> String {
        format!("/etc/kubernetes/config/{name}")
    }
}

/// Builds `--flag=value` arguments; an empty value gives a bare `--flag`.
fn flags(program: &str, flags: &[(&str, &str)]) -> Vec<String> {
    let render = |&(name, value): &(&str, &str)| {
        if value.is_empty() { format!("--{name}") } else { format!("--{name}={value}") }
    };
    std::iter::once(program.to_owned()).chain(flags.iter().map(render)).collect()
}

/// Sets flags of a command: where one is set already its value is replaced, others are appended.
pub(crate) fn set_flags(command: &mut Vec<String>, extra: &ExtraArgs) {
    for (name, value) in extra {
        let flag = format!("--{name}");
        let is_it = |argument: &String| {
            argument.strip_prefix(&flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        let place = command.iter().position(is_it).unwrap_or(command.len());
        command.retain(|argument| !is_it(argument));
        command.splice(place..place, value.values().iter().map(|value| format!("{flag}={value}")));
    }
}

/// The command of a component of which one instance at a time is the leader, and all are clients of
/// the API: the flags that such components have in common, then its own.
fn elected(program: &str, port: u16, own: &[(&str, &str)]) -> Vec<String> {
    let file = |name: &str| format!("{}/{name}", Component::secret_dir(program));
    let (kubeconfig, port) = (file("kubeconfig"), port.to_string());
    let mut command = flags(
        program,
        &[
            ("bind-address", PLACEHOLDER),
            ("secure-port", &port),
            ("profiling", "false"),
            ("kubeconfig", &kubeconfig),
            ("authentication-kubeconfig", &kubeconfig),
            ("authorization-kubeconfig", &kubeconfig),
            ("tls-cert-file", &file("tls.crt")),
            ("tls-private-key-file", &file("tls.key")),
            ("client-ca-file", &file("ca.crt")),
            ("requestheader-client-ca-file", &file("front-proxy-ca.crt")),
            ("leader-elect", "true"),
            // The next one looks often: a hand-over takes a second instead of the lease's fifteen.
            ("leader-elect-retry-period", "1s"),
        ],
    );
    command.extend(flags(program, own).split_off(1));
    command
}

/// The probes of a component whose instances each have an address of their own: an HTTPS request by
/// `kayak probe` inside the container, which knows that address.
///
/// Nothing asks for readiness once it has started: who gets connections is decided by the agent, which
/// asks twice a second at a hundredth of the cost, and a pod that starts in the first seconds of a
/// kubelet's life would be asked only after up to a whole period (`worker.run` of its prober sleeps for
/// a random part of it).
fn instance_probes(name: &str, port: u16, server_name: &str, ready: &str, live: &str) -> Probes {
    let probe = |path: &str| {
        Some(Probe::Exec(vec![
            format!("{}/kayak", crate::node::BINARY_DIR),
            "probe".into(),
            format!("--port={port}"),
            format!("--path={path}"),
            format!("--ca={}/ca.crt", Component::secret_dir(name)),
            format!("--server-name={server_name}"),
        ]))
    };
    Probes { startup: probe(ready), ready: None, live: probe(live) }
}

/// The control plane, in start order.
pub fn control_plane(cluster: &Cluster, keys: &KeyStore) -> Result<Vec<Component>, MissingKey> {
    let components = [
        apiserver::component(cluster, keys)?,
        controller_manager::component(cluster, keys)?,
        scheduler::component(cluster, keys)?,
    ];
    Ok(components.map(|component| as_wished(cluster, component)).into())
}

/// The same as the temporary control plane has it: of a flag that is given twice, the second counts.
pub fn temporary(cluster: &Cluster, keys: &KeyStore) -> Result<Vec<Component>, MissingKey> {
    let mut components = control_plane(cluster, keys)?;
    for component in &mut components {
        // A list that is given twice is both together.
        component.command.retain(|argument| !argument.starts_with("--controllers="));
        component.command.extend(temporary_flags(component.name).iter().map(|&flag| flag.to_owned()));
    }
    Ok(components)
}

/// What the temporary control plane's components are told beside what their successors are.
pub fn temporary_flags(component: &str) -> &'static [&'static str] {
    match component {
        apiserver::NAME => &apiserver::TEMPORARY_FLAGS,
        controller_manager::NAME => &controller_manager::TEMPORARY_FLAGS,
        _ => &[],
    }
}

/// The etcd member of one controller.
pub fn member(cluster: &Cluster, node: &Node, keys: &KeyStore) -> Result<Component, MissingKey> {
    Ok(as_wished(cluster, etcd::component(cluster, node, keys)?))
}

fn as_wished(cluster: &Cluster, component: Component) -> Component {
    let of_profile = cluster.config.profile.overrides(component.name);
    let of_owner = cluster.config.components.of(component.name);
    component.overridden(&of_profile).overridden(&of_owner)
}

/// The components that run as ordinary objects.
pub fn self_hosted(cluster: &Cluster, keys: &KeyStore) -> Result<Vec<Component>, MissingKey> {
    let mut components = control_plane(cluster, keys)?;
    let mut others = vec![proxy::component(cluster, keys)?, coredns::component(cluster)];
    if !cluster.has_own_pod_network() {
        others.insert(1, flannel::component(cluster, keys)?);
    }
    components.extend(others.into_iter().map(|component| as_wished(cluster, component)));
    Ok(components)
}

/// Objects that components need beside their workload: accounts, rights, services.
pub fn extra_objects(cluster: &Cluster) -> Vec<Object> {
    let network = if cluster.has_own_pod_network() { Vec::new() } else { flannel::objects() };
    [coredns::objects(cluster), network].into_iter().flatten().collect()
}
