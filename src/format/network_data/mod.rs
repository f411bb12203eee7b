//! What does OpenStack's network_data.json say? A push reader over the JSON tokenizer, in constant memory.
//!
//! Format: nova `virt/netutils.py` and `doc/api_schemas/network_data.json`; what it means is cloud-init's
//! `sources/helpers/openstack.py` (`convert_net_json`). `links` and `networks` may come in any order, and so may the
//! keys of each. What cannot be used is left out alone and noted; only a document that is no JSON, or larger than we
//! hold, is refused whole.

mod build;
mod keys;
#[cfg(test)]
pub(crate) mod tests;

use super::json::{self, DEPTH, Event, Sink, Tokenizer};
use crate::error::{Error, Result, Rule};
use crate::facts::network::Network;
use crate::limits;
use build::Building;
use keys::{Field, KEY, Place, field_of};

const WHAT: &str = "network_data.json";
const JSON_RULES: &[&Rule] = json::rules_of!(WHAT, "error parsing network_data.json: ");
/// Longest value that says something; ids may be longer.
const TEXT: usize = 256;
const NOTES: usize = 8;

/// What was left out of a document, or taken for something else, and why. The number of each is that of the link or
/// network it stands in, from 1.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Notes {
    /// The first of them.
    pub first: heapless::Vec<Error, NOTES>,
    /// How many more there are.
    pub more: u32,
}

impl Notes {
    fn add(&mut self, note: Error) {
        if self.first.push(note).is_err() {
            self.more = self.more.saturating_add(1);
        }
    }
}

/// Reads one document into a [`Network`].
pub struct NetworkDataReader {
    tokenizer: Tokenizer,
    content: Content,
    failed: Option<Error>,
}

/// Where in the document we are, and what of it is known.
struct Content {
    places: heapless::Vec<Place, DEPTH>,
    key: heapless::Vec<u8, KEY>,
    /// The key is longer than any we look for.
    is_other_key: bool,
    /// What the value that follows is.
    field: Field,
    text: heapless::Vec<u8, TEXT>,
    is_long: bool,
    /// FNV-1a of the text: ids are compared by it. Two that are alike by chance are two in 2^64.
    hash: u64,
    building: Building,
}

impl NetworkDataReader {
    /// Nothing read yet.
    #[must_use]
    pub const fn new() -> Self {
        let content = Content {
            places: heapless::Vec::new(),
            key: heapless::Vec::new(),
            is_other_key: false,
            field: Field::Other,
            text: heapless::Vec::new(),
            is_long: false,
            hash: FNV_BASIS,
            building: Building::new(),
        };
        Self { tokenizer: Tokenizer::new(), content, failed: None }
    }

    /// Reads the next bytes. `network` is the same at each call, empty at the first, and whole after [`finish`](Self::finish).
    ///
    /// # Errors
    /// `Malformed` where it is no JSON, `TooMany`; the reader says the same from then on, and `network` is empty.
    pub fn push(&mut self, bytes: &[u8], network: &mut Network) -> Result<()> {
        let mut sink = Into { content: &mut self.content, network };
        let result = match self.failed {
            Some(error) => Err(error),
            None => self.tokenizer.push(bytes, &mut sink),
        };
        self.judge(result, network)
    }

    /// The document ends. Returns what was left out.
    ///
    /// # Errors
    /// As [`push`](Self::push); `Malformed` when it is cut short, or refers to itself in a circle.
    pub fn finish(&mut self, network: &mut Network) -> Result<Notes> {
        let mut sink = Into { content: &mut self.content, network };
        let result = match self.failed {
            Some(error) => Err(error),
            None => self.tokenizer.finish(&mut sink),
        };
        let result = result.and_then(|()| self.content.building.finish(network));
        self.judge(result, network)?;
        Ok(core::mem::take(&mut self.content.building.notes))
    }

    fn judge(&mut self, result: Result<()>, network: &mut Network) -> Result<()> {
        let result = result.map_err(|error| error.told_by(JSON_RULES));
        if result.is_err() {
            network.clear();
        }
        self.failed = result.err();
        result
    }
}

impl Default for NetworkDataReader {
    fn default() -> Self {
        Self::new()
    }
}

/// http://www.isthe.com/chongo/tech/comp/fnv/
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

struct Into<'c, 'n> {
    content: &'c mut Content,
    network: &'n mut Network,
}

impl Sink for Into<'_, '_> {
    fn event(&mut self, event: Event<'_>) -> Result<()> {
        let content = &mut *self.content;
        match event {
            Event::ObjectStart => content.open(true),
            Event::ArrayStart => content.open(false),
            Event::ObjectEnd | Event::ArrayEnd => return content.close(self.network),
            Event::KeyPart(part) => content.is_other_key |= content.key.extend_from_slice(part).is_err(),
            Event::Key => content.end_key(),
            Event::StringPart(part) | Event::NumberPart(part) => content.part(part),
            Event::Bool(value) => {
                content.part(if value { b"true" } else { b"false" });
                return content.value(self.network);
            }
            Event::String | Event::Number => return content.value(self.network),
            Event::Null => content.field = Field::Other,
        }
        Ok(())
    }
}

impl Content {
    fn place(&self) -> Place {
        self.places.last().copied().unwrap_or(Place::Document)
    }

    fn open(&mut self, is_object: bool) {
        let field = core::mem::replace(&mut self.field, Field::Other);
        let place = self.place().inner(field, is_object);
        self.building.open(place);
        // The tokenizer opens no more than fit.
        let _ = self.places.push(place);
    }

    fn close(&mut self, network: &mut Network) -> Result<()> {
        let place = self.places.pop().unwrap_or(Place::Other);
        self.field = Field::Other;
        self.building.close(place, network)
    }

    fn end_key(&mut self) {
        let is_other = core::mem::take(&mut self.is_other_key);
        let key = core::str::from_utf8(&self.key).ok().filter(|_| !is_other);
        self.field = key.map_or(Field::Other, |key| field_of(self.place(), key));
        if self.field == Field::BondParameter {
            self.building.bond_key.clone_from(&self.key);
        }
        self.key.clear();
    }

    fn part(&mut self, part: &[u8]) {
        for byte in part {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
        self.is_long |= self.text.extend_from_slice(part).is_err();
    }

    /// A string, number or truth is whole: of a key, or of a list that a key has.
    fn value(&mut self, network: &mut Network) -> Result<()> {
        let field = match self.place() {
            Place::List(field) => field,
            _ => self.field,
        };
        let text = core::str::from_utf8(&self.text).ok().filter(|_| !self.is_long).map(str::trim_ascii);
        let result = self.building.value(field, text, self.hash, network);
        (self.field, self.is_long, self.hash) = (Field::Other, false, FNV_BASIS);
        self.text.clear();
        result
    }
}

/// The longest document anybody reads: callers stop there.
pub const MOST_BYTES: u64 = limits::NETWORK_DOCUMENT;
