use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;

use kayak_core::assets::{Assets, CLUSTER_FILE};
use kayak_core::cluster::{API_PORT, Cluster, MachineFacts};
use kayak_core::config::{Taint, TaintEffect};
use kayak_core::join::{Guest, Pin, Token, node_name};
use kayak_core::pki::{Authority, KeyStore, Pair, Secret};
use kayak_core::plan::Named;
use kayak_engine::join::Door;
use kayak_engine::machine;

use super::preflight::require_root;
use super::up::{BringUpArgs, Doing, begin, bring_up};
use crate::context::{Context, block_on, images};
use crate::error::CommandError;
use crate::wish::Rendering;

/// Make this machine a node of another machine's cluster
///
/// `kayak token create` there prints the whole line. `--cluster NAME` says what the cluster is called here, if
/// not as there. Afterwards `stop`, `resume`, `enable` and `down` are about this machine's node alone.
#[derive(clap::Args)]
pub struct JoinArgs {
    /// Where the cluster's API is: an address, with `:PORT` if that is not 6443
    #[arg(value_name = "ADDRESS")]
    address: String,

    /// The token, as `kayak token create` printed it
    #[arg(long, value_name = "TOKEN", env = "KAYAK_TOKEN", hide_env_values = true, value_parser = token)]
    token: Token,

    /// The hash of the cluster's CA: whoever else answers is not spoken to
    #[arg(long, value_name = "sha256:HASH")]
    ca_hash: Pin,

    /// Let the cluster make this node a controller later; the token has to be for that
    #[arg(long)]
    controller: bool,

    /// What the node is called; the machine's host name by default
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// The interface by which other nodes reach this one; by default that which leads to ADDRESS
    #[arg(long, value_name = "INTERFACE")]
    interface: Option<String>,

    /// A label of the node; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<String>,

    /// A taint of the node: pods that do not tolerate it stay away; may be repeated
    #[arg(long = "taint", value_name = "KEY[=VALUE]:EFFECT", value_parser = taint)]
    taints: Vec<Taint>,

    #[command(flatten)]
    how: BringUpArgs,
}

fn token(text: &str) -> Result<Token, String> {
    text.parse().map_err(|error: kayak_core::join::NotAToken| error.to_string())
}

fn label(text: &str) -> Result<String, String> {
    let (key, value) = text.split_once('=').ok_or("a label is `KEY=VALUE`")?;
    // What Kubernetes lets a node not say of itself, the kubelet would not start with.
    let (prefix, _) = key.split_once('/').unwrap_or_default();
    if ["kubernetes.io", "k8s.io"].iter().any(|own| prefix == *own || prefix.ends_with(&format!(".{own}"))) {
        return Err(format!("`{key}` is Kubernetes' own: the cluster gives it, by `kubectl label node`"));
    }
    kayak_core::config::label(key, value)?;
    Ok(text.into())
}

fn taint(text: &str) -> Result<Taint, String> {
    let refused = || "a taint is `KEY=VALUE:EFFECT` or `KEY:EFFECT`".to_owned();
    let (label, effect) = text.rsplit_once(':').ok_or_else(refused)?;
    let (key, value) = label.split_once('=').unwrap_or((label, ""));
    let effect = match effect {
        "NoSchedule" => TaintEffect::NoSchedule,
        "PreferNoSchedule" => TaintEffect::PreferNoSchedule,
        "NoExecute" => TaintEffect::NoExecute,
        _ => return Err("an effect is `NoSchedule`, `PreferNoSchedule` or `NoExecute`".into()),
    };
    kayak_core::config::label(key, value)?;
    Ok(Taint { key: key.into(), value: value.into(), effect })
}

pub fn run(cx: &Context, args: &JoinArgs) -> Result<ExitCode, CommandError> {
    require_root()?;
    let address = address(&args.address)?;
    let name = name(args)?;
    let images = images()?;
    let version = &images.kubernetes_version;
    let door = block_on(async {
        Ok(Door::open(address, &args.token, &args.ca_hash, version, args.controller).await?)
    })?;
    let facts = machine::look()?;
    let guest = Guest {
        cluster: cx.cluster.clone().unwrap_or_else(|| door.invitation.config.name.clone()),
        interface: interface(args, &facts, door.own_address)?,
        node: name,
        labels: args.labels.clone(),
        taints: args.taints.clone(),
    };
    is_new(cx, &guest.cluster)?;
    let config = door.invitation.configure(&guest).validated()?;
    let source = serde_json::to_string_pretty(&config)?;
    let cluster = door.invitation.join(Cluster::resolve(config, &source, images, &facts)?, &guest);
    block_on(async { Ok(door.is_free(&guest.node).await?) })?;
    let lock = begin(cx, &cluster, &args.how)?;
    let rendering = match block_on(async { ask(&door, &cluster, &guest.node).await }) {
        Ok(rendering) => rendering,
        Err(refused) => {
            // Nothing was made yet but what the lock writes down.
            block_on(async { Ok(cx.driver()?.teardown(&guest.cluster).await?) })?;
            return Err(refused);
        }
    };
    bring_up(cx, rendering, &Doing { how: &args.how, named: &Named::default(), planned: None }, &lock)
}

/// Has the node's certificate issued, and renders with it.
async fn ask(door: &Door, cluster: &Cluster, node: &str) -> Result<Rendering, CommandError> {
    let own = cluster.nodes.first().map(|node| node.address);
    let address = own.ok_or_else(|| CommandError::failed("this machine has no node"))?;
    let kubelet = door.certificate(node, address).await?;
    let id = format!("{node}-kubelet");
    // The CA's key stays where it is.
    let ca = Pair { certificate: door.ca.clone(), key: Secret::new(String::new()) };
    let pairs = [(Authority::Kubernetes.id().to_owned(), ca), (id.clone(), kubelet)];
    let keys = KeyStore { pairs: pairs.into(), ..KeyStore::default() };
    let issued = BTreeMap::from([(id, "the cluster has signed it".to_owned())]);
    Ok(Rendering { assets: Assets::render(cluster, &keys)?, issued })
}

fn address(text: &str) -> Result<SocketAddr, CommandError> {
    let bare = text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, API_PORT));
    if let Some(address) = bare.or_else(|| text.parse().ok()) {
        return Ok(address);
    }
    let with_port = if text.contains(':') { text.to_owned() } else { format!("{text}:{API_PORT}") };
    let found = with_port.to_socket_addrs().ok().and_then(|mut found| found.next());
    found.ok_or_else(|| {
        CommandError::usage(format!("`{text}` is no address, and no name that this machine knows"))
            .hint("such as `192.0.2.10` or `192.0.2.10:6443`; nothing was changed")
    })
}

fn name(args: &JoinArgs) -> Result<String, CommandError> {
    let host = || rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let name = args.name.clone().unwrap_or_else(host);
    node_name(&name).map_err(|error| {
        CommandError::from(error)
            .of_usage()
            .hint("say what the node is called: `--name NAME`; nothing was changed")
    })
}

fn interface(args: &JoinArgs, facts: &MachineFacts, own: IpAddr) -> Result<String, CommandError> {
    let leads = |addresses: &[std::net::Ipv4Addr]| addresses.iter().any(|ip| IpAddr::V4(*ip) == own);
    let found = facts.interfaces.iter().find(|(_, addresses)| leads(addresses)).map(|(name, _)| name.clone());
    args.interface.clone().or(found).ok_or_else(|| {
        CommandError::usage(format!(
            "no interface of this machine has {own}, by which it reaches the cluster"
        ))
        .hint("name the one by which other nodes reach this machine: `--interface NAME`")
    })
}

/// Refuses where this machine has a cluster of that name already.
fn is_new(cx: &Context, cluster: &str) -> Result<(), CommandError> {
    if !cx.dirs.assets(cluster).join(CLUSTER_FILE).exists() {
        return Ok(());
    }
    Err(CommandError::usage(format!("this machine has a cluster `{cluster}` already"))
        .hint("if it is the one to join, `kayak resume` starts its node here")
        .hint("if it is another one, call this one otherwise: `kayak --cluster NAME join …`; nothing was changed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_apis_port_unless_it_says_otherwise() {
        let read = |text| address(text).unwrap().to_string();
        assert_eq!(read("192.0.2.1"), "192.0.2.1:6443");
        assert_eq!(read("192.0.2.1:443"), "192.0.2.1:443");
        assert_eq!(read("2001:db8::1"), "[2001:db8::1]:6443");
        assert_eq!(read("[2001:db8::1]:443"), "[2001:db8::1]:443");
    }

    #[test]
    fn a_node_does_not_give_itself_what_only_the_cluster_may() {
        assert!(label("disk=big").is_ok() && label("example.com/disk=big").is_ok());
        for own in ["node-role.kubernetes.io/control-plane=", "kubernetes.io/os=linux", "x.k8s.io/y=z"] {
            assert!(label(own).unwrap_err().contains("kubectl label node"), "{own}");
        }
        assert!(label("disk").is_err() && label("disk=a b").is_err());
        assert_eq!(taint("quiet=night:NoSchedule").unwrap().value, "night");
        assert_eq!(taint("quiet:NoExecute").unwrap().value, "");
        assert!(taint("quiet:Never").is_err() && taint("quiet").is_err());
    }
}
