//! What is base64 text, as Python's `b64decode` and `a2b_base64` take it?

/// Decodes, skipping what is not of the alphabet; `None` for a wrong number of characters. What follows padding does not
/// count.
pub fn lenient(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count, mut pads) = (0_u32, 0_u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if count >= 2 => {
                pads += 1;
                if count + pads >= 4 {
                    return Some(out);
                }
                continue;
            }
            _ => continue,
        };
        pads = 0;
        bits = bits << 6 | u32::from(value);
        count = (count + 1) % 4;
        match count {
            0 => out.push((bits & 0xff) as u8),
            2 => out.push((bits >> 4 & 0xff) as u8),
            3 => out.push((bits >> 2 & 0xff) as u8),
            _ => {}
        }
    }
    (count == 0).then_some(out)
}

/// Base64 with padding, in one line.
pub fn encode(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for n in 0..4 {
            let at = (word >> (18 - 6 * n) & 63) as usize;
            out.push(if n <= chunk.len() { ALPHABET[at] as char } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{encode, lenient};

    #[test]
    fn what_is_encoded_comes_back() {
        for n in 0..70_u8 {
            let bytes: Vec<u8> = (0..n).map(|byte| byte.wrapping_mul(37)).collect();
            assert_eq!(lenient(encode(&bytes).as_bytes()).unwrap(), bytes);
        }
    }

    #[test]
    fn blanks_are_skipped_and_half_a_byte_is_none() {
        assert_eq!(lenient(b"aG\n k=").unwrap(), b"hi");
        assert_eq!(lenient(b"aGk"), None);
        assert_eq!(lenient(b"a"), None);
        assert_eq!(lenient(b"aGk=aGk=").unwrap(), b"hi");
        assert_eq!(lenient(b"").unwrap(), b"");
    }
}
