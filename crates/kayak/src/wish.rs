//! What is wished of a cluster: its configuration, wherever that is kept, and the assets made of it.

use std::collections::BTreeMap;
use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::access::configuration;
use kayak_core::assets::{Assets, CLUSTER_FILE, Edited};
use kayak_core::cluster::Cluster;
use kayak_core::config::{CaFiles, Config, Counts, RegistrySettings};
use kayak_core::pki::{Authority, Pair, Secret};
use kayak_core::plan::Named;
use kayak_core::registry::RegistryKeys;
use kayak_engine::stored::{self, Stored};
use kayak_engine::{asset_dir, keystore, machine};

use crate::context::{Context, images};
use crate::error::CommandError;

/// Where the configuration comes from.
#[derive(Default, clap::Args)]
pub struct ConfigArgs {
    /// The cluster's configuration; without it, what the cluster was last brought up with, or the defaults
    #[arg(short, long, value_name = "FILE")]
    config: Option<Utf8PathBuf>,

    /// How many nodes run the control plane; written into the configuration
    #[arg(long, value_name = "N")]
    controllers: Option<u32>,

    /// How many nodes run workloads only; written into the configuration
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
}

/// What is only done where the owner says so.
#[derive(Default, clap::Args)]
pub struct NamedArgs {
    /// Undo an edit: `deployment/coredns`, or a file of the assets; `plan` lists what was edited
    #[arg(long, value_name = "NAME")]
    revert: Vec<String>,

    /// Delete an object that is no longer wished; `plan` lists them
    #[arg(long, value_name = "NAME")]
    remove: Vec<String>,
}

impl NamedArgs {
    /// Only what is to be removed.
    pub fn removing(remove: Vec<String>) -> Self {
        Self { remove, ..Self::default() }
    }

    /// The names as sets.
    pub fn named(&self) -> Named {
        Named { revert: self.revert.iter().cloned().collect(), remove: self.remove.iter().cloned().collect() }
    }
}

/// A configuration, and the text it was read from.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What it says.
    pub config: Config,
    /// The text of `cluster.yaml`.
    pub source: String,
    /// Whether somebody has just given it: then it wins over one that was edited in the cluster.
    pub given: bool,
}

/// A rendered wish.
pub struct Rendering {
    /// All of it.
    pub assets: Assets,
    /// The keys and certificates that were issued for it, and why. They are not kept yet.
    pub issued: BTreeMap<String, String>,
}

#[derive(Debug, thiserror::Error)]
#[error("failed to read `{path}`")]
struct ReadError {
    path: Utf8PathBuf,
    source: std::io::Error,
}

impl ConfigArgs {
    /// What the cluster was last brought up with, and other numbers of nodes.
    pub fn counted(counts: Counts) -> Self {
        Self { config: None, controllers: counts.controllers, workers: counts.workers }
    }

    /// Reads the file; without one, finds what the cluster was last brought up with, or takes the
    /// defaults. `--cluster` names it either way.
    pub async fn load(&self, cx: &Context) -> Result<Wish, CommandError> {
        let counts = Counts { controllers: self.controllers, workers: self.workers };
        if let Some(path) = &self.config {
            let text = read(path).map_err(CommandError::of_usage)?;
            return Ok(Wish { given: true, ..Wish::parse(cx, counts.write_into(&text), path.as_str())? });
        }
        let given = counts != Counts::default();
        let (text, place) = match stored(cx).await? {
            Some(Stored { place, unapplied: Some(_), .. }) if !given => return Err(cut_off(&place)),
            Some(Stored { text, place, .. }) => (text, place),
            None => (String::new(), "the defaults".to_owned()),
        };
        Ok(Wish { given, ..Wish::parse(cx, counts.write_into(&text), &place)? })
    }
}

impl Wish {
    /// Reads a configuration that was found in a place. Where a cluster was named, it is the one meant.
    pub fn parse(cx: &Context, text: String, place: &str) -> Result<Self, CommandError> {
        let mut config = Config::parse(&text).map_err(|error| error.in_file(place))?;
        if let Some(name) = &cx.cluster {
            config.name.clone_from(name);
        }
        Ok(Self { config: config.validated()?, source: text, given: false })
    }

    /// Resolves the wish on this machine.
    pub fn resolve(&self) -> Result<Cluster, CommandError> {
        Ok(Cluster::resolve(self.config.clone(), &self.source, images()?, &machine::look()?)?)
    }

    /// Renders the wish with the keys that a directory holds, completing them; writes nothing.
    pub fn render(&self, keys_in: &Utf8Path) -> Result<Rendering, CommandError> {
        let cluster = self.resolve()?;
        let mut keys = asset_dir::read_keys(keys_in)?;
        keys.registries = self.registries(&keys.registries)?;
        let now = time::OffsetDateTime::now_utc();
        let issued = keystore::ensure(&mut keys, &cluster, &given_cas(&self.config)?, now)?;
        Ok(Rendering { assets: Assets::render(&cluster, &keys)?, issued })
    }

    /// Reads what the owner's registries are known by. Whoever gives no configuration need not have the files
    /// that it names: what they held is kept.
    fn registries(
        &self,
        kept: &BTreeMap<String, RegistryKeys>,
    ) -> Result<BTreeMap<String, RegistryKeys>, CommandError> {
        let registry = |wished: &RegistrySettings| {
            let kept = kept.get(&wished.name).filter(|_| !self.given).cloned().unwrap_or_default();
            let text = |path: &Option<Utf8PathBuf>, kept: Option<String>| match (path, kept) {
                (None, _) => Ok(None),
                (Some(path), Some(kept)) if !path.exists() => Ok(Some(kept)),
                (Some(path), _) => read(path).map(Some),
            };
            let password = text(&wished.password_file, kept.password.map(|kept| kept.expose().to_owned()))?;
            // An editor ends what it writes with a new line.
            let password = password.map(|text| Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()));
            Ok((wished.name.clone(), RegistryKeys { ca: text(&wished.ca, kept.ca)?, password }))
        };
        self.config.registries.iter().map(registry).collect()
    }

    /// Renders the wish for the cluster that it names: with its keys, and with what was edited by hand
    /// among its assets, unless that is to be reverted.
    pub fn render_kept(&self, cx: &Context, named: &mut Named) -> Result<Rendering, CommandError> {
        let kept = cx.dirs.assets(&self.config.name);
        let mut rendering = self.render(&kept)?;
        let edited: Edited = asset_dir::edited(&kept)?;
        // What is named here is done with: whatever is left must be an object.
        let (reverted, edited): (Edited, Edited) =
            edited.into_iter().partition(|(path, _)| named.revert.contains(path));
        named.revert.retain(|name| !reverted.contains_key(name));
        if self.given && kept.join(CLUSTER_FILE).exists() {
            named.revert.insert(configuration().to_string());
        }
        rendering.assets.keep(&edited);
        Ok(rendering)
    }
}

/// The configuration that the cluster meant was last brought up with, if there is one.
pub async fn stored(cx: &Context) -> Result<Option<Stored>, CommandError> {
    let name = cx.cluster_name_or(&Config::default().name)?;
    Ok(stored::configuration_of(&cx.driver()?, &name, &cx.dirs.assets(&name)).await?)
}

/// Which of two configurations is meant only their owner knows: either may undo the other's work.
fn cut_off(place: &str) -> CommandError {
    CommandError::usage(format!(
        "{place} has one configuration, and the assets kept on this machine were made from another: \
         a run that brought that in was cut off"
    ))
    .hint("to go on with the one of the assets: `kayak resume`, or that run again")
    .hint(format!(
        "to go back to the one that {place} has: `kayak config show >FILE`, then `kayak up --config FILE`; \
         nothing was changed"
    ))
}

/// Reads a file that the user named.
pub fn read(path: &Utf8Path) -> Result<String, CommandError> {
    Ok(fs::read_to_string(path).map_err(|source| ReadError { path: path.to_owned(), source })?)
}

fn given_cas(config: &Config) -> Result<BTreeMap<Authority, Pair>, CommandError> {
    let given = [
        (Authority::Kubernetes, &config.pki.kubernetes_ca),
        (Authority::Etcd, &config.pki.etcd_ca),
        (Authority::FrontProxy, &config.pki.front_proxy_ca),
    ];
    let mut pairs = BTreeMap::new();
    for (authority, files) in given {
        if let Some(CaFiles { certificate, key }) = files {
            pairs.insert(authority, Pair { certificate: read(certificate)?, key: Secret::new(read(key)?) });
        }
    }
    Ok(pairs)
}
