//! Kubeconfig files, one per identity.

pub mod entry;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::cluster::{API_PORT, Cluster, Node};
use crate::join::Token;
use crate::object::to_yaml;
use crate::pki::{API_SERVER_NAME, Authority, KeyStore, MissingKey, Pair, Secret};

/// Renders a kubeconfig for whoever holds a token, by the name that every API server's certificate has: the
/// address may be one that none has.
pub fn with_token(server: &str, ca: &str, token: &Token) -> Secret {
    let cluster = json!({
        "server": server,
        "certificate-authority-data": BASE64.encode(ca),
        "tls-server-name": API_SERVER_NAME,
    });
    Secret::new(to_yaml(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "joined", "cluster": cluster }],
        "users": [{ "name": "joining", "user": { "token": token.expose().expose() } }],
        "contexts": [{ "name": "joining", "context": { "cluster": "joined", "user": "joining" } }],
        "current-context": "joining",
    })))
}

/// Renders the kubeconfig of the identity with this certificate, the material inside.
pub fn embedded(cluster: &str, server: &str, keys: &KeyStore, id: &str) -> Result<Secret, MissingKey> {
    let user = embedded_user(keys.pair(id)?);
    Ok(Secret::new(to_yaml(&kubeconfig(cluster, server, keys, id, &user)?)))
}

fn embedded_user(pair: &Pair) -> Value {
    json!({
        "client-certificate-data": BASE64.encode(&pair.certificate),
        "client-key-data": BASE64.encode(pair.key.expose()),
    })
}

/// Renders the administrator's kubeconfig: beside the way that clients usually take, a context for each
/// controller, since any of them may be down, and a name may be one that this machine does not know.
pub fn administrator(cluster: &Cluster, keys: &KeyStore) -> Result<Secret, MissingKey> {
    // A machine that joined has no administrator's: it is known as its node.
    let own = cluster.nodes.first().filter(|_| cluster.joined.is_some());
    let id = own.map_or_else(|| "admin".to_owned(), |node| format!("{}-kubelet", node.name));
    let id = id.as_str();
    let pair = keys.pair(id)?;
    let mut file = kubeconfig(cluster.name(), &cluster.api_url(), keys, id, &embedded_user(pair))?;
    let user = file["users"][0]["name"].clone();
    let server = |node: &Node| format!("https://{}", node.at(API_PORT));
    let controllers: Vec<_> = cluster.all_controllers().collect();
    let is_needed = |node: &Node| controllers.len() > 1 || server(node) != cluster.api_url();
    for node in controllers.iter().filter(|node| is_needed(node)) {
        let name = format!("{}-{}", cluster.name(), node.name);
        let mut entry = file["clusters"][0].clone();
        entry["name"] = json!(name);
        entry["cluster"]["server"] = json!(server(node));
        let context = json!({ "name": format!("{id}@{name}"), "context": { "cluster": name, "user": user } });
        for (list, item) in [("clusters", entry), ("contexts", context)] {
            file[list].as_array_mut().into_iter().for_each(|items| items.push(item.clone()));
        }
    }
    Ok(Secret::new(to_yaml(&file)))
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
    Ok(to_yaml(&kubeconfig(cluster, server, keys, id, &user)?))
}

fn kubeconfig(
    cluster: &str,
    server: &str,
    keys: &KeyStore,
    id: &str,
    user: &Value,
) -> Result<Value, MissingKey> {
    let ca = BASE64.encode(keys.ca(Authority::Kubernetes)?);
    let context = format!("{id}@{cluster}");
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": cluster, "cluster": { "server": server, "certificate-authority-data": ca } }],
        "users": [{ "name": context, "user": user }],
        "contexts": [{ "name": context, "context": { "cluster": cluster, "user": context } }],
        "current-context": context,
    }))
}
