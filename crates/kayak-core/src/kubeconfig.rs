//! Kubeconfig files, one per identity.

pub mod entry;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::object::to_yaml;
use crate::pki::{Authority, KeyStore, MissingKey, Secret};

/// Renders the kubeconfig of the identity with this certificate, the material inside.
pub fn embedded(cluster: &str, server: &str, keys: &KeyStore, id: &str) -> Result<Secret, MissingKey> {
    let pair = keys.pair(id)?;
    let user = json!({
        "client-certificate-data": BASE64.encode(&pair.certificate),
        "client-key-data": BASE64.encode(pair.key.expose()),
    });
    Ok(Secret::new(kubeconfig(cluster, server, keys, id, &user)?))
}

/// Renders a kubeconfig whose client certificate and key lie in one file that is rotated.
pub fn with_files(
    cluster: &str,
    server: &str,
    keys: &KeyStore,
    id: &str,
    pem: &str,
) -> Result<String, MissingKey> {
    let user = json!({ "client-certificate": pem, "client-key": pem });
    kubeconfig(cluster, server, keys, id, &user)
}

fn kubeconfig(
    cluster: &str,
    server: &str,
    keys: &KeyStore,
    id: &str,
    user: &Value,
) -> Result<String, MissingKey> {
    let ca = BASE64.encode(keys.ca(Authority::Kubernetes)?);
    let context = format!("{id}@{cluster}");
    Ok(to_yaml(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": cluster, "cluster": { "server": server, "certificate-authority-data": ca } }],
        "users": [{ "name": context, "user": user }],
        "contexts": [{ "name": context, "context": { "cluster": cluster, "user": context } }],
        "current-context": context,
    })))
}
