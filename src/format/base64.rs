//! What do these base64 characters stand for? A push decoder: text in, bytes out, in constant memory.
//!
//! RFC 4648 section 4: the standard alphabet, padding required, unused bits zero, nothing behind the padding.
//! White space anywhere is skipped, because writers fold the lines. Stricter than cloud-init, which skips every
//! character outside the alphabet: a payload that lost characters must not be run.

use crate::error::{Result, Rule};
use base64ct::{Base64, Encoding};
use zeroize::Zeroize;

/// Characters decoded at a time; a multiple of 4.
const BLOCK: usize = 64;

/// Where decoded bytes go.
pub type Output<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// What a text can break.
pub struct Rules {
    /// A character outside the alphabet, one too few, padding that is not.
    pub not_base64: &'static Rule,
    /// Characters behind the padding.
    pub goes_on: &'static Rule,
    /// More than the limit.
    pub full: &'static Rule,
}

/// `base64_rules!("userData")`: the [`Rules`] of a text of this name.
macro_rules! base64_rules {
    ($what:expr) => {
        const {
            &$crate::format::base64::Rules {
                not_base64: malformed!($what, "not base64"),
                goes_on: malformed!($what, "base64 goes on behind its padding"),
                full: too_many!($what),
            }
        }
    };
}
pub(crate) use base64_rules;

/// Decodes one text.
pub struct Decoder {
    rules: &'static Rules,
    limit: usize,
    block: [u8; BLOCK],
    length: usize,
    decoded: usize,
    has_ended: bool,
}

impl Decoder {
    /// `rules` name the text in errors; more than `limit` decoded bytes are refused.
    #[must_use]
    pub const fn new(rules: &'static Rules, limit: usize) -> Self {
        Self { rules, limit, block: [0; BLOCK], length: 0, decoded: 0, has_ended: false }
    }

    /// Decodes the next characters into `output`.
    ///
    /// # Errors
    /// `Malformed` when they are not base64, `TooMany` above the limit, `output`'s own.
    pub fn push(&mut self, text: &[u8], output: &mut Output<'_>) -> Result<()> {
        for byte in text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()) {
            if self.has_ended {
                return Err(self.rules.goes_on.at(0));
            }
            let length = self.length.saturating_add(1);
            if let Some(place) = self.block.get_mut(self.length) {
                *place = byte;
            }
            self.length = length;
            self.has_ended = byte == b'=' && length.is_multiple_of(4);
            if self.has_ended || length == BLOCK {
                self.flush(output)?;
            }
        }
        Ok(())
    }

    /// The text ends. Returns how many bytes it stood for; the decoder can be used again.
    ///
    /// # Errors
    /// `Malformed` when characters are missing; otherwise as [`push`](Self::push).
    pub fn finish(&mut self, output: &mut Output<'_>) -> Result<usize> {
        self.flush(output)?;
        let decoded = self.decoded;
        self.reset();
        Ok(decoded)
    }

    /// Forgets everything; the bytes are overwritten.
    pub fn reset(&mut self) {
        self.block.zeroize();
        (self.length, self.decoded, self.has_ended) = (0, 0, false);
    }

    fn flush(&mut self, output: &mut Output<'_>) -> Result<()> {
        let mut bytes = [0; BLOCK];
        let text = self.block.get(..self.length).unwrap_or_default();
        let Ok(decoded) = Base64::decode(text, &mut bytes) else { return Err(self.rules.not_base64.at(0)) };
        self.length = 0;
        self.decoded = self.decoded.saturating_add(decoded.len());
        if self.decoded > self.limit {
            return Err(self.rules.full.above(self.limit));
        }
        let result = if decoded.is_empty() { Ok(()) } else { output(decoded) };
        bytes.zeroize();
        result
    }
}

/// Encodes the first `length` bytes of `buf` where they are; returns how many characters there are then, 0 when they
/// have no room. In constant time, as the content may be a secret.
pub fn encode_in_place(buf: &mut [u8], length: usize) -> usize {
    let from = buf.len().saturating_sub(length);
    if length.div_ceil(3).saturating_mul(4) > buf.len() {
        return 0;
    }
    // From the end on: what is written is a third more than what was read, and never reaches what is not read yet.
    buf.copy_within(..length, from);
    let mut written = 0usize;
    for at in (from..buf.len()).step_by(3) {
        let byte = |n: usize| buf.get(at.saturating_add(n)).copied();
        let (a, b, c) = (byte(0).unwrap_or_default(), byte(1), byte(2));
        let (second, third) = (b.unwrap_or_default(), c.unwrap_or_default());
        let text = [
            character(a >> 2),
            character((a << 4 | second >> 4) & 63),
            if b.is_some() { character((second << 2 | third >> 6) & 63) } else { b'=' },
            if c.is_some() { character(third & 63) } else { b'=' },
        ];
        let end = written.saturating_add(text.len());
        if let Some(place) = buf.get_mut(written..end) {
            place.copy_from_slice(&text);
        }
        written = end;
    }
    written
}

/// The character of six bits, without a table: where a secret is looked up can be seen in the caches.
#[inline(never)]
fn character(six: u8) -> u8 {
    let above = |last: u8| u8::from(six > last);
    let letters = six.wrapping_add(b'A').wrapping_add(above(25).wrapping_mul(6));
    let digits = letters.wrapping_sub(above(51).wrapping_mul(75));
    digits.wrapping_sub(above(61).wrapping_mul(15)).wrapping_add(above(62).wrapping_mul(3))
}

#[cfg(test)]
mod tests {
    use super::Decoder;
    use crate::error::{Kind, Result};
    use base64ct::{Base64, Encoding};
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};
    use std::vec::Vec;

    fn decode(text: &[u8], step: usize) -> (Vec<u8>, Result<usize>) {
        let (mut bytes, mut decoder) = (Vec::new(), Decoder::new(base64_rules!("test"), 5000));
        let mut output = |chunk: &[u8]| {
            bytes.extend(chunk);
            Ok(())
        };
        let mut result = Ok(());
        for chunk in text.chunks(step) {
            result = result.and_then(|()| decoder.push(chunk, &mut output));
        }
        let result = result.and_then(|()| decoder.finish(&mut output));
        (bytes, result)
    }

    #[test]
    fn white_space_is_skipped_and_nothing_else() {
        for (text, bytes) in [
            (" I2Nsb3Vk\r\n\tLWNvbmZp\n Zwo= \n", "#cloud-config\n"),
            ("", ""),
            (" \n", ""),
            ("Zg==", "f"),
            ("Z g = =", "f"),
        ] {
            assert_eq!(decode(text.as_bytes(), 3), (bytes.into(), Ok(bytes.len())), "{text}");
        }
        for text in
            ["***", "Zg", "Zg=", "Z===", "====", "Zh==", "Zg==Zg==", "Zg==x", "Zg=a", "Z-_=", "Zm8é", "Zm9v="]
        {
            assert!(
                matches!(decode(text.as_bytes(), 2).1, Err(error) if error.is(Kind::Malformed)),
                "{text}"
            );
        }
    }

    #[test]
    fn one_byte_above_the_limit_is_refused() {
        let mut buffer = [0; 8000];
        for (size, ok) in [(5000, true), (5001, false)] {
            let text = Base64::encode(&std::vec![7; size], &mut buffer).unwrap();
            let (bytes, result) = decode(text.as_bytes(), 100);
            assert_eq!(result.is_ok(), ok);
            assert!(bytes.len() <= 5000);
        }
    }

    proptest! {
        #[test]
        fn encoding_in_place_is_encoding(bytes in prop::collection::vec(any::<u8>(), 0..400), room in 0usize..600) {
            let mut buf = bytes.clone();
            buf.resize(bytes.len() + room, 0xee);
            let n = super::encode_in_place(&mut buf, bytes.len());
            if buf.len() >= bytes.len().div_ceil(3) * 4 {
                let mut buffer = [0; 700];
                prop_assert_eq!(&buf[..n], Base64::encode(&bytes, &mut buffer).unwrap().as_bytes());
            } else {
                prop_assert_eq!(n, 0);
            }
        }

        #[test]
        fn what_was_encoded_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1_usize..90) {
            let mut buffer = [0; 400];
            let text = Base64::encode(&bytes, &mut buffer).unwrap();
            let length = bytes.len();
            prop_assert_eq!(decode(text.as_bytes(), step), (bytes, Ok(length)));
        }

        #[test]
        fn no_cut_changes_the_outcome(text in "[A-Za-d+/= ]{0,200}", step in 1_usize..90) {
            prop_assert_eq!(decode(text.as_bytes(), step), decode(text.as_bytes(), 1000));
        }

        #[test]
        fn arbitrary_bytes_never_panic(text in any::<Vec<u8>>()) {
            let _ = decode(&text, 7);
        }
    }
}
