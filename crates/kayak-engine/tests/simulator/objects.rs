//! Objects as an API server keeps them: flat, each field with the managers that own it, so that
//! server-side apply is a few rules on a map.

use std::collections::{BTreeMap, BTreeSet};

use kayak_core::object::{ObjectId, short_digest};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

/// Where the API serves an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) api_version: String,
    pub(crate) plural: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn of(id: &ObjectId) -> Self {
        let (group, version) = id.api_version.split_once('/').unwrap_or(("", &id.api_version));
        let plural = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &id.kind)).plural;
        let ObjectId { api_version, namespace, name, .. } = id.clone();
        Self { api_version, plural, namespace, name }
    }
}

/// One step on the way to a field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Key(String),
    /// The item of a list whose items are told apart by their names.
    Named(String),
}

/// The way to a field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path(Vec<Step>);

impl Path {
    /// A field below keys alone.
    pub(crate) fn keys(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Step::Key((*key).into())).collect())
    }

    /// What says which object it is: nobody owns that.
    fn is_identity(&self) -> bool {
        match self.0.as_slice() {
            [Step::Key(key)] => key == "apiVersion" || key == "kind",
            [Step::Key(outer), Step::Key(key)] => {
                outer == "metadata" && (key == "name" || key == "namespace")
            }
            _ => false,
        }
    }
}

/// As the API server writes it in conflicts.
impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|step| match step {
            Step::Key(key) => write!(f, ".{key}"),
            Step::Named(name) => write!(f, "[name={}]", json!(name)),
        })
    }
}

/// Takes a value apart.
pub(crate) fn fields_of(value: &Value) -> BTreeMap<Path, Value> {
    let mut fields = BTreeMap::new();
    take_apart(&mut Vec::new(), value, &mut fields);
    fields
}

fn take_apart(path: &mut Vec<Step>, value: &Value, fields: &mut BTreeMap<Path, Value>) {
    let name = |item: &Value| item.get("name").and_then(Value::as_str).map(str::to_owned);
    let inner: Vec<(Step, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, inner)| (Step::Key(key.clone()), inner)).collect(),
        Value::Array(list) => {
            let named = list.iter().map(|item| Some((Step::Named(name(item)?), item)));
            named.collect::<Option<_>>().unwrap_or_default()
        }
        _ => Vec::new(),
    };
    if inner.is_empty() {
        fields.insert(Path(path.clone()), value.clone());
    }
    for (step, inner) in inner {
        path.push(step);
        take_apart(path, inner, fields);
        path.pop();
    }
}

fn put(value: &mut Value, path: &[Step], leaf: &Value) {
    let (inner, rest) = match path {
        [] => return *value = leaf.clone(),
        [Step::Key(key), rest @ ..] => (&mut value[key.as_str()], rest),
        [Step::Named(name), rest @ ..] => {
            if !value.is_array() {
                *value = json!([]);
            }
            let list = value.as_array_mut().unwrap();
            let index = list.iter().position(|item| item["name"] == json!(name)).unwrap_or_else(|| {
                list.push(json!({ "name": name }));
                list.len() - 1
            });
            (&mut list[index], rest)
        }
    };
    put(inner, rest, leaf);
}

#[derive(Debug, Clone)]
struct Field {
    value: Value,
    owners: BTreeSet<String>,
}

/// An object in etcd.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    fields: BTreeMap<Path, Field>,
    /// The fields put together.
    whole: Value,
    /// Which pod template it has, for a workload.
    form: String,
    status: Value,
    version: u64,
    generation: u64,
}

/// A field that another manager owns and has set otherwise.
pub(crate) struct Conflict {
    pub(crate) field: String,
    pub(crate) manager: String,
}

impl Stored {
    /// An object with nothing but its name.
    pub(crate) fn new(id: &ObjectId) -> Self {
        let mut identity =
            json!({ "apiVersion": id.api_version, "kind": id.kind, "metadata": { "name": id.name } });
        if let Some(namespace) = &id.namespace {
            identity["metadata"]["namespace"] = json!(namespace);
        }
        let field = |(path, value)| (path, Field { value, owners: BTreeSet::new() });
        let fields = fields_of(&identity).into_iter().map(field).collect();
        Self { fields, whole: identity, form: String::new(), status: Value::Null, version: 0, generation: 0 }
    }

    /// Applies server-side: `manager` owns what it wishes, and takes back what it no longer does.
    pub(crate) fn apply(&mut self, manager: &str, wished: &Value, force: bool) -> Result<(), Vec<Conflict>> {
        let mut wished = fields_of(wished);
        wished.retain(|path, _| !path.is_identity());
        let conflicts: Vec<_> = wished
            .iter()
            .filter_map(|(path, value)| {
                let field = self.fields.get(path).filter(|field| field.value != *value)?;
                let other = field.owners.iter().find(|owner| *owner != manager)?;
                Some(Conflict { field: path.to_string(), manager: other.clone() })
            })
            .collect();
        if !conflicts.is_empty() && !force {
            return Err(conflicts);
        }
        self.fields.retain(|path, field| {
            let given_up = !wished.contains_key(path) && field.owners.remove(manager);
            !(given_up && field.owners.is_empty())
        });
        for (path, value) in wished {
            self.own(manager, path, value);
        }
        self.put_together();
        Ok(())
    }

    /// Sets one field as an update does; `None` takes it away. Whoever updates takes it over.
    pub(crate) fn update(&mut self, manager: &str, path: Path, value: Option<Value>) {
        if self.field(&path) == value.as_ref() {
            return;
        }
        match value {
            Some(value) => self.own(manager, path, value),
            None => drop(self.fields.remove(&path)),
        }
        self.put_together();
    }

    /// Sets what only controllers write.
    pub(crate) fn set_status(&mut self, status: Value) {
        self.status = status;
    }

    fn own(&mut self, manager: &str, path: Path, value: Value) {
        match self.fields.get_mut(&path).filter(|field| field.value == value) {
            Some(field) => drop(field.owners.insert(manager.into())),
            None => {
                self.fields.insert(path, Field { value, owners: BTreeSet::from([manager.into()]) });
            }
        }
    }

    fn put_together(&mut self) {
        let mut whole = Value::Null;
        for (path, field) in &self.fields {
            put(&mut whole, &path.0, &field.value);
        }
        if whole["spec"] != self.whole["spec"] {
            self.generation += 1;
            self.form = short_digest(whole["spec"]["template"].to_string().as_bytes());
        }
        self.whole = whole;
    }

    /// What one field holds.
    pub(crate) fn field(&self, path: &Path) -> Option<&Value> {
        self.fields.get(path).map(|field| &field.value)
    }

    /// What a manager owns.
    pub(crate) fn owned_by(&self, manager: &str) -> BTreeMap<Path, Value> {
        let owned = self.fields.iter().filter(|(_, field)| field.owners.contains(manager));
        owned.map(|(path, field)| (path.clone(), field.value.clone())).collect()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn form(&self) -> &str {
        &self.form
    }

    /// The object as it was written, without what the server adds.
    pub(crate) fn whole(&self) -> &Value {
        &self.whole
    }

    /// The object as it is served.
    pub(crate) fn value(&self) -> Value {
        let mut value = self.whole.clone();
        value["metadata"]["resourceVersion"] = json!(self.version.to_string());
        value["metadata"]["generation"] = json!(self.generation);
        if !self.status.is_null() {
            value["status"] = self.status.clone();
        }
        value
    }
}

/// What is in etcd.
#[derive(Debug, Clone, Default)]
pub(crate) struct Etcd {
    pub(crate) objects: BTreeMap<Key, Stored>,
    /// Objects that were deleted, as they were served last.
    deleted: BTreeMap<Key, (u64, Value)>,
    pub(crate) version: u64,
}

impl Etcd {
    /// Changes an object, making it first if it is not there; what stays the same is not written.
    pub(crate) fn change(&mut self, id: &ObjectId, change: impl FnOnce(&mut Stored)) {
        let stored = self.objects.entry(Key::of(id)).or_insert_with(|| Stored::new(id));
        let (whole, status) = (stored.whole.clone(), stored.status.clone());
        change(stored);
        if stored.version == 0 || stored.whole != whole || stored.status != status {
            self.version += 1;
            stored.version = self.version;
        }
    }

    /// Deletes an object; says whether it was there.
    pub(crate) fn delete(&mut self, key: &Key) -> bool {
        let Some(mut stored) = self.objects.remove(key) else { return false };
        self.version += 1;
        stored.version = self.version;
        self.deleted.insert(key.clone(), (self.version, stored.value()));
        true
    }

    /// What happened to an object after a version, as a watch tells it.
    pub(crate) fn event_since(&self, key: &Key, version: u64) -> Option<Value> {
        if let Some(stored) = self.objects.get(key) {
            return (stored.version > version)
                .then(|| json!({ "type": "MODIFIED", "object": stored.value() }));
        }
        let (at, last) = self.deleted.get(key)?;
        (*at > version).then(|| json!({ "type": "DELETED", "object": last }))
    }
}
