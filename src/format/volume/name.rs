//! How does a name or a label on a medium become text?

use crate::error::{Error, Result};
use crate::limits;
use core::fmt::Write;

/// A volume's label.
pub(crate) type Label = heapless::String<{ limits::MEDIUM_LABEL }>;

const FULL: Error = too_many!("bytes of a name on a medium", limits::MEDIUM_NAME);

/// The name of one file: what separates or ends a path is replaced in it.
#[derive(Default)]
pub(crate) struct Name(heapless::String<{ limits::MEDIUM_NAME }>);

impl Name {
    pub(crate) const fn new() -> Self {
        Self(heapless::String::new())
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes `end` away, if it is there.
    pub(crate) fn strip(&mut self, end: &str) {
        if let Some(rest) = self.0.strip_suffix(end).map(str::len) {
            self.0.truncate(rest);
        }
    }
}

impl Write for Name {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.chars().try_for_each(|c| self.write_char(c))
    }

    fn write_char(&mut self, c: char) -> core::fmt::Result {
        let shown = if matches!(c, '/' | '\0') { char::REPLACEMENT_CHARACTER } else { c };
        self.0.push(shown).map_err(|_| core::fmt::Error)
    }
}

/// Adds characters.
pub(crate) fn push_chars(out: &mut dyn Write, chars: &mut dyn Iterator<Item = char>) -> Result<()> {
    for c in chars {
        out.write_char(c).map_err(|_| FULL)?;
    }
    Ok(())
}

/// Adds UTF-16; half a pair is shown as one.
pub(crate) fn push_utf16(out: &mut dyn Write, units: &mut dyn Iterator<Item = u16>) -> Result<()> {
    let decoded = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
    push_chars(out, &mut { decoded })
}

/// Adds big-endian UTF-16.
pub(crate) fn push_utf16_be(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    push_utf16(out, &mut bytes.as_chunks().0.iter().map(|pair| u16::from_be_bytes(*pair)))
}

/// Adds what should be UTF-8.
pub(crate) fn push_utf8(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    for chunk in bytes.utf8_chunks() {
        out.write_str(chunk.valid()).map_err(|_| FULL)?;
        if !chunk.invalid().is_empty() {
            out.write_char(char::REPLACEMENT_CHARACTER).map_err(|_| FULL)?;
        }
    }
    Ok(())
}

/// OSTA compressed Unicode (UDF 2.1.1): 8 has one byte per character, 16 two, big-endian. False: neither.
pub(crate) fn push_osta(out: &mut dyn Write, raw: &[u8]) -> Result<bool> {
    match raw.split_first() {
        Some((8, rest)) => push_chars(out, &mut rest.iter().map(|b| char::from(*b)))?,
        Some((16, rest)) => push_utf16_be(out, rest)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// A label as blkid shows it: up to the first NUL, without blanks at its end.
pub(crate) fn trimmed(label: &str) -> &str {
    label.split('\0').next().unwrap_or_default().trim_ascii_end()
}

#[cfg(test)]
mod tests {
    use super::{Name, push_osta, push_utf8, trimmed};
    use proptest::prelude::{any, prop_assert, proptest};
    use std::vec::Vec;

    fn osta(raw: &[u8]) -> Option<std::string::String> {
        let mut name = Name::new();
        push_osta(&mut name, raw).unwrap().then(|| name.as_str().into())
    }

    #[test]
    fn both_compressions_are_undone() {
        assert_eq!(osta(b"\x08caf\xe9").as_deref(), Some("caf\u{e9}"));
        assert_eq!(osta(b"\x10\0o\x20\xac\xd8\x3d\xde\x00").as_deref(), Some("o\u{20ac}\u{1f600}"));
        assert_eq!(osta(b"\x10\xd8\x3d\0o").as_deref(), Some("\u{fffd}o"));
        assert_eq!(osta(b"\x08").as_deref(), Some(""));
        assert_eq!((osta(b""), osta(b"\xfe\0\0\0\0")), (None, None));
    }

    #[test]
    fn a_name_holds_no_separator() {
        assert_eq!(osta(b"\x08../etc\0").as_deref(), Some("..\u{fffd}etc\u{fffd}"));
        let mut name = Name::new();
        push_utf8(&mut name, b"a/b\xffc").unwrap();
        assert_eq!(name.as_str(), "a\u{fffd}b\u{fffd}c");
    }

    #[test]
    fn labels_end_as_blkid_s_do() {
        for (raw, shown) in [("A B  ", "A B"), ("a\0b", "a"), (" a", " a"), ("", "")] {
            assert_eq!(trimmed(raw), shown);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_name_or_too_many(raw in any::<Vec<u8>>()) {
            let mut name = Name::new();
            let _ = push_osta(&mut name, &raw);
            let _ = push_utf8(&mut name, &raw);
            prop_assert!(!name.as_str().contains(['/', '\0']));
        }
    }
}
