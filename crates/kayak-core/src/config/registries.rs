//! Registries that images are pulled from, and the way there.

use std::collections::BTreeSet;

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;
use super::check::Problem;
use super::path::Path;

/// A registry that needs more than its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistrySettings {
    /// Host, and port if it has one, as images' names begin with it.
    #[schemars(example = "registry.example.com:5000")]
    pub name: String,
    /// Where it is reached, if not by its name: a mirror's URL, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "https://192.0.2.7:5000")]
    pub endpoint: Option<String>,
    /// A file with the certificates, PEM, of the CAs that its own is verified by, beside those that all
    /// nodes trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "registry-ca.crt")]
    pub ca: Option<Utf8PathBuf>,
    /// Who pulls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"puller")]
    pub username: Option<String>,
    /// A file with that user's password: nodes get it, and the cluster's configuration does not hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "registry-password")]
    pub password_file: Option<Utf8PathBuf>,
}

impl RegistrySettings {
    /// Where it is reached.
    pub fn url(&self) -> String {
        self.endpoint.clone().unwrap_or_else(|| format!("https://{}", self.name))
    }
}

/// The proxy by which nodes pull images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProxyServer {
    /// The proxy for what is reached by https; registries are, as a rule.
    #[schemars(example = "http://192.0.2.8:3128")]
    pub https: Option<String>,
    /// The proxy for what is reached by http.
    #[schemars(example = "http://192.0.2.8:3128")]
    pub http: Option<String>,
    /// Hosts, domains (`.example.com`) and ranges that are reached without it. The cluster's own always are.
    pub except: Vec<String>,
}

/// Finds what is wrong with registries and proxy.
pub(super) fn problems(config: &Config, problems: &mut Vec<Problem>) {
    let mut names = BTreeSet::new();
    for (index, registry) in config.registries.iter().enumerate() {
        let path = Path::to("registries").item(index);
        let mut refuse = |field: &str, message: String, hint: &str| {
            problems.push(Problem::new(path.field(field), message, hint));
        };
        let name = &registry.name;
        if !is_authority(name) {
            let hint = "host and port, such as `registry.example.com:5000`; the URL belongs to `endpoint`";
            refuse("name", format!("`{name}` is no name of a registry"), hint);
        } else if !names.insert(name) {
            refuse("name", format!("`{name}` is listed twice"), "write all about a registry in one item");
        }
        let url = registry.url();
        if registry.endpoint.is_some() && url_host(&url).is_none() {
            refuse(
                "endpoint",
                format!("`{url}` is no URL of a registry"),
                "such as `https://192.0.2.7:5000`",
            );
        }
        let open = url.starts_with("http://");
        if open && registry.ca.is_some() {
            refuse("ca", format!("`{url}` shows no certificate to verify"), "leave it out, or take https");
        }
        if open && registry.password_file.is_some() {
            let hint = "take https for it; with a CA of its own, name that as `ca`";
            refuse("passwordFile", format!("`{url}` would take the password where all can read it"), hint);
        }
        match (&registry.username, &registry.password_file) {
            (Some(user), None) => {
                refuse("username", format!("`{user}` has no password"), "name its file as `passwordFile`");
            }
            (None, Some(_)) => {
                refuse("passwordFile", "a password is for nobody".into(), "name the user as `username`");
            }
            (Some(user), Some(_)) if user.is_empty() || user.contains(':') => {
                refuse("username", format!("`{user}` is no user of a registry"), "a name without a colon");
            }
            _ => {}
        }
    }
    proxy(&config.network.proxy, problems);
}

fn proxy(proxy: &ProxyServer, problems: &mut Vec<Problem>) {
    let path = Path::to("network").field("proxy");
    for (field, url) in [("https", &proxy.https), ("http", &proxy.http)] {
        let Some(url) = url else { continue };
        if url.contains('@') {
            let hint = "let it know the machine by its address: the configuration is kept in the cluster";
            // What is behind the name would be shown.
            let message = "a proxy cannot have a password here";
            problems.push(Problem::of_name(path.field(field), message, hint));
        } else if url_host(url).is_none() {
            let message = format!("`{url}` is no URL of a proxy");
            problems.push(Problem::new(path.field(field), message, "such as `http://192.0.2.8:3128`"));
        }
    }
    for (index, host) in proxy.except.iter().enumerate() {
        if host.is_empty() || host.contains([',', ' ', '/']) && host.parse::<ipnet::IpNet>().is_err() {
            let path = path.field("except").item(index);
            let hint = "a host, a domain such as `.example.com`, or a range such as 192.0.2.0/24";
            problems.push(Problem::new(path, format!("`{host}` is nothing to be reached"), hint));
        }
    }
}

/// What stands between scheme and path, where there is no path.
fn url_host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let host = rest.strip_suffix('/').unwrap_or(rest);
    is_authority(host).then_some(host)
}

/// Whether a text is a host, and a port if it has one.
fn is_authority(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(inner),
    };
    is_host && port.is_none_or(|port| port.parse::<u16>().is_ok())
}
