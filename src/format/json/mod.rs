//! What does a JSON document say? A push tokenizer: bytes in, keys and values out, in constant memory.
//!
//! RFC 8259, no extensions: documents arrive in chunks of any size and the outcome never depends on where they were
//! cut; nothing recurses; strings come out decoded, piece by piece. Repeated keys are the reader's business. Two
//! leniencies of the kind the RFC allows: a byte order mark is skipped (section 8.1), and half a surrogate pair, which
//! writers produce by cutting a string in the middle of an emoji, becomes U+FFFD (section 8.2).

mod number;
#[cfg(test)]
mod tests;

use super::utf8::Utf8;
use crate::error::{Result, Rule};
use number::Number;

/// Deepest nesting; an IMDS instance document has 9 levels.
pub const DEPTH: usize = 32;

const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// A piece of a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// `{`
    ObjectStart,
    /// `}`
    ObjectEnd,
    /// `[`
    ArrayStart,
    /// `]`
    ArrayEnd,
    /// Part of a key, decoded. Pieces end anywhere, even inside a character; together they are UTF-8.
    KeyPart(&'a [u8]),
    /// The key is whole; its value follows.
    Key,
    /// Part of a string, decoded, as for keys.
    StringPart(&'a [u8]),
    /// The string is whole.
    String,
    /// Part of a number as it is written.
    NumberPart(&'a [u8]),
    /// The number is whole.
    Number,
    /// `true` or `false`
    Bool(bool),
    /// `null`
    Null,
}

/// Where the content goes. An error ends the document.
pub trait Sink {
    /// The next piece.
    ///
    /// # Errors
    /// The reader's.
    fn event(&mut self, event: Event<'_>) -> Result<()>;
}

/// What the next byte is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a value.
    Value,
    /// After `[`: a value or `]`.
    FirstValue,
    /// After `,` in an object.
    Key,
    /// After `{`: a key or `}`.
    FirstKey,
    /// After a key.
    Colon,
    /// After a value.
    After,
    /// In a string or key.
    String,
    /// After `\`.
    Escape,
    /// After `\u` and so many digits.
    Unicode(u8),
    /// In a number.
    Number(Number),
    /// In `true`, `false` or `null`, of which so many letters were read.
    Word(&'static [u8], u8),
}

/// The object of this file's errors. The readers put their document's name in its place: [`rules_of`].
const WHAT: &str = "JSON";

/// `rules_of!("IMDS", "words before: ")`: what is not JSON, as rules of one document for
/// [`Error::told_by`](crate::error::Error::told_by).
macro_rules! rules_of {
    ($what:expr, $words:literal) => {
        $crate::format::json::rules_of! { @ $what, $words,
            "document ends early" "not UTF-8" "no colon behind a key" "not a value" "not a key"
            "bytes behind the document" "neither a comma nor the end behind a value" "control character"
            "unknown escape" "malformed number"
        }
    };
    (@ $what:expr, $words:literal, $($rule:literal)*) => {
        &[$(malformed!($what, concat!($words, $rule)),)*]
    };
}
pub(crate) use rules_of;

/// Reads one document. After an error it must be thrown away.
pub struct Tokenizer {
    at: u64,
    state: State,
    utf8: Utf8,
    /// For each open container: it is an object.
    nesting: heapless::Vec<bool, DEPTH>,
    /// The string being read is a key.
    is_key: bool,
    /// Digits of `\uXXXX` so far.
    unit: u16,
    /// First half of a surrogate pair, waiting for the second.
    high: Option<u16>,
}

impl Default for Tokenizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Tokenizer {
    /// Nothing read yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            at: 0,
            state: State::Value,
            utf8: Utf8::new(),
            nesting: heapless::Vec::new(),
            is_key: false,
            unit: 0,
            high: None,
        }
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// `Malformed` at this byte of the document, `TooMany` for nesting, the sink's own.
    #[inline(never)]
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<()> {
        let mut rest = bytes;
        while let Some((byte, tail)) = rest.split_first() {
            if let Some((run, tail)) = self.split_text(rest) {
                self.put(run, sink)?;
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
    pub fn finish(&mut self, sink: &mut dyn Sink) -> Result<()> {
        if let State::Number(number) = self.state
            && number.is_whole()
        {
            self.state = State::After;
            sink.event(Event::Number)?;
        }
        if self.state == State::After && self.nesting.is_empty() {
            return Ok(());
        }
        self.bad(malformed!(WHAT, "document ends early"))
    }

    /// Cuts plain characters off the front of a string; `None` when the next byte matters.
    fn split_text<'b>(&mut self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        if self.state != State::String || self.high.is_some() {
            return None;
        }
        let mut length: usize = 0;
        for byte in bytes {
            let before = self.utf8;
            if matches!(byte, b'"' | b'\\' | 0..=0x1f) || !self.utf8.accept(*byte) {
                self.utf8 = before;
                break;
            }
            length = length.saturating_add(1);
        }
        bytes.split_at_checked(length).filter(|(run, _)| !run.is_empty())
    }

    #[inline(never)]
    fn step(&mut self, byte: u8, sink: &mut dyn Sink) -> Result<()> {
        if !self.utf8.accept(byte) {
            return self.bad(malformed!(WHAT, "not UTF-8"));
        }
        match self.state {
            State::String => self.string(byte, sink),
            State::Escape => self.escape(byte, sink),
            State::Unicode(digits) => self.unicode(byte, digits, sink),
            State::Number(number) => self.number(byte, number, sink),
            State::Word(word, at) => self.word(byte, word, at, sink),
            _ if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') || self.is_byte_order_mark(byte) => Ok(()),
            State::Value | State::FirstValue => self.value(byte, sink),
            State::Key | State::FirstKey => self.key(byte, sink),
            State::Colon if byte == b':' => self.go(State::Value),
            State::Colon => self.bad(malformed!(WHAT, "no colon behind a key")),
            State::After => self.after(byte, sink),
        }
    }

    /// The second and third byte can only follow the first: anything else was refused before.
    fn is_byte_order_mark(&self, byte: u8) -> bool {
        let at = usize::try_from(self.at).unwrap_or(usize::MAX);
        BYTE_ORDER_MARK.get(at) == Some(&byte)
    }

    fn value(&mut self, byte: u8, sink: &mut dyn Sink) -> Result<()> {
        match byte {
            b'{' => self.open(true, sink),
            b'[' => self.open(false, sink),
            b']' if self.state == State::FirstValue => self.close(false, sink),
            b'"' => {
                self.is_key = false;
                self.go(State::String)
            }
            b't' => self.go(State::Word(b"true", 1)),
            b'f' => self.go(State::Word(b"false", 1)),
            b'n' => self.go(State::Word(b"null", 1)),
            _ => match Number::start(byte) {
                Some(number) => {
                    self.state = State::Number(number);
                    sink.event(Event::NumberPart(&[byte]))
                }
                None => self.bad(malformed!(WHAT, "not a value")),
            },
        }
    }

    fn key(&mut self, byte: u8, sink: &mut dyn Sink) -> Result<()> {
        match byte {
            b'"' => {
                self.is_key = true;
                self.go(State::String)
            }
            b'}' if self.state == State::FirstKey => self.close(true, sink),
            _ => self.bad(malformed!(WHAT, "not a key")),
        }
    }

    fn after(&mut self, byte: u8, sink: &mut dyn Sink) -> Result<()> {
        match (byte, self.nesting.last()) {
            (b',', Some(true)) => self.go(State::Key),
            (b',', Some(false)) => self.go(State::Value),
            (b'}', Some(true)) => self.close(true, sink),
            (b']', Some(false)) => self.close(false, sink),
            (_, None) => self.bad(malformed!(WHAT, "bytes behind the document")),
            _ => self.bad(malformed!(WHAT, "neither a comma nor the end behind a value")),
        }
    }

    fn open(&mut self, is_object: bool, sink: &mut dyn Sink) -> Result<()> {
        self.nesting.push(is_object).map_err(|_| too_many!("JSON nesting", DEPTH))?;
        self.state = if is_object { State::FirstKey } else { State::FirstValue };
        sink.event(if is_object { Event::ObjectStart } else { Event::ArrayStart })
    }

    fn close(&mut self, is_object: bool, sink: &mut dyn Sink) -> Result<()> {
        self.nesting.pop();
        self.state = State::After;
        sink.event(if is_object { Event::ObjectEnd } else { Event::ArrayEnd })
    }

    fn string(&mut self, byte: u8, sink: &mut dyn Sink) -> Result<()> {
        if byte != b'\\' {
            self.give_up_pair(sink)?;
        }
        match byte {
            b'\\' => self.go(State::Escape),
            0..=0x1f => self.bad(malformed!(WHAT, "control character")),
            b'"' if self.is_key => {
                self.state = State::Colon;
                sink.event(Event::Key)
            }
            b'"' => {
                self.state = State::After;
                sink.event(Event::String)
            }
            _ => self.put(&[byte], sink),
        }
    }

    fn escape(&mut self, byte: u8, sink: &mut dyn Sink) -> Result<()> {
        if byte == b'u' {
            self.unit = 0;
            return self.go(State::Unicode(0));
        }
        self.give_up_pair(sink)?;
        self.state = State::String;
        let character = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            _ => return self.bad(malformed!(WHAT, "unknown escape")),
        };
        self.put(&[character], sink)
    }

    fn unicode(&mut self, byte: u8, digits: u8, sink: &mut dyn Sink) -> Result<()> {
        let Some(digit) = char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok()) else {
            return self.bad(malformed!(WHAT, "unknown escape"));
        };
        self.unit = (self.unit << 4) | digit;
        if digits < 3 {
            return self.go(State::Unicode(digits.saturating_add(1)));
        }
        self.state = State::String;
        match (self.high.take(), self.unit) {
            (Some(high), 0xdc00..=0xdfff) => {
                let pair = char::decode_utf16([high, self.unit]).next();
                self.put_character(pair.and_then(core::result::Result::ok).unwrap_or(REPLACEMENT), sink)
            }
            (high, unit) => {
                self.high = high;
                self.give_up_pair(sink)?;
                self.put_unit(unit, sink)
            }
        }
    }

    /// A UTF-16 unit that completes no pair.
    fn put_unit(&mut self, unit: u16, sink: &mut dyn Sink) -> Result<()> {
        if matches!(unit, 0xd800..=0xdbff) {
            self.high = Some(unit);
            return Ok(());
        }
        self.put_character(char::from_u32(u32::from(unit)).unwrap_or(REPLACEMENT), sink)
    }

    /// The second half of a pair did not come.
    fn give_up_pair(&mut self, sink: &mut dyn Sink) -> Result<()> {
        match self.high.take() {
            Some(_) => self.put_character(REPLACEMENT, sink),
            None => Ok(()),
        }
    }

    fn put_character(&mut self, character: char, sink: &mut dyn Sink) -> Result<()> {
        self.put(character.encode_utf8(&mut [0; 4]).as_bytes(), sink)
    }

    fn put(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<()> {
        sink.event(if self.is_key { Event::KeyPart(bytes) } else { Event::StringPart(bytes) })
    }

    fn number(&mut self, byte: u8, number: Number, sink: &mut dyn Sink) -> Result<()> {
        match number.next(byte) {
            Some(next) => {
                self.state = State::Number(next);
                sink.event(Event::NumberPart(&[byte]))
            }
            None if number.is_whole() => {
                self.state = State::After;
                sink.event(Event::Number)?;
                if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') { Ok(()) } else { self.after(byte, sink) }
            }
            None => self.bad(malformed!(WHAT, "malformed number")),
        }
    }

    fn word(&mut self, byte: u8, word: &'static [u8], at: u8, sink: &mut dyn Sink) -> Result<()> {
        if word.get(usize::from(at)) != Some(&byte) {
            return self.bad(malformed!(WHAT, "not a value"));
        }
        let at = at.saturating_add(1);
        if usize::from(at) < word.len() {
            return self.go(State::Word(word, at));
        }
        self.state = State::After;
        sink.event(match word {
            b"true" => Event::Bool(true),
            b"false" => Event::Bool(false),
            _ => Event::Null,
        })
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
