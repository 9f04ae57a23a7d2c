//! A cluster's entry in somebody's own kubeconfig, beside whatever else is in there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use crate::object::to_yaml;
use crate::pki::{Pair, Secret};

/// Why a kubeconfig cannot be read. What is in it is not told: it holds keys.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not YAML.
    #[error("it is not YAML (line {0})")]
    Syntax(u64),
    /// YAML, but no kubeconfig.
    #[error("`{0}` is not as in a kubeconfig")]
    Shape(&'static str),
}

/// A cluster, a user of it and their context, which all bear one name.
pub struct Entry {
    name: String,
    cluster: Value,
    user: Value,
    namespace: Option<String>,
}

/// A kubeconfig with an entry put in or taken out.
pub struct Merged {
    /// The whole file.
    pub text: Secret,
    /// Whether `kubectl` without further words now speaks to the entry's cluster.
    pub current: bool,
}

/// The lists of a kubeconfig, and what an item of each holds beside its name.
const LISTS: [(&str, &str); 3] = [("clusters", "cluster"), ("users", "user"), ("contexts", "context")];

impl Entry {
    /// Takes cluster and user from a kubeconfig that holds one of each.
    pub fn new(name: String, kubeconfig: &str) -> Result<Self, EntryError> {
        let file = parse(kubeconfig)?;
        let take = |pointer: &str, what| {
            file.pointer(pointer).filter(|value| value.is_object()).cloned().ok_or(EntryError::Shape(what))
        };
        let (cluster, user) = (take("/clusters/0/cluster", "clusters")?, take("/users/0/user", "users")?);
        Ok(Self { name, cluster, user, namespace: None })
    }

    /// Reaches the API by another name.
    #[must_use]
    pub fn at(mut self, server: &str) -> Self {
        self.cluster["server"] = server.into();
        self
    }

    /// Speaks for somebody else.
    #[must_use]
    pub fn as_client(mut self, client: &Pair) -> Self {
        self.user = json!({
            "client-certificate-data": BASE64.encode(&client.certificate),
            "client-key-data": BASE64.encode(client.key.expose()),
        });
        self
    }

    /// Means this namespace where none is named.
    #[must_use]
    pub fn in_namespace(mut self, namespace: String) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// Returns a kubeconfig with nothing else in it.
    pub fn alone(&self) -> Secret {
        self.put_into(Map::new(), true).text
    }

    /// Puts the entry into the text of a kubeconfig in place of an earlier one of its name. All
    /// else stays, fields that nobody knows too; comments do not, as with `kubectl config`.
    pub fn merged_into(&self, text: &str, switch: bool) -> Result<Merged, EntryError> {
        Ok(self.put_into(well_formed(text)?, switch))
    }

    fn put_into(&self, mut file: Map<String, Value>, switch: bool) -> Merged {
        let name = &self.name;
        file.entry("apiVersion").or_insert_with(|| "v1".into());
        file.entry("kind").or_insert_with(|| "Config".into());
        let mut context = json!({ "cluster": name, "user": name });
        if let Some(namespace) = &self.namespace {
            context["namespace"] = namespace.as_str().into();
        }
        let values = [self.cluster.clone(), self.user.clone(), context];
        for ((list, field), value) in LISTS.into_iter().zip(values) {
            let mut items = take_items(&mut file, list);
            put(&mut items, json!({ "name": name, field: value }));
            file.insert(list.into(), items.into());
        }
        let set = file.get("current-context").and_then(Value::as_str).is_some_and(|set| !set.is_empty());
        if switch || !set {
            file.insert("current-context".into(), name.as_str().into());
        }
        let current = file.get("current-context").and_then(Value::as_str) == Some(name);
        Merged { text: Secret::new(to_yaml(&file.into())), current }
    }
}

/// Takes the entry of this name out of the text of a kubeconfig; `None` if there is none.
pub fn without(name: &str, text: &str) -> Result<Option<Secret>, EntryError> {
    let mut file = well_formed(text)?;
    let mut found = false;
    for (list, _) in LISTS {
        let mut items = take_items(&mut file, list);
        let before = items.len();
        items.retain(|item| item["name"] != name);
        found |= items.len() < before;
        file.insert(list.into(), items.into());
    }
    if file.get("current-context").is_some_and(|current| current == name) {
        file.insert("current-context".into(), "".into());
    }
    Ok(found.then(|| Secret::new(to_yaml(&file.into()))))
}

fn parse(text: &str) -> Result<Value, EntryError> {
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(blank) {
        return Ok(Value::Null);
    }
    serde_saphyr::from_str(text).map_err(|e| EntryError::Syntax(e.location().map_or(0, |at| at.line())))
}

/// Reads a kubeconfig in which everything that an entry touches is as it should be.
fn well_formed(text: &str) -> Result<Map<String, Value>, EntryError> {
    let file = match parse(text)? {
        Value::Null => Map::new(),
        Value::Object(file) => file,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(EntryError::Shape("the file"));
        }
    };
    for (field, wanted) in [("apiVersion", "v1"), ("kind", "Config")] {
        if file.get(field).is_some_and(|value| !value.is_null() && value != wanted) {
            return Err(EntryError::Shape(field));
        }
    }
    for (list, _) in LISTS {
        let fits = match file.get(list) {
            None | Some(Value::Null) => true,
            Some(Value::Array(items)) => items.iter().all(|item| item["name"].is_string()),
            Some(_) => false,
        };
        if !fits {
            return Err(EntryError::Shape(list));
        }
    }
    let current = file.get("current-context");
    if current.is_some_and(|current| !current.is_null() && !current.is_string()) {
        return Err(EntryError::Shape("current-context"));
    }
    Ok(file)
}

/// Takes the items of a list out, to be put back.
fn take_items(file: &mut Map<String, Value>, list: &str) -> Vec<Value> {
    match file.remove(list) {
        Some(Value::Array(items)) => items,
        // `well_formed` has seen that there is nothing else.
        Some(_) | None => Vec::new(),
    }
}

/// Puts an item where the first of its name was, or last.
fn put(items: &mut Vec<Value>, item: Value) {
    let at = items.iter().position(|other| other["name"] == item["name"]).unwrap_or(items.len());
    items.retain(|other| other["name"] != item["name"]);
    items.insert(at, item);
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "clusters: [{ name: c, cluster: { server: 'https://10.254.0.2:6443', certificate-authority-data: Q0E= } }]\n\
                       users: [{ name: u, user: { client-key-data: S0VZ } }]\n";

    const OTHERS: &str = "\
apiVersion: v1
kind: Config
preferences: { colors: true }
current-context: work
clusters:
- name: kayak-home
  cluster: { server: https://192.0.2.1:6443, old: yes }
- name: work
  cluster: { server: https://work.example, tls-server-name: 'yes', x-unknown: { a: [1, null] } }
users:
- name: work
  user: { exec: { apiVersion: client.authentication.k8s.io/v1, command: login, args: ['007', 'on'] } }
contexts: null
extensions:
- name: minikube.sigs.k8s.io
  extension: { last-update: Sat, 21 Nov 2026 }
";

    fn entry() -> Entry {
        Entry::new("kayak-home".into(), OWN).unwrap()
    }

    fn value(text: &Secret) -> Value {
        serde_saphyr::from_str(text.expose()).unwrap()
    }

    #[test]
    fn an_entry_replaces_the_one_of_its_name_and_nothing_else() {
        let merged = entry().merged_into(OTHERS, false).unwrap();
        let (before, after) = (parse(OTHERS).unwrap(), value(&merged.text));
        assert!(!merged.current);
        for kept in ["preferences", "current-context", "extensions", "apiVersion", "kind"] {
            assert_eq!(before[kept], after[kept], "{kept}");
        }
        assert_eq!(after["clusters"][1], before["clusters"][1]);
        assert_eq!(after["users"][0], before["users"][0]);
        let cluster = json!({ "server": "https://10.254.0.2:6443", "certificate-authority-data": "Q0E=" });
        assert_eq!(after["clusters"][0], json!({ "name": "kayak-home", "cluster": cluster }), "in its place");
        assert_eq!(after["users"][1], json!({ "name": "kayak-home", "user": { "client-key-data": "S0VZ" } }));
        let context = json!({ "cluster": "kayak-home", "user": "kayak-home" });
        assert_eq!(after["contexts"], json!([{ "name": "kayak-home", "context": context }]));
    }

    #[test]
    fn texts_that_older_yaml_takes_for_something_else_stay_quoted() {
        // kubectl reads YAML 1.1, where a bare `yes`, `on` or `007` is no text.
        let text = entry().merged_into(OTHERS, false).unwrap().text;
        for quoted in ["yes", "on", "007"] {
            let found = ['"', '\''].iter().any(|q| text.expose().contains(&format!("{q}{quoted}{q}")));
            assert!(found, "{quoted}");
        }
    }

    #[test]
    fn merging_again_changes_nothing() {
        let once = entry().merged_into(OTHERS, true).unwrap().text;
        let twice = entry().merged_into(once.expose(), false).unwrap();
        assert_eq!(once.expose(), twice.text.expose());
        assert!(twice.current);
    }

    #[test]
    fn the_current_context_is_switched_if_none_was_set_or_if_asked_for() {
        for unset in ["", "# mine\n", "current-context: \"\"\n", "current-context:\nclusters: []\n"] {
            assert!(entry().merged_into(unset, false).unwrap().current, "{unset}");
        }
        assert!(entry().merged_into(OTHERS, true).unwrap().current);
    }

    #[test]
    fn what_is_no_kubeconfig_is_refused_and_not_shown() {
        let error = |text| entry().merged_into(text, false).err().unwrap();
        let broken = error("users:\n- name: [\n  key: SECRET");
        assert!(matches!(broken, EntryError::Syntax(_)) && !broken.to_string().contains("SECRET"));
        assert_eq!(error("users: SECRET"), EntryError::Shape("users"));
        assert_eq!(error("[]"), EntryError::Shape("the file"));
        assert_eq!(error("kind: Pod"), EntryError::Shape("kind"));
        assert_eq!(error("contexts: [{ context: {} }]"), EntryError::Shape("contexts"));
        assert_eq!(error("clusters: [1]"), EntryError::Shape("clusters"));
        assert!(without("x", "users: 1").is_err());
    }

    #[test]
    fn an_entry_is_taken_out_without_a_trace() {
        let merged = entry().merged_into(OTHERS, true).unwrap().text;
        let after = value(&without("kayak-home", merged.expose()).unwrap().unwrap());
        assert!(!after.to_string().contains("kayak-home"), "{after}");
        assert_eq!(after["clusters"].as_array().unwrap().len(), 1);
        assert!(without("kayak-home", &after.to_string()).unwrap().is_none(), "there is none");
    }

    #[test]
    fn an_entry_for_somebody_else_has_their_key_server_and_namespace() {
        let client = Pair { certificate: "CRT".into(), key: Secret::new("KEY".into()) };
        let entry = entry().at("https://home.example:6443").as_client(&client).in_namespace("web".into());
        let alone = value(&entry.alone());
        assert_eq!(alone["clusters"][0]["cluster"]["server"], "https://home.example:6443");
        assert_eq!(
            alone["users"][0]["user"],
            json!({ "client-certificate-data": "Q1JU", "client-key-data": "S0VZ" })
        );
        assert_eq!(alone["contexts"][0]["context"]["namespace"], "web");
        assert_eq!(alone["current-context"], "kayak-home");
    }
}
