//! A YAML document in which every value knows its place.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{Location, MessageFormatter as _, Spanned};

use super::finding::{Finding, Place};
use super::path::Step;

/// A value and where it begins.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The value.
    pub(super) value: Value,
    /// Where it is.
    pub(super) at: Location,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Names, where they are, and their values.
    Fields(Vec<(Spanned<String>, Node)>),
}

/// Reads a document; without one, it is an empty mapping.
pub(super) fn parse(text: &str) -> Result<Node, Finding> {
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(blank) {
        return Ok(Node { value: Value::Fields(Vec::new()), at: Location::UNKNOWN });
    }
    serde_saphyr::from_str::<Spanned<Value>>(text).map(Node::from).map_err(|error| {
        let error = error.without_snippet();
        let place = error.location().and_then(|at| place(text, at));
        // The place is told apart from the message.
        let message = serde_saphyr::UserMessageFormatter.format_message(error).into_owned();
        Finding { place, ..Finding::new("", message) }
    })
}

/// Returns the place of a location in the text it came from.
pub(super) fn place(text: &str, at: Location) -> Option<Place> {
    let (line, column) = (usize::try_from(at.line()).ok()?, usize::try_from(at.column()).ok()?);
    let whole = text.lines().nth(line.checked_sub(1)?)?;
    let rest = whole.chars().count().saturating_sub(column.checked_sub(1)?);
    // A value of several lines is pointed to at its first.
    let length = usize::try_from(at.span().len()).unwrap_or(1).clamp(1, rest.max(1));
    Some(Place { line, column, length, text: whole.to_owned() })
}

impl Node {
    /// Finds where a path leads to: a value, or the name of a field that holds several.
    pub(super) fn find(&self, path: &[Step]) -> Option<Location> {
        let Some((first, rest)) = path.split_first() else { return Some(self.at) };
        match (first, &self.value) {
            (Step::Field(name), Value::Fields(fields)) => {
                let (key, node) = fields.iter().find(|(key, _)| key.value == *name)?;
                if rest.is_empty() && !node.is_scalar() { Some(key.referenced) } else { node.find(rest) }
            }
            (Step::Item(index), Value::List(items)) => items.get(*index)?.find(rest),
            _ => None,
        }
    }

    /// Finds the name of the field that a path leads to.
    pub(super) fn find_name(&self, path: &[Step]) -> Option<Location> {
        let (last, outer) = path.split_last()?;
        match (last, &self.get(outer)?.value) {
            (Step::Field(name), Value::Fields(fields)) => {
                fields.iter().find(|(key, _)| key.value == *name).map(|(key, _)| key.referenced)
            }
            _ => None,
        }
    }

    /// Finds the value that a path leads to.
    pub(super) fn get(&self, path: &[Step]) -> Option<&Self> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        let inner = match (first, &self.value) {
            (Step::Field(name), Value::Fields(fields)) => {
                fields.iter().find(|(key, _)| key.value == *name).map(|(_, node)| node)
            }
            (Step::Item(index), Value::List(items)) => items.get(*index),
            _ => None,
        };
        inner?.get(rest)
    }

    /// Whether it is a single word, text or number.
    pub(super) fn is_scalar(&self) -> bool {
        matches!(self.value, Value::Bool(_) | Value::Number(_) | Value::Text(_))
    }

    /// Takes out what a path leads to, so that the rest can be read.
    pub(super) fn remove(&mut self, path: &[Step]) {
        let Some((first, rest)) = path.split_first() else {
            self.value = Value::Fields(Vec::new());
            return;
        };
        match (first, &mut self.value) {
            (Step::Field(name), Value::Fields(fields)) if rest.is_empty() => {
                fields.retain(|(key, _)| key.value != *name);
            }
            (Step::Field(name), Value::Fields(fields)) => {
                if let Some((_, node)) = fields.iter_mut().find(|(key, _)| key.value == *name) {
                    node.remove(rest);
                }
            }
            (Step::Item(index), Value::List(items)) if rest.is_empty() && *index < items.len() => {
                items.remove(*index);
            }
            (Step::Item(index), Value::List(items)) => {
                if let Some(node) = items.get_mut(*index) {
                    node.remove(rest);
                }
            }
            _ => {}
        }
    }
}

impl From<Spanned<Value>> for Node {
    fn from(spanned: Spanned<Value>) -> Self {
        Self { at: spanned.referenced, value: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of YAML")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value);
        number.map(Value::Number).ok_or_else(|| E::custom("a number that is infinite or none"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(item.into());
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Value>>()? {
            fields.push((key, value.into()));
        }
        Ok(Value::Fields(fields))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
            Self::List(_) => f.write_str("a list"),
            Self::Fields(_) => f.write_str("a mapping"),
        }
    }
}
