//! Which scalar of a JSON document lies where? Each comes with the keys on its way, in constant memory.
//!
//! `{"a": {"b": ["x"]}}` has `x` at `a/b/#`. A `/` or `#` of a key itself becomes U+0001, so that no document can make one
//! place look like another. Values longer than any we look for are named, not held.

use super::json::{DEPTH, Event, Sink, Tokenizer};
use crate::error::Result;
use crate::limits;
use zeroize::Zeroize as _;

/// Bytes of a place; keys that do not fit any more are `?`, and nothing below them is at a place we know.
const PLACE: usize = 256;

/// A value that is no container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scalar<'a> {
    /// A string.
    Text(&'a str),
    /// A number, as it is written.
    Number(&'a str),
    /// `true` or `false`
    Bool(bool),
    /// `null`
    Null,
    /// A string longer than [`limits::SSH_KEY`].
    Long,
}

/// Who looks at a document.
pub trait Visit {
    /// A scalar and its place.
    ///
    /// # Errors
    /// The reader's.
    fn scalar(&mut self, place: &str, value: Scalar<'_>) -> Result<()>;
    /// An object or array ended; its place.
    ///
    /// # Errors
    /// The reader's.
    fn end(&mut self, place: &str) -> Result<()>;
    /// True where a string is to come line by line, however long it is. Of an item its list's place is asked and said.
    fn wants_lines(&self, _place: &str) -> bool {
        false
    }
}

/// An open object or array.
#[derive(Clone, Copy)]
struct Level {
    /// Length of its own place.
    length: usize,
    is_object: bool,
}

/// Reads one document at a time.
pub struct Fields {
    tokenizer: Tokenizer,
    walk: Walk,
}

struct Walk {
    place: heapless::String<PLACE>,
    levels: heapless::Vec<Level, DEPTH>,
    /// Of the key or value we are in.
    text: heapless::Vec<u8, { limits::SSH_KEY }>,
    is_long: bool,
}

impl Fields {
    /// Ready for a document.
    #[must_use]
    pub const fn new() -> Self {
        let walk = Walk {
            place: heapless::String::new(),
            levels: heapless::Vec::new(),
            text: heapless::Vec::new(),
            is_long: false,
        };
        Self { tokenizer: Tokenizer::new(), walk }
    }

    /// Forgets what was read.
    pub fn reset(&mut self) {
        self.tokenizer = Tokenizer::new();
        self.walk.place.clear();
        self.walk.levels.clear();
        self.walk.forget_text();
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// What is not JSON; the visitor's.
    pub fn push(&mut self, bytes: &[u8], visit: &mut dyn Visit) -> Result<()> {
        self.tokenizer.push(bytes, &mut Visited { walk: &mut self.walk, visit })
    }

    /// The document ends; ready for another.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(&mut self, visit: &mut dyn Visit) -> Result<()> {
        let outcome = self.tokenizer.finish(&mut Visited { walk: &mut self.walk, visit });
        self.reset();
        outcome
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self::new()
    }
}

struct Visited<'w> {
    walk: &'w mut Walk,
    visit: &'w mut dyn Visit,
}

impl Sink for Visited<'_> {
    fn event(&mut self, event: Event<'_>) -> Result<()> {
        let walk = &mut *self.walk;
        match event {
            Event::StringPart(part) if self.visit.wants_lines(&walk.place) => {
                return walk.lines(part, self.visit);
            }
            Event::KeyPart(part) | Event::StringPart(part) | Event::NumberPart(part) => {
                walk.is_long |= walk.text.extend_from_slice(part).is_err();
                return Ok(());
            }
            Event::Key => {
                walk.enter_key();
                return Ok(());
            }
            Event::ObjectEnd | Event::ArrayEnd => {
                walk.levels.pop();
                self.visit.end(&walk.place)?;
                walk.leave();
                return Ok(());
            }
            _ => walk.enter_item(),
        }
        let value = match event {
            Event::ObjectStart | Event::ArrayStart => {
                return walk.open(matches!(event, Event::ObjectStart));
            }
            _ if walk.is_long => Scalar::Long,
            Event::String => walk.string(),
            Event::Number => Scalar::Number(core::str::from_utf8(&walk.text).unwrap_or_default()),
            Event::Bool(value) => Scalar::Bool(value),
            _ => Scalar::Null,
        };
        let outcome = self.visit.scalar(&walk.place, value);
        walk.forget_text();
        walk.leave();
        outcome
    }
}

impl Walk {
    fn open(&mut self, is_object: bool) -> Result<()> {
        let level = Level { length: self.place.len(), is_object };
        self.levels.push(level).map_err(|_| too_many!("JSON nesting", DEPTH))
    }

    /// A key is whole: its value's place begins.
    fn enter_key(&mut self) {
        let is_long = self.is_long;
        let before = self.place.len();
        let separator = if before == 0 { "" } else { "/" };
        let key = core::str::from_utf8(&self.text).unwrap_or_default();
        let fits = !is_long && self.place.push_str(separator).is_ok() && {
            let mut marked = key.chars().map(|c| if matches!(c, '/' | '#') { '\u{1}' } else { c });
            marked.all(|c| self.place.push(c).is_ok())
        };
        if !fits {
            self.place.truncate(before);
            // Where even that has no room, the place of the container stands for it, which is no scalar's.
            let _ = self.place.push_str("/?");
        }
        self.forget_text();
    }

    fn string(&self) -> Scalar<'_> {
        if self.is_long {
            return Scalar::Long;
        }
        Scalar::Text(core::str::from_utf8(&self.text).unwrap_or_default())
    }

    /// A piece of a string whose lines are asked for; the last one waits for the end.
    #[inline(never)]
    fn lines(&mut self, part: &[u8], visit: &mut dyn Visit) -> Result<()> {
        for line in part.split_inclusive(|byte| *byte == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            self.is_long |= self.text.extend_from_slice(text).is_err();
            if text.len() < line.len() {
                visit.scalar(&self.place, self.string())?;
                self.forget_text();
            }
        }
        Ok(())
    }

    /// A value of an array begins.
    fn enter_item(&mut self) {
        if self.levels.last().is_some_and(|level| !level.is_object) {
            let separator = if self.place.is_empty() { "#" } else { "/#" };
            let _ = self.place.push_str(separator);
        }
    }

    /// A value is over.
    fn leave(&mut self) {
        self.place.truncate(self.levels.last().map_or(0, |level| level.length));
    }

    fn forget_text(&mut self) {
        // It may have been a password.
        self.text.as_mut_slice().zeroize();
        self.text.clear();
        self.is_long = false;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Fields, Scalar, Visit};
    use crate::error::Result;
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use std::string::String;
    use std::vec::Vec;

    #[derive(Default)]
    pub(crate) struct Seen(pub(crate) Vec<String>);

    impl Visit for Seen {
        fn scalar(&mut self, place: &str, value: Scalar<'_>) -> Result<()> {
            self.0.push(match value {
                Scalar::Text(text) => std::format!("{place}={text}"),
                other => std::format!("{place}={other:?}"),
            });
            Ok(())
        }
        fn end(&mut self, place: &str) -> Result<()> {
            self.0.push(std::format!("{place} ends"));
            Ok(())
        }
    }

    fn seen(document: &[u8], step: usize) -> (Vec<String>, bool) {
        let (mut fields, mut seen) = (Fields::new(), Seen::default());
        let mut outcome = document.chunks(step).try_for_each(|chunk| fields.push(chunk, &mut seen));
        outcome = outcome.and_then(|()| fields.finish(&mut seen));
        (seen.0, outcome.is_ok())
    }

    #[test]
    fn every_scalar_has_its_place() {
        let document = br##"{"a":"x","b":{"c":["y",{"d":1}],"e/f#":true},"g":[[null]]}"##;
        let wanted = [
            "a=x",
            "b/c/#=y",
            "b/c/#/d=Number(\"1\")",
            "b/c/# ends",
            "b/c ends",
            "b/e\u{1}f\u{1}=Bool(true)",
            "b ends",
            "g/#/#=Null",
            "g/# ends",
            "g ends",
            " ends",
        ];
        for step in [1, 3, 1000] {
            assert_eq!(seen(document, step), (wanted.map(String::from).to_vec(), true));
        }
        assert_eq!(seen(b"\"alone\"", 2).0, ["=alone"]);
    }

    #[test]
    fn what_is_too_long_hides_nothing_behind_it() {
        let long = "k".repeat(5000);
        let document = std::format!(
            "{{\"{long}\":\"in\",\"a\":\"{long}\",\"{}\":{{\"a\":1}},\"b\":\"x\"}}",
            "m".repeat(300)
        );
        let (seen, _) = seen(document.as_bytes(), 700);
        assert_eq!(seen, ["/?=in", "a=Long", "/?/a=Number(\"1\")", "/? ends", "b=x", " ends"]);
    }

    #[test]
    fn a_string_comes_in_lines_where_they_are_wanted() {
        struct Lines(Vec<usize>);
        impl Visit for Lines {
            fn scalar(&mut self, _: &str, value: Scalar<'_>) -> Result<()> {
                self.0.push(if let Scalar::Text(text) = value { text.len() } else { usize::MAX });
                Ok(())
            }
            fn end(&mut self, _: &str) -> Result<()> {
                Ok(())
            }
            fn wants_lines(&self, place: &str) -> bool {
                place == "a"
            }
        }
        let [short, long] = [3000, 5000].map(|n| "k".repeat(n));
        let document =
            std::format!("{{\"a\":[\"{short}\\n{short}\\n{long}\\n\\n{short}\"],\"b\":\"x\\ny\"}}");
        for step in [1, 700, 100_000] {
            let (mut fields, mut lines) = (Fields::new(), Lines(Vec::new()));
            document.as_bytes().chunks(step).try_for_each(|chunk| fields.push(chunk, &mut lines)).unwrap();
            fields.finish(&mut lines).unwrap();
            assert_eq!(lines.0, [3000, 3000, usize::MAX, 0, 3000, 3], "{step}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_the_same_however_they_are_cut(bytes in any::<Vec<u8>>(), step in 1_usize..9) {
            prop_assert_eq!(seen(&bytes, step).1, seen(&bytes, 10_000).1);
        }

        #[test]
        fn documents_come_out_the_same_however_they_are_cut(
            text in "[{}\\[\\]\",:a-c0-2 \\\\]{0,60}", step in 1_usize..9,
        ) {
            prop_assert_eq!(seen(text.as_bytes(), step), seen(text.as_bytes(), 10_000));
        }
    }
}
