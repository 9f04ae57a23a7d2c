//! Everything kayak writes for a cluster, as one map from path to content: hence diffable, and
//! editable by hand between `kayak render` and `kayak start`.

mod by_hand;

pub use by_hand::{Edited, RENDERED, Rendered};

use std::collections::BTreeMap;

use camino::Utf8Path;

use crate::access;
use crate::cluster::Cluster;
use crate::component::{self, Component};
use crate::form;
use crate::host;
use crate::kubeconfig;
use crate::object::{Object, ObjectError, to_yaml};
use crate::pki::{KeyStore, MissingKey};
use crate::registry;

/// The facts that `kayak start` needs beside the files it puts on nodes.
pub const CLUSTER_FILE: &str = "cluster.json";
/// The administrator's kubeconfig.
pub const KUBECONFIG: &str = "auth/kubeconfig";

/// The content of one path.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// A regular file.
    File(Vec<u8>),
    /// A symbolic link and its target.
    Link(String),
}

/// Why assets read from a directory are no cluster.
#[derive(Debug, thiserror::Error)]
pub enum AssetsError {
    /// The directory was not written by `kayak render`.
    #[error("the assets have no `{CLUSTER_FILE}`: was the directory written by `kayak render`?")]
    NoCluster,
    /// The facts cannot be read.
    #[error("`{CLUSTER_FILE}` cannot be read")]
    Cluster(#[source] serde_json::Error),
    /// A manifest cannot be read.
    #[error("`{path}` cannot be read")]
    Manifest {
        /// Which one.
        path: String,
        /// Why.
        #[source]
        source: ObjectError,
    },
    /// A manifest is not UTF-8.
    #[error("`{0}` is not text")]
    NotText(String),
}

/// A rendered cluster.
#[derive(Clone, PartialEq)]
pub struct Assets {
    /// Its facts.
    pub cluster: Cluster,
    /// Path below the asset directory to content.
    pub files: BTreeMap<String, Content>,
}

impl Assets {
    /// The text of the administrator's kubeconfig; empty where there is none, which no client can be made of.
    pub fn kubeconfig(&self) -> String {
        match self.files.get(KUBECONFIG) {
            Some(Content::File(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            Some(Content::Link(_)) | None => String::new(),
        }
    }

    /// Renders a cluster. The same cluster and keys give the same bytes.
    pub fn render(cluster: &Cluster, keys: &KeyStore) -> Result<Self, MissingKey> {
        let mut files = BTreeMap::new();
        let mut put = |path: String, text: &str| {
            files.insert(path, Content::File(text.as_bytes().to_vec()));
        };
        put(CLUSTER_FILE.into(), &serde_json::to_string_pretty(cluster).unwrap_or_default());
        put(KUBECONFIG.into(), kubeconfig::administrator(cluster, keys)?.expose());
        for (id, pair) in &keys.pairs {
            put(format!("tls/{id}.crt"), &pair.certificate);
            // Whoever joins knows the CA, and has not its key.
            if !pair.key.expose().is_empty() {
                put(format!("tls/{id}.key"), pair.key.expose());
            }
        }
        if cluster.joined.is_none() {
            Self::render_control_plane(cluster, keys, &mut put)?;
        }
        for node in &cluster.nodes {
            for (path, content) in host::files(cluster, node, keys)? {
                files.insert(format!("nodes/{}{path}", node.name), content);
            }
        }
        let rendered = serde_json::to_vec_pretty(&Rendered::of(&files)).unwrap_or_default();
        files.insert(RENDERED.into(), Content::File(rendered));
        Ok(Self { cluster: cluster.clone(), files })
    }

    /// What only the cluster's own machine has.
    fn render_control_plane(
        cluster: &Cluster,
        keys: &KeyStore,
        put: &mut impl FnMut(String, &str),
    ) -> Result<(), MissingKey> {
        let account = keys.service_account()?;
        put("tls/service-account.pub".into(), &account.certificate);
        put("tls/service-account.key".into(), account.key.expose());
        put("tls/encryption.key".into(), keys.encryption_key()?.expose());
        for (name, known) in &keys.registries {
            let ca = known.ca.as_ref().map(|ca| (format!("registries/{name}.crt"), ca.as_str()));
            let password =
                known.password.as_ref().map(|password| (format!("registries/{name}.key"), password.expose()));
            ca.into_iter().chain(password).for_each(|(path, text)| put(path, text));
        }
        for component in component::temporary(cluster, keys)? {
            let name = component.name;
            put(format!("bootstrap-manifests/{name}.yaml"), &to_yaml(&form::temporary_pod(&component)));
            for (file, content) in &component.secrets {
                put(format!("bootstrap-secrets/{name}/{file}"), content.expose());
            }
        }
        for (path, object) in manifests(cluster, keys)? {
            let mut text = String::new();
            for object in object {
                text.push_str("---\n");
                text.push_str(&to_yaml(object.value()));
            }
            put(format!("manifests/{path}.yaml"), &text);
        }
        Ok(())
    }

    /// Takes files that were read from an asset directory.
    pub fn from_files(files: BTreeMap<String, Content>) -> Result<Self, AssetsError> {
        let Some(Content::File(facts)) = files.get(CLUSTER_FILE) else { return Err(AssetsError::NoCluster) };
        let cluster = serde_json::from_slice(facts).map_err(AssetsError::Cluster)?;
        let assets = Self { cluster, files };
        assets.objects()?;
        Ok(assets)
    }

    /// Returns the in-cluster objects in the order in which they are applied.
    pub fn objects(&self) -> Result<Vec<Object>, AssetsError> {
        let mut objects = Vec::new();
        for (path, content) in self.below("manifests/").filter(|(path, _)| is_manifest(path)) {
            let Content::File(bytes) = content else { continue };
            let text = std::str::from_utf8(bytes).map_err(|_| AssetsError::NotText(path.into()))?;
            let parsed = Object::parse_all(text)
                .map_err(|source| AssetsError::Manifest { path: path.into(), source })?;
            // Whoever edited a manifest by hand did not compute its digest.
            objects.extend(parsed.into_iter().map(Object::stamped_throughout));
        }
        Ok(objects)
    }

    /// Returns what was rendered, to tell edits from it; empty if that was not written down.
    pub fn rendered(&self) -> Rendered {
        match self.files.get(RENDERED) {
            Some(Content::File(bytes)) => serde_json::from_slice(bytes).unwrap_or_default(),
            Some(Content::Link(_)) | None => Rendered::default(),
        }
    }

    /// Returns the files of a node by their absolute path there.
    pub fn node_files(&self, node: &str) -> BTreeMap<String, &Content> {
        self.below(&format!("nodes/{node}")).map(|(path, content)| (path.to_owned(), content)).collect()
    }

    /// Returns the temporary control plane's files by their absolute path on a controller: secrets
    /// first, since the kubelet starts a pod as soon as it sees the manifest.
    pub fn temporary_files(&self) -> Vec<(String, &Content)> {
        let secrets = self
            .below("bootstrap-secrets/")
            .map(|(path, content)| (format!("{}/{path}", form::TEMPORARY_SECRETS), content));
        let manifests = self
            .below("bootstrap-manifests/")
            .filter(|(path, _)| is_manifest(path))
            .map(|(path, content)| (format!("{}/{}{path}", host::MANIFEST_DIR, form::TEMPORARY), content));
        secrets.chain(manifests).collect()
    }

    fn below<'a>(&'a self, prefix: &str) -> impl Iterator<Item = (&'a str, &'a Content)> {
        let prefix = prefix.to_owned();
        self.files.iter().filter_map(move |(path, content)| Some((path.strip_prefix(&prefix)?, content)))
    }
}

/// Says whether a file is for the API or the kubelet: editors leave others beside it.
fn is_manifest(path: &str) -> bool {
    matches!(Utf8Path::new(path).extension(), Some("yaml" | "yml" | "json"))
}

/// Says whether a path holds something secret, so that it is written 0600 and never shown.
pub fn is_secret(path: &str) -> bool {
    let private = ["auth/", "bootstrap-secrets/", "manifests/10-secrets"];
    private.iter().any(|p| path.starts_with(p))
        || matches!(Utf8Path::new(path).extension(), Some("key" | "pem"))
        || path.ends_with("/kubeconfig")
        || path.ends_with(registry::LOGINS)
        || path.contains(form::STATIC_SECRETS)
        || path.contains(form::TEMPORARY_SECRETS)
}

/// Says whether a node's file is only given to it once, because the node renews it itself.
pub fn is_seed(node_path: &str) -> bool {
    node_path.starts_with(host::KUBELET_PKI)
}

/// The objects by file, whose names give the order.
fn manifests(cluster: &Cluster, keys: &KeyStore) -> Result<Vec<(String, Vec<Object>)>, MissingKey> {
    let components = component::self_hosted(cluster, keys)?;
    let each =
        |render: fn(&Component) -> Option<Object>| components.iter().filter_map(render).collect::<Vec<_>>();
    let mut manifests = vec![
        ("00-namespaces".to_owned(), access::namespaces()),
        ("01-rights".to_owned(), access::rights()),
        ("02-facts".to_owned(), access::facts(cluster)),
        ("03-component-objects".to_owned(), component::extra_objects(cluster)),
        ("10-secrets".to_owned(), each(form::secret)),
        ("11-config".to_owned(), each(form::config_map)),
    ];
    for component in &components {
        let workload = form::workload(component).into_iter().collect();
        manifests.push((format!("20-{}", component.name), workload));
    }
    for (_, objects) in &mut manifests {
        *objects = std::mem::take(objects).into_iter().map(|o| o.labelled().stamped()).collect();
    }
    Ok(manifests)
}
