//! What kayak applied of an object last, field by field: told by digests that go with it.
//!
//! The API server forgets who owned a field as soon as it is gone, so that its own records
//! (`managedFields`) cannot tell a field that somebody took away from one that kayak never wrote.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::object::{FIELDS, short_digest};

/// Lists whose items are told apart by their names, for server-side apply too.
const NAMED: [&str; 4] = ["containers", "initContainers", "env", "volumes"];
/// Lists that several write to: each item is a field of its own.
const SHARED: [&str; 1] = ["taints"];
const IDENTITY: [&str; 2] = ["apiVersion", "kind"];
/// How many hexadecimal digits tell one field and its value from others.
const DIGITS: usize = 8;

/// The digests of fields with their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied(BTreeSet<String>);

impl Applied {
    /// Takes an object apart that is not stamped.
    pub fn of(wished: &Value) -> Self {
        let mut all = BTreeSet::new();
        each_field("", wished, &mut |path, value| {
            all.insert(digest(path, value));
        });
        Self(all)
    }

    /// Reads those that go with an object in the cluster; knows of nothing if there are none.
    pub fn read(live: &Value) -> Self {
        let annotations = live.pointer("/metadata/annotations");
        let digests = annotations.and_then(|all| all.get(FIELDS)?.as_str()).unwrap_or_default();
        let digests = digests.as_bytes().chunks(DIGITS);
        Self(digests.map(|digest| String::from_utf8_lossy(digest).into_owned()).collect())
    }

    /// Writes them down.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(String::as_str).collect()
    }

    /// Whether kayak applied a field with this value.
    pub fn has(&self, path: &str, value: &Value) -> bool {
        self.0.contains(&digest(path, value))
    }

    /// Whether kayak applied all that is below a path.
    fn has_all(&self, path: &str, value: &Value) -> bool {
        let mut all = true;
        each_field(path, value, &mut |path, value| all &= self.has(path, value));
        all
    }
}

/// Returns the fields of a wished object that kayak applied with the same value before and that are not
/// there any more, outermost ones only. The API server itself may have dropped some, such as empty ones.
pub fn gone(wished: &Value, live: &Value) -> Vec<String> {
    let (applied, mut found) = (Applied::read(live), Vec::new());
    collect_gone("", wished, Some(live), &applied, &mut found);
    found
}

fn collect_gone(
    path: &str,
    wished: &Value,
    live: Option<&Value>,
    applied: &Applied,
    found: &mut Vec<String>,
) {
    if live.is_none() && applied.has_all(path, wished) {
        return found.push(path.to_owned());
    }
    // What has another form there cannot be compared.
    let is_alike =
        |live: &Value| (live.is_object(), live.is_array()) == (wished.is_object(), wished.is_array());
    if live.is_none_or(is_alike) {
        for (path, step, inner) in steps(path, wished) {
            let live = live.and_then(|live| inner_at(live, &step));
            collect_gone(&path, inner, live, applied, found);
        }
    }
}

/// One step into a value.
enum Step<'a> {
    Key(&'a str),
    Named(&'a str),
}

/// What a value holds one step further.
fn inner_at<'a>(value: &'a Value, step: &Step<'_>) -> Option<&'a Value> {
    match step {
        Step::Key(key) => value.get(*key),
        Step::Named(name) => value.as_array()?.iter().find(|item| item["name"] == *name),
    }
}

/// The steps into a value, each with its path and what is there; none into a field of one piece.
fn steps<'a>(path: &str, value: &'a Value) -> Vec<(String, Step<'a>, &'a Value)> {
    match value {
        Value::Object(map) => {
            // Which object it is, is no field.
            let fields = map.iter().filter(|(key, _)| !path.is_empty() || !IDENTITY.contains(&key.as_str()));
            fields.map(|(key, inner)| (format!("{path}.{key}"), Step::Key(key), inner)).collect()
        }
        Value::Array(list) if is_in(path, &NAMED) => {
            let step = |item: &'a Value| {
                let name = item["name"].as_str()?;
                Some((format!("{path}[name={}]", item["name"]), Step::Named(name), item))
            };
            list.iter().map(step).collect::<Option<_>>().unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

fn each_field(path: &str, value: &Value, tell: &mut impl FnMut(&str, &Value)) {
    if let (true, Value::Array(list)) = (is_in(path, &SHARED), value) {
        return list.iter().for_each(|item| tell(path, item));
    }
    let steps = steps(path, value);
    if steps.is_empty() {
        return tell(path, value);
    }
    for (path, _, inner) in steps {
        each_field(&path, inner, tell);
    }
}

fn is_in(path: &str, keys: &[&str]) -> bool {
    keys.iter().any(|key| path.strip_suffix(key).is_some_and(|rest| rest.ends_with('.')))
}

fn digest(path: &str, value: &Value) -> String {
    let mut digest = short_digest(format!("{path}={value}").as_bytes());
    digest.truncate(DIGITS);
    digest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::object::Object;

    fn wished(spec: &Value) -> Object {
        let value = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "x" }, "spec": spec,
        });
        Object::new(value).unwrap().stamped_throughout()
    }

    fn spec() -> Value {
        json!({
            "replicas": 1,
            "strategy": { "type": "x", "rolling": { "surge": 1 } },
            "containers": [
                { "name": "a", "args": ["1"], "ports": [{ "name": "p", "port": 1 }] },
                { "name": "b", "image": "i" },
            ],
        })
    }

    #[test]
    fn what_was_applied_and_is_gone_is_found() {
        let applied = wished(&spec());
        let mut live = applied.value().clone();
        assert_eq!(gone(applied.value(), &live), Vec::<String>::new());
        live["spec"].as_object_mut().unwrap().remove("strategy");
        live["spec"]["containers"][0].as_object_mut().unwrap().remove("args");
        live["spec"]["containers"].as_array_mut().unwrap().remove(1);
        live["spec"]["replicas"] = json!(3);
        let there = [".spec.containers[name=\"a\"].args", ".spec.containers[name=\"b\"]", ".spec.strategy"];
        assert_eq!(gone(applied.value(), &live), there);
        assert!(there.iter().all(|path| crate::fields::at(applied.value(), path).is_some()));
    }

    #[test]
    fn what_kayak_wishes_anew_is_not_what_somebody_took_away() {
        let mut live = wished(&spec()).value().clone();
        live["spec"].as_object_mut().unwrap().remove("strategy");
        live["spec"].as_object_mut().unwrap().remove("replicas");
        let mut new = spec();
        new["replicas"] = json!(2);
        new["strategy"]["rolling"]["unavailable"] = json!(0);
        new["paused"] = json!(false);
        assert_eq!(
            gone(wished(&new).value(), &live),
            [".spec.strategy.rolling.surge", ".spec.strategy.type"]
        );
        // Nobody knows what was applied.
        live["metadata"].as_object_mut().unwrap().remove("annotations");
        assert_eq!(gone(wished(&spec()).value(), &live), Vec::<String>::new());
    }

    #[test]
    fn a_list_without_names_is_one_field_and_a_shared_one_is_many() {
        let of = |items: Value| wished(&json!({ "taints": items, "tolerations": items }));
        let (both, one) = (of(json!([{ "key": "a" }, { "key": "b" }])), of(json!([{ "key": "a" }])));
        let applied = Applied::read(both.value());
        assert!(applied.has(".spec.taints", &json!({ "key": "a" })));
        assert!(!applied.has(".spec.tolerations", &json!({ "key": "a" })));
        assert_eq!(gone(both.value(), one.value()), Vec::<String>::new());
    }
}
