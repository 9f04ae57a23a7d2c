//! Reads settings from a document, and knows for each that does not fit where it is.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer as _, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::document::{Node, Value};
use super::path::{Path, Step};

/// What does not fit, and the way to it from the document's root.
#[derive(Debug)]
pub(super) struct Misfit {
    /// The way to it.
    pub(super) path: Path,
    /// What is wrong.
    pub(super) kind: Kind,
}

/// What is wrong with a value.
#[derive(Debug)]
pub(super) enum Kind {
    /// A field that does not exist, and those that do.
    UnknownField(&'static [&'static str]),
    /// A word that is none of these.
    UnknownWord(&'static [&'static str]),
    /// A field that must be there.
    Missing(&'static str),
    /// Anything else.
    Other(String),
}

impl Misfit {
    fn new(kind: Kind) -> Self {
        Self { path: Path::default(), kind }
    }

    /// The field that must be there and is not, if that is what is wrong.
    pub(super) fn missing(&self) -> Option<Path> {
        match self.kind {
            Kind::Missing(field) => Some(self.path.field(field)),
            Kind::UnknownField(_) | Kind::UnknownWord(_) | Kind::Other(_) => None,
        }
    }

    /// Goes one step further from the value, on the way back to the root.
    fn below(mut self, step: Step) -> Self {
        self.path.0.insert(0, step);
        self
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Kind::Other(message.to_string()))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownField(expected))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownWord(expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Kind::Missing(field))
    }
}

impl Value {
    fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Self::Null => Unexpected::Other("nothing"),
            Self::Bool(value) => Unexpected::Bool(*value),
            Self::Number(value) => match value.as_i64() {
                Some(value) => Unexpected::Signed(value),
                None => Unexpected::Float(value.as_f64().unwrap_or(f64::NAN)),
            },
            Self::Text(value) => Unexpected::Str(value),
            Self::List(_) => Unexpected::Other("a list"),
            Self::Fields(_) => Unexpected::Other("a mapping"),
        }
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(value) => {
                value.deserialize_any(visitor).map_err(|error| de::Error::custom(error.to_string()))
            }
            Value::Text(value) => visitor.visit_str(value),
            Value::List(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Value::Fields(fields) => visitor.visit_map(Fields { rest: fields.iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    // A field that is written with nothing behind it is as good as one that is not there.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.value {
            Value::Null => visitor.visit_map(Fields { rest: [].iter(), value: None }),
            Value::Fields(_) => self.deserialize_any(visitor),
            other => Err(de::Error::invalid_type(other.unexpected(), &"a mapping")),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.value {
            Value::Null => visitor.visit_seq(Items([].iter().enumerate())),
            Value::List(_) => self.deserialize_any(visitor),
            other => Err(de::Error::invalid_type(other.unexpected(), &"a list")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.value {
            Value::Text(word) => visitor.visit_enum(Word(word)),
            other => Err(de::Error::invalid_type(other.unexpected(), &"a word")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn is_human_readable(&self) -> bool {
        true
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Items<'de>(std::iter::Enumerate<std::slice::Iter<'de, Node>>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some((index, node)) = self.0.next() else { return Ok(None) };
        seed.deserialize(node).map(Some).map_err(|misfit| misfit.below(Step::Item(index)))
    }
}

struct Fields<'de> {
    rest: std::slice::Iter<'de, (serde_saphyr::Spanned<String>, Node)>,
    value: Option<(&'de str, &'de Node)>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let Some((key, node)) = self.rest.next() else { return Ok(None) };
        self.value = Some((&key.value, node));
        let name: StrDeserializer<'_, Misfit> = key.value.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|misfit| misfit.below(Step::Field(key.value.clone())))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let (name, node) =
            self.value.take().ok_or_else(|| Misfit::new(Kind::Other("a value without a name".into())))?;
        seed.deserialize(node).map_err(|misfit| misfit.below(Step::Field(name.to_owned())))
    }
}

struct Word<'de>(&'de str);

impl<'de> EnumAccess<'de> for Word<'de> {
    type Error = Misfit;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Misfit> {
        let word: StrDeserializer<'_, Misfit> = self.0.into_deserializer();
        Ok((seed.deserialize(word)?, self))
    }
}

/// Words only: no setting is an enum whose variants hold something.
impl<'de> VariantAccess<'de> for Word<'de> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Misfit> {
        seed.deserialize(StrDeserializer::new(self.0))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        Err(de::Error::invalid_type(Unexpected::Str(self.0), &visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        Err(de::Error::invalid_type(Unexpected::Str(self.0), &visitor))
    }
}
