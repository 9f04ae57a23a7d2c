//! Kubernetes objects as kayak renders them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// Writes a value as one YAML document.
pub fn to_yaml(value: &Value) -> String {
    // Serialising a JSON value cannot fail: every key is a string.
    serde_saphyr::to_string(value).unwrap_or_else(|e| format!("# cannot be written: {e}\n"))
}
