//! Two types whose settings stand in one table.
//!
//! serde's `flatten` would keep values in between without their places, so that a mistake could only be told of the whole
//! table, and take keys that nobody knows.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, SeqAccess, Visitor};

use super::de::{Mistake, Reader, unknown_key};
use super::node::{Entry, Kind, Node};
use std::collections::BTreeMap;

/// How [`OneTable`] asks for itself.
pub(super) const NAME: &str = "runtime::config::OneTable";

/// Two structs read from one table: each takes the keys that it has, and a key that neither has is a mistake. Only
/// [`super::Layers`] can be read into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneTable<A, B>(pub A, pub B);

impl<'de, A: Deserialize<'de>, B: Deserialize<'de>> Deserialize<'de> for OneTable<A, B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple_struct(NAME, 2, Pair(PhantomData))
    }
}

struct Pair<A, B>(PhantomData<(A, B)>);

impl<'de, A: Deserialize<'de>, B: Deserialize<'de>> Visitor<'de> for Pair<A, B> {
    type Value = OneTable<A, B>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut both: S) -> Result<Self::Value, S::Error> {
        let missing = |at| de::Error::invalid_length(at, &"a table that is read twice");
        let a = both.next_element()?.ok_or_else(|| missing(0))?;
        let b = both.next_element()?.ok_or_else(|| missing(1))?;
        Ok(OneTable(a, b))
    }
}

/// Has a table read into both structs.
pub(super) fn read<'de, V: Visitor<'de>>(
    node: &Node,
    entries: &BTreeMap<String, Entry>,
    visitor: V,
) -> Result<V::Value, Mistake> {
    let known = RefCell::new(Vec::new());
    let both = visitor.visit_seq(Twice { node, known: &known, left: 2 })?;
    let known = known.into_inner();
    match entries.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        Some((key, entry)) => Err(Mistake::new(unknown_key(key, &known)).at(&entry.key_origin).under(key)),
        None => Ok(both),
    }
}

/// The same table again and again; collects the keys that the types know.
struct Twice<'a> {
    node: &'a Node,
    known: &'a RefCell<Vec<&'static str>>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Twice<'_> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(Part { node: self.node, known: self.known }).map(Some)
    }
}

/// Reads the part of a table that one struct has the keys of.
struct Part<'a> {
    node: &'a Node,
    known: &'a RefCell<Vec<&'static str>>,
}

impl<'de> Deserializer<'de> for Part<'_> {
    type Error = Mistake;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.known.borrow_mut().extend(fields);
        let Kind::Table(entries) = &self.node.kind else { return self.deserialize_any(visitor) };
        let own = entries.iter().filter(|(key, _)| fields.contains(&key.as_str()));
        let own = Kind::Table(own.map(|(key, entry)| (key.clone(), entry.clone())).collect());
        let node = Node { kind: own, origin: self.node.origin.clone() };
        Reader { node: &node }.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let message = "only a struct knows which keys of a shared table are its own".to_owned();
        drop(visitor);
        Err(Mistake::new(message).at(&self.node.origin))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
