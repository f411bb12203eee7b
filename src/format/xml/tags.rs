//! Start tags with their attributes, and end tags: the names in them, and what their prefixes mean.

use super::names::{NAME_TOO_LONG, split};
use super::{ATTRIBUTES, Namespace, Sink, State, Tokenizer, WHAT, is_name, is_name_start, is_space};
use crate::error::Result;

impl Tokenizer {
    pub(super) fn start_tag(&mut self, byte: u8) -> Result<()> {
        if self.has_root && self.scopes.depth() == 0 {
            return self.bad(malformed!(WHAT, "second root element"));
        }
        self.has_root = true;
        self.attributes.clear();
        self.name.clear();
        self.state = State::OpenName;
        self.name.push(byte).map_err(|_| NAME_TOO_LONG)
    }

    /// In a start tag, outside attributes.
    pub(super) fn tag(&mut self, byte: u8, sink: &mut dyn Sink) -> Result<()> {
        if self.state == State::OpenName {
            if is_name(byte) {
                return self.name.push(byte).map_err(|_| NAME_TOO_LONG);
            }
            self.scopes.enter(&self.name)?;
        }
        match (self.state, byte) {
            (State::Slash, b'>') => {
                self.open(sink)?;
                self.close(sink)
            }
            (State::Slash, _) => self.bad(malformed!(WHAT, "malformed start tag")),
            (_, b'>') => self.open(sink),
            (_, b'/') => self.go(State::Slash),
            _ if is_space(byte) => self.go(State::Tag),
            (State::Tag, _) if is_name_start(byte) => self.start_attribute(byte),
            _ => self.bad(malformed!(WHAT, "malformed start tag")),
        }
    }

    fn start_attribute(&mut self, byte: u8) -> Result<()> {
        if !self.attributes.is_empty() {
            self.keep_attribute(b' ')?;
        }
        self.state = State::AttributeName;
        self.keep_attribute(byte)
    }

    fn keep_attribute(&mut self, byte: u8) -> Result<()> {
        let full = too_many!("XML attribute names of one element", ATTRIBUTES);
        self.attributes.push(byte).map_err(|_| full)
    }

    /// In a start tag, from an attribute's name to its opening quote.
    pub(super) fn attribute(&mut self, byte: u8) -> Result<()> {
        match (self.state, byte) {
            (State::AttributeName, _) if is_name(byte) => self.keep_attribute(byte),
            (State::AttributeName | State::BeforeEquals, b'=') => self.go(State::BeforeValue),
            (State::AttributeName, _) if is_space(byte) => self.go(State::BeforeEquals),
            (State::BeforeValue, b'"' | b'\'') => {
                self.uri = Some(heapless::Vec::new());
                self.go(State::Value(byte))
            }
            (State::BeforeEquals | State::BeforeValue, _) if is_space(byte) => Ok(()),
            _ => self.bad(malformed!(WHAT, "malformed attribute")),
        }
    }

    pub(super) fn value(&mut self, byte: u8, quote: u8) -> Result<()> {
        match byte {
            b'<' => return self.bad(malformed!(WHAT, "< in an attribute")),
            b'&' => {
                self.reference.clear();
                return self.go(State::Reference(quote));
            }
            _ if byte == quote => {
                self.state = State::AfterValue;
                return self.finish_attribute();
            }
            _ => self.keep_uri(byte),
        }
        Ok(())
    }

    pub(super) fn keep_uri(&mut self, byte: u8) {
        if self.uri.as_mut().is_some_and(|uri| uri.push(byte).is_err()) {
            self.uri = None;
        }
    }

    /// An attribute is whole: its name must be new, and `xmlns` declares.
    fn finish_attribute(&mut self) -> Result<()> {
        let mut names = self.attributes.rsplit(|byte| *byte == b' ');
        let Some(name) = names.next() else { return Ok(()) };
        if names.any(|other| other == name) {
            return self.bad(malformed!(WHAT, "duplicate attribute"));
        }
        let namespace = match self.uri.as_deref() {
            Some([]) => Namespace::None,
            Some(uri) => match self.known.iter().find(|known| known.as_bytes() == uri) {
                Some(known) => Namespace::Known(known),
                None => Namespace::Other,
            },
            None => Namespace::Other,
        };
        match split(name) {
            Some((b"", b"xmlns")) => self.scopes.bind(b"", namespace),
            Some((b"xmlns", _)) if namespace == Namespace::None => {
                self.bad(malformed!(WHAT, "empty namespace"))
            }
            Some((b"xmlns", prefix)) => self.scopes.bind(prefix, namespace),
            Some(_) => Ok(()),
            None => self.bad(malformed!(WHAT, "malformed name")),
        }
    }

    /// A start tag is whole.
    fn open(&mut self, sink: &mut dyn Sink) -> Result<()> {
        self.state = State::Text;
        for name in self.attributes.split(|byte| *byte == b' ').filter_map(split) {
            let (prefix, _) = name;
            if prefix != b"xmlns" && self.scopes.namespace_of(prefix).is_none() {
                return self.bad(malformed!(WHAT, "undeclared prefix"));
            }
        }
        match self.scopes.resolve() {
            Some(name) => sink.open(name),
            None => self.bad(malformed!(WHAT, "undeclared prefix")),
        }
    }

    pub(super) fn end_tag(&mut self, byte: u8, sink: &mut dyn Sink) -> Result<()> {
        match (self.state, byte) {
            (State::CloseName, _) if is_name(byte) => self.name.push(byte).map_err(|_| NAME_TOO_LONG),
            (_, b'>') if self.name == self.scopes.innermost() => self.close(sink),
            (_, b'>') => self.bad(malformed!(WHAT, "end tag of another element")),
            _ if is_space(byte) => self.go(State::CloseTail),
            _ => self.bad(malformed!(WHAT, "malformed end tag")),
        }
    }

    fn close(&mut self, sink: &mut dyn Sink) -> Result<()> {
        self.state = State::Text;
        self.scopes.leave();
        sink.close()
    }
}
