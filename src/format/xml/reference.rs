//! Which character does `&...;` stand for? (XML 1.0 sections 4.1 and 4.6)

/// Bytes between `&` and `;`: `#x10FFFF` with room for leading zeros.
pub(super) const REFERENCE: usize = 12;

/// The character of a reference, `&` and `;` not included; `None` for an entity nobody declared (DTDs are
/// refused, so only the five predefined ones exist) and for a number that is no XML character.
pub(super) fn decode(reference: &[u8]) -> Option<char> {
    match reference {
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"amp" => Some('&'),
        b"quot" => Some('"'),
        b"apos" => Some('\''),
        [b'#', b'x', digits @ ..] => number(digits, 16),
        [b'#', digits @ ..] => number(digits, 10),
        _ => None,
    }
}

fn number(digits: &[u8], radix: u32) -> Option<char> {
    let mut value: Option<u32> = None;
    for byte in digits {
        let digit = char::from(*byte).to_digit(radix)?;
        value = Some(value.unwrap_or(0).checked_mul(radix)?.checked_add(digit)?);
    }
    char::from_u32(value?).filter(|character| is_xml(*character))
}

/// XML 1.0 production 2, `Char`.
const fn is_xml(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => true,
        '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn only_xml_characters_are_produced() {
        for (text, character) in
            [("amp", '&'), ("#65", 'A'), ("#x41", 'A'), ("#xe9", 'é'), ("#x1F600", '😀'), ("#10", '\n')]
        {
            assert_eq!(decode(text.as_bytes()), Some(character), "{text}");
        }
        for text in
            ["", "#", "#x", "#0", "#xD800", "#x110000", "#xFFFF", "#99999999999", "#-1", "#X41", "nbsp"]
        {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }
}
