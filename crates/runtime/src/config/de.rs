//! Reading the tree into a type, with every mistake traced to its place.

use std::collections::btree_map;
use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::ConfigError;
use super::node::{Entry, Kind, Node, Origin, parse_value};
use super::one_table;

pub(super) fn read<T: DeserializeOwned>(root: &Node) -> Result<T, ConfigError> {
    T::deserialize(Reader { node: root }).map_err(|mistake| mistake.at(&root.origin).into())
}

/// A mistake on its way up: the innermost value that was being read gives the place, each table on the way its key.
#[derive(Debug)]
pub(super) struct Mistake {
    message: String,
    origin: Option<Origin>,
    /// Keys from the inside out.
    keys: Vec<String>,
}

impl Mistake {
    pub(super) fn new(message: String) -> Self {
        Self { message, origin: None, keys: Vec::new() }
    }

    pub(super) fn at(mut self, origin: &Origin) -> Self {
        self.origin.get_or_insert_with(|| origin.clone());
        self
    }

    pub(super) fn under(mut self, key: &str) -> Self {
        self.keys.push(key.to_owned());
        self
    }
}

impl From<Mistake> for ConfigError {
    fn from(mistake: Mistake) -> Self {
        let keys: Vec<&str> = mistake.keys.iter().rev().map(String::as_str).collect();
        let origin = mistake.origin.unwrap_or_else(|| Origin::named("configuration"));
        origin.wrong(&keys.join("."), mistake.message)
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mistake {}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("key {field} is missing"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(unknown_key(field, expected))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("{variant:?} is not one of {}", expected.join(", ")))
    }
}

pub(super) fn unknown_key(key: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|name| (distance(key, name), *name)).min();
    match nearest {
        // Farther than this it is no slip of the finger, and the whole list helps more.
        Some((distance, name)) if distance <= 1 + name.len() / 3 => {
            format!("unknown key; did you mean {name}?")
        }
        _ => format!("unknown key; known here are {}", known.join(", ")),
    }
}

/// Levenshtein distance, by the usual two rows (Wagner and Fischer 1974).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replace = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) node: &'a Node,
}

impl Reader<'_> {
    fn placed<T>(self, result: Result<T, Mistake>) -> Result<T, Mistake> {
        result.map_err(|mistake| mistake.at(&self.node.origin))
    }

    /// Text without a type, read as TOML, which has types.
    fn typed<'de, V: Visitor<'de>>(self, text: &str, visitor: V) -> Result<V::Value, Mistake> {
        let node = parse_value(text, &self.node.origin).map_err(|_| Mistake::new(not_a(text, &visitor)));
        let node = self.placed(node)?;
        self.placed(de::Deserializer::deserialize_any(Reader { node: &node }, visitor))
    }
}

fn not_a<'de, V: Visitor<'de>>(text: &str, visitor: &V) -> String {
    struct Expected<'a, V>(&'a V);
    impl<'de, V: Visitor<'de>> fmt::Display for Expected<'_, V> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.expecting(f)
        }
    }
    format!("{text:?} is not {}", Expected(visitor))
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let result = match &self.node.kind {
            Kind::String(text) => visitor.visit_str(text),
            Kind::Boolean(value) => visitor.visit_bool(*value),
            Kind::Float(value) => visitor.visit_f64(*value),
            Kind::Integer(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_i64(value),
                (_, Ok(value)) => visitor.visit_u64(value),
                _ => Err(Mistake::new(format!("{value} does not fit into 64 bits"))),
            },
            Kind::Array(items) => visitor.visit_seq(Items { rest: items.iter().enumerate() }),
            Kind::Table(entries) => visitor.visit_map(Entries { rest: entries.iter(), value: None }),
            Kind::Untyped(text) => match parse_value(text, &self.node.origin) {
                Ok(node) => return self.placed(Reader { node: &node }.deserialize_any(visitor)),
                Err(_) => visitor.visit_str(text),
            },
        };
        self.placed(result)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.kind {
            Kind::Untyped(text) => self.placed(visitor.visit_str(text)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_string(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        if let Kind::Untyped(text) = &self.node.kind {
            return self.typed(text, visitor);
        }
        if let Kind::Table(entries) = &self.node.kind {
            let unknown = entries.iter().find(|(key, _)| !fields.contains(&key.as_str()));
            if let Some((key, entry)) = unknown {
                return Err(Mistake::new(unknown_key(key, fields)).at(&entry.key_origin).under(key));
            }
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        // What is not configured is absent; there is no null in TOML.
        self.placed(visitor.visit_some(self))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.placed(visitor.visit_newtype_struct(self))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let result = match &self.node.kind {
            Kind::String(text) | Kind::Untyped(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            Kind::Table(entries) if entries.len() == 1 => {
                visitor.visit_enum(Variant { entry: entries.iter().next() })
            }
            _ => Err(Mistake::new("expected a name, or a table with one key".to_owned())),
        };
        self.placed(result)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.kind {
            Kind::Untyped(text) => self.typed(text, visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match &self.node.kind {
            Kind::Table(entries) if name == one_table::NAME => {
                self.placed(one_table::read(self.node, entries, visitor))
            }
            _ => self.deserialize_seq(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple map identifier ignored_any
    }
}

struct Items<'a> {
    rest: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        let Some((index, node)) = self.rest.next() else { return Ok(None) };
        seed.deserialize(Reader { node }).map(Some).map_err(|mistake| mistake.under(&index.to_string()))
    }
}

struct Entries<'a> {
    rest: btree_map::Iter<'a, String, Entry>,
    value: Option<(&'a String, &'a Entry)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mistake> {
        self.value = self.rest.next();
        let Some((key, entry)) = self.value else { return Ok(None) };
        let key_node = Node { kind: Kind::Untyped(key.clone()), origin: entry.key_origin.clone() };
        // Keys of maps may be numbers (a vendor, a campaign), and TOML writes them as text like any other key.
        seed.deserialize(KeyReader { node: &key_node })
            .map(Some)
            .map_err(|mistake| mistake.at(&entry.key_origin).under(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mistake> {
        let Some((key, entry)) = self.value.take() else {
            return Err(Mistake::new("a value was asked for before its key".to_owned()));
        };
        seed.deserialize(Reader { node: &entry.value }).map_err(|mistake| mistake.under(key))
    }
}

/// Reads a key: text, unless the type asks for a number.
struct KeyReader<'a> {
    node: &'a Node,
}

macro_rules! numeric_keys {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
            Reader { node: self.node }.$method(visitor)
        })*
    };
}

impl<'de> de::Deserializer<'de> for KeyReader<'_> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        Reader { node: self.node }.deserialize_str(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        Reader { node: self.node }.deserialize_enum(name, variants, visitor)
    }

    numeric_keys! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_bool
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple tuple_struct map
        struct identifier ignored_any
    }
}

/// An enum written as `{ variant = content }`.
struct Variant<'a> {
    entry: Option<(&'a String, &'a Entry)>,
}

impl<'a, 'de> EnumAccess<'de> for Variant<'a> {
    type Error = Mistake;
    type Variant = Content<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content<'a>), Mistake> {
        let Some((key, entry)) = self.entry else {
            return Err(Mistake::new("expected a table with one key".to_owned()));
        };
        let name: StringDeserializer<Mistake> = key.clone().into_deserializer();
        let variant = seed.deserialize(name).map_err(|mistake| mistake.at(&entry.key_origin).under(key))?;
        Ok((variant, Content { reader: Reader { node: &entry.value } }))
    }
}

struct Content<'a> {
    reader: Reader<'a>,
}

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Mistake;

    fn unit_variant(self) -> Result<(), Mistake> {
        de::Deserialize::deserialize(self.reader)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Mistake> {
        seed.deserialize(self.reader)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Mistake> {
        de::Deserializer::deserialize_seq(self.reader, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        de::Deserializer::deserialize_struct(self.reader, "", fields, visitor)
    }
}
