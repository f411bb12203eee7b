//! What does an XML document say? A push tokenizer: bytes in, elements and text out, in constant memory.
//!
//! Documents arrive in chunks of any size and the outcome never depends on where they were cut. Namespaces are
//! resolved, because Azure's prefixes vary from writer to writer. Nothing recurses and nothing is kept but the
//! names of the open elements.
//!
//! Follows XML 1.0 (fifth edition) and Namespaces in XML 1.0, UTF-8 only. Left out on purpose: a DTD is refused
//! ([`DTD`]); comments and processing instructions are skipped; attributes are checked and skipped, for no document
//! we read says anything in them. More lenient than the standard: non-ASCII letters are all allowed in names,
//! `]]>` in text, white space before the XML declaration, and the encoding it names is not looked at.

mod names;
mod reference;
mod tags;
#[cfg(test)]
mod tests;

use super::utf8::Utf8;
use crate::error::{Result, Rule};
use names::{NAME, Scopes};
use reference::{REFERENCE, decode};
use zeroize::Zeroize;

/// The rule a document with a document type declaration breaks: entities could be declared there.
pub const DTD: &str = "document type declaration refused";

/// The object of this file's errors. The readers put their document's name in its place: [`rules_of`].
const WHAT: &str = "XML";

/// `rules_of!("goal state", "words before: ")`: what is not XML, as rules of one document for
/// [`Error::told_by`](crate::error::Error::told_by).
macro_rules! rules_of {
    ($what:expr, $words:literal) => {
        $crate::format::xml::rules_of! { @ $what, $words,
            "document ends early" "not UTF-8" "control character" "text outside the root element"
            "second root element" "unknown entity" "malformed markup" "document type declaration refused"
            "two hyphens in a comment" "malformed start tag" "malformed attribute" "< in an attribute"
            "duplicate attribute" "empty namespace" "malformed name" "undeclared prefix"
            "end tag of another element" "malformed end tag"
        }
    };
    (@ $what:expr, $words:literal, $($rule:literal)*) => {
        &[$(malformed!($what, concat!($words, $rule)),)*]
    };
}
pub(crate) use rules_of;

/// Bytes of the attribute names of one start tag.
const ATTRIBUTES: usize = 512;
/// Bytes of a namespace name that can be told from another; what is longer is none of ours.
const URI: usize = 128;
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// A namespace as far as the reader asked for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Namespace {
    /// No namespace.
    None,
    /// One of those given to [`Tokenizer::new`].
    Known(&'static str),
    /// Any other.
    Other,
}

/// Name of an element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name<'a> {
    /// What its prefix stands for.
    pub namespace: Namespace,
    /// The name behind the prefix.
    pub local: &'a [u8],
}

/// Where the content goes. An error ends the document.
pub trait Sink {
    /// An element begins.
    ///
    /// # Errors
    /// The reader's.
    fn open(&mut self, name: Name<'_>) -> Result<()>;
    /// A piece of the text of the innermost element, decoded. Pieces end anywhere, even inside a character;
    /// all pieces together are UTF-8.
    ///
    /// # Errors
    /// The reader's.
    fn text(&mut self, chunk: &[u8]) -> Result<()>;
    /// The innermost element ends.
    ///
    /// # Errors
    /// The reader's.
    fn close(&mut self) -> Result<()>;
}

/// What the next byte is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Text, inside the root element or around it.
    Text,
    /// After `<`.
    Less,
    /// After `<!`.
    Bang,
    /// After `<!-`.
    CommentOpen,
    /// In a comment, after so many hyphens.
    Comment(u8),
    /// After `<![`, so many letters of `CDATA[` read.
    CdataOpen(u8),
    /// In a CDATA section, after so many `]`.
    Cdata(u8),
    /// In a processing instruction; true after `?`.
    Instruction(bool),
    /// In the name of a start tag.
    OpenName,
    /// In a start tag, after white space.
    Tag,
    /// In a start tag, after a value.
    AfterValue,
    /// In a start tag, after `/`.
    Slash,
    /// In an attribute's name.
    AttributeName,
    /// After an attribute's name and white space.
    BeforeEquals,
    /// After `=`.
    BeforeValue,
    /// In a value, up to this quote.
    Value(u8),
    /// After `&`; a value's quote, or 0 in text.
    Reference(u8),
    /// In the name of an end tag.
    CloseName,
    /// After the name of an end tag and white space.
    CloseTail,
}

/// Reads one document. After an error it must be thrown away.
pub struct Tokenizer {
    known: &'static [&'static str],
    at: u64,
    state: State,
    utf8: Utf8,
    scopes: Scopes,
    /// The element name being read.
    name: heapless::Vec<u8, NAME>,
    /// The names of this tag's attributes, each ended by a space but the last.
    attributes: heapless::Vec<u8, ATTRIBUTES>,
    /// The value of the `xmlns` attribute being read, `None` once it is too long to be one of ours.
    uri: Option<heapless::Vec<u8, URI>>,
    reference: heapless::Vec<u8, REFERENCE>,
    /// The last byte was a carriage return, given out as a line feed (XML 1.0 section 2.11).
    after_return: bool,
    has_root: bool,
}

impl Tokenizer {
    /// `known` are the namespaces to be told apart.
    #[must_use]
    pub const fn new(known: &'static [&'static str]) -> Self {
        Self {
            known,
            at: 0,
            state: State::Text,
            utf8: Utf8::new(),
            scopes: Scopes::new(),
            name: heapless::Vec::new(),
            attributes: heapless::Vec::new(),
            uri: None,
            reference: heapless::Vec::new(),
            after_return: false,
            has_root: false,
        }
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// `Malformed` at this byte of the document; `TooMany` for nesting, names or attributes; the sink's own.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<()> {
        let mut rest = bytes;
        while let Some((byte, tail)) = rest.split_first() {
            if let Some((run, tail)) = self.split_text(rest) {
                sink.text(run)?;
                self.at = self.at.saturating_add(run.len() as u64);
                rest = tail;
            } else {
                self.step(*byte, sink)?;
                self.at = self.at.saturating_add(1);
                rest = tail;
            }
        }
        Ok(())
    }

    /// The document ends.
    ///
    /// # Errors
    /// `Malformed` when it is not whole.
    pub fn finish(&mut self) -> Result<()> {
        if !self.has_root || self.scopes.depth() > 0 || self.state != State::Text || !self.utf8.is_whole() {
            return self.bad(malformed!(WHAT, "document ends early"));
        }
        Ok(())
    }

    /// Cuts plain text off the front, so that it is given out in long pieces; `None` when the next byte matters.
    fn split_text<'b>(&mut self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        let special: &[u8] = match self.state {
            State::Text if self.scopes.depth() > 0 => b"<&\r",
            State::Cdata(0) => b"]\r",
            _ => return None,
        };
        if self.after_return {
            return None;
        }
        let mut utf8 = self.utf8;
        let mut length: usize = 0;
        for byte in bytes {
            let before = utf8;
            if is_control(*byte) || special.contains(byte) || !utf8.accept(*byte) {
                utf8 = before;
                break;
            }
            length = length.saturating_add(1);
        }
        self.utf8 = utf8;
        bytes.split_at_checked(length).filter(|(run, _)| !run.is_empty())
    }

    #[inline(never)]
    fn step(&mut self, byte: u8, sink: &mut dyn Sink) -> Result<()> {
        if !self.utf8.accept(byte) {
            return self.bad(malformed!(WHAT, "not UTF-8"));
        }
        if is_control(byte) {
            return self.bad(malformed!(WHAT, "control character"));
        }
        match self.state {
            State::Text => self.text(byte, sink),
            State::Cdata(brackets) => self.cdata(byte, brackets, sink),
            State::Reference(quote) => self.reference(byte, quote, sink),
            State::Value(quote) => self.value(byte, quote),
            State::OpenName | State::Tag | State::AfterValue | State::Slash => self.tag(byte, sink),
            State::AttributeName | State::BeforeEquals | State::BeforeValue => self.attribute(byte),
            State::CloseName | State::CloseTail => self.end_tag(byte, sink),
            State::Less | State::Bang | State::CommentOpen | State::CdataOpen(_) => self.markup(byte),
            State::Comment(_) | State::Instruction(_) => self.skipped(byte),
        }
    }

    fn text(&mut self, byte: u8, sink: &mut dyn Sink) -> Result<()> {
        let after_return = core::mem::take(&mut self.after_return);
        let is_inside = self.scopes.depth() > 0;
        match byte {
            b'<' => self.go(State::Less),
            b'&' if is_inside => {
                self.reference.clear();
                self.go(State::Reference(0))
            }
            _ if is_inside => self.emit(byte, after_return, sink),
            _ if is_space(byte) || self.is_byte_order_mark(byte) => Ok(()),
            _ => self.bad(malformed!(WHAT, "text outside the root element")),
        }
    }

    /// The second and third byte can only follow the first: anything else was refused before.
    fn is_byte_order_mark(&self, byte: u8) -> bool {
        let at = usize::try_from(self.at).unwrap_or(usize::MAX);
        BYTE_ORDER_MARK.get(at) == Some(&byte)
    }

    /// One byte of content, line ends normalised.
    fn emit(&mut self, byte: u8, after_return: bool, sink: &mut dyn Sink) -> Result<()> {
        match byte {
            b'\r' => {
                self.after_return = true;
                sink.text(b"\n")
            }
            b'\n' if after_return => Ok(()),
            _ => sink.text(&[byte]),
        }
    }

    fn cdata(&mut self, byte: u8, brackets: u8, sink: &mut dyn Sink) -> Result<()> {
        let after_return = core::mem::take(&mut self.after_return);
        match (byte, brackets) {
            (b'>', 2) => return self.go(State::Text),
            (b']', 2) => return sink.text(b"]"),
            (b']', _) => return self.go(State::Cdata(brackets.saturating_add(1))),
            (_, 1) => sink.text(b"]")?,
            (_, 2) => sink.text(b"]]")?,
            _ => {}
        }
        self.state = State::Cdata(0);
        self.emit(byte, after_return, sink)
    }

    fn reference(&mut self, byte: u8, quote: u8, sink: &mut dyn Sink) -> Result<()> {
        if byte != b';' {
            return match self.reference.push(byte) {
                Ok(()) => Ok(()),
                Err(_) => self.bad(malformed!(WHAT, "unknown entity")),
            };
        }
        let Some(character) = decode(&self.reference) else {
            return self.bad(malformed!(WHAT, "unknown entity"));
        };
        self.reference.as_mut_slice().zeroize();
        let mut utf8 = [0; 4];
        let bytes: &[u8] = character.encode_utf8(&mut utf8).as_bytes();
        if quote == 0 {
            self.state = State::Text;
            return sink.text(bytes);
        }
        bytes.iter().for_each(|byte| self.keep_uri(*byte));
        self.go(State::Value(quote))
    }

    /// After `<`, `<!`, `<!-` or `<![`: which markup is this?
    fn markup(&mut self, byte: u8) -> Result<()> {
        let is_inside = self.scopes.depth() > 0;
        match (self.state, byte) {
            (State::Less, b'!') => self.go(State::Bang),
            (State::Less, b'?') => self.go(State::Instruction(false)),
            (State::Less, b'/') if is_inside => {
                self.name.clear();
                self.go(State::CloseName)
            }
            (State::Less, _) if is_name_start(byte) => self.start_tag(byte),
            (State::Bang, b'-') => self.go(State::CommentOpen),
            (State::CommentOpen, b'-') => self.go(State::Comment(0)),
            (State::Bang, b'[') if is_inside => self.go(State::CdataOpen(0)),
            (State::Bang, b'D') => self.bad(malformed!(WHAT, DTD)),
            (State::CdataOpen(5), b'[') => self.go(State::Cdata(0)),
            (State::CdataOpen(at), _) if b"CDATA".get(usize::from(at)) == Some(&byte) => {
                self.go(State::CdataOpen(at.saturating_add(1)))
            }
            _ => self.bad(malformed!(WHAT, "malformed markup")),
        }
    }

    /// In a comment or a processing instruction.
    fn skipped(&mut self, byte: u8) -> Result<()> {
        match (self.state, byte) {
            (State::Comment(2), b'>') | (State::Instruction(true), b'>') => self.go(State::Text),
            (State::Comment(2), _) => self.bad(malformed!(WHAT, "two hyphens in a comment")),
            (State::Comment(hyphens), b'-') => self.go(State::Comment(hyphens.saturating_add(1))),
            (State::Comment(_), _) => self.go(State::Comment(0)),
            _ => self.go(State::Instruction(byte == b'?')),
        }
    }

    fn go(&mut self, state: State) -> Result<()> {
        self.state = state;
        Ok(())
    }

    #[cold]
    fn bad<T>(&self, rule: &'static Rule) -> Result<T> {
        Err(rule.at(self.at))
    }
}

/// XML 1.0 production 3, `S`.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Forbidden everywhere (production 2, `Char`).
const fn is_control(byte: u8) -> bool {
    byte < b' ' && !is_space(byte)
}

const fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':' | 0x80..)
}

const fn is_name(byte: u8) -> bool {
    is_name_start(byte) || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
}
