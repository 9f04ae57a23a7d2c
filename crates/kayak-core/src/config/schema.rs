//! The JSON schema of `cluster.yaml`, made of the types' own comments, and what it says of a setting.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Value, json};

use super::Config;
use super::path::{Path, Step};

/// Returns the JSON schema (draft 2020-12).
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(as_it_is_read));
    let mut schema = settings.into_generator().into_root_schema_for::<Config>();
    schema.insert("title".into(), "cluster.yaml of kayak".into());
    schema.to_value()
}

/// Says what the types do not.
fn as_it_is_read(schema: &mut Schema) {
    // Validators know no common format of both families.
    if schema.get("format").is_some_and(|format| format == "ip") {
        schema.insert("anyOf".into(), json!([{ "format": "ipv4" }, { "format": "ipv6" }]));
    }
    // A name with nothing behind it is as good as none, unless something must be there.
    if let Some(Value::String(kind)) = schema.get("type")
        && matches!(kind.as_str(), "object" | "array")
        && schema.get("required").is_none()
    {
        let kinds = json!([kind, "null"]);
        schema.insert("type".into(), kinds);
    }
}

/// What a value is written like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A mapping with settings of its own.
    Group,
    /// A mapping of any names.
    Mapping,
    /// A list.
    List,
    /// One of a few words.
    Word,
    /// `true` or `false`.
    Switch,
    /// A number.
    Number,
    /// A text.
    Text,
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

    /// The settings below this one by name, mandatory ones first and groups last.
    pub(super) fn fields(self) -> Vec<(&'a str, Self)> {
        let properties = self.target().get("properties").and_then(Value::as_object);
        let part = |(name, here): (&'a String, &'a Value)| (name.as_str(), Self { here, ..self });
        let mut fields: Vec<_> = properties.into_iter().flatten().map(part).collect();
        fields.sort_by_key(|(name, field)| (field.group().is_some(), !self.requires(name)));
        fields
    }

    /// The group that it is, or that each item of it is.
    pub(super) fn group(self) -> Option<Self> {
        let item = || self.item().filter(|item| item.kind() == Kind::Group);
        if self.kind() == Kind::Group { Some(self) } else { item() }
    }

    /// What a value is written like.
    pub(super) fn kind(self) -> Kind {
        let target = self.target();
        let is_type = |name| match target.get("type") {
            Some(Value::String(one)) => one == name,
            Some(Value::Array(several)) => several.iter().any(|one| one == name),
            _ => false,
        };
        if target.get("properties").is_some() {
            Kind::Group
        } else if target.get("enum").is_some() || target.get("oneOf").is_some() {
            Kind::Word
        } else if is_type("array") {
            Kind::List
        } else if is_type("object") {
            Kind::Mapping
        } else if is_type("boolean") && !is_type("string") {
            Kind::Switch
        } else if is_type("integer") || (is_type("number") && !is_type("string")) {
            Kind::Number
        } else {
            Kind::Text
        }
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

    /// What is said of each value, if it is a mapping of any names.
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

    /// Whether it may be left empty, as nothing.
    pub(super) fn is_optional(self) -> bool {
        let is_null = |schema: &Value| schema.get("type").is_some_and(|kind| kind == "null");
        self.here.get("anyOf").and_then(Value::as_array).is_some_and(|choices| choices.iter().any(is_null))
    }

    /// How it may look.
    pub(super) fn example(self) -> Option<&'a Value> {
        let first = |schema: &'a Value| schema.get("examples").and_then(|examples| examples.get(0));
        first(self.here).or_else(|| first(self.target()))
    }

    /// Whether nothing is said of it.
    pub(super) fn is_anything(self) -> bool {
        *self.here == Value::Bool(true)
    }

    /// Whether it is a range of addresses.
    pub(super) fn is_range(self) -> bool {
        self.target().get("pattern").is_some_and(|pattern| pattern == super::ranges::RANGE)
    }

    /// What the texts that it may be have in common, if they have a name.
    pub(super) fn format(self) -> Option<&'a str> {
        self.target().get("format").and_then(Value::as_str)
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
