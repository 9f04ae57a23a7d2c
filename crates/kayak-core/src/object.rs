//! Kubernetes objects as kayak renders them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::applied::Applied;

/// The label of what kayak alone makes.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The annotation with the digest of an object as kayak applied it. While it is the one that kayak
/// would write again, whatever differs in the cluster was changed by somebody else.
pub const APPLIED: &str = "kayak/applied";
/// The annotation with the digests of its fields, see [`Applied`]. It is for the cluster alone: nobody could
/// read a manifest with it. What is applied by hand is without, and told by the other one only.
pub const FIELDS: &str = "kayak/applied-fields";

/// Which object: enough to find it in the API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId {
    /// `v1`, `apps/v1`, …
    pub api_version: String,
    /// `Deployment`, …
    pub kind: String,
    /// Absent for objects of the whole cluster.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ObjectId {
    /// Whether people mean this object by `deployment/coredns` or `deployment/kube-system/coredns`.
    pub fn is_called(&self, name: &str) -> bool {
        let short = format!("{}/{}", self.kind, self.name);
        name.eq_ignore_ascii_case(&short) || name.eq_ignore_ascii_case(&self.to_string())
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.kind.to_lowercase())?;
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Why a manifest is no object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// A mandatory field is not there.
    #[error("the object has no `{0}`")]
    Lacks(&'static str),
    /// Not YAML.
    #[error("the manifest is not YAML:\n{0}")]
    Syntax(String),
}

/// One object in the form that is applied.
#[derive(Clone, PartialEq)]
pub struct Object(Value);

impl Object {
    /// Takes a JSON object that has at least `apiVersion`, `kind` and `metadata.name`.
    pub fn new(value: Value) -> Result<Self, ObjectError> {
        for (pointer, name) in
            [("/apiVersion", "apiVersion"), ("/kind", "kind"), ("/metadata/name", "metadata.name")]
        {
            value.pointer(pointer).and_then(Value::as_str).ok_or(ObjectError::Lacks(name))?;
        }
        Ok(Self(value))
    }

    /// Reads every document of a manifest file.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, ObjectError> {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).map_err(|e| ObjectError::Syntax(e.to_string()))?;
        documents.into_iter().filter(|d| !d.is_null()).map(Self::new).collect()
    }

    /// The object's JSON.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// Takes a field out, see [`crate::fields`]; says whether it was there.
    pub fn remove(&mut self, field: &str) -> bool {
        crate::fields::remove(&mut self.0, field)
    }

    /// Labels the object as kayak's own. Nodes and namespaces are not: others make them too.
    #[must_use]
    pub fn labelled(mut self) -> Self {
        if !matches!(self.id().kind.as_str(), "Node" | "Namespace") {
            self.0["metadata"]["labels"][MANAGED_BY] = json!("kayak");
        }
        self
    }

    /// Takes the digest away that [`Self::stamped`] wrote.
    #[must_use]
    pub fn unstamped(mut self) -> Self {
        if let Some(metadata) = self.0["metadata"].as_object_mut()
            && let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut)
        {
            annotations.remove(APPLIED);
            annotations.remove(FIELDS);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
        self
    }

    /// Writes the digest of all the rest into the object's annotation [`APPLIED`].
    #[must_use]
    pub fn stamped(self) -> Self {
        let mut object = self.unstamped();
        let digest = short_digest(object.0.to_string().as_bytes());
        object.0["metadata"]["annotations"][APPLIED] = json!(digest);
        object
    }

    /// As [`Self::stamped`], with the digests of all fields in the annotation [`FIELDS`].
    #[must_use]
    pub fn stamped_throughout(self) -> Self {
        let object = self.unstamped();
        let fields = Applied::of(&object.0).text();
        let mut object = object.stamped();
        object.0["metadata"]["annotations"][FIELDS] = json!(fields);
        object
    }

    /// The digest that [`Self::stamped`] wrote, also into an object of the cluster.
    pub fn stamp(value: &Value) -> Option<&str> {
        value.pointer("/metadata/annotations")?.get(APPLIED)?.as_str()
    }

    /// Whether its values may not be shown.
    pub fn is_secret(&self) -> bool {
        self.0["kind"] == "Secret"
    }

    /// Which object it is.
    pub fn id(&self) -> ObjectId {
        let text = |pointer: &str| self.0.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        ObjectId {
            api_version: text("/apiVersion").unwrap_or_default(),
            kind: text("/kind").unwrap_or_default(),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name").unwrap_or_default(),
        }
    }
}

/// Returns the first 64 bits of the SHA-256 of some bytes, in hexadecimal digits.
pub fn short_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Merges a patch over a value: objects field by field, with `null` taking a field away; whatever else
/// is there is replaced (RFC 7386).
pub fn merge(value: &mut Value, patch: &serde_json::Map<String, Value>) {
    if !value.is_object() {
        *value = Value::Object(serde_json::Map::new());
    }
    let Value::Object(fields) = value else { return };
    for (name, change) in patch {
        match change {
            Value::Null => {
                fields.remove(name);
            }
            Value::Object(patch) => merge(fields.entry(name).or_insert(Value::Null), patch),
            other => {
                fields.insert(name.clone(), other.clone());
            }
        }
    }
}

/// Writes a value as one YAML document.
pub fn to_yaml(value: &Value) -> String {
    // Serialising a JSON value cannot fail: every key is a string.
    serde_saphyr::to_string(value).unwrap_or_else(|e| format!("# cannot be written: {e}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_the_same_until_the_object_changes() {
        let object = |data: &str| {
            let value =
                json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "x" }, "data": data });
            Object::new(value).unwrap().labelled().stamped()
        };
        let once = object("a");
        assert_eq!(Object::stamp(once.value()).unwrap().len(), 16);
        assert_eq!(once.clone().stamped().value(), once.value());
        assert_ne!(Object::stamp(object("b").value()), Object::stamp(once.value()));
    }

    #[test]
    fn a_patch_changes_the_fields_it_names_and_no_others() {
        let mut value = json!({ "kept": 1, "gone": 2, "deep": { "kept": 3, "new": 4 }, "list": [5, 6] });
        let patch = json!({ "gone": null, "deep": { "new": 7 }, "list": [8], "added": { "a": { "b": 9 } } });
        merge(&mut value, patch.as_object().unwrap());
        let merged =
            json!({ "kept": 1, "deep": { "kept": 3, "new": 7 }, "list": [8], "added": { "a": { "b": 9 } } });
        assert_eq!(value, merged);
    }
}
