//! Fields of objects: what differs between two forms of one, and what is left when some are taken out.
//!
//! Paths are written as the API server writes them in its conflicts: `.spec.replicas`,
//! `.spec.template.spec.containers[name="etcd"].args`, `.metadata.finalizers[="x"]`. A key may hold dots
//! itself, so that a path can only be read beside the object it is about.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A field that differs. Values are JSON; those of Secrets are not told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which field.
    pub field: String,
    /// What it holds, if it is there.
    pub from: Option<String>,
    /// What it would hold, if it would be there.
    pub to: Option<String>,
}

/// Returns what differs, in the order of the fields' names. `secret` hides the values.
pub fn changes(from: &Value, to: &Value, secret: bool) -> Vec<Change> {
    let mut found = Vec::new();
    compare(String::new(), Some(from), Some(to), &mut found);
    if secret {
        for change in &mut found {
            for value in [&mut change.from, &mut change.to].into_iter().flatten() {
                *value = "(secret)".into();
            }
        }
    }
    found
}

fn compare(path: String, from: Option<&Value>, to: Option<&Value>, found: &mut Vec<Change>) {
    if from == to {
        return;
    }
    match (from, to) {
        (Some(Value::Object(left)), Some(Value::Object(right))) => {
            let mut keys: Vec<_> = left.keys().chain(right.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                compare(format!("{path}.{key}"), left.get(key), right.get(key), found);
            }
        }
        (Some(Value::Array(left)), Some(Value::Array(right))) if is_named(left) && is_named(right) => {
            let mut names: Vec<_> = left.iter().chain(right).filter_map(name).collect();
            names.sort_unstable();
            names.dedup();
            for wanted in names {
                let find = |list: &'_ [Value]| list.iter().position(|item| name(item) == Some(wanted));
                let (l, r) = (find(left).map(|i| &left[i]), find(right).map(|i| &right[i]));
                compare(format!("{path}[name=\"{wanted}\"]"), l, r, found);
            }
        }
        _ => found.push(Change {
            field: path,
            from: from.map(ToString::to_string),
            to: to.map(ToString::to_string),
        }),
    }
}

fn name(item: &Value) -> Option<&str> {
    item.get("name")?.as_str()
}

/// Whether a list's items are told apart by their names.
fn is_named(list: &[Value]) -> bool {
    !list.is_empty() && list.iter().all(|item| name(item).is_some())
}

/// Returns what an object holds at a path.
pub fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return Some(value);
    }
    match value {
        Value::Object(map) => map.iter().find_map(|(key, inner)| at(inner, after_key(path, key)?)),
        Value::Array(list) => {
            let (selector, rest) = selector(path)?;
            at(list.iter().find(|item| selects(&selector, item))?, rest)
        }
        _ => None,
    }
}

/// Takes a field out of an object; says whether it was there.
pub fn remove(value: &mut Value, path: &str) -> bool {
    match value {
        Value::Object(map) => {
            let here = map.keys().find(|key| after_key(path, key) == Some("")).cloned();
            if let Some(key) = here {
                return map.remove(&key).is_some();
            }
            map.iter_mut().any(|(key, inner)| after_key(path, key).is_some_and(|rest| remove(inner, rest)))
        }
        Value::Array(list) => {
            let Some((selector, rest)) = selector(path) else { return false };
            let Some(index) = list.iter().position(|item| selects(&selector, item)) else { return false };
            if rest.is_empty() {
                list.remove(index);
                return true;
            }
            remove(&mut list[index], rest)
        }
        _ => false,
    }
}

/// What follows `.key` in a path that begins with it.
fn after_key<'a>(path: &'a str, key: &str) -> Option<&'a str> {
    let rest = path.strip_prefix('.')?.strip_prefix(key)?;
    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

/// Reads `[name="etcd"]`, `[port=53,protocol="UDP"]` or `[="x"]`: keys (empty for the item itself) with their values.
fn selector(path: &str) -> Option<(Vec<(&str, Value)>, &str)> {
    let mut rest = path.strip_prefix('[')?;
    let mut pairs = Vec::new();
    loop {
        let (key, after) = rest.split_once('=')?;
        let mut values = serde_json::Deserializer::from_str(after).into_iter::<Value>();
        let value = values.next()?.ok()?;
        let after = &after[values.byte_offset()..];
        pairs.push((key, value));
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Some((pairs, after.strip_prefix(']')?)),
        }
    }
}

fn selects(selector: &[(&str, Value)], item: &Value) -> bool {
    selector
        .iter()
        .all(|(key, value)| if key.is_empty() { item == value } else { item.get(key) == Some(value) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment() -> Value {
        json!({
            "metadata": { "labels": { "a.example/b": "x", "a": "y" }, "finalizers": ["one", "two"] },
            "spec": {
                "replicas": 1,
                "containers": [{ "name": "main", "args": ["--a", "--b"] }, { "name": "side" }],
                "ports": [{ "port": 53, "protocol": "UDP" }, { "port": 53, "protocol": "TCP" }],
            },
        })
    }

    #[test]
    fn only_the_innermost_fields_that_differ_are_told() {
        let (old, mut new) = (deployment(), deployment());
        new["spec"]["replicas"] = json!(2);
        new["spec"]["containers"][0]["args"] = json!(["--a"]);
        new["spec"]["containers"].as_array_mut().unwrap().remove(1);
        let found = changes(&old, &new, false);
        let fields: Vec<_> = found.iter().map(|c| c.field.as_str()).collect();
        assert_eq!(
            fields,
            [".spec.containers[name=\"main\"].args", ".spec.containers[name=\"side\"]", ".spec.replicas"]
        );
        assert_eq!(found[2].from.as_deref(), Some("1"));
        assert_eq!(found[1].to, None);
        assert!(changes(&old, &old, false).is_empty());
    }

    #[test]
    fn values_of_secrets_are_not_told() {
        let found = changes(&json!({ "data": { "key": "c2VjcmV0" } }), &json!({ "data": {} }), true);
        assert_eq!(found, [Change { field: ".data.key".into(), from: Some("(secret)".into()), to: None }]);
    }

    #[test]
    fn paths_are_read_as_the_api_server_writes_them() {
        let object = deployment();
        let found = |path| at(&object, path).cloned();
        assert_eq!(found(".metadata.labels.a.example/b"), Some(json!("x")), "a key with a dot in it");
        assert_eq!(found(".spec.containers[name=\"main\"].args"), Some(json!(["--a", "--b"])));
        assert_eq!(found(".spec.ports[port=53,protocol=\"TCP\"].protocol"), Some(json!("TCP")));
        assert_eq!(found(".metadata.finalizers[=\"two\"]"), Some(json!("two")));
        for absent in [".spec.none", ".spec.containers[name=\"none\"]", ".spec.replicas.x", "nonsense", "[]"]
        {
            assert_eq!(found(absent), None, "{absent}");
        }
    }

    #[test]
    fn a_field_is_taken_out_and_nothing_else() {
        let mut object = deployment();
        assert!(remove(&mut object, ".spec.containers[name=\"main\"].args"));
        assert!(remove(&mut object, ".metadata.finalizers[=\"one\"]"));
        assert!(remove(&mut object, ".metadata.labels.a.example/b"));
        assert!(!remove(&mut object, ".spec.none"));
        let fields: Vec<_> = changes(&deployment(), &object, false).into_iter().map(|c| c.field).collect();
        assert_eq!(
            fields,
            [".metadata.finalizers", ".metadata.labels.a.example/b", ".spec.containers[name=\"main\"].args"]
        );
    }
}
