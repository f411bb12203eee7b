//! What may stand in JSON and is no YAML? Two escapes for one character, `\/`, DEL, and tabs between values.

/// The same as YAML. What is no JSON stays what it is.
pub(crate) fn from_json(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest, mut is_inside) = (Vec::with_capacity(text.len()), text, false);
    while let Some((first, behind)) = rest.split_first() {
        (rest, is_inside) = match (*first, behind) {
            (b'\\', [b'/', behind @ ..]) if is_inside => {
                out.push(b'/');
                (behind, true)
            }
            (b'\\', [b'u', ..]) if is_inside => (character(rest, &mut out), true),
            (b'\\', [next, behind @ ..]) if is_inside => {
                out.extend([b'\\', *next]);
                (behind, true)
            }
            (0x7f, _) if is_inside => {
                out.extend(b"\\x7f");
                (behind, true)
            }
            (b'\t', _) if !is_inside => {
                out.push(b' ');
                (behind, false)
            }
            (byte, _) => {
                out.push(byte);
                (behind, is_inside != (byte == b'"'))
            }
        };
    }
    out
}

/// `\u` with four digits, and the half behind it where that belongs to it; a half alone is no character. What follows.
fn character<'t>(text: &'t [u8], out: &mut Vec<u8>) -> &'t [u8] {
    let unit = |at: usize| {
        let digits = text.get(at..)?.strip_prefix(b"\\u")?.get(..4)?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let Some(first) = unit(0) else {
        out.extend(b"\\u");
        return &text[2..];
    };
    let units = [first, unit(6).unwrap_or_default()];
    let decoded = char::decode_utf16(units).next().and_then(Result::ok);
    let c = decoded.map_or(0xfffd, u32::from);
    out.extend(format!("\\U{c:08x}").bytes());
    &text[if c > 0xffff { 12 } else { 6 }..]
}

#[cfg(test)]
mod tests {
    use super::from_json;
    use crate::yaml::{Node, load};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_in_escapes_is_read_as_it_was_written(text in any::<String>()) {
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            let yaml = String::from_utf8(from_json(format!("{{\"a\":\"{escaped}\"}}").as_bytes())).unwrap();
            let node = load(&yaml).unwrap();
            prop_assert_eq!(node.get("a").and_then(Node::as_str), Some(&*text));
        }

        #[test]
        fn any_bytes_become_some(bytes in prop::collection::vec(prop_oneof![Just(b'\\'), Just(b'u'), Just(b'"'), any::<u8>()], 0..64)) {
            from_json(&bytes);
        }
    }
}
