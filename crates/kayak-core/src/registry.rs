//! How a node pulls images: what its runtime and its kubelet read about registries, and by which proxy.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use crate::cluster::Cluster;
use crate::pki::{KeyStore, MissingKey, Secret};

/// Where the kubelet looks for passwords of registries, which it gives to the runtime with each image that is
/// to be pulled.
pub const LOGINS: &str = "/var/lib/kubelet/config.json";
/// Where the runtime looks for what is special about a registry, a directory for each.
const DIRECTORY: &str = "/etc/kubernetes/containerd/certs.d";

/// What is known of a registry beside the configuration.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryKeys {
    /// The CAs that its certificate is verified by.
    pub ca: Option<String>,
    /// The password of who pulls.
    pub password: Option<Secret>,
}

/// The files of a node.
pub(crate) fn files(cluster: &Cluster, keys: &KeyStore) -> Result<BTreeMap<String, String>, MissingKey> {
    let mut files = BTreeMap::new();
    for registry in &cluster.config.registries {
        let directory = format!("{DIRECTORY}/{}", registry.name);
        let url = registry.url();
        let mut hosts =
            format!("server = \"{url}\"\n\n[host.\"{url}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
        if registry.ca.is_some() {
            let path = format!("{directory}/ca.crt");
            // Writing to a string does not fail.
            let _ = writeln!(hosts, "ca = \"{path}\"");
            files.insert(path, known(keys, &registry.name, "CA", |known| known.ca.as_ref())?.clone());
        }
        files.insert(format!("{directory}/hosts.toml"), hosts);
    }
    if has_logins(cluster) {
        files.insert(LOGINS.into(), logins(cluster, keys)?.expose().to_owned());
    }
    Ok(files)
}

/// Whether any registry wants to know who pulls.
pub(crate) fn has_logins(cluster: &Cluster) -> bool {
    cluster.config.registries.iter().any(|registry| registry.username.is_some())
}

/// The passwords, as docker's tools write them down.
fn logins(cluster: &Cluster, keys: &KeyStore) -> Result<Secret, MissingKey> {
    let mut auths = serde_json::Map::new();
    for registry in &cluster.config.registries {
        let Some(user) = &registry.username else { continue };
        let password = known(keys, &registry.name, "password", |known| known.password.as_ref())?;
        let login = BASE64.encode(format!("{user}:{}", password.expose()));
        auths.insert(registry.name.clone(), json!({ "auth": login }));
    }
    Ok(Secret::new(json!({ "auths": auths }).to_string()))
}

fn known<'a, T>(
    keys: &'a KeyStore,
    registry: &str,
    what: &str,
    pick: impl Fn(&'a RegistryKeys) -> Option<&'a T>,
) -> Result<&'a T, MissingKey> {
    let found = keys.registries.get(registry).and_then(pick);
    found.ok_or_else(|| MissingKey(format!("{what} of registry {registry}")))
}

/// What the runtime's configuration says of registries, if there is anything to say.
pub(crate) fn settings(cluster: &Cluster) -> String {
    if cluster.config.registries.is_empty() {
        return String::new();
    }
    format!("\n[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"{DIRECTORY}\"\n")
}

/// The variables by which programs of a node know the proxy. What is the cluster's own is never asked of it.
pub(crate) fn proxy(cluster: &Cluster) -> BTreeMap<String, String> {
    let network = &cluster.config.network;
    let proxies = [("HTTP_PROXY", &network.proxy.http), ("HTTPS_PROXY", &network.proxy.https)];
    let mut env: BTreeMap<_, _> =
        proxies.into_iter().filter_map(|(name, url)| Some((name.to_owned(), url.clone()?))).collect();
    if env.is_empty() {
        return env;
    }
    let own = ["localhost", "127.0.0.0/8", "::1"].map(str::to_owned).into_iter();
    let ranges = [network.nodes, network.pods, network.services];
    let ranges = ranges.into_iter().flat_map(|ranges| ranges.all().map(|range| range.to_string()));
    let names = [".svc".to_owned(), format!(".{}", network.domain)];
    let except: Vec<_> = own.chain(ranges).chain(names).chain(network.proxy.except.iter().cloned()).collect();
    env.insert("NO_PROXY".into(), except.join(","));
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::resolve;

    const CONFIG: &str = "
registries:
  - name: registry.example.com:5000
    endpoint: https://192.0.2.7:5000
    ca: ca.crt
    username: puller
    passwordFile: password
  - name: mirror.example.com
    endpoint: http://192.0.2.9
network: { proxy: { https: 'http://192.0.2.8:3128', except: [.example.org] } }
";

    fn keys() -> KeyStore {
        let known =
            RegistryKeys { ca: Some("a certificate".into()), password: Some(Secret::new("sesame".into())) };
        KeyStore { registries: [("registry.example.com:5000".into(), known)].into(), ..KeyStore::default() }
    }

    #[test]
    fn the_runtime_gets_a_directory_for_each_registry_and_the_kubelet_the_passwords() {
        let files = files(&resolve(CONFIG).unwrap(), &keys()).unwrap();
        let listed: Vec<_> = files.iter().map(|(path, content)| format!("{path}\n{content}")).collect();
        insta::assert_snapshot!(listed.join("\n"));
    }

    #[test]
    fn without_its_password_nothing_is_rendered() {
        let error = files(&resolve(CONFIG).unwrap(), &KeyStore::default()).unwrap_err();
        assert_eq!(error.to_string(), "the key store holds no `CA of registry registry.example.com:5000`");
    }

    #[test]
    fn the_cluster_itself_is_reached_without_the_proxy() {
        let env = proxy(&resolve(CONFIG).unwrap());
        assert_eq!(env["HTTPS_PROXY"], "http://192.0.2.8:3128");
        assert_eq!(
            env["NO_PROXY"],
            "localhost,127.0.0.0/8,::1,10.254.0.0/24,10.244.0.0/16,10.96.0.0/16,.svc,.cluster.local,.example.org"
        );
        assert!(!env.contains_key("HTTP_PROXY"));
        assert!(proxy(&resolve("network: { proxy: { except: [a] } }").unwrap()).is_empty());
    }
}
