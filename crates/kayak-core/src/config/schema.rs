//! The JSON schema of `cluster.yaml`, made of the types' own comments, and what it says of a setting.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Config;
use super::path::{Path, Step};

/// Returns the JSON schema (draft 2020-12).
pub fn schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>();
    schema.insert("title".into(), "cluster.yaml of kayak".into());
    schema.to_value()
}

/// What the schema says, and how to go on in it.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    root: &'a Value,
    here: &'a Value,
}

impl<'a> Part<'a> {
    /// The whole schema.
    pub(super) fn root(schema: &'a Value) -> Self {
        Self { root: schema, here: schema }
    }

    /// Finds what is said of a setting.
    pub(super) fn find(self, path: &Path) -> Option<Self> {
        path.0.iter().try_fold(self, |part, step| match step {
            Step::Field(name) => part.field(name),
            Step::Item(_) => part.item(),
        })
    }

    /// The settings below this one, in the order of the type.
    pub(super) fn fields(self) -> Vec<(&'a str, Self)> {
        let properties = self.target().get("properties").and_then(Value::as_object);
        let part = |(name, here): (&'a String, &'a Value)| (name.as_str(), Self { here, ..self });
        properties.into_iter().flatten().map(part).collect()
    }

    fn field(self, name: &str) -> Option<Self> {
        let target = self.target();
        let any = || target.get("additionalProperties").filter(|schema| schema.is_object());
        let here = target.get("properties").and_then(|fields| fields.get(name)).or_else(any)?;
        Some(Self { here, ..self })
    }

    /// What is said of each item of a list.
    pub(super) fn item(self) -> Option<Self> {
        Some(Self { here: self.target().get("items")?, ..self })
    }

    /// Says whether it is a mapping of any names, and what is said of each value.
    pub(super) fn entry(self) -> Option<Self> {
        let here =
            self.target().get("additionalProperties").filter(|schema| **schema != Value::Bool(false))?;
        Some(Self { here, ..self })
    }

    /// What it is for.
    pub(super) fn description(self) -> &'a str {
        let text = |schema: &'a Value| schema.get("description").and_then(Value::as_str);
        text(self.here).or_else(|| text(self.target())).unwrap_or_default()
    }

    /// What holds where nothing is written.
    pub(super) fn default(self) -> Option<&'a Value> {
        self.here.get("default")
    }

    /// Whether it must be written.
    pub(super) fn requires(self, field: &str) -> bool {
        let required = self.target().get("required").and_then(Value::as_array);
        required.is_some_and(|names| names.iter().any(|name| name == field))
    }

    /// The words it may be, each with what it means.
    pub(super) fn words(self) -> Vec<(&'a str, &'a str)> {
        let target = self.target();
        let plain = target.get("enum").and_then(Value::as_array).into_iter().flatten();
        let explained = target.get("oneOf").and_then(Value::as_array).into_iter().flatten();
        let text = |value: &'a Value, key: &str| value.get(key).and_then(Value::as_str);
        let explained = explained
            .filter_map(|one| Some((text(one, "const")?, text(one, "description").unwrap_or_default())));
        plain.filter_map(|word| Some((word.as_str()?, ""))).chain(explained).collect()
    }

    /// The name of its type in the schema's own list, if it has one.
    pub(super) fn type_name(self) -> Option<&'a str> {
        self.reference().and_then(|reference| reference.strip_prefix("#/$defs/"))
    }

    /// The types of JSON that it may have.
    pub(super) fn json_types(self) -> Vec<&'a str> {
        match self.target().get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    fn reference(self) -> Option<&'a str> {
        let reference = |schema: &'a Value| schema.get("$ref").and_then(Value::as_str);
        let one_of = || self.here.get("anyOf").and_then(Value::as_array)?.iter().find_map(reference);
        reference(self.here).or_else(one_of)
    }

    /// The schema itself, behind a reference; an optional one is a choice between it and nothing.
    fn target(self) -> &'a Value {
        let at = |reference: &'a str| self.root.pointer(reference.strip_prefix('#')?);
        self.reference().and_then(at).unwrap_or(self.here)
    }
}
