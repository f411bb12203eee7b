//! What the line formats share: lines with their ends, and bytes appended to a lent buffer.

use crate::error::{Result, Rule};
use crate::limits;

/// A path we build.
pub type PathText = heapless::String<{ limits::PATH }>;

/// A path of these parts, one behind the other. Formatting would be three times the code at each call.
///
/// # Errors
/// `TooMany`.
#[inline(never)]
pub fn join(parts: &[&str]) -> Result<PathText> {
    let mut path = PathText::new();
    let joined = parts.iter().try_for_each(|part| path.push_str(part));
    joined.map(|()| path).map_err(|_| too_many!("path", limits::PATH))
}

/// What the kernel hands through from firmware or boot loader as text: where it is no UTF-8, each byte that is no ASCII
/// becomes a `?`, and the words without such bytes stay what they are.
pub fn lossy(bytes: &mut [u8]) -> &str {
    if core::str::from_utf8(bytes).is_err() {
        bytes.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
    }
    core::str::from_utf8(bytes).unwrap_or_default()
}

/// A number in decimal digits, at the end of `buf`.
pub fn digits(number: u64, buf: &mut [u8; 20]) -> &str {
    let mut rest = number;
    let mut from = buf.len();
    for (at, digit) in buf.iter_mut().enumerate().rev() {
        *digit = b'0'.saturating_add(u8::try_from(rest % 10).unwrap_or_default());
        rest /= 10;
        from = at;
        if rest == 0 {
            break;
        }
    }
    core::str::from_utf8(buf.get(from..).unwrap_or_default()).unwrap_or_default()
}

/// The lines of a file, each with the newline it has; joined again they are the file.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|b| *b == b'\n')
}

/// A line without its newline.
#[must_use]
pub fn bare(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

/// The words of a line, between blanks and tabs, without a `#` comment.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let code = line.split(|b| *b == b'#').next().unwrap_or_default();
    code.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// The text before and behind the first `mark`. core's search is built for long texts: 2 KB.
#[must_use]
pub fn split_once<'t>(text: &'t str, mark: &str) -> Option<(&'t str, &'t str)> {
    (0..=text.len()).find_map(|at| Some((text.get(..at)?, text.get(at..)?.strip_prefix(mark)?)))
}

/// Text that is being written to a buffer of the caller.
pub struct Out<'b> {
    full: &'static Rule,
    buf: &'b mut [u8],
    len: usize,
}

impl<'b> Out<'b> {
    /// Nothing written yet. `full` is the rule it breaks by growing too large.
    pub fn new(full: &'static Rule, buf: &'b mut [u8]) -> Self {
        Self { full, buf, len: 0 }
    }

    /// Appends. Not inlined: it has 40 callers.
    ///
    /// # Errors
    /// `TooMany` when the buffer is full; nothing is appended then.
    #[inline(never)]
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let full = self.full.above(self.buf.len());
        let end = self.len.checked_add(bytes.len()).ok_or(full)?;
        self.buf.get_mut(self.len..end).ok_or(full)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    /// Appends all of them.
    ///
    /// # Errors
    /// As [`Out::put`].
    pub fn put_all(&mut self, parts: &[&[u8]]) -> Result<()> {
        parts.iter().try_for_each(|part| self.put(part))
    }

    /// Appends a decimal number.
    ///
    /// # Errors
    /// As [`Out::put`].
    pub fn put_number(&mut self, number: u64) -> Result<()> {
        self.put(digits(number, &mut [0; 20]).as_bytes())
    }

    /// Appends a byte as two hexadecimal digits.
    ///
    /// # Errors
    /// As [`Out::put`].
    pub fn put_hex(&mut self, byte: u8) -> Result<()> {
        let digit = |value: u8| value.saturating_add(if value < 10 { b'0' } else { b'a' - 10 });
        self.put(&[digit(byte >> 4), digit(byte & 15)])
    }

    /// Ends the last line, if there is one without an end.
    ///
    /// # Errors
    /// As [`Out::put`].
    pub fn end_line(&mut self) -> Result<()> {
        match self.as_bytes().last() {
            None | Some(b'\n') => Ok(()),
            Some(_) => self.put(b"\n"),
        }
    }

    /// What was written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }
}

/// A number as it stands in a field: decimal digits only, no sign.
#[must_use]
pub fn number(field: &[u8]) -> Option<u32> {
    let is_number = !field.is_empty() && field.iter().all(u8::is_ascii_digit);
    is_number.then(|| core::str::from_utf8(field).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{Out, lines, number, words};
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use std::string::ToString;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn splitting_is_core_s(text in "[ab:é]{0,9}", mark in "[ab:]{1,3}") {
            prop_assert_eq!(super::split_once(&text, &mark), text.split_once(mark.as_str()));
        }

        #[test]
        fn lines_joined_are_the_file(text in any::<Vec<u8>>()) {
            prop_assert_eq!(lines(&text).flatten().copied().collect::<Vec<u8>>(), text);
        }

        #[test]
        fn numbers_print_and_parse(n in any::<u32>()) {
            let mut buf = [0; 20];
            let mut out = Out::new(too_many!("test"), &mut buf);
            out.put_number(u64::from(n)).unwrap();
            let text = n.to_string();
            prop_assert_eq!(out.as_bytes(), text.as_bytes());
            prop_assert_eq!(number(out.as_bytes()), Some(n));
        }
    }

    #[test]
    fn a_full_buffer_is_an_error_and_the_largest_number_fits() {
        let mut buf = [0; 20];
        let mut out = Out::new(too_many!("test"), &mut buf);
        out.put_number(u64::MAX).unwrap();
        assert_eq!(out.as_bytes(), u64::MAX.to_string().as_bytes());
        assert!(out.put(b"x").is_err());
    }

    #[test]
    fn words_end_at_a_comment() {
        assert_eq!(words(b" 127.0.0.1\tlocalhost # x\n").count(), 2);
        assert_eq!(words(b"#a b").count(), 0);
        assert!(number(b"+1").is_none() && number(b"").is_none() && number(b"4294967296").is_none());
    }
}
